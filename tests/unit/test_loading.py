"""What a load decides before it gives a task away; the loads themselves are in behaviour/test_bulk.py."""

import pytest

from lsmdbm._engine.loading import _spread


@pytest.mark.parametrize(
    ("count", "expected"), [(1, "a"), (3, "abc"), (4, "bd"), (6, "bdf"), (7, "adg"), (9, "cfi"), (12, "dhl")]
)
def test_candidates_for_a_cut_are_few_and_evenly_spread(count, expected):
    assert expected == _spread("abcdefghijkl"[:count], 3)
