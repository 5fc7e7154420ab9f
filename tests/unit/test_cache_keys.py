"""Keys of a cache: one encoding for each, the same everywhere, and none the beginning of another."""

import enum
from collections import namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lsmdbm
from lsmdbm.cache.keys import MAX_DEPTH, PREFIX, decode_key, encode_key, encode_prefix

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.text("\0\1\2a)(", max_size=6)
    | st.binary()
    | st.binary().map(lambda data: data.replace(b"a", b"\0\1"))
)
KEYS = st.recursive(SCALARS, lambda parts: st.lists(parts, max_size=4).map(tuple), max_leaves=10)

STORED = {  # on disk: never changes
    None: b"n",
    True: b"t",
    False: b"f",
    "": b"s\0",
    "caf\u00e9": b"scaf\xc3\xa9\0",
    "a\0b\1c": b"sa\1\1b\1\2c\0",
    b"": b"b\0",
    b"\0\1\xff": b"b\1\1\1\2\xff\0",
    -12: b"i-12\0",
    10**30: b"i1000000000000000000000000000000\0",
    0.1: b"d0.1\0",
    float("-inf"): b"d-inf\0",
    (): b"()",
    ("user", 7, (None,)): b"(suser\0i7\0(n))",
}

Point = namedtuple("Point", "x y")


class Colour(str, enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 3


def exact(key):
    """A key with its types: 1, 1.0 and True are equal."""
    return (type(key), tuple(map(exact, key)) if isinstance(key, tuple) else repr(key))


@pytest.mark.parametrize(("key", "stored"), STORED.items())
def test_key_is_stored_so(key, stored):
    assert PREFIX + stored == encode_key(key)
    assert exact(key) == exact(decode_key(PREFIX + stored))


@given(KEYS)
def test_key_comes_out_as_it_went_in(key):
    assert exact(key) == exact(decode_key(encode_key(key)))


@given(KEYS, KEYS)
def test_keys_that_differ_are_stored_apart_and_none_begins_another(one, other):
    if exact(one) != exact(other):
        assert not encode_key(one).startswith(encode_key(other))


@given(st.lists(SCALARS, max_size=3).map(tuple), st.lists(SCALARS, max_size=5).map(tuple))
def test_prefix_finds_the_tuples_that_begin_so_and_no_others(prefix, key):
    begins = list(map(exact, key[: len(prefix)])) == list(map(exact, prefix))

    assert begins == encode_key(key).startswith(encode_prefix(prefix))
    assert encode_key(prefix + key).startswith(encode_prefix(prefix))


def test_one_and_its_likes_are_five_keys():
    assert 5 == len({encode_key(key) for key in (1, 1.0, True, "1", b"1")})


@pytest.mark.parametrize(
    ("key", "base"), [(Point(1, 2), (1, 2)), (Colour.RED, "red"), (Size.LARGE, 3), ((Size.LARGE,), (3,))]
)
def test_an_instance_of_a_subclass_is_the_key_of_its_base(key, base):
    assert encode_key(base) == encode_key(key)


@pytest.mark.parametrize("key", [[1], {}, object(), bytearray(b"a"), ("a", [1]), 1j, frozenset()])
def test_what_is_no_key_is_a_type_error_that_says_what_is_one(key):
    with pytest.raises(TypeError, match="key must be str, bytes, int, float, bool, None or a tuple"):
        encode_key(key)


def test_keys_that_are_too_long_or_too_deep_are_refused():
    deep = ()
    for _ in range(MAX_DEPTH - 1):
        deep = (deep,)

    assert deep == decode_key(encode_key(deep))
    with pytest.raises(ValueError, match="tuples in each other"):
        encode_key((deep,))
    with pytest.raises(ValueError, match="limit is 65536"):
        encode_key("a" * 65536)
    with pytest.raises(UnicodeEncodeError):
        encode_key("\ud800")
    with pytest.raises(TypeError, match="prefix must be a tuple"):
        encode_prefix("user")


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"x\0",
        b"s",
        b"sa",
        b"sa\0b",
        b"(",
        b"(sa\0",
        b"(n))",
        b"ia\0",
        b"d\0",
        b"s\xff\0",
        b"(" * 40 + b")" * 40,
    ],
)
def test_what_is_no_key_on_disk_is_corruption(stored):
    with pytest.raises(lsmdbm.CorruptionError, match="cache key"):
        decode_key(PREFIX + stored)


def test_a_key_of_something_else_is_corruption():
    with pytest.raises(lsmdbm.CorruptionError, match="it is none"):
        decode_key(b"\0sqlit\0sa\0")
