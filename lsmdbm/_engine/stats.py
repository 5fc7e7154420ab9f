"""Stats: what a store counts as it goes, and the figures that stats() makes of it.

Thread safety: under the lock of the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lsmdbm._base.forking import importing
from lsmdbm._engine.plan import Plan
from lsmdbm._engine.view import View
from lsmdbm._format.manifest import TableMeta

if TYPE_CHECKING:
    from lsmdbm._engine.figures import Stats


class Totals:
    """What a store counts as it goes."""

    __slots__ = (
        *("compacted_bytes", "compactions", "delegated", "dropped_bytes", "drops", "flushed_bytes"),
        *("flushes", "moves", "written_bytes"),
        *("slice_seconds", "stall_seconds", "stalls"),
    )

    def __init__(self) -> None:
        self.compacted_bytes = self.compactions = self.flushed_bytes = self.flushes = 0
        self.moves = self.delegated = self.drops = self.dropped_bytes = self.written_bytes = self.stalls = 0
        self.slice_seconds = self.stall_seconds = 0.0

    def add_flush(self, outputs: Sequence[TableMeta]) -> None:
        """Count a flush."""
        self.flushes += 1
        self.flushed_bytes += sum(meta.file_bytes for meta in outputs)

    def add_compaction(self, plan: Plan, outputs: Sequence[TableMeta]) -> None:
        """Count what was done by a plan: a compaction, a move or a drop."""
        if plan.is_drop:
            self.drops += 1
            self.dropped_bytes += sum(meta.file_bytes for meta in plan.inputs)
        elif plan.is_move:
            self.moves += 1
        else:
            self.compactions += 1
            self.compacted_bytes += sum(meta.file_bytes for meta in outputs)


def gather(
    view: View, log_files: int, totals: Totals, trouble: BaseException | None, snapshots: int
) -> Stats:
    """Return the figures of a view and of what its store has counted."""
    with importing:  # not before: dataclasses take long to import, and few programs ask
        from lsmdbm._engine.figures import Stats, level_stats

    memtables = [memtable for memtable in (view.active, *view.sealed) if not memtable.is_empty]
    blocks, counters = view.tables.blocks, view.tables.counters
    asked = blocks.hits + blocks.misses
    return Stats(
        levels=tuple(level_stats(number, metas) for number, metas in enumerate(view.version.levels)),
        memtables=len(memtables),
        memtable_entries=sum(map(len, memtables)),
        memtable_bytes=sum(memtable.charge for memtable in memtables),
        log_files=log_files,
        written_bytes=totals.written_bytes,
        flushed_bytes=totals.flushed_bytes,
        compacted_bytes=totals.compacted_bytes,
        flushes=totals.flushes,
        compactions=totals.compactions,
        moves=totals.moves,
        delegated=totals.delegated,
        drops=totals.drops,
        dropped_bytes=totals.dropped_bytes,
        slice_seconds=totals.slice_seconds,
        stalls=totals.stalls,
        stall_seconds=totals.stall_seconds,
        get_read_bytes=counters.get_bytes,
        scan_read_bytes=counters.scan_bytes,
        compaction_read_bytes=counters.compaction_bytes,
        cache_bytes=blocks.cost,
        cache_hits=blocks.hits,
        cache_misses=blocks.misses,
        cache_hit_rate=blocks.hits / asked if asked else None,
        filter_probes=counters.filter_probes,
        blocks_read=counters.blocks_read,
        filter_false_positives=counters.false_positives,
        open_tables=len(view.tables.readers),
        snapshots=snapshots,
        trouble=None if trouble is None else str(trouble),
    )
