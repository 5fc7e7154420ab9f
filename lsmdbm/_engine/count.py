"""Exact len() without a scan per call and without a read per write.

Rules
  1. `Memtable.change` is by how many live keys a sealed memtable changes what is older than it; None
     before somebody asked.  What is older never changes its content, so it holds for ever.
  2. `View.table_keys` is the number of live keys in the tables alone, None while it is not known.  It goes
     into every manifest.  With it, the length is a sum over the memtables.
  3. What is not known is found out when it is asked for: by one look below for each key, or by a key-only
     scan where that is cheaper.
  4. A flush of memtables whose change is not known would lose `table_keys`.  It looks the keys up first,
     in its slices, until that has cost as much as the scan it saves: whoever asks again and again never
     waits for a scan, and whoever asked once pays at most for one more.  Where nobody ever asked, no key is
     looked up.

Thread safety: `census` may be called by any thread, on its own view; `Count` under the lock of the store.
Source: rule 4 is the rule for renting or buying skis; Karlin, Manasse, Rudolph and Sleator (1988).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lsmdbm._base.errors import error
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.view import View
from lsmdbm._format.coding import MAX_NUMBER
from lsmdbm._format.manifest import TableMeta

LOOKUP_COST = 8  # a look below costs about as much as scanning this many keys,
LOOKUP_ENTRIES = 4  # or as flushing this many entries
FIRST_LOOKS = 256  # keys that an opening looks up in flushes though it was not asked, if another one was: a
# program that opens the database anew for every write flushes a handful of them now and then


class Survey(NamedTuple):
    """Looks below the keys of a flush, to be done before it; each step yields what it is worth in bytes."""

    worth_bytes: int
    steps: Iterator[int]


class Count:
    """How much keeping the number of keys may cost.

    Args:
        table_keys: what the manifest says, None if it does not know.
    """

    __slots__ = ("_looks",)

    def __init__(self, table_keys: int | None) -> None:
        # A database begins with a known number, 0; a larger one is known because somebody asked.
        self._looks = min(FIRST_LOOKS, (table_keys or 0) // LOOKUP_COST)

    def asked(self, total: int) -> None:
        """Take note that somebody wanted to know, and what the answer was."""
        self._looks = total // LOOKUP_COST

    def survey(self, view: View) -> Survey | None:
        """Return what keeps the number through a flush of all memtables; None if it is not worth that."""
        fresh = [memtable for memtable in view.sealed if memtable.change is None]
        keys = sum(map(len, fresh))
        if view.table_keys is None or not 0 < keys <= self._looks:
            return None
        if any(memtable.ranges for memtable in fresh):
            return None  # how many keys they have deleted takes more than looks
        self._looks -= keys
        worth = [_look_worth(memtable) * len(memtable) for memtable in fresh]
        return Survey(sum(worth), _survey(view))


def after_flush(view: View, flushed: tuple[Memtable, ...]) -> int | None:
    """Return `table_keys` of a view once these memtables, its oldest ones, are in tables."""
    total = view.table_keys
    for memtable in flushed:
        if total is None or memtable.change is None:
            return None
        total += memtable.change
    return total


def after_ingest(view: View, metas: list[TableMeta]) -> int | None:
    """Return `table_keys` of a view of tables alone with these on top; None if that takes a count."""
    if view.table_keys is None or any(
        meta.tombstones or view.version.overlaps_below(-1, meta.smallest, meta.largest) for meta in metas
    ):
        return None
    return view.table_keys + sum(meta.entries for meta in metas)


def census(view: View) -> tuple[int, int]:
    """Return the number of live keys in the tables of a view alone, and in tables and sealed memtables.

    Reads what is not known yet, and leaves it in the memtables: asked again, it is a sum.
    """
    table_keys = view.table_keys
    if table_keys is None:
        table_keys = _scan(view.below(len(view.sealed)))
    total = table_keys
    for depth in reversed(range(len(view.sealed))):  # oldest first
        memtable = view.sealed[depth]
        if memtable.change is None:
            memtable.change = _change(view, depth, total)
        total += memtable.change
    if total > MAX_NUMBER:  # len() could not return it
        raise error(f"{total} keys: the number that the manifest has is wrong")
    return table_keys, total


def _scan(view: View, start: bytes | None = None, stop: bytes | None = None) -> int:
    return sum(len(keys) for keys, _ in view.chunks(start, stop, keys_only=True))


def _change(view: View, depth: int, below: int) -> int:
    """Return the change of one memtable, with so many live keys below it."""
    memtable = view.sealed[depth]
    if LOOKUP_COST * len(memtable) > below:
        return _scan(view.below(depth)) - below
    older, gone = view.below(depth + 1), 0
    if memtable.ranges:
        gone = sum(_scan(older, start, stop) for start, stop in memtable.ranges)
        older = older.under(memtable.ranges)
    return sum(_looked_up(older, keys, values) for keys, values in memtable.chunks(keys_only=True)) - gone


def _looked_up(older: View, keys: list[bytes], values: list[bytes | None]) -> int:
    live = sum(value is not None for value in values)
    return live - sum(older.get(key) is not None for key in keys)


def _look_worth(memtable: Memtable) -> int:
    return LOOKUP_ENTRIES * memtable.charge // max(1, len(memtable))


def _survey(view: View) -> Iterator[int]:
    for depth in reversed(range(len(view.sealed))):
        memtable = view.sealed[depth]
        if memtable.change is not None:
            continue
        older, change, worth = view.below(depth + 1), 0, _look_worth(memtable)
        try:
            for keys, values in memtable.chunks(keys_only=True):
                change += _looked_up(older, keys, values)
                yield worth * len(keys)
        except error:  # a damaged table below must not stop the flush of what is above it
            return
        memtable.change = change
