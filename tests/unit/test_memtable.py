import random
import sys

import pytest
import sortedcontainers
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._base.chunk import KEY_ONLY
from lsmdbm._engine import memtable as module
from lsmdbm._engine.memtable import FIRST_PIECE, LARGEST_PIECE, Memtable, fold_newest
from support.format import entries_of
from support.stage import live, memtable, merged

keys = st.binary(max_size=2)
entries = st.dictionaries(keys, st.none() | st.binary(max_size=2), max_size=60)


def in_order(entries, start=None, stop=None):
    return [
        (key, value)
        for key, value in sorted(entries.items())
        if (start is None or start <= key) and (stop is None or key < stop)
    ]


def forward(chunks):
    return entries_of(chunks)


def backward(chunks):
    return entries_of(list(chunks)[::-1])


@pytest.fixture
def sorting(monkeypatch):
    """What the orders of memtables were asked to sort: a list of key lists."""
    sorted_keys = []

    class Watched(sortedcontainers.SortedList):
        def __init__(self, iterable=()):
            super().__init__()
            self.update(iterable)

        def update(self, iterable):
            sorted_keys.append(list(iterable))
            super().update(sorted_keys[-1])

    monkeypatch.setattr(module, "load_order", lambda: Watched)
    return sorted_keys


# Order


def test_writing_sorts_nothing(sorting):
    written = Memtable(1)
    written.entries[b"b"] = b"1"
    written.update([b"c", b"a"], [b"2", None])

    assert {b"b": b"1", b"c": b"2", b"a": None} == written.entries
    assert (3, []) == (len(written), sorting)


def test_only_keys_that_are_new_since_the_last_time_are_sorted(sorting):
    written = memtable({b"%03d" % number: b"" for number in range(0, 100, 2)})
    forward(written.chunks())
    sorting.clear()
    written.update([b"051", b"010", b"001"], [b"x", b"y", b"z"])

    assert in_order(written.entries) == forward(written.chunks())
    assert [[b"001", b"051"]] == list(map(sorted, sorting))
    sorting.clear()
    assert in_order(written.entries) == forward(written.chunks())
    assert [] == sorting


def test_overwriting_and_deleting_keep_the_order_as_it_is(sorting):
    written = memtable({b"%03d" % number: b"old" for number in range(50)})
    forward(written.chunks())
    sorting.clear()
    for number in range(0, 50, 7):
        written.entries[b"%03d" % number] = None if number % 2 else b"new"

    assert in_order(written.entries) == forward(written.chunks())
    assert [] == sorting


def test_order_follows_any_writes(seed):
    rng = random.Random(f"{seed} order")
    written, model = Memtable(1), {}
    for _ in range(200):
        for _ in range(rng.choice((0, 1, 3, 200))):
            key, value = b"%d" % rng.randrange(3000), rng.choice((None, b"x", b"y"))
            written.entries[key] = model[key] = value
        start, stop = (rng.choice((None, b"%d" % rng.randrange(3000))) for _ in range(2))

        assert in_order(model, start, stop) == forward(written.chunks(start, stop)), f"seed {seed}"


# Chunks


@given(entries, st.none() | keys, st.none() | keys, st.booleans(), st.booleans())
def test_range_is_that_of_a_sorted_dict(model, start, stop, reverse, keys_only):
    chunks = list(memtable(model).chunks(start, stop, reverse=reverse, keys_only=keys_only))
    expected = in_order(model, start, stop)
    if keys_only:
        expected = [(key, None if value is None else KEY_ONLY) for key, value in expected]

    assert expected == (backward if reverse else forward)(chunks)
    assert all(chunk_keys for chunk_keys, _ in chunks)


@pytest.mark.parametrize("reverse", [False, True])
def test_chunks_begin_small_and_grow_to_a_bound(reverse):
    model = {b"%06d" % number: b"%d" % number for number in range(3000)}
    chunks = list(memtable(model).chunks(reverse=reverse))
    lengths = [len(chunk_keys) for chunk_keys, _ in chunks]

    assert in_order(model) == (backward if reverse else forward)(chunks)
    assert [16, 32, 64, 128, 256, 512, 512] == lengths[:7]
    assert FIRST_PIECE == lengths[0]
    assert LARGEST_PIECE == max(lengths)


def test_first_chunk_costs_the_same_however_long_the_range_is():
    written = memtable({b"%06d" % number: b"" for number in range(50_000)})
    forward(written.chunks())  # the order is made
    for reverse in (False, True):
        assert FIRST_PIECE == len(next(written.chunks(b"000100", b"040000", reverse=reverse))[0])


def test_empty_memtable_yields_no_chunk():
    assert [] == list(Memtable(1).chunks())
    assert [] == list(Memtable(1).chunks(reverse=True, keys_only=True))


def test_sealed_memtable_is_read_by_two_at_once():
    written = memtable({b"%04d" % number: b"%d" % number for number in range(500)})
    one, other = written.chunks(), written.chunks(reverse=True)
    pairs = list(zip(one, other, strict=True))

    assert in_order(written.entries) == forward(chunk for chunk, _ in pairs)
    assert in_order(written.entries) == backward(chunk for _, chunk in pairs)


class Interrupt(BaseException):
    pass


def interrupt(_):
    raise Interrupt


def read(written):
    list(written.chunks())


def at_opcode(number, action, written):
    """Read `written`, and before opcode `number` of bringing its order up to date do `action`.

    Return whether there were so many opcodes.
    """
    files = (module.__file__, sortedcontainers.sortedlist.__file__)
    seen = 0

    def trace(frame, event, _):
        nonlocal seen
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            seen += 1
            if seen == number + 1:
                action(written)
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12.1 wants to know when tracing begins
    sys.settrace(trace)
    try:
        read(written)
    except Interrupt:
        pass
    finally:
        sys.settrace(before)
    return seen > number


@pytest.mark.parametrize("action", [interrupt, read], ids=["interrupt", "read"])
@pytest.mark.parametrize(("known", "fresh"), [(0, 20), (20, 3), (20, 20)], ids=["all", "few", "many"])
def test_whatever_happens_while_keys_are_sorted_the_order_is_right(known, fresh, action):
    """At each opcode: Ctrl-C, or a signal handler that reads a snapshot of the same memtable.

    A SortedList interrupted between entering a key and counting it gave that key out twice; the lock that
    was taken around it let the handler wait for ever.
    """
    number = 0
    while True:
        written = memtable({b"%02d" % (7 * key % 50): b"" for key in range(known)})
        read(written)
        written.update([b"new %02d" % key for key in range(fresh)], [b"x"] * fresh)
        if not at_opcode(number, action, written):
            break
        assert in_order(written.entries) == forward(written.chunks()), number
        number += 1
    assert number > 40


# Folding


@given(st.lists(entries, min_size=2, max_size=5))
def test_fold_says_what_its_parts_say_in_order(layers):
    folded = memtable(layers[-1])
    for layer in layers[-2::-1]:
        folded = memtable(layer).fold(folded)

    assert merged(layers) == folded.entries
    assert list(merged(layers).items()) == forward(folded.chunks())


def test_fold_sorts_no_key_again(sorting):
    older, newer = (memtable({b"%d" % key: b"" for key in range(low, low + 50)}) for low in (100, 130))
    forward(older.chunks())
    forward(newer.chunks())
    sorting.clear()
    folded = newer.fold(older)

    assert 1 == len(sorting)  # two ascending runs, one behind the other
    assert [b"%d" % key for key in (*range(100, 150), *range(150, 180))] == sorting[0]
    sorting.clear()
    forward(folded.chunks())
    assert [] == sorting


def test_fold_leaves_its_parts_as_they_were():
    older, newer = memtable({b"a": b"1", b"b": b"1"}), memtable({b"b": None, b"c": b"2"}, 3)
    newer.fold(older)

    assert {b"a": b"1", b"b": b"1"} == older.entries
    assert {b"b": None, b"c": b"2"} == newer.entries
    assert in_order(older.entries) == forward(older.chunks())
    assert in_order(newer.entries) == forward(newer.chunks())


def test_fold_spans_the_sequences_and_owes_the_bytes_of_both():
    older, newer = memtable({b"a": b"1"}, 5), memtable({b"b": b"2", b"c": b"3"}, 6)
    folded = newer.fold(older)

    assert (5, 7) == (folded.first_seq, folded.last_seq)
    assert older.charge + newer.charge == folded.charge


@pytest.mark.parametrize(
    ("newer", "older"), [(None, b"x"), (b"x", None), (None, None)], ids=["newer", "older", "both"]
)
def test_fold_may_delete_as_soon_as_a_part_may(newer, older):
    """A key that is deleted and then put again leaves the flag set, which costs a look and no more."""
    assert memtable({b"a": newer}).fold(memtable({b"b": older})).deletes
    assert not memtable({b"a": b"1"}).fold(memtable({b"b": b"2"})).deletes


@pytest.mark.parametrize(
    ("newer", "older", "both"), [(2, -3, -1), (0, 0, 0), (None, 1, None), (1, None, None), (None, None, None)]
)
def test_fold_changes_the_count_as_its_parts_do(newer, older, both):
    parts = memtable({b"a": b"1"}), memtable({b"b": b"2"})
    parts[0].change, parts[1].change = newer, older

    assert both == parts[0].fold(parts[1]).change


@pytest.fixture
def folding(monkeypatch):
    """The number of entries handled by all folds so far, as the only item of a list."""
    handled = [0]
    fold = Memtable.fold

    def counting(newer, older):
        handled[0] += len(newer) + len(older)
        return fold(newer, older)

    monkeypatch.setattr(Memtable, "fold", counting)
    return handled


def seal_one(sealed, number, flushing=0):
    return fold_newest((memtable({b"%06d" % number: b""}, number), *sealed), flushing)


def test_ten_thousand_seals_of_one_entry_leave_few_memtables(folding):
    sealed = ()
    for number in range(10_000):
        sealed = seal_one(sealed, number)
        assert len(sealed) <= 14

    assert 10_000 == len(merged(one.entries for one in sealed))
    assert folding[0] <= 10_000 * 14  # logarithmic work a step


def test_ten_thousand_puts_and_lens_in_turns_leave_few_memtables(folding):
    """len() marks what it has counted.  The newest memtable never is, and what was counted behind it was
    not looked at: 10,000 turns left 10,000 memtables, each asked by every read."""
    sealed = ()
    for number in range(10_000):
        sealed = seal_one(sealed, number)
        for one in sealed:
            one.change = 1
        assert len(sealed) <= 15

    assert 10_000 == len(merged(one.entries for one in sealed))
    assert folding[0] <= 10_000 * 14


def test_any_seals_leave_few_memtables_that_say_the_same(seed):
    rng = random.Random(f"{seed} folding")
    for _ in range(20):
        layers, sealed, flushing = [], (), 0
        for number in range(200):
            layer = {
                b"%d" % rng.randrange(500): rng.choice((None, b"%d" % number))
                for _ in range(rng.choice((1, 1, 5, 60)))
            }
            layers.insert(0, layer)
            kept = sealed[len(sealed) - flushing :]
            sealed = fold_newest((memtable(layer, number), *sealed), flushing)

            assert list(map(id, kept)) == list(map(id, sealed[len(sealed) - flushing :]))
            step = rng.randrange(10)
            if step == 0:  # a flush begins with what there is, or ends
                flushing = 0 if flushing else len(sealed)
            elif step == 1:
                for one in sealed:
                    one.change = 1

        assert merged(layers) == merged(one.entries for one in sealed), f"seed {seed}"
        assert live(layers) == live(one.entries for one in sealed), f"seed {seed}"
        assert len(sealed) - flushing <= 22, f"seed {seed}"


def test_memtables_that_are_being_flushed_stay_the_very_same():
    flushing = (memtable({b"a": b"1"}), memtable({b"b": b"1"}))
    sealed = flushing
    for number in range(1000):
        sealed = seal_one(sealed, number, flushing=2)
        assert sealed[-2] is flushing[0]
        assert sealed[-1] is flushing[1]

    assert len(sealed) <= 2 + 11


def test_counted_and_not_counted_memtables_stay_apart():
    counted, fresh = memtable({b"a": b"1"}), memtable({b"b": b"2"})
    counted.change = 1

    assert (fresh, counted) == fold_newest((fresh, counted), 0)


def test_unlike_neighbours_stay_apart():
    small, large = memtable({b"a": b"1"}), memtable({b"%d" % number: b"" for number in range(3)})

    assert (small, large) == fold_newest((small, large), 0)
    assert 1 == len(fold_newest((small, memtable({b"b": b"", b"c": b""})), 0))


def test_nothing_to_fold_is_left_as_it_is():
    alone = memtable({b"a": b"1"})

    assert () == fold_newest((), 0)
    assert (alone,) == fold_newest((alone,), 0)
    assert (alone,) == fold_newest((alone,), 1)
