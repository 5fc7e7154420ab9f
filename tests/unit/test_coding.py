"""Integers, seeds and the cursor that never reads beyond its bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._format import coding
from lsmdbm._format.coding import U32, U64, Cursor, Malformed, Unsupported
from support.format import place, seed_of, u32, u64

INTEGERS = [(U32, 0x01020304, "04030201"), (U64, 0x0102030405060708, "0807060504030201")]


@pytest.mark.parametrize(("fields", "value", "stored"), INTEGERS)
def test_integers_are_little_endian(fields, value, stored):
    assert bytes.fromhex(stored) == fields.pack(value)
    assert (value,) == Cursor(bytes.fromhex(stored)).unpack(fields)


@given(st.integers(0, coding.MAX_NUMBER), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_seeds_are_checksums_of_number_salt_and_offset(number, salt, offset):
    assert seed_of(number, salt) == coding.file_seed(number, salt)
    assert place(number, salt, offset) == coding.place_seed(coding.file_seed(number, salt), offset)


def test_numbers_end_below_two_to_the_63():
    assert 2**63 - 1 == coding.MAX_NUMBER


def test_unsupported_is_malformed_to_whoever_does_not_tell_them_apart():
    assert issubclass(Unsupported, Malformed)


def test_cursor_reads_fields_one_after_the_other():
    cursor = Cursor(b"x" + u32(7) + u64(8) + u32(2) + b"ab", 1)

    assert (7,) == cursor.unpack(U32)
    assert u64(8) == cursor.take(8)
    assert b"ab" == cursor.counted()
    assert b"" == cursor.take(0)
    cursor.finish()


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b"abc", lambda cursor: cursor.take(4)),
        (b"abc", lambda cursor: cursor.take(1 << 70)),
        (b"abc", lambda cursor: cursor.take(-1)),
        (b"abc", lambda cursor: cursor.unpack(U32)),
        (u32(3) + b"ab", Cursor.counted),
        (u32(2**32 - 1) + b"ab", Cursor.counted),
        (b"ab", Cursor.counted),
        (b"a", Cursor.finish),
    ],
)
def test_cursor_refuses_to_read_beyond_the_end_or_to_leave_a_rest(data, read):
    with pytest.raises(Malformed):
        read(Cursor(data))


@given(st.lists(st.binary(max_size=20)))
def test_counted_strings_are_read_back(strings):
    cursor = Cursor(b"".join(map(coding.counted, strings)))

    assert strings == [cursor.counted() for _ in strings]
    cursor.finish()
