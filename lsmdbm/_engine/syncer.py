"""Syncer: the thread that makes the last writes of durability "interval" durable when no more writes come.

Writers look at the clock themselves.  What is left is an interval that has to end without a write; at every
other level no thread is ever started.

Rules
  1. It is started by the first write, sleeps while nothing waits to be synced, and ends with its store.
  2. It keeps the store alive only while it syncs.
  3. A write wakes it before it starts the interval: interrupted in between, the next write does it again.
  4. Where no thread can be started, the clock is looked at by writes alone.
  5. It is not there any more when the interpreter stops its threads: it would take the locks along.

Thread safety: `wake` and `stop` may be called from any thread, and from a signal handler or finalizer in the
middle of another call: that is what a SimpleQueue allows and an Event does not.
"""

from __future__ import annotations

import queue
import weakref
from collections.abc import Callable

from lsmdbm._base.errors import error
from lsmdbm._base.leftovers import clear_up
from lsmdbm._base.storage import Storage

NAME = "lsmdbm-syncer"


class Syncer:
    """Calls a method of a store when an interval is over.

    Args:
        storage: starts the thread.
        sync_overdue: a bound method; syncs what has waited for an interval, and returns the seconds until
            the next interval ends, None if nothing waits.

    Attributes:
        interval: seconds.
    """

    def __init__(self, storage: Storage, sync_overdue: Callable[[], float | None], interval: float) -> None:
        self.interval = interval
        self._storage = storage
        self._sync_overdue = weakref.WeakMethod(sync_overdue)  # rule 2
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_started = self._is_stopped = False
        self._join: Callable[[], None] | None = None

    def wake(self) -> None:
        """Say that an interval is about to begin."""
        if not self._is_started:
            self._is_started = True
            self._join = self._storage.start_thread(NAME, self.run)  # rule 4
        self._calls.put(None)

    def stop(self) -> None:
        """End the thread, soon; there will be no other."""
        self._is_started = self._is_stopped = True
        self._calls.put(None)

    def stop_and_wait(self) -> None:
        """End the thread now, at most one sync later."""
        self.stop()
        if self._join is not None:
            self._join()

    def run(self) -> None:
        """Be the thread."""
        timeout: float | None = None
        while True:
            is_called = self._wait(timeout)
            sync_overdue = self._sync_overdue()
            if sync_overdue is None or self._is_stopped:
                return
            try:
                timeout = sync_overdue()
            except error:  # the store remembers it, and tells those who write
                timeout = None
            if timeout is None and is_called:
                timeout = self.interval  # rule 3: the write may not have come to it yet
            del sync_overdue
            clear_up()  # a finalizer may have been in the way of a sync

    def _wait(self, timeout: float | None) -> bool:
        """Sleep until the next call or for so many seconds; return whether there was a call."""
        try:
            self._calls.get(timeout=timeout)
        except queue.Empty:
            return False
        while not self._calls.empty():
            self._calls.get()
        return True
