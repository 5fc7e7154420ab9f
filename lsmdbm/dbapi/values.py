r"""Values: what SQL stores, as keys whose byte order is SQL's order, and as rows.

    key    := value*                      one after the other, each in a form that is no prefix of another
    value  := 05                          NULL
            | 10 double                   INTEGER and REAL: 8 bytes, big-endian; all bits of one below zero
                                          flipped, else the sign bit: so doubles compare as bytes
            | 10 double rest              the same from 2**53 on: rest u16, big-endian, what the double lacks
            | 20 byte* 00                 TEXT as UTF-8; in it 00 is written 01 01, and 01 is written 01 02
            | 30 byte* 00                 BLOB likewise
    rowid  := i64                         8 bytes, big-endian, with the sign bit flipped

    row    := count u16 | code u8[count] | fixed | heap                                       little-endian
    fixed  := for each code but NULL and IN_KEY the number, or the length of the text or blob
    heap   := the bytes of texts and blobs

Rules
  1. The order is SQLite's: NULL, then numbers by what they are worth, then TEXT and BLOB byte by byte.  An
     INTEGER and a REAL that are equal have one encoding, so a decoded key gives the INTEGER.
  2. What begins with an encoded value is that value and what follows it: a prefix is equality.
  3. A row says of each column how it is stored; IN_KEY stands for what the key tells exactly.
  4. Codes and tags are on disk: they never change.

Thread safety: pure functions.  Spec: docs/sql.md, Keys and rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from struct import Struct, error
from typing import Any, Final

from lsmdbm._base.errors import CorruptionError

Value = None | int | float | str | bytes  # what SQLite stores


class Elsewhere(Enum):
    """The type of `IN_KEY`, what a row holds in place of a value that its key tells."""

    IN_KEY = "in key"


IN_KEY: Final = Elsewhere.IN_KEY

# On disk: never changes.
RESERVED = b"\0sql\0"  # what keys begin with that belong to tables: see catalogue.py
NULL_TAG, NUMBER_TAG, TEXT_TAG, BLOB_TAG = b"\x05", b"\x10", b"\x20", b"\x30"
NULL, I8, I16, I32, I64, F64, TEXT8, TEXT32, BLOB8, BLOB32, KEY = range(11)

_CODES = ("", "b", "h", "i", "q", "d", "B", "I", "B", "I", "")  # of struct, by code
_TEXTS, _HEAPED = frozenset((TEXT8, TEXT32)), frozenset((TEXT8, TEXT32, BLOB8, BLOB32))
_DOUBLE = Struct("<d")
_SIGN, _MASK = 1 << 63, (1 << 64) - 1
_EXACT = 1 << 53  # doubles below have no integer between them
_LAYOUTS = 4096  # remembered: a table whose columns hold one type each has one

MAX_SHORT = 0xFF  # bytes of a text or blob whose length is one byte
ROWID_BYTES = 8
ROW_HEAD_BYTES = 2  # of a row, before its codes: their count
MIN_INTEGER, MAX_INTEGER = -(1 << 63), (1 << 63) - 1
MAX_COLUMNS = (1 << 8 * ROW_HEAD_BYTES) - 1


# -- keys ---------------------------------------------------------------------------------------------


def encode_rowid(rowid: int) -> bytes:
    r"""Return a rowid as a key.

    >>> encode_rowid(1), encode_rowid(-1)
    (b'\x80\x00\x00\x00\x00\x00\x00\x01', b'\x7f\xff\xff\xff\xff\xff\xff\xff')
    """
    return (rowid + _SIGN).to_bytes(ROWID_BYTES, "big")


def decode_rowid(key: bytes) -> int:
    """Return what `encode_rowid` was given."""
    return int.from_bytes(key, "big") - _SIGN


def encode_key(values: Iterable[Value]) -> bytes:
    r"""Return values as a key: keys compare like the values, the first difference counts.

    >>> encode_key(["a", None]) < encode_key(["a", -0.5]) < encode_key(["a", 2]) < encode_key(["b", None])
    True
    """
    return b"".join(map(_encode_key_value, values))


def _encode_key_value(value: Value) -> bytes:
    if isinstance(value, str):
        return TEXT_TAG + _escaped(value.encode("utf-8"))
    if isinstance(value, (int, float)):
        return NUMBER_TAG + _encode_number(value)
    if isinstance(value, bytes):
        return BLOB_TAG + _escaped(value)
    return NULL_TAG


def _escaped(data: bytes) -> bytes:
    return data.replace(b"\1", b"\1\2").replace(b"\0", b"\1\1") + b"\0"


def _encode_number(value: int | float) -> bytes:
    double = float(value)
    if -_EXACT < double < _EXACT:
        return _encode_double(double)
    rest = 0
    if type(value) is int:
        if int(double) > value:  # it was rounded up
            double = _decode_double(_shifted(_encode_double(double), -1))
        rest = value - int(double)
    return _encode_double(double) + rest.to_bytes(2, "big")


def _shifted(data: bytes, step: int) -> bytes:
    return (int.from_bytes(data, "big") + step).to_bytes(8, "big")


def _encode_double(double: float) -> bytes:
    bits = int.from_bytes(_DOUBLE.pack(double + 0.0), "little")  # -0.0 becomes 0.0, to which it is equal
    return (bits ^ _MASK if bits & _SIGN else bits | _SIGN).to_bytes(8, "big")


def _decode_double(data: bytes) -> float:
    bits = int.from_bytes(data, "big")
    double: float = _DOUBLE.unpack((bits ^ _SIGN if bits & _SIGN else bits ^ _MASK).to_bytes(8, "little"))[0]
    return double


def decode_key(key: bytes, offset: int = 0, count: int | None = None) -> list[Value]:
    """Return the values of a key from an offset on: all, or so many.  Whole numbers come as int (rule 1).

    Raises:
        CorruptionError: it is no key.
    """
    values: list[Value] = []
    while offset < len(key) and len(values) != count:
        tag = key[offset : offset + 1]
        offset += 1
        if tag == NULL_TAG:
            values.append(None)
        elif tag == NUMBER_TAG:
            number, offset = _decode_number(key, offset)
            values.append(number)
        elif tag in (TEXT_TAG, BLOB_TAG):
            stop = key.find(b"\0", offset)
            if stop < 0:
                raise _corrupt("key", "a text or blob in it has no end")
            data = key[offset:stop].replace(b"\1\1", b"\0").replace(b"\1\2", b"\1")
            values.append(_text(data) if tag == TEXT_TAG else data)
            offset = stop + 1
        else:
            raise _corrupt("key", f"no value begins with {tag!r}")
    return values


def _decode_number(key: bytes, offset: int) -> tuple[int | float, int]:
    end = offset + 8
    if end > len(key):
        raise _corrupt("key", "it ends inside a number")
    double = _decode_double(key[offset:end])
    if -_EXACT < double < _EXACT:
        return (int(double) if double.is_integer() else double), end
    rest = int.from_bytes(key[end : end + 2], "big")
    end += 2
    if end > len(key):
        raise _corrupt("key", "it ends inside a number")
    if float(MIN_INTEGER) <= double < -float(MIN_INTEGER):
        return int(double) + rest, end
    return double, end


# -- rows ---------------------------------------------------------------------------------------------


def is_told_by_key(value: Value) -> bool:
    """Return whether a key that holds a value gives it back as it is (rule 1)."""
    return type(value) is not float


def encode_row(values: Iterable[Value | Elsewhere]) -> bytes:
    """Return the values of a row, one after the other.

    >>> decode_row(encode_row([1, "a", None, 2.5]))
    [1, 'a', None, 2.5]
    """
    codes: list[int] = []
    fixed: list[int | float] = []
    heap: list[bytes] = []
    for value in values:  # type() is, for it costs half of isinstance()
        if value is IN_KEY:
            codes.append(KEY)
        elif type(value) is int:
            codes.append(I8 if -128 <= value < 128 else _integer_code(value))
            fixed.append(value)
        elif type(value) is str:
            data = value.encode("utf-8")
            codes.append(TEXT8 if len(data) <= MAX_SHORT else TEXT32)
            fixed.append(len(data))
            heap.append(data)
        elif type(value) is float:
            codes.append(F64)
            fixed.append(value + 0.0)  # no -0.0, as in SQLite
        elif value is None:
            codes.append(NULL)
        elif type(value) is bytes:
            codes.append(BLOB8 if len(value) <= MAX_SHORT else BLOB32)
            fixed.append(len(value))
            heap.append(value)
    written = bytes(codes)
    layout = _layout(written)
    return b"".join((layout.head, layout.fixed.pack(*fixed), *heap))


def _integer_code(value: int) -> int:
    bits = (value if value >= 0 else ~value).bit_length()
    return I8 if bits < 8 else I16 if bits < 16 else I32 if bits < 32 else I64


@dataclass(frozen=True, slots=True)
class RowLayout:
    """How rows with certain codes are laid out.

    Attributes:
        head: what such a row begins with: the count, and the codes.
        fixed: its numbers and lengths, which come next.
        blanks: the columns that have none, ascending, and what stands for them.
        heaped: the columns on the heap, and whether they are TEXT.
    """

    head: bytes
    fixed: Struct
    blanks: list[tuple[int, Value | Elsewhere]]
    heaped: list[tuple[int, bool]]

    def decode(self, data: bytes) -> list[Any]:
        """Return the values of a row that begins with `head`.

        Raises:
            CorruptionError: it is no row.
        """
        start = len(self.head)
        try:
            values: list[Any] = list(self.fixed.unpack_from(data, start))
        except error:
            raise _corrupt("row", "it ends inside its numbers") from None
        for place, blank in self.blanks:
            values.insert(place, blank)
        position = start + self.fixed.size
        for place, is_text in self.heaped:
            end = position + values[place]
            part = data[position:end]
            try:
                values[place] = str(part, "utf-8") if is_text else part
            except UnicodeDecodeError as exc:
                raise _corrupt("text", str(exc)) from None
            position = end
        if position != len(data):
            raise _corrupt("row", f"it has {len(data)} bytes, and its codes ask for {position}")
        return values


def layout_of(data: bytes) -> RowLayout:
    """Return how a row is laid out, by its codes.

    Raises:
        CorruptionError: it is no row.
    """
    start = ROW_HEAD_BYTES + int.from_bytes(data[:ROW_HEAD_BYTES], "little")
    if len(data) < start:
        raise _corrupt("row", "it ends inside its codes")
    return _layout(data[ROW_HEAD_BYTES:start])


@lru_cache(_LAYOUTS)
def _layout(codes: bytes) -> RowLayout:
    if codes and max(codes) > KEY:
        raise _corrupt("row", f"no value has code {max(codes)}")
    return RowLayout(
        head=len(codes).to_bytes(ROW_HEAD_BYTES, "little") + codes,
        fixed=Struct("<" + "".join(_CODES[code] for code in codes)),
        blanks=[
            (place, IN_KEY if code == KEY else None) for place, code in enumerate(codes) if not _CODES[code]
        ],
        heaped=[(place, code in _TEXTS) for place, code in enumerate(codes) if code in _HEAPED],
    )


def decode_row(data: bytes) -> list[Value | Elsewhere]:
    """Return the values of a row.

    Raises:
        CorruptionError: it is no row.
    """
    return layout_of(data).decode(data)


def _text(data: bytes) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as exc:
        raise _corrupt("text", str(exc)) from None


def _corrupt(what: str, reason: str) -> CorruptionError:
    return CorruptionError(f"SQL {what}", -1, reason)
