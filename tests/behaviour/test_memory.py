"""Memory is bounded by the options, however large the data is.

Measured by tracemalloc, as the peak above what was there before, with a hundred times as much data as a
memtable takes.
"""

import random
import tracemalloc
from collections import deque
from contextlib import contextmanager

import pytest

import lsmdbm

pytestmark = pytest.mark.usefixtures("no_syncs")

OPTIONS = {"memtable_bytes": 128 << 10, "cache_bytes": 128 << 10, "compression": None}
VALUE_BYTES, COUNT = 1000, 13_200
DATA_BYTES = VALUE_BYTES * COUNT

# Where the bounds come from: a reading or merging source holds 16 blocks or 128 KiB, twice for a moment, and
# there are some ten of them; indexes and filters of open tables may take 1 MiB; update() gathers 256 KiB.
READING, MERGING, WRITING = 2 << 20, 2 << 20, 4 << 20


def pairs(seed, count=COUNT):
    rng = random.Random(f"{seed} memory")
    return ((rng.randbytes(8), rng.randbytes(VALUE_BYTES)) for _ in range(count))


@contextmanager
def peak_below(bound):
    """Fail if at any moment more memory was in use than at the beginning, by `bound` bytes."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < bound


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, seed):
    """A path with a database of DATA_BYTES in several levels."""
    path = tmp_path_factory.mktemp("loaded") / "db"
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        db.update(pairs(seed))
        assert len(db.stats().levels) > 2
    return path


@pytest.fixture
def db(loaded):
    with lsmdbm.open(loaded, "w", **OPTIONS) as database:
        yield database


def exhaust(iterable):
    deque(iter(iterable), maxlen=0)


def test_the_data_is_far_larger_than_the_bound():
    assert 100 * OPTIONS["memtable_bytes"] < DATA_BYTES
    assert 3 * WRITING < DATA_BYTES
    assert 6 * READING < DATA_BYTES


def test_what_keeps_all_the_data_is_noticed(db):
    """The planted fault: a list of all values."""
    with pytest.raises(AssertionError), peak_below(max(READING, MERGING, WRITING)):
        list(db.values())


@pytest.mark.parametrize(
    "scan",
    [
        lambda db: exhaust(db.items()),
        lambda db: exhaust(reversed(db.items())),
        lambda db: exhaust(db.values()),
        lambda db: exhaust(db.range(b"\x10", b"\xf0").items()),
        lambda db: exhaust(db.range(b"\x10", b"\xf0", reverse=True).values()),
        exhaust,
        lambda db: exhaust(reversed(db)),
    ],
    ids=["items", "reversed items", "values", "range", "reverse range", "keys", "reversed keys"],
)
def test_a_scan(db, scan):
    with peak_below(READING):
        scan(db)


def test_a_scan_of_one_large_table_of_large_blocks(path, seed):
    with lsmdbm.open(path, "c", memtable_bytes=1 << 30, block_bytes=64 << 10, cache_bytes=0) as db:
        db.update(pairs(seed))
        db.flush()
        assert db.stats().tables == 1
    with lsmdbm.open(path, "r", cache_bytes=0) as db:
        for iterator in (iter(db.items()), reversed(db.items())):
            with peak_below(1 << 20):
                exhaust(iterator)


def test_a_count(path, seed):
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        db.update(pairs(seed))
        with peak_below(READING):
            assert COUNT == len(db)


def test_an_update_from_a_generator_and_the_flushes_and_compactions_it_brings(path, seed):
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        with peak_below(WRITING):
            db.update(pairs(seed))
        assert db.stats().flushes > 10
        assert db.stats().compactions > 10


def test_puts_one_by_one(path, seed):
    with lsmdbm.open(path, "c", **OPTIONS) as db, peak_below(MERGING):
        for key, value in pairs(seed, COUNT // 2):
            db[key] = value


def test_a_compaction_of_everything(path, seed):
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        db.update(pairs(seed))
        db.update((key, b"") for key, _ in pairs(seed, COUNT // 10))
        with peak_below(MERGING):
            db.compact()
        assert 1 == len([level for level in db.stats().levels if level.tables])


def test_a_flush_of_one_memtable(path, seed):
    with lsmdbm.open(path, "c", **{**OPTIONS, "memtable_bytes": 4 << 20}) as db:
        db.update(pairs(seed, 4000))
        assert 0 == db.stats().tables
        with peak_below(MERGING):
            db.flush()
        assert db.stats().tables > 0


def test_point_reads(db, seed):
    with peak_below(READING):
        for key, value in pairs(seed, 3000):
            assert value == db[key]


def test_opening_and_replaying_logs(path, seed):
    with lsmdbm.open(path, "c", background="manual", memtable_bytes=1 << 20) as db:
        db.update(pairs(seed, 500))
    with peak_below(2 * 500 * VALUE_BYTES + (1 << 20)), lsmdbm.open(path, "w") as db:
        assert 500 == db.stats().memtable_entries


@pytest.mark.parametrize("cache_bytes", [0, 100_000, 1_000_000])
def test_the_cache_keeps_what_its_option_says(loaded, cache_bytes, seed):
    with lsmdbm.open(loaded, "w", cache_bytes=cache_bytes) as db:
        exhaust(map(db.get, (key for key, _ in pairs(seed, 2000))))
        assert cache_bytes - 10_000 <= db.stats().cache_bytes <= cache_bytes
        with peak_below(READING):
            exhaust(map(db.get, (key for key, _ in pairs(seed, 2000))))
