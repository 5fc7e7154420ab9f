import random

import pytest

from lsmdbm._engine.edges import ABOVE_ALL, Edges, first_within
from support.stage import Stage, memtable


def learned(low=b"", high=ABOVE_ALL):
    edges = Edges()
    edges.low, edges.high = low, high
    return edges


def known(edges):
    return edges.low, edges.high


# widen


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        (b"a", b"a", b"m"),
        (b"d", b"d", b"m"),
        (b"e", b"d", b"m"),
        (b"m", b"d", b"m\0"),
        (b"z", b"d", b"z\0"),
        (b"", b"", b"m"),
    ],
)
def test_what_is_written_is_between_the_edges(key, low, high):
    edges = learned(b"d", b"m")
    edges.widen(key, key)

    assert (low, high) == known(edges)
    assert edges.low <= key < edges.high


def test_batch_widens_to_both_sides():
    edges = learned(b"d", b"m")
    edges.widen_all([b"x", b"b", b"f"])

    assert (b"b", b"x\0") == known(edges)


def test_batch_is_not_searched_while_nothing_is_known():
    edges = Edges()
    edges.widen_all([None])  # which has no order

    assert (b"", ABOVE_ALL) == known(edges)


# narrowed


@pytest.mark.parametrize(
    ("start", "stop", "narrowed"),
    [
        (None, None, (b"d", b"m")),
        (b"a", b"z", (b"d", b"m")),
        (b"e", b"f", (b"e", b"f")),
        (b"a", b"b", (b"d", b"b")),
        (b"x", b"z", (b"x", b"m")),
    ],
)
def test_ranges_are_narrowed_to_the_edges(start, stop, narrowed):
    assert narrowed == learned(b"d", b"m").narrowed(start, stop)
    assert (start, stop) == Edges().narrowed(start, stop)


# learn


@pytest.mark.parametrize(
    ("start", "stop", "found", "low"),
    [
        (None, None, b"f", b"f"),
        (b"c", None, b"f", b"f"),
        (b"d", b"g", b"f", b"f"),
        (b"e", None, b"f", b"d"),  # not from the edge: nothing is known of d .. e
        (b"d", b"g", None, b"g"),
        (b"d", None, None, ABOVE_ALL),
        (b"d", b"m", None, ABOVE_ALL),
    ],
)
def test_first_key_of_a_range_tells_where_live_keys_begin(start, stop, found, low):
    edges = learned(b"d", b"m")
    edges.learn_first(start, stop, found)

    assert (low, b"m") == known(edges)


@pytest.mark.parametrize(
    ("start", "stop", "found", "high"),
    [
        (None, None, b"f", b"f\0"),
        (None, b"m", b"f", b"f\0"),
        (None, b"l", b"f", b"m"),
        (b"g", None, None, b"g"),
        (None, None, None, b""),
    ],
)
def test_last_key_of_a_range_tells_where_live_keys_end(start, stop, found, high):
    edges = learned(b"d", b"m")
    edges.learn_last(start, stop, found)

    assert (b"d", high) == known(edges)


# Over a view


@pytest.mark.parametrize("reverse", [False, True])
def test_tombstones_at_either_end_are_walked_over_once(reverse):
    dead = {b"%04d" % number: None for number in range(1000) if number != 500}
    stage, edges = Stage(), Edges()
    stage.add(0, {**dead, b"0500": b"live"})
    stage.tables.blocks.max_cost = 0
    view = stage.view()
    reads = []
    for _ in range(3):
        before = stage.storage.count
        assert (b"0500", b"live") == first_within(edges, view, reverse=reverse)
        reads.append(stage.storage.count - before)

    assert reads[0] > 10
    assert [1, 1] == reads[1:]


def test_nothing_is_live_and_that_is_known():
    stage, edges = Stage(), Edges()
    stage.add(0, dict.fromkeys((b"a", b"b", b"c")))

    assert None is first_within(edges, stage.view())
    assert edges.low > b"c"
    assert None is first_within(edges, stage.view(), reverse=True)
    assert None is first_within(edges, stage.view(), b"b", b"c")
    edges.widen(b"b", b"b")
    assert (b"b", b"1") == first_within(edges, stage.view(memtable({b"b": b"1"})))
    assert (b"b", b"1") == first_within(edges, stage.view(memtable({b"b": b"1"})), reverse=True)


def run(seed):
    """Write and look at random; a dict says what is right."""
    rng = random.Random(f"{seed} edges")
    narrow = 0
    for _ in range(20):
        edges, entries, stage = Edges(), {}, Stage()
        for _ in range(60):
            keys = rng.sample(range(30), rng.choice((1, 1, 1, 4)))
            keys = [b"%02d" % key for key in keys]
            edges.widen_all(keys)
            entries.update(dict.fromkeys(keys, rng.choice((None, None, b"v"))))
            alive = sorted(key for key, value in entries.items() if value is not None)
            start, stop, reverse = (
                rng.choice((None, b"05", b"20")),
                rng.choice((None, b"12", b"25")),
                rng.random() < 0.5,
            )
            inside = [key for key in alive if (start or b"") <= key and (stop is None or key < stop)]
            expected = None if not inside else inside[-1 if reverse else 0]
            found = first_within(edges, stage.view(memtable(entries)), start, stop, reverse=reverse)
            assert expected == (found and found[0]), f"seed {seed}"
            assert all(edges.low <= key < edges.high for key in alive), f"seed {seed}"
            narrow += edges.low > b"" and edges.high < ABOVE_ALL
    return narrow


def test_edges_never_hide_a_live_key(seed):
    assert run(seed) > 50


def test_guard_finds_edges_that_are_not_widened(seed, monkeypatch):
    monkeypatch.setattr(Edges, "widen_all", lambda self, keys: None)

    with pytest.raises(AssertionError):
        run(seed)
