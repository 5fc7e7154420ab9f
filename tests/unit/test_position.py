"""Where a follower goes on, as bytes."""

import pytest

from lsmdbm._format.coding import Malformed, crc32
from lsmdbm._format.position import POSITION_BYTES, Position, at_rest
from support.format import patched, u32, u64

UUID = bytes(range(16))


def sealed(fields):
    return fields + u32(crc32(fields))


@pytest.mark.parametrize(
    ("position", "data"),
    [
        (Position(7, 3, 1 << 63, 56), sealed(u64(7) + u64(3) + u64(1 << 63) + u32(56))),
        (at_rest(1, UUID), sealed(u64(1) + u64(0) + UUID[:8] + u32(0))),
        (
            Position((1 << 63) - 1, 1, 0, (1 << 32) - 1),
            sealed(u64((1 << 63) - 1) + u64(1) + u64(0) + b"\xff" * 4),
        ),
    ],
)
def test_a_position_goes_into_bytes_and_back(position, data):
    assert data == position.encode()
    assert position == Position.decode(data)
    assert POSITION_BYTES == len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"key",
        bytes(32),
        Position(7, 3, 5, 56).encode() + b"\0",
        sealed(u64(0) + u64(0) + u64(1) + u32(0)),  # no sequence is 0
        sealed(u64(1 << 63) + u64(0) + u64(1) + u32(0)),
        sealed(u64(7) + u64(3) + u64(5) + u32(55)),  # within the header of a log
        sealed(u64(7) + u64(0) + u64(5) + u32(56)),  # within no log
    ],
)
def test_what_is_no_position_is_refused(data):
    with pytest.raises(Malformed, match="no position"):
        Position.decode(data)


def test_every_flipped_bit_is_found():
    data = Position(7, 3, 5, 56).encode()
    for offset in range(len(data)):
        for bit in range(8):
            with pytest.raises(Malformed, match="no position"):
                Position.decode(patched(data, offset, bytes((data[offset] ^ 1 << bit,))))
