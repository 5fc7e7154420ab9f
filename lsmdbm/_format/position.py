"""Position: where somebody who follows the changes of a database goes on.  Not in a file of ours.

    position := seq u64 | log u64 | salt u64 | offset u32 | crc u32                             32 bytes

Rules
  1. `seq` is the sequence of the first operation that was not seen.
  2. `log` is the number of the log that holds the operation before it, `salt` is its salt, and at `offset`,
     or behind, `seq` is to be found.  So a history that was lost with the power, and took another course
     since, is known: that operation is in another log then.
  3. Where it is in tables alone, which no crash takes back, `log` and `offset` are 0 and `salt` is the first
     half of the uuid of the database.
  4. `crc` is over the rest.  It finds accidents, not forgery.

Thread safety: pure functions.  Spec: docs/format.md, Position.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from lsmdbm._format.coding import MAX_NUMBER, U32, Malformed, crc32
from lsmdbm._format.records import HEADER_BYTES

_POSITION = Struct("<QQQI")
POSITION_BYTES = _POSITION.size + U32.size


class Position(NamedTuple):
    """Where to go on."""

    seq: int
    log: int
    salt: int
    offset: int = 0

    def encode(self) -> bytes:
        """Return its 32 bytes."""
        fields = _POSITION.pack(*self)
        return fields + U32.pack(crc32(fields))

    @classmethod
    def decode(cls, data: bytes) -> Position:
        """Return the position in these bytes.

        Raises:
            Malformed: they are none.
        """
        if len(data) != POSITION_BYTES or U32.unpack_from(data, _POSITION.size)[0] != crc32(
            data[: -U32.size]
        ):
            raise Malformed("no position")
        position = cls(*_POSITION.unpack_from(data))
        is_placed = position.offset >= HEADER_BYTES if position.log else not position.offset
        if not 0 < position.seq <= MAX_NUMBER or not is_placed:
            raise Malformed("no position")
        return position


def at_rest(seq: int, uuid: bytes) -> Position:
    """Return a position behind what is in tables alone."""  # rule 3
    return Position(seq, 0, int.from_bytes(uuid[:8], "little"))
