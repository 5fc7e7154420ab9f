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

Thread safety: a reader may be used from any thread; the counters are not exact then.
Spec: docs/format.md, Table.
"""

from __future__ import annotations

from bisect import bisect_left

from lsmdbm._base.chunk import MISSING, Chunk, Chunks, Missing, clip
from lsmdbm._base.lru import LRU
from lsmdbm._base.storage import File
from lsmdbm._format import envelope
from lsmdbm._format.block import Block, add_entries, decode_head, in_order, key_chunk
from lsmdbm._format.coding import Malformed
from lsmdbm._format.footer import BlockHandle
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_parts import TableParts
from lsmdbm._format.table_writer import StoredBlock

RUN_BLOCKS = 16  # a long scan joins up to so many blocks into one chunk,
RUN_BYTES = 128 << 10  # or as many as this many raw bytes
BLOCKS_PER_TABLE = 1 << 32  # cache keys: number * BLOCKS_PER_TABLE + index of the block


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


class TableReader(TableParts):
    """Reads one table.

    Args:
        file: the open table.
        meta: what the manifest says of it.
        cache: the block cache, shared by all tables.
        counters: shared by all tables.

    Attributes:
        may_hold: returns False only if the key with this `hash_key` and `pattern` is certainly not here;
            counts nothing.
        words: of the filter, for who asks many.

    Raises:
        CorruptionError: size, footer, index, filter or metadata are not what they must be.
        error: the table is of a newer format.
    """

    def __init__(self, file: File, meta: TableMeta, cache: LRU[int, Block], counters: ReadCounters) -> None:
        super().__init__(file, meta)
        self.may_hold = self.filter.may_hold
        self.words = self.filter.words
        self._may_contain = self.filter.may_contain
        self._cache = cache
        self._counters = counters
        self._first_id = meta.number * BLOCKS_PER_TABLE

    def get(self, key: bytes, *, is_probable: bool = False) -> bytes | None | Missing:
        """Return the value of `key`, None if it is deleted here, MISSING if it is not here.

        O(log n) in memory, and one read if the block is not cached.

        Args:
            is_probable: whether `may_hold` was asked, and counted, already.
        """
        index = bisect_left(self._separators, key)
        if index == len(self._separators):
            return MISSING
        block = self._cache.get(self._first_id + index)  # rule 2
        if block is not None:
            found = block.get(key)
        else:
            counters = self._counters
            if not is_probable:
                counters.filter_probes += 1
                if not self._may_contain(key):
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
            low = max(first, end - run_blocks) if reverse else first
            high = end if reverse else min(end, first + run_blocks)
            handles, low = self._handles_of_run(low, high, reverse, keys_only)
            first, end = (first, low) if reverse else (low + len(handles), end)
            chunk = clip(self._run(low, handles, seeking, keys_only), start, stop)
            if chunk[0]:
                yield chunk
            run_blocks, seeking = min(2 * run_blocks, RUN_BLOCKS), False

    def _handles_of_run(
        self, first: int, stop: int, reverse: bool, keys_only: bool
    ) -> tuple[list[BlockHandle], int]:
        """Return the handles of a run of blocks, and the first one: at most RUN_BYTES, and a block beyond it.

        Of the blocks first .. stop - 1 it has those at the beginning, those at the end if `reverse`.
        """
        handles: list[BlockHandle] = []
        raw_bytes = 0
        for index in range(stop - 1, first - 1, -1) if reverse else range(first, stop):
            handle = self.handle(index)
            handles.append(handle)
            raw_bytes += handle[2] if keys_only else handle[2] + handle[4]  # head_raw, body_raw
            if raw_bytes >= RUN_BYTES:
                break
        if reverse:
            handles.reverse()
            return handles, stop - len(handles)
        return handles, first

    def _run(self, first: int, handles: list[BlockHandle], seeking: bool, keys_only: bool) -> Chunk:
        """Return blocks that follow each other as one chunk."""
        first_id = self._first_id + first
        cached = map(self._cache.peek, range(first_id, first_id + len(handles)))
        run: list[Chunk] = []
        unread: list[BlockHandle] = []  # in one stretch, up to where we are
        for index, (handle, block) in enumerate(zip(handles, cached, strict=True), first):
            if block is None and not seeking and not keys_only:
                unread.append(handle)
                continue
            if unread:
                run.append(self._scan(index - len(unread), unread))
                unread = []
            if block is None and keys_only:
                run.append(self._load_keys(index, handle))
            else:
                block = self._in_order(index, handle, block, seeking)
                run.append(block.key_chunk() if keys_only else block.chunk())
        if unread:
            run.append(self._scan(first + len(handles) - len(unread), unread))
        return _join(run)

    def _scan(self, first: int, handles: list[BlockHandle]) -> Chunk:
        self._counters.scan_bytes += _stored_bytes(handles)
        return self._read(first, handles)

    def block_chunk(self, first: int, stop: int) -> Chunk:
        """Return the entries of the blocks first .. stop - 1, past the cache."""
        handles = list(map(self.handle, range(first, stop)))
        self._counters.compaction_bytes += _stored_bytes(handles)
        return self._read(first, handles)

    def block_keys(self, index: int) -> Chunk:
        """Return the entries of one block as a key-only chunk: its body may be damaged."""
        return self._load_keys(index, self.handle(index))

    def _load(self, index: int) -> Block:
        """Return one block for a point read, and cache it."""
        handle = self.handle(index)
        block = self._unwrap(handle)
        self._counters.get_bytes += handle[1] + handle[3]  # head_stored and body_stored
        self._cache.offer(self._first_id + index, block, block.cost)
        return block

    def _unwrap(self, handle: BlockHandle) -> Block:
        offset, head_stored, _, body_stored, _ = handle
        stored = self.file.pread(head_stored + body_stored, offset)
        try:
            return Block(*unwrap_block(stored, handle, self.seed, self.dictionary))
        except Malformed as exc:
            raise self.damaged(handle.offset, exc) from None

    def _check_keys(self, index: int, block: Block, *, keep: bool = False) -> None:
        """See to it, once for each block, that its keys are in order and within its bounds."""
        try:
            if keep:
                block.keep_keys()
            if not block.is_checked:
                keys = block.keys
                self._check_bounds(index, keys[0], keys[-1])
        except Malformed as exc:
            raise self.damaged(self.handle(index).offset, exc) from None
        block.is_checked = True

    def _in_order(self, index: int, handle: BlockHandle, cached: Block | None, seeking: bool) -> Block:
        """Return one block for a read in order; if that begins there, the block stays cached (rule 3)."""
        block = cached
        if block is None:
            block = self._unwrap(handle)
            self._counters.scan_bytes += handle.head_stored + handle.body_stored
        had_keys = block.has_keys
        self._check_keys(index, block, keep=seeking)
        if seeking and not had_keys:
            self._cache.put(self._first_id + index, block, block.cost)
        return block

    def _read(self, first: int, handles: list[BlockHandle]) -> Chunk:
        """Return blocks as one chunk, past the cache."""
        keys: list[bytes] = []
        values: list[bytes | None] = []
        for index, (handle, stored) in enumerate(zip(handles, self._stored(handles), strict=True), first):
            low = len(keys)
            try:
                add_entries(*unwrap_block(stored, handle, self.seed, self.dictionary), keys, values)
                self._check_bounds(index, keys[low], keys[-1])
            except Malformed as exc:
                raise self.damaged(handle.offset, exc) from None
        try:
            in_order(keys)
        except Malformed as exc:
            if len(handles) == 1:
                raise self.damaged(handles[0].offset, exc) from None
            return _join([self._read(index, [handle]) for index, handle in enumerate(handles, first)])
        return keys, values

    def _stored(self, handles: list[BlockHandle]) -> list[bytes]:
        """Return blocks as they stand in the file; by one read, if nothing else stands between them."""
        begin = end = handles[0].offset
        for offset, head_stored, _, body_stored, _ in handles:
            if offset != end:
                return self._stored_apart(handles)
            end += head_stored + body_stored
        stored = self.file.pread(end - begin, begin)
        return [stored[each[0] - begin : each[0] - begin + each[1] + each[3]] for each in handles]

    def _stored_apart(self, handles: list[BlockHandle]) -> list[bytes]:
        return [self.file.pread(head + body, offset) for offset, head, _, body, _ in handles]

    def _load_keys(self, index: int, handle: BlockHandle) -> Chunk:  # rule 4
        stored = self.file.pread(handle.head_stored, handle.offset)
        self._counters.scan_bytes += handle.head_stored
        try:
            head = envelope.unwrap(stored, handle.head_raw, self.seed, handle.offset, self.dictionary)
            keys, deleted = decode_head(head)
            self._check_bounds(index, keys[0], keys[-1])
        except Malformed as exc:
            raise self.damaged(handle.offset, exc) from None
        return key_chunk(keys, deleted)

    def _check_bounds(self, index: int, first: bytes, last: bytes) -> None:  # rule 5
        separators = self._separators
        is_above = first > separators[index - 1] if index else first >= self.meta.smallest
        if not is_above or last > separators[index]:
            raise Malformed("keys outside of the bounds of their block")

    def stored_run(self, first: int, stop: int) -> list[bytes]:
        """Return the blocks first .. stop - 1 as they stand in the file, for `stored_block`."""
        return self._stored(list(map(self.handle, range(first, stop))))

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
            (stored,) = self._stored([handle])
        self._counters.compaction_bytes += middle + handle.body_stored
        try:
            head = envelope.unwrap(stored[:middle], handle.head_raw, self.seed, offset, self.dictionary)
            keys, tombstones = decode_head(head)
            self._check_bounds(index, keys[0], keys[-1])
            stored_head = stored[: middle - envelope.CRC_BYTES]
            body = envelope.check(stored[middle:], self.seed, offset + middle)
            if dictionary != self.dictionary:
                stored_head = envelope.compress(head, level, dictionary)
                body = envelope.recompress(body, handle.body_raw, self.dictionary, level, dictionary)
        except Malformed as exc:
            raise self.damaged(offset, exc) from None
        return StoredBlock(keys, len(tombstones), stored_head, handle.head_raw, body, handle.body_raw)


def _stored_bytes(handles: list[BlockHandle]) -> int:
    return sum([handle[1] + handle[3] for handle in handles])  # head_stored, body_stored


def unwrap_block(stored: bytes, handle: BlockHandle, seed: int, dictionary: bytes) -> tuple[bytes, bytes]:
    """Return the raw head and body of a block, given exactly its bytes; Malformed if they are none."""
    offset, middle, head_raw, _, body_raw = handle
    head = envelope.check(stored[:middle], seed, offset)
    body = envelope.check(stored[middle:], seed, offset + middle)
    if len(head) != head_raw:
        head = envelope.expand(head, head_raw, dictionary)
    return head, envelope.expand(body, body_raw, dictionary)


def _join(run: list[Chunk]) -> Chunk:
    if len(run) == 1:
        return run[0]
    keys: list[bytes] = []
    values: list[bytes | None] = []
    for more_keys, more_values in run:
        keys += more_keys
        values += more_values
    return keys, values
