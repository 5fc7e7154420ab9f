"""Intervals: sets of keys, each given by where it begins and where it ends.  What a range deletion deletes.

    Interval  = (start, stop)     start <= key < stop
    Intervals = a tuple of those

Rules
  1. No interval is empty.  They are ascending and do not touch: those that would are one.
  2. Both bounds are bytes.  What goes on to the end of all keys stops at ABOVE_ALL.

Thread safety: pure functions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import itemgetter

from lsmdbm._base.chunk import MAX_KEY_BYTES, Chunk, Chunks, bounds

Interval = tuple[bytes, bytes]
Intervals = tuple[Interval, ...]

MAX_BOUND_BYTES = MAX_KEY_BYTES + 1  # what stands behind these decides nothing: no key is as long
ABOVE_ALL = b"\xff" * MAX_BOUND_BYTES  # greater than every key

_start, _stop = itemgetter(0), itemgetter(1)


def interval(start: bytes | None, stop: bytes | None) -> Intervals:
    """Return the keys from `start`, which is in, to `stop`, which is out; () if that is none.

    `None` leaves that side open.
    """
    low = (start or b"")[:MAX_BOUND_BYTES]
    high = (ABOVE_ALL if stop is None else stop)[:MAX_BOUND_BYTES]
    return ((low, high),) if low < high else ()


def united(one: Intervals, other: Intervals) -> Intervals:
    """Return what is in one of two, or in both.

    >>> united(((b"a", b"c"), (b"x", b"y")), ((b"c", b"d"), (b"b", b"c"), (b"z", b"zz")))
    ((b'a', b'd'), (b'x', b'y'), (b'z', b'zz'))
    """
    for start, stop in other:
        first, behind = bisect_left(one, start, key=_stop), bisect_right(one, stop, key=_start)
        if first < behind:  # rule 1
            start, stop = min(start, one[first][0]), max(stop, one[behind - 1][1])
        one = (*one[:first], (start, stop), *one[behind:])
    return one


def inside(intervals: Intervals, start: bytes, stop: bytes) -> Intervals:
    """Return what of the intervals is in `start <= key < stop`.  O(log n), and their number."""
    first, behind = bisect_right(intervals, start, key=_stop), bisect_left(intervals, stop, key=_start)
    return tuple((max(low, start), min(high, stop)) for low, high in intervals[first:behind])


def gaps(intervals: Intervals, start: bytes | None, stop: bytes | None) -> list[tuple[bytes, bytes | None]]:
    """Return the parts of `start <= key < stop` that are in none of the intervals; a stop may be None.

    >>> gaps(((b"b", b"c"), (b"d", b"e")), b"a", None)
    [(b'a', b'b'), (b'c', b'd'), (b'e', None)]
    """
    found: list[tuple[bytes, bytes | None]] = []
    low, end = start or b"", ABOVE_ALL if stop is None else stop
    for first, behind in inside(intervals, low, end):
        if low < first:
            found.append((low, first))
        low = behind
    return [*found, (low, stop)] if low < end else found


def without(intervals: Intervals, other: Intervals) -> Intervals:
    """Return what is in the first and not in the second."""
    return tuple(
        (low, ABOVE_ALL if high is None else high)
        for start, stop in intervals
        for low, high in gaps(other, start, stop)
    )


def holds(intervals: Intervals, key: bytes) -> bool:
    """Return whether a key is in one of the intervals.  O(log n)."""
    return holds_all(intervals, key, key)


def holds_all(intervals: Intervals, smallest: bytes, largest: bytes) -> bool:
    """Return whether all keys with `smallest <= key <= largest` are in one of the intervals.  O(log n)."""
    place = bisect_right(intervals, smallest, key=_start) - 1
    return place >= 0 and largest < intervals[place][1]


def spared(chunk: Chunk, intervals: Intervals) -> Chunk:
    """Return what of a chunk is in none of the intervals; the chunk itself if that is all of it."""
    keys, values = chunk
    if not keys or not inside(intervals, keys[0], keys[-1] + b"\0"):
        return chunk
    kept: Chunk = [], []
    for start, stop in gaps(intervals, keys[0], None):
        low, high = bounds(keys, start, stop)
        kept[0].extend(keys[low:high])
        kept[1].extend(values[low:high])
    return kept


def spared_chunks(chunks: Chunks, intervals: Intervals) -> Iterator[Chunk]:
    """Do so with a stream of chunks; those of which nothing is left are left out."""
    for chunk in chunks:
        rest = spared(chunk, intervals)
        if rest[0]:
            yield rest
