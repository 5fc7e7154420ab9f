"""Log reader: which records the bytes of a log hold - in order, or wherever they begin.

Rules
  1. Those who open a log read it in order, up to the first invalid record.  What stands behind that is looked
     at for promises that it breaks, and for salvage.
  2. A search at every offset is bounded: no file makes it take time that is quadratic in its length.

Thread safety: pure functions.  Spec: docs/format.md, Log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lsmdbm._format import records
from lsmdbm._format.coding import Malformed
from lsmdbm._format.records import HEADER_BYTES, MAGIC, RECORD, RECORD_BYTES, LogHeader, Record, is_mark

_WRITTEN = re.compile(rb"[^\0]")


def in_order(data: bytes, header: LogHeader, start: int = HEADER_BYTES) -> Iterator[Record]:
    """Yield the records of a log in order, up to the first invalid one.  About 2 us each."""
    seed, offset = header.seed, start
    expected = header.first_seq if start == HEADER_BYTES else None
    while (record := records.record_at(data, offset, seed)) is not None:
        if expected is not None and record.seq != expected:  # rule 2
            return
        yield record
        offset, expected = record.end, record.seq + record.count


def is_blank(data: bytes, start: int) -> bool:
    """Return whether nothing but zeros stands at and behind `start`."""  # rule 4
    return data.endswith(bytes(len(data) - start))


def _next_place(data: bytes, offset: int) -> int:
    """Return the next offset at which a record may begin, if none does here.  No record is all zeros."""
    if any(data[offset : offset + RECORD_BYTES]):
        return offset + 1
    written = _WRITTEN.search(data, offset + RECORD_BYTES)
    return written.start() - RECORD_BYTES + 1 if written is not None else len(data)


def scattered(data: bytes, header: LogHeader, start: int) -> Iterator[Record]:
    """Yield every valid record at or behind `start`, wherever it begins.

    Looks at every offset, about 0.3 s a MiB: for damaged logs only.

    Raises:
        Malformed: finding out would take checksums over more than four times the file.
    """
    seed, first_seq = header.seed, header.first_seq
    budget = 4 * len(data)
    offset, last = start, len(data) - RECORD_BYTES
    unpack = RECORD.unpack_from
    while offset <= last:
        _, length, seq, count, durable = unpack(data, offset)
        room = len(data) - offset - RECORD_BYTES
        if not first_seq <= seq <= first_seq + offset or max(length, count) > room or durable > offset:
            offset = offset + 1 if seq else _next_place(data, offset)
            continue
        budget -= length + RECORD_BYTES
        if budget < 0:
            raise Malformed("too much of the log looks like records")
        record = records.record_at(data, offset, seed)
        if record is None:
            offset += 1
        else:
            yield record
            offset = record.end


def promises(data: bytes, header: LogHeader, start: int) -> Iterator[int]:
    """Yield what the records that `scattered` finds promise, if they do: the `durable` of each.

    Costs and errors are those of `scattered`.
    """
    return (record.durable for record in scattered(data, header, start) if record.durable)


def find_mark(data: bytes, number: int) -> LogHeader | None:
    """Return the header in a valid mark of log `number`, anywhere in `data`; None if there is no mark.

    A mark carries a copy of the header: it shows that the log had been synced once, even if the header
    itself is damaged.
    """
    place = data.find(MAGIC, RECORD_BYTES)
    while place >= 0:
        try:
            header = LogHeader.decode(data[place : place + HEADER_BYTES])
        except Malformed:
            pass
        else:
            length = RECORD.unpack_from(data, place - RECORD_BYTES)[1]
            if header.number == number and length == HEADER_BYTES:  # looked at first: this stays linear
                record = records.record_at(data, place - RECORD_BYTES, header.seed)
                if record is not None and is_mark(record):
                    return header
        place = data.find(MAGIC, place + 1)
    return None
