"""Tiered: a few sorted runs, merged whole and seldom.

A table of level 0 is a run, and so is each deeper level, however large; the newest run has the lowest number.
When level 0 has `level0_tables` tables, they become one run, together with as many of the next runs as
the rules say.

Rules
  1. While there are fewer than MAX_RUNS, level 0 alone becomes a run, right above the others.
  2. When there are as many, level 0 takes the first along, and each next one that is no larger than all
     before it together.  Who merges like with like writes every byte about as often as the logarithm of the
     number of bytes says, to a base that grows with MAX_RUNS.
  3. When all runs but the last are together as large as SHARE times the last, all are merged: else replaced
     values and tombstones would pile up.
  4. Runs move down, without being rewritten, where that makes room for a new one above them.
  5. What shares no key is moved, not rewritten, unless tombstones can be dropped.

After Bentley and Saxe, "Decomposable Searching Problems I" (1980), for rule 2, and RocksDB's universal
compaction.

Thread safety: pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from lsmdbm._engine.plan import MAX_WIDTH, Limits, Plan, can_drop, occupied
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import TableMeta

MAX_RUNS = 8  # below level 0; the first run of a tree goes into the level of this number
SHARE = 1.0


def pick(version: Version, limits: Limits) -> Plan | None:
    """Return the compaction that is due, None if none is.  O(tables)."""
    if len(version.level(0)) < limits.level0_tables:
        return None
    newest = version.level(0)[-MAX_WIDTH:]
    levels = occupied(version)
    count = _runs_to_take(newest, [version.level_bytes(level) for level in levels])
    if count:
        level = levels[count - 1]
    elif not levels:
        level = MAX_RUNS
    elif levels[0] > 1:
        level = levels[0] - 1
    else:
        return _make_room(version, levels)  # rule 4
    runs = [(meta,) for meta in newest] + [version.level(number) for number in levels[:count]]
    return Plan(level, tuple(runs), is_move=_is_movable(version, level, runs))


def _runs_to_take(newest: Sequence[TableMeta], sizes: Sequence[int]) -> int:
    """Return how many of the runs below level 0, given by their bytes, go along."""
    total = sum(meta.file_bytes for meta in newest)
    if sizes and total + sum(sizes[:-1]) >= SHARE * sizes[-1]:  # rule 3
        return len(sizes)
    if len(sizes) < MAX_RUNS:  # rule 1
        return 0
    count = 1  # rule 2
    total += sizes[0]
    while count < len(sizes) and sizes[count] <= total:
        total += sizes[count]
        count += 1
    return count


def _make_room(version: Version, levels: Sequence[int]) -> Plan:
    """Move the deepest run that does not stand as deep as it may.  Requires fewer than MAX_RUNS runs."""
    floor = max(MAX_RUNS, levels[-1])
    place = len(levels) - 1
    while levels[place] == floor:
        floor, place = floor - 1, place - 1
    return Plan(floor, (version.level(levels[place]),), is_move=True)


def _is_movable(version: Version, level: int, runs: Sequence[tuple[TableMeta, ...]]) -> bool:  # rule 5
    tables = sorted((meta for run in runs for meta in run), key=lambda meta: meta.smallest)
    neighbours = zip(tables, tables[1:], strict=False)
    return all(lower.largest < upper.smallest for lower, upper in neighbours) and not any(
        can_drop(version, level, meta) for meta in tables
    )
