"""Drawing: the levels of a tree as bars and strips, in ASCII.

    strip    where the keys of a run lie among all keys:     [===][==]    [=====]
    bar      how large something is beside the largest:      ####

Rules
  1. A strip is as wide as all bounds of tables, one step each: it shows what overlaps, not how much there is.

Thread safety: pure functions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from lsmdbm._format.manifest import TableMeta

WIDTH, LEAST, MOST = 32, 12, 64  # of a strip


def scale(metas: Iterable[TableMeta]) -> list[bytes]:
    """Return the bounds of all tables, ascending: what strips are drawn along."""
    return sorted({bound for meta in metas for bound in (meta.smallest, meta.largest)})


def strip(run: Sequence[TableMeta], bounds: Sequence[bytes], width: int = WIDTH) -> str:
    """Draw the tables of one run, which do not overlap.

    Two that begin or end in the same place share it.
    """
    line = [" "] * width
    for meta in run:
        low, high = (_place(bound, bounds, width) for bound in (meta.smallest, meta.largest))
        if high == low:
            line[low] = "|"
            continue
        line[low + 1 : high] = "=" * (high - low - 1)
        line[low], line[high] = "[" if line[low] == " " else "|", "]"
    return "".join(line).rstrip()


def _place(bound: bytes, bounds: Sequence[bytes], width: int) -> int:
    return bisect_left(bounds, bound) * (width - 1) // max(1, len(bounds) - 1)


def bar(count: int, most: int, width: int = 8) -> str:
    """Draw a bar; what is not nothing has at least one step.

    >>> bar(50, 100), bar(1, 1000), bar(0, 10)
    ('####', '#', '')
    """
    return "#" * (max(1, round(width * count / most)) if count else 0)
