"""Leftovers: what finalizers have to give back, and could not without waiting.

The garbage collector runs finalizers wherever it likes, in the middle of a write say, whose thread holds
locks.  Who waits for a lock there waits for a thread that may be waiting for one of these.

Rules
  1. A finalizer waits for no lock that is held for longer than a step: it takes those that are free
     (`taken`), or leaves its work.
  2. What is left is tried again by whoever comes by outside of all locks: who has opened or closed a
     database, who has left something, the thread of durability "interval".
  3. A closing is in the list before it is tried.  So whoever had the lock that it misses looks into the list
     later, when the lock is free: nothing is overlooked in between.
  4. No closing is tried in the middle of another one of the same thread; that one looks again at its end.

Thread safety: every function may be called from any thread, and from a finalizer in the middle of any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lsmdbm._base.ending import Lock, is_owned
from lsmdbm._base.errors import error

Closing = Callable[[], bool]

# In the order in which they came.  Each step on it is one C call that nothing comes in between, without a GIL
# either: a deque cannot be copied while another thread appends to it.
_left: dict[object, Closing] = {}
_trying: set[int] = set()  # the threads that are at it


def leave(closing: Closing) -> None:
    """Do something without waiting, now or later.

    Args:
        closing: waits for nothing, and may be called again; returns False if somebody was in the way.
            What it raises nobody is told; if it is no `error`, memory was short, say, it is called again.
    """
    _left[object()] = closing  # rule 3
    clear_up()


def clear_up() -> None:
    """Do what was left, as far as nobody is in the way."""
    thread = threading.get_ident()
    tried: set[object] = set()
    while _left and thread not in _trying:  # rule 4: a finalizer may leave something anywhere in here
        pending = [(token, closing) for token, closing in _left.copy().items() if token not in tried]
        if not pending:
            return
        _trying.add(thread)
        try:
            for token, closing in pending:
                tried.add(token)
                if _is_done(closing):
                    _left.pop(token, None)  # another thread may have been at the same one
        finally:
            _trying.discard(thread)


def _is_done(closing: Closing) -> bool:
    try:
        return closing()
    except error:  # a finalizer has nobody to tell
        return True
    except Exception:
        return False


def drop_all() -> None:
    """Forget what was left: this is the child of a fork, and it was the parent's."""
    _trying.clear()
    _left.clear()


@contextmanager
def taken(*locks: Lock) -> Iterator[bool]:
    """Take locks for a `with` if they are free, of this thread as well; it is given whether they were."""
    if any(map(is_owned, locks)):
        yield False
        return
    try:
        yield all(lock.acquire(blocking=False) for lock in locks)
    finally:
        for lock in locks:
            if is_owned(lock):  # however far it came: an interruption may have come right behind a lock
                lock.release()
