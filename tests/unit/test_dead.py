import random

import pytest

from lsmdbm._engine.dead import ABOVE_ALL, LONG_WALK, MAX_RANGES, DeadRanges, watched
from support.opcodes import at_opcode
from support.stage import Stage, memtable


def dead_at(*ranges):
    dead = DeadRanges()
    for low, high in ranges:
        dead.add(low, high, LONG_WALK)
    return dead


def known(dead):
    return list(zip(dead._lows, dead._highs, strict=True))


# add


@pytest.mark.parametrize(
    ("low", "high", "after"),
    [
        (b"a", b"b", [(b"a", b"b"), (b"d", b"f"), (b"m", b"p")]),
        (b"h", b"k", [(b"d", b"f"), (b"h", b"k"), (b"m", b"p")]),
        (b"a", b"d", [(b"a", b"f"), (b"m", b"p")]),
        (b"f", b"g", [(b"d", b"g"), (b"m", b"p")]),
        (b"e", b"z", [(b"d", b"z")]),
        (b"f", b"m", [(b"d", b"p")]),
        (b"e", b"e\0", [(b"d", b"f"), (b"m", b"p")]),
        (b"", ABOVE_ALL, [(b"", ABOVE_ALL)]),
    ],
)
def test_ranges_that_touch_become_one(low, high, after):
    dead = dead_at((b"d", b"f"), (b"m", b"p"))
    dead.add(low, high, 1)

    assert after == known(dead)
    assert (after[0][0], after[-1][1]) == (dead.low, dead.high)


def test_only_the_longest_walks_are_remembered():
    dead = DeadRanges()
    for number in range(MAX_RANGES):
        dead.add(b"%04d" % number, b"%04d." % number, 1000 - number)
    dead.add(b"z", b"zz", 999)

    assert MAX_RANGES == len(dead)
    assert (b"%04d" % (MAX_RANGES - 1), b"%04d." % (MAX_RANGES - 1)) not in known(dead)
    assert (b"z", b"zz") in known(dead)


# revive


@pytest.mark.parametrize(
    ("key", "after"),
    [
        (b"c", [(b"d", b"f")]),
        (b"d", [(b"d\0", b"f")]),
        (b"e", [(b"d", b"e"), (b"e\0", b"f")]),
        (b"f", [(b"d", b"f")]),
    ],
)
def test_what_is_written_is_not_dead(key, after):
    dead = dead_at((b"d", b"f"))
    dead.revive(key)
    assert after == known(dead)

    dead = dead_at((b"d", b"f"))
    dead.revive_all([b"", key, b"z"])
    assert after == known(dead)


def test_last_key_of_a_range_that_is_written_ends_it():
    dead = dead_at((b"d", b"d\0"))
    dead.revive(b"d")

    assert ([], 0) == (known(dead), len(dead))
    assert not dead.low <= b"d" < dead.high


# Where live keys may be


@pytest.mark.parametrize(
    ("start", "stop", "narrowed"),
    [
        (None, None, (b"", ABOVE_ALL)),
        (b"d", b"p", (b"f", b"m")),
        (b"e", b"n", (b"f", b"m")),
        (b"g", b"h", (b"g", b"h")),
        (b"d", b"e", (b"f", b"d")),
        (b"f", b"m", (b"f", b"m")),
        (b"a", b"q", (b"a", b"q")),
    ],
)
def test_ranges_are_narrowed_at_their_ends(start, stop, narrowed):
    assert narrowed == dead_at((b"d", b"f"), (b"m", b"p")).narrowed(start, stop)
    assert (start, stop) == DeadRanges().narrowed(start, stop)


@pytest.mark.parametrize(
    ("key", "above", "below"),
    [
        (b"a", (b"a", b"d"), (b"a", b"")),
        (b"d", (b"f", b"m"), (b"d", b"")),
        (b"e", (b"f", b"m"), (b"d", b"")),
        (b"f", (b"f", b"m"), (b"d", b"")),
        (b"g", (b"g", b"m"), (b"g", b"f")),
        (b"n", (b"p", ABOVE_ALL), (b"m", b"f")),
        (b"z", (b"z", ABOVE_ALL), (b"z", b"p")),
    ],
)
def test_next_place_to_look_is_beside_what_is_dead(key, above, below):
    dead = dead_at((b"d", b"f"), (b"m", b"p"))

    assert (above, below) == (dead.above(key), dead.below(key))


# Over a view


def graveyard(*live, count=1000):
    """Return a view without a cache of `count` tombstones and a few live keys in a table."""
    stage = Stage()
    stage.add(0, {**{b"%04d" % number: None for number in range(count)}, **dict.fromkeys(live, b"live")})
    stage.tables.blocks.max_cost = 0
    return stage, stage.view()


def cost(stage, read):
    before = stage.storage.count
    return read(), stage.storage.count - before


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("part", [(None, None), (b"0100", b"0900")])
def test_tombstones_are_walked_over_once(reverse, part):
    (stage, view), dead = graveyard(b"0500"), DeadRanges()
    looks = [cost(stage, lambda: dead.first(view, *part, reverse=reverse)) for _ in range(3)]

    assert [(b"0500", b"live")] * 3 == [found for found, _ in looks]
    assert looks[0][1] > 5  # one for a run of blocks
    assert [1, 1] == [reads for _, reads in looks[1:]]


def test_few_tombstones_are_not_remembered():
    (_, view), dead = graveyard(count=LONG_WALK - 1), DeadRanges()

    assert None is dead.first(view)
    assert 0 == len(dead)


def test_nothing_is_live_and_that_is_remembered():
    (stage, view), dead = graveyard(), DeadRanges()

    assert None is dead.first(view)
    assert [(b"", ABOVE_ALL)] == known(dead)
    assert (None, 0) == cost(stage, lambda: dead.first(view, reverse=True))


def test_a_write_among_the_dead_costs_one_more_look_and_no_walk():
    """A queue to whose front something urgent is put now and then."""
    (stage, view), dead = graveyard(b"0900"), DeadRanges()
    dead.first(view)
    dead.revive(b"0100")
    urgent = stage.view(memtable({b"0100": b"new"}))
    assert (b"0100", b"new") == dead.first(urgent)
    taken = stage.view(memtable({b"0100": None}))

    found, reads = cost(stage, lambda: dead.first(taken))
    assert (b"0900", b"live") == found
    assert reads < 5


def test_each_of_several_queues_is_remembered():
    queues = [b"q%d:" % number for number in range(9)]
    stage, dead = Stage(), DeadRanges()
    stage.add(0, {queue + b"%03d" % n: None if n < 99 else b"live" for queue in queues for n in range(100)})
    stage.tables.blocks.max_cost = 0
    view = stage.view()

    def ends():
        return [dead.first(view, queue, queue + b"x") for queue in queues]

    expected = [(queue + b"099", b"live") for queue in queues]
    assert expected == ends()
    found, reads = cost(stage, ends)
    assert (expected, len(queues)) == (found, reads)


# watched


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("alive", [(), (b"0500",), (b"0500", b"0501"), (b"0000",), (b"0999",)])
def test_scans_tell_what_they_walked_over_before_the_first_live_key(alive, reverse):
    stage, view = graveyard(*alive)
    told = []
    chunks = list(view.merged(None, None, reverse=reverse, keys_only=True))
    passed = list(watched(iter(chunks), reverse, lambda *walk: told.append(walk)))

    first = None if not alive else alive[-1 if reverse else 0]
    walked = 1000 if first is None else 999 - int(first) if reverse else int(first)
    assert [(first, walked)] * (walked >= LONG_WALK) == told
    live = [keys for keys, values in chunks if any(value is not None for value in values)]
    assert live == [keys for keys, values in passed if any(value is not None for value in values)]


# All together


def run(seed):
    """Write and look at random; a dict says what is right."""
    rng = random.Random(f"{seed} dead")
    remembered = 0
    for _ in range(15):
        dead, entries, stage = DeadRanges(), {}, Stage()
        for _ in range(150):
            keys = rng.sample(range(300), rng.choice((1, 1, 3, 90)))
            keys = [b"%03d" % key for key in keys]
            is_put = len(keys) < 90 and rng.random() < 0.4
            if is_put:
                dead.revive_all(keys)
            entries.update(dict.fromkeys(keys, b"v" if is_put else None))
            start, stop = rng.choice((None, b"050", b"200")), rng.choice((None, b"120", b"250"))
            reverse = rng.random() < 0.5
            alive = sorted(key for key, value in entries.items() if value is not None)
            inside = [key for key in alive if (start or b"") <= key and (stop is None or key < stop)]
            expected = None if not inside else inside[-1 if reverse else 0]
            found = dead.first(stage.view(memtable(entries)), start, stop, reverse=reverse)
            assert expected == (found and found[0]), f"seed {seed}"
            low, high = dead.narrowed(start, stop)
            assert inside == [key for key in inside if (low or b"") <= key < (high or ABOVE_ALL)], (
                f"seed {seed}"
            )
            ranges = known(dead)
            assert ranges == sorted(ranges)
            assert all(one[1] < other[0] for one, other in zip(ranges, ranges[1:], strict=False))
            assert not any(low <= key < high for low, high in ranges for key in alive), f"seed {seed}"
            remembered += len(ranges)
    return remembered


def test_dead_ranges_never_hide_a_live_key(seed):
    assert run(seed) > 500


@pytest.mark.parametrize("fault", ["revive_all", "note"])
def test_guard_finds_what_is_not_kept_up(seed, monkeypatch, fault):
    if fault == "revive_all":
        monkeypatch.setattr(DeadRanges, "revive_all", lambda self, keys: None)
    else:
        note = DeadRanges.note
        wrong = lambda self, start, stop, found, walked, reverse: note(  # noqa: E731
            self, start, stop, None, walked, reverse=reverse
        )
        monkeypatch.setattr(DeadRanges, "note", wrong)

    with pytest.raises(AssertionError):
        run(seed)


# interrupted


CHANGES = {
    "add a first one": lambda dead: dead.add(b"x", b"y", LONG_WALK),
    "add beside": lambda dead: dead.add(b"f", b"h", LONG_WALK),
    "add over all": lambda dead: dead.add(b"a", b"z", LONG_WALK),
    "revive at an edge": lambda dead: dead.revive(b"d"),
    "revive inside": lambda dead: dead.revive(b"e"),
    "revive all there is": lambda dead: dead.revive(b"m"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_interrupted_at_any_opcode_was_made_or_not(change):
    """Three lists were changed one after the other: interrupted, every later walk was an IndexError."""
    before, after = dead_at((b"d", b"f"), (b"m", b"m\0")), dead_at((b"d", b"f"), (b"m", b"m\0"))
    CHANGES[change](after)
    for number in range(1000):
        dead = dead_at((b"d", b"f"), (b"m", b"m\0"))
        interruption = at_opcode(number, lambda dead=dead: CHANGES[change](dead))
        assert known(dead) in (known(before), known(after)), interruption.where
        assert all(dead.low <= low and high <= dead.high for low, high in known(dead)), interruption.where
        CHANGES[change](dead)
        assert known(dead) == known(after), interruption.where
        if interruption.where is None:
            assert (dead.low, dead.high) == (known(dead)[0][0], known(dead)[-1][1])
            break
