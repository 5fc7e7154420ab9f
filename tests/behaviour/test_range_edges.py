"""Edges of ranges, as the table of the guide has them, on everything that has ranges.

The entries lie where they can lie: in blocks of one entry, in tables, in three levels and in memory; what is
not there any more has left tombstones at both ends and in the middle.
"""

import asyncio
import json
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm import aio
from support.battery import everything_about, expected_about

pytestmark = pytest.mark.usefixtures("no_syncs")

OPTIONS = {"block_bytes": 1, "memtable_bytes": 100, "compression": None, "background": "manual"}
LIVE = ["b", "ba", "c", "ca", "cb", "d", "\uffff", "\U0010ffff"]
GONE = ["", "a", "bb", "cab", "e", "\U0010ffff\U0010ffff"]
BYTES = [key.encode() for key in LIVE]

TABLE = [  # what is asked for, arguments of range(), keys among LIVE; the guide has the same
    ("no bounds", {}, LIVE),
    ("an empty start", {"start": ""}, LIVE),
    ("an empty stop", {"stop": ""}, []),
    ("an empty prefix", {"prefix": ""}, LIVE),
    ("equal bounds", {"start": "c", "stop": "c"}, []),
    ("crossed bounds", {"start": "d", "stop": "b"}, []),
    ("one key", {"start": "c", "stop": "c\0"}, ["c"]),
    ("a start that is missing", {"start": "bb"}, LIVE[2:]),
    ("a stop that is missing", {"stop": "bb"}, ["b", "ba"]),
    ("bounds between two keys", {"start": "caa", "stop": "caz"}, []),
    ("a start before all keys", {"start": "\0", "stop": "ba"}, ["b"]),
    ("a stop behind all keys", {"start": "d", "stop": "\U0010ffff\U0010ffff"}, LIVE[5:]),
    ("a start behind all keys", {"start": "\U0010ffff\0"}, []),
    ("a prefix", {"prefix": "c"}, ["c", "ca", "cb"]),
    ("a prefix that is a key alone", {"prefix": "cb"}, ["cb"]),
    ("a prefix without keys", {"prefix": "bb"}, []),
    ("a prefix at the end of all keys", {"prefix": "\U0010ffff"}, ["\U0010ffff"]),
    ("a prefix and a start in it", {"prefix": "c", "start": "ca"}, ["ca", "cb"]),
    ("a prefix and a stop in it", {"prefix": "c", "stop": "cb"}, ["c", "ca"]),
    ("a prefix and bounds around it", {"prefix": "c", "start": "b", "stop": "d"}, ["c", "ca", "cb"]),
    ("a prefix outside of the bounds", {"prefix": "c", "start": "d"}, []),
    ("tombstones at the front", {"stop": "ba"}, ["b"]),
    ("tombstones at the end", {"start": "d", "stop": "f"}, ["d"]),
    ("tombstones alone", {"start": "e", "stop": "f"}, []),
    ("from level to level", {"start": "ba", "stop": "cb"}, ["ba", "c", "ca"]),
]
IDS = [name for name, _, _ in TABLE]


def fill(db, encode=json.dumps):
    """Lay the entries down: each of LIVE is its own value, in another place than its neighbour."""
    old = {key: encode("old") for key in (*LIVE, *GONE)}
    db.update((key.encode(), value) for key, value in old.items())
    db.compact()
    for first in range(2):
        for key in LIVE[first::3]:
            db[key] = encode(key)
        for key in GONE[first::2]:
            del db[key]
        db.flush()
    for key in LIVE[2::3]:
        db[key] = encode(key)
    next(iter(db))  # which seals what is in memory
    for key in LIVE[2::6]:
        db[key] = encode(key)
    stats = db.stats()
    assert stats.levels[0].tables == 2 < stats.levels[-1].tables
    assert len(LIVE) == len(db)


def encoded(bounds):
    return {name: bound.encode() for name, bound in bounds.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a database, the entries of which are in all places."""
    path = tmp_path_factory.mktemp("edges") / "db"
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        fill(db)
    return path


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    with lsmdbm.open(tmp_path_factory.mktemp("writer") / "db", "c", **OPTIONS) as db:
        fill(db)
        yield db


@pytest.fixture(scope="module")
def reader(place):
    with lsmdbm.open(place) as db:
        yield db


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    path = tmp_path_factory.mktemp("shelf") / "db"
    how = {"serializer": lambda value, _: json.dumps(value), "deserializer": json.loads}
    with lsmdbm.open_shelf(path, **how, **OPTIONS) as shelf:
        fill(shelf.dict)
        yield shelf


@pytest.fixture(scope="module")
def drafted(tmp_path_factory):
    """A transaction over other entries, whose own writes make them what they are: at every border, too."""
    with lsmdbm.open(tmp_path_factory.mktemp("drafted") / "db", "c", **OPTIONS) as db:
        fill(db)
        for key in LIVE[::2]:
            del db[key]
        db.update({key: '"old"' for key in (*GONE, "bc", "da")})
        db.flush()
        with db.transaction() as tx:
            tx.update({key: json.dumps(key) for key in LIVE[:4]})
            with tx.savepoint() as point:
                tx.clear()
                point.rollback()
            for key in (*GONE, "bc", "da"):
                del tx[key]
            tx.first()
            tx.update({key: json.dumps(key) for key in LIVE[4:]})
            yield tx
            tx.rollback()


OF_BYTES = {
    "a database": lambda get: get("writer"),
    "a read-only database": lambda get: get("reader"),
    "a snapshot": lambda get: get("writer").snapshot(),
    "a snapshot of a reader": lambda get: get("reader").snapshot(),
    "a transaction": lambda get: get("writer").transaction(),
    "a transaction's own writes": lambda get: get("drafted"),
    "a range of a range": lambda get: get("writer").range("").range(stop="\U0010ffff\U0010ffff\0"),
    "a range of a transaction": lambda get: get("drafted").range("a"),
    "a reverse range, reversed": lambda get: get("writer").range(reverse=True).range(reverse=True),
}
OF_TEXT = {
    "a text view": lambda get: get("writer").text(json),
    "a read-only text view": lambda get: get("reader").text(json),
    "a snapshot of text": lambda get: get("writer").text(json).snapshot(),
    "a transaction of text": lambda get: get("drafted").text(json),
    "a range of text": lambda get: get("writer").text(json).range("").range(""),
    "a shelf": lambda get: get("shelf"),
    "a snapshot of a shelf": lambda get: get("shelf").snapshot(),
    "a transaction of a shelf": lambda get: get("shelf").transaction(),
}


def check(mapping, bounds, items):
    """Compare a range in both directions, and look its edges up."""
    assert expected_about(items) == everything_about(mapping.range(**bounds))
    assert expected_about(items[::-1]) == everything_about(mapping.range(**bounds, reverse=True))
    part = mapping
    for name, bound in bounds.items():  # one after the other: a range of a range
        part = part.range(**{name: bound})
    assert expected_about(items) == everything_about(part.range())
    present = dict(items)
    for key in present.keys() | {bound for bound in bounds.values()}:
        assert (key in present, present.get(key)) == (key in part, part.get(key))


@pytest.mark.parametrize(("name", "bounds", "keys"), TABLE, ids=IDS)
@pytest.mark.parametrize("mapping", OF_BYTES)
def test_edges_of_ranges_of_bytes(request, mapping, name, bounds, keys):
    items = [(key.encode(), json.dumps(key).encode()) for key in keys]
    check(OF_BYTES[mapping](request.getfixturevalue), encoded(bounds), items)


@pytest.mark.parametrize(("name", "bounds", "keys"), TABLE, ids=IDS)
@pytest.mark.parametrize("mapping", OF_TEXT)
def test_edges_of_ranges_of_text(request, mapping, name, bounds, keys):
    check(OF_TEXT[mapping](request.getfixturevalue), bounds, [(key, key) for key in keys])


def test_edges_of_ranges_for_tasks(place):
    async def look(source, bounds, keys):
        items = [(key.encode(), json.dumps(key).encode()) for key in keys]
        for reverse in (False, True):
            ordered = items[::-1] if reverse else items
            assert ordered == [item async for item in source.items(**bounds, reverse=reverse)], bounds
            assert [key for key, _ in ordered] == [
                key async for key in source.keys(**bounds, reverse=reverse)
            ]
            assert [value for _, value in ordered] == [
                value async for value in source.values(**bounds, reverse=reverse)
            ]
        ends = (await source.first(**bounds), await source.last(**bounds), await source.length(**bounds))
        assert (*(items[0], items[-1]), len(items)) == ends if items else (None, None, 0) == ends

    async def main():
        async with aio.open(place, "w", **OPTIONS) as db, db.snapshot() as snapshot, db.transaction() as tx:
            await tx.put("bb", "x")
            await tx.delete("bb")
            for _, bounds, keys in TABLE:
                for source in (db, snapshot, tx):
                    await look(source, encoded(bounds), keys)

    asyncio.run(main())


HIGH = [b"\xfe", b"\xff", b"\xff\x00", b"\xff\xff", b"\xff\xff\xff"]
END = [  # of all keys there can be: no key is greater than those that begin with such a prefix
    ({"prefix": b"\xff"}, HIGH[1:]),
    ({"prefix": b"\xff\xff"}, HIGH[3:]),
    ({"prefix": b"\xff\xff\xff\xff"}, []),
    ({"prefix": b"\xff", "stop": b"\xff\xff"}, HIGH[1:3]),
    ({"prefix": b"\xff", "start": b"\xff\x00"}, HIGH[2:]),
    ({"prefix": b"\xfe"}, HIGH[:1]),
    ({"start": b"\xff\xff"}, HIGH[3:]),
    ({"start": b"\xff\xff\xff\x00"}, []),
    ({"stop": b"\xff"}, HIGH[:1]),
]


@pytest.mark.parametrize(("bounds", "keys"), END, ids=repr)
def test_edges_at_the_end_of_the_key_space(path, bounds, keys):
    items, gone = [(key, key) for key in keys], [b"\xfd", b"\xff\xff\xff\xff"]
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        db.update((key, b"old") for key in (*HIGH[::2], *gone))
        db.compact()
        db.update((key, key) for key in HIGH[1:])
        for key in gone:
            del db[key]
        with db.transaction() as tx:
            tx.update((key, key) for key in HIGH)
            check(tx, bounds, items)
        part = db.range(b"\xfe").range(reverse=True, prefix="").range(reverse=True)
        for mapping in (db, db.snapshot(), db.transaction(), part):
            check(mapping, bounds, items)
        db.delete_range(**bounds)
        assert [key for key in HIGH if key not in keys] == [*db]


@pytest.mark.parametrize("key", ["", "a", "bb", "cab", "d\0", "\U0010ffff\0", "\U0010ffff\U0010ffff"])
@pytest.mark.parametrize("mapping", [name for name in OF_BYTES if "range" not in name])
def test_from_a_missing_key_both_ways(request, mapping, key):
    mapping, name = OF_BYTES[mapping](request.getfixturevalue), key.encode()
    below, above = [each for each in BYTES if each < name], [each for each in BYTES if each > name]

    assert (above[:1] or [None])[0] == mapping.nextkey(name)
    assert (below[-1:] or [None])[0] == mapping.prevkey(name)
    assert above == [*mapping.range(name)]
    assert below[::-1] == [*mapping.range(stop=name, reverse=True)]


@pytest.mark.parametrize(("name", "bounds", "keys"), TABLE, ids=IDS)
@pytest.mark.parametrize("kind", ["database", "transaction", "batch", "text", "shelf"])
def test_edges_of_deleted_ranges(path, kind, name, bounds, keys):
    """What a range holds is what its deletion deletes."""
    left = [key for key in LIVE if key not in keys]
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        fill(db)
        if kind == "database":
            db.delete_range(**encoded(bounds))
        elif kind == "text":
            db.text(json).range(**bounds).delete()
        elif kind == "shelf":
            lsmdbm.shelve.Shelf(db).delete_range(**bounds)
        else:
            with db.batch() if kind == "batch" else db.transaction() as changes:
                changes.delete_range(**encoded(bounds))
        if kind != "shelf":
            assert left == [key.decode() for key in db]
    with lsmdbm.open(path, "w", **OPTIONS) as db:
        assert left == [key.decode() for key in db]
        db.compact()
        assert [(key, key) for key in left] == [*db.text(json).items()]


def row_of(case):
    """Return a case as a row of the guide."""
    name, bounds, keys = case
    call = ", ".join(f"{which}={_quoted(bound)}" for which, bound in bounds.items())
    found = "all" if keys == LIVE else f"`{', '.join(map(_quoted, keys))}`" if keys else "nothing"
    return f"| {name} | `range({call})` | {found} |"


def _quoted(text):
    return ascii(text).replace("'", '"')


def test_the_guide_has_the_table():
    text = (Path(__file__).parents[2] / "docs/guide.md").read_text("utf-8")
    for row in map(row_of, TABLE):
        assert row in text, row
