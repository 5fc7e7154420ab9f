"""Group commit: who waits, who is called, and that nobody waits for ever."""

import threading

import pytest

from lsmdbm._engine import group as group_module
from lsmdbm._engine.group import Group
from lsmdbm._engine.writer import Writer
from support.crash_storage import CrashFile, CrashStorage
from support.engine import close, entries, open_store

LONG = 60  # seconds until a test gives up


def waiting_thread(group, is_done):
    thread = threading.Thread(target=group.wait, args=(is_done,), daemon=True)
    thread.start()
    return thread


@pytest.fixture
def patient(monkeypatch):
    """Nobody gives up: only a call ends a wait."""
    monkeypatch.setattr(group_module, "PATIENCE", LONG)


def test_nobody_waits_while_nobody_syncs(patient):
    Group().wait(lambda: False)


def test_nobody_waits_for_what_is_done(patient):
    group = Group()
    with group:
        group.wait(lambda: True)


def test_all_that_wait_are_called_when_the_sync_ends(patient):
    group, asked = Group(), threading.Semaphore(0)

    def is_done():
        asked.release()
        return False

    with group:
        threads = [waiting_thread(group, is_done) for _ in range(5)]
        for _ in threads:
            assert asked.acquire(timeout=LONG)
    for thread in threads:
        thread.join(LONG)

    assert [] == [thread for thread in threads if thread.is_alive()]


def test_a_sync_that_fails_calls_too(patient):
    group, asked = Group(), threading.Event()
    with pytest.raises(ZeroDivisionError), group:
        thread = waiting_thread(group, lambda: asked.set() or False)
        assert asked.wait(LONG)
        raise ZeroDivisionError
    thread.join(LONG)

    assert not thread.is_alive()


def test_who_is_never_called_stops_waiting(monkeypatch):
    """As after an interruption between the end of a sync and the calls."""
    monkeypatch.setattr(group_module, "PATIENCE", 0.001)
    group = Group()
    group.__enter__()

    group.wait(lambda: False)


# In a store


class SlowSyncs:
    """Lets the first sync of a log go on until `count` threads have appended their records."""

    def __init__(self, monkeypatch, store, count):
        self.store, self.count, self.syncs = store, count, 0
        self.appended = threading.Semaphore(0)
        fdatasync, put = CrashFile.fdatasync, Writer.put

        def slow(file):
            self.syncs += 1
            if self.syncs == 1:
                for _ in range(self.count):
                    assert self.appended.acquire(timeout=LONG)
            fdatasync(file)

        def counted(writer, key, value):
            put(writer, key, value)
            self.appended.release()

        monkeypatch.setattr(CrashFile, "fdatasync", slow)
        monkeypatch.setattr(Writer, "put", counted)


def test_one_sync_serves_all_who_wrote_before_it(monkeypatch, patient):
    """The first thread syncs its record; what seven others append meanwhile takes one more."""
    storage = CrashStorage()
    store = open_store(storage, durability="full")
    syncs = SlowSyncs(monkeypatch, store, 8)
    threads = [
        threading.Thread(target=store.put, args=(b"%d" % number, b"value"), daemon=True)
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)

    assert [] == [thread for thread in threads if thread.is_alive()]
    assert 2 == syncs.syncs
    assert {b"%d" % number: b"value" for number in range(8)} == entries(open_store(storage.crash("strict")))
    close(storage, store)


def test_records_that_are_durable_are_not_synced_again_for_newer_ones(monkeypatch):
    """Whoever waited looked whether everything was durable, which among busy writers it never is."""
    storage = CrashStorage()
    store = open_store(storage, durability="full")
    store.put(b"a", b"1")
    seq = store._wal.durable_seq
    monkeypatch.setattr(store._durability, "follow_up", None)
    store.put(b"b", b"2")
    before = storage.count
    store._durability.sync_written(seq)

    assert before == storage.count
    store._durability.sync_written(seq + 1)
    assert before < storage.count
    close(storage, store)
