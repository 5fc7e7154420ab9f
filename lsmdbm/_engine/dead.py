"""Dead ranges: parts of the key space that are known to hold no live key.

A queue takes its entries from one end, a stack from the other, and several queues in one database each from
the front of their prefix; what was taken leaves tombstones there until a compaction drops them.  A read that
has walked over many of them enters the range here, and no later one walks there again.

Rules
  1. No live key is in a dead range.  A write takes its key out of them before anything is written.
  2. Ranges are half open, sorted, and do not touch: those that do become one.
  3. A walk over LONG_WALK tombstones or more is remembered, and a shorter one if it goes on from a dead
     range; of the ranges, the MAX_RANGES longest.  The list stays short; who meets nothing dead pays nothing.
  4. An exception from outside may come between any two steps: what is held changes in one of them, and
     `low` and `high` enclose too much meanwhile.

Thread safety: under the lock of its owner.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from operator import itemgetter

from lsmdbm._base.chunk import Chunks
from lsmdbm._base.intervals import ABOVE_ALL
from lsmdbm._engine.view import View

Held = tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[int, ...]]  # lows, highs, tombstones met in each

LONG_WALK = 32  # tombstones: to walk over fewer costs less than to remember them
MAX_RANGES = 64

_walk = itemgetter(2)


class DeadRanges:
    """What is known to be dead.  `low` and `high` enclose all of it: a key outside needs no `revive`."""

    __slots__ = ("_held", "high", "low")

    def __init__(self) -> None:
        self._held: Held = ((), (), ())
        self.low, self.high = ABOVE_ALL, b""

    def __len__(self) -> int:
        return len(self._lows)

    @property
    def _lows(self) -> tuple[bytes, ...]:
        return self._held[0]

    @property
    def _highs(self) -> tuple[bytes, ...]:
        return self._held[1]

    @property
    def _walks(self) -> tuple[int, ...]:
        return self._held[2]

    def _replace(self, first: int, stop: int, ranges: list[tuple[bytes, bytes, int]]) -> None:
        held = [*zip(*self._held, strict=True)]
        held[first:stop] = ranges
        if len(held) > MAX_RANGES:  # rule 3
            held.remove(min(held, key=_walk))
        self.low, self.high = b"", ABOVE_ALL  # rule 4
        if held:
            lows, highs, walks = zip(*held, strict=True)
            self._held = lows, highs, walks
            self.low, self.high = lows[0], highs[-1]
        else:
            self._held = ((), (), ())
            self.low, self.high = ABOVE_ALL, b""

    def revive(self, key: bytes) -> None:
        """Say that a key will be written."""
        index = bisect_right(self._lows, key) - 1
        if index < 0 or key >= self._highs[index]:
            return
        low, high, walk = self._lows[index], self._highs[index], self._walks[index]
        above = key + b"\0"
        parts = [(low, key, walk)] if low < key else []
        parts += [(above, high, walk)] if above < high else []
        self._replace(index, index + 1, parts)

    def revive_all(self, keys: Iterable[bytes]) -> None:
        """Say that these keys will be written."""
        if self._held[0]:
            for key in keys:
                if self.low <= key < self.high:
                    self.revive(key)

    def add(self, low: bytes, high: bytes, walk: int) -> None:
        """Say that no key with `low <= key < high` is live, as a walk over so many tombstones has shown."""
        first, stop = bisect_left(self._highs, low), bisect_right(self._lows, high)
        if first < stop:  # rule 2
            low, high = min(low, self._lows[first]), max(high, self._highs[stop - 1])
            walk += sum(self._walks[first:stop])
        self._replace(first, stop, [(low, high, walk)])

    def above(self, key: bytes) -> tuple[bytes, bytes]:
        """Return the smallest key not below `key` that may be live, and where the next dead range begins."""
        index = bisect_right(self._lows, key)
        if index and key < self._highs[index - 1]:
            key = self._highs[index - 1]
        return key, self._lows[index] if index < len(self._lows) else ABOVE_ALL

    def below(self, bound: bytes) -> tuple[bytes, bytes]:
        """Return the smallest bound above what may be live below `bound`, and where dead keys end then."""
        index = bisect_left(self._lows, bound)
        if index and bound <= self._highs[index - 1]:
            index -= 1
            bound = self._lows[index]
        return bound, self._highs[index - 1] if index else b""

    def first(
        self,
        view: View,
        start: bytes | None = None,
        stop: bytes | None = None,
        *,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> tuple[bytes, bytes] | None:
        """Return the first live entry of a range, the last one if `reverse`; remember a long walk to it."""
        low, high = start or b"", ABOVE_ALL if stop is None else stop
        walked, found = 0, None
        while found is None and low < high:
            if reverse:
                high, dead_to = self.below(high)
                found, dead = view.first(max(low, dead_to), high, reverse=True, keys_only=keys_only)
                high = dead_to
            else:
                low, dead_from = self.above(low)
                found, dead = view.first(low, min(high, dead_from), keys_only=keys_only)
                low = dead_from
            walked += dead
        self.note(start, stop, None if found is None else found[0], walked, reverse=reverse)
        return found

    def note(
        self, start: bytes | None, stop: bytes | None, found: bytes | None, walked: int, *, reverse: bool
    ) -> None:
        """Remember how far the first live key of a range, the last one if `reverse`, is from its end."""
        low, high = start or b"", ABOVE_ALL if stop is None else stop
        goes_on = walked and (self.below(high)[0] < high if reverse else self.above(low)[0] > low)
        if walked < LONG_WALK and not goes_on:  # rule 3
            return
        if found is not None:
            low, high = (found + b"\0", high) if reverse else (low, found)
        self.add(low, high, walked)

    def narrowed(self, start: bytes | None, stop: bytes | None) -> tuple[bytes | None, bytes | None]:
        """Return a range without what is known to be dead at its ends; the bounds may be equal or cross."""
        if self._lows:
            start, stop = self.above(start or b"")[0], self.below(ABOVE_ALL if stop is None else stop)[0]
        return start, stop


def watched(chunks: Chunks, reverse: bool, walk: Callable[[bytes | None, int], None]) -> Chunks:
    """Pass chunks on; if many tombstones come first, say what live key follows, and how many they were."""
    walked = 0
    for keys, values in chunks:
        dead = values.count(None)
        if dead < len(values):
            order = range(len(values) - 1, -1, -1) if reverse else range(len(values))
            first = next(index for index in order if values[index] is not None)
            walked += len(values) - 1 - first if reverse else first
            if walked >= LONG_WALK:
                walk(keys[first], walked)
            yield keys, values
            yield from chunks
            return
        walked += dead
    if walked >= LONG_WALK:
        walk(None, walked)
