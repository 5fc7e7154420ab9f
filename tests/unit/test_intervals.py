"""Intervals of keys, compared with the set of the keys that they hold."""

import random

import pytest

from lsmdbm._base.chunk import MAX_KEY_BYTES
from lsmdbm._base.intervals import (
    ABOVE_ALL,
    gaps,
    holds,
    holds_all,
    inside,
    interval,
    spared,
    spared_chunks,
    united,
    without,
)

POINTS = [b"%02d" % number for number in range(40)]


def keys_of(intervals):
    return {key for key in POINTS if any(start <= key < stop for start, stop in intervals)}


def some(rng):
    found = ()
    for _ in range(rng.randrange(6)):
        low, high = sorted(rng.sample(POINTS, 2))
        found = united(found, ((low, rng.choice([high, high, high, ABOVE_ALL])),))
    return found


def is_normal(intervals):
    edges = [edge for each in intervals for edge in each]
    return edges == sorted(set(edges))


def test_what_is_done_to_intervals_is_done_to_their_keys(seed):
    rng = random.Random(f"{seed} intervals")
    for _ in range(1000):
        one, other = some(rng), some(rng)
        low, high = sorted(rng.sample(POINTS, 2))
        within = keys_of([(low, high)])
        for found, expected in [
            (united(one, other), keys_of(one) | keys_of(other)),
            (without(one, other), keys_of(one) - keys_of(other)),
            (inside(one, low, high), keys_of(one) & within),
        ]:
            assert expected == keys_of(found)
            assert is_normal(found)
        parts = gaps(one, low, high)
        assert within - keys_of(one) == keys_of(parts)
        assert all(low <= start < stop <= high for start, stop in parts)
        assert [key in keys_of(one) for key in POINTS] == [holds(one, key) for key in POINTS]
        assert (within | {high} <= keys_of(one)) == holds_all(one, low, high) or not within
        chunk = (POINTS, list(POINTS))
        left = sorted(set(POINTS) - keys_of(one))
        assert (left, left) == spared(chunk, one)
        assert [part for part in [(left, left)] if left] == list(spared_chunks(iter([chunk]), one))


def test_open_sides_reach_to_every_key():
    longest = b"\xff" * MAX_KEY_BYTES
    assert holds(interval(None, None), longest)
    assert holds(interval(None, None), b"")
    assert [(b"", None)] == gaps((), None, None)
    assert [] == gaps(interval(None, None), None, None)
    assert [(b"b", None)] == gaps(((b"a", b"b"),), b"a", None)


@pytest.mark.parametrize(
    ("start", "stop"), [(b"a", b"a"), (b"b", b"a"), (None, b""), (b"\xff" * 70_000, None)]
)
def test_an_interval_without_a_key_is_none(start, stop):
    assert () == interval(start, stop)


def test_bounds_that_are_longer_than_keys_decide_the_same():
    long = b"k" * (MAX_KEY_BYTES + 50)
    (found,) = interval(long, long[:-1] + b"z" * 90)[:1] or (None,)
    assert found is None
    ((start, stop),) = interval(long, b"l")
    assert len(start) == MAX_KEY_BYTES + 1
    assert not holds(((start, stop),), b"k" * MAX_KEY_BYTES)
    assert holds(((start, stop),), b"k" * (MAX_KEY_BYTES - 1) + b"l")


def test_a_chunk_that_has_nothing_in_the_intervals_is_passed_on():
    chunk = ([b"a", b"c"], [None, b"1"])
    assert chunk is spared(chunk, ((b"", b"a"), (b"d", b"e")))
