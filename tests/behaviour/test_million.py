"""A million random entries: loaded, read back, scanned in order; and a load that is cut in the middle.

In the small budget it is fifty thousand.
"""

import itertools
import random

import pytest

import lsmdbm
from support.child import Child
from support.entries import keys_of, value_of


@pytest.fixture
def count(budget):
    """How many entries."""
    return 50_000 if budget == "small" else 1_000_000


def check_scan(path, keys):
    """Compare a database with the sorted keys it must hold, in order."""
    with lsmdbm.open(path, "r") as db:
        assert all((key, value_of(key)) == item for key, item in both(keys, db.items()))
        assert len(keys) == len(db)


def check_lookups(path, keys, seed):
    """Compare some of the keys in random order, the nearest missing ones, and all keys in reverse."""
    with lsmdbm.open(path, "r") as db:
        some = random.Random(f"{seed} lookups").sample(keys, 30_000)
        assert all(value_of(key) == db[key] for key in some)
        assert all(db.get(key[:-1]) is None for key in some)
        assert all(key == found for key, found in both(reversed(keys), reversed(db)))


def both(ours, theirs):
    return zip(ours, theirs, strict=True)


def test_a_million_entries_come_back_in_order(path, seed, count):
    with lsmdbm.open(path, "c") as db:
        db.update((key, value_of(key)) for key in keys_of(seed, count))
        if count > 100_000:
            assert db.stats().compactions > 0

    keys = sorted(keys_of(seed, count))
    check_scan(path, keys)
    check_lookups(path, keys, seed)
    with lsmdbm.open(path, "w") as db:
        db.compact()
        assert 1 == sum(level.tables > 0 for level in db.stats().levels)
    check_scan(path, keys)


def test_a_load_that_is_cut_in_the_middle_keeps_every_put_that_returned(path, seed, count, tmp_path):
    done = random.Random(f"{seed} cut").randrange(count // 4, count // 2)
    with Child(tmp_path) as child:
        child.start("load entries", path, seed, done)
        assert [str(done)] == [*child.lines()]
        assert 9 == child.wait()

    check_scan(path, sorted(keys_of(seed, done)))
    with lsmdbm.open(path, "w", timeout=0) as db:
        db.update((key, value_of(key)) for key in itertools.islice(keys_of(seed, count), done, None))
    check_scan(path, sorted(keys_of(seed, count)))
