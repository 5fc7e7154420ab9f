"""Ranges are mappings: what they hold, in which order, from every place where entries can be."""

import itertools
import random

import pytest

import lsmdbm
from lsmdbm._base.errors import CorruptionError
from lsmdbm.database import open_on
from support.battery import everything_about, expected_about
from support.crash_storage import CrashStorage
from support.layers import KEYS, SHAPES, shaped

pytestmark = pytest.mark.usefixtures("no_syncs")

HIGH = [b"\xff", b"\xff\x00", b"\xff\xff", b"\xff\xff\xff"]
SMALL = [b"", b"\x00", b"a", b"a\x00", b"a\xfe", b"a\xff", b"a\xff\xff", b"ab", b"b", b"b\xff", *HIGH]


@pytest.fixture(params=SHAPES)
def shape(request, seed):
    with shaped(request.param, random.Random(f"{seed} {request.param}")) as (db, model):
        yield db, model


@pytest.fixture(params=["in memory", "on disk"])
def small(request, path):
    """A database whose keys are SMALL; each is its own value."""
    with lsmdbm.open(path, "c", block_bytes=1) as db:
        db.update((key, key) for key in SMALL)
        if request.param == "on disk":
            db.flush()
        yield db


CASES = [  # arguments of range(), and the keys among SMALL
    ({}, SMALL),
    ({"start": None, "stop": None, "prefix": None}, SMALL),
    ({"start": b""}, SMALL),
    ({"stop": b""}, []),
    ({"start": b"", "stop": b""}, []),
    ({"start": b"", "stop": b"\x00"}, [b""]),
    ({"stop": b"\x00"}, [b""]),
    ({"start": b"a", "stop": b"a"}, []),
    ({"start": b"a", "stop": b"a\x00"}, [b"a"]),
    ({"start": b"b", "stop": b"a"}, []),
    ({"start": b"\xff\xff\xff\xff", "stop": b""}, []),
    ({"start": b"aa", "stop": b"az"}, [b"ab"]),
    ({"start": b"aa"}, [b"ab", b"a\xfe", b"a\xff", b"a\xff\xff", b"b", b"b\xff", *HIGH]),
    ({"start": b"aa", "stop": b"ab"}, []),
    ({"start": b"\xff\xff\xff"}, [b"\xff\xff\xff"]),
    ({"start": b"\xff\xff\xff\x00"}, []),
    ({"prefix": b""}, SMALL),
    ({"prefix": b"a"}, [key for key in SMALL if key[:1] == b"a"]),
    ({"prefix": "a"}, [key for key in SMALL if key[:1] == b"a"]),
    ({"prefix": b"a\xff"}, [b"a\xff", b"a\xff\xff"]),
    ({"prefix": b"\xff"}, HIGH),
    ({"prefix": b"\xff\xff"}, HIGH[2:]),
    ({"prefix": b"\xff\xff\xff\xff"}, []),
    ({"prefix": b"\x00"}, [b"\x00"]),
    ({"prefix": b"nothing"}, []),
    ({"prefix": b"a", "start": b"a\xff"}, [b"a\xff", b"a\xff\xff"]),
    ({"prefix": b"a", "stop": b"a\xff"}, [b"a", b"a\x00", b"a\xfe", b"ab"]),
    ({"prefix": b"a", "start": b"b"}, []),
    ({"prefix": b"b", "stop": b"a"}, []),
    ({"prefix": b"\xff", "start": b"\xff\x00", "stop": b"\xff\xff\xff"}, HIGH[1:3]),
    ({"start": b"k" * (1 << 17)}, HIGH),
    ({"start": bytearray(b"b"), "stop": memoryview(b"c")}, [b"b", b"b\xff"]),
]


@pytest.mark.parametrize(("bounds", "keys"), CASES, ids=[repr(bounds)[:60] for bounds, _ in CASES])
def test_edge_cases(small, bounds, keys):
    items = [(key, key) for key in sorted(keys)]

    assert expected_about(items) == everything_about(small.range(**bounds))
    assert expected_about(items[::-1]) == everything_about(small.range(**bounds, reverse=True))
    assert expected_about(items) == everything_about(small.range(**bounds, reverse=True).range(reverse=True))


def test_every_pair_of_bounds_from_every_place(shape, budget):
    db, model = shape
    chosen = [*KEYS[:4], *KEYS[60:75:4], *KEYS[-4:]]
    bounds = [None, b"", *chosen, *(key + b"\x00" for key in chosen[::5]), b"l"]
    if budget == "small":
        bounds = [None, *bounds[1::3]]

    for start, stop in itertools.product(bounds, repeat=2):
        items = model.range(start, stop)
        assert items == [*db.range(start, stop).items()]
        assert items[::-1] == [*db.range(start, stop, reverse=True).items()]
        assert [key for key, _ in items] == [*db.range(start, stop)]
        assert (items[0] if items else None) == db.range(start, stop).first()
        assert (items[-1] if items else None) == db.range(start, stop).last()
        assert len(items) == len(db.range(start, stop))


def test_every_prefix_from_every_place(shape):
    db, model = shape

    for prefix in {key[:length] for key in KEYS for length in range(len(key) + 1)}:
        assert model.range(prefix=prefix) == [*db.range(prefix=prefix).items()]
        assert model.range(prefix=prefix, reverse=True) == [*db.range(prefix=prefix, reverse=True).items()]


def test_a_range_looks_up_its_own_keys_only(shape):
    db, model = shape
    part = db.range(KEYS[50], KEYS[100])

    for key in KEYS[::7]:
        inside = model.get(key) if KEYS[50] <= key < KEYS[100] else None
        assert inside == part.get(key)
        assert (inside is not None) == (key in part)


def test_the_ends_of_a_database_may_be_deleted_one_after_the_other(shape):
    db, model = shape

    while len(model) > 150:
        for end, other in (("first", False), ("last", True)):
            expected = getattr(model, end)()
            assert expected == getattr(db.range(), end)()
            assert expected == getattr(db.range(reverse=True), "last" if end == "first" else "first")()
            assert expected[0] == (db.lastkey() if other else db.firstkey())
            del db[expected[0]]
            model.delete(expected[0])
    assert model.range() == [*db.items()]


def test_next_and_previous_key_walk_from_every_place(shape):
    db, model = shape
    live = model.keys()

    for key in [*KEYS, *(key + b"\x00" for key in KEYS[::5]), b"", b"z"]:
        assert next((other for other in live if other > key), None) == db.nextkey(key)
        assert next((other for other in reversed(live) if other < key), None) == db.prevkey(key)


def test_nested_ranges_hold_what_all_of_them_hold(shape):
    db, model = shape
    outer = db.range(KEYS[10], KEYS[150])

    assert model.range(KEYS[20], KEYS[30]) == [*outer.range(KEYS[20], KEYS[30]).items()]
    assert model.range(KEYS[10], KEYS[30]) == [*outer.range(None, KEYS[30]).items()]
    assert model.range(KEYS[10], KEYS[30]) == [*outer.range(KEYS[0], KEYS[30]).items()]
    assert model.range(KEYS[140], KEYS[150]) == [*outer.range(KEYS[140]).range(stop=KEYS[-1]).items()]
    assert model.range(KEYS[10], KEYS[150], prefix=b"key1") == [*outer.range(prefix="key1").items()]
    assert [] == [*outer.range(stop=KEYS[10]).items()]
    assert [] == [*outer.range(KEYS[150]).items()]


def test_a_range_sees_what_was_written_after_it_was_made_and_an_iteration_does_not(db):
    part = db.range("a", "c")
    assert [] == [*part]

    db["a"] = "1"
    iterator = iter(part.items())
    db["b"] = "2"

    assert [(b"a", b"1")] == [*iterator]
    assert {b"a": b"1", b"b": b"2"} == dict(part)


def test_views_of_ranges_are_sized_and_can_be_iterated_again(shape):
    db, model = shape
    part = db.range(KEYS[20], KEYS[120])
    items = model.range(KEYS[20], KEYS[120])
    keys, values = [key for key, _ in items], [value for _, value in items]

    for view, expected in ((part.keys(), keys), (part.values(), values), (part.items(), items)):
        assert len(expected) == len(view)
        for _ in range(2):
            assert expected == [*view]
            assert expected[::-1] == [*reversed(view)]
    assert items[3][0] in part.keys()  # noqa: SIM118 - the view is what is asked
    assert items[3] in part.items()
    assert items[3][1] in part.values()
    assert b"nothing" not in part.values()
    assert (items[3][0], b"nothing") not in part.items()
    assert set(keys[:2]) == part.keys() & set(keys[:2])


def test_ranges_compare_by_content(small):
    some = small.range(prefix="a")
    same = dict(some)

    assert some == same
    assert same == some
    assert some == small.range("a", "b")
    assert some == small.range(prefix="a", reverse=True)
    assert some != small
    assert some != {**same, b"a": b"other"}
    assert some != [*some]


def test_ranges_are_read_only(small):
    with pytest.raises(TypeError):
        small.range()["a"] = "1"
    with pytest.raises(TypeError):
        del small.range()["a"]


VALUE = b"V" * 1000


@pytest.fixture
def without_values(request):
    """A database of 300 entries, every value of which is damaged on disk."""
    storage = CrashStorage()
    options = {"compression": None, "block_bytes": 4000}
    with open_on(storage, "/db", "c", 0o666, options) as db:
        db.update((b"%04d" % number, VALUE) for number in range(300))
        db.flush()
    for name, data in storage.contents("/db").items():
        if name.endswith(".sst"):
            storage.plant(f"/db/{name}", data.replace(VALUE, b"W" * len(VALUE)))
    with open_on(storage, "/db", "r", 0o666, {}) as db:
        yield db


def test_values_that_are_asked_for_are_read(without_values):
    for read in (
        lambda: [*without_values.values()],
        lambda: [*without_values.items()],
        lambda: without_values["0000"],
        lambda: without_values.range().last(),
    ):
        with pytest.raises(CorruptionError):
            read()


def test_who_asks_for_keys_reads_no_value(without_values):
    db, keys = without_values, [b"%04d" % number for number in range(300)]

    assert keys == db.keys() == [*db] == [*db.iterkeys()] == [*db.range().keys()]
    assert keys[::-1] == [*reversed(db)] == [*db.range(reverse=True)]
    assert keys[10:20] == [*db.range(keys[10], keys[20])]
    assert (300, 10) == (len(db), len(db.range(keys[10], keys[20])))
    assert bool(db)
    assert (keys[0], keys[-1]) == (db.firstkey(), db.lastkey())
    assert (keys[151], keys[149]) == (db.nextkey(keys[150]), db.prevkey(keys[150]))


def test_all_keys_are_read_once(without_values, monkeypatch):
    """list() of a sized object asks for its length first, which of a range is a pass over all keys."""
    passes = []
    chunks = without_values._store.chunks
    monkeypatch.setattr(
        without_values._store, "chunks", lambda *args, **kw: (passes.append(1), chunks(*args, **kw))[1]
    )

    without_values.keys()

    assert 1 == len(passes)
