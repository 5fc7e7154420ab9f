"""Salvage: an outline of a table whose footer, index, filter or metadata cannot be read.

    header | dictionary | head body | ... | dictionary | filter | index head, index body | metadata | footer

Where an envelope ends follows from what it begins with: a zstd frame states the lengths of its blocks, a raw
head those of its columns; the end of a raw body is where its checksum holds.  So blocks are found one
behind the other, and behind a damaged one by looking for the next beginning.

Rules
  1. Nothing is taken whose checksum does not hold at its very place, in this very table: the salt must be
     known, from the footer or from the header.
  2. The index is a block too.  What tells it is that its values are the handles of the blocks, from the
     first byte behind header and dictionary on without a gap; nothing behind it is a block.
  3. A dictionary is a frame right behind the header, and there once more behind the blocks.  Without it
     nothing can be read that was compressed with it.
  4. A block that cannot be read is a gap; the keys around it bound those that were in it.

Memory: the file, once.  Time: about 0.3 s a MiB where bodies are not compressed.

Thread safety: pure functions.  Spec: docs/format.md, Table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lsmdbm._base.chunk import Chunk
from lsmdbm._format import dictionaries, envelope
from lsmdbm._format.block import Block, decode_block, decode_body, decode_head, head_bytes
from lsmdbm._format.coding import U32, Malformed, crc32, file_seed, place_seed
from lsmdbm._format.footer import (
    DICTIONARY,
    FOOTER_BYTES,
    HANDLE_BYTES,
    HEADER_BYTES,
    BlockHandle,
    Footer,
    decode_header,
    footer_crc,
)
from lsmdbm._format.table_reader import unwrap_block
from lsmdbm._format.table_writer import Metadata

_FRAME = re.compile(re.escape(envelope.FRAME_MAGIC))
_BEGINNING = re.compile(rb"\x28\xb5\x2f\xfd|(?s:...)\x00[\x01\x02]\x01")  # of a frame, or of a raw head


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes of a table that hold no block that can be read."""

    offset: int
    end: int
    low: bytes | None  # no key lost there is below this; None if that is not known
    high: bytes | None  # nor above this


@dataclass(frozen=True, slots=True)
class Outline:
    """What could be found of a table."""

    seed: int
    handles: list[BlockHandle]
    gaps: list[Gap]
    is_whole: bool  # whether there were no more blocks than those of `handles` and `gaps`
    end: int  # of the last block
    metadata: Metadata | None
    footer_crc: int | None  # None if the footer is damaged
    dictionary: bytes = b""

    def chunk(self, data: bytes, handle: BlockHandle) -> Chunk:
        """Return the entries of one block, given exactly its bytes; Malformed if they are no block."""
        return decode_block(*unwrap_block(data, handle, self.seed, self.dictionary))


def outline(data: bytes, number: int) -> Outline:
    """Return what can be found in the bytes of table `number`.

    Raises:
        Malformed: neither header nor footer tells the salt: no checksum can be tried.
    """
    footer = _footer(data, number)
    seed = file_seed(number, footer.salt) if footer is not None else _seed_of_header(data, number)
    stop = footer.filter.offset if footer is not None else len(data)
    handles: list[BlockHandle] = []
    gaps: list[Gap] = []
    dictionary, length = _dictionary(data, seed, footer)
    start = HEADER_BYTES + length
    stop -= length if footer is not None else 0  # it is there twice
    end, last = start, None
    index: BlockHandle | None = None
    for handle, chunk in _blocks(data, seed, start, min(stop, len(data)), dictionary):
        if _is_index(chunk, start if handles or dictionary else None, handle.offset):  # rule 2
            index = handle
            stop = BlockHandle.decode(chunk[1][-1] or b"").end
            break
        if last is not None and chunk[0][0] <= last:
            continue  # out of order: a gap
        if handle.offset > end:
            gaps.append(Gap(end, handle.offset, last, chunk[0][0]))
        handles.append(handle)
        end, last = handle.end, chunk[0][-1]
    is_whole = index is not None or footer is not None
    if is_whole and end < stop:
        gaps.append(Gap(end, stop, last, None))
    metadata = _metadata(data, seed, footer, index)
    crc = footer_crc(data[-FOOTER_BYTES:]) if footer is not None else None
    return Outline(seed, handles, gaps, is_whole, end, metadata, crc, dictionary)


def _footer(data: bytes, number: int) -> Footer | None:
    try:
        footer = Footer.decode(data[-FOOTER_BYTES:])
    except Malformed:
        return None
    return footer if footer.number == number and footer.filter.offset <= len(data) else None


def _seed_of_header(data: bytes, number: int) -> int:
    found, salt = decode_header(data)
    if found != number:
        raise Malformed(f"header of table {found}")
    return file_seed(number, salt)


def _dictionary(data: bytes, seed: int, footer: Footer | None) -> tuple[bytes, int]:
    """Return the dictionary and the length of its envelope; b"" and 0 if none can be found."""  # rule 3
    if footer is not None and not footer.features & DICTIONARY:
        return b"", 0
    found = _dictionary_at(data, seed, HEADER_BYTES)
    if found is None and (footer is not None or not _block_at(data, seed, HEADER_BYTES, len(data), b"")):
        places = (match.start() for match in _FRAME.finditer(data, HEADER_BYTES))
        found = next(filter(None, (_dictionary_at(data, seed, offset) for offset in places)), None)
    return found or (b"", 0)


def _dictionary_at(data: bytes, seed: int, offset: int) -> tuple[bytes, int] | None:
    length = envelope.frame_bytes(data, offset)
    if length is None or length > dictionaries.MAX_DICTIONARY_BYTES:
        return None
    stored = data[offset : offset + length + envelope.CRC_BYTES]
    try:
        return dictionaries.check(envelope.unwrap_found(stored, seed, offset)[0]), len(stored)
    except Malformed:
        return None


def _is_index(chunk: Chunk, start: int | None, offset: int) -> bool:
    place = HEADER_BYTES if start is None else start
    for number, value in enumerate(chunk[1]):
        if value is None or len(value) != HANDLE_BYTES:
            return False
        handle = BlockHandle.decode(value)
        if number == 0 and start is None:  # behind a dictionary that is lost, or behind the header
            place = max(place, handle.offset)
        if handle.offset != place:
            return False
        place = handle.end
    return place <= offset


def _metadata(data: bytes, seed: int, footer: Footer | None, index: BlockHandle | None) -> Metadata | None:
    if footer is not None:
        offset, ends = footer.metadata.offset, iter((footer.metadata.end,))
    elif index is not None:
        offset, ends = index.end, _ends(data, seed, index.end, len(data), None)
    else:
        return None
    for end in ends:
        try:
            return Metadata.decode(envelope.unwrap_found(data[offset:end], seed, offset)[0])
        except Malformed:
            continue
    return None


def _blocks(
    data: bytes, seed: int, start: int, stop: int, dictionary: bytes
) -> Iterator[tuple[BlockHandle, Chunk]]:
    """Yield all blocks between two offsets, wherever they begin."""
    offset = start
    while (match := _BEGINNING.search(data, offset, stop)) is not None:
        found = _block_at(data, seed, match.start(), stop, dictionary)
        if found is not None:
            yield found
            offset = found[0].end
        else:
            offset = match.start() + 1


def _block_at(
    data: bytes, seed: int, offset: int, stop: int, dictionary: bytes
) -> tuple[BlockHandle, Chunk] | None:
    length = envelope.frame_bytes(data, offset) or head_bytes(data, offset)
    if length is None:
        return None
    middle = offset + length + envelope.CRC_BYTES
    try:
        head, head_raw = envelope.unwrap_found(data[offset:middle], seed, offset, dictionary)
        keys, tombstones = decode_head(head)
    except Malformed:
        return None
    for end in _ends(data, seed, middle, stop, 0 if len(tombstones) == len(keys) else None):
        try:
            body, body_raw = envelope.unwrap_found(data[middle:end], seed, middle, dictionary)
            decode_body(body, len(keys) - len(tombstones))
        except Malformed:
            continue
        handle = BlockHandle(offset, middle - offset, head_raw, end - middle, body_raw)
        return handle, Block(head, body).chunk()
    return None


def _ends(data: bytes, seed: int, offset: int, stop: int, length: int | None) -> Iterator[int]:
    """Yield where an envelope that begins at `offset` may end: where its checksum holds."""
    length = length if length is not None else envelope.frame_bytes(data, offset)
    if length is not None:
        yield offset + length + envelope.CRC_BYTES
        return
    crc = place_seed(seed, offset)
    for end in range(offset, min(stop, len(data)) - envelope.CRC_BYTES + 1):
        if U32.unpack_from(data, end)[0] == crc:
            yield end + envelope.CRC_BYTES
        crc = crc32(data[end : end + 1], crc)
