"""Block: one chunk as bytes, in columns, keys apart from values.

    block := head envelope | body envelope
    head  := count u32 | columns u8 | (id u8, bytes u32)[columns] | the columns, one after the other
             1 KEYS        column of `count` keys
             2 TOMBSTONES  positions of the deleted keys; left out if there are none
             3             kept for expiry times
    body  := column of the values of the keys that are not deleted; no bytes if all are

Rules
  1. Keys can be read without the values: the head is compressed and checked on its own.
  2. A reader refuses a column id it does not know: leaving a column out changes what entries mean.
  3. Keys are ascending; a block whose keys are not is corrupt, whatever its checksum says.  That is checked
     before something is read in order, and before a key is said not to be here; who finds one has it.

Thread safety: a Block changes in memos alone, which two threads may make twice.  Spec: docs/format.md, Block.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from struct import Struct

from lsmdbm._base.chunk import KEY_ONLY, MAX_KEY_BYTES, MISSING, Chunk, Missing
from lsmdbm._format.coding import Cursor, Malformed, Unsupported
from lsmdbm._format.columns import (
    ITEM_OVERHEAD,
    STRUCT_LIMIT,
    UNIFORM,
    UNIFORM_BYTES,
    Column,
    decode,
    decode_positions,
    encode,
    encode_positions,
    items,
    open_column,
    spread,
    uniform_length,
)

KEYS, TOMBSTONES = 1, 2  # On disk: never changes.

_HEAD = Struct("<IB")
_ENTRY = Struct("<BI")
_PLAIN_HEAD = Struct("<IBBI")  # of a block without tombstones: one entry behind the count
MAX_COUNT = (
    1 << 16
)  # keys in a block: one key takes 50 bytes of memory beyond its own, and may compress to none
_USUAL_HEAD = Struct("<IBBIBI")  # the same, of keys that are UNIFORM
_UNIFORM = bytes((UNIFORM,))
_BLOCK_OVERHEAD = 600  # bytes of memory of the objects around one decoded block, measured


def tombstones_of(values: Sequence[bytes | None]) -> list[int]:
    """Return the positions of the tombstones in the values of a chunk."""
    if None not in values:
        return []
    return [position for position, value in enumerate(values) if value is None]


def encode_head(keys: Sequence[bytes], tombstones: Sequence[int]) -> bytes:
    """Return the head of a block."""
    column = encode(keys)
    if not tombstones:
        return _PLAIN_HEAD.pack(len(keys), 1, KEYS, len(column)) + column
    columns = [(KEYS, column), (TOMBSTONES, encode_positions(tombstones))]
    directory = b"".join(_ENTRY.pack(column, len(data)) for column, data in columns)
    return _HEAD.pack(len(keys), len(columns)) + directory + b"".join(data for _, data in columns)


def encode_body(values: Sequence[bytes | None], tombstones: Sequence[int]) -> bytes:
    """Return the body of a block with these values, of which `tombstones` are None."""
    if tombstones:
        values = [value for value in values if value is not None]
    return encode(values) if values else b""  # type: ignore[arg-type]  # no None is left


def decode_head(head: bytes, max_count: int | None = None) -> tuple[list[bytes], list[int]]:
    """Return the keys of a block and the positions of its tombstones.

    Args:
        max_count: how many keys there may be, MAX_COUNT if it is None; an index has its own limit.

    Raises:
        Malformed: the bytes are no head; keys out of order.
    """
    count, data, tombstones = _parse_head(head, max_count)
    return _checked(decode(data, count), len(data)), decode_positions(tombstones, count)


def _checked(keys: list[bytes], column_bytes: int) -> list[bytes]:
    _check_lengths(keys, column_bytes)
    return in_order(keys)


def _check_lengths(keys: list[bytes], column_bytes: int) -> None:
    if column_bytes > MAX_KEY_BYTES and max(map(len, keys)) > MAX_KEY_BYTES:
        raise Malformed("key over the limit")


def in_order(keys: list[bytes]) -> list[bytes]:
    """Return keys, if they are ascending (rule 3); else raise Malformed."""
    if keys != sorted(keys):
        raise Malformed("keys are not ascending")
    return keys


def _parse_head(head: bytes, max_count: int | None = None) -> tuple[int, bytes, bytes]:
    """Return the number of keys, their column, and the positions of the tombstones, b"" if there are none."""
    limit = min(len(head), MAX_COUNT if max_count is None else max_count)
    if len(head) >= _PLAIN_HEAD.size:
        count, columns, column, length = _PLAIN_HEAD.unpack_from(head)
        if columns == 1 and column == KEYS and _PLAIN_HEAD.size + length == len(head) and 0 < count <= limit:
            return count, head[_PLAIN_HEAD.size :], b""
    cursor = Cursor(head)
    count, columns = cursor.unpack(_HEAD)
    directory = [cursor.unpack(_ENTRY) for _ in range(columns)]
    data = {column: cursor.take(length) for column, length in directory}
    cursor.finish()
    if not data.keys() <= {KEYS, TOMBSTONES}:  # rule 2
        raise Unsupported(f"block has columns {sorted(data)}; this version knows {KEYS} and {TOMBSTONES}")
    if len(data) != columns or KEYS not in data:
        raise Malformed("block without keys, or with a column twice")
    if not 0 < count <= limit:
        raise Malformed(f"block without keys, or of {count} keys")
    return count, data[KEYS], data.get(TOMBSTONES, b"")


def head_bytes(data: bytes, offset: int) -> int | None:
    """Return the length of the raw head that begins at `offset`, None if none can; for salvage."""
    cursor = Cursor(data, offset)
    try:
        count, columns = cursor.unpack(_HEAD)
        if not (0 < count <= MAX_COUNT and 0 < columns <= TOMBSTONES):
            return None
        directory = [cursor.unpack(_ENTRY) for _ in range(columns)]
    except Malformed:
        return None
    end = cursor.position + sum(length for _, length in directory)
    return end - offset if directory[0][0] == KEYS and end <= len(data) else None


def decode_body(body: bytes, live_count: int) -> Column | None:
    """Return the values of the keys that are not deleted; None if there are none.

    Raises:
        Malformed: the bytes are no such column.
    """
    if live_count == 0:
        if body:
            raise Malformed("values in a block of deleted keys")
        return None
    return open_column(body, live_count)


def decode_block(head: bytes, body: bytes) -> Chunk:
    """Return all entries of a block, given its raw bytes, without making a Block: 3.3 instead of 5 us.

    Raises:
        Malformed: the bytes are no block; its keys are not ascending (rule 3).
    """
    keys: list[bytes] = []
    values: list[bytes | None] = []
    add_entries(head, body, keys, values)
    return in_order(keys), values


def add_entries(head: bytes, body: bytes, keys: list[bytes], values: list[bytes | None]) -> None:
    """Append all entries of a block to two lists, given its raw bytes.

    Whether the keys are ascending (rule 3) is left to `in_order`, once for many blocks.

    Raises:
        Malformed: the bytes are no block.
    """
    count, key_length = usual(head)
    if key_length and count <= STRUCT_LIMIT and key_length <= MAX_KEY_BYTES:
        keys += items(key_length, count).unpack_from(head, _USUAL_HEAD.size)
        positions = b""
    else:
        count, data, positions = _parse_head(head)
        fresh = decode(data, count)
        _check_lengths(fresh, len(data))
        keys += fresh
    if not positions:
        if body[:1] == _UNIFORM and count <= STRUCT_LIMIT:
            values += items(uniform_length(body, count), count).unpack_from(body, UNIFORM_BYTES)
        else:
            values += decode(body, count)
        return
    tombstones = decode_positions(positions, count)
    live = decode_body(body, count - len(tombstones))
    values += spread(live.items() if live is not None else [], tombstones)


def usual(head: bytes) -> tuple[int, int]:
    """Return the number of the keys of a head and the length of each, if they have one and none is deleted.

    Otherwise the length is 0, and the number no number of keys.
    """
    if len(head) > _USUAL_HEAD.size:
        count, columns, column, column_bytes, encoding, length = _USUAL_HEAD.unpack_from(head)
        if (
            len(head) == _USUAL_HEAD.size + length * count == _PLAIN_HEAD.size + column_bytes
            and (columns, column, encoding) == (1, KEYS, UNIFORM)
            and count <= MAX_COUNT
        ):
            return count, length
    return 0, 0


def key_chunk(keys: list[bytes], tombstones: Sequence[int]) -> Chunk:
    """Return the key-only chunk of a block."""
    values: list[bytes | None] = [KEY_ONLY] * len(keys)
    for position in tombstones:
        values[position] = None
    return keys, values


class Block:
    """One block, as the block cache keeps it: in its columns, out of which a point read takes one entry.

    Args:
        head: raw bytes of the head.
        body: raw bytes of the body.

    Attributes:
        cost: bytes of memory, about.
        is_checked: whether somebody has compared the keys with each other and with the bounds of the block.
    """

    __slots__ = (
        *("_body", "_count", "_head", "_key_column", "_key_length", "_keys", "_tombstones"),
        *("_value_column", "_value_length", "cost", "is_checked"),
    )

    def __init__(self, head: bytes, body: bytes) -> None:
        self.is_checked = False
        self._keys: list[bytes] | None = None
        self._head, self._body = head, body
        self._key_column: Column | None = None  # None where all keys have one length, and none is deleted,
        self._value_column: Column | None = None  # or all values: no object needs to be made to find one
        self._value_length = 0
        self._tombstones: Sequence[int] = ()
        self.cost = len(head) + len(body) + _BLOCK_OVERHEAD
        self._count, self._key_length = usual(head)
        if not self._key_length:
            self._open_keys()
        live_count = self._count - len(self._tombstones)
        if live_count and body[:1] == _UNIFORM:
            self._value_length = uniform_length(body, live_count)
        else:
            self._value_column = decode_body(body, live_count)
            if self._value_column is not None:
                self.cost += self._value_column.overhead_bytes

    def _open_keys(self) -> None:
        self._count, self._head, tombstones = _parse_head(self._head)  # of which the column alone is kept
        self._key_column = open_column(self._head, self._count)
        self._tombstones = decode_positions(tombstones, self._count)
        self.cost += self._key_column.overhead_bytes + ITEM_OVERHEAD * len(self._tombstones)

    def get(self, key: bytes) -> bytes | None | Missing:
        """Return the value of `key`, None if it is deleted here, MISSING if it is not here.

        One search of the key column for the bytes of the key, which decodes nothing else.
        """
        length = self._key_length
        if length:
            if len(key) != length:
                return MISSING
            place = self._head.find(key, _USUAL_HEAD.size) - _USUAL_HEAD.size
            if place < 0:
                return MISSING
            index = place // length
            if index * length != place:  # found across two keys: it may stand behind them
                index = self._keys_as_column().find(key)
        else:
            index = self._keys_as_column().find(key)
        if index < 0:
            return MISSING
        tombstones = self._tombstones
        if tombstones:
            before = bisect_left(tombstones, index)
            if before < len(tombstones) and tombstones[before] == index:
                return None
            index -= before
        values = self._value_column
        if values is not None:
            return values.item(index)
        low = UNIFORM_BYTES + self._value_length * index
        return self._body[low : low + self._value_length]

    def _keys_as_column(self) -> Column:
        return self._key_column or open_column(self._head[_PLAIN_HEAD.size :], self._count)

    @property
    def has_keys(self) -> bool:
        """Whether the keys are kept as a list too."""
        return self._keys is not None

    @property
    def keys(self) -> list[bytes]:
        """The keys; the list may be shared, and is never changed.

        Raises:
            Malformed: they are not ascending (rule 3), or one is over the limit.
        """
        if self._keys is not None:
            return self._keys
        keys = self._keys_as_column().items()
        return keys if self.is_checked else _checked(keys, len(self._head))

    def keep_keys(self) -> None:
        """Keep the keys as a list from now on, for reads in order; `cost` grows by that."""
        if self._keys is None:
            self._keys = self.keys
            self.cost += sum(map(len, self._keys)) + ITEM_OVERHEAD * len(self._keys)

    def chunk(self) -> Chunk:
        """Return all entries.  The lists may be shared; they are never changed."""
        live_count = self._count - len(self._tombstones)
        live = decode(self._body, live_count) if live_count else []
        if self._tombstones:
            return self.keys, spread(live, self._tombstones)
        return self.keys, live  # type: ignore[return-value]  # no None is among them

    def key_chunk(self) -> Chunk:
        """Return all entries as a key-only chunk."""
        return key_chunk(self.keys, self._tombstones)
