"""Fifo: what was written first goes first, past a bound in bytes; else next to nothing is merged.

Rules
  1. When the tables have more than `max_bytes`, the oldest are dropped until they have not: of the deepest
     level those with the oldest writes, in level 0 the last.  Nothing older stands below them that could come
     back.  The newest table stays.
  2. FAN neighbours of like size in level 0 become one run, if that is no larger than a SHARE-th of the bound
     or one table, and take their place.  So a read asks a hundred tables or two, however large the bound.
     Tombstones are kept: there may be older entries of their keys in level 0.

Thread safety: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lsmdbm._engine.plan import Limits, Plan
from lsmdbm._engine.version import Version, sorted_runs
from lsmdbm._format.manifest import TableMeta

FAN = 8
SHARE = 64
LIKENESS = 2  # a neighbour is alike if it is at most so many times as large as the others on average


def pick(version: Version, limits: Limits) -> Plan | None:
    """Return the tables to drop, else a fold; None if neither is due.  O(tables log tables)."""
    return pick_drop(version, limits) or _pick_fold(version, limits)


def pick_drop(version: Version, limits: Limits) -> Plan | None:
    """Return the plan that drops what is too much; None if nothing is."""  # rule 1
    if limits.max_bytes is None:
        return None
    excess = sum(meta.file_bytes for meta in version) - limits.max_bytes
    dropped: list[TableMeta] = []
    for meta in _oldest_first(version):
        if excess <= 0 or len(dropped) + 1 == len(version):
            break
        dropped.append(meta)
        excess -= meta.file_bytes
    return Plan(0, tuple((meta,) for meta in reversed(dropped)), is_drop=True) if dropped else None


def _oldest_first(version: Version) -> Iterator[TableMeta]:
    for level in reversed(version.levels[1:]):
        yield from sorted(level, key=lambda meta: (meta.last_seq, meta.number))
    yield from reversed(version.level(0))


def _pick_fold(version: Version, limits: Limits) -> Plan | None:  # rule 2
    most = max(limits.table_bytes, (limits.max_bytes or 0) // SHARE)
    runs = sorted_runs(version.level(0))
    sizes = [sum(meta.file_bytes for meta in run) for run in runs]
    for start in range(len(runs) - FAN + 1):
        count = _alike(sizes[start : start + 2 * FAN], most)
        if count >= FAN:
            return Plan(0, tuple(runs[start : start + count]))
    return None


def _alike(sizes: Sequence[int], most: int) -> int:
    """Return how many of these sizes, from the first on, go together."""
    count, total = 0, 0
    for size in sizes:
        if count and size * count > LIKENESS * total or total + size > most:
            break
        count, total = count + 1, total + size
    return count
