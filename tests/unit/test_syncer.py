"""The syncer: who wakes it, when it syncs, and how it ends; without a clock and without waiting."""

import gc
import queue
import threading

from lsmdbm._base.errors import FailedError
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._engine.syncer import NAME, Syncer

INTERVAL = 7.0


class Store:
    """Something to be synced, which answers as it is told to."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.looks = 0

    def sync_overdue(self):
        self.looks += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class NoThreads:
    """A storage that starts none."""

    def __init__(self):
        self.asked = []

    def start_thread(self, name, work):
        self.asked.append((name, work))


class Calls:
    """In place of the queue: a script of calls ("call") and of nobody calling in time (None)."""

    def __init__(self, syncer, *script):
        self.syncer, self.script, self.timeouts = syncer, list(script), []

    def get(self, timeout=None):
        self.timeouts.append(timeout)
        if not self.script:
            self.syncer.stop()
        elif self.script.pop(0) is None:
            raise queue.Empty

    def put(self, call):
        """Take it."""

    def empty(self):
        return True


def timeouts(store, *script):
    """Run the thread's work on a script; return how long it was ready to wait each time."""
    syncer = Syncer(NoThreads(), store.sync_overdue, INTERVAL)
    syncer._calls = Calls(syncer, *script)
    syncer.run()
    return syncer._calls.timeouts


def test_it_sleeps_for_ever_while_nothing_waits():
    assert [None] == timeouts(Store())


def test_it_looks_again_when_the_interval_is_over():
    store = Store(5.0, None)

    assert [None, 5.0, None] == timeouts(store, "call", None)
    assert 2 == store.looks


def test_a_write_that_is_between_waking_it_and_beginning_the_interval_is_not_missed():
    store = Store(None, 1.5, None)

    assert [None, INTERVAL, 1.5, None] == timeouts(store, "call", None, None)


def test_failure_is_left_to_those_who_write():
    store = Store(FailedError("sync failed"), None)

    assert [None, INTERVAL, None] == timeouts(store, "call", None)


def test_it_is_started_by_the_first_write_and_once():
    storage, store = NoThreads(), Store()
    syncer = Syncer(storage, store.sync_overdue, INTERVAL)
    assert [] == storage.asked
    for _ in range(3):
        syncer.wake()

    assert [(NAME, syncer.run)] == storage.asked


def test_it_ends_with_its_store():
    storage, store = NoThreads(), Store()
    syncer = Syncer(storage, store.sync_overdue, INTERVAL)
    del store
    gc.collect()
    syncer._calls.put(None)

    syncer.run()


def test_calls_that_came_together_are_one():
    store = Store(None, None)
    syncer = Syncer(NoThreads(), store.sync_overdue, INTERVAL)
    for _ in range(5):
        syncer.wake()

    assert syncer._wait(None)
    assert syncer._calls.empty()


class Counting(Store):
    """Overdue at once; says when it was looked at."""

    def __init__(self):
        super().__init__()
        self.looked = threading.Event()
        self.thread = None

    def sync_overdue(self):
        self.thread = threading.current_thread()
        self.looked.set()


def test_its_thread_is_real_and_keeps_no_process_alive():
    store = Counting()
    syncer = Syncer(OsStorage(), store.sync_overdue, INTERVAL)
    syncer.wake()
    assert store.looked.wait(60)

    assert (NAME, True) == (store.thread.name, store.thread.daemon)
    syncer.stop()
    store.thread.join(60)
    assert not store.thread.is_alive()


def test_a_system_without_threads_is_no_error(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert OsStorage().start_thread(NAME, lambda: None) is None
    syncer = Syncer(OsStorage(), Store().sync_overdue, INTERVAL)
    syncer.wake()
    syncer.stop_and_wait()


def test_who_waits_for_its_end_waits_for_the_sync_under_way():
    syncing, go_on = threading.Event(), threading.Event()

    class Slow:
        is_done = False

        def sync_overdue(self):
            syncing.set()
            go_on.wait()
            self.is_done = True

    store = Slow()
    syncer = Syncer(OsStorage(), store.sync_overdue, INTERVAL)
    syncer.wake()
    syncing.wait()
    stopper = threading.Thread(target=syncer.stop_and_wait)
    stopper.start()
    assert stopper.is_alive()
    go_on.set()
    stopper.join()
    assert store.is_done


def test_once_stopped_it_starts_no_thread():
    storage = NoThreads()
    syncer = Syncer(storage, Store().sync_overdue, INTERVAL)
    syncer.stop_and_wait()
    syncer.wake()
    assert [] == storage.asked
