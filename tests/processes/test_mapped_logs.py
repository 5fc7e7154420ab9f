"""A mapped log on a real disk, and other processes: who is killed, who reads beside, who cuts the file."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm._engine.mapped import FIRST_LOG_BYTES
from support.child import Child
from support.neighbours import content, steps_in
from support.quiet import descriptors

CUT = """
import json, os, sys
import lsmdbm

path, length = sys.argv[1], int(sys.argv[2])
db = lsmdbm.open(path, "c", log_io=sys.argv[3])
for number in range(300):
    db[b"%03d" % (number % 50)] = b"%d" % number
log = os.path.join(path, f"{db._store._wal.number:06d}.wal")
os.truncate(log, length)
print(json.dumps(os.path.getsize(log)), flush=True)
db[b"000"] = b"300"
print("returned", flush=True)
"""


@pytest.fixture
def path(mappable):
    return os.fspath(mappable / "db")


def log_lengths(path):
    return [
        entry.stat().st_size
        for entry in sorted(os.scandir(path), key=lambda e: e.name)
        if "wal" in entry.name
    ]


def on_disk(path):
    with lsmdbm.open(path, "r") as db:
        return dict(db)


def cut(path, length, log_io):
    """Run a program that cuts its own log behind the back of the database, and puts once more."""
    where = os.pathsep.join(map(str, (Path(lsmdbm.__file__).parents[1],)))
    return subprocess.run(
        [sys.executable, "-c", CUT, path, str(length), log_io],
        env={**os.environ, "PYTHONPATH": where},
        cwd=os.path.dirname(path),
        capture_output=True,
    )


@pytest.mark.parametrize("length", [0, 1000])
def test_who_cuts_a_mapped_log_kills_its_writer_and_the_database_opens_again_with_a_prefix(path, length):
    """SIGBUS: what the rules of the storage prevent, and nobody else may do to a file in use."""
    ended = cut(path, length, "mmap")

    assert (-signal.SIGBUS, str(length)) == (ended.returncode, ended.stdout.decode().strip()), ended.stderr
    with lsmdbm.open(path, "w", log_io="mmap") as db:
        found = dict(db)
        assert found == content(steps_in(found) if found else 0)
        assert (0 < len(found) < 50) == (length > 0)
        db[b"more"] = b"1"
    assert lsmdbm.verify(path).ok


def test_a_log_that_is_not_mapped_shows_what_the_signal_is_about(path):
    """The planted fault is in the other test: here the same program goes on, over a hole."""
    ended = cut(path, 1000, "pwrite")

    assert (0, "1000 returned") == (ended.returncode, " ".join(ended.stdout.decode().split()))


def killed(path, count, **options):
    """Leave a database whose writer died, without a word, after so many puts."""
    with Child(os.path.dirname(path)) as child:
        child.start("load", path, count, 512, {"log_io": "mmap", **options})
        assert count == len([*child.lines()])


def expected(count):
    return {b"%08d" % number: b"%08d" % number * 64 for number in range(count)}


@pytest.mark.parametrize("durability", ["none", "process", "full"])
def test_a_killed_writer_leaves_every_write_and_zeros_that_nobody_minds(path, durability):
    """At "none" too: a record is in the page cache as soon as it is stored."""
    killed(path, 160, durability=durability)
    lengths = log_lengths(path)
    report = lsmdbm.verify(path)

    assert 2 == len(lengths)
    assert 2 * FIRST_LOG_BYTES == lengths[1]
    assert (True, ()) == (report.ok, report.notes)
    assert expected(160) == on_disk(path)
    with lsmdbm.open(path, "w") as db:
        assert expected(160) == dict(db)
        db.clear()
        db[b"1"] = b"2"
    assert {b"1": b"2"} == on_disk(path)


def test_what_a_killed_writer_left_is_repaired_and_copied_without_a_doubt(path, mappable):
    killed(path, 160)
    copy = os.fspath(mappable / "copy")
    report = lsmdbm.repair(path, copy)

    assert ((), ()) == (report.losses, report.doubts)
    assert expected(160) == on_disk(copy)


def test_a_reader_sees_what_was_stored_as_soon_as_the_write_has_returned(path):
    with Child(os.path.dirname(path)) as reader, lsmdbm.open(path, "c", log_io="mmap") as db:
        db[b"1"] = b"1"
        reader("open", path, "r")
        assert [["1", "1"]] == reader("items")
        for number in range(2, 5):  # the log is as long as it was
            db[b"%d" % number] = b"1"
            reader("call", "refresh")
            assert [[str(each), "1"] for each in range(1, number + 1)] == reader("items")


def test_a_forked_child_drops_the_mapping_and_the_log_stays_as_it_was(path):
    """Cutting what it does not need would be the end of the parent, by SIGBUS."""
    with lsmdbm.open(path, "c", log_io="mmap") as db:
        db[b"1"] = b"1"
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            left = descriptors(path) if isinstance(db, lsmdbm.Database) else None
            maps = path in Path("/proc/self/maps").read_text()
            os.write(writing, json.dumps([left, maps]).encode())
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            assert [[], False] == json.loads(pipe.read())
        os.waitpid(pid, 0)
        assert [FIRST_LOG_BYTES] == log_lengths(path)
        db[b"2"] = b"2"
    assert {b"1": b"1", b"2": b"2"} == on_disk(path)


def test_a_closed_database_has_no_zeros_and_no_mapping(path):
    with lsmdbm.open(path, "c", log_io="mmap") as db:
        db.update((b"%d" % number, bytes(100)) for number in range(2000))
        assert path in Path("/proc/self/maps").read_text()
    lengths = log_lengths(path)

    assert sum(lengths) < 2000 * 130
    assert path not in Path("/proc/self/maps").read_text()
    assert [] == descriptors(path)
    assert () == lsmdbm.verify(path).notes
