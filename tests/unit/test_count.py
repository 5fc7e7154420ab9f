import random

import pytest

from lsmdbm._engine.count import LOOKUP_COST, Count
from lsmdbm._engine.memtable import fold_newest
from lsmdbm._engine.picker import Limits, pick
from support.stage import Calls, Stage, live, memtable

TABLES_ONLY = 1000


@pytest.fixture
def stage():
    """A stage of 1000 keys in one table."""
    stage = Stage(bloom_bits_per_key=0)
    stage.add(1, {b"%04d" % number: b"value" for number in range(TABLES_ONLY)})
    return stage


def fresh(number, value=b"new"):
    """Return a memtable of so many keys that are not in the stage."""
    return memtable({b"new %04d" % key: value for key in range(number)})


# exact


def test_count_of_tables_that_is_known_costs_nothing(stage):
    calls = Calls(stage.storage)

    assert TABLES_ONLY == Count(TABLES_ONLY).exact(stage.view())
    assert 0 == len(calls.paths("open"))


def test_count_that_is_not_known_is_found_by_a_scan(stage):
    count = Count(None)

    assert TABLES_ONLY == count.exact(stage.view())
    assert TABLES_ONLY == count.total


def test_scan_for_the_count_leaves_out_what_is_deleted():
    stage = Stage()
    stage.add(1, {b"a": b"1", b"b": b"1", b"c": b"1"})
    stage.add(0, {b"a": None, b"b": b"2", b"x": None})

    assert 3 == Count(None).exact(stage.view(memtable({b"c": None, b"d": b"3", b"e": b"3", b"f": None})))


def test_repeated_calls_read_nothing(stage):
    stage.tables.blocks.max_cost = 0
    count, view = Count(None), stage.view(fresh(10))
    assert TABLES_ONLY + 10 == count.exact(view)
    calls = Calls(stage.storage)

    assert [TABLES_ONLY + 10] * 5 == [count.exact(view) for _ in range(5)]
    assert (0, 0) == (calls.count("pread"), calls.count("open"))


@pytest.mark.parametrize(
    ("entries", "change"),
    [
        ({b"new": b"1"}, 1),
        ({b"new": None}, 0),
        ({b"0001": b"again"}, 0),
        ({b"0001": None}, -1),
        ({b"0001": None, b"0002": None, b"new": b"1", b"other": None}, -1),
        ({}, 0),
    ],
    ids=["put", "delete nothing", "overwrite", "delete", "all", "nothing"],
)
def test_count_changes_by_what_each_new_key_changes(stage, entries, change):
    count, view = Count(TABLES_ONLY), stage.view(memtable(entries))

    assert [TABLES_ONLY + change] * 2 == [count.exact(view), count.exact(view)]


def test_last_word_on_a_key_counts_where_several_memtables_are_new(stage):
    put, delete = memtable({b"new": b"1", b"0001": b"1"}), memtable({b"new": None, b"0001": None})

    assert TABLES_ONLY - 1 == Count(TABLES_ONLY).exact(stage.view(delete, put))
    for one in (put, delete):
        one.counted = False
    assert TABLES_ONLY + 1 == Count(TABLES_ONLY).exact(stage.view(put, delete))


def test_new_memtables_are_compared_with_the_counted_ones_below(stage):
    count, older = Count(TABLES_ONLY), memtable({b"new": b"1", b"0001": None})
    assert TABLES_ONLY == count.exact(stage.view(older))
    newer = memtable({b"new": b"2", b"0001": None, b"0002": None})

    assert TABLES_ONLY - 1 == count.exact(stage.view(newer, older))


def test_each_new_key_costs_one_look_below(stage):
    stage.tables.blocks.max_cost = 0
    count = Count(TABLES_ONLY)
    entries = {b"%04d" % (7 * number): None for number in range(20)}
    stage.view().get(b"0000")  # the table is open
    calls = Calls(stage.storage)

    assert TABLES_ONLY - 20 == count.exact(stage.view(memtable(entries)))
    assert 20 == calls.count("pread")


def test_many_new_keys_are_counted_by_a_scan_of_keys(stage):
    """One look below per key would read every block once for each of its keys."""
    stage.tables.blocks.max_cost = 0
    count = Count(TABLES_ONLY)
    keys = TABLES_ONLY // LOOKUP_COST + 1
    stage.view().get(b"0000")
    calls = Calls(stage.storage)

    assert TABLES_ONLY + keys == count.exact(stage.view(fresh(keys)))
    assert stage.tables.reader(*stage.version).block_count == calls.count("pread")


def test_as_many_keys_as_pay_are_looked_up(stage):
    """They are above all that is in the table, which costs no read; a scan would."""
    count = Count(TABLES_ONLY)
    calls = Calls(stage.storage)
    count.exact(stage.view(fresh(TABLES_ONLY // LOOKUP_COST)))

    assert 0 == calls.count("pread")


def test_empty_tree_is_counted():
    stage = Stage()

    assert 0 == Count(0).exact(stage.view())
    assert 0 == Count(None).exact(stage.view())
    assert 2 == Count(0).exact(stage.view(memtable({b"a": b"1", b"b": None, b"c": b""})))


# after_flush


def counted(entries, value=True):
    made = memtable(entries)
    made.counted = value
    return made


A, B = {b"a": b"1"}, {b"b": b"1"}


@pytest.mark.parametrize(
    ("remaining", "flushed", "tables_only", "total"),
    [
        ((), (True,), 7, 7),  # all that was counted is in tables now
        ((), (True, True), 7, 7),
        ((False,), (True,), 7, 7),  # what came since is not in the total
        ((True,), (True,), None, 7),  # the total counts what is not in tables
        ((False, True), (True,), None, 7),
        ((), (False,), None, None),  # the tables hold what nobody has counted
        ((), (False, True), None, None),
        ((True,), (False,), None, None),
        ((False,), (False,), None, None),
    ],
)
def test_flush_keeps_what_is_known_and_nothing_else(remaining, flushed, tables_only, total):
    left = tuple(counted(A, value) for value in remaining)
    gone = tuple(counted(B, value) for value in flushed)
    count = Count(7)

    assert tables_only == count.after_flush(left, gone)
    assert (7, 7) == (count.tables_only, count.total)  # asking changes nothing
    count.flushed(left, gone)
    assert (tables_only, total) == (count.tables_only, count.total)
    assert [total is not None and value for value in remaining] == [one.counted for one in left]


def test_clear_leaves_a_count_of_nothing(stage):
    count = Count(None)
    count.exact(stage.view())
    count.cleared()

    assert (0, 0) == (count.tables_only, count.total)
    assert 1 == count.exact(Stage().view(memtable(A)))


# All together


class Life:
    """What a store does with its count, on a stage."""

    def __init__(self, rng):
        self.rng = rng
        self.stage = Stage(block_bytes=64, limits=Limits(500, 2, 1500))
        self.count = Count(0)
        self.sealed = ()
        self.flushing = 0
        self.layers = []  # of everything ever sealed, newest first
        self.flushed_layers = 0  # how many of the oldest are in tables

    def write(self):
        entries = {
            b"%d" % self.rng.randrange(200): self.rng.choice((None, b"v"))
            for _ in range(self.rng.choice((1, 3, 50)))
        }
        self.layers.insert(0, entries)
        self.sealed = fold_newest((memtable(entries), *self.sealed), self.flushing)

    def begin_flush(self):
        if not self.flushing:
            self.flushing = len(self.sealed)
            self.flushing_layers = len(self.layers)

    def end_flush(self):
        if self.flushing:
            gone, left = self.sealed[-self.flushing :], self.sealed[: -self.flushing]
            self.stage.flush(*gone)
            self.count.flushed(left, gone)
            self.sealed, self.flushing = left, 0
            self.flushed_layers = self.flushing_layers
            plan = pick(self.stage.version, self.stage.shop.limits)
            if plan is not None:
                self.stage.compact(plan)

    def reopen(self):
        """Forget what only memory knows."""
        self.end_flush()
        self.count = Count(self.count.tables_only)
        for one in self.sealed:
            one.counted = False

    def clear(self):
        self.stage.move_to(list(self.stage.version), {})
        self.sealed, self.flushing, self.flushed_layers = (), 0, 0
        self.layers = []
        self.count.cleared()

    def length(self):
        assert len(live(self.layers)) == self.count.exact(self.stage.view(*self.sealed))


def test_count_is_exact_after_anything(seed):
    """And what goes into the manifest is the number of keys in tables, or that it is not known."""
    rng = random.Random(f"{seed} count")
    weights = {"write": 20, "length": 10, "begin_flush": 4, "end_flush": 4, "reopen": 1, "clear": 0.2}
    known = 0
    for _ in range(8):
        life = Life(rng)
        for step in rng.choices(list(weights), list(weights.values()), k=150):
            getattr(life, step)()
            if life.count.tables_only is not None:
                known += 1
                in_tables = live(life.layers[len(life.layers) - life.flushed_layers :])
                assert len(in_tables) == life.count.tables_only, f"seed {seed}"
        life.length()

    assert known > 50


def test_guard_finds_a_count_that_forgets_to_mark(seed, monkeypatch):
    monkeypatch.setattr(Count, "flushed", lambda self, remaining, flushed: None)

    with pytest.raises(AssertionError):
        test_count_is_exact_after_anything(seed)
