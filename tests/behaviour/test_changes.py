"""db.changes(): what was written, in order, for whoever follows; what it says when something is missing."""

import errno
import os
import random
import threading

import pytest

import lsmdbm
from lsmdbm._base.errors import ClosedError, CorruptionError, FailedError, HistoryLostError
from lsmdbm._engine import appender, feed, keeping
from lsmdbm._format.position import Position
from lsmdbm.bulk import TableWriter
from lsmdbm.database import open_on
from support.child import Child
from support.crash_storage import CrashStorage
from support.engine import TINY, calls_since, names
from support.followers import Follower

PATH = "/db"
KEPT = {"log_keep_bytes": 1 << 30}


@pytest.fixture
def storage():
    return CrashStorage()


@pytest.fixture
def short_logs(monkeypatch):
    monkeypatch.setattr(appender, "MAX_LOG_BYTES", 300)
    monkeypatch.setattr(keeping, "LEAST_BYTES", 1)


def opened(storage, flag="c", **options):
    return open_on(storage, PATH, flag, 0o666, {**TINY, **options})


def told(db, since=None):
    """Return what changes() gives, without positions."""
    return [(change.seq, change.clears, change.ranges, change.items) for change in db.changes(since)]


def filled(storage, count=60, **options):
    """Return a database with so many puts, most of them flushed."""
    db = opened(storage, **{**KEPT, **options})
    for number in range(count):
        db[b"%03d" % number] = bytes(40)
    return db


# What is told


def test_each_write_is_one_change_in_the_order_of_the_writes(storage):
    with opened(storage, **KEPT) as db:
        db["a"] = "1"
        del db["a"]
        with db.batch() as batch:
            batch.delete_range("c", "d")
            batch["x"] = "1"
            del batch["y"]
        with db.transaction() as tx:
            tx["p"] = "1"
            tx["q"] = "2"
        db.increment("n", 5)
        db.delete_range("m")
        db.clear()
        db.update({"u": "1", "v": "2"})

        assert [
            (1, False, (), ((b"a", b"1"),)),
            (2, False, (), ((b"a", None),)),
            (3, False, ((b"c", b"d"),), ((b"x", b"1"), (b"y", None))),
            (6, False, (), ((b"p", b"1"), (b"q", b"2"))),
            (8, False, (), ((b"n", b"5"),)),
            (9, False, ((b"m", None),), ()),
            (10, True, (), ()),
            (11, False, (), ((b"u", b"1"), (b"v", b"2"))),
        ] == told(db)


def test_what_had_no_effect_is_in_no_change(storage):
    with opened(storage) as db:
        assert db.pop("absent", None) is None
        with pytest.raises(KeyError):
            del db["absent"]
        with db.batch():
            pass
        with db.transaction() as tx:
            tx["a"] = "1"
            tx.rollback()

        assert [] == told(db)


def test_a_position_leads_on_from_where_it_was_taken(storage):
    with filled(storage, 40) as db:
        positions = [db.position()]
        snapshots = [db.snapshot()]
        for number in range(60):
            db[b"more %d" % number] = bytes(30)
            positions.append(db.position())
            snapshots.append(db.snapshot())
        everything = told(db)

        assert 101 == len(everything) + 1
        for number, (position, snapshot) in enumerate(zip(positions, snapshots, strict=True)):
            assert everything[40 + number :] == told(db, position)
            assert everything[40 + number :] == told(db, snapshot.position())
        for place, change in enumerate(db.changes()):
            assert everything[place + 1 :] == told(db, change.next)


def test_a_sequence_leads_to_the_change_that_it_is_in(storage):
    with opened(storage) as db:
        db["a"] = "1"
        db.update({"b": "2", "c": "3", "d": "4"})
        del db["a"]
        changes = [*db.changes()]
        assert [1, 2, 5] == [change.seq for change in changes]
        for since, skipped in ((-1, 0), (0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 2), (6, 3)):
            assert changes[skipped:] == [*db.changes(since)], since
        with pytest.raises(lsmdbm.HistoryLostError):
            db.changes(7)
        db.flush()
        assert [] == [*db.changes(6)]
        with pytest.raises(lsmdbm.HistoryLostError):
            db.changes(5)


def test_a_change_can_be_applied_to_another_database(storage):
    with opened(storage, **KEPT) as db, opened(CrashStorage()) as replica:
        replica["old"] = "1"
        db.update({"a": "1", "b": "2", "c": "3"})
        db.clear()
        db.update({"a": "1", "b": "2", "c": "3"})
        with db.batch() as batch:
            batch.delete_range("b", "c")
            batch["b2"] = "4"
            del batch["a"]
        for change in db.changes():
            with replica.batch() as batch:
                change.apply(batch)

        assert {b"b2": b"4", b"c": b"3"} == dict(db) == dict(replica)


def test_what_durability_none_holds_back_is_told(storage):
    with opened(storage, durability="none", log_io="pwrite") as db:
        position = db.position()
        db["a"] = "1"
        assert [(1, False, (), ((b"a", b"1"),))] == told(db, position)
        db["b"] = "2"
        assert Position.decode(db.position()).seq == 3
        reader = open_on(storage.freeze().crash("kill"), PATH, "r", 0o666, {})
        with reader:
            assert {b"a": b"1", b"b": b"2"} == dict(reader)


def test_a_handle_for_reading_tells_what_was_there_at_its_refresh(tmp_path):
    path = tmp_path / "db"
    with Child(tmp_path) as child:
        child("open", os.fspath(path), "c")
        child("put", {"a": "1"})
        with lsmdbm.open(path) as db:
            position = db.position()
            child("put", {"b": "2"})
            assert [] == told(db, position)
            assert [(1, False, (), ((b"a", b"1"),))] == told(db)
            db.refresh()
            assert [(2, False, (), ((b"b", b"2"),))] == told(db, position)
            assert Position.decode(db.position()).seq == 3


@pytest.mark.parametrize("log_io", ["pwrite", "mmap"])
@pytest.mark.parametrize("durability", ["none", "process"])
def test_a_replica_that_follows_is_the_source(storage, short_logs, seed, log_io, durability):
    rng = random.Random(f"{seed} {log_io} {durability}")
    keys = [b"%02d" % number for number in range(40)]
    others = ("batch", "range", "transaction", "number", "care", "reopen", "clear")
    db = opened(storage, log_io=log_io, durability=durability, **KEPT)
    follower = Follower(db)
    for _ in range(600):
        key, other = sorted(rng.sample(keys, 2))
        match rng.choice((*["put"] * 12, *others)):
            case "put":
                db[key] = bytes(rng.randrange(60))
            case "batch":
                with db.batch() as batch:
                    batch.delete_range(key, other)
                    batch.update({each: b"batch" for each in rng.sample(keys, 3)})
                    del batch[other]
            case "range":
                db.delete_range(key, other)
            case "transaction":
                with db.transaction() as tx:
                    tx[key] = tx.get(other, b"none")
                    tx.pop(other, None)
            case "number":
                db.increment("number")
            case "care":
                getattr(db, rng.choice(("flush", "compact", "sync")))()
            case "reopen":
                db.close()
                db = opened(storage, "w", log_io=log_io, durability=durability)
            case "clear":
                if rng.random() < 0.3:
                    db.clear()
        if rng.random() < 0.1:
            follower.follow(db)
            assert dict(db) == follower.state
    follower.follow(db)
    assert dict(db) == follower.state
    assert follower.changes > 300
    everything = Follower(db)
    everything.state, everything.position = {}, None
    for change in db.changes():
        everything.position = change.next
    assert everything.position == follower.position
    db.close()


# How far back


def test_by_default_a_flush_ends_what_can_be_told(storage):
    with filled(storage, 5, log_keep_bytes=0) as db:
        start = db.position()
        db["a"] = "1"
        assert 1 == len(told(db, start))
        db.flush()
        assert [] == names(storage, "wal")
        with pytest.raises(HistoryLostError, match="sequences 6 to 6 are in no log"):
            db.changes(start)
        with pytest.raises(HistoryLostError, match="sequences 1 to 6 are in no log"):
            db.changes()
        now = db.position()
        db["b"] = "2"
        assert [(7, False, (), ((b"b", b"2"),))] == told(db, now)
        behind = db.position()
        db.flush()
        with pytest.raises(HistoryLostError, match="which holds sequence 7, is not there any more"):
            db.changes(behind)


def test_the_newest_logs_are_kept_that_hold_so_many_bytes(storage, short_logs):
    with filled(storage, 200, log_keep_bytes=1000) as db:
        db.flush()
        sizes = [len(storage.contents(PATH)[name]) for name in names(storage, "wal")]
        assert sum(sizes) >= 1000 > sum(sizes[1:])
        with pytest.raises(HistoryLostError, match="sequences 1 to") as caught:
            db.changes()
        oldest = told(db, caught.value.oldest)
        assert list(range(oldest[0][0], 201)) == [change[0] for change in oldest]
        assert len(oldest) > 8


def test_a_log_counts_as_64_kib_at_least(storage):
    with opened(storage, log_keep_bytes=128 << 10) as db:
        for number in range(10):
            db[b"%d" % number] = b"value"
            db.flush()
        assert [9, 10] == [change[0] for change in told(db, _oldest(db))]


def _oldest(db):
    with pytest.raises(HistoryLostError) as caught:
        db.changes()
    return caught.value.oldest


def test_the_option_is_remembered_and_an_opening_that_says_0_ends_it(storage):
    filled(storage).close()
    with opened(storage, "w") as db:
        db["more"] = "1"
        assert 61 == len(told(db))
    with opened(storage, "w", log_keep_bytes=0) as db:
        db["still more"] = "1"
        assert [(62, False, (), ((b"still more", b"1"),))] == told(db, _oldest(db))[-1:]
        db.flush()
    assert [] == names(storage, "wal")


def test_what_ingest_adds_is_told_to_be_missing(storage):
    with filled(storage, 5) as db:
        position = db.position()
        with TableWriter.on(storage, "/table") as writer:
            writer.add("a", "1")
        db.ingest(["/table"])
        now = db.position()
        for since in (position, None):
            with pytest.raises(HistoryLostError, match="sequences 6 to 6 are in no log"):
                db.changes(since)
        assert [] == told(db, now)
        db["b"] = "2"
        assert [(7, False, (), ((b"b", b"2"),))] == told(db, now)
        with pytest.raises(HistoryLostError, match="sequences 6 to 6 are in no log") as caught:
            db.changes(position)
        assert [(7, False, (), ((b"b", b"2"),))] == told(db, caught.value.oldest)


def test_a_database_begun_anew_is_another_one(storage):
    db = filled(storage, 5)
    positions = [db.position(), next(db.changes()).next]
    db.close()
    with opened(storage, "n") as db:
        for number in range(20):
            db[b"%03d" % number] = bytes(40)
        for position in positions:
            with pytest.raises(HistoryLostError):
                db.changes(position)


def test_a_position_of_another_database_is_not_followed_from(storage):
    with filled(storage, 5) as db, opened(CrashStorage(2), **KEPT) as other:
        start = other.position()
        for number in range(20):
            other[b"%03d" % number] = bytes(40)
        for position in (start, other.position(), next(other.changes()).next):
            with pytest.raises(HistoryLostError):
                db.changes(position)


def test_more_logs_than_are_held_open_are_read(storage, short_logs, monkeypatch):
    monkeypatch.setattr(feed, "HELD_FILES", 2)
    with filled(storage, 100) as db:
        assert len(names(storage, "wal")) > 10
        assert list(range(1, 101)) == [change.seq for change in db.changes()]

        following = db.changes()
        assert 1 == next(following).seq
        for name in names(storage, "wal")[:5]:
            storage.unlink(f"{PATH}/{name}")
        with pytest.raises(HistoryLostError, match="has been removed meanwhile"):
            list(following)


def test_logs_that_go_while_they_are_read_are_read_to_their_end(storage):
    with filled(storage, 15, log_keep_bytes=0) as db:
        following = db.changes()
        assert 1 == next(following).seq
        db.flush()
        assert list(range(2, 16)) == [change.seq for change in following]


def test_a_position_is_of_a_state_that_no_loss_of_power_takes_back(storage):
    """Killed before its install was durable, a database is at a state that may not stay."""
    images = []

    def look(index, operation, path):
        if operation == "sync" and storage.calls[index - 1][1].endswith(".man"):
            images.append(storage.freeze())

    db = opened(storage)
    db["a"] = "1"
    storage.on_call = look
    db.flush()
    storage.on_call = None
    db.close()
    killed = images[0].crash("kill")
    with opened(killed, "w") as db:
        position = db.position()
        image = killed.freeze()
    with opened(image.crash("strict"), "w") as db:
        assert {b"a": b"1"} == dict(db)
        db["b"] = "2"
        assert [(2, False, (), ((b"b", b"2"),))] == told(db, position)


# Damage, and who else meets these logs


def test_damage_to_a_kept_log_is_told_by_changes_alone(storage):
    db = filled(storage, 5)
    db.sync()
    db.flush()
    db["more"] = "1"
    db.close()
    name = names(storage, "wal")[0]
    whole = storage.contents(PATH)[name]
    storage.plant(f"{PATH}/{name}", whole[:100] + b"?" + whole[101:])
    with opened(storage, "w") as db:
        assert 6 == len(db)
        with pytest.raises(CorruptionError, match="had been synced") as caught:
            list(db.changes())
        assert caught.value.path.endswith(name)
        assert [(6, False, (), ((b"more", b"1"),))] == told(db, db._store.position(6))
        db["still more"] = "1"


def test_a_kept_log_that_is_cut_short_is_told_where_reading_comes_to_it(storage):
    db = filled(storage, 5)
    db.flush()
    db["more"] = "1"
    name = names(storage, "wal")[0]
    storage.plant(f"{PATH}/{name}", storage.contents(PATH)[name][:-20])
    following = db.changes()
    assert [1, 2, 3, 4] == [next(following).seq for _ in range(4)]
    with pytest.raises(HistoryLostError, match="is torn at sequence 5, of 5"):
        next(following)
    db.close()


def test_verify_knows_the_logs_that_are_kept(tmp_path):
    path = tmp_path / "db"
    with lsmdbm.open(path, "n", **KEPT) as db:
        db["a"] = "1"
        db.flush()
        db["b"] = "2"
    report = lsmdbm.verify(path)
    assert (True, (), ()) == (report.ok, report.notes, report.unreferenced)
    assert 2 <= report.records

    first = min(path.glob("*.wal"))
    first.write_bytes(first.read_bytes()[:-3])
    report = lsmdbm.verify(path)
    assert (True, 1) == (report.ok, len(report.notes))


def test_a_backup_has_none_of_the_logs_and_its_position_leads_on_in_the_source(storage):
    with filled(storage, 60) as db:
        db.backup("/copy")
        db["more"] = "1"
        assert not [name for name in storage.contents("/copy") if name.endswith("wal")]
        with open_on(storage, "/copy", "w", 0o666, {}) as copy:
            position = copy.position()
            assert [(61, False, (), ((b"more", b"1"),))] == told(db, position)
            copy["of its own"] = "1"
            assert [(61, False, (), ((b"of its own", b"1"),))] == told(copy, position)
            written = copy.position()
        with pytest.raises(HistoryLostError):
            db.changes(written)


def test_a_backup_without_tables_can_be_opened(storage):
    """Its numbers are lower than those of the logs that the source keeps."""
    with filled(storage, 100) as db:
        db.clear()
        db.flush()
        db.backup("/copy")
    with open_on(storage, "/copy", "w", 0o666, {}) as copy:
        assert {} == dict(copy)
        copy["a"] = "1"
        assert [((b"a", b"1"),)] == [change.items for change in copy.changes(_oldest(copy))]


def test_a_destroyed_database_leaves_no_log(tmp_path):
    path = tmp_path / "db"
    with lsmdbm.open(path, "n", **KEPT) as db:
        db["a"] = "1"
        db.flush()
    assert [] == lsmdbm.destroy(path)
    assert not path.exists()


def test_a_repaired_database_begins_its_history_anew(tmp_path):
    path = tmp_path / "db"
    with lsmdbm.open(path, "n", **KEPT) as db:
        db["a"] = "1"
        db.flush()
        db["b"] = "2"
        position = next(db.changes()).next
    assert lsmdbm.repair(path, tmp_path / "repaired").losses == ()
    with lsmdbm.open(tmp_path / "repaired", "w") as db:
        assert {b"a": b"1", b"b": b"2"} == dict(db)
        for since in (None, position):
            with pytest.raises(HistoryLostError):
                db.changes(since)
        now = db.position()
        db["c"] = "3"
        assert [((b"c", b"3"),)] == [change.items for change in db.changes(now)]


# Misuse and ends


def test_what_is_no_position_is_refused(storage):
    with opened(storage) as db:
        for wrong in ("text", 7.0, True, bytearray(32)):
            with pytest.raises(TypeError, match="a position is bytes, a sequence an int, and None"):
                db.changes(wrong)
        for wrong in (b"", b"key", bytes(32), db.position()[:-1]):
            with pytest.raises(ValueError, match="is no position of changes"):
                db.changes(wrong)


def test_a_closed_handle_tells_nothing_and_iterations_end_with_it(storage):
    db, other = filled(storage, 5), opened(storage)
    snapshot = db.snapshot()
    following = db.changes()
    next(following)
    db.close()
    for call in (db.changes, db.position, snapshot.position, lambda: next(following)):
        with pytest.raises(ClosedError):
            call()
    assert 5 == len(told(other))
    other.close()


def test_after_a_failure_nobody_knows_what_is_in_the_log(storage):
    db = opened(storage)
    db["a"] = "1"
    position = db.position()
    storage.fault(storage.count, errno.EIO)
    with pytest.raises(FailedError):
        db["b"] = "2"
    storage.heal()
    for call in (db.changes, db.position):
        with pytest.raises(FailedError, match="writing has failed before"):
            call()
    with pytest.raises(FailedError):
        db.close()
    with opened(storage) as db:
        assert len(db) - 1 == len(told(db, position))


def test_an_interrupted_write_is_told_when_it_took_place(storage):
    with opened(storage) as db:
        db["a"] = "1"
        storage.fault(storage.count, errno.EINTR, "after")
        with pytest.raises(KeyboardInterrupt):
            db["b"] = "2"
        storage.heal()

        assert [1, 2] == [change.seq for change in db.changes()]


# Beside a writer


def test_a_close_keeps_what_a_flush_was_interrupted_with(storage):
    """It was in the sync of the log that is kept: with no log behind that, close() saw nothing to sync."""
    twin = CrashStorage()
    with opened(twin, **KEPT) as db:
        db["a"] = "1"
        start = twin.count
        db.flush()
        until_sync = [call.partition(" ")[0] for call in calls_since(twin, start)].index("fdatasync")

    db = opened(storage, **KEPT)
    db["a"] = "1"
    storage.fault(storage.count + until_sync, errno.EINTR, "clean")
    with pytest.raises(KeyboardInterrupt, match="wal"):
        db.flush()
    storage.heal()
    db.close()

    with opened(storage.crash("strict", random.Random(1)), "r") as db:
        assert {b"a": b"1"} == dict(db)


def test_a_thread_follows_what_others_write(tmp_path):
    with lsmdbm.open(tmp_path / "db", "n", memtable_bytes=20_000, **KEPT) as db:
        follower = Follower(db)

        def write(name):
            for number in range(400):
                db[b"%s %d" % (name, number % 50)] = b"%d" % number
                if number % 20 == 0:
                    db.delete_range(prefix=name + b" 1")

        threads = [threading.Thread(target=write, args=(name,)) for name in (b"x", b"y", b"z")]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            follower.follow(db)
        for thread in threads:
            thread.join()
        follower.follow(db)

        assert dict(db) == follower.state
        assert 3 * 420 == follower.changes


@pytest.mark.parametrize("log_io", ["pwrite", "mmap"])
def test_a_process_follows_another_one_to_its_death(mappable, log_io):
    path = os.fspath(mappable / "db")
    options = {"log_io": log_io, "memtable_bytes": 8192, **KEPT}
    lsmdbm.open(path, "n", **options).close()
    with Child(mappable) as child, lsmdbm.open(path) as db:
        follower = Follower(db)
        child.start("load", path, 20_000, 50, options)
        while follower.changes < 500:
            db.refresh()
            follower.follow(db)
            assert dict(db) == follower.state
        child.die()
        db.refresh()
        follower.follow(db)
        assert dict(db) == follower.state
        assert sorted(follower.state) == [b"%08d" % number for number in range(follower.changes)]
    with lsmdbm.open(path, "w", memtable_bytes=8192) as db:
        db["after"] = "1"
        follower.follow(db)
        assert dict(db) == follower.state
