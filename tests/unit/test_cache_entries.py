"""Entries of a cache: when they end, and values that come out as they went in or are refused."""

import json
import math
import pickle
from collections import OrderedDict
from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lsmdbm
from lsmdbm.cache.entries import NEVER, Values, encode_entry, expiry_of, int_of, stamp_of, stored_of
from lsmdbm.cache.lifetimes import checked_ttl, expiry_after

STORED = [  # on disk: never changes
    (b"\0\xff", b"b\0\xff"),
    ("caf\u00e9", b"scaf\xc3\xa9"),
    (None, b"jnull"),
    (True, b"jtrue"),
    (-3, b"j-3"),
    (0.5, b"j0.5"),
    ([1, {"a": "\u00e9"}], b'j[1,{"a":"\xc3\xa9"}]'),
]

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), parts),
    max_leaves=10,
)


@pytest.mark.parametrize(("value", "stored"), STORED)
def test_value_is_stored_so(value, stored):
    assert stored == Values(None).encode(value)
    assert value == Values(None).decode(stored)
    assert type(value) is type(Values(None).decode(stored))


def test_entry_is_stored_so():
    entry = encode_entry(258, 7, b"bdata")

    assert b"\0\0\0\0\0\0\1\2" + b"\0\0\0\0\0\0\0\7" + b"bdata" == entry
    assert (258, 7, b"bdata") == (expiry_of(entry), stamp_of(entry), stored_of(entry))


@given(JSON | st.binary())
def test_value_comes_out_as_it_went_in(value):
    for values in (Values(None), Values(pickle)):
        assert value == values.decode(values.encode(value))


@pytest.mark.parametrize(
    "value",
    [(1, 2), {1: "one"}, {"a": (1,)}, {1}, object(), bytearray(b"a"), [b"a"], math.nan, 1j, {None: 1}],
)
def test_without_a_codec_a_value_that_json_would_change_is_refused(value):
    with pytest.raises(TypeError, match="give the cache a codec"):
        Values(None).encode(value)


class Name(str):
    pass


EQUALS = [(OrderedDict(a=1), dict), (IntEnum("Colour", "RED").RED, int), (Name("a"), str)]


@pytest.mark.parametrize(("value", "kind"), EQUALS)
def test_what_is_equal_is_the_same(value, kind):
    found = Values(None).decode(Values(None).encode(value))

    assert value == found
    assert kind is type(found)


def test_a_value_in_itself_is_refused():
    value = []
    value.append(value)

    with pytest.raises(TypeError, match="is no JSON"):
        Values(None).encode(value)


@pytest.mark.parametrize("value", [b"a", "a", 1, True, None])
def test_plain_values_are_stored_as_they_are_whatever_the_codec(value):
    assert Values(None).encode(value) == Values(pickle).encode(value)


def test_a_pickle_is_never_loaded_unless_a_codec_was_given():
    stored = Values(pickle).encode({1, 2})

    assert {1, 2} == Values(pickle).decode(stored)
    with pytest.raises(lsmdbm.error, match="stored by a codec"):
        Values(None).decode(stored)


@pytest.mark.parametrize(
    "stored", [b"", b"x1", b"j{", b"s\xff", b"j\xff", pytest.param(b"j" + b"[" * 100_000, id="deep")]
)
def test_what_is_no_value_on_disk_is_corruption(stored):
    with pytest.raises(lsmdbm.CorruptionError, match="cache entry"):
        Values(None).decode(stored)


@pytest.mark.parametrize("codec", ["utf-8", 7, object()])
def test_what_is_no_codec_is_a_type_error(codec):
    with pytest.raises(TypeError, match="codec must have|codec must be"):
        Values(codec)


def test_int_of_takes_ints_alone():
    assert -7 == int_of(b"j-7")
    for stored in (b"jtrue", b"j1.5", b"s1", b"c1", b'j"1"', b"j{"):
        with pytest.raises(TypeError, match="no int"):
            int_of(stored)


def test_a_codec_may_be_json_itself():
    assert [1, 2] == Values(json).decode(Values(json).encode((1, 2)))


def test_lifetimes():
    assert NEVER == expiry_after(None, 5.0)
    assert 7_500_000 == expiry_after(2.5, 5.0)
    assert NEVER - 1 == expiry_after(1e300, 5.0)
    assert 0 == expiry_after(1, -5.0)
    for ttl in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match="0 or more seconds"):
            checked_ttl(ttl)
    for ttl in ("1", True, b""):
        with pytest.raises(TypeError, match="number of seconds"):
            checked_ttl(ttl)
