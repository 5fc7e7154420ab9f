"""An iterator, and a snapshot, sees the state of the moment it began, whatever the database becomes."""

import gc
import itertools
import os
import random
import threading

import pytest

import lsmdbm
from lsmdbm.database import open_on
from support.battery import everything_about, expected_about
from support.crash_storage import CrashStorage
from support.layers import KEYS, PATH, SHAPES, TINY, shaped, write
from support.model import Model

pytestmark = pytest.mark.usefixtures("no_syncs")


def put(db, model, rng):
    db.update((key, b"overwritten") for key in KEYS)
    db.update((b"new" + key, b"new") for key in KEYS)


def delete(db, model, rng):
    for key in KEYS:
        db.pop(key, None)


def clear(db, model, rng):
    db.clear()


def flush(db, model, rng):
    db["flushed"] = "1"
    db.flush()


def compact(db, model, rng):
    delete(db, model, rng)
    db.compact()


def begin_anew_and_compact(db, model, rng):
    db.clear()
    db.update((key, b"anew") for key in KEYS[::2])
    db.flush()
    db.compact()


def write_a_lot(db, model, rng):
    for _ in range(5):
        write(db, model, rng, len(KEYS))
        db.flush()
    db.compact()


def count(db, model, rng):
    assert len(db) == len(db.keys())


CHANGES = [put, delete, clear, flush, compact, begin_anew_and_compact, write_a_lot, count]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_iterator_sees_the_state_of_its_begin(shape, change, seed):
    rng = random.Random(f"{seed} {shape} {change.__name__}")
    with shaped(shape, rng) as (db, model):
        items = model.range()
        keys, part = [key for key, _ in items], model.range(KEYS[20], KEYS[170])
        under_way = []  # an iterator, and what it has yet to give
        for steps in (0, 1, rng.randrange(2, 40), 150):
            for iterator, expected in (
                (iter(db.items()), items),
                (iter(db), keys),
                (reversed(db), keys[::-1]),
                (reversed(db.items()), items[::-1]),
                (iter(db.values()), [value for _, value in items]),
                (iter(db.range(KEYS[20], KEYS[170]).items()), part),
                (iter(db.range(KEYS[20], KEYS[170], reverse=True).items()), part[::-1]),
            ):
                assert expected[:steps] == [*itertools.islice(iterator, steps)]
                under_way.append((iterator, expected[steps:]))

        change(db, model, rng)
        for iterator, expected in under_way[::2]:
            assert expected == [*iterator]
        change(db, model, rng)
        for iterator, expected in under_way[1::2]:
            assert expected == [*iterator]


def test_a_program_may_change_what_it_iterates_over(db):
    db.update((b"%03d" % number, b"old") for number in range(300))

    for key, value in db.items():
        assert b"old" == value
        db[key] = "new"
        db[key + b"+"] = "more"
        if key < b"100":
            del db[key]
    assert 300 + 200 == len(db)
    assert {b"new", b"more"} == set(db.values())


def test_each_iteration_over_a_view_begins_a_moment_of_its_own(db):
    items = db.items()
    seen = []
    for number in range(3):
        db[str(number)] = "v"
        seen.append(len([*items]))
    assert [1, 2, 3] == seen


def test_iterators_of_many_moments_each_see_their_own(seed, budget):
    rng = random.Random(f"{seed} many moments")
    with open_on(CrashStorage(), "/db", "c", 0o666, TINY) as db:
        moments, content = [], {}
        for step in range(100 if budget == "small" else 400):
            key = rng.choice(KEYS)
            if rng.random() < 0.3:
                db.pop(key, None)
                content.pop(key, None)
            else:
                content[key] = b"%d" % step * rng.randrange(9)
                db[key] = content[key]
            if rng.random() < 0.2:
                iterator, expected = iter(db.items()), sorted(content.items())
                taken = rng.randrange(len(expected) + 1)
                assert expected[:taken] == [*itertools.islice(iterator, taken)]
                moments.append((iterator, expected[taken:]))
            if moments and rng.random() < 0.1:
                iterator, expected = moments.pop(rng.randrange(len(moments)))
                assert expected == [*iterator]
            if rng.random() < 0.02:
                rng.choice([db.flush, db.compact])()
        for iterator, expected in moments:
            assert expected == [*iterator]


@pytest.mark.parametrize("flushes", [False, True])
def test_alternating_a_put_and_a_scan_keeps_few_memtables(db, flushes):
    for number in range(300):
        db[f"{number:03d}"] = "v"
        assert b"000" == next(iter(db))
        if flushes and number % 100 == 50:
            db.flush()
        assert db.stats().memtables < 12
    assert 300 == len(db)


# -- snapshots --------------------------------------------------------------------------------------

CLOSED, SNAPSHOT_CLOSED = "DBM object has already been closed", "The snapshot has already been closed"


def check(snapshot, model, rng):
    """Compare a snapshot with the model of its moment, by every means it has."""
    items = model.range()
    assert expected_about(items) == everything_about(snapshot)
    assert model.entries == snapshot
    some = rng.sample(KEYS, 20)
    assert [model.get(key) for key in some] == [snapshot.get(key) for key in some]
    assert {key: value for key in some if (value := model.get(key)) is not None} == snapshot.get_many(some)
    low, high = sorted(rng.sample(KEYS, 2))
    for reverse in (False, True):
        part = snapshot.range(low, high, reverse=reverse)
        assert expected_about(model.range(low, high, reverse=reverse)) == everything_about(part)
    keys = [key for key, _ in items]
    key = rng.choice(KEYS) + rng.choice([b"", b"+"])
    assert next((each for each in keys if each > key), None) == snapshot.nextkey(key)
    assert next((each for each in keys[::-1] if each < key), None) == snapshot.prevkey(key)
    assert (keys[:1] or [None], keys[-1:] or [None]) == ([snapshot.firstkey()], [snapshot.lastkey()])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_snapshot_is_the_database_of_its_moment(shape, seed):
    rng = random.Random(f"{seed} snapshot {shape}")
    with shaped(shape, rng) as (db, kept), db.snapshot() as first, db.snapshot() as second:
        for change in rng.sample(CHANGES, len(CHANGES)):
            change(db, Model(), rng)
            check(first, kept, rng)
        check(second, kept, rng)


def test_snapshots_of_many_moments_each_are_their_own(seed, budget):
    rng = random.Random(f"{seed} many snapshots")
    model = Model()
    with open_on(CrashStorage(), PATH, "c", 0o666, TINY) as db:
        kept = []
        for step in range(40 if budget == "small" else 200):
            write(db, model, rng, rng.randrange(12))
            if rng.random() < 0.05:
                db.clear()
                model.clear()
            if rng.random() < 0.3:
                kept.append((db.snapshot(), model.copy()))
            if kept and rng.random() < 0.2:
                snapshot, moment = kept.pop(rng.randrange(len(kept)))
                check(snapshot, moment, rng)
                snapshot.close()
            if rng.random() < 0.1:
                rng.choice([db.flush, db.compact])()
            assert len(kept) == db.stats().snapshots, step
        for snapshot, moment in kept:
            check(snapshot, moment, rng)


@pytest.fixture
def files(path):
    """The tables on disk, by name."""
    return lambda: {name for name in os.listdir(path) if name.endswith(".sst")}


def on_disk(path, **options):
    """A database with one table, open for writing."""
    db = lsmdbm.open(path, "c", **options)
    db.update((key, b"old") for key in KEYS)
    db.compact()
    return db


@pytest.mark.parametrize("ending", ["close", "with", "last reference"])
def test_a_snapshot_keeps_its_files_and_gives_them_back_at_its_end(path, files, ending):
    with on_disk(path) as db:
        snapshot, before = db.snapshot(), files()
        db.clear()
        db.update((key, b"new") for key in KEYS)
        db.compact()
        assert before < files()
        assert {b"old"} == set(snapshot.values())

        if ending == "close":
            snapshot.close()
            snapshot.close()
        elif ending == "with":
            with snapshot:
                pass
        else:
            del snapshot
            db["one"] = "more"
            db.flush()  # the next install
        assert set() == before & files()
        assert 0 == db.stats().snapshots


def test_a_snapshot_needs_no_garbage_collection(path):
    gc.disable()
    try:
        with on_disk(path) as db:
            part = db.snapshot().range("key1")
            assert (1, 1) == (db.stats().snapshots, bool(part))  # kept by its range
            iterator = iter(part.items())
            next(iterator)
            del part
            assert 1 == db.stats().snapshots  # and by an iterator
            del iterator
            assert 0 == db.stats().snapshots
    finally:
        gc.enable()


ITERATORS = {
    "iter": iter,
    "reversed": reversed,
    "keys": lambda snapshot: iter(snapshot.keys()),
    "values": lambda snapshot: iter(snapshot.values()),
    "items": lambda snapshot: iter(snapshot.items()),
    "range": lambda snapshot: iter(snapshot.range("key0")),
}
READS = {
    **{name: (lambda snapshot, make=make: next(make(snapshot))) for name, make in ITERATORS.items()},
    "getitem": lambda snapshot: snapshot["key000"],
    "get": lambda snapshot: snapshot.get("key000"),
    "get of no key": lambda snapshot: snapshot.get(None),
    "get_many": lambda snapshot: snapshot.get_many(["key000"]),
    "contains": lambda snapshot: "key000" in snapshot,
    "len": len,
    "bool": bool,
    "first": lambda snapshot: snapshot.first(),
    "last": lambda snapshot: snapshot.last(),
    "firstkey": lambda snapshot: snapshot.firstkey(),
    "nextkey": lambda snapshot: snapshot.nextkey("key000"),
    "eq": lambda snapshot: snapshot == {},
    "view of keys": lambda snapshot: snapshot.keys(),
    "view of values": lambda snapshot: snapshot.values(),
    "view of items": lambda snapshot: snapshot.items(),
    "new range": lambda snapshot: snapshot.range(),
}


def end_snapshot(db, snapshot):
    snapshot.close()
    return SNAPSHOT_CLOSED


def end_handle(db, snapshot):
    db.close()
    return CLOSED


@pytest.mark.parametrize("end", [end_snapshot, end_handle], ids=lambda end: end.__name__)
@pytest.mark.parametrize("place", ["in memory", "on disk", "shared", "read only"])
def test_a_snapshot_that_has_ended_says_so_and_so_do_its_iterators_and_ranges(path, place, end):
    with on_disk(path, block_bytes=64) as db:
        if place == "in memory":
            db.update((key, b"newer") for key in KEYS)
    other = lsmdbm.open(path, "w") if place == "shared" else None
    db = lsmdbm.open(path, "r" if place == "read only" else "w")
    snapshot = db.snapshot()
    part = snapshot.range("key1")
    begun = {name: make(snapshot) for name, make in ITERATORS.items()}
    for iterator in begun.values():
        next(iterator)
    text = end(db, snapshot)

    for name, read in READS.items():
        with pytest.raises(lsmdbm.ClosedError, match=f"^{text}$"):
            read(snapshot)
            pytest.fail(name)
    for iterator in begun.values():
        with pytest.raises(lsmdbm.ClosedError, match=f"^{text}$"):
            next(iterator)
    with pytest.raises(lsmdbm.ClosedError, match=f"^{text}$"):
        part.get("key100")
    snapshot.close()
    db.close()
    if other is not None:
        assert len(KEYS) == len(other)
        other.close()


def test_closing_one_handle_leaves_the_snapshots_of_another_alone(path):
    with on_disk(path) as first:
        second = lsmdbm.open(path, "w")
        snapshot, gone = first.snapshot(), second.snapshot()
        assert 2 == first.stats().snapshots
        second.close()
        assert 1 == first.stats().snapshots
        assert len(KEYS) == len(snapshot)
        with pytest.raises(lsmdbm.ClosedError):
            len(gone)


def test_a_snapshot_keeps_the_handle_it_came_from_open(path):
    with on_disk(path):
        pass
    snapshot = lsmdbm.open(path, "w").snapshot()
    gc.collect()
    assert len(KEYS) == len([*snapshot])

    with pytest.warns(ResourceWarning, match="unclosed database"):
        del snapshot


def test_a_snapshot_of_a_reader_survives_its_refresh(path):
    """A writer elsewhere has unlinked the tables by then."""
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, TINY) as db:
        db.update((key, b"old") for key in KEYS)
        db.compact()
        with reader_elsewhere(storage) as reader:
            snapshot = reader.snapshot()
            db.clear()
            db.update((key, b"new") for key in KEYS[:50])
            db.compact()
            reader.refresh()
            held = len(reader._store._tables._held)

            assert (50, {b"new"}) == (len(reader), set(reader.values()))
            assert (len(KEYS), {b"old"}) == (len(snapshot), set(snapshot.values()))
            assert b"old" == snapshot[KEYS[-1]]
            assert 1 == reader.stats().snapshots
            snapshot.close()
            assert len(reader._store._tables._held) < held
            assert 0 == reader.stats().snapshots


class Elsewhere:
    """The same disk, as another process has it: nothing is shared in memory."""

    def __init__(self, storage):
        self._storage = storage

    def __getattr__(self, name):
        return getattr(self._storage, name)


def reader_elsewhere(storage):
    return open_on(Elsewhere(storage), PATH, "r", 0o666, {"max_open_files": 1})


def test_the_length_of_a_snapshot_is_counted_once():
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, {**TINY, "cache_bytes": 0}) as db:
        db.update((key, b"old") for key in KEYS)
        db.flush()
        snapshot = db.snapshot()
        assert len(KEYS) == len(snapshot)
        db.clear()
        start = storage.count
        assert len(KEYS) == len(snapshot) == len(snapshot.items()) == len(snapshot.range())
        assert start == storage.count


def test_a_snapshot_costs_no_copy_and_no_read(path):
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, {"memtable_bytes": 4 << 20}) as db:
        db.update((key, b"old") for key in KEYS)
        db.flush()
        db["new"] = "entry"
        entries, start = db._store.view.active.entries, storage.count
        with db.snapshot() as snapshot:
            assert start == storage.count
            assert entries is snapshot._moment.view.sealed[0].entries


def test_a_queue_in_a_snapshot_does_not_walk_over_what_was_taken_again_and_again():
    with open_on(CrashStorage(), PATH, "c", 0o666, {"background": "manual"}) as db:
        db.update((b"%05d" % number, b"v") for number in range(2000))
        for _ in range(1500):
            db.popitem()
        with db.snapshot() as snapshot:
            assert b"01500" == snapshot.firstkey()
            assert 1 == len(snapshot._moment._dead)


def test_a_snapshot_can_be_used_by_many_threads(path):
    with on_disk(path) as db, db.snapshot() as snapshot:
        found = []
        threads = [
            threading.Thread(target=lambda: found.append((len(snapshot), [*snapshot], snapshot.first())))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        db.clear()
        for thread in threads:
            thread.join()
        assert [(len(KEYS), KEYS, (KEYS[0], b"old"))] * 4 == found


def test_a_decoded_snapshot_gives_the_values_of_its_moment(path):
    with lsmdbm.open_shelf(path) as shelf:
        shelf.update({"ann": [1], "bob": [2], "cay": [3]})
        with shelf.snapshot() as before:
            shelf["ann"] = "changed"
            del shelf["bob"]
            expected = [("ann", [1]), ("bob", [2]), ("cay", [3])]
            assert expected_about(expected) == everything_about(before)
            assert {"bob": [2], "ann": [1]} == before.get_many(["bob", "none", "ann"])
            assert [("bob", [2])] == [*before.range("b", "c").items()]
        with pytest.raises(lsmdbm.ClosedError, match=SNAPSHOT_CLOSED):
            before.get("ann")
        assert {"ann": "changed", "cay": [3]} == shelf


def test_a_snapshot_of_a_shelf_with_writeback_is_what_is_stored(path):
    with lsmdbm.open_shelf(path, writeback=True) as shelf:
        shelf["ann"] = [1]
        shelf["ann"].append(2)
        with shelf.snapshot() as before:
            assert [1] == before["ann"]
        shelf.sync()
        with shelf.snapshot() as after:
            shelf["ann"].append(3)
            assert [1, 2] == after["ann"]


def test_a_text_view_has_snapshots(path):
    with lsmdbm.open(path, "c") as db:
        text = db.text("utf-8")
        text["key"] = "value"
        with text.snapshot() as before:
            text["key"] = "other"
            assert ("key", "value") == before.first()
            assert repr(before).startswith("<DecodedSnapshot over <lsmdbm.Snapshot of <lsmdbm.Database")


def test_what_a_snapshot_is_shows_in_its_repr(path):
    with lsmdbm.open(path, "c") as db:
        snapshot = db.snapshot()
        assert f"<lsmdbm.Snapshot of <lsmdbm.Database {path!r}, open>>" == repr(snapshot)
        snapshot.close()
        assert f"<lsmdbm.Snapshot of <lsmdbm.Database {path!r}, open>, closed>" == repr(snapshot)
