"""A database and a dict do the same, whatever is asked of them in whatever order.

The disk is in memory, and the process may be killed and the power cut between any two steps.  Sizes are
tiny, so that every few puts seal, flush or compact something.
Transactions have a machine of their own: test_stateful_transactions.py.
"""

import itertools
import os
import random
from contextlib import contextmanager, suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import lsmdbm
from lsmdbm._engine import mapped
from lsmdbm.database import open_on
from support.crash_storage import MODES, CrashStorage
from support.hands import hired
from support.model import Model, sum_of

PATH = "/db"

few_keys = st.sampled_from(
    [b"", b"\x00", b"a", b"a\x00", b"a\xff", b"ab", b"b", b"\xff", b"\xff\xff", b"k" * 300]
)
many_keys = st.integers(0, 49).map(lambda number: b"%03d" % number)
keys = few_keys | many_keys | st.binary(max_size=3)
numbers = st.integers(-99, 99)
texts = st.integers(0, 700).map(lambda size: b"v" * size) | numbers.map(lambda number: b"%d" % number)
values = st.binary(max_size=20) | texts
bounds = st.none() | keys
seeds = st.integers(0, 1 << 32)
policies = st.sampled_from(
    [{"compaction": "leveled"}, {"compaction": "tiered"}, {"compaction": "fifo", "max_bytes": 1 << 30}, {}]
)
options = st.fixed_dictionaries(
    {
        "durability": st.sampled_from(["none", "process", "interval", "full"]),
        "sync_interval": st.sampled_from([0, 0.5, 1000.0]),
        "memtable_bytes": st.sampled_from([1, 256, 1024, 4096]),
        "block_bytes": st.sampled_from([1, 64, 1000]),
        "compression": st.sampled_from(["zstd", None]),
        "compression_level": st.sampled_from([-1, 1, 3]),
        "dictionaries": st.booleans(),
        "bloom_bits_per_key": st.sampled_from([0, 1, 12]),
        "cache_bytes": st.sampled_from([0, 600, 1 << 20]),
        "background": st.sampled_from(["inline", "process", "manual"]),
        "log_io": st.sampled_from(["pwrite", "mmap", "auto"]),
        "log_keep_bytes": st.sampled_from([0, 1, 1 << 18]),
        "max_open_files": st.sampled_from([1, 2, 100]),
        "verify_on_open": st.booleans(),
    }
)
options = st.tuples(options, policies).map(lambda pair: pair[0] | pair[1])


@pytest.fixture(autouse=True, scope="module")
def small_mapped_logs():
    """Logs that are mapped are rotated every few writes at first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "FIRST_LOG_BYTES", 256)
        yield


@pytest.fixture(autouse=True, scope="module")
def hands():
    """Compactions of background="process" are done by somebody else."""
    with hired():
        yield


class Discarded(Exception):
    """Leaves the block of a batch."""


class Elsewhere:
    """The same disk, as another process has it: nothing is shared in memory."""

    def __init__(self, storage):
        self._storage = storage

    def __getattr__(self, name):
        return getattr(self._storage, name)


class Reading:
    """An iterator that goes on reading the state of its begin."""

    def __init__(self, handle, iterator, expected, snapshot=None):
        self.handle = handle
        self.snapshot = snapshot
        self.iterator = iterator
        self.expected = expected

    def step(self, count):
        chosen, self.expected = self.expected[:count], self.expected[count:]
        assert chosen == [*itertools.islice(self.iterator, count)]

    def is_closed_with(self, owner):
        """Return whether it belongs to this handle or snapshot, which was closed; then it must say so."""
        if owner is not self.handle and owner is not self.snapshot:
            return False
        with pytest.raises((lsmdbm.ClosedError, StopIteration) if not self.expected else lsmdbm.ClosedError):
            next(self.iterator)
        return True


@contextmanager
def same_key_error(expects):
    if expects:
        with pytest.raises(KeyError):
            yield
    else:
        yield


class DatabaseAndModel(RuleBasedStateMachine):
    """One database; the model of what it must hold; readers, and what they must go on seeing."""

    @initialize(options=options, seed=seeds)
    def begin(self, options, seed):
        self.storage = CrashStorage(seed)
        self.rng = random.Random(seed)
        self.model = Model()
        self.readings = []
        self.readers = []
        self.snapshots = []  # with their handles, and what they must go on holding
        self.second = None
        self.is_read_only = False
        self.db = open_on(self.storage, PATH, "c", 0o666, options)
        self.durability = options["durability"]
        self.owes_a_sync = False

    def teardown(self):
        if hasattr(self, "db"):
            self.everything_is_the_same()
            for reading in self.readings:
                reading.step(len(reading.expected) + 1)
            self.readings = []
            self.close_all()
            assert not self.storage.locked

    def close_all(self):
        """Close every handle; what reads must say so."""
        for reader, expected in self.readers:
            assert expected == [*reader.items()]
            reader.close()
        self.readers = []
        self.close_second()
        self.close(self.db)
        assert [] == self.readings

    def close_second(self):
        if self.second is not None:
            self.close(self.second)
            self.second = None

    def close(self, handle):
        handle.close()
        self.readings = [reading for reading in self.readings if not reading.is_closed_with(handle)]
        for owner, snapshot, _ in self.snapshots:
            if owner is handle:
                with pytest.raises(lsmdbm.ClosedError):
                    snapshot.first()
        self.snapshots = [kept for kept in self.snapshots if kept[0] is not handle]

    @property
    def any_handle(self):
        return self.rng.choice([self.db, self.second or self.db])

    # -- writing ------------------------------------------------------------------------------------

    writable = precondition(lambda self: not self.is_read_only)

    @writable
    @rule(key=keys, value=values)
    def put(self, key, value):
        self.any_handle[key] = value
        self.model.put(key, value)

    @writable
    @rule(key=keys)
    def delete(self, key):
        with same_key_error(key not in self.model):
            del self.any_handle[key]
        self.model.delete(key)

    @writable
    @rule(pairs=st.lists(st.tuples(keys, values), max_size=30))
    def update(self, pairs):
        self.any_handle.update(pairs)
        self.model.update(pairs)

    @writable
    @rule(
        changes=st.lists(st.tuples(keys, st.none() | values), max_size=30),
        discards=st.sampled_from([None, None, None, "discard", "exception"]),
    )
    def batch(self, changes, discards):
        with suppress(Discarded), self.any_handle.batch() as batch:
            for key, value in changes:
                if value is None:
                    del batch[key]
                else:
                    batch[key] = value
            assert len(dict(changes)) == len(batch)
            if discards == "exception":
                raise Discarded
            if discards == "discard":
                batch.discard()
        if discards is None:
            self.model.update(changes)

    @writable
    @rule(
        seed=seeds,
        count=st.integers(1, 200),
        spread=st.sampled_from([10, 50, 300]),
        deletes=st.sampled_from([0.0, 0.2, 0.9]),
    )
    def write_many(self, seed, count, spread, deletes):
        rng, db = random.Random(seed), self.any_handle
        for _ in range(count):
            key = b"%03d" % rng.randrange(spread)
            if rng.random() < deletes:
                assert self.model.get(key) == db.pop(key, None)
                self.model.delete(key)
            else:
                value = rng.randbytes(rng.randrange(40))
                db[key] = value
                self.model.put(key, value)

    @writable
    @rule(key=keys, default=st.none() | values)
    def pop(self, key, default):
        expected = self.model.get(key)
        assert (default if expected is None else expected) == self.any_handle.pop(key, default)
        self.model.delete(key)

    @writable
    @rule(count=st.integers(1, 20))
    def popitem(self, count):
        for _ in range(count):
            expected = self.model.first()
            with same_key_error(expected is None):
                assert expected == self.any_handle.popitem()
            if expected is not None:
                self.model.delete(expected[0])

    @writable
    @rule(key=keys, value=values)
    def setdefault(self, key, value):
        if key not in self.model:
            self.model.put(key, value)
        assert self.model.get(key) == self.any_handle.setdefault(key, value)

    @writable
    @rule(key=keys, delta=numbers)
    def increment(self, key, delta):
        expected = sum_of(self.model.get(key), delta)
        if expected is None:
            with pytest.raises(ValueError, match="no decimal integer"):
                self.any_handle.increment(key, delta)
        else:
            assert expected == self.any_handle.increment(key, delta)
            self.model.put(key, b"%d" % expected)

    @writable
    @rule(start=bounds, stop=bounds, way=st.sampled_from(["database", "range", "batch"]), key=keys)
    def delete_range(self, start, stop, way, key):
        db = self.any_handle
        self.model.delete_range(start, stop)
        if way == "database":
            db.delete_range(start, stop)
        elif way == "range":
            db.range(start, stop).delete()
        else:
            with db.batch() as batch:
                batch[key] = b"gone if it is in the range"
                if start is not None or stop is not None:
                    batch.delete_range(start, stop)
                else:
                    batch.delete_range()
                batch[key] = b"later"
            self.model.put(key, b"later")

    @writable
    @rule()
    def clear(self):
        self.any_handle.clear()
        self.model.clear()

    @writable
    @rule(care=st.sampled_from(["flush", "compact", "reorganize"]))
    def flush_or_compact(self, care):
        getattr(self.any_handle, care)()

    @rule()
    def sync(self):
        self.any_handle.sync()

    @rule(seconds=st.sampled_from([0.01, 1.0, 20.0]))
    def let_time_pass(self, seconds):
        self.storage.advance(seconds)

    # -- reading ------------------------------------------------------------------------------------

    @rule(key=keys)
    def get(self, key):
        expected, db = self.model.get(key), self.any_handle
        assert expected == db.get(key)
        assert (expected is not None) == (key in db)
        with same_key_error(expected is None):
            assert expected == db[key]

    @rule(chosen=st.lists(keys, max_size=20))
    def get_many(self, chosen):
        expected = {key: self.model.get(key) for key in chosen if key in self.model}
        found = self.any_handle.get_many(chosen)
        assert (expected, [*expected]) == (found, [*found])

    @rule(start=bounds, stop=bounds)
    def approximate_size(self, start, stop):
        db = self.any_handle
        assert 0 <= db.approximate_size(start, stop) <= db.approximate_size()
        assert db.stats().file_bytes == db.approximate_size()

    @rule(start=bounds, stop=bounds, reverse=st.booleans())
    def range(self, start, stop, reverse):
        part = self.any_handle.range(start, stop, reverse=reverse)
        expected = self.model.range(start, stop, reverse=reverse)
        assert expected == [*part.items()]
        assert [key for key, _ in expected] == [*part]
        assert expected[::-1] == [*reversed(part.items())]
        assert (expected[0] if expected else None) == part.first()
        assert (expected[-1] if expected else None) == part.last()
        assert (len(expected), bool(expected)) == (len(part), bool(part))

    @rule(prefix=keys.map(lambda key: key[:2]), start=bounds, reverse=st.booleans())
    def prefix(self, prefix, start, reverse):
        expected = self.model.range(start, prefix=prefix, reverse=reverse)
        assert expected == [*self.any_handle.range(start, prefix=prefix, reverse=reverse).items()]

    @rule(key=keys)
    def neighbours(self, key):
        db, above = self.any_handle, self.model.range(key + b"\0")
        assert (above[0][0] if above else None) == db.nextkey(key)
        below = self.model.range(stop=key)
        assert (below[-1][0] if below else None) == db.prevkey(key)
        first, last = self.model.first(), self.model.last()
        assert (first and first[0], last and last[0]) == (db.firstkey(), db.lastkey())

    @rule()
    def length(self):
        db = self.any_handle
        assert (len(self.model), bool(len(self.model))) == (len(db), bool(db))

    # -- iterators and handles that go on reading ---------------------------------------------------

    @rule(start=bounds, stop=bounds, reverse=st.booleans(), keys_only=st.booleans())
    def begin_to_iterate(self, start, stop, reverse, keys_only):
        handle = self.any_handle
        part = handle.range(start, stop, reverse=reverse)
        expected = self.model.range(start, stop, reverse=reverse)
        if keys_only:
            self.readings.append(Reading(handle, iter(part), [key for key, _ in expected]))
        else:
            self.readings.append(Reading(handle, iter(part.items()), expected))

    @precondition(lambda self: self.readings)
    @rule(chosen=seeds, count=st.sampled_from([1, 2, 10, 1000]))
    def go_on_iterating(self, chosen, count):
        index = chosen % len(self.readings)
        self.readings[index].step(count)
        if count == 1000:
            self.readings.pop(index)

    @precondition(lambda self: len(self.snapshots) < 5)
    @rule()
    def take_a_snapshot(self):
        handle = self.any_handle
        self.snapshots.append((handle, handle.snapshot(), self.model.copy()))

    @precondition(lambda self: self.snapshots)
    @rule(chosen=seeds, key=keys, start=bounds, stop=bounds, reverse=st.booleans())
    def read_a_snapshot(self, chosen, key, start, stop, reverse):
        handle, snapshot, model = self.snapshots[chosen % len(self.snapshots)]
        assert (model.get(key), key in model) == (snapshot.get(key), key in snapshot)
        part, expected = (
            snapshot.range(start, stop, reverse=reverse),
            model.range(start, stop, reverse=reverse),
        )
        assert expected == [*part.items()]
        assert expected[::-1] == [*reversed(part.items())]
        assert (len(model), len(expected)) == (len(snapshot), len(part))
        assert (model.first(), model.last()) == (snapshot.first(), snapshot.last())
        chosen = [key, b"", b"000", b"025"]
        assert {each: model.get(each) for each in chosen if each in model} == snapshot.get_many(chosen)
        self.readings.append(Reading(handle, iter(part.items()), expected, snapshot))

    @precondition(lambda self: self.snapshots)
    @rule(chosen=seeds, is_closed=st.booleans())
    def let_a_snapshot_go(self, chosen, is_closed):
        _, snapshot, model = self.snapshots.pop(chosen % len(self.snapshots))
        assert model.range() == [*snapshot.items()]
        iterator = iter(snapshot)
        if is_closed:
            self.close(snapshot)
            with pytest.raises(lsmdbm.ClosedError):
                next(iterator)
        else:
            del snapshot
            assert model.keys() == [*iterator]

    @precondition(lambda self: self.second is None)
    @rule(flag=st.sampled_from(["r", "w", "c"]), options=options)
    def open_a_second_handle(self, flag, options):
        if flag != "r" and self.is_read_only:
            return
        handle = open_on(self.storage, PATH, flag, 0o666, options)
        if flag == "r":
            assert self.model.range() == [*handle.items()]
            handle.close()
        else:
            self.second = handle

    @precondition(lambda self: self.second is not None)
    @rule(is_first=st.booleans())
    def close_one_of_two_handles(self, is_first):
        if is_first:
            self.db, self.second = self.second, self.db
        self.close_second()

    @precondition(lambda self: len(self.readers) < 3)
    @rule(options=options)
    def open_a_reader_elsewhere(self, options):
        self.db.sync()  # or, at durability "none", it sees a prefix
        reader = open_on(Elsewhere(self.storage), PATH, "r", 0o666, options)
        self.readers.append((reader, self.model.range()))

    @precondition(lambda self: self.readers)
    @rule(chosen=seeds, key=keys)
    def read_elsewhere(self, chosen, key):
        reader, expected = self.readers[chosen % len(self.readers)]
        assert expected == [*reader.items()]
        assert expected[::-1] == [*reversed(reader.items())]
        assert (dict(expected).get(key), len(expected)) == (reader.get(key), len(reader))

    # -- closing, dying -----------------------------------------------------------------------------

    @rule(flag=st.sampled_from(["r", "w", "c", "w", "c"]), options=options)
    def reopen(self, flag, options):
        self.close_all()
        self.open_again(self.storage, flag, options)

    @writable
    @rule(options=options)
    def begin_anew(self, options):
        self.close_all()
        self.model.clear()
        self.open_again(self.storage, "n", options)

    @writable
    @rule(mode=st.sampled_from(MODES), seed=seeds, options=options)
    def die(self, mode, seed, options):
        """Kill the process, or cut the power, after all was made durable that such a crash would take."""
        is_durable = self.durability == "full" and not self.owes_a_sync
        if self.durability == "none" or (mode != "kill" and not is_durable):
            self.db.sync()
        owes_a_sync = mode == "kill" and not is_durable
        survivor = self.storage.crash(mode, random.Random(seed))
        self.close_all()
        self.open_again(survivor, "w", options)
        self.owes_a_sync = owes_a_sync

    def open_again(self, storage, flag, options):
        self.storage = storage
        self.owes_a_sync = self.durability == "none"  # whatever this handle may promise of its own writes
        self.db = open_on(storage, PATH, flag, 0o666, options)
        self.durability = options["durability"]
        self.is_read_only = flag == "r"
        self.everything_is_the_same()

    # -- always -------------------------------------------------------------------------------------

    def everything_is_the_same(self):
        """Compare the whole content, forward and in reverse, and the length."""
        expected = self.model.range()
        assert expected == [*self.db.items()]
        assert expected[::-1] == [*reversed(self.db.items())]
        assert [key for key, _ in expected] == self.db.keys()
        assert len(expected) == len(self.db)
        assert all(value == self.db[key] for key, value in expected)

    @invariant()
    def nothing_went_wrong_in_the_background(self):
        if hasattr(self, "db"):
            assert self.db.stats().trouble is None


TestDatabaseAndModel = DatabaseAndModel.TestCase
EXAMPLES = {"default": 40}  # the other budgets take as many as any property does
TestDatabaseAndModel.settings = settings(
    stateful_step_count=60,
    max_examples=EXAMPLES.get(os.environ["LSMDBM_BUDGET"], settings.default.max_examples),
)
