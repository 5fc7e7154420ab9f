import random
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._base.errors import error
from lsmdbm._engine import version as version_module
from lsmdbm._engine.version import Version, sorted_runs
from lsmdbm._format.manifest import MAX_LEVELS
from support.stage import table_meta
from support.versions import bounds, keys, versions

A, B, C = table_meta(1, b"a", b"c"), table_meta(2, b"d", b"f"), table_meta(3, b"b", b"e")


# Looking


@given(versions(), bounds)
def test_overlapping_is_what_a_look_at_every_table_finds(version, pair):
    smallest, largest = pair
    for number in range(6):
        expected = tuple(
            meta for meta in version.level(number) if meta.smallest <= largest and smallest <= meta.largest
        )
        assert expected == version.overlapping(number, smallest, largest)


@given(versions(), st.none() | keys, st.none() | keys)
def test_within_is_what_a_look_at_every_table_finds(version, start, stop):
    for number in range(6):
        expected = tuple(
            meta
            for meta in version.level(number)
            if (start is None or meta.largest >= start) and (stop is None or meta.smallest < stop)
        )
        found = version.within(number, start, stop)
        assert expected == found or (start is not None and stop is not None and start >= stop)
        assert set(found) <= set(expected)


@given(versions(), keys)
def test_holds_below_is_what_a_look_at_every_table_finds(version, key):
    for number in range(6):
        expected = any(
            meta.smallest <= key <= meta.largest
            for deeper in range(number + 1, 6)
            for meta in version.level(deeper)
        )
        assert expected == version.holds_below(number, key)


def test_bounds_of_tables_are_both_in():
    version = Version(((), (A, B)))

    assert (A,) == version.overlapping(1, b"c", b"c")
    assert () == version.overlapping(1, b"c\0", b"c~")
    assert (A, B) == version.overlapping(1, b"c", b"d")
    assert (B,) == version.overlapping(1, b"f", b"z")
    assert () == version.overlapping(1, b"f\0", b"z")
    assert [True, False, True] == [version.holds_below(0, key) for key in (b"c", b"c\0", b"d")]


def test_stop_is_out_of_what_is_within():
    version = Version(((C,), (A, B)))

    assert (A,) == version.within(1, b"c", b"d")
    assert (A, B) == version.within(1, b"c", b"d\0")
    assert (B,) == version.within(1, b"c\0", None)
    assert (A, B) == version.within(1, None, None)
    assert () == version.within(0, b"e\0", None)
    assert () == version.within(0, None, b"b")
    assert (C,) == version.within(0, b"e", b"e\0")


@given(versions())
def test_tables_come_level_by_level_and_are_counted(version):
    expected = [meta for number in range(6) for meta in version.level(number)]

    assert expected == list(version)
    assert len(expected) == len(version)
    assert [sum(meta.file_bytes for meta in version.level(number)) for number in range(6)] == [
        version.level_bytes(number) for number in range(6)
    ]


def test_empty_version_holds_nothing():
    version = Version()

    assert ((), 0, [], False) == (version.levels, len(version), list(version), version.may_delete)
    assert ((), (), 0, False) == (
        version.level(0),
        version.overlapping(1, b"", b"~"),
        version.level_bytes(3),
        version.holds_below(0, b""),
    )


@pytest.mark.parametrize("number", [0, 1, 2])
def test_version_may_delete_if_any_table_has_tombstones(number):
    levels = [(), (A,), (B,)]
    assert not Version(tuple(levels)).may_delete
    levels[number] = (table_meta(9, b"x", b"y", tombstones=1),)

    assert Version(tuple(levels)).may_delete


# Replacing


def test_tables_added_to_level_0_are_newer_than_those_there():
    version = Version().replace((), {0: [A]}).replace((), {0: [C, B]})

    assert ((C, B, A),) == version.levels


def test_tables_added_to_a_deeper_level_stand_in_key_order():
    version = Version().replace((), {1: [B]}).replace((), {1: [A]})

    assert ((), (A, B)) == version.levels


def test_tables_that_replace_others_in_level_0_take_the_place_of_the_newest_of_them():
    """What was flushed meanwhile is newer, what stands behind is older."""
    old = [table_meta(number, b"a", b"z") for number in range(1, 6)]
    version = Version((tuple(reversed(old)),))
    fresh = [table_meta(9, b"a", b"f"), table_meta(10, b"g", b"z")]
    replaced = version.replace(old[1:3], {0: fresh})

    assert ((*reversed(old[3:]), *fresh, old[0]),) == replaced.levels
    assert ((*fresh, old[0]),) == version.replace(old[1:], {0: fresh}).levels


def test_drops_are_counted_from_version_to_version():
    version = Version(((B, A),))
    dropped = version.replace([A], {}, is_drop=True)

    assert (0, 0, 1, 1) == (
        version.drops,
        version.replace([A], {}).drops,
        dropped.drops,
        dropped.replace((), {0: [C]}).drops,
    )


@given(st.lists(bounds, max_size=12))
def test_sorted_runs_are_the_tables_in_their_order_cut_where_one_does_not_follow(pairs):
    tables = [table_meta(number, *pair) for number, pair in enumerate(pairs)]
    runs = sorted_runs(tables)

    assert tables == [meta for run in runs for meta in run]
    for run in runs:
        for lower, upper in zip(run, run[1:], strict=False):
            assert lower.largest < upper.smallest
    for run, following in zip(runs, runs[1:], strict=False):
        assert run[-1].largest >= following[0].smallest


def test_removed_tables_are_gone_and_the_others_keep_their_order():
    version = Version(((A, B, C), (table_meta(4, b"a", b"b"), table_meta(5, b"c", b"d"))))
    replaced = version.replace([B, version.level(1)[0]], {})

    assert ((A, C), (version.level(1)[1],)) == replaced.levels


def test_table_that_is_removed_and_added_moves():
    version = Version((((C, A)), (B,)))
    moved = version.replace([A], {1: [A]})

    assert ((C,), (A, B)) == moved.levels


def test_replacing_leaves_the_version_it_starts_from_as_it_was():
    version = Version(((C,), (A, B)))
    version.replace([A, C], {2: [table_meta(9, b"a", b"z")]})

    assert ((C,), (A, B)) == version.levels
    assert (A,) == version.overlapping(1, b"a", b"a")


def test_empty_levels_are_kept_in_the_middle_and_dropped_at_the_end():
    version = Version(((), (), (A,), ()))

    assert ((), (), (A,)) == version.levels
    assert () == version.replace([A], {}).levels
    assert ((), (), (), (B,)) == version.replace([A], {3: [B]}).levels


def test_last_level_is_allowed_and_one_more_is_refused():
    deepest = Version().replace((), {MAX_LEVELS - 1: [A]})
    assert MAX_LEVELS == len(deepest.levels)

    with pytest.raises(error, match=f"at most {MAX_LEVELS} levels"):
        deepest.replace((), {MAX_LEVELS: [B]})


def test_no_more_tables_are_taken_than_a_manifest_may_name(monkeypatch):
    monkeypatch.setattr(version_module, "MAX_TABLES", 2)
    full = Version().replace((), {1: [A], 2: [B]})

    assert 2 == len(full.replace([A], {2: [A]}))
    with pytest.raises(error, match="at most 2 tables"):
        full.replace((), {3: [A]})


def test_any_replacements_keep_the_rules(seed):
    """Level 0 by age, deeper levels by key, and exactly the tables that were added and not removed."""
    rng = random.Random(f"{seed} version")
    version, held, number = Version(), {}, 0
    for _ in range(300):
        removed = rng.sample(list(version), rng.randrange(len(version) + 1)) if rng.random() < 0.3 else []
        for meta in removed:
            del held[meta.number]
        level, added = rng.randrange(1 if removed else 0, 4), []
        for _ in range(rng.randrange(3)):
            number += 1
            borders = sorted((b"%d" % rng.randrange(1000), b"%d" % rng.randrange(1000)))
            meta = table_meta(number, *borders)
            if level == 0 or not Version(
                ((), (*version.replace(removed, {}).level(level), *added))
            ).overlapping(1, *borders):
                added.insert(0, meta)
                held[number] = level
        version = version.replace(removed, {level: added})

        assert held == {meta.number: n for n, metas in enumerate(version.levels) for meta in metas}
        assert sorted((meta.number for meta in version.level(0)), reverse=True) == [
            meta.number for meta in version.level(0)
        ]
        for deeper in version.levels[1:]:
            assert sorted(deeper, key=lambda meta: meta.smallest) == list(deeper)


def test_version_can_be_watched_for_its_end():
    version = Version(((A,),))
    watched = weakref.ref(version)
    del version

    assert watched() is None
