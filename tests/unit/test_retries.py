"""Attempts: how often, and how long to wait between them."""

import itertools
from contextlib import contextmanager

import pytest

from lsmdbm._base.errors import ConflictError
from lsmdbm.retries import FIRST_WAIT, LONGEST_WAIT, retried, waits
from support.crash_storage import CrashStorage


class Highest(CrashStorage):
    """Whose random numbers are the highest there are."""

    def urandom(self, length):
        return b"\xff" * length


def test_waits_double_up_to_the_longest_and_the_last_attempt_has_none():
    found = [*waits(Highest(), 12)]
    longest = [min(FIRST_WAIT * 2**number, LONGEST_WAIT) for number in range(11)]
    assert pytest.approx(longest) == found[:-1]
    assert LONGEST_WAIT == pytest.approx(found[-2])
    assert None is found[-1]


def test_waits_are_random(seed):
    one, other = [*waits(CrashStorage(seed), 12)][:-1], [*waits(CrashStorage(seed + 1), 12)][:-1]
    assert one != other
    for wait, longest in zip(one, [*waits(Highest(), 12)], strict=False):
        assert 0 <= wait <= longest


@pytest.mark.parametrize("attempts", [0, -1])
def test_no_attempt_is_refused_before_anything_is_begun(attempts):
    with pytest.raises(ValueError, match=f"at least 1, not {attempts}"):
        retried(CrashStorage(), lambda: pytest.fail("it has begun"), len, attempts)


@pytest.mark.parametrize(("attempts", "conflicts"), [(1, 0), (1, 1), (3, 2), (3, 3), (5, 1)])
def test_an_attempt_that_is_in_conflict_is_followed_by_another_while_there_are_some(attempts, conflicts):
    storage, begun = CrashStorage(), itertools.count()

    @contextmanager
    def begin():
        number = next(begun)
        yield number
        if number < conflicts:
            raise ConflictError("what was read has changed")

    before = storage.monotonic()
    if conflicts < attempts:
        assert conflicts == retried(storage, begin, lambda number: number, attempts)
    else:
        with pytest.raises(ConflictError):
            retried(storage, begin, lambda number: number, attempts)
    assert min(conflicts + 1, attempts) == next(begun)
    assert (before < storage.monotonic()) == (min(conflicts, attempts - 1) > 0)


def test_other_errors_end_it_at_once():
    @contextmanager
    def begin():
        yield 0

    with pytest.raises(ZeroDivisionError):
        retried(CrashStorage(), begin, lambda number: 1 / number, 20)
