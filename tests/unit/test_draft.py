"""A draft: changes over one moment, what of it counts as read, and how it goes back to a mark."""

import random

import pytest

from lsmdbm._base.errors import ClosedError
from lsmdbm._engine.draft import Draft
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.validation import Walked
from support.format import entries_of
from support.stage import Stage, memtable

BELOW = {b"%d" % number: b"v%d" % number for number in range(6)}
SEQ = 100


@pytest.fixture
def base():
    """A view with entries in a table and in a sealed memtable."""
    stage = Stage(block_bytes=32)
    stage.add(1, {key: value for key, value in BELOW.items() if key != b"5"})
    return stage.view(memtable({b"5": b"v5"}, 50)).with_active(Memtable(SEQ), (memtable({b"5": b"v5"}, 50),))


@pytest.fixture
def draft(base):
    return Draft(base, lambda: None)


def read(draft, start=None, stop=None, **how):
    found = [*draft.chunks(start, stop, **how)]
    return entries_of(found[::-1] if how.get("reverse") else found)


def noted(draft):
    """Return the keys and ranges that count as read, as far as they were not written."""
    footprint = draft.footprint()
    return footprint.keys, footprint.walked


# -- reading its own writes -------------------------------------------------------------------------


def test_a_draft_reads_the_moment_below_its_own_writes(draft):
    draft.put(b"3", b"new")
    draft.put(b"7", b"new")
    draft.delete(b"1")
    draft.delete(b"x")
    expected = {**BELOW, b"3": b"new", b"7": b"new"}
    del expected[b"1"]

    assert [*sorted(expected.items())] == read(draft)
    assert [*sorted(expected.items())] == read(draft, reverse=True)
    assert [(b"2", b"v2"), (b"3", b"new")] == read(draft, b"1", b"4")
    assert (b"new", None, b"v0") == (draft.get(b"3"), draft.get(b"1"), draft.get(b"0"))
    assert {b"3": b"new", b"0": b"v0"} == draft.get_many([b"3", b"1", b"0", b"y"])
    assert ((b"0", b"v0"), (b"7", b"new")) == (draft.first(None, None), draft.first(None, None, reverse=True))
    assert (b"2", b"v2") == draft.first(b"1", None)
    assert None is draft.first(b"8", None)
    assert len(expected) == draft.length()


def test_nobody_else_sees_what_is_written(base, draft):
    draft.put(b"3", b"new")
    draft.delete(b"5")
    other = Draft(base, lambda: None)
    assert [*BELOW.items()] == read(other) == [*entries_of(base.chunks())]
    assert (b"v3", b"v5") == (base.get(b"3"), base.get(b"5"))


def test_a_walk_sees_the_draft_as_it_was_at_its_begin(draft):
    draft.put(b"7", b"new")
    walk = draft.chunks(None, None)
    draft.put(b"8", b"later")
    draft.delete(b"0")
    assert [*BELOW.items(), (b"7", b"new")] == entries_of(walk)
    assert [*BELOW.items()][1:] == read(draft)[:5]


def test_of_several_changes_of_a_key_the_last_one_is_committed(draft):
    draft.put(b"a", b"1")
    read(draft)  # which seals it
    draft.put(b"a", b"2")
    draft.put(b"b", b"1")
    read(draft)
    draft.delete(b"b")
    draft.put(b"c", b"1")
    assert {b"a": b"2", b"b": None, b"c": b"1"} == draft.changes()


def test_a_draft_without_changes_has_none(draft):
    read(draft)
    draft.get(b"0")
    draft.mark()
    assert {} == draft.changes()


def test_many_small_writes_between_walks_are_few_memtables(draft):
    for number in range(100):
        draft.put(b"%03d" % number, b"")
        draft.first(None, None)
        next(draft.chunks(None, None), None)
    assert len(draft._own()) < 10
    assert draft.base.sealed == draft.view.sealed[-1:]  # what is below is left as it is
    assert 100 == len(draft.changes())


def test_the_length_is_exact_whatever_is_written(draft, seed):
    rng, content = random.Random(f"{seed} length"), dict(BELOW)
    for _ in range(40):
        key = b"%d" % rng.randrange(12)
        if rng.random() < 0.5:
            draft.put(key, b"")
            content[key] = b""
        else:
            draft.delete(key)
            content.pop(key, None)
        assert len(content) == draft.length()


def test_the_count_of_what_is_below_is_made_once(draft, monkeypatch):
    assert None is draft.base.table_keys
    draft.put(b"7", b"")
    assert 7 == draft.length()
    assert 5 == draft.base.table_keys == draft.view.table_keys


# -- what counts as read ----------------------------------------------------------------------------


def test_looks_are_reads_whether_there_is_something_or_not(draft):
    draft.get(b"0")
    draft.get(b"x")
    draft.get_many([b"1", b"y"])
    assert ({b"0", b"x", b"1", b"y"}, []) == noted(draft)


def test_what_comes_from_the_drafts_own_writes_is_no_read(draft):
    draft.put(b"a", b"1")
    draft.delete(b"0")
    read_before = set(draft.reads.keys)
    draft.mark()  # own writes are own in whatever memtable they are
    draft.put(b"b", b"1")
    assert (b"1", None, b"1") == (draft.get(b"a"), draft.get(b"0"), draft.get(b"b"))
    assert {b"a": b"1", b"b": b"1"} == draft.get_many([b"a", b"b", b"0"])
    assert set() == read_before == draft.reads.keys
    assert ({b"a", b"b", b"0"}, []) == noted(draft)  # because they were written


def test_a_key_that_was_read_before_it_was_written_was_read(draft):
    draft.get(b"0")
    draft.put(b"0", b"new")
    assert {b"0"} == draft.reads.keys


def test_walks_and_ends_are_reads_of_what_they_saw(draft):
    read(draft, b"1", b"3", keys_only=True)
    draft.first(b"4", None)
    draft.first(None, b"0", reverse=True)
    draft.put(b"9", b"")
    assert [
        Walked(None, b"0", False),
        Walked(b"4", b"4\0", False),
        Walked(b"1", b"3", True),
    ] == noted(draft)[1]


def test_a_length_is_a_read_of_all_keys_without_their_values(draft):
    draft.length()
    assert (set(), [Walked(None, None, True)]) == noted(draft)


# -- marks ------------------------------------------------------------------------------------------


def test_a_draft_goes_back_to_a_mark_as_often_as_one_likes(draft):
    draft.put(b"a", b"1")
    mark = draft.mark()
    for _ in range(3):
        draft.put(b"a", b"2")
        draft.delete(b"0")
        read(draft)
        draft.put(b"b", b"2")
        draft.go_back(mark)
        assert {b"a": b"1"} == draft.changes()
        assert [*BELOW.items(), (b"a", b"1")] == read(draft)


def test_marks_nest(draft):
    states, marks = [], []
    for number in range(4):
        draft.put(b"%d" % number, b"changed")
        marks.append(draft.mark())
        states.append(draft.changes())
    for mark, state in zip(marks[::-1], states[::-1], strict=True):
        draft.go_back(mark)
        assert state == draft.changes()
    assert {b"0": b"changed"} == draft.changes()


def test_a_mark_of_nothing_takes_everything_back(draft):
    mark = draft.mark()
    draft.put(b"a", b"1")
    draft.delete(b"0")
    draft.go_back(mark)
    assert ({}, [*BELOW.items()]) == (draft.changes(), read(draft))


def test_what_was_read_stays_read_when_the_changes_are_taken_back(draft):
    mark = draft.mark()
    draft.get(b"0")
    draft.put(b"1", draft.get(b"2"))
    draft.first(b"4", None)
    draft.go_back(mark)
    assert ({b"0", b"2"}, [Walked(b"4", b"4\0", False)]) == noted(draft)
    draft.get(b"1")  # which is no longer its own
    assert b"1" in noted(draft)[0]


def test_what_is_known_to_be_deleted_is_forgotten_with_the_deletions(base):
    draft = Draft(base, lambda: None)
    draft.put(b"0", b"v0")
    mark = draft.mark()
    for number in range(200):
        draft.put(b"a%03d" % number, b"")
    below = draft.mark()
    for key in [*BELOW, *(b"a%03d" % number for number in range(199))]:
        draft.delete(key)
    assert (b"a199", b"") == draft.first(None, None)
    assert 1 == len(draft._dead)
    draft.put(b"a100", b"again")
    assert (b"a100", b"again") == draft.first(None, None)
    draft.go_back(below)
    assert (b"0", b"v0") == draft.first(None, None)
    draft.go_back(mark)
    assert [*BELOW.items()] == read(draft)


# -- the end ----------------------------------------------------------------------------------------


def test_a_draft_that_is_closed_says_so_and_lets_go_of_its_moment(base):
    closed = []
    draft = Draft(base, lambda: closed.append(True))
    mark = draft.mark()
    walk = draft.chunks(None, None)
    draft.close("it is over")
    assert [True] == closed
    assert draft.is_closed
    for use in (
        lambda: draft.get(b"0"),
        lambda: draft.get_many([b"0"]),
        lambda: draft.chunks(None, None),
        lambda: draft.first(None, None),
        lambda: draft.length(),
        lambda: draft.put(b"a", b""),
        lambda: draft.delete(b"a"),
        lambda: draft.changes(),
        lambda: draft.mark(),
        lambda: draft.go_back(mark),
        lambda: draft.footprint(),
        lambda: draft.base.get(b"0"),
    ):
        with pytest.raises(ClosedError, match="it is over"):
            use()
    draft.close("twice")
    del walk  # which settles with reads that nobody asks for any more
    assert [*BELOW.items()] == entries_of(base.chunks())
