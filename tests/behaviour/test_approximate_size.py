"""approximate_size(): what a range takes on disk, out of the indexes alone."""

import random

import pytest

import lsmdbm
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage
from support.layers import KEYS, PATH, SHAPES, TINY, shaped

BLOCK, COUNT = 512, 4000
OPTIONS = {"memtable_bytes": 64 << 10, "block_bytes": BLOCK, "compression": None}


@pytest.fixture(scope="module")
def large():
    """Several tables of entries of one size, in one level; and the storage they are on."""
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, OPTIONS) as db:
        db.update((b"%05d" % number, random.Random(number).randbytes(40)) for number in range(COUNT))
        db.compact()
        yield db, storage


def test_of_everything_it_is_the_size_of_all_tables(large):
    db, _ = large
    assert db.stats().tables > 2
    everything = db.stats().file_bytes

    assert everything == db.approximate_size() == db.approximate_size("", None, prefix="")
    assert everything == db.approximate_size(b"00000", b"99999")


def test_it_is_right_to_a_block_at_each_bound(large, seed):
    db, _ = large
    rng, each = random.Random(f"{seed} sizes"), db.stats().file_bytes / COUNT
    for _ in range(200):
        low, high = sorted((rng.randrange(COUNT), rng.randrange(COUNT)))
        found = db.approximate_size(b"%05d" % low, b"%05d" % high)
        assert abs(found - each * (high - low)) <= 3 * BLOCK, (low, high)


def test_neighbouring_ranges_add_up_to_the_whole(large):
    db, _ = large
    bounds = [None, *(b"%05d" % number for number in range(100, COUNT, 100)), None]
    parts = [db.approximate_size(low, high) for low, high in zip(bounds, bounds[1:], strict=False)]

    assert abs(sum(parts) - db.stats().file_bytes) <= 2 * BLOCK * len(parts)


def test_it_reads_no_block(large):
    db, storage = large
    db.approximate_size(b"00010", b"03990")  # opens the tables
    start = storage.count
    for number in range(0, COUNT, 50):
        assert db.approximate_size(b"%05d" % number, b"%05d" % (number + 20)) > 0
    assert start == storage.count


@pytest.mark.parametrize(
    "bounds",
    [
        {"start": "b"},
        {"stop": ""},
        {"start": "00100", "stop": "00100"},
        {"start": "00200", "stop": "00100"},
        {"prefix": b"\xff"},
        {"prefix": "1", "stop": "0"},
    ],
    ids=repr,
)
def test_what_is_empty_takes_nothing(large, bounds):
    assert 0 == large[0].approximate_size(**bounds)


def test_what_is_in_memory_only_takes_nothing(db):
    db.update((key, b"value") for key in KEYS)
    assert 0 == db.approximate_size()
    db.flush()
    assert db.stats().file_bytes == db.approximate_size()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_part_is_never_more_than_the_whole(shape, seed):
    rng = random.Random(f"{seed} sizes {shape}")
    with shaped(shape, rng) as (db, model):
        whole = db.stats().file_bytes
        assert whole == db.approximate_size()
        for _ in range(30):
            low, high = sorted(rng.sample(KEYS, 2))
            assert 0 <= db.approximate_size(low, high) <= db.approximate_size(low) <= whole


def test_a_reader_and_a_prefix_have_sizes_too(path):
    with lsmdbm.open(path, "c", **{**TINY, "memtable_bytes": 1 << 20}) as db:
        db.update((f"{letter}{number:03}", "value") for letter in "abc" for number in range(200))
    with lsmdbm.open(path, "w") as db:
        db.flush()
    with lsmdbm.open(path) as db:
        third = db.stats().file_bytes / 3
        assert abs(db.approximate_size(prefix="b") - third) < third / 4


def test_a_bound_of_a_wrong_type_is_a_type_error(db):
    with pytest.raises(TypeError, match="start must be"):
        db.approximate_size(1)
