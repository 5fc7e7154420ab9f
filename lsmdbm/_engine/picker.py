"""Picker: what to compact next.  Pure: a Version and limits in, a Plan or None out.

Leveled: level 0 is due when it has `level0_tables` tables, a deeper level when its bytes exceed its
target, which grows tenfold from level to level.  The level most above its measure goes first.

Rules
  1. All of level 0 is merged with everything it overlaps in level 1, so that nothing older stays above
     something newer.
  2. From a deeper level one table goes down: the one that overlaps the least below per byte of its own,
     the oldest if several do.
  3. What overlaps nothing is moved, not rewritten, unless it holds tombstones and nothing is below:
     then rewriting drops them.

After O'Neil et al., "The Log-Structured Merge-Tree" (1996), and LevelDB's levels.

Thread safety: pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lsmdbm._base.options import Options
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import MAX_LEVELS, TableMeta


@dataclass(frozen=True, slots=True)
class Limits:
    """The measures of a tree, in bytes on disk."""

    table_bytes: int  # a table is cut when it is this long
    level0_tables: int
    level1_bytes: int
    growth: int = 10

    @classmethod
    def of(cls, options: Options) -> Limits:
        """Return the limits that suit the options."""
        table_bytes = options.memtable_bytes
        return cls(table_bytes, 6, 8 * options.memtable_bytes)

    def target_bytes(self, level: int) -> int:
        """Return how large a level below 0 may grow."""
        target: int = self.level1_bytes * self.growth ** (level - 1)
        return target


@dataclass(frozen=True, slots=True)
class Plan:
    """Which tables to merge, and into which level.

    `runs` are newest first; the tables within a run are in key order and do not overlap.
    """

    level: int  # where the outputs go
    runs: tuple[tuple[TableMeta, ...], ...]
    is_move: bool = False

    @property
    def inputs(self) -> tuple[TableMeta, ...]:
        """All tables of the plan."""
        return tuple(meta for run in self.runs for meta in run)

    @property
    def bounds(self) -> tuple[bytes, bytes]:
        """The smallest and the largest key of the plan."""
        return bounds(self.inputs)


def bounds(metas: Sequence[TableMeta]) -> tuple[bytes, bytes]:
    """Return the smallest and the largest key of some tables."""
    return min(meta.smallest for meta in metas), max(meta.largest for meta in metas)


def pick(version: Version, limits: Limits) -> Plan | None:
    """Return the most urgent compaction; None if nothing is due.  O(tables)."""
    scores = [(len(version.level(0)) / limits.level0_tables, 0)]
    for level in range(1, min(len(version.levels), MAX_LEVELS - 1)):
        scores.append((version.level_bytes(level) / limits.target_bytes(level), level))
    score, level = max(scores, key=lambda scored: scored[0])
    if score < 1 or (level > 0 and score == 1):
        return None
    return _pick_level0(version) if level == 0 else _pick_deeper(version, level)


def _pick_level0(version: Version) -> Plan:
    tables = version.level(0)
    movable = [meta for meta in tables if _overlaps_nothing(version, meta)]
    if movable:
        return Plan(1, tuple((meta,) for meta in movable), is_move=True)
    return _merge(version, 1, [(meta,) for meta in tables])  # rule 1


def _overlaps_nothing(version: Version, meta: TableMeta) -> bool:
    smallest, largest = meta.smallest, meta.largest
    return (
        version.overlapping(0, smallest, largest) == (meta,)
        and not version.overlapping(1, smallest, largest)
        and not _can_drop(version, 1, meta)
    )


def _pick_deeper(version: Version, level: int) -> Plan:
    def cost(meta: TableMeta) -> tuple[float, int]:  # rule 2
        below = version.overlapping(level + 1, meta.smallest, meta.largest)
        return sum(other.file_bytes for other in below) / meta.file_bytes, meta.number

    chosen = min(version.level(level), key=cost)
    below = version.overlapping(level + 1, chosen.smallest, chosen.largest)
    if not below and not _can_drop(version, level + 1, chosen):
        return Plan(level + 1, ((chosen,),), is_move=True)
    return _merge(version, level + 1, [(chosen,)])


def _can_drop(version: Version, level: int, meta: TableMeta) -> bool:  # rule 3
    deeper = range(level + 1, len(version.levels))
    return meta.tombstones > 0 and not any(
        version.overlapping(n, meta.smallest, meta.largest) for n in deeper
    )


def _merge(version: Version, level: int, runs: Sequence[tuple[TableMeta, ...]]) -> Plan:
    below = version.overlapping(level, *bounds([meta for run in runs for meta in run]))
    return Plan(level, (*runs, below) if below else tuple(runs))


def pick_everything(version: Version, limits: Limits) -> Plan | None:
    """Return the plan that leaves one sorted level without tombstones; None if that is so already.

    The level is one that has room for all, so that nothing is due when the plan is done.
    """
    occupied = [level for level, tables in enumerate(version.levels) if tables]
    if not occupied or (len(occupied) == 1 and occupied[0] > 0 and not version.may_delete):
        return None
    runs = [(meta,) for meta in version.level(0)] + [version.level(level) for level in occupied if level > 0]
    total = sum(meta.file_bytes for meta in version)
    return Plan(roomy_level(total, limits, max(1, occupied[-1])), tuple(runs))


def roomy_level(total_bytes: int, limits: Limits, lowest: int = 1) -> int:
    """Return the first level from `lowest` on that has room for so many bytes, so that nothing is due."""
    level = lowest
    while level < MAX_LEVELS - 1 and limits.target_bytes(level) < total_bytes:
        level += 1
    return level
