import random

import pytest

from lsmdbm._base.errors import error
from lsmdbm._engine.count import FIRST_LOOKS, LOOKUP_COST, Count, after_flush, census
from lsmdbm._engine.memtable import fold_newest
from lsmdbm._engine.names import TABLE, file_name
from lsmdbm._engine.picker import pick
from lsmdbm._engine.plan import Limits
from lsmdbm._format.coding import MAX_NUMBER
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


# census


def length(view):
    return census(view)[1]


def known(stage, *sealed):
    """Return a view of the stage that knows how many keys are in its tables."""
    return stage.view(*sealed, table_keys=TABLES_ONLY)


def test_count_of_tables_that_is_known_costs_nothing(stage):
    calls = Calls(stage.storage)

    assert (TABLES_ONLY, TABLES_ONLY) == census(known(stage))
    assert 0 == len(calls.paths("open"))


def test_count_that_is_not_known_is_found_by_a_scan(stage):
    assert (TABLES_ONLY, TABLES_ONLY) == census(stage.view())


def test_scan_for_the_count_leaves_out_what_is_deleted():
    stage = Stage()
    stage.add(1, {b"a": b"1", b"b": b"1", b"c": b"1"})
    stage.add(0, {b"a": None, b"b": b"2", b"x": None})
    view = stage.view(memtable({b"c": None, b"d": b"3", b"e": b"3", b"f": None}))

    assert (2, 3) == census(view)


def test_what_is_still_written_does_not_count(stage):
    assert TABLES_ONLY == length(stage.view(active={b"new": b"1"}))


def test_repeated_calls_read_nothing(stage):
    stage.tables.blocks.max_cost = 0
    view = known(stage, fresh(10))
    assert (TABLES_ONLY, TABLES_ONLY + 10) == census(view)
    calls = Calls(stage.storage)

    assert [TABLES_ONLY + 10] * 5 == [length(view) for _ in range(5)]
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
    newest = memtable(entries)

    assert TABLES_ONLY + change == length(known(stage, newest))
    assert change == newest.change


def test_last_word_on_a_key_counts_where_several_memtables_are_new(stage):
    put, delete = memtable({b"new": b"1", b"0001": b"1"}), memtable({b"new": None, b"0001": None})

    assert TABLES_ONLY - 1 == length(known(stage, delete, put))
    put.change = delete.change = None
    assert TABLES_ONLY + 1 == length(known(stage, put, delete))


def test_new_memtables_are_compared_with_the_counted_ones_below(stage):
    older = memtable({b"new": b"1", b"0001": None})
    assert TABLES_ONLY == length(known(stage, older))
    newer = memtable({b"new": b"2", b"0001": None, b"0002": None})

    assert TABLES_ONLY - 1 == length(known(stage, newer, older))
    assert (-1, 0) == (newer.change, older.change)


def test_each_new_key_costs_one_look_below(stage):
    stage.tables.blocks.max_cost = 0
    entries = {b"%04d" % (7 * number): None for number in range(20)}
    stage.view().get(b"0000")  # the table is open
    calls = Calls(stage.storage)

    assert TABLES_ONLY - 20 == length(known(stage, memtable(entries)))
    assert 20 == calls.count("pread")


def test_many_new_keys_are_counted_by_a_scan_of_keys(stage):
    """One look below per key would read every block once for each of its keys."""
    stage.tables.blocks.max_cost = 0
    keys = TABLES_ONLY // LOOKUP_COST + 1
    stage.view().get(b"0000")
    calls = Calls(stage.storage)

    assert TABLES_ONLY + keys == length(known(stage, fresh(keys)))
    assert stage.tables.reader(*stage.version).block_count == calls.count("pread")


def test_as_many_keys_as_pay_are_looked_up(stage):
    """They are above all that is in the table, which costs no read; a scan would."""
    calls = Calls(stage.storage)
    length(known(stage, fresh(TABLES_ONLY // LOOKUP_COST)))

    assert 0 == calls.count("pread")


def test_empty_tree_is_counted():
    stage = Stage()

    assert (0, 0) == census(stage.view(table_keys=0))
    assert (0, 0) == census(stage.view())
    assert 2 == length(stage.view(memtable({b"a": b"1", b"b": None, b"c": b""}), table_keys=0))


# Through flushes


def changing(change):
    made = memtable({b"a": b"1"})
    made.change = change
    return made


@pytest.mark.parametrize(
    ("changes", "table_keys"),
    [((2,), 9), ((2, -1), 8), ((), 7), ((None,), None), ((2, None), None), ((None, 2), None)],
)
def test_flush_keeps_what_is_known_and_nothing_else(stage, changes, table_keys):
    gone = tuple(map(changing, changes))

    assert table_keys == after_flush(stage.view(*gone, table_keys=7), gone)
    assert None is after_flush(stage.view(*gone), gone)


def asked(total):
    """Return a count that somebody has asked for, and got this total."""
    count = Count(None)
    count.asked(total)
    return count


def test_keys_are_looked_up_before_a_flush_if_somebody_asked(stage):
    newest = memtable({b"0001": None, b"0002": b"again", b"new": b"1", b"newer": b"1"})
    survey = asked(TABLES_ONLY).survey(known(stage, newest))
    worth = list(survey.steps)

    assert 1 == newest.change
    assert survey.worth_bytes == sum(worth) > newest.charge


def test_nobody_asked_and_nothing_is_looked_up(stage):
    assert None is Count(0).survey(known(stage, fresh(1)))
    assert None is Count(None).survey(known(stage, fresh(1)))
    assert None is asked(TABLES_ONLY).survey(stage.view(fresh(1)))  # there is no count to be kept
    assert None is Count(LOOKUP_COST - 1).survey(known(stage, fresh(1)))


def test_small_flushes_keep_a_count_that_another_opening_was_asked_for(stage):
    count = Count(TABLES_ONLY)
    few = TABLES_ONLY // LOOKUP_COST

    assert None is Count(10**9).survey(known(stage, fresh(FIRST_LOOKS + 1)))
    assert None is count.survey(known(stage, fresh(few + 1)))
    assert None is not count.survey(known(stage, fresh(few)))
    assert None is count.survey(known(stage, fresh(1)))  # that was all


def test_looking_up_ends_when_it_has_cost_as_much_as_a_scan(stage):
    count = asked(TABLES_ONLY)
    flush = TABLES_ONLY // LOOKUP_COST // 3

    surveys = [count.survey(known(stage, fresh(flush))) for _ in range(5)]
    assert [True] * 3 + [False] * 2 == [survey is not None for survey in surveys]
    count.asked(TABLES_ONLY)
    assert None is not count.survey(known(stage, fresh(flush)))  # asked again, it begins anew


def test_nothing_is_looked_up_twice(stage):
    older, newer = fresh(3), memtable({b"0001": None})
    older.change = 3
    survey = asked(TABLES_ONLY).survey(known(stage, newer, older))

    assert 1 == len(list(survey.steps))
    assert (-1, 3) == (newer.change, older.change)
    assert None is asked(TABLES_ONLY).survey(known(stage, newer, older))


def test_damage_below_does_not_stop_a_flush(stage):
    newest = memtable({b"0001": None})
    survey = asked(TABLES_ONLY).survey(known(stage, newest))
    (meta,) = stage.version
    stage.forget_readers()
    stage.directory.unlink(file_name(meta.number, TABLE))

    assert [] == list(survey.steps)
    assert None is newest.change


# All together


class Life:
    """What a store does with its count, on a stage."""

    def __init__(self, rng):
        self.rng = rng
        self.stage = Stage(block_bytes=64, limits=Limits(500, 2, 1500))
        self.count = Count(0)
        self.table_keys = 0
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
            survey = self.count.survey(self.view())
            self.survey = survey.steps if survey is not None and self.rng.random() < 0.8 else ()

    def end_flush(self):
        if self.flushing:
            gone, left = self.sealed[-self.flushing :], self.sealed[: -self.flushing]
            list(self.survey)
            self.table_keys = after_flush(self.view(), gone)
            self.stage.flush(*gone)
            self.sealed, self.flushing = left, 0
            self.flushed_layers = self.flushing_layers
            plan = pick(self.stage.version, self.stage.shop.limits)
            if plan is not None:
                self.stage.compact(plan)

    def reopen(self):
        """Forget what only memory knows."""
        self.end_flush()
        self.count = Count(self.table_keys)
        for one in self.sealed:
            one.change = None

    def clear(self):
        self.stage.move_to(list(self.stage.version), {})
        self.sealed, self.flushing, self.flushed_layers = (), 0, 0
        self.layers = []
        self.table_keys = 0

    def view(self):
        return self.stage.view(*self.sealed, table_keys=self.table_keys)

    def length(self):
        self.table_keys, total = census(self.view())
        assert len(live(self.layers)) == total
        self.count.asked(total)


def test_count_is_exact_after_anything(seed):
    """And what goes into the manifest is the number of keys in tables, or that it is not known."""
    rng = random.Random(f"{seed} count")
    weights = {"write": 20, "length": 10, "begin_flush": 4, "end_flush": 4, "reopen": 1, "clear": 0.2}
    known = 0
    for _ in range(8):
        life = Life(rng)
        for step in rng.choices(list(weights), list(weights.values()), k=150):
            getattr(life, step)()
            if life.table_keys is not None:
                known += 1
                in_tables = live(life.layers[len(life.layers) - life.flushed_layers :])
                assert len(in_tables) == life.table_keys, f"seed {seed}"
        life.length()

    assert known > 50


def test_guard_finds_a_count_that_forgets_what_a_flush_changed(seed, monkeypatch):
    monkeypatch.setitem(globals(), "after_flush", lambda view, flushed: view.table_keys)

    with pytest.raises(AssertionError):
        test_count_is_exact_after_anything(seed)


def test_count_that_cannot_be_is_an_error_and_not_a_length(stage):
    """len() would raise OverflowError."""
    assert MAX_NUMBER == length(stage.view(fresh(1), table_keys=MAX_NUMBER - 1))
    with pytest.raises(error, match="the number that the manifest has is wrong"):
        length(stage.view(fresh(1), table_keys=MAX_NUMBER))
