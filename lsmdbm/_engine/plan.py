"""Plan: what a policy asks for, and the measures it goes by.

Rules
  1. A plan takes tables that stand next to each other: whatever is older than one of its tables and newer
     than another, and shares a key with it, is in the plan too, or stays in its place above the outputs.
  2. The outputs go where the oldest input stood, or deeper as long as nothing there shares a key.

Thread safety: immutable; pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lsmdbm._base.options import Options
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import MAX_LEVELS, TableMeta

MAX_WIDTH = 64  # tables of level 0 that one plan merges: each costs a descriptor, its index and a block
RUNWAY = 4  # memtables within which what is due should be done
MOST_FIFO_TABLES = 1 << 14  # a full "fifo" has about so many at most, however large it is


class Limits(NamedTuple):
    """The measures of a tree, in bytes on disk."""

    table_bytes: int  # a table is cut when it is this long
    level0_tables: int
    level1_bytes: int
    growth: int = 5
    compaction: str = "leveled"
    max_bytes: int | None = None  # of all tables, for "fifo"
    runway_bytes: int = RUNWAY * (8 << 20)  # that are written until what is due now should be done

    @classmethod
    def of(cls, options: Options) -> Limits:
        """Return the limits that suit the options."""
        table_bytes = max(options.memtable_bytes, (options.max_bytes or 0) // MOST_FIFO_TABLES)
        level1_bytes = 6 * options.memtable_bytes
        runway_bytes = RUNWAY * options.memtable_bytes
        return cls(table_bytes, 6, level1_bytes, 5, options.compaction, options.max_bytes, runway_bytes)

    def target_bytes(self, level: int) -> int:
        """Return how large a level below 0 may grow."""
        target: int = self.level1_bytes * self.growth ** (level - 1)
        return target

    def roomy_level(self, total_bytes: int, lowest: int = 1) -> int:
        """Return the first level from `lowest` on that has room for so many bytes."""
        level = lowest
        while level < MAX_LEVELS - 1 and self.target_bytes(level) < total_bytes:
            level += 1
        return level


class Plan(NamedTuple):
    """Which tables to merge, and into which level.

    `runs` are newest first; the tables within a run are in key order and do not overlap.
    """

    level: int  # where the outputs go; in level 0 they take the place of the inputs
    runs: tuple[tuple[TableMeta, ...], ...]
    is_move: bool = False  # the inputs themselves are the outputs
    is_drop: bool = False  # there are no outputs: what is in the tables goes away

    @property
    def inputs(self) -> tuple[TableMeta, ...]:
        """All tables of the plan."""
        return tuple(meta for run in self.runs for meta in run)

    @property
    def bounds(self) -> tuple[bytes, bytes]:
        """The smallest and the largest key of the plan."""
        return bounds(self.inputs)

    @property
    def ready_outputs(self) -> list[TableMeta] | None:
        """The outputs of a plan that writes no table; None of one that does."""
        if self.is_drop:
            return []
        return list(self.inputs) if self.is_move else None


def bounds(metas: Sequence[TableMeta]) -> tuple[bytes, bytes]:
    """Return the smallest and the largest key of some tables."""
    return min(meta.smallest for meta in metas), max(meta.largest for meta in metas)


def can_drop(version: Version, level: int, meta: TableMeta) -> bool:
    """Return whether a table that goes into a level may lose tombstones there."""
    return meta.tombstones > 0 and not version.overlaps_below(level, meta.smallest, meta.largest)


def occupied(version: Version) -> list[int]:
    """Return the levels below 0 that hold tables, from above."""
    return [level for level in range(1, len(version.levels)) if version.level(level)]
