"""What counts as read, and whether it is still so: ranges, walks, footprints, conflicts."""

import itertools
import random

import pytest

from lsmdbm._base.errors import ConflictError
from lsmdbm._base.intervals import interval
from lsmdbm._engine import validation
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.plan import Plan
from lsmdbm._engine.validation import (
    Footprint,
    Reads,
    Walked,
    check_conflict,
    conflict,
    first_difference,
    is_quick,
    joined,
    valid_view,
)
from lsmdbm._engine.view import View
from support.stage import Calls, Stage, chunk, live

ENTRIES = {b"%d" % number: b"v%d" % number for number in range(9)}


# -- ranges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (None, None, False),
        (None, b"", False),
        (b"", None, False),
        (b"", b"", True),
        (b"a", b"a", True),
        (b"b", b"a", True),
        (b"a", b"a\0", False),
    ],
)
def test_a_range_is_empty_where_its_bounds_meet_or_cross(start, stop, expected):
    assert expected == Walked(start, stop, False).is_empty()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([(b"a", b"c"), (b"b", b"d")], [(b"a", b"d")]),
        ([(b"b", b"d"), (b"a", b"c")], [(b"a", b"d")]),
        ([(b"a", b"b"), (b"b", b"c")], [(b"a", b"c")]),
        ([(b"a", b"b"), (b"b\0", b"c")], [(b"a", b"b"), (b"b\0", b"c")]),
        ([(b"a", b"z"), (b"b", b"c")], [(b"a", b"z")]),
        ([(b"a", None), (b"b", b"c")], [(b"a", None)]),
        ([(b"a", b"c"), (b"b", None)], [(b"a", None)]),
        ([(None, b"b"), (b"a", b"c"), (b"d", b"e")], [(None, b"c"), (b"d", b"e")]),
        ([(b"", b"b"), (None, b"c")], [(b"", b"c")]),
        ([(None, None), (None, b"c"), (b"x", None)], [(None, None)]),
    ],
)
def test_ranges_of_one_kind_are_joined_where_they_overlap_or_touch(given, expected):
    for keys_only in (False, True):
        parts = [Walked(*bounds, keys_only) for bounds in given]
        assert [Walked(*bounds, keys_only) for bounds in expected] == joined(parts)


def test_ranges_whose_values_count_and_others_stay_apart():
    values, keys = Walked(b"a", b"c", False), Walked(b"b", b"d", True)
    assert [values, keys] == joined([keys, values])
    assert [values, keys] == joined([keys, values, keys, values])


def test_joined_ranges_hold_what_the_parts_hold(seed):
    rng = random.Random(f"{seed} united")
    points = [None, *(b"%d" % number for number in range(10))]
    for _ in range(300):
        parts = [Walked(rng.choice(points), rng.choice(points), rng.random() < 0.5) for _ in range(5)]
        parts = [each for each in parts if not each.is_empty()]
        found = joined(parts)
        for key, keys_only in itertools.product([b"", *points[1:], b"5x"], (False, True)):
            assert _holds(parts, key, keys_only) == _holds(found, key, keys_only)


def _holds(parts, key, keys_only):
    return any(
        each.keys_only == keys_only
        and (each.start is None or each.start <= key)
        and (each.stop is None or key < each.stop)
        for each in parts
    )


# -- what was seen of a walk ------------------------------------------------------------------------


def chunks(*parts):
    return iter([chunk({key: b"" for key in part}) for part in parts])


FORWARD, BACKWARD = ([b"a", b"b"], [b"c", b"d", b"e"]), ([b"c", b"d", b"e"], [b"a", b"b"])
WALKS = [  # reverse, how many chunks were taken, how many keys of the last have not come out; what was seen
    (False, 0, None, []),
    (False, 1, None, [(b"0", b"b\0")]),
    (False, 1, 2, []),
    (False, 1, 1, [(b"0", b"a\0")]),
    (False, 1, 0, [(b"0", b"b\0")]),
    (False, 2, 3, [(b"0", b"b\0")]),
    (False, 2, 2, [(b"0", b"c\0")]),
    (False, 2, 0, [(b"0", b"e\0")]),
    (False, 3, 0, [(b"0", b"z")]),
    (True, 0, None, []),
    (True, 1, None, [(b"c", b"z")]),
    (True, 1, 3, []),
    (True, 1, 2, [(b"e", b"z")]),
    (True, 1, 1, [(b"d", b"z")]),
    (True, 2, 2, [(b"c", b"z")]),
    (True, 2, 1, [(b"b", b"z")]),
    (True, 2, 0, [(b"a", b"z")]),
    (True, 3, 0, [(b"0", b"z")]),
]


@pytest.mark.parametrize("keys_only", [False, True])
@pytest.mark.parametrize("is_over", [False, True], ids=["under way", "let go of"])
@pytest.mark.parametrize(("reverse", "taken", "left", "expected"), WALKS)
def test_of_a_walk_the_part_counts_that_came_out(reverse, taken, left, expected, is_over, keys_only):
    reads = Reads()
    walk = reads.walk(
        chunks(*(BACKWARD if reverse else FORWARD)), b"0", b"z", reverse=reverse, keys_only=keys_only
    )
    if left is not None:
        walk.watch(lambda: left)
    for _ in range(taken):
        next(walk, None)
    if is_over:
        del walk
    assert [Walked(*bounds, keys_only) for bounds in expected] == reads.footprint(()).walked


def test_a_walk_hands_on_the_chunks_as_they_are():
    reads = Reads()
    walk = reads.walk(chunks(*FORWARD), None, None, reverse=False, keys_only=False)
    assert [chunk({key: b"" for key in part}) for part in FORWARD] == [*walk]
    assert [] == [*walk]
    assert [Walked(None, None, False)] == reads.footprint(()).walked


def test_walks_that_are_over_are_not_kept():
    reads = Reads()
    for _ in range(5):
        walk = reads.walk(chunks([b"a"]), b"a", b"b", reverse=False, keys_only=False)
        next(walk)
        del walk
    assert set() == reads._under_way
    walk = reads.walk(chunks(), b"b", b"b", reverse=False, keys_only=False)
    assert [] == [*walk]
    del walk
    assert [Walked(b"a", b"a\0", False)] == reads.footprint(()).walked  # of an empty one nothing


@pytest.mark.parametrize(
    ("reverse", "found", "expected"),
    [(False, b"m", (b"a", b"m\0")), (True, b"m", (b"m", b"z")), (False, None, (b"a", b"z"))],
)
def test_of_a_look_for_an_end_the_part_up_to_it_counts(reverse, found, expected):
    reads = Reads()
    reads.end_of(b"a", b"z", found, reverse=reverse, keys_only=True)
    assert [Walked(*expected, True)] == reads.footprint(()).walked


def test_of_a_look_into_an_empty_range_nothing_counts():
    reads = Reads()
    reads.end_of(b"z", b"a", None, reverse=False, keys_only=False)
    assert [] == reads.footprint(()).walked


def test_a_footprint_has_the_keys_that_were_read_and_those_that_were_written():
    reads = Reads()
    reads.keys.update([b"a", b"b"])
    assert Footprint({b"a", b"b", b"c"}, []) == reads.footprint(iter([b"b", b"c"]))
    assert {b"a", b"b"} == reads.keys


# -- conflicts --------------------------------------------------------------------------------------


class Store:
    """A view of some entries, and how it goes on: by writes, flushes, compactions, range deletions, drops."""

    def __init__(self, entries):
        self.stage = Stage(block_bytes=32)
        self.stage.add(1, entries)
        self.seq = 10
        self.active, self.sealed = Memtable(self.seq), ()
        self.content = dict(entries)

    def view(self):
        return View(self.active, self.sealed, self.stage.version, self.stage.tables)

    def pin(self):
        """Return a view that nothing changes any more, as a transaction has it."""
        self.seal()
        return View(Memtable(self.seq), self.sealed, self.stage.version, self.stage.tables)

    def seal(self):
        if not self.active.is_empty:
            self.active.last_seq = self.seq - 1
            self.active.charge = 100
            self.sealed = (self.active, *self.sealed)
            self.active = Memtable(self.seq)

    def write(self, changes):
        for key, value in changes.items():
            self.active.entries[key] = value
            self.active.deletes |= value is None
            self.seq += 1
        self.content = live([changes, self.content])

    def delete_range(self, start, stop):
        self.seal()
        self.active = Memtable(self.seq, ranges=interval(start, stop))
        self.seq += 1
        self.content = {key: value for key, value in self.content.items() if not start <= key < stop}

    def fold(self):
        self.seal()
        if len(self.sealed) > 1:
            self.sealed = (self.sealed[0].fold(self.sealed[1]), *self.sealed[2:])

    def flush(self):
        self.seal()
        if self.sealed and not any(each.ranges for each in self.sealed):
            self.stage.flush(*self.sealed)
            self.sealed = ()

    def compact(self):
        if len(self.stage.version.levels) > 1 and self.stage.version.levels[0]:
            runs = [(meta,) for meta in self.stage.version.levels[0]]
            self.stage.compact(Plan(1, (*runs, tuple(self.stage.version.levels[1]))))


@pytest.fixture
def store():
    return Store(ENTRIES)


def keys(*given):
    return Footprint({*given}, [])


def part(start, stop, keys_only=False):
    return Footprint(set(), [Walked(start, stop, keys_only)])


LATER = {
    "in memory": lambda store: None,
    "sealed": lambda store: store.seal(),
    "flushed": lambda store: store.flush(),
    "compacted": lambda store: (store.flush(), store.compact()),
}
CASES = [  # what is changed, of what, and the key that a conflict names
    ({b"3": b"new"}, keys(b"3"), b"3"),
    ({b"3": b"new"}, keys(b"2", b"4"), None),
    ({b"3": None}, keys(b"3"), b"3"),
    ({b"3": b"v3"}, keys(b"3"), None),
    ({b"x": None}, keys(b"x"), None),
    ({b"x": b"new"}, keys(b"x"), b"x"),
    ({b"3": b"new"}, part(b"3", b"4"), b"3"),
    ({b"3": b"new"}, part(b"3\0", b"4"), None),
    ({b"3": b"new"}, part(b"2", b"3"), None),
    ({b"3": b"v3"}, part(None, None), None),
    ({b"35": b"new"}, part(b"3", b"4"), b"35"),
    ({b"35": None}, part(b"3", b"4"), None),
    ({b"3": b"new"}, part(b"3", b"4", True), None),
    ({b"3": None}, part(b"3", b"4", True), b"3"),
    ({b"35": b"new"}, part(b"3", b"4", True), b"35"),
    ({b"5": None, b"4": None}, part(b"3", b"9"), b"4"),
    ({b"9": b"new"}, part(b"8", None), b"9"),
    ({b"": b"new"}, part(None, b"1"), b""),
    ({b"": b"new"}, keys(b""), b""),
    ({b"": b"new"}, Footprint({b""}, [Walked(b"5", None, False)]), b""),
    ({b"3": b"new"}, Footprint({b"1"}, [Walked(b"5", None, False), Walked(None, b"4", True)]), None),
    ({b"3": b"new"}, Footprint(set(), []), None),
]


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize(("changes", "footprint", "expected"), CASES)
def test_a_conflict_is_a_key_of_the_footprint_that_was_changed(store, changes, footprint, expected, later):
    then = store.pin()
    store.write(changes)
    LATER[later](store)
    assert expected == conflict(footprint, then, store.view())


def test_a_view_is_in_no_conflict_with_itself(store):
    then = store.pin()
    everything = Footprint({*ENTRIES, b"x"}, [Walked(None, None, False)])
    assert None is conflict(everything, then, then)
    assert None is conflict(everything, then, store.view())


def test_a_range_deletion_changes_the_keys_that_were_in_it(store):
    then = store.pin()
    store.delete_range(b"3", b"6")
    for footprint, expected in (
        (keys(b"3"), b"3"),
        (keys(b"35", b"6"), None),
        (part(b"4", b"5"), b"4"),
        (part(b"51", b"6"), None),
        (part(b"5", b"6", True), b"5"),
    ):
        assert expected == conflict(footprint, then, store.view())


def test_tables_that_were_given_up_change_the_keys_that_were_in_them(store):
    then = store.pin()
    store.stage.move_to(store.stage.version.levels[1], {})
    store.stage.version.drops += 1
    assert b"3" == conflict(keys(b"3"), then, store.view())
    assert b"0" == conflict(part(None, None), then, store.view())
    assert None is conflict(keys(b"x"), then, store.view())


def test_keys_of_a_folded_memtable_that_were_there_before_are_no_conflict(store):
    store.write({b"3": b"before"})
    then = store.pin()
    store.write({b"4": b"later", b"5": b"later"})
    store.fold()
    assert 1 == len(store.sealed)
    assert None is conflict(keys(b"3"), then, store.view())
    assert None is conflict(part(b"2", b"4"), then, store.view())
    assert b"4" == conflict(keys(b"3", b"4"), then, store.view())


def test_what_nobody_wrote_since_is_not_looked_at(store):
    """Rule 3: of a thousand keys that were read, one that was written costs a look."""
    then = store.pin()
    store.write({b"x": b"new"})
    store.stage.forget_readers()
    calls = Calls(store.stage.storage)
    footprint = Footprint({*ENTRIES}, [Walked(b"0", b"9", False)])
    assert None is conflict(footprint, then, store.view())
    assert 0 == calls.count("pread")


def test_conflicts_are_found_whatever_has_happened(seed, budget):
    rng = random.Random(f"{seed} conflicts")
    points = [b"%d" % number for number in range(12)]
    found = {True: 0, False: 0}
    for _ in range(150 if budget == "small" else 1500):
        store = Store({key: b"%d" % rng.randrange(3) for key in points if rng.random() < 0.6} or ENTRIES)
        store.write({key: rng.choice([None, b"0", b"1"]) for key in rng.sample(points, 3)})
        then, before = store.pin(), dict(store.content)
        for _ in range(rng.randrange(6)):
            what = rng.random()
            if what < 0.5:
                store.write({key: rng.choice([None, b"0", b"1"]) for key in rng.sample(points, 2)})
            elif what < 0.6:
                store.delete_range(*sorted(rng.sample(points, 2)))
            else:
                rng.choice([store.seal, store.fold, store.flush, store.compact])()
        bounds = [sorted(rng.sample([None, *points], 2), key=lambda bound: bound or b"") for _ in range(2)]
        footprint = Footprint(
            set(rng.sample(points, 2)), [Walked(*each, rng.random() < 0.5) for each in bounds]
        )
        different = {
            key
            for key in points
            if (key in footprint.keys or _holds(footprint.walked, key, False))
            and before.get(key) != store.content.get(key)
        } | {
            key
            for key in points
            if _holds(footprint.walked, key, True) and (key in before) != (key in store.content)
        }
        named = conflict(footprint, then, store.view())
        assert named in (different or {None}), (before, store.content, footprint)
        found[bool(different)] += 1
    assert min(found.values()) > 10


@pytest.mark.parametrize(
    ("key", "named"), [(b"k" * 80, repr(b"k" * 80)), (b"k" * 81, repr(b"k" * 80 + b"...")), (b"", "b''")]
)
def test_a_conflict_is_an_error_that_names_the_key(store, key, named):
    then = store.pin()
    check_conflict(keys(key), then, store.view())
    store.write({key: b"new"})
    with pytest.raises(ConflictError) as caught:
        check_conflict(keys(key), then, store.view())
    assert f"{named} was changed after the transaction had begun" == str(caught.value)


# -- how long it takes ------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(validation, "QUICK_LOOKS", 3)


@pytest.mark.parametrize(
    ("written", "is_flushed", "footprint", "expected"),
    [
        (0, False, part(None, None), True),
        (3, False, part(None, None), True),
        (4, False, part(None, None), False),
        (4, False, keys(*b"abcd"), False),
        (4, False, keys(*b"abc"), True),
        (4, False, Footprint({b"a"}, [Walked(None, None, True)]), False),
        (1, True, keys(*b"abc"), True),
        (1, True, keys(*b"abcd"), False),
        (1, True, part(b"a", b"b"), False),
    ],
)
def test_looking_at_few_keys_is_quick(few, store, written, is_flushed, footprint, expected):
    then = store.pin()
    store.write({b"new %d" % number: b"" for number in range(written)})
    if is_flushed:
        store.flush()
    assert expected == is_quick(footprint, then, store.view())


def test_keys_in_all_newer_memtables_count_together(few, store):
    then = store.pin()
    for number in range(4):
        store.write({b"%d" % number: b"new"})
        store.seal()
        assert (number < 3) == is_quick(part(None, None), then, store.view())


@pytest.mark.parametrize("rounds", range(6))
def test_much_is_compared_without_the_lock_until_the_rest_is_little_or_there_were_too_many_rounds(
    few, store, rounds
):
    """Others write so much, so many times, in the middle of it."""
    then, pinned = store.pin(), []
    store.write({b"new %d" % number: b"" for number in range(4)})

    def pin():
        pinned.append(store.pin())
        if len(pinned) <= rounds:
            store.write({b"later %d" % number: b"%d" % len(pinned) for number in range(4)})
        return pinned[-1]

    found = valid_view(part(b"0", b"9"), then, store.view, pin)
    assert (found, min(rounds + 1, validation.ROUNDS)) == (pinned[-1], len(pinned))


def test_little_is_left_to_be_compared_under_the_lock(few, store):
    then = store.pin()
    store.write({b"3": b"new"})
    assert then is valid_view(part(b"0", b"9"), then, store.view, store.pin)


def test_a_conflict_that_is_found_without_the_lock_is_told_there(few, store):
    then = store.pin()
    store.write({b"3": b"new", **{b"new %d" % number: b"" for number in range(4)}})
    with pytest.raises(ConflictError, match="b'3'"):
        valid_view(part(b"0", b"9"), then, store.view, store.pin)


# -- two streams ------------------------------------------------------------------------------------


def cut(entries, rng):
    """Return a stream of these entries in chunks of any length."""
    rest, parts = sorted(entries), []
    while rest:
        length = rng.randrange(1, 4)
        parts.append((rest[:length], [entries[key] for key in rest[:length]]))
        rest = rest[length:]
    return iter(parts)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ({}, {}, None),
        ({b"a": b"1"}, {}, b"a"),
        ({}, {b"a": b"1"}, b"a"),
        ({b"a": b"1"}, {b"a": b"1"}, None),
        ({b"a": b"1"}, {b"a": b"2"}, b"a"),
        ({b"a": b"1", b"c": b"1"}, {b"a": b"1", b"b": b"1", b"c": b"1"}, b"b"),
        ({b"a": b"1", b"b": b"1"}, {b"b": b"1"}, b"a"),
        (ENTRIES, {**ENTRIES, b"9": b""}, b"9"),
        ({**ENTRIES, b"8": b"x"}, ENTRIES, b"8"),
    ],
)
def test_the_smallest_key_that_two_streams_do_not_share(left, right, expected, seed):
    rng = random.Random(f"{seed} streams")
    for _ in range(10):
        assert expected == first_difference(cut(left, rng), cut(right, rng))
        assert expected == first_difference(cut(right, rng), cut(left, rng))


def test_the_difference_of_streams_is_that_of_dicts(seed):
    rng = random.Random(f"{seed} streams and dicts")
    for _ in range(300):
        left = {b"%d" % rng.randrange(20): b"" for _ in range(rng.randrange(15))}
        right = {key: rng.choice([b"", b"", b"", b"x"]) for key in left if rng.random() < 0.9}
        differing = [key for key in sorted({*left, *right}) if left.get(key) != right.get(key)]
        assert next(iter(differing), None) == first_difference(cut(left, rng), cut(right, rng))


def test_the_views_that_are_compared_give_no_empty_chunk(store):
    """An empty chunk would end the comparison."""
    store.write({key: None for key in ENTRIES})
    store.write({b"3": b"new"})
    view = store.pin()
    for keys_only, (start, stop) in itertools.product(
        (False, True), [(None, None), (b"4", b"9"), (b"9", b"3")]
    ):
        assert all(keys for keys, _ in view.chunks(start, stop, keys_only=keys_only))
