"""Leftovers: what a finalizer cannot do without waiting is done later, once, and nothing is overlooked."""

import errno
import gc
import threading

import pytest

from lsmdbm._base import leftovers
from lsmdbm._base.ending import EndingLock
from lsmdbm._base.errors import error
from lsmdbm._base.leftovers import clear_up, drop_all, leave, taken


@pytest.fixture(autouse=True)
def nothing_left():
    gc.collect()
    clear_up()
    assert [] == [*leftovers._left]
    yield
    drop_all()


def closing(calls, *answers):
    """Something to do that answers one after the other, and notes it."""
    rest = iter(answers)

    def close():
        calls.append(next(rest))
        return calls[-1]

    return close


def test_what_can_be_done_is_done_at_once_and_once():
    calls = []
    leave(closing(calls, True))
    clear_up()

    assert [True] == calls


def test_what_cannot_is_tried_again_by_whoever_comes_by():
    calls, others = [], []
    leave(closing(calls, False, False, True))
    clear_up()
    leave(closing(others, True))
    clear_up()

    assert ([False, False, True], [True]) == (calls, others)


def test_who_is_in_the_way_until_just_after_the_try_finds_what_was_left():
    """It looks when it is done; what is put into the list only after the try would come too late."""
    calls = []

    def close():
        if not calls:
            calls.append("busy")
            other = threading.Thread(target=clear_up)  # who was in the way goes, and looks
            other.start()
            other.join()
            return False
        calls.append("done")
        return True

    leave(close)
    assert ["busy", "done"] == calls
    clear_up()
    assert ["busy", "done"] == calls


def test_what_is_left_in_the_middle_of_another_one_comes_right_after_it():
    calls = []

    def outer():
        leave(closing(calls, True))
        calls.append("outer")
        return True

    leave(outer)
    assert ["outer", True] == calls


def test_an_error_is_told_nobody_and_ends_it():
    calls = []

    def close():
        calls.append("called")
        raise error(errno.EIO, "Input/output error")

    leave(close)
    clear_up()
    assert ["called"] == calls


def test_what_memory_was_too_short_for_is_tried_again():
    calls = []

    def close():
        calls.append("called")
        if len(calls) == 1:
            raise MemoryError
        return True

    leave(close)
    clear_up()
    clear_up()
    assert ["called"] * 2 == calls


def test_what_was_interrupted_stays():
    calls = []

    def close():
        calls.append("called")
        if len(calls) == 1:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        leave(close)
    clear_up()
    assert ["called"] * 2 == calls


def test_the_child_of_a_fork_begins_with_nothing():
    calls = []

    def forks():
        drop_all()
        return False

    leave(forks)
    leave(closing(calls, False))
    drop_all()
    clear_up()
    assert [False] == calls


@pytest.fixture
def locks():
    return [threading.RLock(), EndingLock(threading.RLock())]


def owned(locks):
    return [lock._is_owned() for lock in locks]


def test_locks_that_are_free_are_taken_and_given_back(locks):
    with taken(*locks) as is_free:
        assert (True, [True, True]) == (is_free, owned(locks))
    assert [False, False] == owned(locks)


@pytest.mark.parametrize("which", [0, 1])
def test_locks_of_which_this_thread_has_one_are_not_taken(locks, which):
    with locks[which]:
        with taken(*locks) as is_free:
            assert not is_free
            assert [index == which for index in range(2)] == owned(locks)
        assert [index == which for index in range(2)] == owned(locks)


@pytest.mark.parametrize("which", [0, 1])
def test_locks_of_which_another_thread_has_one_are_not_waited_for(locks, which):
    found = []

    def take():
        with taken(*locks) as is_free:
            found.append(is_free)
        found.append(owned(locks))

    with locks[which]:
        other = threading.Thread(target=take)
        other.start()
        other.join()
    assert [False, [False, False]] == found


def test_a_lock_behind_which_it_is_interrupted_is_given_back():
    class Interrupted(EndingLock):
        def acquire(self, blocking=True):
            super().acquire(blocking)
            raise KeyboardInterrupt

    lock = Interrupted(threading.RLock())
    with pytest.raises(KeyboardInterrupt), taken(lock):
        pass
    assert not lock._is_owned()
