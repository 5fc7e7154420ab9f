"""Reader: the store behind flag "r".  Takes no lock, creates no file, changes nothing.

    (1) recover: the highest manifest, its tables, the logs, replayed in memory
    (2) open all tables and keep them open: a writer elsewhere may unlink them at any time
    (3) if anything was missing or inconsistent, a writer was faster: begin again with a new listing

Rules
  1. A reader sees one moment until `refresh`; a snapshot of it stays at that one.
  2. Damage is believed when two passes over the same listing agree on it.
  3. As long as no file is new, the newest log is read on from where it was read to.  Whatever does not go on
     from there, or is no record, is left to a new beginning.

Thread safety: every method may be called from any thread; `refresh` replaces the view in one step.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from lsmdbm._base.chunk import Chunks
from lsmdbm._base.errors import ClosedError, CorruptionError, NotFoundError, error
from lsmdbm._base.leftovers import leave, taken
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Directory, Storage
from lsmdbm._engine.feed import Feed, Step, log_records
from lsmdbm._engine.log import Log
from lsmdbm._engine.memtable import Memtable, fold_newest
from lsmdbm._engine.moment import Moment, still_open
from lsmdbm._engine.names import MANIFEST, WAL, file_name, numbers, parse
from lsmdbm._engine.recovery import Recovered, apply, decoded, recover
from lsmdbm._engine.stats import Totals, gather
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.view import AFTER_FORK, GoneView, View
from lsmdbm._format import records
from lsmdbm._format.coding import Malformed
from lsmdbm._format.records import HEADER_BYTES, RECORD_BYTES, LogHeader

if TYPE_CHECKING:
    from lsmdbm._engine.figures import Stats

PASSES, SECONDS = 100, 5.0  # after which a directory that keeps changing is given up

Files = list[tuple[str, int | None]]


class Reader:
    """One database, open for reading.

    Args:
        storage: the clock.
        directory: where the files are; owned from here on.
        options: sizes of caches.

    Raises:
        NotFoundError: there is no database in the directory.
        CorruptionError: it cannot be read.
    """

    def __init__(self, storage: Storage, directory: Directory, options: Options) -> None:
        self._storage = storage
        self._directory = directory
        self.options = options
        self._is_closed = False
        self._why_closed: tuple[str, ...] = ()  # unless by close()
        self._lock = threading.RLock()
        self._tables = Tables(directory, options)
        self._files: Files | None = None  # what was read
        self._is_whole = False  # whether all of it was
        self._log: Log | None = None  # the newest one, if it may still be written
        self._snapshots: weakref.WeakSet[Moment] = weakref.WeakSet()
        self.refresh()

    def refresh(self) -> None:
        """Move to the newest state on disk.  If that fails, the old one stays.

        Tables that are open stay open, with what is cached of them.  If no file is new, only what was added
        to the newest log is read; else all logs are.
        """
        with self._lock:
            self._check_open()
            files = self._manifests_and_logs()
            if files == self._files and self._is_whole:
                return
            if not self._has_followed(files):
                self._begin_anew(files)

    def _begin_anew(self, files: Files) -> None:
        recovered = self._settled()
        version = self._tables.track(recovered.version)
        sealed = () if recovered.memtable.is_empty else (recovered.memtable,)
        self._log_files = len(recovered.logs)
        self.manifest = recovered.manifest
        active = Memtable(recovered.next_seq)
        self._show(View(active, sealed, version, self._tables, recovered.table_keys))
        self._head = recovered.prev
        # A write under way may become whole without any file becoming longer.
        self._is_whole = not recovered.has_tail
        self._files = [each for each in files if _tells(each[0], self.manifest.min_wal)]
        newest = recovered.logs[-1] if recovered.logs else None
        logs = numbers([name for name, _ in self._files], WAL)
        # A later one that was cut off when it was made may be written yet: then there is none to go on in.
        self._log = newest if newest is not None and logs[-1:] == [newest.number] else None
        self._tables.drop_held()

    def _show(self, view: View) -> None:
        self.view = view
        self._now = Moment(view)

    def _manifests_and_logs(self) -> Files:
        """Return name and length of the files that tell what is new; kept logs never do."""
        names = sorted(self._directory.listdir())
        least = self.manifest.min_wal if self._files is not None else 0
        return [(name, self._directory.length(name)) for name in names if _tells(name, least)]

    def _has_followed(self, files: Files) -> bool:
        """Take what was added to the newest log; False if that is not all there is to it."""  # rule 3
        log, known = self._log, self._files
        if log is None or known is None or log.last_seq + 1 != self.view.active.first_seq:
            return False
        name = file_name(log.number, WAL)
        if [each for each in files if each[0] != name] != [each for each in known if each[0] != name]:
            return False
        fresh = Memtable(log.last_seq + 1)
        try:
            added = self._added(log, fresh)
        except (NotFoundError, CorruptionError, Malformed):
            return False
        if added is None:
            return False
        self._log, self._is_whole = added
        self._files = files
        if not fresh.is_empty:
            self._head = self._log.number, self._log.end, self._log.last_seq
            fresh.last_seq = self._log.last_seq
            self._show(
                self.view.with_active(
                    Memtable(fresh.last_seq + 1), fold_newest((fresh, *self.view.sealed), 0)
                )
            )
        return True

    def _added(self, log: Log, fresh: Memtable) -> tuple[Log, bool] | None:
        """Take the records behind the known end of a log into a memtable.

        Returns:
            the log as it is now, and whether it ends there; None if it needs recovery to be understood.
        """
        file = self._directory.open(file_name(log.number, WAL))
        size = file.size()
        header = LogHeader.decode(file.pread(HEADER_BYTES, 0))
        end, last_seq, offset = log.end, log.last_seq, log.offset
        for record in log_records(file, header, offset, size):
            offset = record.end
            if records.is_mark(record):
                continue
            change = decoded(record, file.path)
            if record.seq != last_seq + 1 or change.clears:
                return None
            apply(fresh, change, record.end - record.offset)
            end, last_seq = record.end, record.last_seq
        if file.pread(RECORD_BYTES, offset).strip(b"\0"):
            return None  # a write under way, or damage
        return Log(log.number, end, last_seq, offset=offset), offset == size

    def _settled(self) -> Recovered:
        deadline = self._storage.monotonic() + SECONDS
        damage: tuple[str, list[str]] | None = None
        for _ in range(PASSES):
            names = sorted(self._directory.listdir())
            try:
                return self._attempt()
            except (NotFoundError, CorruptionError) as exc:
                seen = (str(exc), names)
                if seen == damage or self._storage.monotonic() >= deadline:  # rule 2
                    raise
                damage = seen
        raise error(f"{self._directory.path}: changes too fast to be read")

    def _attempt(self) -> Recovered:
        recovered = recover(self._directory)
        if recovered is None:
            raise NotFoundError.at(self._directory.path)
        self._tables.hold(recovered.version)
        return recovered

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, None if there is none."""
        return self.view.get(key)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of those keys that have one."""
        view = self.pin()
        return view.get_many(keys, view.recent(keys))

    def pin(self) -> View:
        """Return the view of this moment."""
        self._check_open()
        return self.view

    def chunks(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> Chunks:
        """Return the entries with `start <= key < stop` as a stream of chunks."""
        self.pin()
        return self._now.chunks(start, stop, reverse=reverse, keys_only=keys_only)

    def first(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> tuple[bytes, bytes] | None:
        """Return the first entry of a range, the last one if `reverse`; None if there is none."""
        self.pin()
        return self._now.first(start, stop, reverse=reverse, keys_only=keys_only)

    def length(self) -> int:
        """Return the exact number of keys."""
        self.pin()
        return self._now.length()

    def snapshot(self) -> Moment:
        """Return the moment of now, to be kept through every `refresh`."""
        with self._lock:
            moment = Moment(self.pin(), self._give_back)
            self._snapshots.add(moment)
            return moment

    def _give_back(self) -> None:
        """Let go of the tables that a snapshot was the last to need; later, if a refresh() is under way."""
        leave(self._drop_unless_busy)

    def _drop_unless_busy(self) -> bool:
        with taken(self._lock) as is_free:
            if is_free:
                self._tables.drop_held()
            return is_free

    def changes(self, position: bytes | int | None) -> Iterator[Step]:
        """Return what was written from a position on, up to this moment, record by record."""
        with self._lock:
            return self._feed().since(position, self._check_open)

    def position(self, seq: int | None = None) -> bytes:
        """Return the position of this moment, or the one behind all writes below a sequence."""
        with self._lock:
            feed = self._feed()
            return feed.position(feed.next_seq if seq is None else seq)

    def _feed(self) -> Feed:
        next_seq = self.pin().active.first_seq
        return Feed(self._directory, self.manifest.uuid, self._head, next_seq)

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError(*self._why_closed)

    def sync(self) -> None:
        """Do nothing: nothing was written."""

    def stats(self) -> Stats:
        """Return the figures of this moment."""
        with self._lock:
            return gather(self.pin(), self._log_files, Totals(), None, still_open(self._snapshots))

    def close(self) -> None:
        """Let go of everything, once a refresh() under way is over.  Interrupted, it can be called again."""
        with self._lock:
            self._close()

    def close_unless_busy(self) -> bool:
        """Do what `close` does without waiting for anybody; False if somebody, this thread too, is inside."""
        with taken(self._lock) as is_free:
            if is_free:
                self._close()
            return is_free

    def _close(self) -> None:
        self._is_closed = True
        self.view = cast(View, GoneView(*self._why_closed))
        for moment in list(self._snapshots):
            moment.close(*self._why_closed)
        self._tables.close()
        self._directory.close()

    def die(self) -> None:
        """Be of no use any more: this is the child of a fork."""
        self._why_closed = (AFTER_FORK,)
        self._lock = threading.RLock()  # another thread may have held it
        if not self._is_closed:
            self._tables.die()
        self.close()


def _tells(name: str, min_wal: int) -> bool:
    """Return whether a file is a manifest, or a log that recovery may need."""
    parsed = parse(name)
    return parsed is not None and (parsed[1] == MANIFEST or (parsed[1] == WAL and parsed[0] >= min_wal))
