"""Exact len() without a scan per call and without a read per write.

Rules
  1. `total` is the number of live keys in the tables and the memtables marked `counted`.  Those are
     always the older ones: what is not counted yet is newer.
  2. A call adds what the memtables since then changed: one look below them per key.  If they hold more
     keys than it pays to look up, or nothing is known, the keys are counted by a key-only scan.
  3. `tables_only` is the number of live keys in the tables alone, when it is known; it goes into the
     manifest.

Thread safety: under the lock of the store.
"""

from __future__ import annotations

from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.view import View

LOOKUP_COST = 8  # a look below costs about as much as scanning this many keys


class Count:
    """How many live keys there are.

    Args:
        tables_only: what the manifest says, None if it does not know.
    """

    __slots__ = ("tables_only", "total")

    def __init__(self, tables_only: int | None) -> None:
        self.tables_only = tables_only
        self.total = tables_only

    def exact(self, view: View) -> int:
        """Return the number of live keys in `view`, whose active memtable is empty."""
        fresh = [memtable for memtable in view.sealed if not memtable.counted]
        keys = sum(map(len, fresh))
        if self.total is None or LOOKUP_COST * keys > self.total:
            self.total = sum(len(chunk[0]) for chunk in view.chunks(keys_only=True))
        elif fresh:
            self.total += _change(fresh, view)
        for memtable in fresh:
            memtable.counted = True
        return self.total

    def after_flush(self, remaining: tuple[Memtable, ...], flushed: tuple[Memtable, ...]) -> int | None:
        """Return what `tables_only` will be once `flushed` are in tables and `remaining` are not."""
        is_exact = all(memtable.counted for memtable in flushed)
        return self.total if is_exact and not any(memtable.counted for memtable in remaining) else None

    def flushed(self, remaining: tuple[Memtable, ...], flushed: tuple[Memtable, ...]) -> None:
        """Follow a flush."""
        self.tables_only = self.after_flush(remaining, flushed)
        if not all(memtable.counted for memtable in flushed):  # the tables hold keys that were never counted
            self.total = None
            for memtable in remaining:
                memtable.counted = False

    def cleared(self) -> None:
        """Follow a clear(): nothing is left."""
        self.total = self.tables_only = 0


def _change(fresh: list[Memtable], view: View) -> int:
    """Return by how much the newer memtables change the number of live keys."""
    older = View(Memtable(0), view.sealed[len(fresh) :], view.version, view.tables)
    seen: set[bytes] = set()
    change = 0
    for memtable in fresh:  # newest first: the first word on a key is the last one
        for key, value in memtable.entries.items():
            if key not in seen:
                seen.add(key)
                change += (value is not None) - (older.get(key) is not None)
    return change
