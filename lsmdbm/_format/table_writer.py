"""Table writer: a stream of chunks in, one immutable sorted file out.

    metadata := level u8 | entries u64 | tombstones u64 | raw_bytes u64 | first_seq u64 | last_seq u64
                | inputs u32 | number u64[inputs] | smallest counted | largest counted
                | range_deletions u32, 0 in format 1
                | dictionary_stored u32 | dictionary_raw u32    left out if the table has no dictionary
    index    := a block: keys are separators, values are BlockHandles in key order

Rules
  1. Keys come ascending across all chunks and blocks that are added.
  2. A separator is not below the last key of its block and below the first key of the next one; the
     last is the last key itself.  Where the next key has a shorter prefix that fits, that is taken.
  3. A block is cut when its keys and values reach `block_bytes`, or its keys MAX_COUNT.  What is left over
     waits for more.
  4. The frames of blocks are made with the dictionary, if there is one, all others without.  It stands
     in front of the blocks and, because without it none of them can be read, once more behind them.
  5. Writing holds at most one block, three times `batch_bytes`, WRITE_BYTES and 52 bytes a key in memory.
  6. Blocks wait until there is a batch of them, and are compressed by one call, which is faster than one for
     each and gives up the GIL once.  A batch is no part of the format: the table is the same without.

Thread safety: one thread at a time.  Spec: docs/format.md, Table.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from itertools import accumulate
from operator import add
from struct import Struct
from typing import NamedTuple

from lsmdbm._base.storage import File, write_all
from lsmdbm._format import bloom, envelope
from lsmdbm._format.block import MAX_COUNT, encode_body, encode_head, tombstones_of
from lsmdbm._format.coding import U32, U64, Cursor, Unsupported, counted, file_seed
from lsmdbm._format.footer import (
    DICTIONARY,
    HEADER_BYTES,
    BlockHandle,
    Footer,
    PartHandle,
    encode_header,
    footer_crc,
)
from lsmdbm._format.manifest import TableMeta

WRITE_BYTES = 128 << 10
BLOOM_STEP = 4096  # keys entered into the filter between two steps of finish()

_METADATA = Struct("<BQQQQQI")
_DICTIONARY = Struct("<II")


class StoredBlock(NamedTuple):
    """A block on its way from one table into another, values still compressed.  Both checksums held.

    It is compressed with the dictionary of the table it goes to.
    """

    keys: list[bytes]
    tombstones: int
    head: bytes  # the body of the head's envelope, as it is stored
    head_raw: int
    body: bytes
    body_raw: int


class _Waiting(NamedTuple):
    """A block that has its place in the order of the table, but not in the file."""

    head: bytes
    head_raw: int
    body: bytes
    body_raw: int
    is_compressed: bool


class Origin(NamedTuple):
    """Where the entries of a table come from; kept in its metadata for reports and repair."""

    level: int
    first_seq: int
    last_seq: int
    inputs: tuple[int, ...] = ()  # numbers of the tables it was compacted from


class Metadata(NamedTuple):
    """What a table says about itself."""

    origin: Origin
    entries: int
    tombstones: int
    raw_bytes: int
    smallest: bytes
    largest: bytes
    dictionary: PartHandle | None = None

    def encode(self) -> bytes:
        """Return the metadata as bytes."""
        origin, dictionary = self.origin, self.dictionary
        return b"".join(
            (
                _METADATA.pack(
                    *(origin.level, self.entries, self.tombstones, self.raw_bytes),
                    *(origin.first_seq, origin.last_seq, len(origin.inputs)),
                ),
                *map(U64.pack, origin.inputs),
                counted(self.smallest),
                counted(self.largest),
                U32.pack(0),
                b"" if dictionary is None else _DICTIONARY.pack(dictionary.stored, dictionary.raw),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Metadata:
        """Return the metadata in exactly these bytes; Malformed or Unsupported if they are none."""
        cursor = Cursor(data)
        level, entries, tombstones, raw_bytes, first_seq, last_seq, count = cursor.unpack(_METADATA)
        numbers = cursor.take(count * U64.size)
        inputs = tuple(number for (number,) in U64.iter_unpack(numbers))
        smallest, largest = cursor.counted(), cursor.counted()
        if cursor.unpack(U32) != (0,):
            raise Unsupported("table holds range deletions; this version knows none")
        dictionary = None
        if cursor.position < len(data):
            dictionary = PartHandle(HEADER_BYTES, *cursor.unpack(_DICTIONARY))
        cursor.finish()
        return cls(
            Origin(level, first_seq, last_seq, inputs),
            *(entries, tombstones, raw_bytes, smallest, largest, dictionary),
        )

    def meta(self, number: int, file_bytes: int, footer_crc: int) -> TableMeta:
        """Return what a manifest says of the table that says this of itself."""
        return TableMeta(
            number=number,
            file_bytes=file_bytes,
            footer_crc=footer_crc,
            entries=self.entries,
            tombstones=self.tombstones,
            raw_bytes=self.raw_bytes,
            first_seq=self.origin.first_seq,
            last_seq=self.origin.last_seq,
            smallest=self.smallest,
            largest=self.largest,
        )


def separator(low: bytes, high: bytes) -> bytes:
    """Return a short key with `low <= key < high`, for `low < high`.

    >>> separator(b"apple", b"banana"), separator(b"abc", b"abd"), separator(b"ab", b"abxyz")
    (b'b', b'abc', b'abx')
    """
    first, last = 0, min(len(low), len(high))
    while first < last:  # the length of the common prefix, by halving: keys may be 64 KiB long
        middle = (first + last + 1) // 2
        if low[:middle] == high[:middle]:
            first = middle
        else:
            last = middle - 1
    return high[: first + 1] if len(high) > first + 1 else low


class TableWriter:
    """Writes one table into an empty file.

    Args:
        file: where to; it is not synced here.
        number: of the table; it is part of every checksum.
        salt: 64 random bits.
        block_bytes: see rule 3.
        level: zstd level, None for no compression.
        bloom_bits: bits of filter per key, 0 for no filter.
        dictionary: to compress the blocks with; b"" for none.
        batch_bytes: raw bytes of blocks that make a batch (rule 6); 0 if none waits.
    """

    def __init__(
        self,
        file: File,
        number: int,
        salt: int,
        *,
        block_bytes: int,
        level: int | None,
        bloom_bits: int,
        dictionary: bytes = b"",
        batch_bytes: int = 0,
    ) -> None:
        self._file = file
        self._number = number
        self._salt = salt
        self._seed = file_seed(number, salt)
        self._block_bytes = block_bytes
        self._level = level
        self._bloom_bits = bloom_bits
        self._dictionary = dictionary
        self._batch_bytes = batch_bytes
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._keys: list[bytes] = []  # of the block that is not full yet; these lists are our own
        self._values: list[bytes | None] = []
        self._pending_bytes = 0
        self._deleting = False  # whether a None may be among the values
        self._hashes: list[int] = []
        self._separators: list[bytes] = []
        self._handles: list[bytes] = []
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0
        self._written_bytes = 0
        self._smallest = self._largest = b""
        self.entries = self.tombstones = self.raw_bytes = 0
        self._put(encode_header(number, salt))
        self._dictionary_handle = self._put_part(dictionary, compress=True) if dictionary else None

    @property
    def stored_bytes(self) -> int:
        """Bytes of the file so far."""
        return self._written_bytes + self._buffered_bytes

    def add(self, keys: list[bytes], values: list[bytes | None]) -> None:
        """Take one chunk.  About 1 us an entry, most of it compressing."""
        deleting = False
        try:
            ends = _ends(keys, values, self._pending_bytes)
        except TypeError:  # a None is among the values
            sizes = map(add, map(len, keys), [0 if value is None else len(value) for value in values])
            ends = list(accumulate(sizes, initial=self._pending_bytes))
            deleting = self._deleting = True
        low = taken = 0
        while (high := self._cut_place(ends, low, taken)) < len(ends):  # rule 3
            self._keys += keys[low:high]
            self._values += values[low:high]
            self._cut()
            self._deleting = deleting
            low, taken = high, ends[high]
        self._keys += keys[low:]
        self._values += values[low:]
        self._pending_bytes = ends[-1] - taken

    def _cut_place(self, ends: Sequence[int], low: int, taken: int) -> int:
        """Return up to which key of a chunk the block goes that has the keys from `low` on."""
        most = low + MAX_COUNT - len(self._keys)
        return min(most, bisect_left(ends, taken + self._block_bytes, low + 1))

    def add_block(self, block: StoredBlock) -> None:
        """Take a whole block from another table without decompressing its values."""
        self._cut()
        self._place(block.keys, block.tombstones)
        self._wait(_Waiting(block.head, block.head_raw, block.body, block.body_raw, True))

    def _cut(self) -> None:
        """End the block that is not full yet, if it has entries."""
        keys, values = self._keys, self._values
        if not keys:
            return
        self._keys, self._values, self._pending_bytes = [], [], 0
        deleted: Sequence[int] = tombstones_of(values) if self._deleting else ()
        self._place(keys, len(deleted))
        head, body = encode_head(keys, deleted), encode_body(values, deleted)
        self._wait(_Waiting(head, len(head), body, len(body), False))

    def _place(self, keys: list[bytes], tombstones: int) -> None:
        """Account for the keys of the next block, and settle the separator of the block before."""
        if self.entries:
            self._separators.append(separator(self._largest, keys[0]))
        else:
            self._smallest = keys[0]
        self._largest = keys[-1]
        self.entries += len(keys)
        self.tombstones += tombstones
        if self._bloom_bits:
            self._hashes += bloom.hashes(keys)

    def _wait(self, block: _Waiting) -> None:
        self._waiting.append(block)
        self._waiting_bytes += block.head_raw + block.body_raw
        if self._waiting_bytes >= self._batch_bytes:
            self._store_waiting()

    def _store_waiting(self) -> None:
        """Compress and store the blocks that wait (rule 6)."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        raw = [part for block in waiting if not block.is_compressed for part in (block.head, block.body)]
        compressed = iter(envelope.compress_all(raw, self._level, self._dictionary))
        bodies: list[bytes] = []
        for head, _, body, _, is_compressed in waiting:
            bodies += (head, body) if is_compressed else (next(compressed), next(compressed))
        stored = iter(envelope.seal_all(bodies, self._seed, self.stored_bytes))
        for _, head_raw, _, body_raw, _ in waiting:
            head, body = next(stored), next(stored)
            handle = BlockHandle(self.stored_bytes, len(head), head_raw, len(body), body_raw)
            self._handles.append(handle.encode())
            self.raw_bytes += head_raw + body_raw
            self._put(head)
            self._put(body)

    def _put(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered_bytes += len(data)
        if self._buffered_bytes >= max(WRITE_BYTES, self._batch_bytes):
            self._write()

    def _write(self) -> None:
        write_all(self._file, b"".join(self._buffer), self._written_bytes)
        self._written_bytes += self._buffered_bytes
        self._buffer, self._buffered_bytes = [], 0

    def finish(self, origin: Origin) -> Generator[None, None, TableMeta]:
        """Write dictionary, filter, index, metadata and footer; return what the manifest must know.

        A generator: each step takes about a millisecond, the first one as long as a batch too.  Requires at
        least one entry.
        """
        self._cut()
        self._store_waiting()
        words = bloom.blank(bloom.word_count(self.entries, self._bloom_bits))
        for step in _slices(self._hashes, BLOOM_STEP):
            bloom.fill(words, step)
            yield
        if self._dictionary:
            self._put_part(self._dictionary, compress=True)  # once more
        filter_handle = self._put_part(bloom.encode(words), compress=False)
        index = self._put_index()
        metadata = Metadata(
            *(origin, self.entries, self.tombstones, self.raw_bytes, self._smallest, self._largest),
            dictionary=self._dictionary_handle,
        )
        metadata_handle = self._put_part(metadata.encode(), compress=True)
        features = DICTIONARY if self._dictionary else 0
        footer = Footer(index, filter_handle, metadata_handle, self._number, self._salt, features).encode()
        self._put(footer)
        self._write()
        return metadata.meta(self._number, self._written_bytes, footer_crc(footer))

    def _put_part(self, raw: bytes, *, compress: bool) -> PartHandle:
        offset = self.stored_bytes
        stored = envelope.wrap(raw, self._level if compress else None, self._seed, offset)
        self._put(stored)
        return PartHandle(offset, len(stored), len(raw))

    def _put_index(self) -> BlockHandle:
        head = encode_head([*self._separators, self._largest], ())
        body = encode_body(self._handles, ())
        first = self._put_part(head, compress=True)
        second = self._put_part(body, compress=True)
        return BlockHandle(first.offset, first.stored, first.raw, second.stored, second.raw)


def _ends(keys: Sequence[bytes], values: Sequence[bytes | None], before: int) -> Sequence[int]:
    """Return how many bytes come before each of some entries, and behind the last; TypeError at a None."""
    value_sizes = set(map(len, values))  # type: ignore[arg-type]
    if len(value_sizes) == 1 and len(key_sizes := set(map(len, keys))) == 1:
        size = key_sizes.pop() + value_sizes.pop()
        if size:
            return range(before, before + size * len(keys) + 1, size)  # a third of the cost of the list
    sizes = map(add, map(len, keys), map(len, values))  # type: ignore[arg-type]
    return list(accumulate(sizes, initial=before))


def _slices(items: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    return (items[low : low + length] for low in range(0, len(items), length))
