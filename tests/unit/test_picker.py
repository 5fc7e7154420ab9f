import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lsmdbm._base.options import Options
from lsmdbm._engine import fifo, leveled, tiered
from lsmdbm._engine.picker import pick, pick_everything
from lsmdbm._engine.plan import MAX_WIDTH, Limits, Plan, bounds, occupied
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import MAX_LEVELS
from support.drawings import Case, cases, describe
from support.stage import table_meta

DRAWINGS = sorted(Path(__file__).parents[1].joinpath("picker").glob("*.txt"))
CASES = [(path.stem, case) for path in DRAWINGS for case in cases(path.read_text("ascii"))]
ANSWERS = {"pick": pick, "everything": pick_everything}


# Drawings


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{stem}: {case.title}") for stem, case in CASES])
def test_plan_is_the_one_drawn(case):
    found = {question: describe(ANSWERS[question](case.version, case.limits)) for question in case.expected}

    assert case.expected == found


def test_drawings_are_there_and_their_titles_tell_them_apart():
    titles = [(stem, case.title) for stem, case in CASES]

    assert {"level0", "moves", "deeper", "everything"} == {stem for stem, _ in titles}
    assert len(titles) == len(set(titles)) > 40


def test_drawing_is_read_as_it_looks():
    (case,) = cases(
        """
== everything at once   # with a comment
limits level1=7
keys  abcdefghij
L0    <9->   # a comment
L0     <8*><7>
L2    <5-><4->
bytes 9=3
pick  nothing
"""
    )
    level0 = (
        table_meta(9, b"a", b"d", file_bytes=3),
        table_meta(8, b"b", b"e", tombstones=1),
        table_meta(7, b"f", b"h"),
    )
    level2 = (table_meta(5, b"a", b"d"), table_meta(4, b"e", b"h"))

    assert ("everything at once", Limits(10, 4, 7, 10)) == (case.title, case.limits)
    assert (level0, (), level2) == case.version.levels
    assert {"pick": "nothing"} == case.expected


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("pick nothing", "line 1: no title"),
        ("== title\n pick nothing", "line 2: begins with a space"),
        ("== title\nlevel nothing", "line 2: unknown word"),
        ("== title\nkeys abc\nL0   <9>\nL1   x9>\npick nothing", "line 4: not a table"),
        ("== title\nkeys abc\nL0   <9->\npick nothing", "line 3: outside of the ruler"),
        ("== title\nL0   <9>\npick nothing", "line 2: outside of the ruler"),
        ("== title\nkeys abcdef\nL1   <9>\nL1      <8>\npick nothing", "line 4: a second line"),
        ("== title\nkeys abcdef\nL1   <9><9>\npick nothing", "title: a number twice"),
        ("== title\nbytes 9=3\npick nothing", "title: bytes of a table"),
        ("== title\nbytes 9\npick nothing", "line 2: not name=number"),
        ("== title\nlimits level2=1\npick nothing", "line 2: unknown limit"),
        ("== title\nkeys abc\nL0   <9>", "title: nothing expected"),
    ],
)
def test_drawing_that_makes_no_sense_is_refused(lines, reason):
    with pytest.raises(ValueError, match=f"^{reason}"):
        cases(lines)


def test_plan_that_differs_is_described_differently():
    a, b = table_meta(1, b"a", b"b"), table_meta(2, b"c", b"d")
    plans = [
        None,
        Plan(1, ((a,), (b,))),
        Plan(1, ((b,), (a,))),
        Plan(1, ((a, b),)),
        Plan(2, ((a, b),)),
        Plan(2, ((a, b),), is_move=True),
    ]

    assert len(plans) == len(set(map(describe, plans)))


# The parts of a plan


def test_inputs_and_bounds_of_a_plan_are_those_of_all_runs():
    a, b, c = table_meta(1, b"f", b"m"), table_meta(2, b"b", b"c"), table_meta(3, b"g", b"h")
    plan = Plan(1, ((a,), (b, c)))

    assert (a, b, c) == plan.inputs
    assert (b"b", b"m") == plan.bounds == bounds([c, a, b])


def test_limits_follow_the_options():
    limits = Limits.of(Options(memtable_bytes=1000))

    assert (1000, 6000, 30_000, 150_000) == (limits.table_bytes, *map(limits.target_bytes, (1, 2, 3)))
    assert limits.level0_tables > 1


# A tree that lives by the plans


@dataclass
class Forest:
    """A version whose tables are dicts of key to (time of the write, whether it lives), and the truth.

    Plans are carried out here without a file, and so without the code that does it for a store.
    """

    rng: random.Random
    limits: Limits
    version: Version = field(default_factory=Version)
    tables: dict[int, dict[bytes, tuple[int, bool]]] = field(default_factory=dict)
    truth: dict[bytes, tuple[int, bool]] = field(default_factory=dict)
    time: int = 0
    number: int = 0
    written: int = 0  # entries in tables that plans made

    def table(self, entries):
        self.number += 1
        self.tables[self.number] = entries
        dead = sum(not lives for _, lives in entries.values())
        return table_meta(
            self.number, min(entries), max(entries), file_bytes=len(entries), tombstones=dead
        )._replace(
            first_seq=min(time for time, _ in entries.values()),
            last_seq=max(time for time, _ in entries.values()),
        )

    def flush(self):
        """Write some keys, within a part of all that is as wide as chance wants."""
        low = self.rng.randrange(1000)
        width = self.rng.choice((3, 30, 1000))
        entries = {}
        for _ in range(self.rng.choice((1, 10, 30))):
            self.time += 1
            entries[b"%04d" % (low + self.rng.randrange(width))] = (self.time, self.rng.random() < 0.7)
        self.truth |= entries
        self.version = self.version.replace((), {0: [self.table(entries)]})

    def carry_out(self, plan):
        outputs = plan.ready_outputs
        if plan.is_drop:
            self.give_up(plan.inputs)
        if outputs is not None:
            self.version = self.version.replace(plan.inputs, {plan.level: outputs})
            return
        union = {}
        for run in reversed(plan.runs):
            for meta in run:
                union |= self.tables[meta.number]
        kept = {
            key: entry
            for key, entry in sorted(union.items())
            if entry[1] or plan.level == 0 or self.version.holds_below(plan.level, key)
        }
        outputs, keys = [], list(kept)
        while keys:
            length = self.rng.randrange(5, 40)
            outputs.append(self.table({key: kept[key] for key in keys[:length]}))
            del keys[:length]
        self.written += len(kept)
        self.version = self.version.replace(plan.inputs, {plan.level: outputs})

    def give_up(self, metas):
        """Take note of the keys whose newest write goes away: there must be nothing of them from now on."""
        for meta in metas:
            for key, entry in self.tables[meta.number].items():
                if self.truth.get(key) == entry:
                    del self.truth[key]

    def wrongs(self):
        """Say what is wrong: nothing, as long as the plans were right."""
        found = []
        for number, metas in enumerate(self.version.levels[1:], 1):
            for one, other in zip(metas, metas[1:], strict=False):
                if one.largest >= other.smallest:
                    found.append(f"tables {one.number} and {other.number} of level {number} overlap")
        seen = {}
        for meta in self.version:
            for key, entry in self.tables[meta.number].items():
                if seen.setdefault(key, entry)[0] < entry[0]:
                    found.append(f"a write of {key!r} in table {meta.number} is newer than one above it")
        for key in self.truth.keys() | seen.keys():
            entry, visible = self.truth.get(key, (0, False)), seen.get(key, (0, False))
            if visible != entry and (entry[1] or visible[1]):
                found.append(f"{key!r} is not what was written last")
        return found

    def grow(self, pick, flushes):
        """Flush so often, carrying out what `pick` says in between; yield each plan when it is done.

        Now and then a flush comes between a plan and its end.
        """
        for _ in range(flushes):
            self.flush()
            while (plan := pick(self.version, self.limits)) is not None:
                if self.rng.random() < 0.2:
                    self.flush()
                self.carry_out(plan)
                yield plan


def forest(seed, number):
    rng = random.Random(f"{seed} forest {number}")
    return Forest(rng, Limits(10, rng.choice((1, 2, 4)), rng.choice((50, 200)), rng.choice((2, 4))))


def is_within_limits(forest):
    version, limits = forest.version, forest.limits
    return len(version.level(0)) < limits.level0_tables and all(
        version.level_bytes(level) <= limits.target_bytes(level)
        for level in range(1, min(len(version.levels), MAX_LEVELS - 1))
    )


@pytest.mark.parametrize("number", range(10))
def test_plans_never_leave_something_older_above_something_newer(seed, number):
    """And levels below 0 stay without overlap, and every key is what was written last."""
    tree = forest(seed, number)
    plans = []
    for plan in tree.grow(pick, 80):
        plans.append(plan)
        assert [] == tree.wrongs(), f"seed {seed}: {describe(plan)}"

    assert is_within_limits(tree)
    assert len(tree.version.levels) > 2
    assert not all(plan.is_move for plan in plans)


@pytest.mark.parametrize("number", range(10))
def test_a_tree_is_within_its_limits_after_few_plans(seed, number):
    """How many plans a flush may cost: every table it brings moves down one level at a time."""
    tree = forest(seed, number)
    plans = sum(1 for _ in tree.grow(pick, 80))

    assert is_within_limits(tree)
    assert plans <= 80 * 10


@pytest.mark.parametrize("number", range(10))
def test_compacting_everything_leaves_one_level_and_nothing_to_do(seed, number):
    tree = forest(seed, number)
    for _ in tree.grow(pick if number % 2 else lambda version, limits: None, 40):
        pass
    tree.flush()
    plan = pick_everything(tree.version, tree.limits)
    tree.carry_out(plan)
    lives = {key for key, (_, alive) in tree.truth.items() if alive}

    assert [] == tree.wrongs(), f"seed {seed}"
    assert lives == {key for meta in tree.version for key in tree.tables[meta.number]}
    assert 1 == sum(map(bool, tree.version.levels))
    assert pick_everything(tree.version, tree.limits) is None
    assert pick(tree.version, tree.limits) is None


# Other policies, and trees that another one left


POLICIES = {"leveled": None, "tiered": None, "fifo": 400}  # name: bound


def grown_by(seed, number, compaction, pick=pick):
    """Return a forest of that policy, and the plans that made it."""
    tree = forest(f"{seed} {compaction}", number)
    tree.limits = tree.limits._replace(compaction=compaction, max_bytes=POLICIES[compaction])
    plans = []
    for plan in tree.grow(pick, 200):
        plans.append(plan)
        assert [] == tree.wrongs(), f"seed {seed}: {describe(plan)}"
    return tree, plans


@pytest.mark.parametrize("number", range(4))
def test_tiered_keeps_few_runs_and_the_last_is_the_largest_part(seed, number):
    tree, plans = grown_by(seed, number, "tiered")
    sizes = [tree.version.level_bytes(level) for level in occupied(tree.version)]

    assert len(tree.version.level(0)) < tree.limits.level0_tables
    assert 0 < len(sizes) <= tiered.MAX_RUNS
    assert sizes[-1] >= sum(sizes[:-1])
    assert {True, False} == {plan.is_move for plan in plans}


@pytest.mark.parametrize("number", range(4))
def test_tiered_writes_less_than_leveled(seed, number):
    """The same flushes, of keys at random."""
    trees = []
    for compaction in ("leveled", "tiered"):
        tree = Forest(random.Random(f"{seed} {number}"), Limits(10, 4, 100, 10, compaction))
        tree.rng.choice = max  # keys from all over, thirty at a time
        for _ in tree.grow(pick, 250):
            pass
        trees.append(tree)
    leveled_tree, tiered_tree = trees

    assert 0 < tiered_tree.written < 0.6 * leveled_tree.written


@pytest.mark.parametrize("number", range(4))
def test_fifo_keeps_its_bound_and_gives_up_the_oldest(seed, number):
    tree, plans = grown_by(seed, number, "fifo")
    drops = [plan for plan in plans if plan.is_drop]

    assert 0 < sum(meta.file_bytes for meta in tree.version) <= POLICIES["fifo"]
    assert drops
    assert not any(plan.is_move for plan in plans)
    assert {plan.level for plan in plans} == {0} == {len(tree.version.levels) - 1}
    newest_lost = max(meta.last_seq for plan in drops for meta in plan.inputs)
    assert all(meta.last_seq > newest_lost for meta in tree.version)


def test_fifo_keeps_its_newest_table_however_small_the_bound_is():
    newest, *older = [table_meta(number, b"a", b"z") for number in (9, 8, 7)]
    limits = Limits(10, 4, 100, 10, "fifo", 1)

    assert Plan(0, ((older[0],), (older[1],)), is_drop=True) == pick(Version(((newest, *older),)), limits)
    assert pick(Version(((newest,),)), limits) is None


@pytest.mark.parametrize(
    ("over", "dropped"),
    [({1}, [1]), ({3, 1, 2}, [3, 2, 1]), ({2}, []), ({1, 3}, [1]), (set(), []), ({9}, [])],
)
def test_fifo_drops_what_is_over_only_as_long_as_nothing_older_stays(over, dropped):
    """What a table hides that stands further down would come back."""
    version = Version((tuple(table_meta(number, b"a", b"z") for number in (4, 3, 2, 1)),))
    plan = fifo.pick_over(version, over)

    assert dropped == [meta.number for meta in plan.inputs] if plan else not dropped
    assert plan is None or plan.is_drop


def test_fifo_keeps_few_runs_and_writes_little_for_it():
    """A thousand flushes of one entry each, below the bound."""
    version, limits, written = Version(), Limits(100, 4, 100, 10, "fifo", 10_000), 0
    for number in range(1, 1001):
        version = version.replace((), {0: [table_meta(number, b"a", b"z", file_bytes=1)]})
        while (plan := pick(version, limits)) is not None:
            size = sum(meta.file_bytes for meta in plan.inputs)
            written += size
            fold = table_meta(10_000 * number + plan.inputs[0].number, b"a", b"z", file_bytes=size)
            version = version.replace(plan.inputs, {0: [fold]})
            assert fifo.FAN == len(plan.runs)

        assert len(version) <= fifo.MOST_RUNS
    assert 1000 == sum(meta.file_bytes for meta in version)
    assert 0 < written < 3 * 1000


@pytest.mark.parametrize("number", range(6))
def test_every_policy_goes_on_from_what_any_other_left(seed, number):
    rng = random.Random(f"{seed} any policy {number}")
    tree = forest(seed, number)
    seen = []
    turns = 4 * list(POLICIES)
    rng.shuffle(turns)
    for compaction in turns:
        tree.limits = tree.limits._replace(compaction=compaction, max_bytes=POLICIES[compaction])
        if rng.random() < 0.2:
            tree.carry_out(pick_everything(tree.version, tree.limits) or Plan(1, ()))
        waits = rng.random() < 0.3  # a loader without compaction leaves a long level 0
        for plan in tree.grow((lambda *_: None) if waits else pick, rng.choice((1, 10, 100))):
            seen.append((compaction, plan))
            assert [] == tree.wrongs(), f"seed {seed}: {compaction}: {describe(plan)}"
    assert 0 < len(seen) <= 12 * 100 * 10


@pytest.mark.parametrize("compaction", ["leveled", "tiered"])
def test_long_level_0_is_merged_in_parts(seed, compaction):
    tree = Forest(random.Random(f"{seed} long"), Limits(10, 4, 100, 10, compaction))
    for _ in tree.grow(lambda *_: None, 300):
        pass
    plans = list(tree.grow(pick, 1))

    assert [] == tree.wrongs()
    assert len(plans) >= 300 // MAX_WIDTH
    assert max(len(plan.runs) for plan in plans) <= MAX_WIDTH + tiered.MAX_RUNS


def test_leveled_makes_a_tree_of_tiered_as_shallow_as_its_bytes_need(seed):
    tree, _ = grown_by(seed, 0, "tiered")
    tree.limits = Limits(10, 4, 10_000)
    deepest = len(tree.version.levels) - 1
    plans = list(tree.grow(pick, 1))

    assert [] == tree.wrongs()
    assert deepest == tiered.MAX_RUNS
    assert occupied(tree.version) in ([1], [2])
    assert plans


def test_compacting_a_tree_of_fifo_drops_what_is_too_much_first():
    metas = [table_meta(number, b"a", b"z", file_bytes=10) for number in (9, 8, 7)]
    limits = Limits(10, 4, 100, 10, "fifo", 20)
    drop = pick_everything(Version((tuple(metas),)), limits)

    assert Plan(0, ((metas[2],),), is_drop=True) == drop
    assert Plan(1, ((metas[0],), (metas[1],))) == pick_everything(Version((tuple(metas[:2]),)), limits)


def drops_the_newest(version, limits):
    tables = version.level(0)
    return Plan(0, (tables[:1],), is_drop=True) if len(tables) > 10 else None


def drops_what_is_alone_in_level_1(version, limits):
    """And leaves level 2 as it is."""
    plan = pick(version, limits)
    if plan is None and len(version.levels) > 2 and version.level(1):
        return Plan(0, (version.level(1)[:1],), is_drop=True)
    return plan


def leaves_out_a_run(version, limits):
    plan = tiered.pick(version, limits)
    if plan is None or plan.is_move or len(plan.runs) < 3:
        return plan
    return Plan(plan.level, (*plan.runs[:1], *plan.runs[2:]))


def folds_every_second(version, limits):
    tables = version.level(0)
    return Plan(0, tuple((meta,) for meta in tables[:8:2])) if len(tables) >= 8 else None


def oldest_alone(version, limits):
    """Level 0 table by table, without what it overlaps below."""
    level0 = version.level(0)
    return Plan(1, (level0[-1:],)) if len(level0) >= limits.level0_tables else None


def newest_with_level_1(version, limits):
    level0 = version.level(0)
    if len(level0) < limits.level0_tables:
        return None
    below = version.overlapping(1, level0[0].smallest, level0[0].largest)
    return Plan(1, (level0[:1], below) if below else (level0[:1],))


def runs_oldest_first(version, limits):
    plan = pick(version, limits)
    return plan and Plan(plan.level, plan.runs[::-1], plan.is_move)


def moves_all(version, limits):
    plan = pick(version, limits)
    return plan and Plan(plan.level, plan.runs, is_move=True)


def one_too_few_below(version, limits):
    plan = pick(version, limits)
    if plan is None or len(plan.runs[-1]) < 2:
        return plan
    return Plan(plan.level, (*plan.runs[:-1], plan.runs[-1][1:]))


def one_level_too_deep(version, limits):
    plan = pick(version, limits)
    return plan and Plan(plan.level + 1, plan.runs, plan.is_move)


@pytest.mark.parametrize(
    "broken",
    [
        *(oldest_alone, newest_with_level_1, runs_oldest_first, moves_all, one_too_few_below),
        *(one_level_too_deep, drops_what_is_alone_in_level_1, leaves_out_a_run, folds_every_second),
        drops_the_newest,
    ],
)
def test_guard_finds_plans_that_are_wrong(seed, broken):
    assert any(is_found(broken, random.Random(f"{seed} broken {attempt}")) for attempt in range(20))


def is_found(broken, rng):
    tree = Forest(rng, Limits(10, 4, 50, 2))
    return any(tree.wrongs() for _ in zip(tree.grow(broken, 200), range(1000), strict=False))


def test_guard_of_the_drawings_finds_a_plan_that_differs(monkeypatch):
    monkeypatch.setattr(leveled, "_overlaps_nothing", lambda version, meta: False)
    different = [case for _, case in CASES if not answers_as_drawn(case)]

    assert {"several are moved at once", "overlapping level 2 does not"} <= {case.title for case in different}


def answers_as_drawn(case: Case) -> bool:
    return all(
        text == describe(ANSWERS[question](case.version, case.limits))
        for question, text in case.expected.items()
    )
