import pytest

from lsmdbm._base.chunk import MAX_KEY_BYTES
from lsmdbm._base.errors import FlagError, error
from lsmdbm.coercion import LETTERS, SUFFIXES, key_bytes, lookup_bytes, open_flags, parse_flag, value_bytes

TAKEN = [
    (b"", b""),
    (b"a\x00\xff", b"a\x00\xff"),
    ("", b""),
    ("a", b"a"),
    ("\u00e9\u20ac\U0001f600", b"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
    (bytearray(b"a"), b"a"),
    (memoryview(b"abc"), b"abc"),
    (memoryview(b"abcdef")[::2], b"ace"),
    (memoryview(b"\x01\x02\x03\x04").cast("H"), b"\x01\x02\x03\x04"),
]
REFUSED = [None, 1, 1.5, True, ["a"], (b"a",), {"a"}, bytes]


class OwnBytes(bytes):
    pass


class OwnStr(str):
    __slots__ = ()


@pytest.mark.parametrize("convert", [lookup_bytes, key_bytes, value_bytes])
@pytest.mark.parametrize(("given", "stored"), [*TAKEN, (OwnBytes(b"a"), b"a"), (OwnStr("a"), b"a")])
def test_str_and_bytes_like_become_plain_bytes(convert, given, stored):
    converted = convert(given)

    assert (bytes, stored) == (type(converted), converted)


@pytest.mark.parametrize("what", ["key", "value", "start"])
@pytest.mark.parametrize("given", REFUSED, ids=repr)
def test_everything_else_is_a_type_error_that_names_what_and_type(what, given):
    with pytest.raises(TypeError, match=f"^{what} must be str or bytes-like, not {type(given).__name__}$"):
        lookup_bytes(given, what)


def test_a_lone_surrogate_is_no_text():
    with pytest.raises(UnicodeEncodeError):
        lookup_bytes("\udc80")


def test_a_copy_is_taken_of_what_can_change():
    mutable = bytearray(b"before")
    stored = [lookup_bytes(mutable), lookup_bytes(memoryview(mutable))]
    mutable[:] = b"after!"

    assert [b"before", b"before"] == stored


def test_keys_are_limited_where_they_are_written_and_not_where_they_are_looked_for():
    limit = b"k" * MAX_KEY_BYTES

    assert limit == key_bytes(limit)
    assert limit + b"k" == lookup_bytes(limit + b"k")
    with pytest.raises(ValueError, match=f"key of {MAX_KEY_BYTES + 1} bytes"):
        key_bytes(limit + b"k")
    with pytest.raises(ValueError, match=f"key of {MAX_KEY_BYTES + 2} bytes"):
        key_bytes("k" * MAX_KEY_BYTES + "\u00e9")


def test_values_are_limited(monkeypatch):
    monkeypatch.setattr("lsmdbm._base.chunk.MAX_VALUE_BYTES", 10)

    assert b"v" * 10 == value_bytes("v" * 10)
    with pytest.raises(ValueError, match="value of 11 bytes"):
        value_bytes("v" * 11)


@pytest.mark.parametrize(
    ("flag", "letter", "durability"),
    [
        *((letter, letter, None) for letter in "rwcn"),
        ("rw", "c", None),
        ("cf", "c", "process"),
        ("cs", "c", "full"),
        ("rs", "r", "full"),
        ("wu", "w", None),
        ("nm", "n", None),
        ("cfs", "c", "full"),
        ("csf", "c", "full"),
        ("cmusf", "c", "full"),
        ("cff", "c", "process"),
    ],
)
def test_flags(flag, letter, durability):
    assert (letter, durability) == parse_flag(flag)


def test_open_flags_are_letters_and_suffixes_that_parse():
    """Callers of gdbm take every letter but f, s and u for a complete flag, so "m" is not among them."""
    assert sorted(LETTERS + SUFFIXES) == sorted(open_flags + "m")
    for letter in set(open_flags) - set("fsu"):
        assert letter == parse_flag(letter)[0]
        assert {letter} == {parse_flag(letter + suffix)[0] for suffix in set(open_flags) - set(LETTERS)}


@pytest.mark.parametrize(
    "flag",
    [
        "",
        "x",
        "R",
        "rx",
        "fc",
        "s",
        "wr",
        "cw",
        "rwc",
        "rws",
        " r",
        "r ",
        "r\n",
        "\u00e7",
        None,
        b"c",
        0,
        1.0,
        ["r"],
    ],
    ids=repr,
)
def test_no_other_flag_is_one(flag):
    with pytest.raises(FlagError) as caught:
        parse_flag(flag)

    assert f"Flag must be one of 'r', 'w', 'c', or 'n', not {flag!r}" == str(caught.value)
    assert isinstance(caught.value, (ValueError, error))
    assert isinstance(caught.value, OSError)


def test_a_flag_of_bytes_is_compared_with_no_str():
    """Under `python -bb` that comparison is a BytesWarning, which took the place of the FlagError."""

    class Compared(bytes):
        __hash__ = bytes.__hash__

        def __eq__(self, other):
            raise BytesWarning("Comparison between bytes and string")

    with pytest.raises(FlagError):
        parse_flag(Compared(b"rw"))
