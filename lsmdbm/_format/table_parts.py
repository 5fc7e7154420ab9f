"""Table parts: what is in memory of a table while it is open - filter, index, metadata, dictionary.

Rules
  1. Nothing is used that is not under a checksum that held.  What is wrong raises CorruptionError with
     path and offset.
  2. A dictionary is there twice, because without it no block can be read: one damaged place does not cost
     the table.

Thread safety: nothing changes once a table is open.
Spec: docs/format.md, Table.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager

from lsmdbm._base.errors import CorruptionError, error
from lsmdbm._base.storage import File
from lsmdbm._format import dictionaries, envelope
from lsmdbm._format.block import decode_head
from lsmdbm._format.bloom import Bloom
from lsmdbm._format.coding import Malformed, Unsupported, file_seed
from lsmdbm._format.columns import decode
from lsmdbm._format.footer import (
    DICTIONARY,
    FOOTER_BYTES,
    HANDLE_BYTES,
    HEADER_BYTES,
    BlockHandle,
    Footer,
    PartHandle,
    footer_crc,
)
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_writer import Metadata, Origin

LEAST_BLOCK_BYTES = 18  # of two envelopes, the first of them around at least the shortest zstd frame
SEPARATOR_OVERHEAD = 60  # bytes of memory per block beyond what the index takes on disk
INPUT_OVERHEAD = 40  # bytes of memory per table that this one was compacted from


@contextmanager
def decoding(file: File, offset: int) -> Iterator[None]:
    """The boundary between malformed bytes and the error that names their place."""
    try:
        yield
    except Unsupported as exc:
        raise error(f"{file.path}, offset {offset}: {exc}") from None
    except Malformed as exc:
        raise CorruptionError(file.path, offset, str(exc)) from None


class TableParts:
    """An open table: where its blocks are, and what else must be known to read them.

    Args:
        file: the open table.
        meta: what the manifest says of it.

    Attributes:
        filter: says which keys are certainly not here.
        filter_bytes: of the filter; 0 if there is none.
        data_end: where the blocks end.
        cost: bytes of memory, about.

    Raises:
        CorruptionError: size, footer, index, filter or metadata are not what they must be.
        error: the table is of a newer format.
    """

    def __init__(self, file: File, meta: TableMeta) -> None:
        self.file = file
        self.meta = meta
        size = file.size()
        if size != meta.file_bytes or size < HEADER_BYTES + FOOTER_BYTES:
            raise CorruptionError(file.path, -1, f"{size} bytes long, the manifest says {meta.file_bytes}")
        footer = self._open_footer(size)
        self.seed = file_seed(footer.number, footer.salt)
        self.data_end = footer.filter.offset
        self._open_index(footer, size)
        self.dictionary = self._open_dictionary(footer.features)
        self.cost = size - self.data_end + SEPARATOR_OVERHEAD * len(self._separators)
        self.cost += INPUT_OVERHEAD * len(self.metadata.origin.inputs) + len(self.dictionary)

    def _open_footer(self, size: int) -> Footer:
        with decoding(self.file, size - FOOTER_BYTES):
            data = self.file.pread(FOOTER_BYTES, size - FOOTER_BYTES)
            footer = Footer.decode(data)
            if footer_crc(data) != self.meta.footer_crc or footer.number != self.meta.number:
                raise Malformed("this is not the table that the manifest names")
            bloom, index, metadata = footer.filter, footer.index, footer.metadata
            edges = (index.offset, metadata.offset, size - FOOTER_BYTES)
            if bloom.offset < HEADER_BYTES or edges != (bloom.end, index.end, metadata.end):
                raise Malformed("parts of the table do not follow each other")
            if bloom.stored != bloom.raw + envelope.CRC_BYTES:
                raise Malformed("filter is compressed")
            return footer

    def _open_index(self, footer: Footer, size: int) -> None:
        start = footer.filter.offset
        tail = self.file.pread(size - FOOTER_BYTES - start, start)

        def part(offset: int, stored: int, raw: int) -> bytes:
            with decoding(self.file, offset):
                return envelope.unwrap(tail[offset - start : offset - start + stored], raw, self.seed, offset)

        bloom, index, metadata = footer.filter, footer.index, footer.metadata
        with decoding(self.file, start):
            self.filter = Bloom(part(bloom.offset, bloom.stored, bloom.raw))
            self.filter_bytes = bloom.raw
        with decoding(self.file, index.offset):
            head = part(index.offset, index.head_stored, index.head_raw)
            self._separators, deleted = decode_head(head, (start - HEADER_BYTES) // LEAST_BLOCK_BYTES)
            body = part(index.offset + index.head_stored, index.body_stored, index.body_raw)
            self._handles = _joined_handles(decode(body, len(self._separators)))
            if deleted:
                raise Malformed("deleted blocks in the index")
            if self._separators[-1] != self.meta.largest:
                raise Malformed("index does not end at the largest key")
        with decoding(self.file, metadata.offset):
            self.metadata = Metadata.decode(part(metadata.offset, metadata.stored, metadata.raw))

    def _open_dictionary(self, features: int) -> bytes:
        """Return what the blocks were compressed with; b"" if there is no dictionary."""
        part = self.metadata.dictionary
        with decoding(self.file, self.data_end):
            if (part is not None) != bool(features & DICTIONARY):
                raise Malformed("footer and metadata are at odds about a dictionary")
            if part is None:
                return b""
            self.data_end -= part.stored
            if part.end > self.data_end:
                raise Malformed("dictionary reaches beyond the blocks")
        try:
            return self.read_dictionary(part, part.offset)
        except CorruptionError:
            return self.read_dictionary(part, self.data_end)  # rule 2

    def read_dictionary(self, part: PartHandle, offset: int) -> bytes:
        """Return the dictionary, from one of the two places where it is."""
        with decoding(self.file, offset):
            stored = self.file.pread(part.stored, offset)
            return dictionaries.unwrap(stored, part.raw, self.seed, offset)

    @property
    def block_count(self) -> int:
        """How many blocks the table has."""
        return len(self._separators)

    def separators(self) -> list[bytes]:
        """Return the separator of each block: its keys are not above it, and above the one before."""
        return self._separators

    def stored_bytes(self, start: bytes | None, stop: bytes | None) -> int:
        """Return how many bytes of the file the blocks take that may hold a key with `start <= key < stop`.

        With the share of filter and index that goes with them.  O(log n), from memory.
        """
        first = 0 if start is None else bisect_left(self._separators, start)
        last = self.block_count - 1
        if stop is not None:
            last = min(last, bisect_left(self._separators, stop))
        if first > last:
            return 0
        begin, end = self.handle(0).offset, self.handle(self.block_count - 1).end
        part = self.handle(last).end - self.handle(first).offset
        return self.meta.file_bytes * part // (end - begin)

    def handle(self, index: int) -> BlockHandle:
        """Return where one block is."""
        handle = BlockHandle.at(self._handles, index)
        offset, head_stored, _, body_stored, _ = handle
        if offset >= HEADER_BYTES and offset + head_stored + body_stored <= self.data_end:
            return handle
        raise self.damaged(
            self.data_end, Malformed(f"block {index} at {offset} to {handle.end} lies outside of the table")
        )

    def damaged(self, offset: int, exc: Malformed) -> error:
        """Return the error that says where bytes are malformed."""
        if isinstance(exc, Unsupported):
            return error(f"{self.file.path}, offset {offset}: {exc}")
        return CorruptionError(self.file.path, offset, str(exc))


def _joined_handles(handles: list[bytes]) -> bytes:
    joined = b"".join(handles)
    if set(map(len, handles)) != {HANDLE_BYTES}:
        raise Malformed(f"handles of {sorted(set(map(len, handles)))} bytes")
    return joined


def describe(file: File, number: int | None) -> tuple[TableMeta, Origin]:
    """Return what a table says of itself, for want of a manifest that says it.

    Args:
        number: by the name of the file; None if that tells nothing.

    Raises:
        CorruptionError: footer or metadata are damaged, or those of another table.
        error: the table is of a newer format.
    """
    size = file.size()
    end = size - FOOTER_BYTES
    with decoding(file, max(0, end)):
        if end < HEADER_BYTES:
            raise Malformed(f"{size} bytes hold no table")
        data = file.pread(FOOTER_BYTES, end)
        footer = Footer.decode(data)
        part = footer.metadata
        if number is None:
            number = footer.number
        if footer.number != number or not HEADER_BYTES <= part.offset <= part.end <= end:
            raise Malformed(f"footer of table {footer.number}, or of another size")
    with decoding(file, part.offset):
        stored = file.pread(part.stored, part.offset)
        raw = envelope.unwrap(stored, part.raw, file_seed(number, footer.salt), part.offset)
        said = Metadata.decode(raw)
    return said.meta(number, size, footer_crc(data)), said.origin
