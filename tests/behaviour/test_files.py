"""What is in the directory, and what is open: no more than the live set needs."""

import errno
import gc
import os
import random

import pytest

import lsmdbm
from lsmdbm._base.errors import error
from lsmdbm._base.os_file import OsFile
from lsmdbm._engine.mapped import FIRST_LOG_BYTES
from lsmdbm._engine.names import MANIFEST, TABLE, WAL, file_name, numbers, parse
from lsmdbm._format.manifest import decode
from support.child import Child

pytestmark = pytest.mark.usefixtures("no_syncs")

TINY = {"memtable_bytes": 2048, "block_bytes": 64, "cache_bytes": 4096}


def needed(path):
    """The names that the newest manifest needs, with the logs that it may need."""
    names = os.listdir(path)
    number = numbers(names, MANIFEST)[-1]
    with open(os.path.join(path, file_name(number, MANIFEST)), "rb") as file:
        manifest = decode(file.read(), number)
    tables = {file_name(meta.number, TABLE) for level in manifest.levels for meta in level}
    logs = {file_name(log, WAL) for log in numbers(names, WAL) if log >= manifest.min_wal}
    return {"LOCK", file_name(number, MANIFEST), *tables, *logs}


def of_kind(path, kind):
    return numbers(os.listdir(path), kind)


def load(db, rng, count):
    db.update((b"%06d" % rng.randrange(5000), rng.randbytes(rng.randrange(80))) for _ in range(count))
    for _ in range(count // 4):
        db.pop(b"%06d" % rng.randrange(5000), None)


def directory_bytes(path):
    return sum(entry.stat().st_size for entry in os.scandir(path))


def test_a_compaction_leaves_what_the_live_set_needs_and_nothing_else(path, seed):
    rng = random.Random(f"{seed} compaction")
    with lsmdbm.open(path, "c", **TINY) as db:
        for _ in range(5):
            load(db, rng, 500)
            db.compact()
            assert needed(path) == set(os.listdir(path))
            assert [] == of_kind(path, WAL)
            assert db.stats().tables == len(of_kind(path, TABLE))
    assert needed(path) == set(os.listdir(path))


@pytest.mark.parametrize("background", ["inline", "manual"])
def test_a_close_at_any_moment_leaves_what_the_live_set_needs(path, seed, background):
    rng = random.Random(f"{seed} close {background}")
    for _ in range(30):
        with lsmdbm.open(path, "c", background=background, **TINY) as db:
            load(db, rng, rng.randrange(1, 300))
            if rng.random() < 0.3:
                db.flush()
        assert needed(path) == set(os.listdir(path))


def test_tables_that_an_iterator_reads_stay_for_as_long_as_it_does(path, seed):
    with lsmdbm.open(path, "c", **TINY) as db:
        load(db, random.Random(f"{seed} iterator"), 1000)
        db.compact()
        tables, expected = set(of_kind(path, TABLE)), dict(db)
        iterator = iter(db.items())
        first = next(iterator)

        db.clear()
        db["a"] = "1"
        db.compact()
        assert tables < set(of_kind(path, TABLE))
        assert expected == dict([first, *iterator])

        del iterator
        db["b"] = "2"
        db.compact()
        assert needed(path) == set(os.listdir(path))
        assert tables.isdisjoint(of_kind(path, TABLE))


def test_what_a_dead_process_left_behind_is_collected_and_what_is_not_ours_is_kept(path):
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
        db.flush()
    names = ["000900.sst", "000901.sst", "000002.sst", "notes.txt", "000905.tmp", "905.sst", "000906.sst~"]
    for name in names:
        with open(os.path.join(path, name), "wb") as file:
            file.write(b"half a table")

    with lsmdbm.open(path, "w") as db:
        assert {*names} <= set(os.listdir(path))
        db["b"] = "2"
        db.compact()
        assert {b"a": b"1", b"b": b"2"} == dict(db)
        assert max(parse(name)[0] for name in os.listdir(path) if parse(name)) > 906 - 1
    assert needed(path) | {"notes.txt", "000905.tmp", "905.sst", "000906.sst~"} == set(os.listdir(path))


def test_clear_and_deletes_give_the_space_back(path, seed):
    rng = random.Random(f"{seed} space")
    with lsmdbm.open(path, "c", **TINY) as db:
        for empty in (db.clear, lambda: [db.pop(key) for key in db]):
            load(db, rng, 2000)
            assert directory_bytes(path) > 50_000
            empty()
            db.compact()
            assert directory_bytes(path) < 1000
            assert [] == of_kind(path, TABLE)


def test_a_small_database_is_small(path):
    with lsmdbm.open(path, "c") as db:
        assert directory_bytes(path) < 300
        db.update((f"key {number}", f"value {number}" * 5) for number in range(10))
        assert directory_bytes(path) < 2000
    assert directory_bytes(path) < 2000
    with lsmdbm.open(path, "w") as db:
        db.compact()
    assert directory_bytes(path) < 2000
    assert 3 == len(os.listdir(path))


def test_a_shelf_that_is_opened_for_every_write_stays_small(path):
    for number in range(200):
        with lsmdbm.open(path, "c") as db:
            db[f"key {number % 10}"] = f"value {number}"
    assert directory_bytes(path) < 20_000
    assert len(os.listdir(path)) < 30
    with lsmdbm.open(path) as db:
        assert {b"key %d" % (n % 10): b"value %d" % n for n in range(200)} == dict(db)


# -- descriptors ------------------------------------------------------------------------------------

needs_proc = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="no /proc here to count descriptors in"
)


def descriptors(path):
    """What is open below a path."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:  # the one that listed the directory
            continue
        if target.startswith(path):
            found.append(target)
    return found


@needs_proc
@pytest.mark.parametrize("log_io", ["pwrite", "mmap"])
def test_what_met_a_full_disk_is_let_go_of_at_once(path, monkeypatch, log_io):
    """The error that stats() tells, and the one of a mapping, kept files open that were unlinked.

    Their blocks stayed taken, so that on a full disk clear() and all that came after it failed as well.
    """
    pwrite, map_log = OsFile.pwrite, OsFile.map

    def write(file, data, offset):
        if file.path.endswith(TABLE):
            raise error(errno.ENOSPC, os.strerror(errno.ENOSPC), file.path)
        return pwrite(file, data, offset)

    def map_small(file, length):
        if length > FIRST_LOG_BYTES:
            raise error(errno.ENOSPC, os.strerror(errno.ENOSPC), file.path)
        map_log(file, length)

    monkeypatch.setattr(OsFile, "pwrite", write)
    monkeypatch.setattr(OsFile, "map", map_small)
    gc.collect()
    gc.disable()
    try:
        with lsmdbm.open(path, "c", log_io=log_io, memtable_bytes=64 << 10) as db:
            refused = 0
            for number in range(14):
                try:
                    db[b"%d" % number] = bytes(70 << 10 if number == 10 else 10 << 10)
                except error:
                    refused += 1
            assert "No space left" in db.stats().trouble
            assert (log_io == "mmap") == (refused > 0)
            assert [] == [name for name in descriptors(path) if name.endswith((TABLE, " (deleted)"))]
            db.clear()
        assert [] == descriptors(path)
    finally:
        gc.enable()


@needs_proc
def test_an_error_that_is_kept_keeps_no_file_open(path, monkeypatch):
    """Its traceback did, also past close(): of the log, and of a table that was unlinked."""
    pwrite = OsFile.pwrite
    full = []

    def write(file, data, offset):
        if file.path.endswith(tuple(full)):
            raise error(errno.ENOSPC, os.strerror(errno.ENOSPC), file.path)
        return pwrite(file, data, offset)

    monkeypatch.setattr(OsFile, "pwrite", write)
    kept = []
    with lsmdbm.open(path, "c", background="manual") as db:
        for kind, call in ((TABLE, db.flush), (WAL, lambda: db.update(b="2"))):
            db["a"] = "1"
            full[:] = [kind]
            with pytest.raises(error) as caught:
                call()
            kept.append(caught.value)
            full[:] = ()
        assert [] == [name for name in descriptors(path) if name.endswith((TABLE, " (deleted)"))]
    assert [] == descriptors(path)
    assert 2 == len(kept)


@needs_proc
def test_files_and_descriptors_stay_few_over_many_flushes(path, seed, budget):
    rng = random.Random(f"{seed} flushes")
    files, opened = [], []
    with lsmdbm.open(path, "c", **TINY, max_open_files=8) as db:
        for step in range(60 if budget == "small" else 200):
            for _ in range(20):
                db[b"%04d" % rng.randrange(200)] = rng.randbytes(50)
            db.flush()
            files.append(len(os.listdir(path)))
            if step % 10 == 0:
                assert len(db) == len(db.keys())
            opened.append(len(descriptors(path)))
        assert db.stats().flushes > len(files) - 1
        assert len(of_kind(path, MANIFEST)) == 1
    assert max(files) < 60
    assert max(opened) < 8 + 12  # an unfinished compaction holds what it reads and writes
    assert max(files[len(files) // 2 :]) <= max(files[: len(files) // 2]) + 8


@needs_proc
@pytest.mark.parametrize("flag", "rw")
def test_no_more_tables_are_open_than_max_open_files_says(path, flag, seed):
    rng = random.Random(f"{seed} open files")
    with lsmdbm.open(path, "c", **TINY, dictionaries=False) as db:
        load(db, rng, 2000)
        db.compact()
        assert db.stats().tables > 20
    with lsmdbm.open(path, flag, **TINY, max_open_files=5) as db:
        for _ in range(300):
            db.get(b"%06d" % rng.randrange(5000))
        assert 5 == db.stats().open_tables
        tables = [name for name in descriptors(path) if name.endswith(".sst")]
        assert len(tables) == (5 if flag == "w" else db.stats().tables)  # a reader keeps its tables


@needs_proc
@pytest.mark.parametrize("flag", "rwcn")
def test_close_closes_every_descriptor(path, flag, seed):
    with lsmdbm.open(path, "c", **TINY) as db:
        load(db, random.Random(f"{seed} descriptors"), 1000)
    db = lsmdbm.open(path, flag, **TINY)
    second = lsmdbm.open(path, "r")
    if flag != "r":
        load(db, random.Random(f"{seed} more"), 1000)
    iterators = [iter(db.items()), reversed(second)]
    for iterator in iterators:
        next(iterator)
    len(db)
    assert [] != descriptors(path)

    db.close()
    second.close()
    del iterators, iterator
    assert [] == descriptors(path)


@needs_proc
@pytest.mark.parametrize("flag", ["r", "w", "c", "x", "n"])
def test_an_open_that_fails_leaves_no_descriptor(path, flag):
    with pytest.raises((lsmdbm.error, ValueError, TypeError)):
        lsmdbm.open(path, flag if flag != "n" else "c", **({"nonsense": 1} if flag in "cn" else {}))
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
        db.flush()
    for name in os.listdir(path):
        if name.endswith((".sst", ".man")):
            os.truncate(os.path.join(path, name), 10)
    if flag != "n":
        with pytest.raises(lsmdbm.error):
            lsmdbm.open(path, flag)
    assert [] == descriptors(path)


@needs_proc
def test_a_refused_lock_leaves_no_descriptor(path, tmp_path):
    with Child(tmp_path) as child:
        child("open", path, "c")
        with pytest.raises(lsmdbm.LockedError):
            lsmdbm.open(path, "w", timeout=0)
        assert [] == descriptors(path)
