"""Recovery: what the files of a database say, found out by reading alone.

    (1) the highest manifest that verifies says what is live
    (2) every table it names must be there with its exact size
    (3) logs from `min_wal` on form a chain, each naming the one before
    (4) their records are replayed in order, but for those that tables hold already
    (5) where the replay stops short of what some record promised to be durable, that is corruption;
        otherwise it is a torn tail, and what stands behind never counted

Rules
  1. Nothing is created, written, cut or unlinked here, and a second recovery gives the same result.
  2. Records up to `last_seq` are never replayed: a log torn before `last_seq` would put older values
     above newer ones.

Thread safety: one thread at a time.  Spec: docs/durability.md, Recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from lsmdbm._base.errors import CorruptionError, NotFoundError, error
from lsmdbm._base.storage import Directory, File
from lsmdbm._engine.log import Log
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.names import MANIFEST, TABLE, WAL, file_name, numbers, parse
from lsmdbm._engine.version import Version
from lsmdbm._format import log_reader, records
from lsmdbm._format import manifest as manifests
from lsmdbm._format.coding import Malformed, Unsupported
from lsmdbm._format.manifest import MAX_MANIFEST_BYTES, Manifest
from lsmdbm._format.records import HEADER_BYTES, MAX_LOG_FILE_BYTES, Change, LogHeader, Record

CHAIN_LOGS, CHAIN_BYTES = 16, 1 << 20  # more than this is flushed at the first write of an opening


class Recovered:
    """What a database holds."""

    __slots__ = (
        *("has_gap", "has_promise", "has_tail", "is_cleared", "is_suspect", "log_bytes", "logs"),
        *("manifest", "memtable", "next_number", "next_seq", "version"),
    )

    def __init__(
        self, manifest: Manifest, version: Version, memtable: Memtable, next_seq: int, next_number: int
    ) -> None:
        self.manifest = manifest
        self.version = version  # without tables if a clear() is in the logs
        self.memtable = memtable
        self.next_seq = next_seq
        self.next_number = next_number
        self.logs: list[Log] = []  # of the chain, oldest first
        self.log_bytes = 0
        self.has_gap = False  # writes were lost with the power; none that had been promised
        self.has_tail = False  # bytes that are no record, the last write may still be under way
        self.is_cleared = False
        self.has_promise = False  # a log of the chain had been synced
        self.is_suspect = False  # the manifest may not be durable: a kill may have cut its install off

    @property
    def must_flush(self) -> bool:
        """Whether the chain must not be continued as it is, nor the manifest be built upon."""
        is_long = len(self.logs) > CHAIN_LOGS or self.log_bytes > CHAIN_BYTES
        ends_early = bool(self.logs) and self.logs[-1].last_seq < self.manifest.last_seq
        return self.is_suspect or self.has_gap or ends_early or is_long

    @property
    def is_unsettled(self) -> bool:
        """Whether the first write of an opening has to install a new state before anything else."""
        return self.must_flush or self.is_cleared

    @property
    def table_keys(self) -> int | None:
        """The number of live keys in the tables, None if the manifest does not know it."""
        return 0 if self.is_cleared else self.manifest.live_count

    @property
    def prev(self) -> tuple[int, int, int]:
        """Number, end and last sequence of the log that the next one goes on from."""
        if not self.logs:
            return self.manifest.prev_log
        last = self.logs[-1]
        return last.number, last.end, last.last_seq


@contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except Malformed as exc:
        raise CorruptionError(path, -1, str(exc)) from None


def recover(directory: Directory) -> Recovered | None:
    """Return what the directory holds; None if there is no database in it yet.

    Raises:
        CorruptionError: what was promised to be durable cannot be read.
        error: the database is of a newer format.
    """
    names = directory.listdir()
    manifest, cut_off = newest_manifest(directory, names)
    if manifest is None:
        return None
    for missing in missing_tables(directory, manifest):
        raise cut_off or missing  # it was not cut off: it had committed, and the old state went
    return replay(directory, names, manifest)


def replay(directory: Directory, names: list[str], manifest: Manifest) -> Recovered:
    """Return what the logs among these files make of the tables of a manifest.

    Raises:
        CorruptionError: what was promised to be durable cannot be read.
        error: a log is of a newer format.
    """
    recovered = Recovered(
        manifest,
        Version(manifest.levels),
        Memtable(manifest.last_seq + 1),
        next_seq=manifest.last_seq + 1,
        next_number=max(manifest.next_number, *(found[0] + 1 for name in names if (found := parse(name)))),
    )
    _Replay(directory, recovered).run([n for n in numbers(names, WAL) if n >= manifest.min_wal])
    memtable = recovered.memtable
    memtable.last_seq = recovered.next_seq - 1
    # A manifest that was synced has no older ones beside it.  The first of all never had; it was synced
    # before any log was.
    is_first = manifest.last_seq == 0 and not recovered.has_promise
    recovered.is_suspect = is_first or numbers(names, MANIFEST)[0] < manifest.number
    return recovered


def newest_manifest(directory: Directory, names: list[str]) -> tuple[Manifest | None, CorruptionError | None]:
    """Return the highest manifest that verifies, and what is wrong with the highest one that does not.

    The first is None if the database is unborn.  Higher ones that do not verify are installs that were
    cut off, as long as everything is there that the old state needs.
    """
    bad: CorruptionError | None = None
    for number in reversed(numbers(names, MANIFEST)):
        path = f"{directory.path}/{file_name(number, MANIFEST)}"
        try:
            return read_manifest(directory.open(file_name(number, MANIFEST)), number), bad
        except NotFoundError:
            raise
        except Unsupported as exc:
            raise error(f"{path}: {exc}") from None
        except Malformed as exc:
            bad = bad or CorruptionError(path, -1, str(exc))
        except CorruptionError as exc:  # no file that can be read
            bad = bad or exc
    if any(found[1] != MANIFEST for name in names if (found := parse(name))):
        raise bad or CorruptionError(directory.path, -1, "tables or logs without a manifest")
    return None, None


def read_manifest(file: File, number: int) -> Manifest:
    """Return the manifest in a file; Malformed or Unsupported if it is none of this number."""
    size = file.size()
    if size > MAX_MANIFEST_BYTES:
        raise Malformed(f"manifest of {size} bytes")
    return manifests.decode(file.pread(size, 0), number)


def missing_tables(directory: Directory, manifest: Manifest) -> Iterator[CorruptionError]:
    """Yield what is wrong with the tables of a manifest, as far as a listing shows it."""
    for meta in manifest.tables():
        name = file_name(meta.number, TABLE)
        length = directory.length(name)
        if length is None:
            reason = "table named by the manifest is missing"
        elif length != meta.file_bytes:
            reason = f"{length} bytes long, the manifest says {meta.file_bytes}"
        else:
            continue
        yield CorruptionError(f"{directory.path}/{name}", -1, reason)


def log_header(data: bytes, number: int, path: str, whole: Callable[[], bytes]) -> LogHeader | None:
    """Return the header of a log; None if it was cut off when it was made.

    Args:
        data: the first bytes of the file.
        whole: returns all of them; asked for if the header is damaged.

    Raises:
        CorruptionError: it is damaged, and had been synced.
        error: it is of a newer format.
    """
    try:
        return LogHeader.decode(data, number)
    except Unsupported as exc:
        raise error(f"{path}: {exc}") from None
    except Malformed as exc:
        if log_reader.find_mark(whole(), number):
            raise CorruptionError(path, 0, f"{exc}, in a log that had been synced") from None
        return None


def decoded(record: Record, path: str) -> Change:
    """Return what a data record does.

    Raises:
        CorruptionError: its payload is none.
        error: it is of a newer format.
    """
    try:
        return records.decode_change(record)
    except Unsupported as exc:
        raise error(f"{path}, offset {record.offset}: {exc}") from None
    except Malformed as exc:
        raise CorruptionError(path, record.offset, str(exc)) from None


def apply(memtable: Memtable, change: Change, charge: int) -> None:
    """Do to a memtable that nobody reads yet what a record of so many bytes does."""
    if change.clears:
        memtable.forget()
    if change.ranges:
        memtable.void(change.ranges)
    memtable.update(change.keys, change.values)
    memtable.deletes = memtable.deletes or None in change.values
    memtable.charge += charge


class _File(NamedTuple):
    """A log as it stands on disk."""

    number: int
    path: str
    data: bytes
    header: LogHeader


class _Replay:
    """Walks the chain of logs."""

    def __init__(self, directory: Directory, recovered: Recovered) -> None:
        self._directory = directory
        self._recovered = recovered
        self._memtable = recovered.memtable
        self._last_seq = recovered.manifest.last_seq
        self._files: dict[int, _File] = {}

    def run(self, log_numbers: list[int]) -> None:
        """Replay the chain among these logs."""
        for number in log_numbers:
            file = self._open(number)
            if file is not None:
                self._files[number] = file
            else:
                self._recovered.has_tail = True
        successors = self._successors()
        file = self._first()
        unreached = dict(self._files)
        while file is not None:
            del unreached[file.number]
            following = successors.get(file.number)
            bad = self._replay(file, following)
            if bad is not None:
                self._judge(file, bad, list(unreached.values()))
                break
            file = following
        else:
            if unreached:  # logs that nothing leads to: their predecessor's name was lost with the power
                self._judge_unreached(list(unreached.values()))
        self._recovered.has_gap = self._recovered.has_gap or bool(unreached)

    def _open(self, number: int) -> _File | None:
        """Return a log, None if its creation was cut off."""
        name = file_name(number, WAL)
        path = f"{self._directory.path}/{name}"
        file = self._directory.open(name)
        size = file.size()
        if size > MAX_LOG_FILE_BYTES:
            raise CorruptionError(path, -1, f"log of {size} bytes: the limit is {MAX_LOG_FILE_BYTES}")
        data = file.pread(size, 0)
        header = log_header(data, number, path, lambda: data)
        return None if header is None else _File(number, path, data, header)

    def _successors(self) -> dict[int, _File]:
        found: dict[int, _File] = {}
        for file in self._files.values():
            prev = file.header.prev
            if prev in found:
                raise CorruptionError(file.path, 0, f"log {found[prev].number} follows log {prev} too")
            if prev in self._files:
                found[prev] = file
        return found

    def _first(self) -> _File | None:
        """Return the log that the chain begins with."""
        firsts = [
            file
            for file in self._files.values()
            if file.header.prev not in self._files
            and file.header.first_seq <= self._last_seq + 1
            and file.header.prev < self._recovered.manifest.min_wal
        ]
        if len(firsts) > 1:
            raise CorruptionError(firsts[1].path, 0, f"log {firsts[0].number} begins the chain too")
        return firsts[0] if firsts else None

    def _replay(self, file: _File, following: _File | None) -> int | None:
        """Replay one log, up to where the next one says.

        Returns the offset of the first invalid byte, if the log goes on from there or a next one exists.
        """
        recovered = self._recovered
        stop = following.header.prev_end if following is not None else len(file.data)
        last_seq = file.header.first_seq - 1
        end = data_end = HEADER_BYTES
        is_durable = False
        promise = 0
        for record in log_reader.in_order(file.data, file.header):
            promise = promise or record.durable
            if records.is_mark(record):
                is_durable, end = record.durable == record.offset, record.end
                continue
            if record.end > stop:
                break
            is_durable = False
            end = data_end = record.end
            last_seq = record.last_seq
            if last_seq > self._last_seq:  # rule 2
                self._apply(file, record)
        recovered.logs.append(Log(file.number, data_end, last_seq, is_durable, offset=end))
        recovered.log_bytes += end
        recovered.has_promise = recovered.has_promise or promise > 0
        recovered.next_seq = max(recovered.next_seq, last_seq + 1)
        recovered.has_tail = recovered.has_tail or end < len(file.data)
        if following is None:
            return None if end == len(file.data) else end
        if data_end == stop and last_seq == following.header.prev_last_seq:
            return None
        return end

    def _apply(self, file: _File, record: Record) -> None:
        change = decoded(record, file.path)
        if change.clears:
            self._recovered.version = Version()
            self._recovered.is_cleared = True
        apply(self._memtable, change, record.end - record.offset)

    def _judge(self, file: _File, bad: int, later: list[_File]) -> None:
        """Decide what an invalid byte means: corruption, if anything from it on had been promised."""
        with _reading(file.path):
            if any(durable > bad for durable in log_reader.promises(file.data, file.header, bad)):
                raise CorruptionError(
                    file.path, bad, "invalid record in a part of the log that had been synced"
                )
        for other in later:
            if self._has_promise(other):
                reason = f"log ends early, though log {other.number} says that it had been synced"
                raise CorruptionError(file.path, bad, reason)

    def _judge_unreached(self, files: list[_File]) -> None:
        for file in files:
            if self._has_promise(file):
                while file.header.prev in self._files:
                    file = self._files[file.header.prev]
                raise CorruptionError(
                    file.path, 0, f"log {file.header.prev}, which this one follows, is missing"
                )

    def _has_promise(self, file: _File) -> bool:
        with _reading(file.path):
            return any(
                durable >= HEADER_BYTES
                for durable in log_reader.promises(file.data, file.header, HEADER_BYTES)
            )
