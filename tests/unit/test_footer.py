"""The fixed parts of a table: header, footer, handles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._format.coding import Malformed, Unsupported
from lsmdbm._format.footer import (
    FOOTER_BYTES,
    HANDLE_BYTES,
    HEADER_BYTES,
    BlockHandle,
    Footer,
    PartHandle,
    decode_header,
    encode_header,
    footer_crc,
)
from support.format import describe, flipped, patched, u32, u64, with_crc

FOOTER = Footer(
    index=BlockHandle(300, 40, 50, 60, 70),
    filter=PartHandle(280, 20, 16),
    metadata=PartHandle(400, 90, 86),
    number=18,
    salt=0x1122334455667788,
)


def handle_bytes(offset, *lengths):
    return u64(offset) + b"".join(map(u32, lengths))


def footer_bytes(features=0, version=1, magic=b"LSMTABLE"):
    handles = handle_bytes(300, 40, 50, 60, 70) + handle_bytes(280, 20, 16) + handle_bytes(400, 90, 86)
    return with_crc(handles + u32(features) + u32(version) + u64(18) + u64(FOOTER.salt)) + magic


def header_bytes(magic=b"LSMT", version=1):
    return with_crc(magic + u32(version) + u64(18) + u64(7))


def test_handle_has_these_bytes_and_is_read_back():
    assert handle_bytes(300, 40, 50, 60, 70) == FOOTER.index.encode()
    assert FOOTER.index == BlockHandle.decode(handle_bytes(300, 40, 50, 60, 70))
    assert HANDLE_BYTES == len(FOOTER.index.encode())


@pytest.mark.parametrize("length", [0, 23, 25, 48])
def test_handle_of_another_length_is_malformed(length):
    with pytest.raises(Malformed, match=f"handle of {length} bytes"):
        BlockHandle.decode(bytes(length))


def test_handles_end_behind_all_their_envelopes():
    assert (400, 300, 490) == (FOOTER.index.end, FOOTER.filter.end, FOOTER.metadata.end)


@given(st.tuples(st.integers(0, 2**64 - 1), *[st.integers(0, 2**32 - 1)] * 4))
def test_any_handle_is_read_back(numbers):
    assert BlockHandle(*numbers) == BlockHandle.decode(BlockHandle(*numbers).encode())


def test_footer_has_these_bytes_and_is_read_back():
    assert footer_bytes() == FOOTER.encode()
    assert FOOTER == Footer.decode(footer_bytes())
    assert FOOTER_BYTES == len(footer_bytes())
    assert footer_bytes()[-12:-8] == u32(footer_crc(footer_bytes()))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no table footer"),
        (footer_bytes()[1:], "no table footer"),
        (b"\0" + footer_bytes(), "no table footer"),
        (footer_bytes(magic=b"LSMTABLF"), "no table footer"),
        (patched(footer_bytes(), 0, b"\0"), "checksum"),
        (patched(footer_bytes(), 80, bytes(4)), "checksum"),
    ],
    ids=describe,
)
def test_bytes_that_are_no_footer_are_malformed(data, reason):
    with pytest.raises(Malformed, match=reason) as caught:
        Footer.decode(data)
    assert not isinstance(caught.value, Unsupported)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (footer_bytes(version=2), "format 2 with features 0x0;"),
        (footer_bytes(features=8), "format 1 with features 0x8;"),
    ],
    ids=describe,
)
def test_footer_of_a_newer_format_is_unsupported_and_says_why(data, reason):
    with pytest.raises(Unsupported, match=reason):
        Footer.decode(data)


def test_header_has_these_bytes_and_is_read_back():
    assert header_bytes() == encode_header(18, 7)
    assert (18, 7) == decode_header(header_bytes() + b"more")
    assert HEADER_BYTES == len(header_bytes())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no table header"),
        (header_bytes()[:-1], "no table header"),
        (header_bytes(magic=b"LSMW"), "no table header"),
        (patched(header_bytes(), 24, bytes(4)), "checksum"),
    ],
    ids=describe,
)
def test_bytes_that_are_no_header_are_malformed(data, reason):
    with pytest.raises(Malformed, match=reason):
        decode_header(data)


def test_every_wrong_bit_of_header_and_footer_is_noticed():
    for decode, data in ((decode_header, header_bytes()), (Footer.decode, footer_bytes())):
        for _, damaged in flipped(data):
            with pytest.raises(Malformed):
                decode(damaged)
