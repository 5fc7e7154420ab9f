"""T14: the smallest and the largest: keys, values, records, tables, and few descriptors."""

import os
import random

import pytest

import lsmdbm
from lsmdbm._base.chunk import MAX_KEY_BYTES
from lsmdbm._engine.appender import MAX_LOG_BYTES
from lsmdbm._engine.names import TABLE, WAL, numbers
from support.budgets import Budget
from support.child import Child
from support.layers import TINY

KEYS = {"small": 1000, "default": 4000, "crash": 100_000, "long": 10_000_000}
TABLES = {"small": 60, "default": 300, "crash": 10_000, "long": 10_000}
LARGEST_BYTES = {"small": 1 << 20, "default": 8 << 20, "crash": 64 << 20, "long": 1 << 30}
BYTES = b"\0", b"\xff", b"\0\xff", b"\xff" * 40, b""
SIZES = [0, 1, 127, 128, 255, 256, 4095, 4096, 16_383, 16_384, 65_535, 65_536]


def of_kind(path, kind):
    return numbers(os.listdir(path), kind)


def content_of(path):
    with lsmdbm.open(path, "r") as db:
        return dict(db)


def look_everywhere(path, expected, options):
    """Check the content as it is, flushed, compacted, and after opening for reading."""
    with lsmdbm.open(path, "w", **options) as db:
        for step in (lambda: None, db.flush, db.compact):
            step()
            assert expected == dict(db)
            assert sorted(expected) == db.keys()
            assert len(expected) == len(db)
            assert [*reversed(sorted(expected.items()))] == [*reversed(db.items())]
    with lsmdbm.open(path, "r", verify_on_open=True, **options) as db:
        assert expected == dict(db)


@pytest.mark.parametrize("options", [TINY, {}], ids=["tiny", "default"])
def test_keys_and_values_of_any_size_from_empty_to_the_largest_key_are_kept(path, options, seed):
    rng = random.Random(f"{seed} sizes")
    keys = {*BYTES, *(rng.randbytes(size) for size in SIZES if size <= MAX_KEY_BYTES)}
    keys |= {
        b"k" * (MAX_KEY_BYTES - 1) + bytes([last]) for last in (0, 1, 254, 255)
    }  # differ at the very end
    expected = {key: rng.randbytes(rng.choice(SIZES)) for key in keys}
    expected[b""] = b""
    with lsmdbm.open(path, "c", **options) as db:
        db.update(expected)
        for key, value in expected.items():
            assert value == db[key]
        assert b"" == db.firstkey()
        assert b"\xff" * 40 == db.lastkey()
    look_everywhere(path, expected, options)


def test_a_value_larger_than_a_log_gets_through(path, budget, seed):
    """A record is never cut: one that is larger than a log goes into a log of its own."""
    large = random.Random(f"{seed} large").randbytes(MAX_LOG_BYTES + 1000)
    with lsmdbm.open(path, "c", background="manual") as db:
        db["a"], db["large"], db["z"] = "1", large, "2"
        assert len(of_kind(path, WAL)) > 0
    expected = {b"a": b"1", b"large": large, b"z": b"2"}
    with lsmdbm.open(path, "r") as db:
        assert expected == dict(db)
    look_everywhere(path, expected, {})


def test_a_batch_larger_than_a_log_is_whole(path, seed):
    rng = random.Random(f"{seed} batch")
    expected = {b"%03d" % number: rng.randbytes(1 << 20) for number in range(18)}
    with lsmdbm.open(path, "c", background="manual") as db:
        db._store.batch([*expected], [*expected.values()])
    with lsmdbm.open(path, "r") as db:
        assert expected == dict(db)


def test_the_largest_value_of_this_budget_is_kept(path, budget):
    unit = os.urandom(1 << 20)
    large = unit * (LARGEST_BYTES[budget] >> 20)
    with lsmdbm.open(path, "c") as db:
        db["key"] = large
        assert large == db["key"]
        db.flush()
        assert large == db["key"]
        db.compact()
    with lsmdbm.open(path, "r") as db:
        assert [(b"key", large)] == [*db.items()]
    print(f"T14: a value of {len(large)} bytes")


def test_many_keys_are_counted_and_found(path):
    with Budget("T14", part="keys", unit="keys", **KEYS) as reach:
        for case in reach:
            rng = random.Random(case)
            count = reach.goal or 10_000
            keys = rng.sample(range(10 * count), count)
            with lsmdbm.open(path, "n", memtable_bytes=64 << 10, block_bytes=1024) as db:
                db.update((b"%09d" % key, b"%d" % key) for key in keys)
                assert count == len(db)
                assert all(b"%d" % key == db[b"%09d" % key] for key in rng.sample(keys, min(count, 2000)))
                assert sorted(keys) == [int(key) for key in db.iterkeys()]
            reach.count(number=count)


@pytest.mark.parametrize("max_open_files", [1, 256])
def test_many_tables_are_read_merged_and_counted(path, max_open_files):
    options = {**TINY, "max_open_files": max_open_files, "background": "manual", "compression": None}
    with Budget("T14", part=f"tables, {max_open_files}", share=0.5, unit="tables", **TABLES) as reach:
        for case in reach:
            rng = random.Random(case)
            expected = {b"%06d" % number: rng.randbytes(40) for number in range(25 * (reach.goal or 500))}
            with lsmdbm.open(path, "n", **options) as db:
                db.update(expected)
                db.compact()
                tables = db.stats().tables
                assert tables == len(of_kind(path, TABLE))
                changes = {key: rng.randbytes(10) for key in rng.sample(sorted(expected), 20)}
                db.update(changes)
                expected.update(changes)
                assert len(expected) == len(db)
                for key in rng.sample(sorted(expected), 300):
                    assert expected[key] == db[key]
            with lsmdbm.open(path, "r", **options) as db:
                assert [*sorted(expected.items())] == [*db.items()]
            with lsmdbm.open(path, "w", **options) as db:
                db.compact()
                assert expected == dict(db.items())
            reach.count(number=tables)


def test_64_descriptors_are_enough_for_many_more_tables(tmp_path, path):
    with Child(tmp_path) as child:
        tables, entries = child("run", "scarcity:work_with_few_descriptors", path, 64)
    assert (True, 1600) == (tables > 64, entries)
    assert entries == len(content_of(path))


def test_without_descriptors_there_are_errors_and_nothing_is_lost(tmp_path, path):
    with Child(tmp_path) as child:
        answer = child("run", "scarcity:work_without_descriptors", path)
    assert ["EMFILE"] * 7 == answer["errors"]
    expected = {b"%03d" % number: b"v" * 50 for number in range(100)} | {b"later": b"1"}
    assert sorted(key.decode() for key in expected) == answer["keys"]
    assert expected == content_of(path)
