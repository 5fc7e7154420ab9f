"""Bulk building: sorted files, their ingest, and whole databases from entries in any order."""

import os
import pickle
import random
import threading
import tracemalloc
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm import CorruptionError, NotFoundError, error
from lsmdbm._base.chunk import MAX_KEY_BYTES
from lsmdbm._engine import appender, loading, tree
from lsmdbm.bulk import TableWriter, bulk_load

TINY = {"memtable_bytes": 4096, "block_bytes": 256}


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def build(path, entries, **options):
    with TableWriter(path, **options) as writer:
        writer.extend(sorted(entries.items()))
    return writer.table


def contents(path):
    with lsmdbm.open(path) as db:
        return dict(db.items())


# Files


def test_a_finished_file_tells_what_is_in_it():
    table = build("file", {"b": "2", "a": b"1", "c": "3"})

    assert (3, b"a", b"c") == (table.entries, table.smallest, table.largest)
    assert (os.path.abspath("file"), os.path.getsize("file")) == (table.path, table.file_bytes)
    assert table == pickle.loads(pickle.dumps(table))


@pytest.mark.parametrize("again", ["b", "a"])
def test_a_key_that_is_not_above_the_last_is_named_and_nothing_before_it_is_lost(again):
    with TableWriter("file") as writer:
        writer.add("a", "1")
        with pytest.raises(ValueError, match=f"b'{again}' is not above the one before it, b'b'"):
            writer.extend([("b", "2"), (again, "3"), ("d", "4")])
        writer.add("c", "5")

    with lsmdbm.open("db", "c") as db:
        db.ingest(["file"])
        assert {b"a": b"1", b"b": b"2", b"c": b"5"} == dict(db)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [(1, "v", TypeError), ("k", None, TypeError), ("k" * (MAX_KEY_BYTES + 1), "v", ValueError)],
)
def test_a_file_takes_what_a_database_takes(key, value, kind):
    with TableWriter("file") as writer:
        writer.add(bytearray(b"a"), memoryview(b"1"))
        with pytest.raises(kind):
            writer.add(key, value)

    assert 1 == writer.table.entries


def test_an_exception_removes_the_file():
    with pytest.raises(ZeroDivisionError), TableWriter("file") as writer:
        writer.add("a", "1" * 1_000_000)
        raise ZeroDivisionError

    assert [] == os.listdir()
    for act in (writer.finish, lambda: writer.add("b", "2")):
        with pytest.raises(lsmdbm.ClosedError):
            act()


def test_no_entry_makes_no_file():
    with TableWriter("file") as writer:
        pass

    assert (None, None, []) == (writer.table, writer.finish(), os.listdir())


def test_what_is_there_is_not_written_over():
    Path("file").write_text("mine")

    with pytest.raises(error, match="File exists"):
        TableWriter("file")

    assert "mine" == Path("file").read_text()


@pytest.mark.parametrize(
    ("options", "kind"), [({"cache_bytes": 1}, TypeError), ({"block_bytes": 0}, ValueError)]
)
def test_options_of_a_file_are_checked_before_it_is_made(options, kind):
    with pytest.raises(kind):
        TableWriter("file", **options)

    assert [] == os.listdir()


# Ingest


def test_a_later_file_replaces_an_earlier_one_and_both_what_was_there():
    build("one", {"a": "1", "b": "1", "c": "1"})
    build("two", {"b": "2", "d": "2"})
    with lsmdbm.open("db", "c") as db:
        db.update({"a": "0", "z": "0"})

        assert 5 == db.ingest(["one", Path("two")])

        assert {b"a": b"1", b"b": b"2", b"c": b"1", b"d": b"2", b"z": b"0"} == dict(db)
        db["b"] = "3"
        assert b"3" == db["b"]
    assert ["db", "one", "two"] == sorted(os.listdir())
    assert lsmdbm.verify("db")


def test_any_number_of_files_is_as_if_they_had_been_written(seed, budget):
    rng = random.Random(seed)
    rounds = {"small": 12, "default": 60}.get(budget, 400)
    model = {}
    with lsmdbm.open("db", "c", **TINY) as db:
        for number in range(rounds):
            paths = []
            for _ in range(rng.choice((1, 1, 2, 5))):
                prefix = rng.choice((b"", b"%03d" % number))
                entries = {
                    prefix + b"%05d" % rng.randrange(3000): rng.randbytes(rng.choice((0, 3, 40)))
                    for _ in range(rng.choice((1, 10, 300)))
                }
                paths.append(f"file{len(os.listdir())}")
                build(paths[-1], entries, block_bytes=rng.choice((64, 256, 4096)))
                model |= entries
            db.ingest(paths)
            act = rng.choice(("put", "put", "delete", "compact", "count", "nothing", "reopen"))
            if act == "put":
                more = {b"%05d" % rng.randrange(3000): b"put" for _ in range(100)}
                db.update(more)
                model |= more
            elif act == "delete":
                for key in rng.sample(sorted(model), min(20, len(model))):
                    del db[key]
                    del model[key]
            elif act == "compact":
                db.compact()
            elif act == "count":
                assert len(model) == len(db)
            elif act == "reopen":
                db.close()
                db = lsmdbm.open("db", "w", **TINY)
            assert model == dict(db.items()), (seed, number)
        print(f"seed {seed}, {rounds} rounds, {len(model)} keys")
        assert len(model) == len(db)
        assert [] == [*db.verify().problems]
        db.close()
    assert model == contents("db")


def test_a_scan_that_had_begun_stays_at_its_moment():
    build("file", {"a": "2", "c": "2"})
    with lsmdbm.open("db", "c") as db:
        db.update({"a": "1", "b": "1"})
        scan = iter(db.items())
        next(scan)

        db.ingest(["file"])

        assert [(b"b", b"1")] == list(scan)


def test_keys_that_were_taken_from_the_front_come_back():
    """Where only deletions are is remembered, so that a queue does not walk over them."""
    entries = {b"%05d" % number: b"1" for number in range(3000)}
    build("file", entries)
    with lsmdbm.open("db", "c") as db:
        db.update(entries)
        for _ in range(2900):
            db.popitem()

        db.ingest(["file"])

        assert (b"00000", b"1") == db.popitem()
        assert sorted(entries)[1:] == db.keys()


def test_the_number_of_keys_stays_exact_where_some_tables_replace_and_others_add():
    build("file", {f"{number:05d}": "2" * 20 for number in range(3000)})
    with lsmdbm.open("db", "c", **TINY) as db:
        db.update({f"{number:05d}": "1" for number in range(10)})
        db.flush()
        assert 10 == len(db)

        db.ingest(["file"])

        assert db.stats().tables > 5
        assert 3000 == len(db)


def test_an_ingest_where_nothing_is_leaves_nothing_to_compact():
    build("one", {f"a{number}": "1" * 100 for number in range(500)})
    build("two", {f"b{number}": "1" * 100 for number in range(500)})
    with lsmdbm.open("db", "c", **TINY) as db:
        db.ingest(["one"])
        db.ingest(["two"])

        levels = [level.tables for level in db.stats().levels]
        assert 0 == sum(levels[:-1])
        assert 1000 == len(db)


@pytest.mark.parametrize("compaction", ["leveled", "tiered"])
def test_ingests_alone_are_compacted(compaction):
    with lsmdbm.open("db", "c", compaction=compaction, memtable_bytes=1 << 18) as db:
        for number in range(30):
            build(f"{number}", {f"{key:05}": f"{number:03}" * 66 for key in range(number % 3, 3000, 3)})
            db.ingest([f"{number}"])
        stats = db.stats()

        assert stats.compactions >= 4
        assert 8 > stats.levels[0].tables
        assert 3000 == len(db)


def test_an_ingest_that_no_sequence_is_left_for_is_refused(monkeypatch):
    build("file", {"a": "1"})
    with lsmdbm.open("db", "c") as db:
        db["a"] = "0"
        monkeypatch.setattr(appender, "MAX_LOG_OPERATIONS", 1 << 70)

        with pytest.raises(error, match="no sequence is left"):
            db.ingest(["file"])

        assert {b"a": b"0"} == dict(db)
    assert {b"a": b"0"} == contents("db")


def test_a_damaged_file_is_named_and_nothing_is_taken_of_any(seed):
    build("good", {"a": "1"})
    build("bad", {f"{number:04d}": "2" * 20 for number in range(400)}, block_bytes=256)
    whole = Path("bad").read_bytes()
    rng = random.Random(seed)
    with lsmdbm.open("db", "c") as db:
        before = sorted(os.listdir("db"))
        for _ in range(60):
            place = rng.randrange(len(whole))
            data = bytearray(whole)
            data[place] ^= 1 << rng.randrange(8)
            Path("bad").write_bytes(data)
            with pytest.raises(error, match="bad"):  # of a newer format, if it is the version
                db.ingest(["good", "bad"])
        for length in (0, 10, len(whole) // 2, len(whole) - 1):
            Path("bad").write_bytes(whole[:length])
            with pytest.raises(CorruptionError, match="bad"):
                db.ingest(["good", "bad"])

        assert ([], before) == (list(db), sorted(os.listdir("db")))


def test_a_file_that_is_exchanged_after_it_was_checked_is_not_taken():
    build("file", {"a": "1"})
    with lsmdbm.open("db", "c") as db:

        def exchange(done, total):
            os.unlink("file")
            build("file", {"a": "2"})

        with pytest.raises(CorruptionError):
            db.ingest(["file"], progress=exchange)

        assert {} == dict(db)


@pytest.mark.parametrize("name", ["missing", "link", "directory", "no directory/file"])
def test_what_is_no_file_is_refused(name):
    build("file", {"a": "1"})
    os.mkdir("directory")
    os.symlink("file", "link")
    with lsmdbm.open("db", "c") as db:
        with pytest.raises(error):
            db.ingest(["file", name])
        assert {} == dict(db)


def test_misuse_of_ingest():
    build("file", {"a": "1"})
    with lsmdbm.open("db", "c") as db:
        for path in ("file", b"file", Path("file")):
            with pytest.raises(TypeError, match="list of paths"):
                db.ingest(path)
        assert 0 == db.ingest([])
    with lsmdbm.open("db") as db, pytest.raises(lsmdbm.ReadOnlyError):
        db.ingest(["file"])
    with pytest.raises(lsmdbm.ClosedError):
        db.ingest(["file"])


def test_progress_of_an_ingest_ends_with_everything_and_may_stop_it():
    sizes = [build(name, {name: "1"}).file_bytes for name in ("a", "b")]
    calls = []

    def stop(done, total):
        raise ZeroDivisionError

    with lsmdbm.open("db", "c") as db:
        with pytest.raises(ZeroDivisionError):
            db.ingest(["a", "b"], progress=stop)
        assert {} == dict(db)
        db.ingest(["a", "b"], progress=lambda *figures: calls.append(figures))

    assert [(sizes[0], sum(sizes)), (sum(sizes), sum(sizes))] == calls


def test_others_write_while_files_are_checked_and_read_while_they_are_copied(monkeypatch):
    build("file", {"a": "2", "c": "2"})
    spans, order = tree.spans, []

    def others(sources):
        """What other threads do in the middle of the copying: one reads, and two have to wait."""
        reader = threading.Thread(target=lambda: order.append(("read", db["a"])))
        reader.start()
        reader.join()
        for name, work in (("written", lambda: db.update(a="3")), ("counted", lambda: len([*db]))):
            waiting.append(threading.Thread(target=lambda name=name, work=work: order.append((name, work()))))
            waiting[-1].start()
        order.append("copied")
        return spans(sources)

    waiting = []
    monkeypatch.setattr(tree, "spans", others)
    with lsmdbm.open("db", "c") as db:
        db["a"] = "1"
        db.ingest(["file"], progress=lambda *_: db.update(b="1"))
        for thread in waiting:
            thread.join()

        assert [("read", b"1"), "copied"] == order[:2]
        assert [("counted", 3), ("written", None)] == sorted(order[2:])
        assert {b"a": b"3", b"b": b"1", b"c": b"2"} == dict(db)


def test_deletions_in_a_table_of_another_database_delete():
    with lsmdbm.open("other", "c", background="manual") as db:
        db.update({"a": "1", "b": "1"})
        db.flush()
        del db["a"]
        db.flush()
    (newest,) = sorted(Path("other").glob("*.sst"))[1:]
    with lsmdbm.open("db", "c") as db:
        db.update({"a": "0", "b": "0"})

        db.ingest([newest])

        assert ({b"b": b"0"}, 1) == (dict(db), len(db))


# Loading


def pairs(seed, count):
    rng = random.Random(seed)
    return [(b"%06d" % rng.randrange(count), rng.randbytes(12)) for _ in range(count)]


@pytest.mark.parametrize("fan_in", [2, 3, 16])
def test_load_is_as_if_the_pairs_had_been_written(seed, fan_in, monkeypatch):
    monkeypatch.setattr(loading, "FAN_IN", fan_in)
    entries = pairs(seed, 4000)

    assert len(dict(entries)) == bulk_load("db", entries, run_bytes=50_000, **TINY)

    assert dict(entries) == contents("db")
    assert lsmdbm.verify("db")
    assert () == lsmdbm.verify("db").unreferenced
    with lsmdbm.open("db", "w") as db:
        assert len(dict(entries)) == len(db)
        assert 1 == sum(level.tables > 0 for level in db.stats().levels)
        db["more"] = "1"
    assert {**dict(entries), b"more": b"1"} == contents("db")


def test_load_of_sorted_pairs_merges_nothing(monkeypatch):
    entries = dict(sorted(pairs(1, 3000)))
    monkeypatch.setattr(loading, "merge_part", None)

    bulk_load("db", entries, run_bytes=20_000, **TINY)

    assert entries == contents("db")
    with lsmdbm.open("db") as db:
        db.get(b"none")
        assert 0 < db.stats().tables


def test_load_of_nothing_makes_an_empty_database():
    assert 0 == bulk_load("db", [])

    assert {} == contents("db")


def test_load_in_processes_and_threads_gives_the_same():
    entries = pairs(2, 5000)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        bulk_load("by processes", entries, pool, run_bytes=100_000, **TINY)
    with ThreadPoolExecutor(2) as pool:
        bulk_load("by threads", entries, pool, run_bytes=100_000, **TINY)

    assert dict(entries) == contents("by processes") == contents("by threads")


class Watched(Executor):
    """Does a task when its result is asked for; knows how many wait."""

    def __init__(self, fails_at=None):
        self.waiting = self.most = self.submitted = 0
        self.fails_at = fails_at

    def submit(self, task, /, *arguments):
        self.submitted += 1
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return Lazy(self, task, self.submitted == self.fails_at)


class Lazy(Future):
    def __init__(self, owner, task, fails):
        super().__init__()
        self.owner, self.task, self.fails = owner, task, fails

    def result(self, timeout=None):
        self.owner.waiting -= 1
        result = self.task()
        if self.fails:
            raise ZeroDivisionError
        return result


def test_load_has_no_more_in_flight_than_it_may():
    executor = Watched()

    bulk_load("db", pairs(3, 4000), executor, run_bytes=20_000, in_flight=3, **TINY)

    assert 3 == executor.most
    assert executor.submitted > 20


def test_load_holds_two_runs_more_than_it_may_have_in_flight_at_most(no_syncs):
    entries = ((b"%06d" % number, b"%04000d" % number) for number in range(2000))
    tracemalloc.start()
    try:
        bulk_load("db", entries, Watched(), run_bytes=1 << 20, in_flight=3, memtable_bytes=1 << 18)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert 3 << 20 < peak < 5 << 20


@pytest.mark.parametrize("fails_at", [1, 2, 15, 28])
def test_a_task_that_fails_leaves_nothing(fails_at):
    with pytest.raises(ZeroDivisionError):
        bulk_load("db", pairs(4, 4000), Watched(fails_at), run_bytes=20_000, **TINY)

    assert [] == os.listdir()


def test_tasks_that_run_are_waited_for_when_a_load_fails():
    begun, may_end = threading.Event(), threading.Event()

    class Slow(ThreadPoolExecutor):
        def submit(self, task, /, *arguments):
            def slow():
                begun.set()
                may_end.wait(30)
                return task()

            return super().submit(slow)

    def entries():
        yield from pairs(5, 200)
        begun.wait(30)
        threading.Timer(0.05, may_end.set).start()
        raise ZeroDivisionError

    os.mkdir("db")  # which stays
    with Slow(1) as pool, pytest.raises(ZeroDivisionError):
        bulk_load("db", entries(), pool, run_bytes=5000)

    assert [] == os.listdir("db")


@pytest.mark.parametrize("entry", [("k", 1), (None, "v"), ("k" * (MAX_KEY_BYTES + 1), "v")])
def test_an_entry_that_cannot_be_stored_is_named_and_nothing_is_left(entry):
    with pytest.raises((TypeError, ValueError), match="entry 2001, key"):
        bulk_load("db", [*pairs(6, 2000), entry], run_bytes=10_000)

    assert [] == os.listdir()


def test_load_refuses_what_holds_something_and_changes_nothing():
    with lsmdbm.open("db", "c") as db:
        db["a"] = "1"
    os.mkdir("empty")
    Path("file").touch()

    for path in ("db", "file"):
        with pytest.raises(error, match="no empty directory"):
            bulk_load(path, {"b": "2"})
    with pytest.raises(NotFoundError):
        bulk_load("no/db", {"b": "2"})
    bulk_load("empty", {"b": "2"})

    assert ({b"a": b"1"}, {b"b": b"2"}) == (contents("db"), contents("empty"))


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"run_bytes": 0}, ValueError), ({"in_flight": 1.5}, ValueError), ({"unheard_of": 1}, TypeError)],
)
def test_options_of_a_load_are_checked_first(options, kind):
    with pytest.raises(kind):
        bulk_load("db", {}, **options)

    assert [] == os.listdir()


def test_progress_of_a_load_counts_what_was_taken_and_may_stop_it():
    calls = []
    bulk_load("db", dict(sorted(pairs(7, 3000))), progress=lambda *figures: calls.append(figures))
    total = calls[-1][1]

    assert (1000, total) == calls[0]
    assert (total, total) == calls[-1]

    def stop(done, total):
        if done >= 2000:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bulk_load("other", pairs(7, 3000), progress=stop, run_bytes=9000)
    assert ["db"] == os.listdir()


def test_a_loaded_database_remembers_its_options_and_has_the_mode_that_was_asked_for():
    old = os.umask(0o027)
    try:
        bulk_load("db", {"a": "1"}, mode=0o664, compression=None)
    finally:
        os.umask(old)

    assert 0o750 == os.stat("db").st_mode & 0o777
    assert {0o640} == {path.stat().st_mode & 0o777 for path in Path("db").iterdir()}
    with lsmdbm.open("db", "w") as db:
        assert db._store.options.compression is None
