"""Feed: the committed records of the logs, in order, for those who follow.

    links     the logs, from the newest back: each says which one is before it, and where that ended
    since     which of them a follower needs; whether nothing is missing, and it has followed this history
    read      their records, a window at a time

Rules
  1. Only what recovery would find counts: a log counts as far as the next one says, the last as far as the
     handle knows, and what no other leads to does not count.
  2. What is missing is told before anything is given: HistoryLostError.  What is found to be torn on the way
     is told there; it is CorruptionError if it had been promised to be durable.
  3. Nothing is locked, created or changed.  Files are opened first, and may be unlinked by then.

Thread safety: pure functions over files.  Spec: docs/durability.md, Changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from lsmdbm._base.errors import CorruptionError, HistoryLostError, NotFoundError, error
from lsmdbm._base.storage import Directory, File
from lsmdbm._engine.names import WAL, file_name
from lsmdbm._engine.recovery import decoded, log_header
from lsmdbm._format import log_reader, records
from lsmdbm._format.coding import Malformed
from lsmdbm._format.position import Position, at_rest
from lsmdbm._format.records import HEADER_BYTES, RECORD_BYTES, Change, LogHeader, Record

FIRST_BYTES, WINDOW_BYTES = 4096, 256 << 10  # of a log that are read at a time: at first, and at most
HELD_FILES = 64  # of the logs that one follower needs; what is older is opened again in its turn

Step = tuple[int, Change, bytes]  # sequence of the first operation, what it does, the position behind it


class Link:
    """One log of the chain, as far as it counts.

    Args:
        end: of its last data record.
    """

    __slots__ = ("end", "file", "header", "last_seq", "number", "path")

    def __init__(
        self, number: int, path: str, header: LogHeader, end: int, last_seq: int, file: File | None
    ) -> None:
        self.number = number
        self.path = path
        self.header = header
        self.end = end
        self.last_seq = last_seq
        self.file = file


class Feed(NamedTuple):
    """What the logs of a database tell, as of one moment.

    Args:
        directory: where they are.
        uuid: of the database.
        head: number, end and last sequence of the newest log; zeros if there is none.
        next_seq: sequence of the next write.
    """

    directory: Directory
    uuid: bytes
    head: tuple[int, int, int]
    next_seq: int

    def position(self, seq: int) -> bytes:
        """Return the position at a sequence.  Costs a look at the header of each log behind it."""
        for link in self._links():
            if link.last_seq < seq - 1:
                break  # what comes between is in tables: an ingest
            if link.header.first_seq < seq:
                offset = link.end if link.last_seq == seq - 1 else HEADER_BYTES
                return Position(seq, link.number, link.header.salt, offset).encode()
        return at_rest(seq, self.uuid).encode()

    def since(self, data: bytes | int | None, check_open: Callable[[], object]) -> Iterator[Step]:
        """Return the records from a position on.

        Args:
            data: the position; a sequence, which belongs to the history that there is; None for the
                beginning of the database.
            check_open: called before each step; raises if the database was closed.

        Raises:
            ValueError: these bytes are no position.
            HistoryLostError: some of the records are not there any more, or it is a position of another
                history: it names what is missing.
            CorruptionError: a log is damaged.
        """
        try:
            if isinstance(data, bytes):
                place = Position.decode(data)
            else:
                place = at_rest(max(1, data or 0), self.uuid)
        except Malformed:
            raise ValueError(f"{data!r} is no position of changes()") from None
        links = self._needed(place)
        for place_in_list, link in enumerate(links):
            if 0 < place_in_list < len(links) - HELD_FILES:
                link.file = None
        return self._steps(links, place, check_open)

    def _needed(self, place: Position) -> list[Link]:
        """Return the logs from a position on, oldest first."""
        if not place.log and place != at_rest(place.seq, self.uuid):
            raise self._lost("the position is one of another database")
        if place.seq > self.next_seq:
            what = f"the position is at {place.seq}, the database at {self.next_seq}"
            raise self._lost(f"{what}: it has lost what came between, or is another one")
        if place.seq == self.next_seq and not place.log:
            return []
        links: list[Link] = []
        first_seq = self.next_seq  # of what has been found so far
        for link in self._links():
            if link.last_seq + 1 < first_seq and link.last_seq < place.seq:
                break  # a gap, which the position is in or at the end of
            if link.last_seq + 1 < first_seq:
                raise self._lost(f"sequences {link.last_seq + 1} to {first_seq - 1} are in no log")
            links.insert(0, link)
            first_seq = link.header.first_seq
            if first_seq < place.seq or (first_seq == place.seq and not place.log):
                break
        if place.log and first_seq < place.seq and not _is_of(place, links[0]):
            raise self._lost(f"sequence {place.seq - 1} is another write than the one that was seen")
        if first_seq > place.seq:
            raise self._lost(f"sequences {place.seq} to {first_seq - 1} are in no log")
        if place.log and first_seq == place.seq:
            raise self._lost(f"log {place.log}, which holds sequence {place.seq - 1}, is not there any more")
        return links

    def _lost(self, what: str) -> HistoryLostError:
        return HistoryLostError(self.directory.path, what, self._oldest().encode())

    def _oldest(self) -> Position:
        """Return the oldest position from which nothing is missing."""
        first_seq = self.next_seq
        for link in self._links():
            if link.last_seq + 1 < first_seq:
                break
            first_seq = link.header.first_seq
        return at_rest(first_seq, self.uuid)

    # -- the chain ----------------------------------------------------------------------------------

    def _links(self) -> Iterator[Link]:
        """Yield the logs that count, newest first, as far as they are there."""  # rule 1
        number, end, last_seq = self.head
        while number:
            link = self._link(number, end, last_seq)
            if link is None:
                return
            yield link
            header = link.header
            number, end, last_seq = header.prev, header.prev_end, header.prev_last_seq

    def _link(self, number: int, end: int, last_seq: int) -> Link | None:
        name = file_name(number, WAL)
        path = f"{self.directory.path}/{name}"
        try:
            file = self.directory.open(name)
        except NotFoundError:
            return None
        header = log_header(file.pread(HEADER_BYTES, 0), number, path, lambda: _whole(file))
        if header is None or header.first_seq > last_seq + 1:
            return None  # never synced, and lost with the power
        return Link(number, path, header, end, last_seq, file)

    # -- their records ------------------------------------------------------------------------------

    def _steps(self, links: list[Link], place: Position, check_open: Callable[[], object]) -> Iterator[Step]:
        expected = place.seq
        for link in links:
            file = link.file or self._reopened(link)
            start = place.offset if link.number == place.log else HEADER_BYTES
            for record in log_records(file, link.header, start, link.end):
                if record.last_seq < expected or records.is_mark(record):
                    continue
                if record.seq != expected and (place.log or record.seq > place.seq):
                    break  # a sequence that was given as a number may be inside of the first record
                check_open()
                expected = record.last_seq + 1
                position = Position(expected, link.number, link.header.salt, record.end)
                yield record.seq, decoded(record, link.path), position.encode()
            if expected != link.last_seq + 1:
                raise self._torn(link, file, expected)
            link.file = None

    def _reopened(self, link: Link) -> File:
        again = self._link(link.number, link.end, link.last_seq)
        if again is None or again.header != link.header or again.file is None:
            raise self._lost(f"log {link.number} has been removed meanwhile")
        return again.file

    def _torn(self, link: Link, file: File, expected: int) -> error:
        """Return what it means that a log ends before it should."""  # rule 2
        data = _whole(file)
        bad = HEADER_BYTES
        for record in log_reader.in_order(data, link.header):
            bad = record.end
        try:
            was_promised = any(durable > bad for durable in log_reader.promises(data, link.header, bad))
        except Malformed as exc:
            return CorruptionError(link.path, -1, str(exc))
        if was_promised:
            return CorruptionError(link.path, bad, "invalid record in a part of the log that had been synced")
        if bad >= link.end:
            what = f"ends with another sequence than {link.last_seq}, which the next log says"
            return CorruptionError(link.path, link.end, what)
        return self._lost(f"log {link.number} is torn at sequence {expected}, of {link.last_seq}")


def _is_of(place: Position, link: Link) -> bool:
    return (place.log, place.salt) == (link.number, link.header.salt) and place.offset <= link.end


def _whole(file: File) -> bytes:
    return file.pread(file.size(), 0)


def log_records(file: File, header: LogHeader, start: int, end: int) -> Iterator[Record]:
    """Yield the records of a log that stand between two offsets, up to an invalid one.

    Memory: a window, or a record if that is larger.
    """
    base, offset, seed, window = start, start, header.seed, FIRST_BYTES
    data = b""
    while offset < end:
        record = records.record_at(data, offset, seed, base)
        if record is None:
            head = file.pread(RECORD_BYTES, offset)
            if not any(head):  # room that a mapped log has ahead: not a window of that
                return
            length = max(window, RECORD_BYTES + records.payload_bytes(head))
            window = min(2 * window, WINDOW_BYTES)
            data, base = file.pread(min(length, end - offset), offset), offset
            record = records.record_at(data, offset, seed, base)
            if record is None:
                return
        yield record
        offset = record.end
