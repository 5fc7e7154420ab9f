"""Fifo: what was written first goes first, past a bound in bytes; else next to nothing is merged.

Rules
  1. When the tables have more than `max_bytes`, the oldest are dropped until they have not: of the deepest
     level those with the oldest writes, in level 0 the last.  Nothing older stands below them that could come
     back.  The newest table stays.
  2. When level 0 has more than MOST_RUNS runs, the FAN neighbours that are smallest together become one, in
     their place.  So a read asks so many tables at most, however large the bound is.  Tombstones are kept:
     there may be older entries of their keys in level 0.

Thread safety: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import accumulate, takewhile

from lsmdbm._engine.plan import Limits, Plan
from lsmdbm._engine.version import Version, sorted_runs
from lsmdbm._format.manifest import TableMeta

MOST_RUNS = 64
FAN = 8


def pick(version: Version, limits: Limits) -> Plan | None:
    """Return the tables to drop, else a fold; None if neither is due.  O(tables)."""
    return pick_drop(version, limits) or _pick_fold(version)


def pick_drop(version: Version, limits: Limits) -> Plan | None:
    """Return the plan that drops what is too much; None if nothing is."""  # rule 1
    if limits.max_bytes is None:
        return None
    excess = version.total_bytes - limits.max_bytes
    dropped: list[TableMeta] = []
    for meta in oldest_first(version):
        if excess <= 0 or len(dropped) + 1 == len(version):
            break
        dropped.append(meta)
        excess -= meta.file_bytes
    return _drop(dropped)


def pick_over(version: Version, over: Set[int]) -> Plan | None:
    """Return the plan that drops the oldest tables as long as they are among those numbers, None for none."""
    return _drop(list(takewhile(lambda meta: meta.number in over, oldest_first(version))))


def _drop(metas: list[TableMeta]) -> Plan | None:
    return Plan(0, tuple((meta,) for meta in reversed(metas)), is_drop=True) if metas else None


def oldest_first(version: Version) -> Iterator[TableMeta]:
    """Yield the tables in the order in which they are dropped."""
    for level in reversed(version.levels[1:]):
        yield from sorted(level, key=lambda meta: (meta.last_seq, meta.number))
    yield from reversed(version.level(0))


def _pick_fold(version: Version) -> Plan | None:  # rule 2
    runs = sorted_runs(version.level(0))
    if len(runs) <= MOST_RUNS:
        return None
    ends = [0, *accumulate(sum(meta.file_bytes for meta in run) for run in runs)]
    start = min(range(len(runs) - FAN + 1), key=lambda place: (ends[place + FAN] - ends[place], -place))
    return Plan(0, tuple(runs[start : start + FAN]))
