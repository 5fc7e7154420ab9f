"""How fast compactions go: what a tree owes, and what one written byte pays of it."""

import pytest

from benchmarks.simulator import simulate
from lsmdbm._base.options import Options
from lsmdbm._engine.leveled import debt_bytes
from lsmdbm._engine.picker import MOST_PACE, pace
from lsmdbm._engine.plan import Limits
from lsmdbm._engine.version import Version
from support.stage import table_meta

LIMITS = Limits(table_bytes=100, level0_tables=3, level1_bytes=1000, growth=10, runway_bytes=400)


def tree(*levels):
    """Return a version with tables of so many bytes on disk, and twice as many before compression."""
    number, made = 0, []
    for sizes in levels:
        metas = []
        for place, size in enumerate(sizes):
            number += 1
            key = b"%02d" % place
            metas.append(table_meta(number, key, key)._replace(file_bytes=size, raw_bytes=2 * size))
        made.append(tuple(metas))
    return Version(tuple(made))


@pytest.mark.parametrize(
    ("levels", "owed"),
    [
        ([], 0),
        ([[100, 100]], 0),
        ([[], [500, 500], [9999]], 0),
        ([[100, 100, 100]], 300),
        ([[100, 100, 100], [400]], 700),
        ([[100, 100], [600, 600], [2400]], 200 * (1 + 2)),
        ([[100, 100, 100], [500, 500], [2600]], 1300 + 300 * (1 + 2)),
        ([[], [2000], [10_000], [22_000]], 1000 * (1 + 5) + 1000 * (1 + 2)),
        ([[], [], [20_000]], 0),
    ],
)
def test_a_tree_owes_what_has_to_be_merged_until_nothing_is_due(levels, owed):
    assert 2 * owed == debt_bytes(tree(*levels), LIMITS)


@pytest.mark.parametrize(
    ("levels", "total_bytes", "paid"),
    [
        ([[100]], 100, 1.0),
        ([[100]], 1000, 2.5),
        ([[100]], 100_000, MOST_PACE),
        ([[100], [600, 600], [2400]], 100, 3.0),
        ([[10] * 6, [100]], 100, 2.0),
        ([[10] * 6, [100]], 100_000, 2 * MOST_PACE),
    ],
)
def test_a_written_byte_pays_for_what_the_whole_tree_owes(levels, total_bytes, paid):
    assert paid == pace(tree(*levels), LIMITS, total_bytes)


def test_a_fifo_pays_for_the_fold_under_way_alone():
    limits = LIMITS._replace(compaction="fifo")

    assert 1.0 == pace(tree([10] * 60, [2000], [10_000]), limits, 100)


@pytest.mark.parametrize("stream", ["random", "overwrite"])
def test_a_growing_tree_keeps_its_level_0_short(stream):
    options = Options()
    found = simulate("leveled", stream, 10**8, Limits.of(options), options.memtable_bytes)

    assert 4 < found.asked < 10
    assert found.pace_most <= 2.5 * MOST_PACE
