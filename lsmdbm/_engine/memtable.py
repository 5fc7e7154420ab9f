"""Memtable: the newest writes, in memory, in a dict; sorted when somebody wants order.

Rules
  1. `entries` is the truth.  A key is never removed from it: a deletion is a value of None.  Only recovery
     removes some, before anybody reads.
  2. The order is a SortedList of the keys, brought up to date with the keys that are new since it was
     last asked for.  A dict keeps insertion order, so those are its last ones: a put pays nothing.
  3. A sealed memtable is never changed again.
  4. The order is taken away while it is brought up to date: interrupted, it is made anew, because half an
     update of a SortedList cannot be trusted.
  5. What is in `ranges` is void in everything older, and in nothing of this memtable.  They never change:
     a range deletion begins a new memtable.

Thread safety: the active memtable is written, and read in order, under the lock of the store; looking
up single keys in `entries` takes no lock.  A sealed one may be read by any thread, and by a signal
handler in the middle of another read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING

from lsmdbm._base.chunk import KEY_ONLY, MISSING, Chunk, Chunks, Missing
from lsmdbm._base.forking import importing
from lsmdbm._base.intervals import Intervals, gaps, holds, united

if TYPE_CHECKING:
    from sortedcontainers import SortedList

FIRST_PIECE, LARGEST_PIECE = 16, 512  # keys in a chunk: a single step stays cheap, a scan gets going


class Memtable:
    """Newest writes.

    Args:
        first_seq: sequence of the first write that will go in.
        entries: what it starts with; for folding, recovery and range deletions.
        ranges: see rule 5.
    """

    __slots__ = (
        "_lock",
        "_order",
        "change",
        "charge",
        "deletes",
        "entries",
        "first_seq",
        "last_seq",
        "ranges",
    )

    def __init__(
        self, first_seq: int, entries: dict[bytes, bytes | None] | None = None, ranges: Intervals = ()
    ) -> None:
        self.entries: dict[bytes, bytes | None] = {} if entries is None else entries
        self.ranges = ranges
        self.first_seq = first_seq
        self.last_seq = first_seq - 1  # set by seal()
        self.charge = 0  # bytes of log records, as far as they count against memtable_bytes
        self.change: int | None = None  # see count.py; set once it is sealed
        self.deletes = False  # whether any value may be None
        self._order: SortedList[bytes] | None = None
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing at all."""
        return not self.entries and not self.ranges

    @property
    def weight(self) -> int:
        """How much there is to fold."""
        return len(self.entries) + len(self.ranges)

    def update(self, keys: Iterable[bytes], values: Iterable[bytes | None]) -> None:
        """Take a batch; the caller sees to `deletes`."""
        self.entries.update(zip(keys, values, strict=False))

    def void(self, ranges: Intervals) -> None:
        """Take a range deletion, which comes after all that is here.  Only for recovery (rule 1)."""
        order, entries = self._sorted(), self.entries
        for start, stop in ranges:
            for key in list(order.irange(start, stop, (True, False))):
                del entries[key]
                order.remove(key)
        self.ranges = united(self.ranges, ranges)

    def forget(self) -> None:
        """Be as if nothing had gone in.  Only for recovery."""
        self.entries, self._order, self.ranges = {}, None, ()
        self.deletes, self.charge = False, 0

    def _sorted(self) -> SortedList[bytes]:
        with self._lock:
            entries = self.entries
            order, self._order = self._order, None  # rule 4
            if order is None:
                order = _in_order(entries)
            elif missing := len(entries) - len(order):
                order.update(islice(reversed(entries), missing))  # rule 2
            self._order = order
            return order

    def chunks(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        *,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> Chunks:
        """Yield the entries with `start <= key < stop`, tombstones too; last chunk first if `reverse`."""
        # Not by positions, as islice() goes: a SortedList finds those in an index that it has to keep.
        order = self._sorted().irange(start, stop, (True, False), reverse)
        piece = FIRST_PIECE
        while keys := list(islice(order, piece)):
            yield self._chunk(keys[::-1] if reverse else keys, keys_only)
            piece = min(2 * piece, LARGEST_PIECE)

    def _chunk(self, keys: list[bytes], keys_only: bool) -> Chunk:
        values = list(map(self.entries.__getitem__, keys))
        if keys_only:
            values = [None if value is None else KEY_ONLY for value in values]
        return keys, values

    def uncounted(self) -> Memtable:
        """Return this memtable, sealed, without its `change`: what is below it has changed.  O(1)."""
        same = Memtable(self.first_seq, self.entries, self.ranges)
        same.last_seq, same.charge, same.deletes = self.last_seq, self.charge, self.deletes
        return same

    def fold(self, older: Memtable) -> Memtable:
        """Return one sealed memtable that says what this one over `older` says.  O(n)."""
        below: dict[bytes, bytes | None] = older.entries
        order: Iterable[bytes] = older._sorted()
        if self.ranges:
            hidden = older._hidden_by(self.ranges)
            below = {key: value for key, value in below.items() if key not in hidden}
            order = [key for key in order if key in below]
        ranges = united(older.ranges, self.ranges)
        folded = Memtable(older.first_seq, {**below, **self.entries}, ranges)
        folded.last_seq = self.last_seq
        folded.charge = self.charge + older.charge
        if self.change is not None and older.change is not None:
            folded.change = self.change + older.change
        folded.deletes = self.deletes or older.deletes
        fresh = (key for key in self._sorted() if key not in below)
        folded._order = _in_order(chain(order, fresh))  # two sorted runs: timsort takes O(n)
        return folded

    def _hidden_by(self, ranges: Intervals) -> set[bytes]:
        order = self._sorted()
        return {key for start, stop in ranges for key in order.irange(start, stop, (True, False))}


@cache
def load_order() -> type[SortedList[bytes]]:
    """Import what keeps keys in order, and return it: who only looks up keys never needs it.

    Nothing can be imported while the interpreter ends: whoever may still write then calls this before.
    """
    with importing:
        from sortedcontainers import SortedList

    return SortedList


def _in_order(keys: Iterable[bytes]) -> SortedList[bytes]:
    return load_order()(keys)


def sources(
    memtables: Sequence[Memtable],
    start: bytes | None = None,
    stop: bytes | None = None,
    *,
    reverse: bool = False,
    keys_only: bool = False,
) -> tuple[list[Chunks], Intervals]:
    """Return what memtables, given newest first, hold of a range: a stream of chunks for each.

    And what is void of everything older than all of them.
    """
    void: Intervals = ()
    found = []
    for memtable in memtables:
        if memtable.entries:
            if void:
                parts = gaps(void, start, stop)
                found.append(_chunks_between(memtable, parts, reverse, keys_only))
            else:
                found.append(memtable.chunks(start, stop, reverse=reverse, keys_only=keys_only))
        if memtable.ranges:
            void = united(void, memtable.ranges)
    return found, void


def _chunks_between(
    memtable: Memtable, parts: Sequence[tuple[bytes, bytes | None]], reverse: bool, keys_only: bool
) -> Chunks:
    for start, stop in reversed(parts) if reverse else parts:
        yield from memtable.chunks(start, stop, reverse=reverse, keys_only=keys_only)


def find(memtables: Sequence[Memtable], key: bytes) -> bytes | None | Missing:
    """Return what memtables with ranges, given newest first, say of a key; MISSING if they say nothing."""
    for memtable in memtables:
        value = memtable.entries.get(key, MISSING)
        if value is not MISSING:
            return value
        if memtable.ranges and holds(memtable.ranges, key):
            return None
    return MISSING


def fold_newest(sealed: tuple[Memtable, ...], flushing: int) -> tuple[Memtable, ...]:
    """Fold neighbours of like size together, the newest first.

    Keeps a program that alternates one put and one scan at O(log n) memtables and O(log n) work a step:
    the logarithmic method of Bentley and Saxe (1980).  What is counted and what is not stay apart, so
    there are at most two such series; both are looked at, or one put and one len() at a time would pile
    up memtables behind the border.

    Args:
        sealed: newest first.
        flushing: how many of the oldest are being flushed and must stay as they are.
    """
    place = 0
    while place + 1 < len(sealed) - flushing:
        newer, older = sealed[place : place + 2]
        if (newer.change is None) == (older.change is None) and 2 * newer.weight >= older.weight:
            sealed = (*sealed[:place], newer.fold(older), *sealed[place + 2 :])
        else:
            place += 1
    return sealed
