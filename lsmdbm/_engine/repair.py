"""Repair: all that can still be read of a damaged database, in a new one.

    (1) which tables there are, and in which order: from a manifest that verifies, else from themselves
    (2) what the logs hold: as recovery replays them, else every record that verifies
    (3) both merged, newest first, into the tables of one level of a new database

Rules
  1. The source is read, nothing else.
  2. What cannot be read is listed as a loss, with the bounds of its keys if they are known; what may be wrong
     because of that, or because the order had to be guessed, as a doubt.
  3. Of a table whose index cannot be read, blocks are looked for: see salvage.py.
  4. Records behind a damaged place of a log are taken too, and are a doubt: what was lost in between may
     have deleted or replaced what they leave.
  5. Without a manifest, an input of a compaction is dropped if not all inputs of it are there any more: then
     it had been installed.  If all are there, they and the outputs say the same.  Of two tables with
     a key in common the one whose sequences are all higher is newer; if those overlap, the one
     that was written for the upper level, which may have been moved down since: a doubt.

Thread safety: pure functions over files.  Spec: docs/operations.md, Repair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lsmdbm._base.chunk import Chunk, Chunks
from lsmdbm._base.errors import CorruptionError, NotFoundError, error
from lsmdbm._base.intervals import spared_chunks
from lsmdbm._base.lru import LRU
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Directory, File, Storage
from lsmdbm._engine.check import Problem, Work, problem_of, read_log
from lsmdbm._engine.destination import Destination
from lsmdbm._engine.jobs import rewrite
from lsmdbm._engine.memtable import Memtable, sources
from lsmdbm._engine.merge import merge, visible
from lsmdbm._engine.names import MANIFEST, TABLE, WAL, file_name, numbers, parse
from lsmdbm._engine.plan import Limits
from lsmdbm._engine.recovery import newest_manifest, replay
from lsmdbm._format import records, salvage
from lsmdbm._format.coding import MAX_NUMBER, Malformed, Unsupported
from lsmdbm._format.manifest import MAX_LEVELS, Manifest, TableMeta
from lsmdbm._format.records import HEADER_BYTES, LogHeader, Record
from lsmdbm._format.table_reader import ReadCounters, TableReader, describe
from lsmdbm._format.table_writer import Origin

UUID_BYTES = 16
GARBLED = 16  # places of a log that are listed one by one


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that could not be read."""

    path: str
    offset: int  # bytes from the start of the file; -1 when the file as a whole is meant
    what: str
    low: bytes | None = None
    """No key that was lost here is below this; None if that is not known."""
    high: bytes | None = None
    """No key that was lost here is above this; None if that is not known."""

    def __str__(self) -> str:
        return str(Problem(self.path, self.offset, self.what))


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What `repair()` did.  True if nothing is lost and nothing in doubt."""

    path: str
    destination: str
    losses: tuple[Loss, ...]
    """What could not be read."""
    doubts: tuple[Problem, ...]
    """What may be wrong in the result: deleted keys that are back, older values of keys."""
    tables: int
    """Tables of which something was read."""
    records: int
    """Data records of logs that were used."""
    entries: int
    """Keys in the new database."""

    @property
    def ok(self) -> bool:
        """Whether the new database is known to hold all that the old one held."""
        return not self.losses and not self.doubts

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of the source."""

    number: int
    meta: TableMeta | None  # None if nothing tells
    origin: Origin  # as the table says, or for want of that, of the oldest of all

    @property
    def file_bytes(self) -> int:
        return self.meta.file_bytes if self.meta is not None else 0


@dataclass(slots=True)
class _Repair:
    """The findings so far."""

    directory: Directory
    names: list[str]
    losses: list[Loss] = field(default_factory=list)
    doubts: list[Problem] = field(default_factory=list)
    tables: int = 0
    records: int = 0
    read_bytes: int = 0

    def path(self, number: int, kind: str) -> str:
        return f"{self.directory.path}/{file_name(number, kind)}"

    def doubt(self, path: str, offset: int, what: str) -> None:
        self.doubts.append(Problem(path, offset, what))

    def lose(self, exc: error, path: str, low: bytes | None = None, high: bytes | None = None) -> None:
        """List what an error says as a loss."""
        found = problem_of(exc, path)
        self.losses.append(Loss(found.path, found.offset, found.what, low, high))


def repair(storage: Storage, directory: Directory, destination: str) -> Work[RepairReport]:
    """Salvage the database in a directory into a new one, and return the report.

    Raises:
        NotFoundError: there is nothing of a database.
        error: it is of a newer format; the destination holds something; the system refuses something there.
    """
    names = sorted(directory.listdir())
    if not any(map(parse, names)):
        raise NotFoundError.at(directory.path)
    work = _Repair(directory, names)
    manifest = _trusted_manifest(work)
    options = Options.choose({}, manifest.shape if manifest is not None else None)
    with Destination(storage, destination, directory, options, 1) as target:
        tables = _tables_of(manifest) if manifest is not None else _tables_found(work)
        memtable, last_seq, cleared = _read_logs(manifest, tables, work)
        tables = [table for table in tables if table.origin.last_seq >= cleared]
        total = sum(table.file_bytes for table in tables)
        level = Limits.of(options).roomy_level(total)
        origin = Origin(level, min(1, last_seq), last_seq)
        steps = rewrite(_merged(memtable, tables, work), origin, target.workshop)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                metas: list[TableMeta] = end.value
                break
            yield work.read_bytes, total
        entries = sum(meta.entries for meta in metas)
        levels = ((),) * level + (tuple(metas),) if metas else ()
        state = Manifest(
            uuid=storage.urandom(UUID_BYTES),
            number=0,
            next_number=0,
            last_seq=last_seq,
            min_wal=0,
            live_count=entries,
            shape=options.shape(),
            levels=levels,
        )
        target.commit(state)
    yield total, total
    return RepairReport(
        path=directory.path,
        destination=destination,
        losses=tuple(work.losses),
        doubts=tuple(work.doubts),
        tables=work.tables,
        records=work.records,
        entries=entries,
    )


# Which tables, in which order


def _trusted_manifest(work: _Repair) -> Manifest | None:
    """Return the manifest that tells the order; None if there is none, or only one that is out of date."""
    try:
        manifest, bad = newest_manifest(work.directory, work.names)
    except CorruptionError as exc:
        manifest, bad = None, exc
    if manifest is not None:
        if bad is None:
            return manifest
        missing = [meta for level in manifest.levels for meta in level if not _is_there(meta, work)]
        if not missing:
            return manifest  # the higher one was cut off: nothing had been unlinked for it yet
        work.doubt(work.path(manifest.number, MANIFEST), -1, "out of date: a newer manifest is damaged")
    if bad is not None and bad.path != work.directory.path:
        work.lose(bad, bad.path)
    work.doubt(
        work.directory.path,
        -1,
        "no manifest: the order of the tables comes from themselves, and what a"
        " range deletion took out of them may be back",
    )
    return None


def _is_there(meta: TableMeta, work: _Repair) -> bool:
    return file_name(meta.number, TABLE) in work.names


def _tables_of(manifest: Manifest) -> list[_Table]:
    """Return the tables of a manifest, newest first."""
    return [
        _Table(meta.number, meta, Origin(number, meta.first_seq, meta.last_seq))
        for number, level in enumerate(manifest.levels)
        for meta in level
    ]


def _tables_found(work: _Repair) -> list[_Table]:
    """Return the tables of the directory, newest first."""  # rule 5
    present = numbers(work.names, TABLE)
    tables = [_describe(number, work) for number in present]
    replaced = {
        number
        for table in tables
        if not set(table.origin.inputs) <= set(present)
        for number in table.origin.inputs
    }
    return _newest_first([table for table in tables if table.number not in replaced], work)


def _describe(number: int, work: _Repair) -> _Table:
    path = work.path(number, TABLE)
    try:
        file = work.directory.open(file_name(number, TABLE))
        try:
            return _Table(number, *describe(file, number))
        except CorruptionError:
            said = salvage.outline(file.pread(file.size(), 0), number).metadata
            if said is not None:
                return _Table(number, said.meta(number, file.size(), 0), said.origin)
    except (Malformed, error):
        pass  # listed as a loss when the table is to be read
    work.doubt(path, -1, "nothing tells how old the table is: it is taken for the oldest")
    return _Table(number, None, Origin(MAX_LEVELS, 0, 0))


def _newest_first(tables: list[_Table], work: _Repair) -> list[_Table]:
    """Order tables by rule 5: again and again take the first one that none of the others is newer than."""
    tables = sorted(tables, key=lambda table: (table.origin.level, -table.origin.last_seq, -table.number))
    newer: dict[int, set[int]] = {table.number: set() for table in tables}
    guesses = 0
    for place, upper in enumerate(tables):
        for lower in tables[place + 1 :]:
            if _may_share_keys(upper, lower):
                is_upper, is_guess = _is_newer(upper, lower)
                first, second = (upper, lower) if is_upper else (lower, upper)
                newer[second.number].add(first.number)
                guesses += is_guess
    if guesses:
        what = f"{guesses} pairs of tables overlap in keys and in sequences: the level each was written for"
        work.doubt(work.directory.path, -1, f"{what} decided which is newer")
    ordered: list[_Table] = []
    while tables:
        free = next((table for table in tables if not newer[table.number]), tables[0])
        tables.remove(free)
        ordered.append(free)
        for others in newer.values():
            others.discard(free.number)
    return ordered


def _is_newer(upper: _Table, lower: _Table) -> tuple[bool, bool]:
    """Return whether a table is newer than one written for the same level or a lower one; is that a guess?"""
    if lower.number in upper.origin.inputs or upper.number in lower.origin.inputs:
        return lower.number in upper.origin.inputs, False
    if lower.origin.first_seq > upper.origin.last_seq:
        return False, False
    return True, upper.origin.first_seq <= lower.origin.last_seq


def _may_share_keys(one: _Table, other: _Table) -> bool:
    if one.meta is None or other.meta is None:
        return True
    return one.meta.smallest <= other.meta.largest and other.meta.smallest <= one.meta.largest


def _runs(tables: list[_Table]) -> list[list[_Table]]:
    """Return tables, given newest first, in runs of neighbours that share no key, each in key order."""
    runs: list[list[_Table]] = []
    for table in tables:
        if runs and not any(_may_share_keys(table, other) for other in runs[-1]):
            runs[-1].append(table)
        else:
            runs.append([table])
    for run in runs:
        run.sort(key=lambda table: table.meta.smallest if table.meta is not None else b"")
    return runs


# What is left of one table


def _chunks_of(run: list[_Table], work: _Repair) -> Chunks:
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


def _entries_of(table: _Table, work: _Repair) -> Chunks:
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


def _blocks_of(reader: TableReader, path: str, work: _Repair) -> Chunks:
    """Yield the blocks of a table that can be read, and what is left of the others: their deletions."""
    separators = reader.separators()
    for index in range(reader.block_count):
        low = separators[index - 1] if index else reader.meta.smallest
        try:
            yield _unique(reader.block_chunk(index, index + 1), path, work)
        except error as exc:
            work.lose(exc, path, low, separators[index])
            try:
                keys, values = reader.block_keys(index)
            except error:
                _doubt_deletions(path, work.losses[-1].offset, work)
                continue
            deleted = [key for key, value in zip(keys, values, strict=True) if value is None]
            what = f"{len(keys) - len(deleted)} values lost; older ones of these keys may have come back"
            work.doubt(path, work.losses[-1].offset, what)
            if deleted:
                yield deleted, [None] * len(deleted)


def _blocks_found(file: File, table: _Table, cause: CorruptionError, work: _Repair) -> Chunks:
    """Yield the blocks of a table in which they have to be looked for."""  # rule 3
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


def _unique(chunk: Chunk, path: str, work: _Repair) -> Chunk:
    keys, values = chunk
    if len(set(keys)) == len(keys):
        return chunk
    work.doubt(path, -1, "a key twice in one block")
    entries = dict(zip(keys, values, strict=True))
    return list(entries), list(entries.values())


def _doubt_deletions(path: str, offset: int, work: _Repair) -> None:
    work.doubt(path, offset, "deletions and newer values may be lost: what they had replaced may be back")


# Logs


def _read_logs(manifest: Manifest | None, tables: list[_Table], work: _Repair) -> tuple[Memtable, int, int]:
    """Return what the logs hold, the last sequence of all, and that of the last clear() in them, or 0."""
    if manifest is not None:
        try:
            recovered = replay(work.directory, work.names, manifest)
        except CorruptionError as exc:
            work.lose(exc, exc.path)
        else:
            _note_logs(manifest, work)
            cleared = MAX_NUMBER if recovered.is_cleared else 0
            return recovered.memtable, recovered.next_seq - 1, cleared
    held = max((table.origin.last_seq for table in tables), default=0)
    return _salvage_logs(manifest, held if manifest is None else manifest.last_seq, work)


def _note_logs(manifest: Manifest, work: _Repair) -> None:
    """Count the records of logs that recovery can make sense of, and list where they end early."""
    for number in numbers(work.names, WAL):
        if number >= manifest.min_wal:
            log = read_log(work.directory, number)
            work.records += log.records
            if log.note is not None:
                work.doubts.append(log.note)


def _salvage_logs(manifest: Manifest | None, held: int, work: _Repair) -> tuple[Memtable, int, int]:
    """Do what `_read_logs` does, with every record that verifies.

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
            what = "records before this one are lost; what follows is applied without them"  # rule 4
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
        if change.clears:
            memtable.forget()
            cleared = record.seq
        if change.ranges:
            memtable.void(change.ranges)
        memtable.update(change.keys, change.values)
    if expected <= held:
        memtable.forget()
    return memtable, max(held, expected - 1), cleared


def _records_of(manifest: Manifest | None, work: _Repair) -> Iterator[tuple[str, Record]]:
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


def _open_log(number: int, work: _Repair) -> LogHeader | None:
    """Return the header of a log, or if it is damaged, the copy of it in a mark."""
    path = work.path(number, WAL)
    try:
        file = work.directory.open(file_name(number, WAL))
        data = file.pread(file.size(), 0)
    except error as exc:
        work.lose(exc, path)
        return None
    try:
        header = LogHeader.decode(data)
        if header.number != number:
            raise Malformed(f"log {header.number} under the name of log {number}")
        return header
    except Unsupported as exc:
        raise error(f"{path}: {exc}") from None
    except Malformed as exc:
        found = records.find_mark(data, number)
        if found is None:
            work.losses.append(Loss(path, 0, f"{exc}, and no mark is left that repeats it"))
        else:
            work.doubt(path, 0, f"{exc}: the copy in a mark was used")
        return found


def _all_records(data: bytes, header: LogHeader, path: str, work: _Repair) -> Iterator[Record]:
    """Yield every record of a log that verifies."""  # rule 4
    end = HEADER_BYTES
    try:
        for place, record in enumerate(records.scattered(data, header, HEADER_BYTES)):
            if record.offset > end and place < GARBLED:
                work.losses.append(Loss(path, end, f"{record.offset - end} bytes are no records"))
            end = record.end
            yield record
    except Malformed as exc:
        work.losses.append(Loss(path, end, str(exc)))
        return
    if not records.is_blank(data, end):
        work.losses.append(Loss(path, end, f"{len(data) - end} bytes at the end are no records"))


# The result


def _merged(memtable: Memtable, tables: list[_Table], work: _Repair) -> Chunks:
    """Yield what a read of the source would show."""
    newest, void = sources([memtable])
    older = [spared_chunks(_chunks_of(run, work), void) for run in _runs(tables)]
    return visible(merge([*newest, *older]))
