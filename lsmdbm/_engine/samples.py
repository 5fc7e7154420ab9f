"""Samples: a few blocks from all over what a job will write, to find out what they have in common.

Rules
  1. Blocks are taken at even distances, and share no entry: what is held out of a sample tests the rest.
  2. Blocks with large values are left out: they have no need of what others have.
  3. The same inputs give the same sample.

Thread safety: as for what is sampled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from lsmdbm._base.chunk import Chunk
from lsmdbm._base.options import Options
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.tables import Tables
from lsmdbm._format import dictionaries
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_reader import TableReader

LARGE = 4  # times as long as a block should be


def dictionary_of_memtables(memtables: Sequence[Memtable], options: Options, table_bytes: int) -> bytes:
    """Return the dictionary for tables of what these memtables hold; b"" for none."""
    total = sum(memtable.charge for memtable in memtables)
    count, entries = _count(options, total), sum(map(len, memtables))
    if not count or not entries:
        return b""
    blocks = [
        block
        for memtable in memtables
        for block in _blocks_of_memtable(memtable, -(-entries // count), options.block_bytes)
    ]
    return dictionaries.choose(blocks, options.compression_level, min(total, table_bytes))


def _blocks_of_memtable(memtable: Memtable, distance: int, block_bytes: int) -> Iterator[Chunk]:
    last = None
    for start in sorted(islice(memtable.entries, 0, None, distance)):
        if last is None or start > last:  # rule 1
            keys, values = _block_from(memtable, start, block_bytes)
            last = keys[-1]
            if _length(keys, values) <= LARGE * block_bytes:  # rule 2
                yield keys, values


def _block_from(memtable: Memtable, start: bytes, block_bytes: int) -> Chunk:
    """Return the entries from a key on that would make up a block."""
    keys: list[bytes] = []
    values: list[bytes | None] = []
    length = 0
    for more_keys, more_values in memtable.chunks(start):
        for key, value in zip(more_keys, more_values, strict=True):
            keys.append(key)
            values.append(value)
            length += len(key) + len(value or b"")
            if length >= block_bytes:
                return keys, values
    return keys, values


def _length(keys: Sequence[bytes], values: Sequence[bytes | None]) -> int:
    return sum(map(len, keys)) + sum(len(value) for value in values if value is not None)


def dictionary_of_tables(
    metas: Sequence[TableMeta], tables: Tables, options: Options, table_bytes: int
) -> bytes:
    """Return the dictionary for tables of what these tables hold; b"" for none.

    Raises:
        CorruptionError: one of them is damaged.
    """
    total = sum(meta.raw_bytes for meta in metas)
    count = _count(options, total)
    if not count:
        return b""
    blocks: list[Chunk] = []
    shares: Counter[bytes] = Counter()
    for meta, indices in _places(metas, tables, total / count):
        reader = tables.reader(meta)
        shares[reader.dictionary] += len(indices)
        blocks += [
            reader.block_chunk(index, index + 1)
            for index in indices
            if _is_usual(reader, index, options.block_bytes)
        ]
    del shares[b""]
    inherited = max(shares, key=lambda dictionary: (shares[dictionary], dictionary), default=b"")
    return dictionaries.choose(blocks, options.compression_level, min(total, table_bytes), inherited)


def _places(
    metas: Sequence[TableMeta], tables: Tables, distance: float
) -> Iterator[tuple[TableMeta, list[int]]]:
    """Yield the tables to look into, and which of their blocks; others are not opened."""
    place = distance / 2
    for meta in metas:
        offsets = []
        while place < meta.raw_bytes:
            offsets.append(place)
            place += distance
        place -= meta.raw_bytes
        if offsets:
            block_count = tables.reader(meta).block_count
            yield meta, sorted({int(offset / meta.raw_bytes * block_count) for offset in offsets})


def _is_usual(reader: TableReader, index: int, block_bytes: int) -> bool:
    handle = reader.handle(index)
    return handle.head_raw + handle.body_raw <= LARGE * block_bytes  # rule 2


def _count(options: Options, total_bytes: int) -> int:
    if options.compression is None or not options.dictionaries:
        return 0
    return dictionaries.sample_count(options.block_bytes, total_bytes)
