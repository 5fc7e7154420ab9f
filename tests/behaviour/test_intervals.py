"""Durability "interval" when nobody writes any more: a thread ends the interval."""

import gc
import threading

import pytest

import lsmdbm
from lsmdbm._base.os_file import OsFile
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._engine.syncer import NAME
from lsmdbm.database import open_on

PATIENCE = 60  # seconds until a test gives up


@pytest.fixture
def synced(monkeypatch):
    """An event: some log was synced."""
    event, fdatasync = threading.Event(), OsFile.fdatasync

    def told(file):
        fdatasync(file)
        event.set()

    monkeypatch.setattr(OsFile, "fdatasync", told)
    return event


def threads():
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def test_last_write_is_synced_without_another_one(path, synced):
    with lsmdbm.open(path, "c", durability="interval", sync_interval=0.01) as db:
        for number in range(3):
            synced.clear()
            db[str(number)] = "value"
            assert synced.wait(PATIENCE), f"write {number}"


@pytest.mark.parametrize("durability", ["none", "process", "full"])
def test_no_other_level_starts_a_thread(path, durability):
    before = threading.active_count()
    with lsmdbm.open(path, "c", durability=durability) as db:
        db.update((str(number), "value") for number in range(5000))
        assert before == threading.active_count()


def test_opening_and_reading_starts_no_thread(path):
    with lsmdbm.open(path, "c", durability="interval") as db:
        assert {} == dict(db)
        assert [] == threads()


def test_thread_ends_with_the_last_handle(path):
    first = lsmdbm.open(path, "c", durability="interval", sync_interval=1000)
    second = lsmdbm.open(path, "c")
    first["a"] = "1"
    (thread,) = threads()
    first.close()
    assert thread.is_alive()
    second.close()
    thread.join(PATIENCE)

    assert not thread.is_alive()


def test_thread_does_not_keep_a_forgotten_handle(path):
    db = lsmdbm.open(path, "c", durability="interval", sync_interval=1000)
    db["a"] = "1"
    (thread,) = threads()
    with pytest.warns(ResourceWarning):  # noqa: PT031 - where there are no reference counts, a collection warns
        del db
        gc.collect()
    thread.join(PATIENCE)

    assert not thread.is_alive()
    with lsmdbm.open(path) as db:
        assert {b"a": b"1"} == dict(db)


def test_handle_with_a_shorter_interval_shortens_it_for_all(path, synced):
    with lsmdbm.open(path, "c", durability="interval", sync_interval=1000) as db:
        db["a"] = "1"
        with lsmdbm.open(path, "w", durability="interval", sync_interval=0.01):
            assert synced.wait(PATIENCE)


class FailingSyncs(OsStorage):
    """Fails every sync of a log, and says when."""

    def __init__(self, monkeypatch):
        self.failed = threading.Event()
        monkeypatch.setattr(OsFile, "fdatasync", self.fail)

    def fail(self):
        self.failed.set()
        raise lsmdbm.error(5, "Input/output error", "a log")


def test_failure_in_the_thread_is_told_to_whoever_writes_next(path, monkeypatch):
    storage = FailingSyncs(monkeypatch)
    db = open_on(storage, path, "c", 0o666, {"durability": "interval", "sync_interval": 0.01})
    db["a"] = "1"
    assert storage.failed.wait(PATIENCE)
    with db._store._durability.lock:  # which the thread holds until it has noted what the sync said
        pass

    with pytest.raises(lsmdbm.FailedError, match="writing has failed before"):
        db["b"] = "2"
    assert b"1" == db["a"]
    with pytest.raises(lsmdbm.FailedError):
        db.close()
