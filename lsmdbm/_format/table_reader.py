"""Table reader: points, ranges and whole blocks out of one immutable sorted file.

Rules
  1. Nothing is used that is not under a checksum that held.  What is wrong raises CorruptionError with
     path and offset; nothing is skipped.
  2. A point read asks the block cache before the filter, which exists to save a read; the other way round
     where older tables may hold the key as well, so that most likely it is in one of those.  It decodes no
     keys, unless it has to say that the key is not there: then they are checked first, once for each block.
  3. A range read caches the first block of each source, so that a loop of single steps does not
     decode a block per step, and passes the rest by, so that a scan does not empty the cache.
  4. Reading keys only never reads the body of a block.
  5. The keys of a block lie between the separators around it: who relies on separators loses nothing.
  6. A dictionary is there twice, because without it no block can be read: one damaged place does not cost
     the table.

Thread safety: a reader may be used from any thread; the counters are not exact then.
Spec: docs/format.md, Table.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager

from lsmdbm._base.chunk import MISSING, Chunk, Chunks, Missing, clip
from lsmdbm._base.errors import CorruptionError, error
from lsmdbm._base.lru import LRU
from lsmdbm._base.storage import File
from lsmdbm._format import dictionaries, envelope
from lsmdbm._format.block import Block, decode_block, decode_head, key_chunk
from lsmdbm._format.bloom import Bloom, hash_key, pattern
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
    decode_header,
    footer_crc,
)
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_writer import Metadata, Origin, StoredBlock

RUN_BLOCKS = 16  # a long scan joins up to so many blocks into one chunk,
RUN_BYTES = 128 << 10  # or as many as this many raw bytes
LEAST_BLOCK_BYTES = 18  # of two envelopes, the first of them around at least the shortest zstd frame
SEPARATOR_OVERHEAD = 60  # bytes of memory per block beyond what the index takes on disk
INPUT_OVERHEAD = 40  # bytes of memory per table that this one was compacted from
BLOCKS_PER_TABLE = 1 << 32  # cache keys: number * BLOCKS_PER_TABLE + index of the block


@contextmanager
def _decoding(file: File, offset: int) -> Iterator[None]:
    """The boundary between malformed bytes and the error that names their place."""
    try:
        yield
    except Unsupported as exc:
        raise error(f"{file.path}, offset {offset}: {exc}") from None
    except Malformed as exc:
        raise CorruptionError(file.path, offset, str(exc)) from None


class ReadCounters:
    """What the reads of all tables of a database did.  The bytes are those of blocks, as they are on disk."""

    __slots__ = (
        *("blocks_read", "false_positives", "filter_probes"),
        *("compaction_bytes", "get_bytes", "scan_bytes"),
    )

    def __init__(self) -> None:
        self.filter_probes = 0
        self.blocks_read = 0
        self.false_positives = 0  # blocks read that did not hold the key
        self.get_bytes = 0  # by point reads
        self.scan_bytes = 0  # by reads in order, of keys alone too
        self.compaction_bytes = 0  # past the cache, for other tables


class TableReader:
    """Reads one table.

    Args:
        file: the open table.
        meta: what the manifest says of it.
        cache: the block cache, shared by all tables.
        counters: shared by all tables.

    Attributes:
        may_hold: returns False only if the key with this `hash_key` and `pattern` is certainly not here;
            counts nothing.
        filter_bytes: of the filter; 0 if there is none.

    Raises:
        CorruptionError: size, footer, index, filter or metadata are not what they must be.
        error: the table is of a newer format.
    """

    def __init__(self, file: File, meta: TableMeta, cache: LRU[int, Block], counters: ReadCounters) -> None:
        self._file = file
        self._cache = cache
        self._counters = counters
        self._first_id = meta.number * BLOCKS_PER_TABLE
        self.meta = meta
        size = file.size()
        if size != meta.file_bytes or size < HEADER_BYTES + FOOTER_BYTES:
            raise CorruptionError(file.path, -1, f"{size} bytes long, the manifest says {meta.file_bytes}")
        footer = self._open_footer(size)
        self._seed = file_seed(footer.number, footer.salt)
        self._data_end = footer.filter.offset
        self._open_index(footer, size)
        self.dictionary = self._open_dictionary(footer.features)
        self.cost = size - self._data_end + SEPARATOR_OVERHEAD * len(self._separators)
        self.cost += INPUT_OVERHEAD * len(self.metadata.origin.inputs) + len(self.dictionary)

    def _open_footer(self, size: int) -> Footer:
        with _decoding(self._file, size - FOOTER_BYTES):
            data = self._file.pread(FOOTER_BYTES, size - FOOTER_BYTES)
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
        tail = self._file.pread(size - FOOTER_BYTES - start, start)

        def part(offset: int, stored: int, raw: int) -> bytes:
            with _decoding(self._file, offset):
                return envelope.unwrap(
                    tail[offset - start : offset - start + stored], raw, self._seed, offset
                )

        bloom, index, metadata = footer.filter, footer.index, footer.metadata
        with _decoding(self._file, start):
            self._filter = Bloom(part(bloom.offset, bloom.stored, bloom.raw))
            self.may_hold = self._filter.may_hold
            self.filter_bytes = bloom.raw
        with _decoding(self._file, index.offset):
            head = part(index.offset, index.head_stored, index.head_raw)
            self._separators, deleted = decode_head(head, (start - HEADER_BYTES) // LEAST_BLOCK_BYTES)
            body = part(index.offset + index.head_stored, index.body_stored, index.body_raw)
            self._handles = _joined_handles(decode(body, len(self._separators)))
            if deleted:
                raise Malformed("deleted blocks in the index")
            if self._separators[-1] != self.meta.largest:
                raise Malformed("index does not end at the largest key")
        with _decoding(self._file, metadata.offset):
            self.metadata = Metadata.decode(part(metadata.offset, metadata.stored, metadata.raw))

    def _open_dictionary(self, features: int) -> bytes:
        """Return what the blocks were compressed with; b"" if there is no dictionary."""
        part = self.metadata.dictionary
        with _decoding(self._file, self._data_end):
            if (part is not None) != bool(features & DICTIONARY):
                raise Malformed("footer and metadata are at odds about a dictionary")
            if part is None:
                return b""
            self._data_end -= part.stored
            if part.end > self._data_end:
                raise Malformed("dictionary reaches beyond the blocks")
        try:
            return self._read_dictionary(part, part.offset)
        except CorruptionError:
            return self._read_dictionary(part, self._data_end)  # rule 6

    def _read_dictionary(self, part: PartHandle, offset: int) -> bytes:
        with _decoding(self._file, offset):
            stored = self._file.pread(part.stored, offset)
            return dictionaries.unwrap(stored, part.raw, self._seed, offset)

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

    def get(self, key: bytes, *, is_probable: bool = False) -> bytes | None | Missing:
        """Return the value of `key`, None if it is deleted here, MISSING if it is not here.

        O(log n) in memory, and one read if the block is not cached.

        Args:
            is_probable: whether `may_hold` was asked, and counted, already.
        """
        counters = self._counters
        index = bisect_left(self._separators, key)
        if index == len(self._separators):
            return MISSING
        block = self._cache.get(self._first_id + index)  # rule 2
        if block is not None:
            found = block.get(key)
        else:
            if not is_probable:
                counters.filter_probes += 1
                hashed = hash_key(key)
                if not self.may_hold(hashed, pattern(hashed)):
                    return MISSING
            block = self._load(index)
            counters.blocks_read += 1
            found = block.get(key)
            if found is MISSING:
                counters.false_positives += 1
        if found is MISSING and not block.is_checked:
            self._check_keys(index, block)
        return found

    def chunks(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        *,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> Chunks:
        """Yield the entries with `start <= key < stop`, tombstones included; last chunk first if `reverse`.

        The first chunk is one block, later ones join up to RUN_BLOCKS.
        """
        first = 0 if start is None else bisect_left(self._separators, start)
        end = self.block_count
        if stop is not None:
            end = min(end, bisect_left(self._separators, stop) + 1)
        run_blocks, seeking = 1, True
        while first < end:
            indices = range(end - 1, first - 1, -1) if reverse else range(first, end)
            run = self._run(indices[:run_blocks], seeking, keys_only)
            first, end = (first, end - len(run)) if reverse else (first + len(run), end)
            chunk = clip(_join(run[::-1] if reverse else run), start, stop)
            if chunk[0]:
                yield chunk
            run_blocks, seeking = min(2 * run_blocks, RUN_BLOCKS), False

    def _run(self, indices: range, seeking: bool, keys_only: bool) -> list[Chunk]:
        """Return blocks as chunks, in the order of `indices`: at least one, at most RUN_BYTES beyond it."""
        handles: dict[int, BlockHandle] = {}
        raw_bytes = 0
        for index in indices:
            handle = handles[index] = self.handle(index)
            raw_bytes += handle.head_raw + (0 if keys_only else handle.body_raw)
            if raw_bytes >= RUN_BYTES:
                break
        peek, first_id = self._cache.peek, self._first_id
        if not seeking and not keys_only and all(peek(first_id + index) is None for index in handles):
            chunks = self._read(handles)
            self._counters.scan_bytes += _stored_bytes(handles)
            return chunks
        run: list[Chunk] = []
        for index, handle in handles.items():
            block = peek(first_id + index)
            if block is None and keys_only:
                run.append(self._load_keys(index, handle))
            else:
                block = self._in_order(index, handle, block, seeking)
                run.append(block.key_chunk() if keys_only else block.chunk())
        return run

    def block_chunk(self, first: int, stop: int) -> Chunk:
        """Return the entries of the blocks first .. stop - 1, past the cache."""
        handles = {index: self.handle(index) for index in range(first, stop)}
        chunks = self._read(handles)
        self._counters.compaction_bytes += _stored_bytes(handles)
        return _join(chunks)

    def block_keys(self, index: int) -> Chunk:
        """Return the entries of one block as a key-only chunk: its body may be damaged."""
        return self._load_keys(index, self.handle(index))

    def handle(self, index: int) -> BlockHandle:
        """Return where one block is."""
        handle = BlockHandle.at(self._handles, index)
        offset, head_stored, _, body_stored, _ = handle
        if offset >= HEADER_BYTES and offset + head_stored + body_stored <= self._data_end:
            return handle
        raise self._damaged(
            self._data_end, Malformed(f"block {index} at {offset} to {handle.end} lies outside of the table")
        )

    def _load(self, index: int) -> Block:
        """Return one block for a point read, and cache it."""
        handle = self.handle(index)
        block = self._unwrap(handle)
        self._counters.get_bytes += handle.head_stored + handle.body_stored
        self._cache.put(self._first_id + index, block, block.cost)
        return block

    def _unwrap(self, handle: BlockHandle) -> Block:
        stored = self._file.pread(handle.head_stored + handle.body_stored, handle.offset)
        try:
            return Block(*unwrap_block(stored, handle, self._seed, self.dictionary))
        except Malformed as exc:
            raise self._damaged(handle.offset, exc) from None

    def _check_keys(self, index: int, block: Block, *, keep: bool = False) -> None:
        """See to it, once for each block, that its keys are in order and within its bounds."""
        try:
            if keep:
                block.keep_keys()
            if not block.is_checked:
                self._check_bounds(index, block.keys)
        except Malformed as exc:
            raise self._damaged(self.handle(index).offset, exc) from None
        block.is_checked = True

    def _in_order(self, index: int, handle: BlockHandle, cached: Block | None, seeking: bool) -> Block:
        """Return one block for a read in order; if that begins there, the block stays cached (rule 3)."""
        block = cached
        if block is None:
            block = self._unwrap(handle)
            self._counters.scan_bytes += handle.head_stored + handle.body_stored
        had_keys = block.has_keys
        self._check_keys(index, block, keep=seeking or cached is None)
        if seeking and not had_keys:
            self._cache.put(self._first_id + index, block, block.cost)
        return block

    def _read(self, handles: dict[int, BlockHandle]) -> list[Chunk]:
        """Return some blocks as chunks, past the cache."""
        return [
            self._entries(index, handle, stored)
            for (index, handle), stored in zip(handles.items(), self._stored(handles), strict=True)
        ]

    def _stored(self, handles: dict[int, BlockHandle]) -> list[bytes]:
        """Return some blocks as they stand in the file; by one read, if nothing else stands between them."""
        low = min([handle.offset for handle in handles.values()])
        lengths = [handle.head_stored + handle.body_stored for handle in handles.values()]
        if max([handle.end for handle in handles.values()]) - low != sum(lengths):
            places = [
                (handle.offset, length) for handle, length in zip(handles.values(), lengths, strict=True)
            ]
            return [self._file.pread(length, offset) for offset, length in places]
        stored = self._file.pread(sum(lengths), low)
        starts = [handle.offset - low for handle in handles.values()]
        return [stored[start : start + length] for start, length in zip(starts, lengths, strict=True)]

    def _entries(self, index: int, handle: BlockHandle, stored: bytes) -> Chunk:
        """Return the entries of one block, given its bytes."""
        try:
            chunk = decode_block(*unwrap_block(stored, handle, self._seed, self.dictionary))
            self._check_bounds(index, chunk[0])
        except Malformed as exc:
            raise self._damaged(handle.offset, exc) from None
        return chunk

    def _load_keys(self, index: int, handle: BlockHandle) -> Chunk:  # rule 4
        stored = self._file.pread(handle.head_stored, handle.offset)
        self._counters.scan_bytes += handle.head_stored
        try:
            head = envelope.unwrap(stored, handle.head_raw, self._seed, handle.offset, self.dictionary)
            keys, deleted = decode_head(head)
            self._check_bounds(index, keys)
        except Malformed as exc:
            raise self._damaged(handle.offset, exc) from None
        return key_chunk(keys, deleted)

    def _check_bounds(self, index: int, keys: list[bytes]) -> None:  # rule 5
        separators = self._separators
        is_above = keys[0] > separators[index - 1] if index else keys[0] >= self.meta.smallest
        if not is_above or keys[-1] > separators[index]:
            raise Malformed("keys outside of the bounds of their block")

    def _damaged(self, offset: int, exc: Malformed) -> error:
        if isinstance(exc, Unsupported):
            return error(f"{self._file.path}, offset {offset}: {exc}")
        return CorruptionError(self._file.path, offset, str(exc))

    def stored_run(self, first: int, stop: int) -> list[bytes]:
        """Return the blocks first .. stop - 1 as they stand in the file, for `stored_block`."""
        handles = {index: self.handle(index) for index in range(first, stop)}
        return self._stored(handles)

    def stored_block(
        self, index: int, level: int | None = None, dictionary: bytes = b"", stored: bytes | None = None
    ) -> StoredBlock:
        """Return one block for another table: checked, its keys decoded, its values left as they are.

        Args:
            level: what the other table is compressed with, and so is the next.
            dictionary: if it is not that of this table, the block is compressed again.
            stored: the block as `stored_run` returned it; read if it is None.
        """
        handle = self.handle(index)
        offset, middle = handle.offset, handle.head_stored
        if stored is None:
            stored = self._file.pread(middle + handle.body_stored, offset)
        self._counters.compaction_bytes += middle + handle.body_stored
        try:
            head = envelope.unwrap(stored[:middle], handle.head_raw, self._seed, offset, self.dictionary)
            keys, tombstones = decode_head(head)
            self._check_bounds(index, keys)
            stored_head = stored[: middle - envelope.CRC_BYTES]
            body = envelope.check(stored[middle:], self._seed, offset + middle)
            if dictionary != self.dictionary:
                stored_head = envelope.compress(head, level, dictionary)
                body = envelope.recompress(body, handle.body_raw, self.dictionary, level, dictionary)
        except Malformed as exc:
            raise self._damaged(offset, exc) from None
        return StoredBlock(keys, len(tombstones), stored_head, handle.head_raw, body, handle.body_raw)

    def problems(self) -> Iterator[CorruptionError]:
        """Check everything: header, every block, order, bounds, counts, filter.  Reads the whole table.

        Raises:
            error: a block is of a newer format.
        """
        path, meta, said = self._file.path, self.meta, self.metadata
        known = dataclasses.replace(meta, holes=())  # of which a table knows nothing
        try:
            with _decoding(self._file, 0):
                if file_seed(*decode_header(self._file.pread(HEADER_BYTES, 0))) != self._seed:
                    raise Malformed("header of another table")
        except CorruptionError as exc:
            yield exc
        yield from self._dictionary_problems()
        entries = tombstones = raw_bytes = 0
        smallest = largest = None
        is_whole = True
        for index in range(self.block_count):
            try:
                handle = self.handle(index)
                keys, values = self.block_chunk(index, index + 1)
            except CorruptionError as exc:
                yield exc
                is_whole = False
                continue
            entries += len(keys)
            tombstones += values.count(None)
            raw_bytes += handle.head_raw + handle.body_raw
            smallest, largest = keys[0] if smallest is None else smallest, keys[-1]
            if len(keys) != len(set(keys)):
                yield CorruptionError(path, handle.offset, "a key twice in one block")
            if not all(map(self._filter.may_contain, keys)):
                yield CorruptionError(path, self._data_end, "filter denies a key of the table")
        if is_whole and (entries, tombstones) != (meta.entries, meta.tombstones):
            yield CorruptionError(
                path, -1, f"{entries} entries, {tombstones} of them deletions: not as stated"
            )
        if is_whole and (raw_bytes, smallest, largest) != (meta.raw_bytes, meta.smallest, meta.largest):
            yield CorruptionError(path, -1, "first key, last key or bytes of the blocks: not as stated")
        if said.meta(meta.number, meta.file_bytes, meta.footer_crc) != known:
            yield CorruptionError(path, -1, "counts or bounds differ from what the manifest says")

    def _dictionary_problems(self) -> Iterator[CorruptionError]:
        part = self.metadata.dictionary
        if part is not None:
            for offset in (part.offset, self._data_end):
                try:
                    self._read_dictionary(part, offset)
                except CorruptionError as exc:
                    yield exc


def _stored_bytes(handles: dict[int, BlockHandle]) -> int:
    return sum([handle.head_stored + handle.body_stored for handle in handles.values()])


def _joined_handles(handles: list[bytes]) -> bytes:
    joined = b"".join(handles)
    if set(map(len, handles)) != {HANDLE_BYTES}:
        raise Malformed(f"handles of {sorted(set(map(len, handles)))} bytes")
    return joined


def unwrap_block(stored: bytes, handle: BlockHandle, seed: int, dictionary: bytes) -> tuple[bytes, bytes]:
    """Return the raw head and body of a block, given exactly its bytes; Malformed if they are none."""
    offset, middle, head_raw, _, body_raw = handle
    head = envelope.check(stored[:middle], seed, offset)
    body = envelope.check(stored[middle:], seed, offset + middle)
    return envelope.expand(head, head_raw, dictionary), envelope.expand(body, body_raw, dictionary)


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
    with _decoding(file, max(0, end)):
        if end < HEADER_BYTES:
            raise Malformed(f"{size} bytes hold no table")
        data = file.pread(FOOTER_BYTES, end)
        footer = Footer.decode(data)
        part = footer.metadata
        if number is None:
            number = footer.number
        if footer.number != number or not HEADER_BYTES <= part.offset <= part.end <= end:
            raise Malformed(f"footer of table {footer.number}, or of another size")
    with _decoding(file, part.offset):
        stored = file.pread(part.stored, part.offset)
        raw = envelope.unwrap(stored, part.raw, file_seed(number, footer.salt), part.offset)
        said = Metadata.decode(raw)
    return said.meta(number, size, footer_crc(data)), said.origin


def _join(run: list[Chunk]) -> Chunk:
    if len(run) == 1:
        return run[0]
    keys: list[bytes] = []
    values: list[bytes | None] = []
    for more_keys, more_values in run:
        keys += more_keys
        values += more_values
    return keys, values
