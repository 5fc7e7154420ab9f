"""Figures: what stats() returns.

Imported when it is first asked for: opening a database imports no dataclasses, which take long.

Thread safety: frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lsmdbm._format.manifest import TableMeta


@dataclass(frozen=True, slots=True)
class LevelStats:
    """One level of the tree."""

    level: int
    tables: int
    entries: int  # tombstones included
    tombstones: int
    file_bytes: int
    raw_bytes: int  # of the blocks before compression


@dataclass(frozen=True, slots=True)
class Stats:
    """What a database looks like and what it has done since it was opened.

    Counts are entries unless the name says bytes.  Rates are None before anything was counted.
    """

    levels: tuple[LevelStats, ...]
    memtables: int
    memtable_entries: int
    memtable_bytes: int  # of log records
    log_files: int
    written_bytes: int  # into the log
    flushed_bytes: int  # into tables, by flushes
    compacted_bytes: int  # into tables, by compactions
    flushes: int
    compactions: int
    moves: int  # compactions that rewrote nothing
    delegated: int  # compactions that another process did
    drops: int  # times that "fifo" gave its oldest tables up
    dropped_bytes: int  # of those tables
    slice_seconds: float  # that writes have spent on flushes and compactions, stalls included
    stalls: int  # writes that had to wait: for a whole flush, or for the process that compacts
    stall_seconds: float  # that they waited
    get_read_bytes: int  # of blocks, from disk or from the cache of the system, by point reads
    scan_read_bytes: int  # by iterations, counts and other reads in order
    compaction_read_bytes: int  # by compactions in this process
    cache_bytes: int
    cache_hits: int  # of point reads that found their block in the cache
    cache_misses: int
    cache_hit_rate: float | None
    filter_probes: int
    blocks_read: int  # by point reads
    filter_false_positives: int
    open_tables: int
    snapshots: int  # that are open, transactions among them; each keeps on disk what it reads
    trouble: str | None  # what last stopped a flush or a compaction; it is tried again

    @property
    def tables(self) -> int:
        """Number of live tables."""
        return sum(level.tables for level in self.levels)

    @property
    def file_bytes(self) -> int:
        """Bytes of all live tables on disk."""
        return sum(level.file_bytes for level in self.levels)

    @property
    def runs(self) -> int:
        """Tables of level 0, and deeper levels that hold any: so many a point read asks at most."""
        return sum(level.tables if level.level == 0 else min(1, level.tables) for level in self.levels)

    @property
    def raw_bytes(self) -> int:
        """Bytes of all blocks before compression."""
        return sum(level.raw_bytes for level in self.levels)

    @property
    def compression_ratio(self) -> float | None:
        """Bytes of blocks before compression per byte on disk, 3.0 say; None without tables."""
        return self.raw_bytes / self.file_bytes if self.file_bytes else None

    @property
    def write_amplification(self) -> float | None:
        """Bytes written to the log and to tables per byte written to the log; None before any write."""
        if not self.written_bytes:
            return None
        return (self.written_bytes + self.flushed_bytes + self.compacted_bytes) / self.written_bytes


def level_stats(number: int, metas: Sequence[TableMeta]) -> LevelStats:
    """Return the figures of a level."""
    return LevelStats(
        level=number,
        tables=len(metas),
        entries=sum(meta.entries for meta in metas),
        tombstones=sum(meta.tombstones for meta in metas),
        file_bytes=sum(meta.file_bytes for meta in metas),
        raw_bytes=sum(meta.raw_bytes for meta in metas),
    )
