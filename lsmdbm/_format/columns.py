"""Column: a list of byte strings as bytes, in the cheapest of three encodings.

    column := encoding u8 | body                     the number of items and of bytes come from outside
      0 UNIFORM  item_bytes u32 | items              all items have one length
      1 SIZED    width u8 | sizes uWIDTH[n] | items  width is 1, 2 or 4 bytes
      2 SPLIT    separator u8 | items, joined        no item holds the separator

    positions := count u32 | u32[count]              ascending; which items of a list are tombstones

Rules
  1. encode() takes the first that fits: UNIFORM, SPLIT, SIZED.  One C call decodes the first two.
  2. decode() accepts a column only if the items use it up exactly.

Thread safety: pure functions.  Spec: docs/format.md, Column.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise, repeat
from struct import Struct

from lsmdbm._format.coding import U32, Malformed

UNIFORM, SIZED, SPLIT = 0, 1, 2  # On disk: never changes.
SEPARATORS = (b"\0", b"\n", b"\xff")
SPLIT_LIMIT = 1 << 20  # joining is tried on columns up to this many bytes: it copies them
STRUCT_LIMIT = 1024  # items one Struct takes apart; it takes 32 bytes of memory for each

ITEM_OVERHEAD = 41  # bytes of memory a bytes object takes beyond its content, and its place in a list

_UNIFORM = Struct("<BI")
UNIFORM_BYTES = _UNIFORM.size  # before the items of such a column
_CODES = {1: "B", 2: "H", 4: "I"}


@lru_cache(maxsize=256)
def items(length: int, count: int) -> Struct:
    """Return what takes so many items of one length apart, behind the head of their column."""
    return Struct("<" + f"{length}s" * count)


def encode(items: Sequence[bytes]) -> bytes:
    """Return `items` as one column.  O(bytes)."""
    lengths = set(map(len, items))
    largest = max(lengths, default=0)
    if len(lengths) <= 1:
        return _UNIFORM.pack(UNIFORM, largest) + b"".join(items)
    sizes = list(map(len, items))
    if sum(sizes) <= SPLIT_LIMIT:
        for separator in SEPARATORS:
            joined = separator.join(items)
            if joined.count(separator) == len(items) - 1:
                return bytes((SPLIT,)) + separator + joined
    width = 1 if largest < 1 << 8 else 2 if largest < 1 << 16 else 4
    return bytes((SIZED, width)) + struct.pack(f"<{len(sizes)}{_CODES[width]}", *sizes) + b"".join(items)


def decode(column: bytes, count: int) -> list[bytes]:
    """Return the `count` items of a column.

    Raises:
        Malformed: rule 2, or an encoding this version does not know.
    """
    if count <= STRUCT_LIMIT and column and column[0] == UNIFORM:  # the usual case, at a third of the cost
        return list(items(uniform_length(column, count), count).unpack_from(column, _UNIFORM.size))
    return open_column(column, count).items()


def uniform_length(column: bytes, count: int) -> int:
    """Return the length that each item of a UNIFORM column has; Malformed if they do not use it up."""
    if len(column) < _UNIFORM.size:
        raise Malformed("column cut short")
    length: int = _UNIFORM.unpack_from(column)[1]
    if _UNIFORM.size + length * count != len(column):
        raise Malformed(f"{count} items of {length} bytes expected in {len(column)} bytes")
    return length


class Column:
    """A column that hands out and finds single items without decoding all of them.  Made by `open_column`.

    Attributes:
        count: the number of items.
        overhead_bytes: of memory beyond the bytes of the column.
    """

    __slots__ = ("_data", "count")
    overhead_bytes = 0

    def __init__(self, data: bytes, count: int) -> None:
        self._data = data
        self.count = count

    def items(self) -> list[bytes]:
        """Return all items."""
        raise NotImplementedError

    def item(self, index: int) -> bytes:
        """Return one item, without decoding the others where the encoding allows."""
        raise NotImplementedError

    def find(self, item: bytes) -> int:
        """Return the index of an item of an ascending column, -1 if it is not there."""
        index = bisect_left(range(self.count), item, key=self.item)
        return index if index < self.count and self.item(index) == item else -1


class _Uniform(Column):
    __slots__ = ("_length",)

    def __init__(self, data: bytes, count: int) -> None:
        self._data = data
        self.count = count
        self._length = uniform_length(data, count)

    def items(self) -> list[bytes]:
        data, length, count = self._data, self._length, self.count
        if count <= STRUCT_LIMIT:
            return list(items(length, count).unpack_from(data, _UNIFORM.size))
        starts = accumulate(repeat(length, count - 1), initial=_UNIFORM.size)
        return [data[low : low + length] for low in starts]

    def item(self, index: int) -> bytes:
        low = _UNIFORM.size + self._length * index
        return self._data[low : low + self._length]

    def find(self, item: bytes) -> int:
        length = self._length
        if len(item) != length:
            return -1
        place = self._data.find(item, _UNIFORM.size) - _UNIFORM.size
        if place <= 0:
            return 0 if place == 0 and self.count else -1
        index, rest = divmod(place, length)
        return super().find(item) if rest else index  # found across two items: it may stand behind them


class _Split(Column):
    __slots__ = ()

    def __init__(self, data: bytes, count: int) -> None:
        super().__init__(data, count)
        if len(data) < 2 or data.count(data[1:2], 2) != count - 1:
            raise Malformed(f"{count} separated items expected")

    def items(self) -> list[bytes]:
        return self._data[2:].split(self._data[1:2])

    def item(self, index: int) -> bytes:  # O(index), but at 15 ns an item, and without keeping them all
        return self._data[2:].split(self._data[1:2], index + 1)[index]

    def find(self, item: bytes) -> int:
        data = self._data
        separator = data[1:2]
        if separator in item:
            return -1
        head = separator + item
        place = data.find(head + separator, 1)
        if place < 0:
            return self.count - 1 if data.endswith(head, 1) else -1
        return data.count(separator, 1, place)


class _Sized(Column):
    __slots__ = ("_ends", "overhead_bytes")

    def __init__(self, data: bytes, count: int) -> None:
        super().__init__(data, count)
        code = _CODES.get(data[1]) if len(data) > 1 else None
        if code is None or len(data) < 2 + data[1] * count:
            raise Malformed("sizes of a column cut short")
        sizes = struct.unpack_from(f"<{count}{code}", data, 2)
        self._ends = list(accumulate(sizes, initial=2 + data[1] * count))
        self.overhead_bytes = ITEM_OVERHEAD * count
        if self._ends[-1] != len(data):
            raise Malformed(f"items end at {self._ends[-1]}, the column at {len(data)}")

    def items(self) -> list[bytes]:
        data = self._data
        return [data[low:high] for low, high in pairwise(self._ends)]

    def item(self, index: int) -> bytes:
        return self._data[self._ends[index] : self._ends[index + 1]]


_KINDS: dict[int, type[Column]] = {UNIFORM: _Uniform, SIZED: _Sized, SPLIT: _Split}


def open_column(data: bytes, count: int) -> Column:
    """Return a column, given exactly its bytes and the number of its items.

    Raises:
        Malformed: rule 2, or an encoding this version does not know.
    """
    encoding = data[0] if data else -1
    kind = _KINDS.get(encoding)
    if kind is None:
        raise Malformed(f"column encoding {encoding} is unknown")
    return kind(data, count)


def encode_positions(positions: Sequence[int]) -> bytes:
    """Return ascending positions as bytes; b"" for none."""
    if not positions:
        return b""
    return struct.pack(f"<I{len(positions)}I", len(positions), *positions)


def decode_positions(data: bytes, count: int) -> list[int]:
    """Return positions in a list of `count` items.

    Raises:
        Malformed: they are not ascending, not below `count`, or do not use up `data`.
    """
    if not data:
        return []
    if len(data) < U32.size or len(data) != U32.size * (1 + U32.unpack_from(data)[0]):
        raise Malformed("positions cut short")
    if len(data) > U32.size * (1 + count):  # before they take nine times as much memory
        raise Malformed("more positions than items")
    positions = list(struct.unpack_from(f"<{len(data) // U32.size - 1}I", data, U32.size))
    if positions != sorted(set(positions)) or (positions and positions[-1] >= count):
        raise Malformed("positions are not ascending or out of range")
    return positions


def spread(live: Sequence[bytes], positions: Sequence[int]) -> list[bytes | None]:
    """Return `live` with a None at each of the ascending `positions` of the result.

    By slices, because list.insert() would make it quadratic.
    """
    if not positions:
        return list(live)
    values: list[bytes | None] = []
    low = 0
    for taken, position in enumerate(positions):
        values += live[low : position - taken]
        values.append(None)
        low = position - taken
    values += live[low:]
    return values
