"""What every structure on disk is made of: integers, checksums, magics, and the word for bad bytes.

Rules
  1. All integers are little-endian and of a named width; every Struct format starts with "<".
  2. A checksum is `zlib.crc32`, seeded with what the bytes belong to, so that valid bytes in a wrong
     place fail: a block that moved, a record of another log.
  3. A decoder raises `Malformed`, whatever the bytes are; who knows the file turns it into
     `CorruptionError`.  No length read from disk is used before it was compared with what is there.

Thread safety: pure functions.  Spec: docs/format.md, Conventions.
"""

from __future__ import annotations

import zlib
from struct import Struct

FORMAT_VERSION = 1  # On disk: never changes for files of format 1.

U32 = Struct("<I")
U64 = Struct("<Q")
_PLACE = Struct("<QQ")

MAX_NUMBER = (1 << 63) - 1  # of a file, a sequence or a count: len() and a name can hold it

crc32 = zlib.crc32
pack_place = U64.pack  # an offset, for a seed


class Malformed(ValueError):
    """These bytes are no valid encoding; the text says what was expected and what was found."""


class Unsupported(Malformed):
    """These bytes are sound and of a newer format than this library knows."""


def file_seed(number: int, salt: int) -> int:
    """Return the crc32 seed of one file: its number, then its salt."""
    return crc32(_PLACE.pack(number, salt))


def place_seed(seed: int, offset: int) -> int:
    """Return the crc32 seed of the bytes at `offset` in the file with `file_seed` `seed`."""
    return crc32(pack_place(offset), seed)


class Cursor:
    """Reads fields one after the other from bytes, and never beyond their end."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def unpack(self, fields: Struct) -> tuple[int, ...]:
        """Return the integers of one Struct."""
        return fields.unpack(self.take(fields.size))

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes."""
        end = self.position + length
        if length < 0 or end > len(self.data):
            raise Malformed(f"{length} bytes expected, {len(self.data) - self.position} left")
        part = self.data[self.position : end]
        self.position = end
        return part

    def counted(self) -> bytes:
        """Return a byte string that stands behind its own u32 length."""
        return self.take(self.unpack(U32)[0])

    def finish(self) -> None:
        """Raise unless everything was read."""
        if self.position != len(self.data):
            raise Malformed(f"{len(self.data) - self.position} bytes too many")


def counted(data: bytes) -> bytes:
    """Return `data` behind its u32 length."""
    return U32.pack(len(data)) + data
