"""Sharing: what each flag does with what it finds at the path, who gets the lock, and what a fork leaves."""

import contextlib
import errno
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import traceback

import pytest

from lsmdbm._base import leftovers
from lsmdbm._base.errors import ClosedError, CorruptionError, FailedError, LockedError, NotFoundError, error
from lsmdbm._base.leftovers import clear_up
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._engine import sharing
from lsmdbm._engine.durability import Durability
from lsmdbm._engine.reader import Reader
from lsmdbm._engine.store import Store
from lsmdbm._engine.syncer import NAME
from support import engine
from support.crash_storage import MODES, UNLINKS, WRITES, CrashStorage, failure
from support.disk import POWER_LOSSES
from support.engine import MODE, PATH, calls_since, close, current, entries, names, open_reader, open_store
from support.quiet import is_unlocked

FLAGS = ("r", "w", "c", "n")


@pytest.fixture
def storage():
    return CrashStorage()


def acquire(storage, flag="c", **options):
    return engine.acquire(storage, PATH, flag, MODE, options)


def database(storage):
    """Leave a database with one entry at the path."""
    store = open_store(storage)
    store.put(b"key", b"value")
    close(storage, store)


def directory(storage, **files):
    """Leave a directory with these files at the path."""
    storage.mkdir(PATH, 0o777)
    for name, data in files.items():
        storage.plant(f"{PATH}/{name.replace('__', '-').replace('_', '.')}", data)


PLACES = {
    "nothing": lambda storage: None,
    "a database": database,
    "an empty directory": directory,
    "a file": lambda storage: storage.plant(PATH, b"text"),
    "another directory": lambda storage: directory(storage, notes_txt=b"mine"),
    "a directory with a LOCK": lambda storage: directory(storage, LOCK=b"", notes_txt=b"mine"),
    "a RocksDB": lambda storage: directory(
        storage, LOCK=b"", CURRENT=b"MANIFEST-000004\n", MANIFEST__000004=b"x", **{"000012_sst": b"table"}
    ),
    "tables of a RocksDB": lambda storage: directory(
        storage, LOCK=b"", **{"000012_sst": b"\0table", "000013_sst": b""}
    ),
    "a log of somebody": lambda storage: directory(storage, **{"000003_wal": b"LSM of somebody"}),
    "a database not born": lambda storage: directory(storage, LOCK=b"", **{"000001_man": b"LSMM"}),
    "a LOCK alone": lambda storage: directory(storage, LOCK=b""),
}
NEW, OLD = {}, {b"key": b"value"}
EXPECTED = {  # r, w, c, n: what is in the database, or what is raised
    "nothing": (NotFoundError, NotFoundError, NEW, NEW),
    "a database": (OLD, OLD, OLD, NEW),
    "an empty directory": (NotFoundError, NotFoundError, NEW, NEW),
    "a file": (error, error, error, NEW),
    "another directory": (error, error, error, error),
    "a directory with a LOCK": (error, error, error, error),
    "a RocksDB": (error, error, error, error),
    "tables of a RocksDB": (error, error, error, error),
    "a log of somebody": (error, error, error, error),
    "a database not born": (NotFoundError, NotFoundError, NEW, NEW),
    "a LOCK alone": (NotFoundError, NotFoundError, NEW, NEW),
}


def found_at(storage):
    """Return all files there are, but for the lock: to take it is no harm."""
    files = storage.contents() | (storage.contents(PATH) if storage.kind(PATH) == "directory" else {})
    return {name: data for name, data in files.items() if name != "LOCK"}


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("place", PLACES)
def test_each_flag_does_with_each_place_what_the_table_says(storage, place, flag):
    PLACES[place](storage)
    before = found_at(storage)
    expected = EXPECTED[place][FLAGS.index(flag)]
    if isinstance(expected, dict):
        store = acquire(storage, flag)
        assert expected == entries(store)
        assert (Reader if flag == "r" else Store) is type(store)
        close(storage, store)
        return
    with pytest.raises(error, match=PATH) as caught:
        acquire(storage, flag)
    assert (expected is NotFoundError) == isinstance(caught.value, NotFoundError)
    assert not isinstance(caught.value, CorruptionError)
    assert before == found_at(storage)


@pytest.mark.parametrize("flag", ["r", "w", "c"])
def test_a_table_that_has_lost_its_head_is_damage_and_not_somebody_elses(storage, flag):
    """A loss of power may leave zeros where its magic was, in a copy that was being made."""
    directory(storage, LOCK=b"", **{"000012_sst": b"\0" * 64 + b"table"})

    with pytest.raises(CorruptionError, match=PATH):
        acquire(storage, flag)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("flag", ["r", "w"])
def test_what_does_not_create_leaves_no_name_behind(storage, place, flag):
    PLACES[place](storage)
    start, before = storage.count, list(storage.contents("/"))
    try:
        close(storage, acquire(storage, flag))
    except error:
        pass

    assert before == list(storage.contents("/"))
    written = {call.partition(" ")[0] for call in calls_since(storage, start)} & WRITES
    assert written <= ({"lock"} if flag == "w" else set())


def test_an_empty_path_is_not_found(storage):
    for flag in FLAGS:
        with pytest.raises(NotFoundError):
            engine.acquire(storage, "", flag, MODE, {})


def test_a_directory_whose_parent_is_missing_is_not_made(storage):
    with pytest.raises(NotFoundError):
        engine.acquire(storage, "/missing/db", "c", MODE, {})


def test_a_directory_that_somebody_else_made_meanwhile_is_taken(storage):
    def faster(index, operation, path):
        if operation == "mkdir":
            storage.on_call = None
            storage.mkdir(PATH, 0o777)

    storage.on_call = faster
    store = acquire(storage)
    assert {} == entries(store)
    close(storage, store)


def test_a_directory_that_cannot_be_made_is_an_error(storage):
    storage.fault(1, errno.EACCES)
    with pytest.raises(error, match="Permission denied"):
        acquire(storage)


def test_an_unknown_or_bad_option_is_refused_before_anything_is_made(storage):
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        acquire(storage, colour="red")
    with pytest.raises(ValueError, match="memtable_bytes"):
        acquire(storage, memtable_bytes=0)

    assert [] == storage.calls


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("flag", FLAGS[1:])
def test_mapped_logs_are_refused_where_they_are_not_safe_before_anything_is_made(storage, place, flag):
    PLACES[place](storage)
    storage.unmappable = "the file system is 9p"
    before = storage.count
    with pytest.raises(error, match="log_io='mmap' is not safe here: the file system is 9p"):
        acquire(storage, flag, log_io="mmap")

    assert set() == {operation for operation, _ in storage.calls[before:]} & (WRITES | UNLINKS)


def test_who_only_reads_maps_nothing_and_is_not_refused(storage):
    database(storage)
    storage.unmappable = "the file system is 9p"
    store = acquire(storage, "r", log_io="mmap")

    assert b"value" == store.get(b"key")
    close(storage, store)


# Creating


def creation(storage):
    """Create a database; return an image of the disk before each call and after the last."""
    images = []
    storage.on_call = lambda *_: images.append(storage.freeze())
    close(storage, acquire(storage))
    storage.on_call = None
    return [*images, storage.freeze()]


def test_a_creation_cut_off_anywhere_is_finished_by_the_next_one(storage, seed):
    for number, image in enumerate(creation(storage)):
        for mode in MODES:
            for flag in ("c", "n"):
                crashed = image.crash(mode, random.Random(f"{seed} {number}"))
                store = open_store(crashed, flag)
                store.put(b"key", b"value")
                close(crashed, store)
                store = open_store(crashed, "w")
                assert {b"key": b"value"} == entries(store)
                close(crashed, store)


def test_a_creation_cut_off_anywhere_is_a_database_or_none(storage, seed):
    for number, image in enumerate(creation(storage)):
        for mode in MODES:
            for flag in ("r", "w"):
                crashed = image.crash(mode, random.Random(f"{seed} {number}"))
                try:
                    store = acquire(crashed, flag)
                except NotFoundError:
                    continue
                assert {} == entries(store)
                close(crashed, store)


@pytest.mark.parametrize("mode", POWER_LOSSES)
def test_a_database_that_was_created_stays(storage, mode, seed):
    close(storage, acquire(storage))
    crashed = storage.crash(mode, random.Random(seed))
    store = open_store(crashed, "w")
    assert {} == entries(store)
    close(crashed, store)


@pytest.mark.parametrize("operation", ["sync", "fsync", "sync_parent"])
def test_a_creation_whose_sync_fails_is_refused_and_can_be_done_again(storage, operation):
    def fail(index, name, path):
        if name == operation:
            raise failure(errno.EIO, path)

    storage.on_call = fail
    with pytest.raises(error, match="sync failed"):
        acquire(storage)
    storage.on_call = None
    store = open_store(storage, durability="full")
    store.put(b"key", b"value")

    assert [b"key"] == list(entries(open_again := open_store(storage.crash("strict"))))
    open_again.close()
    close(storage, store)


def test_a_manifest_that_is_gone_as_soon_as_it_was_made_is_an_error(storage):
    def steal(index, operation, path):
        if operation == "sync_parent":
            storage.erase(f"{PATH}/{names(storage, 'man')[0]}")

    storage.on_call = steal
    with pytest.raises(error, match="cannot be read back"):
        acquire(storage)


def test_the_shape_of_the_files_is_remembered_and_the_rest_is_not(storage):
    store = open_store(storage, block_bytes=100, bloom_bits_per_key=5, cache_bytes=1 << 20)
    store.put(b"key", b"value")
    close(storage, store)
    store = acquire(storage, "w")

    assert (100, 5) == (store.options.block_bytes, store.options.bloom_bits_per_key)
    assert 64 << 20 == store.options.cache_bytes
    close(storage, store)
    store = acquire(storage, "w", block_bytes=200)
    store.put(b"other", b"value")
    store.flush()
    close(storage, store)
    assert 200 == current(storage).shape["block_bytes"]


# Flag "n"


def two_entries(storage):
    """Leave a database with tables, logs and a foreign file in it."""
    store = open_store(storage)
    store.put(b"flushed", b"value")
    store.flush()
    store.put(b"logged", b"value")
    close(storage, store)
    storage.plant(f"{PATH}/notes.txt", b"mine")
    return {b"flushed": b"value", b"logged": b"value"}


def test_beginning_anew_keeps_the_lock_and_foreign_files_and_nothing_else(storage):
    two_entries(storage)
    close(storage, open_store(storage, "n"))

    assert ["LOCK", "notes.txt"] == [name for name in names(storage) if not name.endswith(".man")]
    assert 1 == len(names(storage, "man"))
    assert b"mine" == storage.contents(PATH)["notes.txt"]


def test_beginning_anew_replaces_a_damaged_database_too(storage):
    two_entries(storage)
    for name in (*names(storage, "man"), *names(storage, "sst")):
        storage.plant(f"{PATH}/{name}", b"damaged")
    with pytest.raises(CorruptionError):
        acquire(storage, "w")
    store = acquire(storage, "n")

    assert {} == entries(store)
    close(storage, store)


def test_beginning_anew_where_all_manifests_are_gone_is_possible_among_our_files_alone(storage):
    two_entries(storage)
    for name in names(storage, "man"):
        storage.erase(f"{PATH}/{name}")
    with pytest.raises(error, match="the directory holds other files"):
        acquire(storage, "n")
    storage.erase(f"{PATH}/notes.txt")
    with pytest.raises(CorruptionError, match="without a manifest"):
        acquire(storage, "c")
    store = acquire(storage, "n")

    assert {} == entries(store)
    close(storage, store)


def test_beginning_anew_shows_after_any_crash_the_old_content_or_none(storage, seed):
    expected = two_entries(storage)
    images = []
    storage.on_call = lambda *_: images.append(storage.freeze())
    store = open_store(storage, "n")
    returned = len(images)
    store.put(b"new", b"value")
    close(storage, store)
    storage.on_call = None

    seen = set()
    for number, image in enumerate(images):
        for mode in MODES:
            crashed = image.crash(mode, random.Random(f"{seed} {number}"))
            store = open_store(crashed, "w")
            found = entries(store)
            assert found in ([expected, {}] if number < returned else [{}, {b"new": b"value"}]), (
                number,
                mode,
            )
            seen.add(len(found))
            close(crashed, store)
    assert {0, 1, 2} == seen


def test_a_file_in_the_way_is_replaced_whatever_it_holds(storage):
    storage.plant(PATH, b"a table of another database")
    store = acquire(storage, "n")

    assert {} == entries(store)
    close(storage, store)


# Handles of one process


def test_handles_on_one_directory_share_one_writer_which_the_last_one_closes(storage):
    first, second = open_store(storage), open_store(storage, "w")
    assert first is second
    first.put(b"key", b"value")
    close(storage, first)
    assert b"value" == second.get(b"key")
    close(storage, second)

    with pytest.raises(ClosedError):
        second.get(b"key")
    third = open_store(storage)
    assert third is not first
    close(storage, third)


def test_a_reader_joins_the_writer_of_its_process(storage):
    """So it sees what is held back, and every later write."""
    writer = open_store(storage, durability="none")
    writer.put(b"key", b"value")
    reader = acquire(storage, "r")

    assert reader is writer
    assert b"value" == reader.get(b"key")
    assert "none" == writer.options.durability  # a reader demands nothing
    close(storage, writer, reader)


def test_a_reader_that_was_there_first_stays_on_its_own(storage):
    database(storage)
    reader = open_reader(storage)
    writer = open_store(storage)
    writer.put(b"new", b"value")

    assert OLD == entries(reader)
    reader.refresh()
    assert {**OLD, b"new": b"value"} == entries(reader)
    close(storage, writer, reader)


def test_readers_do_not_share(storage):
    database(storage)
    first, second = open_reader(storage), open_reader(storage)
    close(storage, first)

    assert OLD == entries(second)
    close(storage, second)


def test_beginning_anew_through_a_second_handle_clears_for_both(storage):
    first = open_store(storage)
    first.put(b"key", b"value")
    second = open_store(storage, "n")

    assert first is second
    assert {} == entries(first)
    close(storage, first, second)


def test_a_second_handle_that_could_not_clear_is_none(storage):
    """It was counted, never given back, and the lock was held for ever."""
    first = open_store(storage)
    first.put(b"key", b"value")
    storage.fault(storage.count + 3, errno.ENOSPC)
    with pytest.raises(error, match="No space"):
        open_store(storage, "n")
    assert {b"key": b"value"} == entries(first)
    close(storage, first)

    with pytest.raises(ClosedError):
        first.pin()
    close(storage, open_store(storage))


def test_a_second_handle_with_bad_options_is_none(storage):
    first = open_store(storage)
    with pytest.raises(ValueError, match="durability"):
        open_store(storage, durability="most")
    close(storage, first)

    with pytest.raises(ClosedError):
        first.pin()


def test_two_paths_to_one_directory_are_one_database(storage):
    first = engine.acquire(storage, "/db", "c", MODE, {})
    second = engine.acquire(storage, "/./db/", "w", MODE, {})

    assert first is second
    close(storage, first, second)


def test_the_same_path_on_another_storage_is_another_database(storage):
    other = CrashStorage()
    first, second = open_store(storage), open_store(other)
    assert first is not second
    close(storage, first)
    close(other, second)


def test_a_failed_opening_gives_the_lock_back(storage):
    two_entries(storage)
    table = names(storage, "sst")[0]
    data = storage.contents(PATH)[table]
    storage.plant(f"{PATH}/{table}", b"damaged")
    with pytest.raises(CorruptionError) as caught:
        open_store(storage)
    storage.plant(f"{PATH}/{table}", data)

    close(storage, open_store(storage))
    assert caught.value.__traceback__ is not None  # which refers to the lock, too


@pytest.mark.parametrize("flag", ["r", "w", "n"])
def test_every_checksum_is_looked_at_if_that_is_asked_for(storage, flag):
    two_entries(storage)
    table = names(storage, "sst")[0]
    data = storage.contents(PATH)[table]
    storage.plant(f"{PATH}/{table}", data[:60] + bytes([data[60] ^ 1]) + data[61:])
    close(storage, acquire(storage, "w"))
    if flag == "n":
        close(storage, acquire(storage, flag, verify_on_open=True))
        return
    with pytest.raises(CorruptionError, match=table):
        acquire(storage, flag, verify_on_open=True)
    close(storage, acquire(storage, "w"))


# The lock


@pytest.mark.parametrize("flag", ["w", "c", "n"])
def test_a_lock_that_stays_held_is_an_error_that_says_by_whom(storage, flag):
    database(storage)
    lock = storage.directory(PATH, MODE).lock("LOCK", b"pid 4711 on example\n")
    start = storage.monotonic()
    with pytest.raises(LockedError, match=f"held by pid 4711 on example.*{PATH}") as caught:
        acquire(storage, flag, timeout=2.0)

    assert errno.EAGAIN == caught.value.errno
    assert 1.9 <= storage.monotonic() - start <= 2.0
    lock.close()
    store = acquire(storage, "w")
    assert OLD == entries(store)
    close(storage, store)


def test_without_a_timeout_the_lock_is_tried_once(storage):
    database(storage)
    lock = storage.directory(PATH, MODE).lock("LOCK", b"")
    start = storage.count
    with pytest.raises(LockedError, match="held by another process"):
        acquire(storage, timeout=0)

    assert 1 == sum(call.startswith("lock") for call in calls_since(storage, start))
    lock.close()


def test_a_lock_that_is_given_back_in_time_is_taken(storage):
    database(storage)
    lock = storage.directory(PATH, MODE).lock("LOCK", b"")

    def give_back(index, operation, path):
        if operation == "lock" and storage.monotonic() > 1.0:
            lock.close()

    storage.on_call = give_back
    store = acquire(storage, timeout=2.0)
    storage.on_call = None

    assert 1.0 < storage.monotonic() < 1.2
    assert OLD == entries(store)
    close(storage, store)


def test_a_reader_needs_no_lock(storage):
    database(storage)
    lock = storage.directory(PATH, MODE).lock("LOCK", b"")
    reader = acquire(storage, "r")

    assert OLD == entries(reader)
    close(storage, reader)
    lock.close()


def test_the_holder_writes_its_number_into_the_lock(storage):
    store = open_store(storage)

    assert f"pid {storage.pid()}\n".encode() == storage.contents(PATH)["LOCK"]
    close(storage, store)


HOLD = """
import sys
from lsmdbm.database import open
db = open(sys.argv[1], "c")
db["key"] = "value"
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.read()
"""


def test_another_process_keeps_the_lock_until_it_ends_however_it_ends(tmp_path):
    path, storage = os.fspath(tmp_path / "db"), OsStorage()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
    )
    try:
        assert b"ready\n" == holder.stdout.readline()
        with pytest.raises(LockedError, match=f"held by pid {holder.pid}"):
            engine.acquire(storage, path, "c", MODE, {"timeout": 0.01})
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()

    store = engine.acquire(storage, path, "c", MODE, {"timeout": 60})
    assert OLD == entries(store)
    engine.release(store)


# Fork


def in_child(work):
    """Fork, do something in the child, and return what it says: "" if all is well."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


@pytest.fixture
def forked(tmp_path):
    """A writer with tables, unsynced logs and writes held back; a reader of another database; their paths."""
    storage = OsStorage()
    paths = [os.fspath(tmp_path / name) for name in ("written", "read")]
    other = engine.acquire(storage, paths[1], "c", MODE, {})
    other.put(b"key", b"value")
    other.flush()
    engine.release(other)
    writer = engine.acquire(storage, paths[0], "c", MODE, {"durability": "none"})
    writer.put(b"flushed", b"value")
    writer.flush()
    writer.put(b"held", b"back")
    reader = engine.acquire(storage, paths[1], "r", MODE, {})
    yield storage, writer, reader, paths
    engine.release(writer)
    engine.release(reader)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
def test_in_the_child_of_a_fork_every_handle_is_dead(forked):
    storage, writer, reader, _ = forked

    def work():
        for call in (
            lambda: writer.put(b"child", b""),
            lambda: writer.get(b"flushed"),
            writer.pin,
            writer.sync,
            writer.flush,
            lambda: reader.get(b"key"),
            reader.pin,
            reader.refresh,
        ):
            with pytest.raises(ClosedError, match="open it again in the child"):
                call()
        engine.release(writer)
        engine.release(reader)

    assert "" == in_child(work)


@needs_fork
def test_the_parent_is_not_touched_by_what_its_child_does(forked):
    storage, writer, reader, paths = forked

    def work():
        engine.release(writer)
        with pytest.raises(LockedError):  # the parent has it still: closing in the child does not unlock
            engine.acquire(storage, paths[0], "w", MODE, {"timeout": 0})

    files = {name: os.path.getsize(os.path.join(paths[0], name)) for name in os.listdir(paths[0])}
    assert "" == in_child(work)
    assert files == {name: os.path.getsize(os.path.join(paths[0], name)) for name in os.listdir(paths[0])}
    writer.put(b"parent", b"value")

    assert {b"flushed": b"value", b"held": b"back", b"parent": b"value"} == entries(writer)
    assert OLD == entries(reader)


@needs_fork
def test_the_child_of_a_fork_can_open_for_itself(forked):
    storage, _, _, paths = forked

    def work():
        reader = engine.acquire(storage, paths[0], "r", MODE, {})
        assert {b"flushed": b"value"} == entries(reader)  # what the parent holds back is not there for others
        store = engine.acquire(storage, paths[1], "w", MODE, {})
        store.put(b"child", b"value")
        engine.release(store)
        engine.release(reader)

    assert "" == in_child(work)
    store = engine.acquire(storage, paths[1], "w", MODE, {})
    assert {**OLD, b"child": b"value"} == entries(store)
    engine.release(store)


@needs_fork
def test_a_child_keeps_no_lock_when_its_parent_has_closed(forked, tmp_path):
    """A forked child that goes on living would keep the descriptor, and so the lock, of its parent."""
    storage = OsStorage()
    path = os.fspath(tmp_path / "short")
    store = engine.acquire(storage, path, "c", MODE, {})
    child_reads, parent_writes = os.pipe()
    parent_reads, child_writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(child_writes, b"x")
        os.read(child_reads, 1)
        os._exit(0)
    assert b"x" == os.read(parent_reads, 1)
    engine.release(store)
    store = engine.acquire(storage, path, "w", MODE, {"timeout": 0})
    engine.release(store)
    os.write(parent_writes, b"x")
    os.waitpid(child, 0)
    for descriptor in (child_reads, parent_writes, parent_reads, child_writes):
        os.close(descriptor)


# Leases


class Interrupt(BaseException):
    pass


def interrupted(owner, name, monkeypatch):
    """Let the next call of a method end before it has done anything."""
    whole = getattr(owner, name)

    def interrupt(self, *arguments):
        monkeypatch.setattr(owner, name, whole)
        raise Interrupt

    monkeypatch.setattr(owner, name, interrupt)


def is_free(storage):
    lock = storage.directory(PATH, MODE).lock("LOCK", b"")
    if lock is not None:
        lock.close()
    return lock is not None


def test_lease_that_nobody_keeps_is_given_back(storage):
    """As of an open() that was interrupted before it could return a handle."""
    lease = sharing.acquire(storage, PATH, "c", MODE, {})
    assert not is_free(storage)
    del lease
    gc.collect()

    assert is_free(storage)


def test_lease_is_given_back_once(storage):
    first, second = (sharing.acquire(storage, PATH, "c", MODE, {}) for _ in range(2))
    first.release()
    first.release()

    assert not is_free(storage)
    second.release()
    assert is_free(storage)


@pytest.mark.parametrize("place", ["_finish", "_end", "_release"])
@pytest.mark.parametrize("durability", ["none", "process"])
def test_release_that_was_interrupted_is_made_again(storage, monkeypatch, place, durability):
    lease = sharing.acquire(storage, PATH, "c", MODE, {"durability": durability})
    lease.store.put(b"key", b"value")
    interrupted(Store, place, monkeypatch)
    with pytest.raises(Interrupt):
        lease.release()
    lease.release()

    assert is_free(storage)
    crashed = storage.crash("kill" if durability == "none" else "strict")
    assert {b"key": b"value"} == entries(open_store(crashed))


@pytest.mark.parametrize("place", ["_finish", "_end", "_release"])
def test_whoever_opens_after_an_interrupted_release_gets_a_store_that_works(storage, monkeypatch, place):
    lease = sharing.acquire(storage, PATH, "c", MODE, {})
    lease.store.put(b"key", b"value")
    interrupted(Store, place, monkeypatch)
    with pytest.raises(Interrupt):
        lease.release()
    other = sharing.acquire(storage, PATH, "w", MODE, {})
    other.store.put(b"more", b"value")

    assert {b"key": b"value", b"more": b"value"} == entries(other.store)
    other.release()
    lease.release()
    assert is_free(storage)


# Finalizers


LONG = 60.0  # seconds after which a thread is taken to wait for ever


def leases_that_are_forgotten(storage):
    """One lease, in a list of which only the collector gets rid."""
    found = [sharing.acquire(storage, PATH, "c", MODE, {})]
    found.append(found)
    return found


@pytest.mark.parametrize("method", ["clear", "close"])
def test_finalizer_in_a_write_does_not_wait_for_who_waits_for_that_write(storage, monkeypatch, method):
    """One thread had the store and wanted the registry, the other one had that and wanted the store."""
    lease, elsewhere = sharing.acquire(storage, PATH, "c", MODE, {}), CrashStorage()
    forgotten, is_coming = [leases_that_are_forgotten(elsewhere)], threading.Event()
    whole = getattr(Store, method)

    def announced(store):
        is_coming.set()
        whole(store)

    monkeypatch.setattr(Store, method, announced)
    begin_anew = lambda: sharing.acquire(storage, PATH, "n", MODE, {}).release()  # noqa: E731
    other = threading.Thread(target=begin_anew if method == "clear" else lease.release, daemon=True)

    def collect(value):
        other.start()
        is_coming.wait()  # it has the registry
        forgotten.clear()
        gc.collect()
        return b"value"

    writing = threading.Thread(target=lease.store.change, args=(b"key", collect), daemon=True)
    writing.start()
    for thread in (writing, other):
        thread.join(LONG)

    assert [False, False] == [writing.is_alive(), other.is_alive()]
    assert is_free(elsewhere)  # the other one has seen to it
    lease.release()


def test_finalizer_in_the_middle_of_an_opening_comes_after_it(storage):
    elsewhere, seen = CrashStorage(), []
    forgotten = [leases_that_are_forgotten(elsewhere)]

    def collect(index, operation, path):
        if operation == "lock":
            storage.on_call = None
            forgotten.clear()
            gc.collect()
            seen.append(is_free(elsewhere))

    storage.on_call = collect
    store = open_store(storage)
    seen.append(is_free(elsewhere))

    assert [False, True] == seen
    close(storage, store)


def test_lease_forgotten_in_the_middle_of_a_write_to_its_own_store_is_given_back_later(storage):
    """It was refused there, as any call is, and the store stayed open."""
    forgotten = [leases_that_are_forgotten(storage)]
    store = forgotten[0][0].store

    def collect(value):
        forgotten.clear()
        gc.collect()
        return b"value"

    store.change(b"key", collect)
    assert not is_free(storage)
    sharing.acquire(CrashStorage(), PATH, "c", MODE, {}).release()

    assert is_free(storage)
    assert OLD == entries(reader := open_reader(storage))
    close(storage, reader)


def test_lease_forgotten_during_a_sync_of_the_syncer_is_given_back_by_its_thread(tmp_path, monkeypatch):
    storage, is_syncing, go_on = OsStorage(), threading.Event(), threading.Event()
    path = os.fspath(tmp_path / "db")
    whole = Durability._sync_overdue

    def held(durability):
        with durability.lock:
            is_syncing.set()
            go_on.wait()
        return whole(durability)

    monkeypatch.setattr(Durability, "_sync_overdue", held)
    lease = sharing.acquire(storage, path, "c", MODE, {"durability": "interval", "sync_interval": 0.01})
    lease.store.put(b"key", b"value")
    is_syncing.wait()
    (syncer,) = (thread for thread in threading.enumerate() if thread.name == NAME)
    del lease
    gc.collect()
    assert not is_unlocked(path)
    go_on.set()
    syncer.join(LONG)

    assert is_unlocked(path)


@needs_fork
def test_what_a_finalizer_of_the_parent_left_is_none_of_its_child(storage):
    forgotten = [leases_that_are_forgotten(storage)]
    store, said = forgotten[0][0].store, []

    def work():
        before = storage.count
        sharing.acquire(CrashStorage(), PATH, "c", MODE, {}).release()
        assert (before, []) == (storage.count, [*leftovers._left])

    def collect(value):
        forgotten.clear()
        gc.collect()
        said.append(in_child(work))
        return b"value"

    store.change(b"key", collect)
    assert [""] == said
    clear_up()
    assert is_free(storage)


# Who else may be writing


def replaced(storage):
    directory = storage.directory(PATH, MODE)
    directory.unlink("LOCK")
    directory.create("LOCK")


def removed(storage):
    storage.directory(PATH, MODE).unlink("LOCK")


@pytest.mark.parametrize("change", [replaced, removed])
@pytest.mark.parametrize("call", [Store.sync, Store.flush, Store.compact, Store.close])
def test_writer_whose_lock_is_gone_says_so_before_it_promises_anything(storage, change, call):
    store = acquire(storage)
    store.put(b"key", b"value")
    change(storage)
    before = storage.contents(PATH)

    with pytest.raises(FailedError, match="LOCK was removed or replaced; another process may be writing"):
        call(store)
    assert [name for name in before if name.endswith(".man")] == [
        name for name in storage.contents(PATH) if name.endswith(".man")
    ]
    if call is not Store.close:
        assert b"value" == store.get(b"key")
        with pytest.raises(FailedError, match="writing has failed before"):
            store.put(b"more", b"value")
    with contextlib.suppress(FailedError):
        close(storage, store)


def test_writer_whose_lock_is_gone_makes_no_log(storage):
    store = acquire(storage)
    removed(storage)
    before = storage.contents(PATH)

    with pytest.raises(FailedError, match="LOCK was removed"):
        store.put(b"key", b"value")
    assert (before, None) == (storage.contents(PATH), store.get(b"key"))
    close(storage, store)
