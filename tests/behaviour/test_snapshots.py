"""An iterator sees the state of the moment it began, whatever happens to the database meanwhile."""

import itertools
import random

import pytest

from lsmdbm.database import open_on
from support.crash_storage import CrashStorage
from support.layers import KEYS, SHAPES, TINY, shaped, write

pytestmark = pytest.mark.usefixtures("no_syncs")


def put(db, model, rng):
    db.update((key, b"overwritten") for key in KEYS)
    db.update((b"new" + key, b"new") for key in KEYS)


def delete(db, model, rng):
    for key in KEYS:
        db.pop(key, None)


def clear(db, model, rng):
    db.clear()


def flush(db, model, rng):
    db["flushed"] = "1"
    db.flush()


def compact(db, model, rng):
    delete(db, model, rng)
    db.compact()


def begin_anew_and_compact(db, model, rng):
    db.clear()
    db.update((key, b"anew") for key in KEYS[::2])
    db.flush()
    db.compact()


def write_a_lot(db, model, rng):
    for _ in range(5):
        write(db, model, rng, len(KEYS))
        db.flush()
    db.compact()


def count(db, model, rng):
    assert len(db) == len(db.keys())


CHANGES = [put, delete, clear, flush, compact, begin_anew_and_compact, write_a_lot, count]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_iterator_sees_the_state_of_its_begin(shape, change, seed):
    rng = random.Random(f"{seed} {shape} {change.__name__}")
    with shaped(shape, rng) as (db, model):
        items = model.range()
        keys, part = [key for key, _ in items], model.range(KEYS[20], KEYS[170])
        under_way = []  # an iterator, and what it has yet to give
        for steps in (0, 1, rng.randrange(2, 40), 150):
            for iterator, expected in (
                (iter(db.items()), items),
                (iter(db), keys),
                (reversed(db), keys[::-1]),
                (reversed(db.items()), items[::-1]),
                (iter(db.values()), [value for _, value in items]),
                (iter(db.range(KEYS[20], KEYS[170]).items()), part),
                (iter(db.range(KEYS[20], KEYS[170], reverse=True).items()), part[::-1]),
            ):
                assert expected[:steps] == [*itertools.islice(iterator, steps)]
                under_way.append((iterator, expected[steps:]))

        change(db, model, rng)
        for iterator, expected in under_way[::2]:
            assert expected == [*iterator]
        change(db, model, rng)
        for iterator, expected in under_way[1::2]:
            assert expected == [*iterator]


def test_a_program_may_change_what_it_iterates_over(db):
    db.update((b"%03d" % number, b"old") for number in range(300))

    for key, value in db.items():
        assert b"old" == value
        db[key] = "new"
        db[key + b"+"] = "more"
        if key < b"100":
            del db[key]
    assert 300 + 200 == len(db)
    assert {b"new", b"more"} == set(db.values())


def test_each_iteration_over_a_view_begins_a_moment_of_its_own(db):
    items = db.items()
    seen = []
    for number in range(3):
        db[str(number)] = "v"
        seen.append(len([*items]))
    assert [1, 2, 3] == seen


def test_iterators_of_many_moments_each_see_their_own(seed, budget):
    rng = random.Random(f"{seed} many moments")
    with open_on(CrashStorage(), "/db", "c", 0o666, TINY) as db:
        moments, content = [], {}
        for step in range(100 if budget == "small" else 400):
            key = rng.choice(KEYS)
            if rng.random() < 0.3:
                db.pop(key, None)
                content.pop(key, None)
            else:
                content[key] = b"%d" % step * rng.randrange(9)
                db[key] = content[key]
            if rng.random() < 0.2:
                iterator, expected = iter(db.items()), sorted(content.items())
                taken = rng.randrange(len(expected) + 1)
                assert expected[:taken] == [*itertools.islice(iterator, taken)]
                moments.append((iterator, expected[taken:]))
            if moments and rng.random() < 0.1:
                iterator, expected = moments.pop(rng.randrange(len(moments)))
                assert expected == [*iterator]
            if rng.random() < 0.02:
                rng.choice([db.flush, db.compact])()
        for iterator, expected in moments:
            assert expected == [*iterator]


@pytest.mark.parametrize("flushes", [False, True])
def test_alternating_a_put_and_a_scan_keeps_few_memtables(db, flushes):
    for number in range(300):
        db[f"{number:03d}"] = "v"
        assert b"000" == next(iter(db))
        if flushes and number % 100 == 50:
            db.flush()
        assert db.stats().memtables < 12
    assert 300 == len(db)
