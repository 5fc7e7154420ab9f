"""Moment: a view that somebody keeps, and all that can be read of it.  What a snapshot and a reader stand on.

Rules
  1. What it says never changes: it pins a view whose memtables are sealed and whose tables stay on disk.
  2. Once it is closed, or its store is, it answers ClosedError to everything.
  3. A long walk over tombstones is remembered (dead.py), and so is the number of keys.

Thread safety: every method may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from lsmdbm._base.chunk import Chunks
from lsmdbm._base.errors import ClosedError
from lsmdbm._engine.count import census
from lsmdbm._engine.dead import DeadRanges, watched
from lsmdbm._engine.merge import visible
from lsmdbm._engine.view import GoneView, View


def _nothing() -> None:
    """Do nothing."""


class Moment:
    """One state of a store, for as long as it is kept.

    Args:
        view: nothing changes it any more.
        after_close: called when the view was let go of: its tables may be needed by nobody.
    """

    __slots__ = (
        "__weakref__",
        "_after_close",
        "_dead",
        "_is_closed",
        "_length",
        "_lock",
        "_why_closed",
        "view",
    )

    def __init__(self, view: View, after_close: Callable[[], None] = _nothing) -> None:
        self.view = view
        self._after_close = after_close
        self._dead = DeadRanges()
        self._length: int | None = None
        self._is_closed = False
        self._why_closed: tuple[str, ...] = ()
        self._lock = threading.RLock()

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be read any more."""
        return self._is_closed

    def check_open(self) -> None:
        """Raise ClosedError if nothing can be read any more."""
        if self._is_closed:
            raise ClosedError(*self._why_closed)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, None if there is none."""
        return self.view.get(key)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of those keys that have one."""
        view = self.view
        return view.get_many(keys, view.recent(keys))

    def chunks(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> Chunks:
        """Return the entries with `start <= key < stop` as a stream of chunks."""
        self.check_open()
        view, dead = self.view, self._dead
        with self._lock:
            low, high = dead.narrowed(start, stop)

        def remember(found: bytes | None, walked: int) -> None:
            with self._lock:
                dead.note(start, stop, found, walked, reverse=reverse)

        merged = view.merged(low, high, reverse=reverse, keys_only=keys_only)
        return visible(watched(merged, reverse, remember)) if view.may_delete() else merged

    def first(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> tuple[bytes, bytes] | None:
        """Return the first entry of a range, the last one if `reverse`; None if there is none."""
        self.check_open()
        with self._lock:
            return self._dead.first(self.view, start, stop, reverse=reverse, keys_only=keys_only)

    def length(self) -> int:
        """Return the exact number of keys, which is counted once."""
        self.check_open()
        with self._lock:  # of two threads that ask at once, one counts
            if self._length is None:
                view = self.view
                view.table_keys, self._length = census(view)  # a memo: it was true all along
            return self._length

    def close(self, *why: str) -> None:
        """Let go of the view.  Twice is fine.

        Args:
            why: the text of the ClosedError that every read gets from now on.
        """
        if not self._is_closed:
            self._why_closed = why
            self._is_closed = True
        self.view = cast(View, GoneView(*self._why_closed))
        self._after_close()


def still_open(moments: Iterable[Moment]) -> int:
    """Return how many of these moments are open."""
    return sum(not moment.is_closed for moment in list(moments))
