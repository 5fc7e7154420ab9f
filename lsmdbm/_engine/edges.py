"""Edges: between which keys everything live stands.

A queue takes its entries from one end, and a stack from the other; what was taken leaves tombstones there
until a compaction drops them.  Whoever has walked over them once tells it here, and nobody does again.

Rules
  1. No key below `low` is live, and none at or above `high`.
  2. A write widens the edges before anything is written; a read narrows them by what it has seen.

Thread safety: under the lock of the store.  Over a view that never changes, a reader's, by any thread:
whatever another thread has learned meanwhile is true as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from lsmdbm._base.chunk import MAX_KEY_BYTES
from lsmdbm._engine.view import View

ABOVE_ALL = b"\xff" * (MAX_KEY_BYTES + 1)  # greater than every key


class Edges:
    """The smallest and the largest key that may be live.  Nothing is known at first."""

    __slots__ = ("high", "low")

    def __init__(self) -> None:
        self.low = b""
        self.high = ABOVE_ALL

    def widen(self, smallest: bytes, largest: bytes) -> None:
        """Say that keys between these two will be written."""
        if smallest < self.low:
            self.low = smallest
        if largest >= self.high:
            self.high = largest + b"\0"

    def widen_all(self, keys: Sequence[bytes]) -> None:
        """Say that these keys will be written."""
        if self.low or self.high is not ABOVE_ALL:
            self.widen(min(keys), max(keys))

    def narrowed(self, start: bytes | None, stop: bytes | None) -> tuple[bytes | None, bytes | None]:
        """Return the part of a range in which there may be live keys; its bounds may be equal or cross."""
        if self.low and (start is None or start < self.low):
            start = self.low
        if self.high is not ABOVE_ALL and (stop is None or stop > self.high):
            stop = self.high
        return start, stop

    def learn_first(self, start: bytes | None, stop: bytes | None, found: bytes | None) -> None:
        """Take note of the smallest live key of a range, None if there is none."""
        if start is None or start <= self.low:
            low = found if found is not None else ABOVE_ALL if stop is None or stop >= self.high else stop
            self.low = max(low, self.low)

    def learn_last(self, start: bytes | None, stop: bytes | None, found: bytes | None) -> None:
        """Take note of the largest live key of a range, None if there is none."""
        if stop is None or stop >= self.high:
            high = found + b"\0" if found is not None else start or b""
            self.high = min(high, self.high)


def first_within(
    edges: Edges,
    view: View,
    start: bytes | None = None,
    stop: bytes | None = None,
    *,
    reverse: bool = False,
    keys_only: bool = False,
) -> tuple[bytes, bytes] | None:
    """Return the first live entry of a range, the last one if `reverse`, and let `edges` learn from it."""
    low, high = edges.narrowed(start, stop)
    found = view.first(low, high, reverse=reverse, keys_only=keys_only)
    learn = edges.learn_last if reverse else edges.learn_first
    learn(low, high, None if found is None else found[0])
    return found
