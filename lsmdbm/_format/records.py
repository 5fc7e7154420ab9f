"""Log: a header, then records, each one write call or one whole batch.

    log     := header | record*
    header  := magic "LSMW" | version u32 | number u64 | salt u64 | first_seq u64
               | prev u64 | prev_end u32 | prev_last_seq u64 | crc u32                      56 bytes
    record  := crc u32 | length u32 | seq u64 | count u32 | durable u32 | payload           24 + length
    payload := kind u8 | body
      1 PUT     key_length u32 | key | value
      2 DELETE  key
      3 CHUNK   key_column_bytes u32 | tombstones_bytes u32 | column of keys | positions of the
                deleted ones | column of the other values, if any                keys in any order
      4 CLEAR   nothing: every older write is void
      5 RANGES  ranges u32 | range[ranges] | what follows the kind in a CHUNK, if there are keys:
                older writes in the ranges are void, then the keys are set
    range   := start counted | stop counted          start is in, stop is out, none (empty) at the end
                                                     of all keys; counted := length u32 | bytes
    mark    := a record with count 0 whose payload is the header of the log, without a kind

Rules
  1. `crc` of a record covers all bytes after it, seeded with `file_seed(number, salt)`.  Who supplies
     values does not know the salt, so no value can look like a record.
  2. A record covers the sequences seq .. seq + count - 1; the next one starts at seq + count.
  3. `durable` is an offset in this log known to survive power loss when the record was encoded, 0 for
     none.  It never lies behind the record itself.  56 or more promises that all earlier logs
     are durable, or flushed, too.
  4. The log ends at its first invalid record.  What stands behind, zeros where room was allocated ahead,
     matters only for the promises in it.
  5. A reader refuses kinds that it does not know.
  6. The ranges of a record are ascending and do not touch.  Each is one operation, and so is each key.

Thread safety: pure functions.  Spec: docs/format.md, Log.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from lsmdbm._base.chunk import MAX_KEY_BYTES
from lsmdbm._base.intervals import ABOVE_ALL, MAX_BOUND_BYTES, Intervals
from lsmdbm._format.coding import (
    FORMAT_VERSION,
    MAX_NUMBER,
    U32,
    Cursor,
    Malformed,
    Unsupported,
    counted,
    crc32,
    file_seed,
)
from lsmdbm._format.columns import decode as decode_column
from lsmdbm._format.columns import decode_positions, encode_positions, spread
from lsmdbm._format.columns import encode as encode_column

MAGIC = b"LSMW"  # On disk: never changes.
PUT, DELETE, CHUNK, CLEAR, RANGES = 1, 2, 3, 4, 5  # On disk: never changes.
MAX_PAYLOAD_BYTES = (1 << 31) - 1
MAX_LOG_FILE_BYTES = (1 << 32) - 1  # so that `prev_end` can say where it ends

_HEADER = Struct("<4sIQQQQIQ")
RECORD = Struct("<IIQII")
_AFTER_CRC = Struct("<IQII")
_PUT = Struct("<IQIIBI")
_DELETE = Struct("<IQIIB")
_PUT_PAYLOAD = Struct("<BI")
_COLUMNS = Struct("<II")
_RANGES = Struct("<BI")
HEADER_BYTES = _HEADER.size + U32.size
RECORD_BYTES = RECORD.size
MARK_BYTES = RECORD_BYTES + HEADER_BYTES


class LogHeader(NamedTuple):
    """The first bytes of a log: who it is, and which log it goes on from."""

    number: int
    salt: int
    first_seq: int
    prev: int = 0  # number of the log before it in the chain; 0 if there is none
    prev_end: int = 0  # end of the last data record of that log
    prev_last_seq: int = 0

    @property
    def seed(self) -> int:
        """The crc32 seed of every record in the log."""
        return file_seed(self.number, self.salt)

    def encode(self) -> bytes:
        """Return the 56 bytes of the header."""
        fields = _HEADER.pack(
            *(MAGIC, FORMAT_VERSION, self.number, self.salt, self.first_seq),
            *(self.prev, self.prev_end, self.prev_last_seq),
        )
        return fields + U32.pack(crc32(fields))

    @classmethod
    def decode(cls, data: bytes, number: int | None = None) -> LogHeader:
        """Return the header in the first bytes of `data`.

        Args:
            number: which the log must have, if that is known.

        Raises:
            Malformed: magic or checksum is wrong, a number out of its range, or it is another log.
            Unsupported: the log is of a newer format.
        """
        if len(data) < HEADER_BYTES or data[:4] != MAGIC:
            raise Malformed("no log header")
        if U32.unpack_from(data, _HEADER.size)[0] != crc32(data[: _HEADER.size]):
            raise Malformed("checksum of the log header does not match")
        _, version, *fields = _HEADER.unpack_from(data)
        if version > FORMAT_VERSION:
            raise Unsupported(f"log of format {version}; this version reads format {FORMAT_VERSION}")
        header = cls(*fields)
        if not header.prev < header.number <= MAX_NUMBER:
            raise Malformed(f"log {header.number} goes on from log {header.prev}")
        if not 0 < header.first_seq <= MAX_NUMBER or header.prev_last_seq > MAX_NUMBER:
            raise Malformed(f"sequence {header.first_seq} after {header.prev_last_seq}")
        if number not in (None, header.number):
            raise Malformed(f"log {header.number} under the name of log {number}")
        return header


class Record(NamedTuple):
    """One valid record of a log."""

    offset: int
    end: int
    seq: int
    count: int  # type: ignore[assignment]  # of operations, 0 in a mark; not what a tuple has under the name
    durable: int
    payload: bytes

    @property
    def last_seq(self) -> int:
        """The sequence of its last operation; of the one before it, in a mark."""
        return self.seq + self.count - 1


class Change(NamedTuple):
    """What one record does: void all that is older if `clears`, what is in `ranges` of it; then set keys."""

    keys: Sequence[bytes]
    values: Sequence[bytes | None]
    clears: bool = False
    ranges: Intervals = ()


def encode_put(seed: int, seq: int, durable: int, key: bytes, value: bytes) -> bytes:
    """Return the record of one put.  About 600 ns."""
    size = len(key)
    tail = _PUT.pack(5 + size + len(value), seq, 1, durable, PUT, size) + key + value
    return U32.pack(crc32(tail, seed)) + tail


def encode_delete(seed: int, seq: int, durable: int, key: bytes) -> bytes:
    """Return the record of one deletion."""
    tail = _DELETE.pack(1 + len(key), seq, 1, durable, DELETE) + key
    return U32.pack(crc32(tail, seed)) + tail


def encode_chunk(
    seed: int, seq: int, durable: int, keys: Sequence[bytes], values: Sequence[bytes | None]
) -> bytes:
    """Return the record of a whole batch; `None` among the values deletes.  Keys are unique.

    Raises:
        ValueError: the batch is larger than a record may be.
    """
    return _encode(seed, seq, len(keys), durable, _joined([bytes((CHUNK,)), *_columns(keys, values)]))


def encode_ranges(
    seed: int,
    seq: int,
    durable: int,
    ranges: Intervals,
    keys: Sequence[bytes] = (),
    values: Sequence[bytes | None] = (),
) -> bytes:
    """Return the record that voids what is older in some ranges, and then sets keys as `encode_chunk` does.

    Raises:
        ValueError: it is larger than a record may be.
    """
    parts = [_RANGES.pack(RANGES, len(ranges))]
    for start, stop in ranges:
        parts += [counted(start), counted(b"" if stop == ABOVE_ALL else stop)]
    if keys:
        parts += _columns(keys, values)
    return _encode(seed, seq, len(ranges) + len(keys), durable, _joined(parts))


def _columns(keys: Sequence[bytes], values: Sequence[bytes | None]) -> list[bytes]:
    key_column = encode_column(keys)
    deleted = [position for position, value in enumerate(values) if value is None] if None in values else []
    positions = encode_positions(deleted)
    live = [value for value in values if value is not None] if deleted else values
    value_column = encode_column(live) if live else b""  # type: ignore[arg-type]  # no None is left
    _check_size(len(key_column))
    return [_COLUMNS.pack(len(key_column), len(positions)), key_column, positions, value_column]


def _joined(parts: list[bytes]) -> bytes:
    _check_size(sum(map(len, parts)))
    return b"".join(parts)


def _check_size(size: int) -> None:
    if size > MAX_PAYLOAD_BYTES:
        raise ValueError(f"batch of {size} bytes: the limit is {MAX_PAYLOAD_BYTES}")


def encode_clear(seed: int, seq: int, durable: int) -> bytes:
    """Return the record that voids every older write."""
    return _encode(seed, seq, 1, durable, bytes((CLEAR,)))


def encode_mark(seed: int, seq: int, durable: int, header: LogHeader) -> bytes:
    """Return the mark that follows a sync; `seq` is the sequence of the next operation."""
    return _encode(seed, seq, 0, durable, header.encode())


def _encode(seed: int, seq: int, count: int, durable: int, payload: bytes) -> bytes:
    tail = _AFTER_CRC.pack(len(payload), seq, count, durable) + payload
    return U32.pack(crc32(tail, seed)) + tail


def moved(record: bytes, seed: int) -> bytes:
    """Return a record as it stands in another log, of which nothing is known to be durable."""
    length, seq, count, _ = _AFTER_CRC.unpack_from(record, U32.size)
    return _encode(seed, seq, count, 0, record[RECORD_BYTES : RECORD_BYTES + length])


def payload_bytes(head: bytes) -> int:
    """Return the length that the first 24 bytes of a record say of its payload; 0 if they are fewer."""
    return int(RECORD.unpack(head)[1]) if len(head) == RECORD_BYTES else 0


def decode_change(record: Record) -> Change:
    """Return what a data record does.

    Raises:
        Malformed: the payload is none, or has a key over the limit.
        Unsupported: its kind is of a newer format.
    """
    payload, count = record.payload, record.count
    kind = payload[0] if payload else 0
    if kind == PUT and len(payload) >= _PUT_PAYLOAD.size:
        size = _PUT_PAYLOAD.unpack_from(payload)[1]
        end = _PUT_PAYLOAD.size + size
        if count == 1 and size <= MAX_KEY_BYTES and end <= len(payload):
            return Change((payload[_PUT_PAYLOAD.size : end],), (payload[end:],))
    elif kind == DELETE and count == 1 and len(payload) <= 1 + MAX_KEY_BYTES:
        return Change((payload[1:],), (None,))
    elif kind == CHUNK and len(payload) > _COLUMNS.size:
        return _decode_chunk(payload, 1, count, ())
    elif kind == CLEAR and count == 1 and len(payload) == 1:
        return Change((), (), clears=True)
    elif kind == RANGES and len(payload) >= _RANGES.size:
        return _decode_ranges(payload, count)
    elif kind > RANGES:
        raise Unsupported(f"record of kind {kind} is of a newer format")
    raise Malformed(f"payload of a record of kind {kind} is damaged")


def _decode_ranges(payload: bytes, count: int) -> Change:
    cursor = Cursor(payload)
    range_count = cursor.unpack(_RANGES)[1]
    if not 0 < range_count <= min(count, len(payload)):
        raise Malformed(f"{range_count} ranges in a record of {count} operations")
    ranges, last = [], None
    for _ in range(range_count):
        start, stop = cursor.counted(), cursor.counted() or ABOVE_ALL
        if not start < stop or max(len(start), len(stop)) > MAX_BOUND_BYTES:
            raise Malformed("bounds of a range are wrong")
        if last is not None and start <= last:  # rule 6
            raise Malformed("ranges are out of order")
        ranges.append((start, stop))
        last = stop
    if count > range_count:
        return _decode_chunk(payload, cursor.position, count - range_count, tuple(ranges))
    cursor.finish()
    return Change((), (), ranges=tuple(ranges))


def _decode_chunk(payload: bytes, start: int, count: int, ranges: Intervals) -> Change:
    keys_start = start + _COLUMNS.size
    if keys_start > len(payload):
        raise Malformed("columns of a record cut short")
    key_bytes, position_bytes = _COLUMNS.unpack_from(payload, start)
    keys_end = keys_start + key_bytes
    positions_end = keys_end + position_bytes
    if positions_end > len(payload) or not 0 < count <= len(payload):
        raise Malformed("columns of a record cut short")
    keys = decode_column(payload[keys_start:keys_end], count)
    if key_bytes > MAX_KEY_BYTES and max(map(len, keys)) > MAX_KEY_BYTES:
        raise Malformed("key over the limit")
    deleted = decode_positions(payload[keys_end:positions_end], count)
    column = payload[positions_end:]
    live = decode_column(column, count - len(deleted)) if column else []
    if len(live) + len(deleted) != count:
        raise Malformed(f"{len(live)} values and {len(deleted)} deletions for {count} keys")
    return Change(keys, spread(live, deleted), ranges=ranges)


def is_mark(record: Record) -> bool:
    """Return whether this is a mark, not data."""
    return record.count == 0


def record_at(data: bytes, offset: int, seed: int, base: int = 0) -> Record | None:
    """Return the valid record at `offset`, None if there is none.

    Args:
        base: where in the log `data` begins.
    """
    start = offset - base
    if start + RECORD_BYTES > len(data):
        return None
    crc, length, seq, count, durable = RECORD.unpack_from(data, start)
    end = start + RECORD_BYTES + length
    if length > MAX_PAYLOAD_BYTES or end > len(data) or durable > offset:
        return None
    if crc32(memoryview(data)[start + U32.size : end], seed) != crc:
        return None
    return Record(offset, end + base, seq, count, durable, data[start + RECORD_BYTES : end])
