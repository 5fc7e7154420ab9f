"""Anatomy: what single files say, and how a tree looks, as plain descriptions for people.

Rules
  1. Files are only read.  The codecs decide what they say; nothing here reads a format by itself.
  2. What is damaged is described as far as that goes, and what is wrong is told beside it, not raised.

Thread safety: pure functions over files; one of a view may be called from any thread.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from lsmdbm._base.errors import CorruptionError, error
from lsmdbm._base.paths import name_in_parent
from lsmdbm._base.storage import Storage
from lsmdbm._engine.check import Problem, problem_of
from lsmdbm._engine.ingest import lone_reader, open_file
from lsmdbm._engine.names import MANIFEST, TABLE, parse
from lsmdbm._engine.recovery import read_manifest
from lsmdbm._engine.version import sorted_runs
from lsmdbm._engine.view import View
from lsmdbm._format import log_reader, records
from lsmdbm._format.bloom import pattern
from lsmdbm._format.coding import Malformed, Unsupported
from lsmdbm._format.footer import FOOTER_BYTES, HEADER_BYTES, Footer, decode_header
from lsmdbm._format.manifest import Manifest, TableMeta
from lsmdbm._format.records import MAX_LOG_FILE_BYTES, Change, LogHeader, Record
from lsmdbm._format.table_parts import describe
from lsmdbm._format.table_reader import TableReader
from lsmdbm._format.table_writer import Origin

PROBES = 2000  # keys that a filter is asked for to see how many it lets through
KINDS = {
    records.PUT: "put",
    records.DELETE: "delete",
    records.CHUNK: "batch",
    records.CLEAR: "clear",
    records.RANGES: "delete ranges",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One table file."""

    path: str
    number: int | None = None
    file_bytes: int = 0
    meta: TableMeta | None = None
    origin: Origin | None = None
    footer: Footer | None = None
    reader: TableReader | None = None  # None if index, filter or metadata cannot be read
    problems: tuple[Problem, ...] = ()


def table(storage: Storage, path: str) -> Table:
    """Describe a table by what stands at its ends; no block is read.

    Raises:
        NotFoundError: there is no file.
        error: it is of a newer format; the system says no.
    """
    file = open_file(storage, path)
    size, problems = file.size(), []
    number = footer = meta = origin = reader = None
    try:
        number = decode_header(file.pread(HEADER_BYTES, 0))[0]
    except Malformed as exc:
        problems.append(Problem(path, 0, str(exc)))
    try:
        footer = Footer.decode(file.pread(FOOTER_BYTES, max(0, size - FOOTER_BYTES)))
        number = footer.number
    except Unsupported as exc:
        raise error(f"{path}: {exc}") from None
    except Malformed as exc:
        problems.append(Problem(path, max(0, size - FOOTER_BYTES), str(exc)))
    else:
        try:
            meta, origin = describe(file, None)
            reader = lone_reader(file, meta)
        except CorruptionError as exc:
            problems.append(problem_of(exc, path))
    named = parse(name_in_parent(path))
    if named is not None and named[1] == TABLE and number not in (None, 0, named[0]):
        problems.append(Problem(path, -1, f"table {number} under the name of table {named[0]}"))
    return Table(path, number, size, meta, origin, footer, reader, tuple(problems))


@dataclass(slots=True)
class Log:
    """One log file."""

    path: str
    file_bytes: int
    header: LogHeader | None = None
    records: int = 0  # marks left out
    operations: int = 0
    marks: int = 0
    kinds: dict[str, int] = field(default_factory=dict)  # records of each kind
    last_seq: int | None = None
    durable: int = 0  # offset up to which some record says that the log survives power loss
    end: int = 0  # of the last valid record
    zeros: bool = True  # whether nothing but room that was allocated ahead stands behind it
    problems: tuple[Problem, ...] = ()


LogStep = tuple[Record, str, "Change | None"]  # record, kind, and what it does; None of a mark or if damaged


def log(storage: Storage, path: str) -> tuple[Log, Iterator[LogStep]]:
    """Describe a log, as the records that the iterator yields go by: it is complete behind the last one.

    Memory: the whole file, as for opening the database.

    Raises:
        NotFoundError: there is no file.
        error: it is of a newer format, or longer than a log may be; the system says no.
    """
    file = open_file(storage, path)
    size = file.size()
    if size > MAX_LOG_FILE_BYTES:
        raise error(f"{path}: {size} bytes long: the limit for a log is {MAX_LOG_FILE_BYTES}")
    data = file.pread(size, 0)
    found = Log(path, size)
    try:
        found.header = LogHeader.decode(data)
    except Unsupported as exc:
        raise error(f"{path}: {exc}") from None
    except Malformed as exc:
        found.problems = (Problem(path, 0, str(exc)),)
        return found, iter(())
    return found, _walked(found, data, found.header)


def _walked(found: Log, data: bytes, header: LogHeader) -> Iterator[LogStep]:
    found.end = records.HEADER_BYTES
    for record in log_reader.in_order(data, header):
        found.end, found.durable = record.end, max(found.durable, record.durable)
        found.last_seq = record.last_seq
        if records.is_mark(record):
            found.marks += 1
            yield record, "mark", None
            continue
        kind = KINDS.get(record.payload[0] if record.payload else 0, "unknown")
        change = None
        try:
            change = records.decode_change(record)
        except Malformed as exc:
            found.problems += (Problem(found.path, record.offset, str(exc)),)
        found.records += 1
        found.operations += record.count
        found.kinds[kind] = found.kinds.get(kind, 0) + 1
        yield record, kind, change
    found.zeros = log_reader.is_blank(data, found.end)


def manifest(storage: Storage, path: str) -> Manifest:
    """Return what a manifest says.

    Raises:
        NotFoundError: there is no file.
        CorruptionError: it is no manifest, or a damaged one.
        error: it is not named like one, whose checksum rests on its number; it is of a newer format.
    """
    named = parse(name_in_parent(path))
    if named is None or named[1] != MANIFEST:
        raise error(f"{path}: named unlike a manifest, 000019.man say: its checksum rests on the number")
    try:
        return read_manifest(open_file(storage, path), named[0])
    except Unsupported as exc:
        raise error(f"{path}: {exc}") from None
    except Malformed as exc:
        raise CorruptionError(path, -1, str(exc)) from None


@dataclass(frozen=True, slots=True)
class LiveTable:
    """One table of a tree."""

    level: int
    run: int  # within the level: a point read asks one table of each run at most
    meta: TableMeta
    blocks: int | None = None
    filter_bytes: int | None = None
    passes: float | None = None  # part of the keys that are not there which the filter lets through; measured
    trouble: str | None = None  # why the table could not be opened


def tree(view: View, *, probes: int = PROBES) -> Iterator[LiveTable]:
    """Yield the tables of a view, newest first: opened, if they can be, and their filters asked.

    Cost: a table is opened, which reads index and filter, and `probes` looks into the filter.
    """
    rng = random.Random(0)  # the same answers for the same tables
    picks = [rng.getrandbits(128) for _ in range(probes)]
    bits = list(map(pattern, picks))
    for level, metas in enumerate(view.version.levels):
        runs = sorted_runs(metas) if level == 0 else [metas]
        for run, tables in enumerate(runs):
            for meta in tables:
                try:
                    reader = view.tables.reader(meta)
                except error as exc:
                    yield LiveTable(level, run, meta, trouble=str(exc))
                    continue
                has_filter = reader.filter_bytes > 0
                passes = sum(map(reader.may_hold, picks, bits)) / len(picks) if has_filter and picks else None
                yield LiveTable(level, run, meta, reader.block_count, reader.filter_bytes, passes)
