"""Validation: whether what somebody has read of one view is still so in a later one.

    Reads       takes note of what is read: keys that are looked up, ranges that are walked over
    Footprint   all of that, and the keys that were written
    conflict    a key of a footprint of which two views say different things; None if there is none
    valid_view  the footprint held against views of now, until what is left to compare is little

Rules
  1. What counts is what a view answers, not who wrote it: a value that was written again, or changed and
     changed back, is the same.
  2. Only what was seen counts: of a walk that was broken off, the part up to the last key that came out; of
     a walk over keys alone, the keys.
  3. If all that is later than the first view is in memtables, only their keys are looked at.  Else all of the
     footprint is compared, ranges as two streams.

Thread safety: a `Reads` is used by one thread at a time; walks may end in any.  The rest is pure functions;
who gives them an active memtable holds the lock of the store.

Source: backward validation, Haerder (1984), but by values: the store keeps no history of its writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from lsmdbm._base.chunk import Chunk, Chunks
from lsmdbm._base.errors import ConflictError
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.view import View

QUICK_LOOKS = 1000  # to look at so many keys does not keep other threads waiting
ROUNDS = 3  # that a commit validates without the lock while much is written; then it keeps others out
SHOWN_BYTES = 80  # of a key that is named in an error
NOTHING: Chunk = ([], [])


class Walked(NamedTuple):
    """A range that was read: all keys with `start <= key < stop`; None leaves that side open."""

    start: bytes | None
    stop: bytes | None
    keys_only: bool  # whether their values do not matter

    def is_empty(self) -> bool:
        """Return whether there can be no key in it."""
        return self.start is not None and self.stop is not None and self.start >= self.stop


class Footprint(NamedTuple):
    """What has to be the same."""

    keys: set[bytes]
    walked: list[Walked]


def _no_more() -> int:
    return 0


class _Seen:
    """How much of a range has been seen."""

    __slots__ = ("edge", "is_over", "keys", "left", "reverse", "whole")

    def __init__(self, whole: Walked, reverse: bool) -> None:
        self.whole = whole
        self.reverse = reverse
        self.edge: bytes | None = None  # the last key of the chunks before the current one
        self.keys: list[bytes] = []  # of the current chunk
        self.left: Callable[[], int] = _no_more  # how many of these have not come out yet
        self.is_over = False

    def move_on(self, keys: list[bytes]) -> None:
        if self.keys:
            self.edge = self.keys[0] if self.reverse else self.keys[-1]
        self.keys = keys

    def part(self) -> Walked | None:
        """Return the part that was seen, None if nothing was (rule 2)."""
        whole = self.whole
        if self.is_over:
            return whole
        left, edge = self.left(), self.edge
        if left < len(self.keys):
            edge = self.keys[left] if self.reverse else self.keys[-1 - left]
        if edge is None:
            return None
        if self.reverse:
            return Walked(edge, whole.stop, whole.keys_only)
        return Walked(whole.start, edge + b"\0", whole.keys_only)


class Reads:
    """What was read so far."""

    __slots__ = ("_walked", "_under_way", "keys")

    def __init__(self) -> None:
        self.keys: set[bytes] = set()
        self._walked: list[Walked] = []
        self._under_way: set[_Seen] = set()

    def walk(
        self, chunks: Chunks, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool
    ) -> Walk:
        """Return a stream of the entries of a range that takes note of how far it is read."""
        seen = _Seen(Walked(start, stop, keys_only), reverse)
        self._under_way.add(seen)
        return Walk(self, chunks, seen)

    def end_of(
        self, start: bytes | None, stop: bytes | None, found: bytes | None, *, reverse: bool, keys_only: bool
    ) -> None:
        """Take note that a key is the first of a range, the last if `reverse`; None: there is none."""
        seen = _Seen(Walked(start, stop, keys_only), reverse)
        seen.edge, seen.is_over = found, found is None
        self._settle(seen)

    def _settle(self, seen: _Seen) -> None:
        """Take note that no more of a walk will be seen."""
        part = seen.part()
        if part is not None and not part.is_empty():
            self._walked.append(part)
        self._under_way.discard(seen)

    def footprint(self, written: Iterable[bytes]) -> Footprint:
        """Return all of it, with some keys that were written."""
        parts = [*self._walked, *(part for seen in list(self._under_way) if (part := seen.part()))]
        return Footprint(self.keys.union(written), joined(parts))


class Walk(Iterator[Chunk]):
    """A stream of chunks; see `Reads.walk`."""

    __slots__ = ("_chunks", "_reads", "_seen")

    def __init__(self, reads: Reads, chunks: Chunks, seen: _Seen) -> None:
        self._reads = reads
        self._chunks = chunks
        self._seen = seen

    def __next__(self) -> Chunk:
        chunk = next(self._chunks, None)
        if chunk is None:
            self._seen.is_over = True
            raise StopIteration
        self._seen.move_on(chunk[0])
        return chunk

    def watch(self, left: Callable[[], int]) -> None:
        """Have it ask how many keys of the current chunk have not come out: else all of them count."""
        self._seen.left = left

    def __del__(self) -> None:
        self._reads._settle(self._seen)


def joined(parts: Iterable[Walked]) -> list[Walked]:
    """Return ranges that cover the same, without overlaps among those of one kind."""
    found: list[Walked] = []
    for each in sorted(parts, key=lambda each: (each.keys_only, each.start or b"")):
        last = found[-1] if found else None
        if last is None or last.keys_only != each.keys_only or _is_below(last.stop, each.start):
            found.append(each)
        elif last.stop is not None and (each.stop is None or each.stop > last.stop):
            found[-1] = Walked(last.start, each.stop, last.keys_only)
    return found


def _is_below(stop: bytes | None, start: bytes | None) -> bool:
    return stop is not None and start is not None and stop < start


def is_quick(footprint: Footprint, then: View, now: View) -> bool:
    """Return whether `conflict` looks at no more than some QUICK_LOOKS keys."""
    newer = _newer(then, now)
    if newer is None:
        return not footprint.walked and len(footprint.keys) <= QUICK_LOOKS
    written = sum(map(len, newer))
    return written <= QUICK_LOOKS or (not footprint.walked and len(footprint.keys) <= QUICK_LOOKS)


def conflict(footprint: Footprint, then: View, now: View) -> bytes | None:
    """Return a key of which the views say different things, None if they agree on all of a footprint.

    Args:
        then: nothing changes it any more.
        now: the same, or a later one.
    """
    newer = _newer(then, now)
    if newer is None:
        found = _differing(footprint.keys, then, now)  # not by its truth: b"" is a key
        return _first_difference_within(footprint, then, now) if found is None else found
    for memtable in newer:
        written = memtable.entries
        found = _differing((key for key in footprint.keys if key in written), then, now)
        if found is None:
            found = _differing_within(footprint, memtable, then, now)
        if found is not None:
            return found
    return None


def check_conflict(footprint: Footprint, then: View, now: View) -> None:
    """Raise ConflictError if the views say different things of something in a footprint."""
    key = conflict(footprint, then, now)
    if key is not None:
        shown = key[:SHOWN_BYTES] + b"..." if len(key) > SHOWN_BYTES else key
        raise ConflictError(f"{shown!r} was changed after the transaction had begun")


def valid_view(
    footprint: Footprint, then: View, current: Callable[[], View], pin: Callable[[], View]
) -> View:
    """Return a view that agrees with an older one, if can be so new that the rest is quick.

    Comparing long ranges would keep other threads waiting if it were done under the lock.

    Raises:
        ConflictError: a later view does not agree.
    """
    for _ in range(ROUNDS):
        if is_quick(footprint, then, current()):
            break
        now = pin()
        check_conflict(footprint, then, now)
        then = now
    return then


def _newer(then: View, now: View) -> list[Memtable] | None:
    """Return memtables with every key that `now` may answer otherwise; None if they do not hold all (rule 3).

    One that is folded together with what is older holds other keys as well.
    """
    seq = then.active.first_seq
    if now.flushed_seq >= seq or now.version.drops != then.version.drops:
        return None
    newer = [now.active, *(memtable for memtable in now.sealed if memtable.last_seq >= seq)]
    # What range deletions made void is not among the keys of a memtable.
    return None if any(memtable.ranges for memtable in newer) else newer


def _differing(keys: Iterable[bytes], then: View, now: View) -> bytes | None:
    return next((key for key in keys if then.get(key) != now.get(key)), None)


def _differing_within(footprint: Footprint, memtable: Memtable, then: View, now: View) -> bytes | None:
    for each in footprint.walked:
        for keys, _ in memtable.chunks(each.start, each.stop, keys_only=True):
            if each.keys_only:
                found = next((key for key in keys if (then.get(key) is None) != (now.get(key) is None)), None)
            else:
                found = _differing(keys, then, now)
            if found is not None:
                return found
    return None


def _first_difference_within(footprint: Footprint, then: View, now: View) -> bytes | None:
    for each in footprint.walked:
        before = then.chunks(each.start, each.stop, keys_only=each.keys_only)
        after = now.chunks(each.start, each.stop, keys_only=each.keys_only)
        found = first_difference(before, after)
        if found is not None:
            return found
    return None


def first_difference(left: Chunks, right: Chunks) -> bytes | None:
    """Return the smallest key that two streams, neither of them reverse, do not have in common."""
    (ours, our_values), (theirs, their_values) = next(left, NOTHING), next(right, NOTHING)
    while ours and theirs:
        length = min(len(ours), len(theirs))
        if ours[:length] != theirs[:length] or our_values[:length] != their_values[:length]:
            pairs = zip(
                zip(ours, our_values, strict=True), zip(theirs, their_values, strict=True), strict=False
            )
            return next(min(mine[0], other[0]) for mine, other in pairs if mine != other)
        ours, our_values = (ours[length:], our_values[length:]) if length < len(ours) else next(left, NOTHING)
        theirs, their_values = (
            (theirs[length:], their_values[length:]) if length < len(theirs) else next(right, NOTHING)
        )
    return next(iter(ours or theirs), None)
