"""Picker: what to compact next, and how fast, by the policy that the limits name.  Pure.

Rules
  1. Every policy copes with every tree: with the levels that another one left, and with any level 0.
  2. Carried out one after the other, the plans come to an end, however many tables there are.
  3. A table with more than MOST_HOLES holes is rewritten where it stands, whatever the policy says: each
     install writes down all of them.
  4. Whoever writes pays off within `runway_bytes` what the whole tree owes, not only what is under way:
     else small compactions go slowly while level 0 waits for its turn.  A written byte owes MOST_PACE bytes
     at most, while level 0 is short.

Thread safety: pure functions.
"""

from __future__ import annotations

from lsmdbm._engine import fifo, leveled, tiered
from lsmdbm._engine.plan import Limits, Plan, occupied
from lsmdbm._engine.version import Version, sorted_runs

MOST_HOLES = 256
MOST_PACE = 8.0  # so that a put never pays for much more, however large a merge is

_POLICIES = {"leveled": leveled.pick, "tiered": tiered.pick, "fifo": fifo.pick}


def pick(version: Version, limits: Limits) -> Plan | None:
    """Return the most urgent compaction; None if nothing is due."""
    if version.most_holes > MOST_HOLES:
        return _pick_torn(version)
    return _POLICIES[limits.compaction](version, limits)


def _pick_torn(version: Version) -> Plan:
    """Return the plan that rewrites the table with the most holes."""  # rule 3
    places = ((len(meta.holes), level, meta) for level, metas in enumerate(version.levels) for meta in metas)
    _, level, torn = max(places, key=lambda place: place[0])
    return Plan(level, ((torn,),))


def pick_everything(version: Version, limits: Limits) -> Plan | None:
    """Return the plan that leaves one sorted level without tombstones; None if that is so already.

    The level is one that has room for all, so that nothing is due when the plan is done.  What is to be
    dropped is dropped first.
    """
    if limits.compaction == "fifo":
        drop = fifo.pick_drop(version, limits)
        if drop is not None:
            return drop
    deeper = occupied(version)
    if not deeper and not version.level(0):
        return None
    is_clean = not version.may_delete and not version.most_holes
    if len(deeper) == 1 and not version.level(0) and is_clean:
        return None
    runs = sorted_runs(version.level(0)) + [version.level(level) for level in deeper]
    return Plan(limits.roomy_level(version.total_bytes, max([1, *deeper])), tuple(runs))


def pace(version: Version, limits: Limits, total_bytes: int) -> float:
    """Return how many bytes of a compaction of so many, before compression, one written byte owes."""
    debt = leveled.debt_bytes(version, limits) if limits.compaction == "leveled" else 0
    haste = pressure(version, limits)
    return max(haste, min(MOST_PACE * haste, max(total_bytes, debt) / limits.runway_bytes))  # rule 4


def pressure(version: Version, limits: Limits) -> float:
    """Return how many times as fast as usual a compaction has to go: more than 1 if level 0 is too long."""
    if limits.compaction == "fifo":
        return 1.0  # level 0 holds everything
    return max(1.0, len(version.level(0)) / limits.level0_tables)
