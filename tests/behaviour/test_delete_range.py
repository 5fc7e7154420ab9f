"""delete_range(): whatever there is, wherever it is, is gone at the cost of one record."""

import random

import pytest

import lsmdbm
from lsmdbm.database import open_on
from support.battery import everything_about, expected_about
from support.crash_storage import CrashStorage
from support.engine import current, log, names
from support.layers import KEYS, PATH, SHAPES, TINY, shaped
from support.model import Model

pytestmark = pytest.mark.usefixtures("no_syncs")

HIGH = [b"\xff", b"\xff\x00", b"\xff\xff"]
SMALL = [b"", b"\x00", b"a", b"a\x00", b"a\xfe", b"a\xff", b"a\xff\xff", b"ab", b"b", *HIGH]
CASES = [  # arguments, and the keys among SMALL that go
    ({}, SMALL),
    ({"start": b""}, SMALL),
    ({"stop": b""}, []),
    ({"stop": b"\x00"}, [b""]),
    ({"start": b"a", "stop": b"a"}, []),
    ({"start": b"b", "stop": b"a"}, []),
    ({"start": b"a", "stop": b"a\x00"}, [b"a"]),
    ({"start": b"aa", "stop": b"az"}, [b"ab"]),
    ({"start": b"aa", "stop": b"ab"}, []),
    ({"start": b"\xff"}, HIGH),
    ({"start": b"\xff\xff\x00"}, []),
    ({"prefix": b""}, SMALL),
    ({"prefix": "a"}, [key for key in SMALL if key[:1] == b"a"]),
    ({"prefix": b"a\xff"}, [b"a\xff", b"a\xff\xff"]),
    ({"prefix": b"\xff"}, HIGH),
    ({"prefix": b"\xff\xff\xff"}, []),
    ({"prefix": b"a", "start": b"a\xff"}, [b"a\xff", b"a\xff\xff"]),
    ({"prefix": b"a", "stop": b"a\xff"}, [b"a", b"a\x00", b"a\xfe", b"ab"]),
    ({"start": b"b" * (1 << 17)}, HIGH),
]


def nothing(storage, db):
    return storage, db


def flush(storage, db):
    db.flush()
    return storage, db


def compact(storage, db):
    db.compact()
    return storage, db


def reopen(storage, db):
    db.close()
    return storage, open_on(storage, PATH, "w", 0o666, {})


def kill(storage, db):
    survivor = storage.crash("kill")
    db.close()
    return survivor, open_on(survivor, PATH, "w", 0o666, {})


EVENTS = [nothing, flush, compact, reopen, kill]


@pytest.mark.parametrize("way", ["database", "range", "batch"])
@pytest.mark.parametrize("before", [nothing, flush, compact])
@pytest.mark.parametrize("after", EVENTS)
def test_edge_cases(way, before, after):
    for bounds, gone in CASES:
        storage = CrashStorage()
        with open_on(storage, PATH, "c", 0o666, {"block_bytes": 1}) as db:
            db.update((key, key) for key in SMALL)
            storage, db = before(storage, db)
            if way == "database":
                db.delete_range(**bounds)
            elif way == "range":
                db.range(**bounds).delete()
            else:
                with db.batch() as batch:
                    batch.delete_range(**bounds)
            storage, db = after(storage, db)
            left = [(key, key) for key in sorted(SMALL) if key not in gone]
            assert expected_about(left) == everything_about(db.range()), bounds
            assert [(key not in gone) for key in SMALL] == [key in db for key in SMALL], bounds
            assert db.verify().ok
            db.close()


@pytest.mark.parametrize("shape", SHAPES)
def test_ranges_go_across_blocks_tables_and_levels(shape, seed, budget):
    rng = random.Random(f"{seed} deleted ranges {shape}")
    with shaped(shape, rng) as (db, model):
        for step in range(6 if budget == "small" else 30):
            low, high = sorted(rng.sample(KEYS, 2)) if rng.random() < 0.3 else (rng.choice(KEYS),) * 2
            high = high if high > low else low[:-1] + b"9"
            kept, snapshot = model.copy(), db.snapshot()
            db.delete_range(low, high)
            model.delete_range(low, high)
            key = rng.choice(KEYS)
            db[key] = b"again"
            model.put(key, b"again")
            if rng.random() < 0.3:
                rng.choice([db.flush, db.compact])()
            assert expected_about(model.range()) == everything_about(db.range()), step
            assert [model.get(key) for key in KEYS] == [db.get(key) for key in KEYS], step
            assert model.entries == db.get_many(KEYS), step
            assert expected_about(kept.range()) == everything_about(snapshot), step
            snapshot.close()
        assert db.verify().ok
        assert db.stats().trouble is None


def test_it_costs_one_record_and_no_read_however_much_it_deletes():
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, {**TINY, "background": "manual"}) as db:
        db.update((b"%05d" % number, b"v" * 20) for number in range(2000))
        db.flush()
        db["one"] = "write"
        start, written = storage.count, db.stats().written_bytes
        db.delete_range(b"00001", b"01999")
        assert ["pwrite"] == [operation for operation, _ in storage.calls[start:]]
        assert db.stats().written_bytes - written < 80
        start = storage.count
        assert db.get(b"01000") is None
        assert start == storage.count  # what is void is not looked for


def test_tables_that_are_void_are_given_back_unread_by_the_next_flush():
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, TINY) as db:
        db.update((b"%05d" % number, b"v" * 20) for number in range(2000))
        db.compact()
        before = set(names(storage, "sst"))
        assert len(before) > 5
        db.delete_range(b"00100", b"01900")
        start = storage.count
        db.flush()
        assert not [
            path for operation, path in storage.calls[start:] if operation == "pread" and "sst" in path
        ]
        left = set(names(storage, "sst"))
        assert len(left) <= 6 < len(before)
        assert [b"%05d" % number for number in (*range(100), *range(1900, 2000))] == db.keys()
        db.compact()
        assert not any(meta.holes for level in current(storage).levels for meta in level)
        assert 200 == sum(level.entries for level in db.stats().levels)


def test_a_flush_of_a_range_deletion_alone_writes_no_table():
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, {}) as db:
        db.update((key, b"v") for key in KEYS)
        db.flush()
        tables = names(storage, "sst")
        db.delete_range(KEYS[10], KEYS[20])
        db.flush()
        assert tables == names(storage, "sst")
        assert [((KEYS[10], KEYS[20]),)] == [meta.holes for meta in current(storage).levels[0]]
        assert 0 == db.stats().memtables


def test_a_compaction_under_way_does_not_bring_back_what_was_deleted_meanwhile(seed):
    rng = random.Random(f"{seed} under way")
    for _ in range(10):
        storage, model = CrashStorage(), Model()
        with open_on(storage, PATH, "c", 0o666, {**TINY, "background": "manual"}) as db:
            for count in (200, 100):
                for key in rng.sample(KEYS, count):
                    value = rng.randbytes(30)
                    db[key] = value
                    model.put(key, value)
                db.flush()
            store = db._store
            assert store._tree.start_compaction()
            job = store._tree.background.compacting
            for _ in range(rng.randrange(8)):
                job.done_bytes += next(job.steps, 0)
            low, high = sorted(rng.sample([*KEYS, b"", b"z"], 2))
            db.delete_range(low, high)
            model.delete_range(low, high)
            key = rng.choice(KEYS)
            db[key] = b"newer"
            model.put(key, b"newer")
            db.flush()
            if store._tree.background.compacting is job:
                store._tree.background.work(job)
            assert model.entries == db
            assert [model.get(key) for key in KEYS] == [db.get(key) for key in KEYS]
            assert len(model) == len(db)
            db["one more"] = "flush"
            model.put(b"one more", b"flush")
            db.flush()  # which unlinks what nobody needs
            live = {f"{meta.number:06d}.sst" for level in current(storage).levels for meta in level}
            assert live == set(names(storage, "sst"))
        with open_on(storage, PATH, "w", 0o666, {}) as db:
            assert model.entries == db


def test_a_range_deletion_is_not_durable_before_the_writes_that_came_first():
    """A compaction that installs in between must not take it along: the log may not be synced by then."""
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, {**TINY, "background": "manual"}) as db:
        for _ in range(2):
            db.update((key, b"old") for key in KEYS)
            db.flush()
        assert db._store._tree.start_compaction()
        job = db._store._tree.background.compacting
        db["new"] = "not synced"
        db.delete_range(KEYS[0], KEYS[-1])
        db._store._tree.background.work(job)
        assert {KEYS[-1]: b"old", b"new": b"not synced"} == db
        survivor = storage.crash("strict")
    with open_on(survivor, PATH, "r", 0o666, {}) as db:
        assert dict.fromkeys(KEYS, b"old") == db


def test_a_table_with_too_many_holes_is_rewritten():
    storage, model = CrashStorage(), Model()
    with open_on(storage, PATH, "c", 0o666, {}) as db:
        entries = {b"%05d" % number: b"v" for number in range(2000)}
        db.update(entries)
        db.compact()
        with db.batch() as batch:
            for number in range(0, 1200, 4):
                batch.delete_range(b"%05d" % number, b"%05d" % (number + 2))
        model.update({key: value for key, value in entries.items() if int(key) >= 1200 or int(key) % 4 > 1})
        db.flush()
        assert 300 == max(len(meta.holes) for level in current(storage).levels for meta in level)
        db._store._tree.background.work_off_small(1 << 30)
        assert 0 == max(len(meta.holes) for level in current(storage).levels for meta in level)
        assert model.entries == db


def test_a_batch_deletes_its_own_earlier_puts_and_keeps_its_later_ones(db):
    db.update(dict.fromkeys("abcdef", "old"))
    with db.batch() as batch:
        batch.update(dict.fromkeys("bcx", "early"))
        del batch["d"]
        batch.delete_range("b", "e")
        batch["c"] = "late"
        assert 3 == len(batch)  # x, c and the range
    assert {b"a": b"old", b"c": b"late", b"e": b"old", b"f": b"old", b"x": b"early"} == db


def test_a_batch_with_range_deletions_is_one_record():
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, {}) as db:
        db.update(dict.fromkeys("abcdef", "old"))
        with db.batch() as batch:
            batch.delete_range("a", "c")
            batch["b"] = "new"
            batch.delete_range("e")
        (number,) = {int(name.partition(".")[0]) for name in names(storage, "wal")}
        assert [6, 3] == [record.count for record in log(storage, number)[1] if record.count]
        assert {b"b": b"new", b"c": b"old", b"d": b"old"} == db


def test_an_empty_range_writes_nothing(db):
    db["a"] = "1"
    written = db.stats().written_bytes
    db.delete_range("b", "a")
    db.range("a", "a").delete()
    with db.batch() as batch:
        batch.delete_range("a", "a")
    assert (written, {b"a": b"1"}) == (db.stats().written_bytes, db)


def test_a_snapshot_and_a_reader_refuse(db, path):
    db["a"] = "1"
    refuses = pytest.raises(lsmdbm.ReadOnlyError, match="^A snapshot is for reading only$")
    with db.snapshot() as snapshot, refuses:
        snapshot.range("a").delete()
    with lsmdbm.open(path) as reader:
        for refused in (lambda: reader.delete_range("a", "b"), lambda: reader.range("a").delete()):
            with pytest.raises(lsmdbm.ReadOnlyError):
                refused()
    assert {b"a": b"1"} == db


def test_a_backup_and_a_repair_leave_out_what_was_deleted(path, tmp_path):
    expected = {}
    with lsmdbm.open(path, "c", block_bytes=64) as db:
        db.update((key, b"old") for key in KEYS)
        db.flush()
        db.delete_range(KEYS[10], KEYS[50])
        db.flush()
        db.delete_range(KEYS[60], KEYS[-1])
        db[KEYS[70]] = b"newer"
        expected = dict(db)
        db.backup(tmp_path / "backup")
    assert len(KEYS) - 40 - (len(KEYS) - 61) + 1 == len(expected)
    with lsmdbm.open(tmp_path / "backup") as copy:
        assert expected == copy
        assert len(expected) == len(copy)
    report = lsmdbm.repair(path, tmp_path / "repaired")
    assert report.ok, report
    with lsmdbm.open(tmp_path / "repaired") as copy:
        assert expected == copy


def test_a_count_goes_on_through_range_deletions(db):
    db.update((key, b"v") for key in KEYS)
    db.flush()
    assert len(KEYS) == len(db)
    for number in range(0, 100, 10):
        db.delete_range(KEYS[number], KEYS[number + 3])
        db[KEYS[number + 1]] = b"again"
        assert len(KEYS) - 2 * (number // 10 + 1) == len(db)
        if number % 30 == 0:
            db.flush()
    assert len(db.keys()) == len(db)
