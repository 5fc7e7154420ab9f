"""T10: forks under the load of threads; the parent's data is exact, and in the child a handle is dead."""

import os
import shutil

import pytest

import lsmdbm
from support import forks
from support.budgets import Budget
from support.child import Child, ChildError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

FORKS = {"small": 9, "default": 24, "crash": 360, "long": 10_000}
AT_ONCE = 30


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    """A process that forks."""
    with Child(tmp_path_factory.mktemp("child")) as process:
        yield process


@pytest.mark.parametrize("durability", ["none", "process", "full"])
def test_forks_under_load_harm_nobody(path, child, durability):
    """The child exits, ends, raises, execs, uses the handle, opens its own, is one of multiprocessing."""
    with Budget("T10", part=durability, share=1 / 3, unit="forks", **FORKS) as reach:
        for case in reach:
            count = min(AT_ONCE, reach.goal - reach.reached) if reach.goal else AT_ONCE
            shutil.rmtree(path, ignore_errors=True)
            for fate, number in child("run", "forks:forks", path, case, count, durability).items():
                reach.count(fate, number)
                reach.count(number=number)


def test_a_child_whose_handle_lives_is_noticed(tmp_path, path):
    """The planted fault."""
    with Child(tmp_path) as child, pytest.raises(ChildError, match="ended with"):
        child("run", "forks:without_hooks", path)


def test_iterations_end_in_the_child_and_go_on_in_the_parent(path, child):
    """They went on in the child as far as the table they were in, where a lock may be held by nobody."""
    assert [] == child("run", "forks:iterations_that_went_on", path)


def test_a_cursor_gives_no_more_in_the_child_than_it_has_in_memory(path, child):
    pytest.importorskip("apsw", reason="the extra sql is not installed")
    assert 1000 > child("run", "forks:rows_that_came_after_a_fork", path)


def test_uses_that_are_answered_are_noticed(path):
    with lsmdbm.open(path, "c") as db:
        assert [*forks.USES] == forks.uses_that_did_not_raise(db)
