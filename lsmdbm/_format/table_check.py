"""Table check: everything that is wrong with one table.

Thread safety: that of the table reader.
Spec: docs/format.md, Table.
"""

from __future__ import annotations

from collections.abc import Iterator

from lsmdbm._base.errors import CorruptionError
from lsmdbm._format.coding import Malformed, file_seed
from lsmdbm._format.footer import HEADER_BYTES, decode_header
from lsmdbm._format.table_parts import decoding
from lsmdbm._format.table_reader import TableReader


def problems_of(table: TableReader) -> Iterator[CorruptionError]:
    """Check everything: header, every block, order, bounds, counts, filter.  Reads the whole table.

    Raises:
        error: a block is of a newer format.
    """
    path, meta, said = table.file.path, table.meta, table.metadata
    known = meta._replace(holes=())  # of which a table knows nothing
    try:
        with decoding(table.file, 0):
            if file_seed(*decode_header(table.file.pread(HEADER_BYTES, 0))) != table.seed:
                raise Malformed("header of another table")
    except CorruptionError as exc:
        yield exc
    yield from _dictionary_problems(table)
    entries = tombstones = raw_bytes = 0
    smallest = largest = None
    is_whole = True
    for index in range(table.block_count):
        try:
            handle = table.handle(index)
            keys, values = table.block_chunk(index, index + 1)
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
        if not all(map(table.filter.may_contain, keys)):
            yield CorruptionError(path, table.data_end, "filter denies a key of the table")
    if is_whole and (entries, tombstones) != (meta.entries, meta.tombstones):
        yield CorruptionError(path, -1, f"{entries} entries, {tombstones} of them deletions: not as stated")
    if is_whole and (raw_bytes, smallest, largest) != (meta.raw_bytes, meta.smallest, meta.largest):
        yield CorruptionError(path, -1, "first key, last key or bytes of the blocks: not as stated")
    if said.meta(meta.number, meta.file_bytes, meta.footer_crc) != known:
        yield CorruptionError(path, -1, "counts or bounds differ from what the manifest says")


def _dictionary_problems(table: TableReader) -> Iterator[CorruptionError]:
    part = table.metadata.dictionary
    if part is not None:
        for offset in (part.offset, table.data_end):
            try:
                table.read_dictionary(part, offset)
            except CorruptionError as exc:
                yield exc
