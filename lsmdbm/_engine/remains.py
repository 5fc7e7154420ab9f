"""Remains: what can still be read of the tables and the logs of a damaged database.

Rules
  1. What cannot be read is listed as a loss, with the bounds of its keys if they are known; what may be wrong
     because of that, as a doubt.
  2. Of a table whose index cannot be read, blocks are looked for: see salvage.py.
  3. Records behind a damaged place of a log are taken too, and are a doubt: what was lost in between may
     have deleted or replaced what they leave.

Thread safety: pure functions over files.  Spec: docs/operations.md, Repair.
"""

from __future__ import annotations

from collections.abc import Iterator

from lsmdbm._base.chunk import Chunk, Chunks
from lsmdbm._base.errors import CorruptionError, error
from lsmdbm._base.intervals import spared_chunks
from lsmdbm._base.lru import LRU
from lsmdbm._base.storage import File
from lsmdbm._engine.check import is_damage, read_log
from lsmdbm._engine.findings import Findings, Loss
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.names import TABLE, WAL, file_name, numbers
from lsmdbm._engine.recovery import apply, replay
from lsmdbm._engine.seniority import Relic
from lsmdbm._format import log_reader, records, salvage
from lsmdbm._format.coding import MAX_NUMBER, Malformed, Unsupported
from lsmdbm._format.manifest import Manifest
from lsmdbm._format.records import HEADER_BYTES, LogHeader, Record
from lsmdbm._format.table_reader import ReadCounters, TableReader

GARBLED = 16  # places of a log that are listed one by one


# Tables


def chunks_of(run: list[Relic], work: Findings) -> Chunks:
    """Yield what can be read of some tables, one after the other."""
    for table in run:
        path, meta = work.path(table.number, TABLE), table.meta
        low, high = (meta.smallest, meta.largest) if meta is not None else (None, None)
        try:
            yield from spared_chunks(_entries_of(table, work), meta.holes if meta is not None else ())
            work.tables += 1
        except error as exc:
            work.lose(exc, path, low, high)
            _doubt_deletions(path, -1, work)
        work.read_bytes += table.file_bytes


def _entries_of(table: Relic, work: Findings) -> Chunks:
    """Yield what can be read of one table.

    Raises:
        error: nothing can.
    """
    file = work.directory.open(file_name(table.number, TABLE))
    meta = table.meta
    if meta is None:
        cause = CorruptionError(file.path, -1, "footer and metadata are damaged")
    else:
        try:
            reader = TableReader(file, meta, LRU(0), ReadCounters())
        except CorruptionError as exc:
            cause = exc
        else:
            yield from _blocks_of(reader, file.path, work)
            return
    yield from _blocks_found(file, table, cause, work)


def _blocks_of(reader: TableReader, path: str, work: Findings) -> Chunks:
    """Yield the blocks of a table that can be read, and what is left of the others: their deletions."""
    separators = reader.separators()
    for index in range(reader.block_count):
        low = separators[index - 1] if index else reader.meta.smallest
        try:
            yield _unique(reader.block_chunk(index, index + 1), path, work)
        except error as exc:
            loss = work.lose(exc, path, low, separators[index])
            try:
                keys, values = reader.block_keys(index)
            except error:
                _doubt_deletions(path, loss.offset, work)
                continue
            deleted = [key for key, value in zip(keys, values, strict=True) if value is None]
            what = f"{len(keys) - len(deleted)} values lost; older ones of these keys may have come back"
            work.doubt(path, loss.offset, what)
            if deleted:
                yield deleted, [None] * len(deleted)


def _blocks_found(file: File, table: Relic, cause: CorruptionError, work: Findings) -> Chunks:
    """Yield the blocks of a table in which they have to be looked for."""  # rule 2
    path, number, meta = file.path, table.number, table.meta
    data = file.pread(file.size(), 0)
    try:
        found = salvage.outline(data, number)
    except Malformed:
        raise cause from None  # header and footer both
    if meta is not None and meta.footer_crc and found.footer_crc not in (None, meta.footer_crc):
        raise cause  # another table under this name
    work.losses += [
        Loss(
            path,
            gap.offset,
            f"{gap.end - gap.offset} bytes hold no block that can be read",
            gap.low,
            gap.high,
        )
        for gap in found.gaps
    ]
    what = f"{cause.reason}: {len(found.handles)} blocks were found without it"
    work.doubt(path, cause.offset, what)
    if found.gaps:
        _doubt_deletions(path, found.gaps[0].offset, work)
    entries, last = 0, None
    for handle in found.handles:
        chunk = _unique(found.chunk(data[handle.offset : handle.end], handle), path, work)
        yield chunk
        entries, last = entries + len(chunk[0]), chunk[0][-1]
    if not found.is_whole and (meta is None or entries < meta.entries):
        high = meta.largest if meta is not None else None
        work.losses.append(Loss(path, found.end, "no index: blocks may be missing from here on", last, high))
        _doubt_deletions(path, found.end, work)


def _unique(chunk: Chunk, path: str, work: Findings) -> Chunk:
    keys, values = chunk
    if len(set(keys)) == len(keys):
        return chunk
    work.doubt(path, -1, "a key twice in one block")
    entries = dict(zip(keys, values, strict=True))
    return list(entries), list(entries.values())


def _doubt_deletions(path: str, offset: int, work: Findings) -> None:
    work.doubt(path, offset, "deletions and newer values may be lost: what they had replaced may be back")


# Logs


def read_logs(manifest: Manifest | None, tables: list[Relic], work: Findings) -> tuple[Memtable, int, int]:
    """Return what the logs hold, the last sequence of all, and that of the last clear() in them, or 0."""
    if manifest is not None:
        try:
            recovered = replay(work.directory, work.names, manifest)
        except error as exc:
            if not is_damage(exc):
                raise
            work.lose(exc, str(exc.filename or work.directory.path))
        else:
            _note_logs(manifest, work)
            cleared = MAX_NUMBER if recovered.is_cleared else 0
            return recovered.memtable, recovered.next_seq - 1, cleared
    held = max((table.origin.last_seq for table in tables), default=0)
    return _salvage_logs(manifest, held if manifest is None else manifest.last_seq, work)


def _note_logs(manifest: Manifest, work: Findings) -> None:
    """Count the records of logs that recovery can make sense of, and list where they end early."""
    for number in numbers(work.names, WAL):
        if number >= manifest.min_wal:
            log = read_log(work.directory, number)
            work.records += log.records
            if log.note is not None:
                work.doubts.append(log.note)


def _salvage_logs(manifest: Manifest | None, held: int, work: Findings) -> tuple[Memtable, int, int]:
    """Do what `read_logs` does, with every record that verifies.

    Args:
        held: the last sequence that tables hold.  Records up to it are used only if those that follow lead
            without a gap beyond it: else they would put older values above newer ones.
    """
    memtable, expected, cleared = Memtable(held + 1), 0, 0
    given_up: set[str] = set()
    for path, record in _records_of(manifest, work):
        if path in given_up or record.seq < expected:
            given_up.add(path)  # a later log went on from before this record
            continue
        if record.seq > max(expected, held + 1):
            what = "records before this one are lost; what follows is applied without them"  # rule 3
            work.doubt(path, record.offset, what)
        if record.seq != expected and expected <= held:
            memtable.forget()
        try:
            change = records.decode_change(record)
        except Malformed as exc:
            work.losses.append(Loss(path, record.offset, str(exc)))
            continue
        work.records += 1
        expected = record.last_seq + 1
        cleared = record.seq if change.clears else cleared
        apply(memtable, change, record.end - record.offset)
    if expected <= held:
        memtable.forget()
    return memtable, max(held, expected - 1), cleared


def _records_of(manifest: Manifest | None, work: Findings) -> Iterator[tuple[str, Record]]:
    """Yield the data records of the logs that count, in the order of their sequences."""
    lowest = manifest.min_wal if manifest is not None else 0
    opened = ((number, _open_log(number, work)) for number in numbers(work.names, WAL) if number >= lowest)
    logs = {number: header for number, header in opened if header is not None}
    ends = {header.prev: header.prev_end for header in logs.values()}
    for number, header in sorted(logs.items(), key=lambda log: (log[1].first_seq, log[0])):
        file = work.directory.open(file_name(number, WAL))
        data = file.pread(file.size(), 0)
        for record in _all_records(data, header, file.path, work):
            if not records.is_mark(record) and record.end <= ends.get(number, len(data)):
                yield file.path, record


def _open_log(number: int, work: Findings) -> LogHeader | None:
    """Return the header of a log, or if it is damaged, the copy of it in a mark."""
    path = work.path(number, WAL)
    try:
        file = work.directory.open(file_name(number, WAL))
        data = file.pread(file.size(), 0)
    except error as exc:
        work.lose(exc, path)
        return None
    try:
        return LogHeader.decode(data, number)
    except Unsupported as exc:
        raise error(f"{path}: {exc}") from None
    except Malformed as exc:
        found = log_reader.find_mark(data, number)
        if found is None:
            work.losses.append(Loss(path, 0, f"{exc}, and no mark is left that repeats it"))
        else:
            work.doubt(path, 0, f"{exc}: the copy in a mark was used")
        return found


def _all_records(data: bytes, header: LogHeader, path: str, work: Findings) -> Iterator[Record]:
    """Yield every record of a log that verifies."""  # rule 3
    end = HEADER_BYTES
    try:
        for place, record in enumerate(log_reader.scattered(data, header, HEADER_BYTES)):
            if record.offset > end and place < GARBLED:
                work.losses.append(Loss(path, end, f"{record.offset - end} bytes are no records"))
            end = record.end
            yield record
    except Malformed as exc:
        work.losses.append(Loss(path, end, str(exc)))
        return
    if not log_reader.is_blank(data, end):
        work.losses.append(Loss(path, end, f"{len(data) - end} bytes at the end are no records"))
