"""Where the tables of an ingest go, and which files are one run."""

import pytest

from lsmdbm._engine.ingest import Source, placed, runs
from lsmdbm._engine.plan import Limits, Plan
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import TableMeta

LIMITS = Limits(table_bytes=100, level0_tables=4, level1_bytes=1000)


def table(bounds, number=1, file_bytes=100):
    """Return a table from "ac": its smallest and its largest key."""
    return TableMeta(number, file_bytes, 0, 1, 0, 1, 1, 1, bounds[:1].encode(), bounds[1:].encode())


def version(*levels):
    return Version(tuple(tuple(table(bounds) for bounds in level.split()) for level in levels))


@pytest.mark.parametrize(
    ("levels", "level"),
    [
        ((), 1),
        (("mn",), 0),
        (("", "lp"), 0),
        (("", "ac xz"), 1),
        (("", "", "ac xz"), 2),
        (("", "", "mm"), 1),
        (("", "ac", "", "mm"), 2),
        (("ac", "mm"), 0),
    ],
)
def test_a_table_goes_above_all_that_has_its_keys_and_no_higher(levels, level):
    assert {level: [table("ln")]} == placed([table("ln")], version(*levels), LIMITS, None)


def test_a_level_that_has_room_for_all_is_taken_where_nothing_is():
    large = table("ab", file_bytes=5000)

    assert {2: [large]} == placed([large], Version(), LIMITS, None)


def test_what_is_newest_never_goes_where_fifo_takes_it_for_oldest():
    limits = LIMITS._replace(compaction="fifo", max_bytes=1000)

    assert {0: [table("ln")]} == placed([table("ln")], Version(), limits, None)


def test_nothing_goes_between_the_tables_that_are_being_merged():
    """The outputs may come to lie there."""
    old = version("az", "ac xz")
    plan = Plan(1, (old.level(1),))

    assert {1: [table("ln")]} == placed([table("ln")], version("", "ac xz"), LIMITS, None)
    assert {0: [table("ln")]} == placed([table("ln")], version("", "ac xz"), LIMITS, plan)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("ab cd ef", "ab cd ef"),
        ("ef cd ab", "ab cd ef"),
        ("ab bc", "bc | ab"),
        ("ab ab ab", "ab | ab | ab"),
        ("az bc de", "bc de | az"),
        ("bc az de", "de | az | bc"),
        ("bc az xz de", "de xz | az | bc"),
    ],
)
def test_files_that_do_not_overlap_are_one_run(files, expected):
    sources = [Source(None, bounds, table(bounds)) for bounds in files.split()]

    assert expected == " | ".join(" ".join(source.path for source in run) for run in runs(sources))
