"""Appender: records into one log after the other.

Rules
  1. A log is made at the first write, and its header goes out with the first record: opening, reading
     and closing writes nothing.
  2. Every write goes to the explicit offset `position[0]`; position moves on, offset and sequence in
     one assignment, only when the record is in the memtable too.  Until then the next write overwrites.
  3. A log is written by one opening and never again; the next one names it, with the end of its last
     data record, as its predecessor.
  4. A mapped log that is full is ended before the next record is written.  What was allocated behind its last
     record is cut off once it is not mapped any more; if that does not come to pass, zeros are left.

Thread safety: under the lock of the store.  Spec: docs/durability.md, Log.
"""

from __future__ import annotations

from collections.abc import Sequence

from lsmdbm._base.errors import FailedError, error
from lsmdbm._base.intervals import Intervals
from lsmdbm._base.storage import Directory, File, Storage, write_all
from lsmdbm._engine.install import check_owner
from lsmdbm._engine.log import Log
from lsmdbm._engine.mapped import DISK_FULL, NO_LIMIT, Mapper
from lsmdbm._engine.names import WAL, Counter
from lsmdbm._format import records
from lsmdbm._format.coding import MAX_NUMBER
from lsmdbm._format.records import HEADER_BYTES, RECORD_BYTES, LogHeader, Record, encode_put

MAX_LOG_BYTES = 16 << 20
MAX_LOG_OPERATIONS = 1 << 32  # more than fit into a log
BUFFER_BYTES = 64 << 10  # of records held back at durability "none"
BUFFER_SECONDS = 0.05


class Appender:
    """What is written to the logs of one opening.

    Args:
        directory: where to.
        storage: for salts and the clock.
        counter: gives the numbers.
        next_seq: sequence of the next write.
        older: the logs of earlier openings that are still needed, oldest first.
        prev: the last of the chain, which the first log made here goes on from: number, end, last
            sequence; zeros if there is none.
        buffered: whether records are held back: durability "none", if no log is mapped.
        mapper: maps the logs; None if system calls write them.
    """

    __slots__ = (
        *("buffered", "counter", "directory", "failure", "mapper", "older", "position", "prev", "storage"),
        *("written_bytes", "_buffer", "_buffer_bytes", "_buffer_since", "_data_end", "_durable", "_file"),
        *("_header", "_is_name_durable", "_limit", "_marked_end", "_seed"),
    )

    def __init__(
        self,
        directory: Directory,
        storage: Storage,
        counter: Counter,
        next_seq: int,
        older: Sequence[Log] = (),
        prev: tuple[int, int, int] = (0, 0, 0),
        *,
        buffered: bool = False,
        mapper: Mapper | None = None,
    ) -> None:
        self.directory = directory
        self.storage = storage
        self.counter = counter
        self.older = [*older]
        self.prev = prev
        self.buffered = buffered
        self.mapper = mapper
        self.position = (HEADER_BYTES, next_seq)
        self.written_bytes = 0
        self.failure: FailedError | None = None
        self._file: File | None = None
        self._header: LogHeader | None = None
        self._seed = 0
        self._limit = 0  # up to here a record behind the first needs nothing but to be stored
        self._data_end = 0
        self._durable = 0  # what the next record says is durable
        self._is_name_durable = False
        self._marked_end = 0  # end of the newest mark
        self._buffer: list[bytes] = []  # whole records, which end at `position`
        self._buffer_bytes = 0
        self._buffer_since = 0.0

    @property
    def seq(self) -> int:
        """Sequence of the next write."""
        return self.position[1]

    @property
    def number(self) -> int:
        """Number of the current log; 0 before its first write."""
        return self._header.number if self._header is not None else 0

    def put(self, key: bytes, value: bytes) -> int:
        """Write the record of one put; return its length.  Follow with `advance`."""
        file = self._file
        if file is None:
            file = self._start()
        offset, seq = self.position
        record = encode_put(self._seed, seq, self._durable, key, value)
        length = len(record)
        if offset == HEADER_BYTES or offset + length > self._limit:
            return self._write(record, offset)
        try:  # what _store() does, with a call less
            written = file.pwrite(record, offset)
        except error as exc:
            self._give_up(exc, file, offset)
            raise
        if written != length:
            self._store(record, offset)
        return length

    def delete(self, key: bytes) -> int:
        """Write the record of one deletion."""
        if self._file is None:
            self._start()
        offset, seq = self.position
        return self._write(records.encode_delete(self._seed, seq, self._durable, key), offset)

    def batch(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> int:
        """Write the record of a whole batch."""
        if self._file is None:
            self._start()
        offset, seq = self.position
        return self._write(records.encode_chunk(self._seed, seq, self._durable, keys, values), offset)

    def ranges(self, ranges: Intervals, keys: Sequence[bytes], values: Sequence[bytes | None]) -> int:
        """Write the record that voids what is older in some ranges, and then is a batch."""
        if self._file is None:
            self._start()
        offset, seq = self.position
        record = records.encode_ranges(self._seed, seq, self._durable, ranges, keys, values)
        return self._write(record, offset)

    def clear(self) -> int:
        """Write the record that voids everything before it."""
        if self._file is None:
            self._start()
        offset, seq = self.position
        return self._write(records.encode_clear(self._seed, seq, self._durable), offset)

    def _start(self) -> File:
        try:
            check_owner(self.directory)
        except FailedError as exc:
            self.failure = exc
            raise
        self.check_sequences()
        number, file = self.counter.create(self.directory, WAL)
        salt = int.from_bytes(self.storage.urandom(8), "little")
        header = LogHeader(number, salt, self.seq, *self.prev)
        self._header, self._seed = header, header.seed
        self._durable = 0
        self._marked_end = 0
        self._limit = NO_LIMIT if self.mapper is None and not self.buffered else 0
        self._is_name_durable = False
        self._data_end = 0  # so that a log without any record is not synced: it has not even a header
        self.position = (HEADER_BYTES, self.seq)
        self._file = file  # last: with it the log exists
        return file

    def check_sequences(self) -> None:
        """Raise if there are not enough for another log: what has no valid sequence would be lost."""
        if self.seq > MAX_NUMBER - MAX_LOG_OPERATIONS:
            raise error(f"{self.directory.path}: no sequence is left behind {self.seq - 1}")

    def _write(self, record: bytes, offset: int) -> int:
        if self.buffered:
            return self._hold(record)
        if offset + len(record) > self._limit:
            record = self._with_room(record)
            offset = self.position[0]
        if offset == HEADER_BYTES and self._header is not None:  # rule 1
            self._store(self._header.encode() + record, 0)
        else:
            self._store(record, offset)
        return len(record)

    def _with_room(self, record: bytes) -> bytes:
        """Have a log that the record fits into; return the record as it stands there."""  # rule 4
        if self.position[0] > HEADER_BYTES:
            self.rotate()
            self._start()
            record = records.moved(record, self._seed)
        file, mapper = self._file, self.mapper
        if file is not None and mapper is not None:
            self._limit = mapper.map(file, HEADER_BYTES + len(record), MAX_LOG_BYTES)
        return record

    def _store(self, data: bytes, offset: int) -> None:
        file = self._file
        if file is None:
            return
        try:
            if file.pwrite(data, offset) != len(data):
                write_all(file, data, offset)
        except error as exc:
            self._give_up(exc, file, offset)
            raise

    def _give_up(self, exc: error, file: File, offset: int) -> None:
        """Undo half a write if a full disk broke it off; any other failure is final."""
        if exc.errno not in DISK_FULL:
            raise self._failed(exc) from exc
        try:
            file.truncate(offset)  # give the blocks of half a record back to a full disk
        except error:
            pass  # harmless: the half record is invalid, and the next write goes over it

    def _failed(self, exc: error) -> FailedError:
        self.failure = FailedError(exc.errno, f"log write failed: {exc.strerror}", exc.filename)
        return self.failure

    def advance(self, length: int, count: int) -> None:
        """Say that the record just written, with `count` operations, is in the memtable."""
        offset, seq = self.position
        self._data_end = offset + length
        self.position = (offset + length, seq + count)  # rule 2
        self.written_bytes += length

    def unapplied(self) -> Record | None:
        """Return the record at `position`, if a whole one was written and then not advanced over.

        Over a mark it advances itself: whoever follows may have read it, and goes on behind it.
        """
        file, header = self._file, self._header
        if file is None or header is None:
            return None
        offset, seq = self.position
        if self._buffer:
            data = self._buffer[-1]
        elif offset == HEADER_BYTES and file.pread(HEADER_BYTES, 0) != header.encode():
            return None
        else:
            data = file.pread(RECORD_BYTES, offset)
            rest = file.size() - offset - len(data)
            data += file.pread(min(records.payload_bytes(data), rest), offset + len(data))
        record = records.record_at(bytes(offset) + data, offset, header.seed)
        if record is None or record.seq != seq:
            return None
        if records.is_mark(record):
            self.position = (record.end, seq)
            self._marked_end = record.end
            return None
        return record

    # -- durability "none": records wait in a buffer ------------------------------------------------

    def _hold(self, record: bytes) -> int:
        if self._buffer_bytes >= BUFFER_BYTES:  # the last drain failed: raise before more is held
            self.drain()
        if not self._buffer:
            self._buffer_since = self.storage.monotonic()
        self._buffer.append(record)
        self._buffer_bytes += len(record)
        return len(record)

    def unbuffer(self) -> None:
        """Write each record at once from now on.  `drain` came last."""
        self.buffered = False
        if self._file is not None and self.mapper is None:
            self._limit = NO_LIMIT

    def is_buffer_due(self) -> bool:
        """Return whether the buffer is full or old."""
        return bool(self._buffer) and (
            self._buffer_bytes >= BUFFER_BYTES
            or self.storage.monotonic() - self._buffer_since >= BUFFER_SECONDS
        )

    def drain(self) -> None:
        """Write out what the buffer holds, all of which must be in the memtable.

        Interrupted, it is repeated at the same offset.
        """
        if not self._buffer or self._header is None:
            return
        data = b"".join(self._buffer)
        start = self.position[0] - len(data)
        if start == HEADER_BYTES:
            self._store(self._header.encode() + data, 0)
        else:
            self._store(data, start)
        self._buffer = []
        self._buffer_bytes = 0

    # -- rotation -----------------------------------------------------------------------------------

    def is_full(self) -> bool:
        """Return whether the current log has reached its limit."""
        return self.position[0] >= MAX_LOG_BYTES

    def rotate(self) -> None:
        """End the current log; the next write begins a new one.  Nothing is synced.

        Interrupted, it is repeated before anything rests on it.
        """
        self.drain()
        header = self._header
        if self._file is None or header is None or self.seq == header.first_seq:
            return
        log = Log(header.number, self._data_end, self.seq - 1, False, self._file, header, self.position[0])
        self.older = [*(older for older in self.older if older.number != log.number), log]
        self.prev = (log.number, log.end, log.last_seq)
        self._file = self._header = None
        self.position = (HEADER_BYTES, self.seq)
        if log.file is not None:
            self._unmap(log.file, log.offset)

    def end_mapping(self) -> None:
        """Give back what the current log does not need.  Nothing more may be written to it."""
        if self._file is not None:
            self._unmap(self._file, self.position[0] if self._data_end else 0)

    @staticmethod
    def _unmap(file: File, end: int) -> None:
        try:
            file.unmap(end)
        except error:
            pass  # rule 4

    def skip(self) -> None:
        """Take a sequence for what stands in no log.  Requires that `rotate` came last."""
        offset, seq = self.position
        if self._header is not None:  # of a log without a record; nothing rests on what was written of it
            self._header = self._header._replace(first_seq=seq + 1)
        self.position = (offset, seq + 1)

    def close(self) -> None:
        """Close the files, which the traceback of an error may refer to, and forget what is in the buffer."""
        files = [self._file, *(log.file for log in self.older)]
        self._file = None
        self._buffer = []
        for log in self.older:
            log.file = None
        for file in files:
            if file is not None:
                file.close()
