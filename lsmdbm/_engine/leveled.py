"""Leveled: each level is one sorted run, and five times as large as the one above.

Level 0 is due when it has `level0_tables` tables, a deeper level when its bytes exceed its target, which
grows fivefold from level to level.  The level most above its measure goes first.

Rules
  1. All of level 0, its oldest MAX_WIDTH tables at most, is merged with everything it overlaps in level 1,
     so that nothing older stays above something newer.
  2. From a deeper level MOST_TOGETHER neighbours go down: those that overlap the least below per byte of
     their own, the oldest if several do.  The tables below that they only touch are rewritten once for all.
  3. What overlaps nothing is moved, not rewritten, unless it holds tombstones and nothing is below:
     then rewriting drops them.
  4. A tree that is deeper than its bytes need, as another policy or deletions leave it, is made shallower:
     gaps between levels are closed by moves, and when nothing else is due, the last level but one goes
     down into the last.  Else replaced values would stay until the levels above are full.

After O'Neil et al., "The Log-Structured Merge-Tree" (1996), and LevelDB's levels.

Thread safety: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from lsmdbm._engine.plan import MAX_WIDTH, Limits, Plan, bounds, can_drop, occupied
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import MAX_LEVELS, TableMeta

MOST_TOGETHER = 4  # with 3 to 5 an entry is written least; more make plans as large as whole levels


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


def debt_bytes(version: Version, limits: Limits) -> int:
    """Return about how many bytes, before compression, have to be merged until nothing is due any more.

    What level 0 holds, if that is due, goes into level 1; what is too much there, with its share of level 2,
    goes on; and so to the bottom.  O(levels).
    """
    excess = version.level_bytes(0) if len(version.level(0)) >= limits.level0_tables else 0
    merged = float(excess + version.level_bytes(1)) if excess else 0.0
    for level in range(1, len(version.levels) - 1):
        held = version.level_bytes(level) + excess
        excess = max(0, held - limits.target_bytes(level))
        merged += excess * (1 + version.level_bytes(level + 1) / held) if excess else 0.0
    return int(merged * version.raw_bytes / max(1, version.total_bytes))


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
    *_, minus_count, first = min(_together(version, level))
    run = version.level(level)[first : first - minus_count]
    below = version.overlapping(level + 1, *bounds(run))
    if not below and not any(can_drop(version, level + 1, meta) for meta in run):
        return Plan(level + 1, (run,), is_move=True)
    return _merge(version, level + 1, [run])


def _together(version: Version, level: int) -> Iterator[tuple[float, int, int, int]]:
    """Yield what could go down together, what should sorts first.  O(tables) of both levels.

    As bytes below for each byte of its own, its oldest number, minus how many they are, and their place.
    """  # rule 2
    tables, below = version.level(level), version.level(level + 1)
    own_bytes = [0, *accumulate(meta.file_bytes for meta in tables)]
    below_bytes = [0, *accumulate(meta.file_bytes for meta in below)]
    met = list(_overlapped(tables, below))
    width = min(MOST_TOGETHER, len(tables))
    for first, (low, stop) in enumerate(met):
        if low == stop:
            yield 0.0, tables[first].number, -1, first
        behind = first + width
        if behind <= len(tables):
            bytes_below = below_bytes[met[behind - 1][1]] - below_bytes[low]
            oldest = min(meta.number for meta in tables[first:behind])
            yield bytes_below / (own_bytes[behind] - own_bytes[first]), oldest, -width, first


def _overlapped(tables: Sequence[TableMeta], below: Sequence[TableMeta]) -> Iterator[tuple[int, int]]:
    """Yield for each table of a level which ones it overlaps in another: from where on, and up to where."""
    low = stop = 0
    for meta in tables:
        while low < len(below) and below[low].largest < meta.smallest:
            low += 1
        stop = max(low, stop)
        while stop < len(below) and below[stop].smallest <= meta.largest:
            stop += 1
        yield low, stop


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
