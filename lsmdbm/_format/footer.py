"""The fixed parts of a table file: the header it begins with, the footer it ends with, and handles.

    table  := header | dictionary | blocks | dictionary | filter | index block | metadata | footer
    header := magic "LSMT" | version u32 | number u64 | salt u64 | crc u32                  28 bytes
    footer := index BlockHandle | filter PartHandle | metadata PartHandle | features u32
              | version u32 | number u64 | salt u64 | crc u32 | magic "LSMTABLE"            92 bytes
    BlockHandle := offset u64 | head_stored u32 | head_raw u32 | body_stored u32 | body_raw u32
    PartHandle  := offset u64 | stored u32 | raw u32

Rules
  1. `stored` is the length on disk, envelope included; `raw` the length once unwrapped.  The body of
     a block follows its head directly.
  2. The crc of the footer covers every byte of it before the crc, and stands in the manifest too: a
     table that was exchanged for another one is noticed.
  3. A set bit in `features` that the reader does not know means: refuse the table.

Thread safety: pure functions.  Spec: docs/format.md, Table.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from lsmdbm._format.coding import FORMAT_VERSION, U32, Malformed, Unsupported, crc32

HEADER_MAGIC = b"LSMT"  # On disk: never changes.
FOOTER_MAGIC = b"LSMTABLE"  # On disk: never changes.
DICTIONARY = 1  # On disk: never changes.  The blocks of the table are compressed with a dictionary
KNOWN_FEATURES = DICTIONARY

_HEADER = Struct("<4sIQQ")
_BLOCK_HANDLE = Struct("<QIIII")
_FOOTER = Struct("<QIIIIQIIQIIIIQQ")
HEADER_BYTES = _HEADER.size + U32.size
FOOTER_BYTES = _FOOTER.size + U32.size + len(FOOTER_MAGIC)
HANDLE_BYTES = _BLOCK_HANDLE.size
_unpack_handle, _new_tuple = _BLOCK_HANDLE.unpack_from, tuple.__new__


class BlockHandle(
    NamedTuple
):  # a fourth of what a frozen dataclass takes to make, for every block that is read
    """Where one block is."""

    offset: int  # from the start of the table file
    head_stored: int
    head_raw: int
    body_stored: int
    body_raw: int

    @property
    def end(self) -> int:
        """Offset of the first byte behind the block."""
        return self.offset + self.head_stored + self.body_stored

    def encode(self) -> bytes:
        """Return the 24 bytes of the handle."""
        return _BLOCK_HANDLE.pack(*self)

    @classmethod
    def decode(cls, data: bytes) -> BlockHandle:
        """Return the handle in exactly 24 bytes."""
        if len(data) != HANDLE_BYTES:
            raise Malformed(f"handle of {len(data)} bytes")
        return cls._make(_BLOCK_HANDLE.unpack(data))

    @classmethod
    def at(cls, handles: bytes, index: int) -> BlockHandle:
        """Return one of many handles that stand one after the other."""
        return _new_tuple(cls, _unpack_handle(handles, HANDLE_BYTES * index))


class PartHandle(NamedTuple):
    """Where one envelope that is no block is."""

    offset: int
    stored: int
    raw: int

    @property
    def end(self) -> int:
        """Offset of the first byte behind the envelope."""
        return self.offset + self.stored


class Footer(NamedTuple):
    """What a reader needs to read a table."""

    index: BlockHandle  # type: ignore[assignment]  # not what a tuple has under the name
    filter: PartHandle
    metadata: PartHandle
    number: int
    salt: int
    features: int = 0

    def encode(self) -> bytes:
        """Return the footer as bytes; the four before the magic are its checksum."""
        index, bloom, metadata = self.index, self.filter, self.metadata
        fields = _FOOTER.pack(
            *index,
            *(bloom.offset, bloom.stored, bloom.raw),
            *(metadata.offset, metadata.stored, metadata.raw),
            *(self.features, FORMAT_VERSION, self.number, self.salt),
        )
        return fields + U32.pack(crc32(fields)) + FOOTER_MAGIC

    @classmethod
    def decode(cls, data: bytes) -> Footer:
        """Return the footer in the last FOOTER_BYTES of a table.

        Raises:
            Malformed: magic or checksum is wrong.
            Unsupported: the table is of a newer format.
        """
        if len(data) != FOOTER_BYTES or data[-len(FOOTER_MAGIC) :] != FOOTER_MAGIC:
            raise Malformed("no table footer")
        fields = data[: _FOOTER.size]
        if crc32(fields) != footer_crc(data):
            raise Malformed("checksum of the table footer does not match")
        parts = _FOOTER.unpack(fields)
        features, version, number, salt = parts[11:]
        if version > FORMAT_VERSION or features & ~KNOWN_FEATURES:
            raise Unsupported(
                f"table of format {version} with features {features:#x}; this version reads format"
                f" {FORMAT_VERSION} with features {KNOWN_FEATURES:#x}"
            )
        index, bloom, metadata = BlockHandle(*parts[:5]), PartHandle(*parts[5:8]), PartHandle(*parts[8:11])
        return cls(index, bloom, metadata, number, salt, features)


def footer_crc(data: bytes) -> int:
    """Return the checksum that stands in the bytes of a footer."""
    crc: int = U32.unpack_from(data, _FOOTER.size)[0]
    return crc


def encode_header(number: int, salt: int) -> bytes:
    """Return the first bytes of a table."""
    fields = _HEADER.pack(HEADER_MAGIC, FORMAT_VERSION, number, salt)
    return fields + U32.pack(crc32(fields))


def decode_header(data: bytes) -> tuple[int, int]:
    """Return the number and the salt that stand in the first bytes of a table.

    Raises:
        Malformed: magic or checksum is wrong.
    """
    if len(data) < HEADER_BYTES or data[:4] != HEADER_MAGIC:
        raise Malformed("no table header")
    if U32.unpack_from(data, _HEADER.size)[0] != crc32(data[: _HEADER.size]):
        raise Malformed("checksum of the table header does not match")
    _, _, number, salt = _HEADER.unpack_from(data)
    return number, salt
