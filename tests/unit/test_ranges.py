"""Ranges over a source of three chunks.  What they give on a real database: behaviour/test_ranges.py."""

import gc

import pytest

from lsmdbm._base.chunk import clip
from lsmdbm._base.errors import ClosedError
from lsmdbm.ranges import Flows, Range, narrowed, same_entries

CHUNKS = [([b"a", b"b"], [b"1", b"2"]), ([b"c"], [b"3"]), ([b"d", b"e", b"f"], [b"4", b"5", b"6"])]
ITEMS = [item for keys, values in CHUNKS for item in zip(keys, values, strict=True)]


class Source:
    """What a handle is to a range; notes what it was asked for."""

    def __init__(self):
        self._flows = Flows()
        self.is_closed = False
        self.asked = []

    def _get(self, key):
        self.asked.append(key)
        return dict(ITEMS).get(key)

    def _chunks(self, start, stop, *, reverse, keys_only):
        self.asked.append((start, stop, reverse, keys_only))
        chunks = (clip(chunk, start, stop) for chunk in (CHUNKS[::-1] if reverse else CHUNKS))
        return (
            ([*keys], [b"" if keys_only else value for value in values]) for keys, values in chunks if keys
        )

    def _first(self, start, stop, *, reverse, keys_only):
        self.asked.append((start, stop, reverse, keys_only))
        inside = [item for item in ITEMS if (start or b"") <= item[0] and (stop is None or item[0] < stop)]
        return inside[-1 if reverse else 0] if inside else None

    def _length(self):
        self._check_open()
        self.asked.append("length")
        return len(ITEMS)

    def _check_open(self):
        if self.is_closed:
            raise ClosedError

    def close(self):
        self.is_closed = True
        self._flows.stop()


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def whole(source):
    return Range(source, None, None, False)


@pytest.mark.parametrize(
    ("outer", "given", "result"),
    [
        ((None, None), (None, None, None), (None, None)),
        ((None, None), ("b", b"d", None), (b"b", b"d")),
        ((b"b", b"d"), (None, None, None), (b"b", b"d")),
        ((b"b", b"d"), (b"a", b"e", None), (b"b", b"d")),
        ((b"b", b"d"), (b"c", b"c", None), (b"c", b"c")),
        ((b"b", b"d"), (b"x", None, None), (b"x", b"d")),
        ((None, None), (None, None, b"ab"), (b"ab", b"ac")),
        ((None, None), (None, None, b""), (b"", None)),
        ((None, None), (None, None, b"a\xff"), (b"a\xff", b"b")),
        ((None, None), (None, None, b"\xff\xff"), (b"\xff\xff", None)),
        ((None, b"ab1"), (b"ab0", None, b"ab"), (b"ab0", b"ab1")),
        ((None, None), (b"", b"", None), (b"", b"")),
    ],
)
def test_bounds_narrow_and_never_widen(outer, given, result):
    assert result == narrowed(*outer, *given)


@pytest.mark.parametrize("name", ["start", "stop", "prefix"])
def test_a_bound_of_a_wrong_type_is_named(whole, name):
    with pytest.raises(TypeError, match=f"^{name} must be str or bytes-like, not int$"):
        whole.range(**{name: 1})


def test_making_a_range_reads_nothing(source, whole):
    whole.range("b").range(stop="e", reverse=True).range(prefix="c")

    assert [] == source.asked


def test_a_key_out_of_bounds_is_not_looked_for(source, whole):
    part = whole.range("b", "d")

    assert (b"2", None, None) == (part["b"], part.get("a"), part.get("d"))
    assert "d" not in part
    assert [b"b"] == source.asked


def test_an_empty_range_asks_for_nothing(source, whole):
    for part in (whole.range("b", "b"), whole.range("c", "b")):
        assert ([], [], 0, False) == (list(part), list(reversed(part)), len(part), bool(part))
        assert (None, None) == (part.first(), part.last())
    assert [] == source.asked


def test_directions_combine(whole):
    keys = [key for key, _ in ITEMS]
    down = whole.range(reverse=True)

    assert keys == list(whole) == list(reversed(down)) == list(down.range(reverse=True))
    assert keys[::-1] == list(down) == list(reversed(whole)) == list(down.range())
    assert ITEMS[::-1] == list(down.items()) == list(reversed(whole.items()))
    assert ITEMS == list(whole.items()) == list(reversed(down.items()))
    assert [value for _, value in ITEMS] == list(whole.values()) == list(reversed(down.values()))
    assert (ITEMS[0], ITEMS[-1]) == (whole.first(), whole.last()) == (down.last(), down.first())


def test_only_values_and_items_ask_for_values(source, whole):
    list(whole)
    list(reversed(whole.keys()))
    len(whole)
    bool(whole)
    assert all(asked[-1] for asked in source.asked)

    source.asked.clear()
    for _ in (*iter(whole.values()), *iter(whole.items()), *reversed(whole.items())):
        pass
    whole.first()
    assert not any(asked[-1] for asked in source.asked)


@pytest.mark.parametrize(
    "iterate",
    [iter, reversed, lambda r: iter(r.keys()), lambda r: iter(r.values()), lambda r: reversed(r.items())],
)
@pytest.mark.parametrize("steps", range(7))
def test_closing_stops_an_iterator_at_its_next_step_wherever_it_is(source, whole, iterate, steps):
    iterator = iterate(whole)
    for _ in range(steps):
        next(iterator)
    source.close()

    with pytest.raises(ClosedError):
        next(iterator)


def test_a_closed_handle_has_no_keys_inside_or_outside_of_the_bounds(source, whole):
    part = whole.range("b", "d")
    source.close()
    source._get = lambda key: source._check_open()

    for key in ("b", "a", "d"):
        with pytest.raises(ClosedError):
            part[key]
        with pytest.raises(ClosedError):
            _ = key in part


def test_an_iterator_that_came_to_its_end_stays_there(source, whole):
    iterator = iter(whole)
    list(iterator)
    source.close()

    assert [] == list(iterator)


def test_iterators_that_are_gone_are_forgotten(source, whole):
    next(iter(whole.items()))
    gc.collect()

    assert [] == list(source._flows._flows)


def test_equality_looks_at_each_entry_of_one_side_once():
    ours = dict(ITEMS)

    assert same_entries(ours, dict(reversed(ITEMS)))
    assert not same_entries(ours, {**ours, b"g": b"7"})
    assert not same_entries(ours, {**ours, b"f": b"7"})
    assert not same_entries({**ours, b"g": None}, {**ours, b"h": None})


def test_a_range_is_no_key_and_says_what_it_is(whole):
    with pytest.raises(TypeError, match="unhashable"):
        hash(whole)
    assert "<Range start=b'b', stop=None>" == repr(whole.range("b"))
    assert "<Range start=None, stop=b'c', reverse=True>" == repr(whole.range(stop="c", reverse=True))


def test_length_of_everything_is_what_the_source_counts(source, whole):
    assert len(ITEMS) == len(whole) == len(whole.items()) == len(whole.range(reverse=True))
    assert ["length"] * 3 == source.asked
