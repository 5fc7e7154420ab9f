"""Two processes at one database; and one that dies."""

import itertools
import os
import random

import pytest

import lsmdbm
from lsmdbm._base.os_storage import OsStorage
from lsmdbm.database import open_on
from support.child import Child, ChildError


@pytest.fixture
def child(tmp_path):
    with Child(tmp_path) as process:
        yield process


OPTIONS = {
    "all in the log": {},
    "tables too": {"memtable_bytes": 2048, "block_bytes": 64},
    "interval": {"durability": "interval", "sync_interval": 0, "memtable_bytes": 2048},
    "full": {"durability": "full"},
}


def content(acknowledged, value_bytes):
    return {b"%08d" % number: b"%08d" % number * (value_bytes // 8) for number in range(acknowledged)}


@pytest.mark.parametrize("options", OPTIONS)
def test_every_put_that_returned_survives_an_exit_without_close(path, child, options, seed):
    count = random.Random(f"{seed} exit {options}").randrange(50, 500)
    child.start("load", path, count, 80, OPTIONS[options])

    assert count == len([*child.lines()])
    assert 9 == child.wait()
    with lsmdbm.open(path, "r") as db:
        assert content(count, 80) == dict(db)
    with lsmdbm.open(path, "w", timeout=0) as db:
        assert content(count, 80) == dict(db)
        db["after"] = "1"
        assert count + 1 == len(db)


@pytest.mark.parametrize("options", OPTIONS)
def test_every_put_that_returned_survives_sigkill(path, child, options, seed):
    heard = random.Random(f"{seed} kill {options}").randrange(50, 300)
    child.start("load", path, 1 << 30, 80, OPTIONS[options])
    assert heard == len([*itertools.islice(child.lines(), heard)])

    child.die()
    returned = heard + len([*child.lines()])
    child.kill()
    with lsmdbm.open(path, "w", timeout=0) as db:
        kept = len(db)
        assert kept in (returned, returned + 1)  # the last one may have been on its way
        assert content(kept, 80) == dict(db)


def test_at_none_an_exit_without_close_leaves_a_prefix(path, child):
    child.start("load", path, 5000, 80, {"durability": "none", "memtable_bytes": 64 << 10})
    assert 5000 == len([*child.lines()])

    with lsmdbm.open(path, "w") as db:
        kept = len(db)
        assert content(kept, 80) == dict(db)
    assert 5000 - (64 << 10) // 80 < kept <= 5000


def test_the_lock_ends_with_its_process(path, child):
    child("open", path, "c")
    with pytest.raises(lsmdbm.LockedError):
        lsmdbm.open(path, "w", timeout=0)
    child.kill()
    with lsmdbm.open(path, "w", timeout=0) as db:
        assert {} == dict(db)


@pytest.mark.parametrize("flag", "wcn")
def test_a_second_writer_is_told_who_has_the_lock(path, child, flag):
    child("open", path, "c")
    child("put", {"a": "1"})

    with pytest.raises(lsmdbm.LockedError) as caught:
        lsmdbm.open(path, flag, timeout=0)
    assert f"pid {child.pid}" in str(caught.value)
    assert path == caught.value.filename
    assert isinstance(caught.value, BlockingIOError)
    assert [["a", "1"]] == child("items")


class Waiting(OsStorage):
    """A storage whose time passes in sleep() alone, where something may happen meanwhile."""

    __slots__ = ("meanwhile", "now", "sleeps")

    def __init__(self, meanwhile=lambda sleeps: None):
        self.now = 0.0
        self.sleeps = 0
        self.meanwhile = meanwhile

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.sleeps += 1
        self.meanwhile(self.sleeps)


@pytest.mark.parametrize("timeout", [0, 0.5, 5.0])
def test_a_writer_waits_for_timeout_and_no_longer(path, child, timeout):
    child("open", path, "c")
    storage = Waiting()

    with pytest.raises(lsmdbm.LockedError):
        open_on(storage, path, "w", 0o666, {"timeout": timeout})
    assert timeout - 0.05 <= storage.now <= timeout
    assert storage.sleeps <= 20 + 20 * timeout


def test_a_writer_that_waits_gets_the_lock_when_it_is_free(path, child):
    child("open", path, "c")
    child("put", {"a": "1"})
    storage = Waiting(lambda sleeps: sleeps == 3 and child("call", "close"))

    with open_on(storage, path, "w", 0o666, {}) as db:
        assert {b"a": b"1"} == dict(db)
    assert 3 == storage.sleeps


def test_a_reader_beside_a_writer_sees_the_moment_it_opened_at(path, child):
    with lsmdbm.open(path, "c", memtable_bytes=2048, block_bytes=64) as db:
        db.update((f"{number:04d}", "old") for number in range(300))
        db.compact()
        assert db.stats().tables > 1
        child("open", path, "r", {"max_open_files": 1, "cache_bytes": 0})
        expected = [[f"{number:04d}", "old"] for number in range(300)]
        assert expected == child("items")

        for change in (
            lambda: db.update((f"{number:04d}", "new") for number in range(0, 400, 2)),
            db.compact,
            db.clear,
            db.compact,
        ):
            change()
            assert expected == child("items")
        child("open", path, "r")
        assert [] == child("items")


def test_a_reader_can_be_opened_at_every_moment_of_a_writer(path, child):
    child.start("load", path, 400, 80, {"memtable_bytes": 1024, "block_bytes": 64})

    heard = 0
    for line in itertools.islice(child.lines(), 0, None, 10):
        heard = int(line)
        with lsmdbm.open(path, "r") as db:
            seen = len(db.keys())
            assert seen > heard
            assert content(seen, 80) == dict(db)
    assert heard > 300


def test_readers_take_no_lock_and_many_may_read(path, child, tmp_path):
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
    child("open", path, "r")
    with Child(tmp_path) as second:
        second("open", path, "r")
        with lsmdbm.open(path, "w", timeout=0) as db:
            db["b"] = "2"
            assert [["a", "1"]] == second("items") == child("items")


def test_a_read_only_handle_in_another_process_refuses_writes(path, child):
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
    child("open", path, "r")

    with pytest.raises(ChildError) as caught:
        child("put", {"a": "2"})
    assert "ReadOnlyError" == caught.value.args[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("method", [["__setitem__", "a", "2"], ["get", "a"], ["keys"], ["sync"]])
def test_in_a_forked_child_a_handle_is_dead_and_the_parent_goes_on(path, child, method):
    child("open", path, "c")
    child("put", {"a": "1"})

    name, text = child("fork and", *method)
    assert "ClosedError" == name
    assert "opened before a fork" in text
    child("put", {"b": "2"})
    assert [["a", "1"], ["b", "2"]] == child("items")
    with pytest.raises(lsmdbm.LockedError, match=f"pid {child.pid}"):
        lsmdbm.open(path, "w", timeout=0)
