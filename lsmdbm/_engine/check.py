"""Check: everything that can be wrong with the files of a database, found out by reading alone.

    (1) the manifest, and whether the tables that it names are there and in an order that can be
    (2) the logs: their chain, whether what had been promised is there, every record
    (3) every table: header, footer, index, filter, metadata, every block, order, bounds, counts

Rules
  1. Nothing is locked, created or changed.  Damage is reported, never raised.
  2. Recovery and the table reader decide what is right; nothing here reads a format by itself.
  3. A writer may be at work.  What is wrong in (1) and (2) is believed when two passes over the same listing
     agree; a table that is gone is missing only if the newest manifest still names it.
  4. Memory: one table's index and filter, one block, and the logs, as for opening.

Thread safety: pure functions over files.  Spec: docs/operations.md, Verify.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from lsmdbm._base.errors import ClosedError, CorruptionError, NotFoundError, error, is_of_system
from lsmdbm._base.storage import Directory
from lsmdbm._engine.jobs import finished, told
from lsmdbm._engine.names import LOCK, MANIFEST, TABLE, WAL, file_name, numbers, parse
from lsmdbm._engine.reader import PASSES
from lsmdbm._engine.recovery import missing_tables, newest_manifest, replay
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.version import Version
from lsmdbm._format import log_reader
from lsmdbm._format.coding import Malformed
from lsmdbm._format.manifest import Manifest, TableMeta
from lsmdbm._format.records import HEADER_BYTES, LogHeader
from lsmdbm._format.table_check import problems_of

T = TypeVar("T")
Work = Generator[tuple[int, int], None, T]  # each step yields bytes done and bytes in all
Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that was found, and where."""

    path: str
    offset: int  # bytes from the start of the file; -1 when the file as a whole is meant
    what: str

    def __str__(self) -> str:
        place = self.path if self.offset < 0 else f"{self.path}, offset {self.offset}"
        return f"{place}: {self.what}"


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify()` found.  True if nothing is wrong."""

    path: str
    problems: tuple[Problem, ...]
    """What is damaged or missing."""
    notes: tuple[Problem, ...]
    """What an interrupted process leaves behind: torn ends of logs, installs and logs that were cut off.
    It does no harm; damage to writes that were never known to be durable looks the same."""
    unreferenced: tuple[str, ...]
    """Names of files of ours that nothing needs; the next opening that writes removes them."""
    foreign: tuple[str, ...]
    """Names that are not ours; they are never touched."""
    files: int
    """Manifests, logs and tables that were read; logs that are kept for `changes()` too."""
    blocks: int
    """In tables."""
    records: int
    """In logs, marks included."""
    entries: int
    """In tables and in log records; deletions, and what is shadowed by newer entries, included."""
    bytes: int
    """Of the files that were read."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok


@dataclass(slots=True)
class _Found:
    """What is gathered for a Report."""

    names: list[str]
    manifest: Manifest | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)  # paths of tables that are missing or of another length
    needed: set[str] = field(default_factory=set)
    files: int = 0
    blocks: int = 0
    records: int = 0
    entries: int = 0
    bytes: int = 0

    def report(self, path: str) -> Report:
        return Report(
            path=path,
            problems=tuple(self.problems),
            notes=tuple(self.notes),
            unreferenced=tuple(name for name in self.names if parse(name) and name not in self.needed),
            foreign=tuple(name for name in self.names if not parse(name) and name != LOCK),
            files=self.files,
            blocks=self.blocks,
            records=self.records,
            entries=self.entries,
            bytes=self.bytes,
        )


def run(steps: Work[T], progress: Progress | None) -> T:
    """Work a job off to its end, and return what it gives."""
    return finished(steps if progress is None else told(steps, lambda step: progress(*step)))


def problem_of(exc: error, path: str) -> Problem:
    """Return what an error says about a file."""
    if isinstance(exc, CorruptionError):
        return Problem(exc.path, exc.offset, exc.reason)
    return Problem(path, -1, exc.strerror or str(exc))


def check(directory: Directory, tables: Tables, version: Version | None = None) -> Work[Report]:
    """Check a database, and return the report.

    Args:
        directory: where it is.
        tables: opens its tables.
        version: the tables to check; those of the manifest if it is None.

    Raises:
        NotFoundError: there is no database in the directory.
        ClosedError: `tables` was closed meanwhile.
    """
    found = _settled(directory)
    if found.manifest is None and not found.problems:
        raise NotFoundError.at(directory.path)
    if version is None:
        version = Version(found.manifest.levels if found.manifest is not None else ())
    total = found.bytes + sum(meta.file_bytes for meta in version)
    yield found.bytes, total
    for meta in version:
        _check_table(meta, tables, found)
        yield found.bytes, total
    return found.report(directory.path)


def _settled(directory: Directory) -> _Found:  # rule 3
    found = _survey(directory)
    for _ in range(PASSES):
        if not found.problems:
            break
        before, found = found, _survey(directory)
        if (before.names, before.problems) == (found.names, found.problems):
            break
    return found


def _survey(directory: Directory) -> _Found:
    """Return what manifest, listing and logs say."""
    found = _Found(sorted(directory.listdir()))
    try:
        found.manifest, cut_off = newest_manifest(directory, found.names)
    except error as exc:
        if not is_damage(exc):
            raise
        found.problems.append(problem_of(exc, str(exc.filename or directory.path)))
        found.needed.update(name for name in found.names if parse(name))  # nothing tells what is not
        return found
    manifest = found.manifest
    if manifest is None:
        return found
    found.needed.add(file_name(manifest.number, MANIFEST))
    found.needed.update(file_name(meta.number, TABLE) for meta in manifest.tables())
    found.files += 1
    found.bytes += directory.length(file_name(manifest.number, MANIFEST)) or 0
    for missing in missing_tables(directory, manifest):
        found.problems.append(problem_of(missing, missing.path))
        found.gone.add(missing.path)
    if cut_off is not None:  # if a table is missing, it was not cut off: it had committed
        (found.problems if found.gone else found.notes).append(problem_of(cut_off, cut_off.path))
    found.problems += _order_problems(directory, manifest)
    _check_logs(directory, manifest, found)
    return found


def is_damage(exc: error) -> bool:
    """Return whether an error is about what a file holds, or the system's, not about a newer format."""
    return is_of_system(exc) or isinstance(exc, CorruptionError)


def _order_problems(directory: Directory, manifest: Manifest) -> Iterator[Problem]:
    """Yield what is wrong with the sequences of the tables: newer ones have to come first in level 0."""
    path = f"{directory.path}/{file_name(manifest.number, MANIFEST)}"
    newer: TableMeta | None = None
    for number, level in enumerate(manifest.levels):
        for meta in level:
            if not meta.first_seq <= meta.last_seq <= manifest.last_seq:
                what = f"table {meta.number}: sequences {meta.first_seq} to {meta.last_seq}"
                yield Problem(path, -1, f"{what}, of {manifest.last_seq} in all")
            if number == 0:
                if newer is not None and newer.last_seq < meta.last_seq:
                    yield Problem(path, -1, f"table {meta.number} is newer than {newer.number} before it")
                newer = meta


def _check_logs(directory: Directory, manifest: Manifest, found: _Found) -> None:
    try:
        replay(directory, found.names, manifest)
    except error as exc:
        found.problems.append(problem_of(exc, str(exc.filename or directory.path)))
    for number in numbers(found.names, WAL):
        if number >= manifest.min_wal or number <= manifest.prev_log[0]:  # needed, or kept
            found.needed.add(file_name(number, WAL))
            try:
                _check_log(directory, number, found)
            except error as exc:
                _add(found, problem_of(exc, f"{directory.path}/{file_name(number, WAL)}"))


def _check_log(directory: Directory, number: int, found: _Found) -> None:
    log = read_log(directory, number)
    found.files += 1
    found.bytes += log.bytes
    found.records += log.records
    found.entries += log.entries
    known = {(problem.path, problem.offset) for problem in found.problems}
    if log.note is not None and (log.note.path, log.note.offset) not in known:
        found.notes.append(log.note)


@dataclass(frozen=True, slots=True)
class LogCounts:
    """What one log holds, up to its first invalid record."""

    bytes: int
    records: int
    entries: int
    note: Problem | None  # where it ends, if that is not the end of the file


def read_log(directory: Directory, number: int) -> LogCounts:
    """Count the records of one log; `error` if it cannot be read."""
    file = directory.open(file_name(number, WAL))
    data = file.pread(file.size(), 0)
    end = count = entries = 0
    what = "log ends here; {} bytes behind are no records"
    try:
        header = LogHeader.decode(data)
        end = HEADER_BYTES
        for record in log_reader.in_order(data, header):
            count, entries, end = count + 1, entries + record.count, record.end
    except Malformed as exc:
        what = f"{exc}: ignored, as if its creation had been cut off"
    is_whole = end > 0 and log_reader.is_blank(data, end)
    note = None if is_whole else Problem(file.path, end, what.format(len(data) - end))
    return LogCounts(len(data), count, entries, note)


def _check_table(meta: TableMeta, tables: Tables, found: _Found) -> None:
    path = f"{tables.directory.path}/{file_name(meta.number, TABLE)}"
    if path in found.gone:
        return
    try:
        reader = tables.anew(meta)
        found.files += 1
        found.bytes += meta.file_bytes
        found.blocks += reader.block_count
        found.entries += meta.entries
        for problem in problems_of(reader):
            _add(found, problem_of(problem, path))
    except ClosedError:
        raise
    except error as exc:
        if not _is_replaced(meta, tables.directory):
            _add(found, problem_of(exc, path))


def _add(found: _Found, problem: Problem) -> None:
    if problem not in found.problems:
        found.problems.append(problem)


def _is_replaced(meta: TableMeta, directory: Directory) -> bool:
    """Return whether a table is gone because a writer elsewhere has replaced it meanwhile."""  # rule 3
    if directory.length(file_name(meta.number, TABLE)) is not None:
        return False
    for _ in range(PASSES):
        try:
            manifest, _ = newest_manifest(directory, directory.listdir())
        except NotFoundError:  # replaced, too
            continue
        except error:
            break
        return manifest is not None and all(other.number != meta.number for other in manifest.tables())
    return False
