"""Keys are looked up in the tables that may hold them, newest first; tables stay open only while all may."""

import gc
import weakref
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._base.chunk import MISSING
from lsmdbm._base.errors import ClosedError
from lsmdbm._engine.lookup import Lookup
from lsmdbm._engine.version import Version
from lsmdbm._format.table_reader import ReadCounters
from support.stage import Stage
from support.versions import versions

EVERYTHING = array("Q", [(1 << 64) - 1])


class Table:
    """A table whose filter says yes, and which holds the keys it is given."""

    words = EVERYTHING

    def __init__(self, number, asked, held=()):
        self.number, self.asked, self.held = number, asked, held

    def get(self, key, is_probable=False):
        self.asked.append(self.number)
        return b"%d" % self.number if key in self.held else MISSING


def lookup_of(version, asked, holder=None, key=b""):
    """Return a lookup that tells which tables it asks; one of them holds a key."""

    def reader(meta):
        return Table(meta.number, asked, [key] if meta.number == holder else ())

    return Lookup(version, reader, lambda number: True, ReadCounters())


def includes(version, key):
    return [meta.number for metas in version.levels for meta in metas if meta.smallest <= key <= meta.largest]


@given(versions(), st.binary(max_size=3))
def test_an_absent_key_is_asked_of_each_table_whose_bounds_include_it_newest_first(version, key):
    asked = []
    lookup = lookup_of(version, asked)

    assert (None, None) == (lookup.get(key), lookup.get(key))
    assert includes(version, key) * 2 == asked


@given(versions(), st.binary(max_size=1), st.data())
def test_no_table_is_asked_below_the_one_that_knows_the_key(version, key, data):
    expected = includes(version, key)
    if not expected:
        return
    holder = data.draw(st.sampled_from(expected))
    asked = []

    assert b"%d" % holder == lookup_of(version, asked, holder, key).get(key)
    assert expected[: expected.index(holder) + 1] == asked


@given(versions(), st.binary(max_size=1))
def test_no_table_is_asked_for_a_key_in_one_of_its_holes(version, key):
    torn = version.void(((key, key + b"\0"),))
    asked = []

    assert lookup_of(torn, asked).get(key) is None
    assert [] == asked


def test_filters_are_asked_of_all_but_the_lowest_table():
    stage = Stage()
    newest = [stage.table({b"a": b"%d" % number, b"z": b""}) for number in range(3)]
    lowest = stage.table({b"a": b"", b"m": b"lowest", b"z": b""})
    stage.version = Version((tuple(newest), (), (lowest,)))
    lookup = stage.tables.lookup(stage.version)

    assert b"lowest" == lookup.get(b"m")
    assert 3 + 1 == stage.tables.counters.filter_probes  # the lowest one by its reader, before it reads
    assert b"lowest" == lookup.get(b"m")
    assert 3 + 1 + 3 == stage.tables.counters.filter_probes  # its block is cached


# Open tables


def filled(count, **options):
    """Return a stage of tables of one entry each in level 1, with what looks up there."""
    stage = Stage(**options)
    stage.add(1, *({b"%03d" % number: b"%d" % number} for number in range(count)))
    return stage, stage.tables.lookup(stage.version)


def ask_all(lookup, count):
    return [lookup.get(b"%03d" % number) for number in range(count)]


def answers(count):
    return [b"%d" % number for number in range(count)]


def opened(lookup):
    return [place.opened is not None for place in lookup._lowest[1]]


def test_the_lookup_of_a_version_is_one():
    stage, lookup = filled(3)

    assert lookup is stage.tables.lookup(stage.version)
    assert lookup is not stage.tables.lookup(Version())


def test_a_version_that_nobody_needs_takes_its_lookup_along():
    stage, lookup = filled(3)
    watched = weakref.ref(lookup)
    del lookup
    stage.version = Version()
    gc.collect()

    assert watched() is None


def test_open_tables_are_asked_without_the_cache_of_open_tables():
    stage, lookup = filled(3)
    assert answers(3) == ask_all(lookup, 3)
    hits = stage.tables.readers.hits

    assert answers(3) == ask_all(lookup, 3)
    assert hits == stage.tables.readers.hits


def test_from_the_first_eviction_on_no_table_is_remembered_as_open():
    stage, lookup = filled(5, max_open_files=4)
    assert answers(4) == ask_all(lookup, 4)
    assert [True] * 4 + [False] == opened(lookup)

    for _ in range(2):
        assert answers(5) == ask_all(lookup, 5)
        assert [False] * 5 == opened(lookup)
    gc.collect()
    assert 4 == len(stage.tables.readers)


def test_a_table_too_large_to_be_kept_is_not_remembered_as_open(monkeypatch):
    monkeypatch.setattr("lsmdbm._engine.tables.LEAST_INDEX_BYTES", 1)
    _, lookup = filled(2, cache_bytes=0)

    assert answers(2) == ask_all(lookup, 2)
    assert [False, False] == opened(lookup)


def test_making_room_for_a_file_closes_tables_that_lookups_had_open():
    stage, lookup = filled(4)
    assert answers(4) == ask_all(lookup, 4)
    files = [weakref.ref(place.opened[2].file) for place in lookup._lowest[1]]
    stage.tables.make_room()

    assert [True, True, False, False] == [file() is None for file in files]


def test_after_the_end_nothing_is_found_in_tables_that_were_open():
    stage, lookup = filled(2)
    assert answers(2) == ask_all(lookup, 2)
    stage.tables.close()
    stage.directory.close()

    with pytest.raises(ClosedError):
        lookup.get(b"000")


def test_what_is_remembered_while_another_thread_evicts_does_not_stay():
    stage, lookup = filled(2)
    real = lookup._reader

    def reader(meta):
        found = real(meta)
        stage.tables.make_room()
        return found

    lookup._reader = reader

    assert b"0" == lookup.get(b"000")
    assert [False, False] == opened(lookup)


def test_what_is_remembered_while_another_thread_closes_does_not_stay(monkeypatch):
    stage, lookup = filled(2)
    real = stage.tables.file

    def file(meta):
        found = real(meta)
        stage.tables.close()
        return found

    monkeypatch.setattr(stage.tables, "file", file)

    assert b"0" == lookup.get(b"000")
    assert [False, False] == opened(lookup)
