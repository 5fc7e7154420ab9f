"""Leveled: each level is one sorted run, and ten times as large as the one above.

Level 0 is due when it has `level0_tables` tables, a deeper level when its bytes exceed its target, which
grows tenfold from level to level.  The level most above its measure goes first.

Rules
  1. All of level 0, its oldest MAX_WIDTH tables at most, is merged with everything it overlaps in level 1,
     so that nothing older stays above something newer.
  2. From a deeper level one table goes down: the one that overlaps the least below per byte of its own,
     the oldest if several do.
  3. What overlaps nothing is moved, not rewritten, unless it holds tombstones and nothing is below:
     then rewriting drops them.
  4. A tree that is deeper than its bytes need, as another policy or deletions leave it, is made shallower:
     gaps between levels are closed by moves, and when nothing else is due, the last level but one goes
     down into the last.  Else replaced values would stay until the levels above are full.

After O'Neil et al., "The Log-Structured Merge-Tree" (1996), and LevelDB's levels.

Thread safety: pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from lsmdbm._engine.plan import MAX_WIDTH, Limits, Plan, bounds, can_drop, occupied
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import MAX_LEVELS, TableMeta


def pick(version: Version, limits: Limits) -> Plan | None:
    """Return the most urgent compaction; None if nothing is due.  O(tables)."""
    scores = [(len(version.level(0)) / limits.level0_tables, 0)]
    for level in range(1, min(len(version.levels), MAX_LEVELS - 1)):
        scores.append((version.level_bytes(level) / limits.target_bytes(level), level))
    score, level = max(scores, key=lambda scored: scored[0])
    is_due = score > 1 or (level == 0 and score == 1)
    shallower = _pick_shallower(version, limits, is_idle=not is_due)
    if shallower is not None or not is_due:
        return shallower
    return _pick_level0(version) if level == 0 else _pick_deeper(version, level)


def _pick_level0(version: Version) -> Plan:
    tables = version.level(0)[-MAX_WIDTH:]
    movable = [meta for meta in tables if _overlaps_nothing(version, meta)]
    if movable:
        return Plan(1, tuple((meta,) for meta in movable), is_move=True)
    return _merge(version, 1, [(meta,) for meta in tables])  # rule 1


def _overlaps_nothing(version: Version, meta: TableMeta) -> bool:
    smallest, largest = meta.smallest, meta.largest
    return (
        version.overlapping(0, smallest, largest) == (meta,)
        and not version.overlapping(1, smallest, largest)
        and not can_drop(version, 1, meta)
    )


def _pick_deeper(version: Version, level: int) -> Plan:
    def cost(meta: TableMeta) -> tuple[float, int]:  # rule 2
        below = version.overlapping(level + 1, meta.smallest, meta.largest)
        return sum(other.file_bytes for other in below) / meta.file_bytes, meta.number

    chosen = min(version.level(level), key=cost)
    below = version.overlapping(level + 1, chosen.smallest, chosen.largest)
    if not below and not can_drop(version, level + 1, chosen):
        return Plan(level + 1, ((chosen,),), is_move=True)
    return _merge(version, level + 1, [(chosen,)])


def _pick_shallower(version: Version, limits: Limits, *, is_idle: bool) -> Plan | None:  # rule 4
    levels = occupied(version)
    if not levels or (len(levels) == 1 and not version.level(0)):
        return None
    needed = limits.roomy_level(version.total_bytes)
    if levels[-1] <= needed:
        return None
    above = 0
    for place, level in enumerate(levels, 1 - len(levels)):
        target = max(above + 1, needed + place)
        if target < level:
            return Plan(target, (version.level(level),), is_move=True)
        above = level
    return _pick_deeper(version, levels[-2]) if is_idle and len(levels) > 1 else None


def _merge(version: Version, level: int, runs: Sequence[tuple[TableMeta, ...]]) -> Plan:
    below = version.overlapping(level, *bounds([meta for run in runs for meta in run]))
    return Plan(level, (*runs, below) if below else tuple(runs))
