"""Manifest: the complete live set of a database as one checksummed file.  No edits, no pointer file.

    manifest := magic "LSMM" | version u32 | oldest_reader u32 | features u32 | uuid 16 | number u64
                | next_number u64 | last_seq u64 | min_wal u64 | live_count u64
                | block_bytes u32 | compression u8 | level i8 | bloom_bits u8 | compaction u8
                | max_bytes u64, if compaction is 2 | kept, if bit 1 of features is set
                | tables u32 | table[tables]
                | total u64 | crc u32 | magic "LSMMEND."
    table    := level u8 | number u64 | file_bytes u64 | footer_crc u32 | entries u64 | tombstones u64
                | raw_bytes u64 | first_seq u64 | last_seq u64
                | smallest counted | largest counted                        counted := length u32 | bytes
                | holes u32 | hole[holes], if bit 7 of level is set
    hole     := start counted | stop counted                                start is in, stop is out
    kept     := log_keep_bytes u64 | prev u64 | prev_end u32 | prev_last_seq u64

Rules
  1. `last_seq` is the newest sequence held in tables; `min_wal` the lowest log number still needed.
  2. `live_count` is the number of keys a scan of the tables alone would give; 2^64 - 1 if not known.
  3. Tables of level 0 come newest first, those of a deeper level in key order, without overlap.
  4. `total` is the length of the whole file, `crc` is over all before it, seeded with the number: a
     file cut short, or under another name, is no manifest.
  5. What a table has in its holes is void: a range deletion came after it.  Holes are ascending, do not touch
     and lie within the bounds of the table.  If there are any, bit 0 of `features` is set.
  6. If logs are kept beyond what recovery needs, `prev` is the newest log all of whose writes are in tables,
     as the header of a log that goes on from it would say; zeros if it is not known.

Thread safety: pure functions.  Spec: docs/format.md, Manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from struct import Struct
from typing import NamedTuple

from lsmdbm._base.chunk import MAX_KEY_BYTES
from lsmdbm._base.intervals import Intervals, holds_all
from lsmdbm._base.options import Options
from lsmdbm._format.coding import (
    FORMAT_VERSION,
    MAX_NUMBER,
    U32,
    U64,
    Cursor,
    Malformed,
    Unsupported,
    counted,
    crc32,
)

MAGIC, END_MAGIC = b"LSMM", b"LSMMEND."  # On disk: never changes.
HOLES = 1  # On disk: never changes.  A bit of the features: there are tables with holes,
KEPT = 2  # On disk: never changes.  and logs are kept for those who follow
KNOWN_FEATURES = HOLES | KEPT
HOLED = 0x80  # On disk: never changes.  A bit beside the level
NO_LOG = (0, 0, 0)
MAX_MANIFEST_BYTES = 64 << 20
MAX_LEVELS = 16
MAX_TABLES = 100_000
UNKNOWN_COUNT = (1 << 64) - 1
COMPRESSIONS: tuple[object, ...] = (None, "zstd")  # On disk: the position in these never changes.
DICTIONARIES = 2  # On disk: never changes.  A bit beside the compression
COMPACTIONS = ("leveled", "tiered", "fifo")

_FIXED = Struct("<4sIII16sQQQQQ")
_SHAPE = Struct("<IBbBB")
_KEPT = Struct("<QQIQ")
_TABLE = Struct("<BQQIQQQQQ")
_TAIL = Struct("<QI8s")
BLANK_BYTES = sum(part.size for part in (_FIXED, _SHAPE, U64, _KEPT, U32, _TAIL))  # without tables, at most


class TableMeta(NamedTuple):
    """What is known of one table without opening it."""

    number: int
    file_bytes: int
    footer_crc: int
    entries: int  # tombstones included
    tombstones: int
    raw_bytes: int  # of its blocks, before compression
    first_seq: int  # of the writes in it; for reports and repair
    last_seq: int
    smallest: bytes
    largest: bytes
    holes: Intervals = ()  # what is void of it


class Manifest(NamedTuple):
    """The state of a database as of one install."""

    uuid: bytes
    number: int
    next_number: int
    last_seq: int
    min_wal: int
    live_count: int | None
    shape: Mapping[str, object]  # the options in options.SHAPE, by name
    levels: tuple[tuple[TableMeta, ...], ...] = ()
    prev_log: tuple[int, int, int] = NO_LOG  # number, end and last sequence, see rule 6; if logs are kept

    def tables(self) -> Iterator[TableMeta]:
        """Yield the tables of all levels, from above."""
        return chain.from_iterable(self.levels)


def encode(manifest: Manifest) -> bytes:
    """Return the file that holds `manifest`.  O(tables)."""
    count = manifest.live_count
    features = HOLES if any(meta.holes for meta in manifest.tables()) else 0
    keep_bytes = manifest.shape.get("log_keep_bytes", 0)
    features |= KEPT if keep_bytes else 0
    is_possible = count is not None and 0 <= count <= MAX_NUMBER  # no other one would be read back
    parts = [
        _FIXED.pack(
            *(MAGIC, FORMAT_VERSION, FORMAT_VERSION, features, manifest.uuid),
            *(manifest.number, manifest.next_number, manifest.last_seq, manifest.min_wal),
            count if is_possible else UNKNOWN_COUNT,
        ),
        encode_shape(manifest.shape),
        _KEPT.pack(keep_bytes, *manifest.prev_log) if keep_bytes else b"",
        U32.pack(sum(map(len, manifest.levels))),
    ]
    parts += [encode_table(level, meta) for level, metas in enumerate(manifest.levels) for meta in metas]
    body = b"".join(parts)
    body += U64.pack(len(body) + _TAIL.size)
    return body + U32.pack(crc32(body, _seed(manifest.number))) + END_MAGIC


def encode_shape(shape: Mapping[str, object]) -> bytes:
    """Return the options that shape the files as bytes."""
    fields = _SHAPE.pack(
        shape["block_bytes"],
        COMPRESSIONS.index(shape["compression"]) | (DICTIONARIES if shape["dictionaries"] else 0),
        shape["compression_level"],
        shape["bloom_bits_per_key"],
        COMPACTIONS.index(str(shape["compaction"])),
    )
    return fields + (U64.pack(shape["max_bytes"]) if shape["compaction"] == "fifo" else b"")


def encode_table(level: int, meta: TableMeta) -> bytes:
    """Return what is known of a table as bytes."""
    fields = _TABLE.pack(
        *(
            level | HOLED if meta.holes else level,
            meta.number,
            meta.file_bytes,
            meta.footer_crc,
            meta.entries,
            meta.tombstones,
        ),
        *(meta.raw_bytes, meta.first_seq, meta.last_seq),
    )
    known = fields + counted(meta.smallest) + counted(meta.largest)
    if not meta.holes:
        return known
    holes = [counted(start) + counted(stop) for start, stop in meta.holes]
    return b"".join((known, U32.pack(len(holes)), *holes))


def decode(data: bytes, number: int) -> Manifest:
    """Return the manifest in the file of this number.

    Raises:
        Malformed: the file is no manifest: cut short, damaged, of another number, or at odds with itself.
        Unsupported: it is whole, and of a newer format.
    """
    _check(data, number)
    cursor = Cursor(data[: -_TAIL.size])
    version, oldest_reader, features = _FIXED.unpack(cursor.take(_FIXED.size))[1:4]
    if oldest_reader > FORMAT_VERSION or features & ~KNOWN_FEATURES:
        raise Unsupported(
            f"database of format {version} with features {features:#x}; this version reads format"
            f" {FORMAT_VERSION} with features {KNOWN_FEATURES:#x}"
        )
    uuid, own, next_number, last_seq, min_wal, live_count = _FIXED.unpack_from(data)[4:]
    shape = decode_shape(cursor)
    prev_log = _decode_kept(cursor, shape, min_wal, last_seq) if features & KEPT else NO_LOG
    levels: list[list[TableMeta]] = []
    tables = cursor.unpack(U32)[0]
    if tables > MAX_TABLES:
        raise Malformed(f"{tables} tables: the limit is {MAX_TABLES}")
    for _ in range(tables):
        level, meta = decode_table(cursor)
        if meta.holes and not features & HOLES:
            raise Malformed(f"table {meta.number} has holes, which the features deny")
        if not len(levels) - 1 <= level < MAX_LEVELS or _overlaps(levels, level, meta):  # rule 3
            raise Malformed(f"table {meta.number} in level {level} is out of order")
        levels += [[] for _ in range(level + 1 - len(levels))]
        levels[level].append(meta)
    cursor.finish()
    count = None if live_count == UNKNOWN_COUNT else live_count
    numbers = [meta.number for metas in levels for meta in metas]
    highest = max(own, min_wal - 1, *numbers)
    if own != number or not highest < next_number <= MAX_NUMBER or len(numbers) != len(set(numbers)):
        raise Malformed(f"manifest {own}, next number {next_number}, in the file of number {number}")
    if not min_wal:  # 0 says of a log that none is before it
        raise Malformed("log 0 is needed")
    if max(last_seq, count or 0) > MAX_NUMBER:
        raise Malformed(f"last sequence {last_seq}, {count} keys")
    found = tuple(map(tuple, levels))
    return Manifest(uuid, own, next_number, last_seq, min_wal, count, shape, found, prev_log)


def _check(data: bytes, number: int) -> None:
    if len(data) < _FIXED.size + _TAIL.size or data[:4] != MAGIC:
        raise Malformed("no manifest")
    total, crc, magic = _TAIL.unpack_from(data, len(data) - _TAIL.size)
    if magic != END_MAGIC or total != len(data):
        raise Malformed("manifest cut short")
    if crc != crc32(data[: -_TAIL.size + U64.size], _seed(number)):
        raise Malformed("checksum of the manifest does not match")


def decode_shape(cursor: Cursor) -> dict[str, object]:
    """Return the options that `encode_shape` made bytes of."""
    block_bytes, compression, level, bloom_bits, compaction = cursor.unpack(_SHAPE)
    if compression & ~DICTIONARIES >= len(COMPRESSIONS) or compaction >= len(COMPACTIONS):
        raise Unsupported(f"compression {compression} or compaction {compaction} is unknown")
    shape: dict[str, object] = {
        "block_bytes": block_bytes,
        "compression": COMPRESSIONS[compression & ~DICTIONARIES],
        "compression_level": level,
        "dictionaries": bool(compression & DICTIONARIES),
        "bloom_bits_per_key": bloom_bits,
        "compaction": COMPACTIONS[compaction],
        "max_bytes": None,
        "log_keep_bytes": 0,  # of a database, `decode` sees to it; its tables know nothing of logs
    }
    if shape["compaction"] == "fifo":
        (shape["max_bytes"],) = cursor.unpack(U64)
    _check_shape(shape)
    return shape


def _check_shape(shape: Mapping[str, object]) -> None:
    try:
        Options.choose(shape)
    except ValueError as exc:
        raise Unsupported(f"database was written with {exc}") from None


def _decode_kept(
    cursor: Cursor, shape: dict[str, object], min_wal: int, last_seq: int
) -> tuple[int, int, int]:  # rule 6
    shape["log_keep_bytes"], number, end, log_last_seq = cursor.unpack(_KEPT)
    _check_shape(shape)
    if not shape["log_keep_bytes"] or number >= max(1, min_wal) or log_last_seq > last_seq:
        raise Malformed(f"log {number}, up to sequence {log_last_seq}, is kept for nothing")
    return number, end, log_last_seq


def decode_table(cursor: Cursor) -> tuple[int, TableMeta]:
    """Return level and table that `encode_table` made bytes of."""
    level, number, file_bytes, crc, entries, tombstones, raw_bytes, first, last = cursor.unpack(_TABLE)
    smallest, largest = cursor.counted(), cursor.counted()
    if smallest > largest or max(len(smallest), len(largest)) > MAX_KEY_BYTES:
        raise Malformed(f"bounds of table {number} are wrong")
    if not tombstones <= entries <= MAX_NUMBER or not entries or not file_bytes:
        raise Malformed(f"table {number} of {entries} entries, {tombstones} deletions, {file_bytes} bytes")
    holes = _decode_holes(cursor, number, smallest, largest) if level & HOLED else ()
    return level & ~HOLED, TableMeta(
        number, file_bytes, crc, entries, tombstones, raw_bytes, first, last, smallest, largest, holes
    )


def _decode_holes(cursor: Cursor, number: int, smallest: bytes, largest: bytes) -> Intervals:  # rule 5
    count, holes, last = cursor.unpack(U32)[0], [], None
    if not count:
        raise Malformed(f"table {number} has no hole")
    for _ in range(count):
        start, stop = cursor.counted(), cursor.counted()
        is_first = start >= smallest if last is None else start > last
        if not is_first or not start < stop <= largest + b"\0":
            raise Malformed(f"holes of table {number} are out of order, or outside of its bounds")
        holes.append((start, stop))
        last = stop
    if holds_all(tuple(holes), smallest, largest):
        raise Malformed(f"table {number} is void")
    return tuple(holes)


def _overlaps(levels: list[list[TableMeta]], level: int, meta: TableMeta) -> bool:
    return 0 < level < len(levels) and meta.smallest <= levels[level][-1].largest


def _seed(number: int) -> int:
    return crc32(U64.pack(number))
