"""Ending: what becomes of locks when the interpreter ends.

CPython stops daemon threads wherever they are, with the locks they hold, and goes on to run finalizers and
suspended generators, some of which close a database.  Waiting for such a lock would be waiting for ever.

Thread safety: every function may be called from any thread.
"""

from __future__ import annotations

import atexit
import errno
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from lsmdbm._base.errors import FailedError


class Lock(Protocol):
    """A `threading.RLock` or an EndingLock."""

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock if there is no need to wait, or if `blocking`; return whether it was taken."""

    def release(self) -> None:
        """Give it back."""

    def __enter__(self) -> object:
        """Take it."""

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Give it back."""


class EndingLock:
    """Another lock, for which nobody waits in vain once all threads but one are stopped.

    Not used from the start: taking a lock in Python costs ten times what it costs in C.

    Args:
        lock: may be held at this moment.
    """

    __slots__ = ("_is_owned", "_lock", "release")

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self.release = lock.release
        self._is_owned: Callable[[], bool] = owner_test(lock)

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock; see Lock.

        Raises:
            FailedError: a thread that was stopped holds it.
        """
        if self._lock.acquire(blocking and not sys.is_finalizing()):
            return True
        if blocking:
            raise FailedError(errno.EDEADLK, "in use by a thread that was stopped at the end of the program")
        return False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def owner_test(lock: Lock) -> Callable[[], bool]:
    """Return what tells whether the calling thread holds a lock."""
    found: Callable[[], bool] = getattr(lock, "_is_owned")  # noqa: B009 - not in the stubs
    return found


def is_owned(lock: Lock) -> bool:
    """Return whether the calling thread holds a lock."""
    return owner_test(lock)()


def on_exit(callback: Callable[[], None]) -> None:
    """Have `callback` called when the program is over, while every thread still runs.

    Callbacks registered later are called earlier: those of a user may still write.
    """
    atexit.register(callback)
