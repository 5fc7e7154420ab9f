"""Messages between a process and its worker: an order one way, how far it is and what came of it the other.

    frame    := length u32 | kind u8 | body                           length is that of kind and body
    order    := device u64 | inode u64 | first u64 | stop u64 | memtable_bytes u64 | max_open_files u32
                | level u8 | shape | path counted | runs groups | below groups
    progress := bytes u64
    outputs  := groups                                                a single one
    failure  := cause u8 | number i64 | text counted | path counted
    groups   := count u32 | group[count]
    group    := count u32 | table[count]                              shape, table: see manifest

Rules
  1. Nothing of this is ever on disk; both sides are the same version of this package.
  2. Bytes that are no message are Malformed: whoever sends them is not to be trusted.

Thread safety: pure functions, but for Frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

from lsmdbm._base.errors import CorruptionError, error
from lsmdbm._format.coding import U32, U64, Cursor, Malformed, counted
from lsmdbm._format.manifest import TableMeta, decode_shape, decode_table, encode_shape, encode_table

MAX_FRAME_BYTES = 1 << 30
REFUSED, FAILED, CORRUPT = 0, 1, 2
NO_NUMBER = -1

_ORDER = Struct("<QQQQQIB")
_FAILURE = Struct("<Bq")

Groups = tuple[tuple[TableMeta, ...], ...]


@dataclass(frozen=True, slots=True)
class Order:
    """A compaction to be done."""

    path: str  # of the directory
    identity: tuple[int, int]  # device and inode of it
    numbers: tuple[int, int]  # which new files may have: from the first to below the second
    memtable_bytes: int
    max_open_files: int
    shape: Mapping[str, object]
    level: int  # of the outputs
    runs: Groups  # to be merged, newest first
    below: Groups  # of the levels behind that one: what overlaps


@dataclass(frozen=True, slots=True)
class Progress:
    """So many bytes were worked off since the last message."""

    done_bytes: int


@dataclass(frozen=True, slots=True)
class Outputs:
    """It is done: these tables are complete and synced."""

    tables: tuple[TableMeta, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """It cannot be done."""

    cause: int  # REFUSED: nobody tried; FAILED: an error of the system; CORRUPT: an input is damaged
    text: str
    number: int = NO_NUMBER  # errno, or offset of the damage
    path: str = ""

    @classmethod
    def of(cls, exc: Exception) -> Failure:
        """Return what is to be told of an exception."""
        if isinstance(exc, CorruptionError):
            return cls(CORRUPT, exc.reason, exc.offset, exc.path)
        if isinstance(exc, error) and exc.errno is not None:
            return cls(FAILED, exc.strerror or "", exc.errno, exc.filename or "")
        return cls(REFUSED, f"{type(exc).__name__}: {exc}")

    def exception(self) -> error | None:
        """Return the error that stopped the work; None if another one may try again."""
        if self.cause == CORRUPT:
            return CorruptionError(self.path, self.number, self.text)
        if self.cause == FAILED:
            return error(self.number, self.text, self.path or None)
        return None


Message = Order | Progress | Outputs | Failure
_ORDERS, _PROGRESS, _OUTPUTS, _FAILURES = 1, 2, 3, 4


def encode(message: Message) -> bytes:
    """Return the frame of a message."""
    if isinstance(message, Order):
        kind, body = _ORDERS, _encode_order(message)
    elif isinstance(message, Progress):
        kind, body = _PROGRESS, U64.pack(message.done_bytes)
    elif isinstance(message, Outputs):
        kind, body = _OUTPUTS, _encode_groups([message.tables])
    else:
        fields = _FAILURE.pack(message.cause, message.number)
        kind, body = _FAILURES, fields + _counted_text(message.text) + _counted_text(message.path)
    return counted(bytes((kind,)) + body)


def _encode_order(order: Order) -> bytes:
    fields = _ORDER.pack(
        *(*order.identity, *order.numbers, order.memtable_bytes, order.max_open_files, order.level)
    )
    groups = _encode_groups(order.runs) + _encode_groups(order.below)
    return fields + encode_shape(order.shape) + _counted_text(order.path) + groups


def _encode_groups(groups: Sequence[Sequence[TableMeta]]) -> bytes:
    parts = [U32.pack(len(groups))]
    for group in groups:
        parts.append(U32.pack(len(group)))
        parts += [encode_table(0, meta) for meta in group]
    return b"".join(parts)


def _counted_text(text: str) -> bytes:
    return counted(text.encode("utf-8", "surrogatepass"))


def decode(frame: bytes) -> Message:
    """Return the message in what stands behind the length of a frame.

    Raises:
        Malformed: there is none.
    """
    cursor = Cursor(frame, 1)
    kind = frame[0] if frame else 0
    message: Message
    if kind == _ORDERS:
        message = _decode_order(cursor)
    elif kind == _PROGRESS:
        message = Progress(cursor.unpack(U64)[0])
    elif kind == _OUTPUTS:
        message = Outputs(_decode_outputs(cursor))
    elif kind == _FAILURES:
        cause, number = cursor.unpack(_FAILURE)
        message = Failure(cause, _text(cursor), number, _text(cursor))
    else:
        raise Malformed(f"message of kind {kind}")
    cursor.finish()
    return message


def _decode_order(cursor: Cursor) -> Order:
    device, inode, first, stop, memtable_bytes, max_open_files, level = cursor.unpack(_ORDER)
    shape, path = decode_shape(cursor), _text(cursor)
    runs, below = _decode_groups(cursor), _decode_groups(cursor)
    numbers = (first, stop)
    return Order(path, (device, inode), numbers, memtable_bytes, max_open_files, shape, level, runs, below)


def _decode_outputs(cursor: Cursor) -> tuple[TableMeta, ...]:
    groups = _decode_groups(cursor)
    if len(groups) != 1:
        raise Malformed(f"{len(groups)} groups of outputs")
    return groups[0]


def _decode_groups(cursor: Cursor) -> Groups:
    return tuple(
        tuple(decode_table(cursor)[1] for _ in range(cursor.unpack(U32)[0]))
        for _ in range(cursor.unpack(U32)[0])
    )


def _text(cursor: Cursor) -> str:
    try:
        return cursor.counted().decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise Malformed("text is none") from None


class Frames:
    """Puts frames together from what comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are whole now.

        Raises:
            Malformed: these are no messages.
        """
        self._rest += data
        cursor = Cursor(self._rest)
        found: list[Message] = []
        while len(self._rest) - cursor.position >= U32.size:
            length = U32.unpack_from(self._rest, cursor.position)[0]
            if length > MAX_FRAME_BYTES:
                raise Malformed(f"frame of {length} bytes")
            if len(self._rest) - cursor.position - U32.size < length:
                break
            found.append(decode(cursor.counted()))
        self._rest = self._rest[cursor.position :]
        return found
