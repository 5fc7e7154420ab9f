"""Wal: the log of the writes that are not in tables yet, and what of it is known durable.

Rules
  1. `durable` in a record is an offset that a sync has covered, and it is not told before the log has
     been synced once together with every log before it and with its name, and a mark says so.
  2. A failed or unknown sync is final.  A log whose sync was interrupted is suspect, and so is one of an
     earlier opening that is not known durable: a sync of it now may succeed without writing what an
     earlier one lost.

Thread safety: under the lock of the store, but for `Target.sync`.  Spec: docs/durability.md, Log.
"""

from __future__ import annotations

from typing import NamedTuple

from lsmdbm._base.errors import FailedError, error
from lsmdbm._base.storage import Directory, File, write_all
from lsmdbm._engine.appender import Appender
from lsmdbm._engine.install import check_owner, synced
from lsmdbm._engine.log import Log
from lsmdbm._engine.mapped import DISK_FULL
from lsmdbm._format import records
from lsmdbm._format.records import LogHeader


class Target(NamedTuple):
    """What one sync has to make durable."""

    files: list[File]  # oldest first
    logs: list[Log]
    log: int  # number of the current log, 0 if there is none
    offset: int
    seq: int  # of the first write that it does not cover
    directory: Directory | None  # to sync, if a name in it is new

    def sync(self) -> None:
        """Sync everything, in order.

        Raises:
            FailedError: it did not work, and never will.
        """
        for file in self.files:
            synced(file.fdatasync)
        if self.directory is not None:
            synced(self.directory.sync)


class Wal(Appender):
    """The log of one opening, made of what an Appender is made of."""

    durable_seq = 0  # every write of this opening below it is known durable
    _in_sync: Target | None = None  # of a sync that is not known to be over

    # -- which logs are needed ----------------------------------------------------------------------

    def flushed(self, last_seq: int) -> list[Log]:
        """Return the older logs whose writes all are in tables, oldest first."""
        return [log for log in self.older if log.last_seq <= last_seq]

    def forget(self, last_seq: int) -> list[Log]:
        """Let go of the older logs whose writes all are in tables, and return them."""
        gone = self.flushed(last_seq)
        self.older = [log for log in self.older if log.last_seq > last_seq]
        return gone

    def head(self) -> tuple[int, int, int]:
        """Return number, end and last sequence of the log that holds the newest write, as the next would."""
        header, seq = self._header, self.seq
        is_begun = header is not None and seq > header.first_seq
        return (self.number, self._data_end, seq - 1) if is_begun else self.prev

    def min_wal(self, last_seq: int) -> int:
        """Return the lowest log number that holds a write above `last_seq`; the next number if none does."""
        needed = [log.number for log in self.older if log.last_seq > last_seq]
        if self._header is not None:
            needed.append(self._header.number)
        return min(needed, default=self.counter.next_number)

    def log_count(self) -> int:
        """Return how many logs are needed."""
        return len(self.older) + (self._file is not None)

    # -- sync ---------------------------------------------------------------------------------------

    def has_suspects(self) -> bool:
        """Return whether there is a log that no sync makes durable any more.  No sync may be under way."""
        return self._is_in_doubt() or any(not log.is_durable and log.file is None for log in self.older)

    def _is_in_doubt(self) -> bool:
        """Return whether the last sync was interrupted: its result is lost, and nobody tells it again."""
        doubtful = self._in_sync
        if doubtful is None:
            return False
        needed = {self.number, *(log.number for log in self.older)}
        return doubtful.log in needed or any(log.number in needed for log in doubtful.logs)

    def doubt_names(self) -> None:
        """Say that the names of logs that are not durable yet may never become so, whatever a sync says."""
        logs = [log for log in self.older if not log.is_durable]
        number = 0 if self._is_name_durable else self.number
        self._in_sync = Target([], logs, number, 0, 0, None)

    def has_unsynced(self) -> bool:
        """Return whether this opening has ended logs that are not known durable, suspect ones included."""
        return any(log.header is not None and not log.is_durable for log in self.older)

    def is_durable(self) -> bool:
        """Return whether everything written is known durable."""
        return all(log.is_durable for log in self.older) and (
            self._file is None or self._durable >= self._data_end
        )

    def target(self) -> Target:
        """Return what has to be synced for everything written so far to be durable.

        Raises:
            FailedError: somebody else may be writing.
        """
        check_owner(self.directory)
        self.drain()
        logs = [log for log in self.older if not log.is_durable and log.file is not None]
        files = [log.file for log in logs if log.file is not None]
        number = offset = 0
        is_new_name = bool(logs)
        if self._file is not None and self._header is not None and self._durable < self._data_end:
            number, offset = self._header.number, self.position[0]
            files.append(self._file)
            is_new_name = is_new_name or not self._is_name_durable
        directory = self.directory if is_new_name else None
        target = Target(files, logs, number, offset, self.seq, directory)
        self._in_sync = target if files else None  # rule 2: until note_durable() it is in doubt
        return target

    def note_durable(self, target: Target, *, mark: bool) -> None:
        """Take note that `target` was synced; write a mark if asked for, or if the log has none.

        The mark is not synced itself: losing it only makes the log suspect.  So does a full disk that has
        no room for it.
        """
        self._in_sync = None
        self.durable_seq = max(self.durable_seq, target.seq)
        if self._header is None and target.logs:
            self._mark_ended(target.logs[-1])
        for log in target.logs:
            log.is_durable = True
            log.file = None
        header = self._header
        if header is None or (target.log and header.number != target.log):
            return
        durable = max(self._durable, target.offset)
        self._is_name_durable = self._is_name_durable or target.log > 0
        if durable and (mark or not self._marked_end):
            self._mark(header, durable)
        if self._marked_end:  # rule 1
            self._durable = durable

    def _mark(self, header: LogHeader, durable: int) -> None:
        offset, seq = self.position
        if offset == self._marked_end:  # the last record says it already
            return
        record = records.encode_mark(self._seed, seq, durable, header)
        try:
            self.drain()
            self._store(record, offset)
        except FailedError:
            raise
        except error:
            return
        self.position = (offset + len(record), seq)
        self._marked_end = self.position[0]

    def _mark_ended(self, log: Log) -> None:
        """Mark a log that had ended before it was synced, while there is no later one to tell of that."""
        if log.file is None or log.header is None:
            return
        self._unmap(log.file, log.offset)  # if that was interrupted: the mark would not fit
        record = records.encode_mark(log.header.seed, log.last_seq + 1, log.offset, log.header)
        try:
            write_all(log.file, record, log.offset)
        except error as exc:
            if exc.errno not in DISK_FULL:
                raise self._failed(exc) from exc

    def sync_flushed(self, last_seq: int) -> None:
        """Sync the logs whose writes are about to be in tables: for those who follow, nothing else needs it.

        While another thread syncs, that is left to it.

        Raises:
            FailedError: it did not work, and never will.
        """
        if self._in_sync is not None:
            return
        for log in self.flushed(last_seq):
            file = log.file
            if file is not None and not log.is_durable:
                log.file = None  # rule 2: suspect, if the result is lost
                synced(file.fdatasync)
                log.file = file
