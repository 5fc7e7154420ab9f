"""Layout: the rows of one table as entries of the store, and back.

    key      prefix of the table, then its rowid, or the values of its primary key
    value    its columns; IN_KEY for those that the key tells

Rules
  1. NULLs differ from each other, so a primary key that has one ends in a number that tells its rows apart.

Thread safety: pure functions.  Spec: docs/sql.md, Keys and rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lsmdbm._base.errors import CorruptionError
from lsmdbm.dbapi.catalogue import Table
from lsmdbm.dbapi.values import (
    IN_KEY,
    ROW_HEAD_BYTES,
    RowLayout,
    Value,
    decode_key,
    decode_rowid,
    encode_key,
    encode_row,
    encode_rowid,
    is_told_by_key,
    layout_of,
)

MAX_LAYOUTS = 256  # remembered: where each column holds one type, there is one


class Layout:
    """How the rows of a table are stored."""

    __slots__ = ("_count", "_head", "_key", "_layouts", "_rowid_place", "_start", "prefix")

    def __init__(self, table: Table) -> None:
        self._count = len(table.schema.columns)
        self._key = table.schema.key
        self._rowid_place = table.schema.rowid_place
        self.prefix = table.prefix
        self._start = len(table.prefix)
        self._head = ROW_HEAD_BYTES + self._count
        self._layouts: dict[bytes, RowLayout] = {}  # of rows that were read, by what these begin with

    # -- keys ---------------------------------------------------------------------------------------

    def rowid_key(self, rowid: int) -> bytes:
        """Return the key of a row with a rowid."""
        return self.prefix + encode_rowid(rowid)

    def rowid(self, key: bytes) -> int:
        """Return the rowid that a key tells."""
        return decode_rowid(key[self._start :])

    def base(self, row: Sequence[Value]) -> bytes:
        """Return the key of a row with a primary key; where that has a NULL, what the key begins with."""
        return self.prefix + encode_key([row[place] for place in self._key])

    def has_null(self, row: Sequence[Value]) -> bool:
        """Return whether a primary key has a NULL (rule 1)."""
        return None in [row[place] for place in self._key]

    def after(self, base: bytes, last: bytes | None) -> bytes:
        """Return a key with a NULL that comes behind the last one with the same values (rule 1)."""
        number = 0 if last is None else decode_key(last, len(base))[0]
        if not isinstance(number, int):
            raise CorruptionError("SQL key", -1, f"{number!r} at its end is no number")
        return base + encode_key((number + 1,))

    # -- rows ---------------------------------------------------------------------------------------

    def encoded(self, row: Sequence[Value]) -> bytes:
        """Return the value that is stored of a row."""
        parts: list[Any] = list(row)
        if self._rowid_place is not None:
            parts[self._rowid_place] = IN_KEY
        for place in self._key:
            if is_told_by_key(parts[place]):
                parts[place] = IN_KEY
        return encode_row(parts)

    def decoded(self, key: bytes, value: bytes) -> list[Any]:
        """Return a row and, behind its columns, its rowid or its key.

        Raises:
            CorruptionError: it is none of this table.
        """
        layout = self._layouts.get(value[: self._head])
        row = (self._layout(value) if layout is None else layout).decode(value)
        if not self._key:
            rowid = decode_rowid(key[self._start :])
            if self._rowid_place is not None:
                row[self._rowid_place] = rowid
            row.append(rowid)
            return row
        if IN_KEY in row:
            values = decode_key(key, self._start, len(self._key))
            for place, told in zip(self._key, values, strict=True):
                if row[place] is IN_KEY:
                    row[place] = told
        row.append(key)
        return row

    def _layout(self, value: bytes) -> RowLayout:
        layout = layout_of(value)
        count = len(layout.head) - ROW_HEAD_BYTES
        if count != self._count:
            raise CorruptionError("SQL row", -1, f"it has {count} columns, and its table {self._count}")
        if len(self._layouts) >= MAX_LAYOUTS:
            self._layouts.clear()
        self._layouts[layout.head] = layout
        return layout

    def told(self, key: bytes) -> list[Any]:
        """Return what the key alone tells of a row, in the same form."""
        row: list[Any] = [None] * self._count
        row.append(key if self._key else self.rowid(key))
        if self._rowid_place is not None:
            row[self._rowid_place] = row[-1]
        return row
