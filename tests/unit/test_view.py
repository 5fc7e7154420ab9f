import errno
import itertools
import random

import pytest

from lsmdbm._base.errors import ClosedError, CorruptionError
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.names import TABLE, file_name
from lsmdbm._engine.view import GoneView, View
from support.format import entries_of
from support.stage import Calls, Stage, live, memtable

PLACES = ("active", "sealed 1", "sealed 2", "level 0, newer", "level 0, older", "level 1", "level 2")
PAIRS = list(itertools.permutations(range(len(PLACES)), 2))


def placed(layers):
    """Return a view whose newest layer is its active memtable, and so on, as PLACES has it."""
    stage = Stage(block_bytes=32)
    active, sealed, others = layers[0], layers[1:3], layers[3:]
    for level, entries in ((2, others[3]), (1, others[2]), (0, others[1]), (0, others[0])):
        if entries:
            stage.add(level, entries)
    return stage, View(Memtable(1, dict(active)), tuple(map(memtable, sealed)), stage.version, stage.tables)


def mark_deletes(view):
    """Do for the active memtable what the store does."""
    view.active.deletes = None in view.active.entries.values()
    return view


def read(view, start=None, stop=None, **how):
    found = list(view.chunks(start, stop, **how))
    return entries_of(found[::-1] if how.get("reverse") else found)


def expected(layers, start=None, stop=None):
    return [
        (key, value)
        for key, value in live(layers).items()
        if (start is None or start <= key) and (stop is None or key < stop)
    ]


# Newer hides older


@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("newest", range(len(PLACES)), ids=PLACES)
def test_entry_hides_all_that_are_older(newest, deleted):
    layers = [{} for _ in PLACES]
    for number in range(newest, len(PLACES)):
        layers[number] = {
            b"k": None if deleted and number == newest else b"%d" % number,
            b"m%d" % number: b"",
        }
    _, view = placed(layers)
    mark_deletes(view)
    value = None if deleted else b"%d" % newest

    assert value == view.get(b"k")
    assert value == dict(read(view)).get(b"k")
    assert value == dict(read(view, reverse=True)).get(b"k")


@pytest.mark.parametrize(("deleted", "written"), PAIRS)
def test_tombstone_hides_one_older_entry_and_no_newer_one(deleted, written):
    layers = [{} for _ in PLACES]
    layers[deleted], layers[written] = {b"k": None}, {b"k": b"value"}
    _, view = placed(layers)
    mark_deletes(view)
    value = None if deleted < written else b"value"

    assert value == view.get(b"k")
    assert value == dict(read(view)).get(b"k")
    assert (None if value is None else (b"k", value)) == view.first()[0]


def test_key_that_is_nowhere_is_none():
    _, view = placed([{b"b": b"1"}] * len(PLACES))

    assert [None] * 4 == list(map(view.get, (b"", b"a", b"b\0", b"c")))
    assert b"1" == view.get(b"b")


def test_empty_view_has_nothing():
    stage = Stage()
    view = stage.view()

    assert (None, [], None, None) == (
        view.get(b""),
        list(view.chunks()),
        view.first()[0],
        view.first(reverse=True)[0],
    )


def test_empty_values_and_keys_are_there():
    stage = Stage()
    stage.add(1, {b"": b"", b"a": b""})
    view = stage.view()

    assert (b"", b"", None) == (view.get(b""), view.get(b"a"), view.get(b"b"))
    assert [(b"", b""), (b"a", b"")] == read(view)


def test_points_are_found_in_the_right_table_of_a_level():
    stage = Stage()
    stage.add(1, *({b"%02d" % (10 * number + 5): b"%d" % number} for number in range(9)))
    stage.add(3, {b"00": b"deep", b"99": b"deep"})
    view = stage.view()
    found = {b"%02d" % number: view.get(b"%02d" % number) for number in range(100)}

    assert {b"00", b"99", *(b"%d5" % number for number in range(9))} == {k for k, v in found.items() if v}
    assert b"7" == found[b"75"]


# Random views


def random_view(rng):
    """Return layers newest first, and a view of them: memtables, three level-0 tables, two deep levels."""
    stage = Stage(block_bytes=rng.choice((16, 64, 4096)), cache_bytes=rng.choice((0, 1 << 20)))
    deletes = rng.random() < 0.8

    def layer(low=0, high=300):
        count = rng.choice((1, 5, 100))
        return {
            b"%03d" % rng.randrange(low, high): None
            if deletes and rng.random() < 0.3
            else b"%d" % rng.randrange(1000)
            for _ in range(count)
        }

    for level in (3, 1):
        borders = sorted({0, 300, *(rng.randrange(1, 300) for _ in range(rng.randrange(4)))})
        for low, high in zip(borders, borders[1:], strict=False):
            if rng.random() < 0.8:
                stage.add(level, layer(low, high))
    for _ in range(rng.randrange(4)):
        stage.add(0, layer())
    sealed = [layer() for _ in range(rng.randrange(3))]
    active = layer() if rng.random() < 0.5 else {}
    view = mark_deletes(
        View(Memtable(1, dict(active)), tuple(map(memtable, sealed)), stage.version, stage.tables)
    )
    return [active, *sealed, *stage.layers()], view


def test_ranges_are_those_of_the_model_from_and_to_everywhere(seed):
    rng = random.Random(f"{seed} view")
    for _ in range(12):
        layers, view = random_view(rng)
        bounds = [None, b"", b"1", b"299", b"3", *(b"%03d" % rng.randrange(300) for _ in range(6))]
        for start in bounds:
            for stop in bounds:
                reverse = rng.random() < 0.5
                model = expected(layers, start, stop)
                assert model == read(view, start, stop, reverse=reverse), f"seed {seed}"
                ends = (model[-1] if reverse else model[0]) if model else None
                assert ends == view.first(start, stop, reverse=reverse)[0], f"seed {seed}"


def test_points_are_those_of_the_model(seed):
    rng = random.Random(f"{seed} points")
    for _ in range(12):
        layers, view = random_view(rng)
        model = live(layers)
        for key in [b"", b"~", *(b"%03d" % number for number in range(300))]:
            assert model.get(key) == view.get(key), f"seed {seed}"


def test_keys_alone_are_those_of_the_model(seed):
    rng = random.Random(f"{seed} keys")
    for _ in range(12):
        layers, view = random_view(rng)
        start = rng.choice((None, b"1"))
        for reverse in (False, True):
            found = read(view, start, keys_only=True, reverse=reverse)
            assert [(key, b"") for key, _ in expected(layers, start)] == found, f"seed {seed}"


def test_no_chunk_is_empty_and_none_has_a_tombstone(seed):
    rng = random.Random(f"{seed} chunks")
    for _ in range(12):
        _, view = random_view(rng)
        for reverse in (False, True):
            for keys, values in view.chunks(reverse=reverse):
                assert keys
                assert None not in values


# What reading costs


@pytest.fixture
def wide():
    """Nine tables in each of levels 1 and 2, two of them in level 0, each over ten of ninety keys."""
    stage = Stage(block_bytes=16)
    tables = [{b"%02d" % (10 * table + key): b"%d" % table for key in range(10)} for table in range(9)]
    for level in (2, 1):
        stage.add(level, *tables)
    stage.add(0, tables[3], tables[7])
    return stage


def opened(stage, call):
    """Return by level the places, 0 to 8, of the tables that a call opens."""
    stage.forget_readers()
    calls = Calls(stage.storage)
    call()
    names = set(calls.paths("open"))
    return [
        [int(meta.smallest) // 10 for meta in metas if "/" + file_name(meta.number, TABLE) in names]
        for metas in stage.version.levels
    ]


def test_point_opens_one_table_of_a_level_and_stops_where_it_finds_the_key(wide):
    view = wide.view()

    assert [[], [5], []] == opened(wide, lambda: view.get(b"55"))
    assert [[3], [], []] == opened(wide, lambda: view.get(b"35"))
    assert [[], [8], [8]] == opened(wide, lambda: view.get(b"80x"))
    assert [[], [], []] == opened(wide, lambda: view.get(b"29x"))  # between the bounds of two tables
    assert [[], [], []] == opened(wide, lambda: wide.view(memtable({b"55": None})).get(b"55"))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("start", "stop", "level0", "deeper"),
    [
        (b"41", b"49", [], [4]),
        (b"40", b"50", [], [4]),
        (b"40", b"50\0", [], [4, 5]),
        (b"39", b"50", [3], [3, 4]),
        (b"39\0", b"40", [], []),
        (b"65", b"75", [7], [6, 7]),
        (b"75", None, [7], [7, 8]),
        (None, b"10", [], [0]),
        (b"~", None, [], []),
        (None, b"", [], []),
        (None, None, [7, 3], list(range(9))),
    ],
)
def test_range_opens_the_tables_that_overlap_it_and_no_other(wide, start, stop, level0, deeper, reverse):
    view = wide.view()

    assert [level0, deeper, deeper] == opened(wide, lambda: list(view.chunks(start, stop, reverse=reverse)))


@pytest.mark.parametrize("reverse", [False, True])
def test_first_entry_of_a_range_opens_one_table_of_each_run(wide, reverse):
    view = wide.view()
    first = 8 if reverse else 0

    assert [[7, 3], [first], [first]] == opened(wide, lambda: view.first(reverse=reverse))


def test_reading_keys_alone_reads_less():
    stage = Stage(block_bytes=4096, compression=None)
    stage.add(1, {b"%03d" % number: b"x" * 1000 for number in range(100)})
    lengths = []
    reader = stage.tables.reader(*stage.version)
    pread = reader.file.pread
    reader.file.pread = lambda length, offset: lengths.append(length) or pread(length, offset)
    view = stage.view()
    assert 100 == len(read(view, keys_only=True))
    keys_only = sum(lengths)
    lengths.clear()
    assert 100 == len(read(view))

    assert 10 * keys_only < sum(lengths)


def test_view_without_deletions_passes_chunks_as_they_are():
    stage = Stage()
    stage.add(1, {b"a": b"1", b"b": b"2"})
    found = list(stage.view().chunks())
    again = list(stage.view().chunks())

    assert [([b"a", b"b"], [b"1", b"2"])] == found
    assert found[0][0] is again[0][0]  # the list in the block cache


def test_chunks_are_read_as_they_are_asked_for():
    stage = Stage(block_bytes=16)
    stage.add(1, *({b"%d%02d" % (table, key): b"value" for key in range(50)} for table in range(9)))
    view = stage.view()
    calls = Calls(stage.storage)
    next(view.chunks())

    assert (1, 1) == (calls.count("open"), len(set(calls.paths("pread"))))
    assert calls.count("pread") <= 3  # footer, index, one block


# What a view pins


def test_view_does_not_change_when_the_tree_does():
    stage = Stage()
    stage.add(1, {b"a": b"1", b"b": b"1"})
    view = stage.view(memtable({b"c": b"1"}))
    stage.add(0, {b"a": None, b"d": b"2"})
    stage.compact(stage.merge_of(1, *([meta] for meta in stage.version)))

    assert [(b"a", b"1"), (b"b", b"1"), (b"c", b"1")] == read(view)
    assert [(b"b", b"1"), (b"d", b"2")] == read(stage.view())


def test_view_with_other_memtables_or_another_version_keeps_the_rest():
    stage = Stage()
    stage.add(1, {b"a": b"1"})
    before = stage.version
    sealed = (memtable({b"b": b"2"}),)
    view = stage.view(active={b"c": b"3"})
    other = view.with_active(memtable({b"d": b"4"}), sealed)
    assert [(b"a", b"1"), (b"b", b"2"), (b"d", b"4")] == read(other)
    assert before is other.version

    stage.add(0, {b"b": b"2"})
    flushed = other.with_version(stage.version, (), 2)
    assert [(b"a", b"1"), (b"b", b"2"), (b"d", b"4")] == read(flushed)
    assert (other.active, (), 2) == (flushed.active, flushed.sealed, flushed.table_keys)
    below = flushed.with_active(memtable({b"e": b"5"}), (memtable({b"f": None}), *sealed)).below(1)
    assert ([(b"a", b"1"), (b"b", b"2")], 2) == (read(below), below.table_keys)
    assert [(b"a", b"1"), (b"c", b"3")] == read(view)


@pytest.mark.parametrize("why", [(), ("lost in a fork",)])
def test_gone_view_raises_whatever_is_asked_of_it(why):
    gone = GoneView(*why)
    asked = (
        lambda: gone.get(b"a"),
        lambda: gone.chunks(),
        lambda: gone.first(None, None),
        lambda: gone.active,
        lambda: gone.version,
    )
    for ask in asked:
        with pytest.raises(ClosedError, match=why[0] if why else "closed"):
            ask()


# Damage


def test_damage_is_raised_and_never_passed_over():
    stage = Stage(block_bytes=16, cache_bytes=0)
    stage.add(1, {b"%02d" % number: b"%d" % number for number in range(50)})
    (meta,) = stage.version
    view = stage.view()
    view.check_tables()
    name = "/" + file_name(meta.number, TABLE)
    data = bytearray(stage.storage.contents()[name[1:]])
    data[60] ^= 1
    stage.storage.plant(name, bytes(data))

    with pytest.raises(CorruptionError, match=name):
        view.check_tables()
    with pytest.raises(CorruptionError, match=name):
        read(view)
    with pytest.raises(CorruptionError, match=name):
        view.get(b"01")
    assert b"49" == view.get(b"49")


def test_error_while_reading_comes_out_and_the_next_read_works():
    stage = Stage(block_bytes=16, cache_bytes=0)
    stage.add(1, {b"%02d" % number: b"%d" % number for number in range(50)})
    view = stage.view()
    view.get(b"01")
    stage.storage.fault(stage.storage.count, errno.EIO)

    with pytest.raises(OSError, match="Input/output error"):
        view.get(b"01")
    assert b"1" == view.get(b"01")
