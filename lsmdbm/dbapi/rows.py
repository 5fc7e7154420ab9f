"""Rows: the tables that CREATE TABLE has made, as SQLite reads and writes them.

Rules
  1. A cursor reads the moment of its `Filter`, decodes a row when a column of it is asked for, and reads no
     values where the key tells all that is asked.
  2. A row is checked before anything of it is written: SQLite undoes nothing of a virtual table.
  3. A rowid that is not given is one above the largest; if that is the largest there can be, the largest that
     is free.
  4. OR IGNORE returns as if it had written, for apsw makes an error of every exception; OR FAIL says so
     first.
  5. SQLite collects the rows of an UPDATE first.  OR REPLACE may have taken one away before its turn comes,
     or put another in its place.

Thread safety: that of the connection.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apsw

from lsmdbm._base.chunk import Chunk, check_key, check_value
from lsmdbm.dbapi import bounds
from lsmdbm.dbapi.access import Access, choose, key_of
from lsmdbm.dbapi.catalogue import Table
from lsmdbm.dbapi.codecs import Codec
from lsmdbm.dbapi.kv import KvCursor, constraint_at
from lsmdbm.dbapi.layout import Layout
from lsmdbm.dbapi.session import Enlisted, Session
from lsmdbm.dbapi.shaping import Converter, Shape
from lsmdbm.dbapi.spans import NULLS, Spans, column_spans, common, key_spans, rowid_spans
from lsmdbm.dbapi.tokens import folded
from lsmdbm.dbapi.values import MAX_INTEGER, Value, decode_key, encode_key
from lsmdbm.transaction import Transaction

MISMATCH = "datatype mismatch"
Named = Callable[
    [], "frozenset[str] | None"
]  # the columns that the INSERT under way names, folded; None is all


class RowsTable(Enlisted):
    """One table.

    Args:
        name: what it is called now, for messages.
        codecs: of the columns that have one, by their places.
        named: see Named.
    """

    __slots__ = (
        "_accesses",
        "_codecs",
        "_connection",
        "_converter",
        "_defaults",
        "_key",
        "_largest",
        "_name",
        "_named",
        "_schema",
        "_shape",
        "layout",
    )

    def __init__(
        self,
        session: Session,
        connection: apsw.Connection,
        table: Table,
        name: str,
        converter: Converter,
        codecs: dict[int, Codec],
        named: Named,
    ) -> None:
        super().__init__(session)
        self._connection = weakref.ref(connection)  # which holds this
        self._name = name
        self._named = named
        self._codecs = codecs
        self._converter = converter
        self._schema = table.schema
        self._shape = Shape(table.schema, converter)
        self._defaults = {
            place: folded(column.name)
            for place, column in enumerate(table.schema.columns)
            if column.default is not None
        }
        self._key = key_of(table.schema)
        self._accesses: dict[str, Access] = {}  # by their texts
        self._largest: tuple[Transaction, int, int] | None = None  # rowid, as of so many undoings
        self.layout = Layout(table)

    # -- reading ------------------------------------------------------------------------------------

    def BestIndexObject(self, info: apsw.IndexInfo) -> bool:
        """Say how a statement will be answered."""
        constraints = [constraint_at(info, at) for at in range(info.nConstraint)]
        order = [(info.get_aOrderBy_iColumn(at), info.get_aOrderBy_desc(at)) for at in range(info.nOrderBy)]
        access = choose(self._key, constraints, order, info.colUsed)
        for position, at in enumerate(access.taken):
            info.set_aConstraintUsage_argvIndex(at, position + 1)
            info.set_aConstraintUsage_omit(at, self._key.is_exact(access.terms[position][0]))
        info.idxStr = access.text
        info.orderByConsumed = access.is_ordered
        info.estimatedRows = access.rows
        info.estimatedCost = access.cost
        if access.is_unique:
            info.idxFlags = apsw.SQLITE_INDEX_SCAN_UNIQUE
        self._accesses[access.text] = access
        return True

    def Open(self) -> RowsCursor:
        """Return a cursor."""
        return RowsCursor(self)

    def Disconnect(self) -> None:
        """End; there is nothing to let go of."""

    Destroy = Disconnect

    def access(self, text: str) -> Access:
        """Return what `BestIndexObject` has chosen under a text."""
        return self._accesses[text]

    def spans(self, access: Access, values: tuple[Value, ...]) -> tuple[Spans, bool, bool]:
        """Return where to look, whether these are complete keys, and whether the order is the one expected.

        It is not if a column that was taken to have one value may have many.
        """
        columns: list[Spans | None] = []
        for (at, operator), value in zip(access.terms, values, strict=True):
            if self._key.is_rowid:
                found: Spans | None = rowid_spans(operator, value, self._converter)
            else:
                found = column_spans(self._key.affinities[at], operator, value, self._converter)
            if at == len(columns):
                columns.append(found)
            else:
                columns[at] = common(columns[at], found)
        whole = len(columns) == len(self._key.places) and all(
            spans is not None and all(span.is_point and span != NULLS for span in spans) for spans in columns
        )
        is_as_taken = all(spans is not None and len(spans) < 2 for spans in columns[: access.constant])
        return key_spans(self.layout.prefix, columns), whole, is_as_taken

    # -- writing ------------------------------------------------------------------------------------

    def UpdateInsertRow(self, rowid: int | None, fields: tuple[Any, ...]) -> int:
        """Insert a row and return its rowid; 0 if the table has none."""
        row = self._fitted(fields)
        if self._defaults:
            self._fill(row)
        if not self._key.is_rowid:
            self._insert_keyed(row)
            return 0
        given = self._given_rowid(rowid, row)
        if not self._is_complete(row):
            return self._last_rowid()
        transaction = self.session.transaction
        largest = self._largest_rowid(transaction)
        if given is None:
            given = self._free_rowid(largest)
        key = self.layout.rowid_key(given)
        if largest is not None and given <= largest and not self._may_be_written(key, transaction):
            return self._last_rowid()
        transaction[key] = check_value(self.layout.encoded(row))
        if largest is None or given > largest:
            self._largest = transaction, given, self.session.undone
        return given

    def _insert_keyed(self, row: list[Value]) -> None:
        if not self._is_complete(row):
            return
        transaction = self.session.transaction
        key, is_free = self._keyed(row, transaction)
        value = check_value(self.layout.encoded(row))
        if is_free or self._may_be_written(key, transaction):
            transaction[key] = value

    def UpdateDeleteRow(self, row: Any) -> None:
        """Delete a row, that a cursor has found."""
        transaction = self.session.transaction
        if self._key.is_rowid:
            if self._largest is not None and row >= self._largest[1]:
                self._largest = None
            row = self.layout.rowid_key(row)
        transaction.pop(row, None)

    def UpdateChangeRow(self, old: Any, rowid: Any, fields: tuple[Any, ...]) -> None:
        """Change a row, its key perhaps; what is no part of the change stays as it is now (rule 5)."""
        transaction = self.session.transaction
        old_key = self.layout.rowid_key(old) if self._key.is_rowid else old
        held = transaction.get(old_key)
        if held is None:
            self.session.uncounted += 1
            return
        before = self.layout.decoded(old_key, held)
        row = self._fitted(
            [was if new is apsw.no_change else new for was, new in zip(before, fields, strict=False)]
        )
        key, is_free = old_key, False
        if self._key.is_rowid:
            place = self._schema.rowid_place
            key = self.layout.rowid_key(rowid if rowid != old or place is None else self._integer(row[place]))
        if not self._is_complete(row):
            return
        if not self._key.is_rowid:
            key, is_free = self._keyed(row, transaction, old_key)
        value = check_value(self.layout.encoded(row))
        if key == old_key:
            transaction[key] = value
        elif is_free or self._may_be_written(key, transaction):
            self._largest = None
            transaction.pop(old_key, None)
            transaction[key] = value

    def _fitted(self, fields: Sequence[Any]) -> list[Value]:
        """Return a row as its columns store it, without defaults."""
        if self._codecs:
            fields = list(fields)
            for place, codec in self._codecs.items():
                fields[place] = codec.stored(fields[place])
        return self._shape.fitted(fields)

    def _fill(self, row: list[Value]) -> None:
        """Put in the defaults of the columns that the statement does not name."""
        named = self._named()
        if named is not None:
            for place, name in self._defaults.items():
                if name not in named:
                    row[place] = self._shape.default(place)

    def _is_complete(self, row: list[Value]) -> bool:
        """Return whether NOT NULL is kept, perhaps by defaults; False to ignore the row (rule 4)."""
        name = self._shape.missing(row)
        if name is None:
            return True
        conflict = self._conflict()
        if conflict == apsw.SQLITE_REPLACE:
            name = self._shape.missing(row, without_default=True)
            if name is None:
                self._shape.replace(row)
                name = self._shape.missing(row)
            if name is None:
                return True
        return self._refuse(conflict, f"NOT NULL constraint failed: {self._name}.{name}")

    def _may_be_written(self, key: bytes, transaction: Transaction) -> bool:
        """Return whether there is no such row yet, or it may be replaced; False to ignore it (rule 4)."""
        conflict = self._conflict()
        if conflict == apsw.SQLITE_REPLACE or key not in transaction:
            return True
        names = [self._schema.columns[place].name for place in self._schema.key]
        if self._key.is_rowid:
            place = self._schema.rowid_place
            names = ["rowid" if place is None else self._schema.columns[place].name]
        what = ", ".join(f"{self._name}.{name}" for name in names)
        return self._refuse(conflict, f"UNIQUE constraint failed: {what}")

    def _refuse(self, conflict: int, text: str) -> bool:
        if conflict == apsw.SQLITE_IGNORE:
            self.session.uncounted += 1
            return False
        if conflict == apsw.SQLITE_FAIL:
            self.session.keep_failed()
        raise apsw.ConstraintError(text)

    def _conflict(self) -> int:
        connection = self._connection()
        return apsw.SQLITE_ABORT if connection is None else connection.vtab_on_conflict()

    # -- keys ---------------------------------------------------------------------------------------

    def _keyed(self, row: list[Value], transaction: Transaction, old: bytes = b"") -> tuple[bytes, bool]:
        """Return the key of a row with a primary key, and whether it is free for certain."""
        base = self.layout.base(row)
        if not self.layout.has_null(row):
            return check_key(base), False
        if old.startswith(base):
            return old, False
        last = transaction.range(prefix=base).last()
        return check_key(self.layout.after(base, None if last is None else last[0])), True

    def _given_rowid(self, rowid: int | None, row: list[Value]) -> int | None:
        place = self._schema.rowid_place
        if place is None or row[place] is None:
            return rowid
        return self._integer(row[place])

    def _integer(self, value: Value) -> int:
        if not isinstance(value, int):
            raise apsw.MismatchError(MISMATCH)
        return value

    def _last_rowid(self) -> int:
        connection = self._connection()
        return 0 if connection is None else connection.last_insert_rowid()

    def _largest_rowid(self, transaction: Transaction) -> int | None:
        """Return the largest rowid, None if there is no row.  Read once, unless rows are taken away."""
        held = self._largest
        if held is not None and held[0] is transaction and held[2] == self.session.undone:
            return held[1]
        last = transaction.range(prefix=self.layout.prefix).last()
        if last is None:
            return None
        rowid = self.layout.rowid(last[0])
        self._largest = transaction, rowid, self.session.undone
        return rowid

    def _free_rowid(self, largest: int | None) -> int:
        """Return a rowid that is free (rule 3)."""
        if largest is None:
            return 1
        if largest < MAX_INTEGER:
            return largest + 1
        expected = MAX_INTEGER
        rows = self.session.transaction.range(prefix=self.layout.prefix, reverse=True)
        for key in rows:
            if self.layout.rowid(key) != expected:
                break
            expected -= 1
        return expected


class RowsCursor(KvCursor):
    """Rows of spans of keys, or of single keys, chunk by chunk."""

    __slots__ = ("_is_keys_only", "_layout", "_row", "_table")

    def __init__(self, table: RowsTable) -> None:
        super().__init__(table.session)
        self._table = table
        self._layout = table.layout
        self._row: list[Any] | None = None  # decoded, once a column was asked for
        self._is_keys_only = False

    def Filter(self, _: int, text: str, values: tuple[Any, ...]) -> None:
        """Begin to read; SQLite may do that many times on one cursor."""
        self._let_go()
        self._row = None
        access = self._table.access(text)
        if access.is_look and type(values[0]) is int:  # of a join there are many: no detour
            self._is_keys_only = access.is_keys_only
            self._look_up([self._layout.rowid_key(values[0])])
            return
        self._step = -1 if access.is_reverse else 1
        self._is_keys_only = access.is_keys_only
        spans, are_keys, is_as_taken = self._table.spans(access, values)
        if are_keys:
            self._look_up([span.start for span in spans])
            return
        self._walk([bounds.Span(span.start, span.stop) for span in spans], self._is_keys_only)
        if not is_as_taken:
            self._chunks = self._sorted(access)
        self._move_on()

    def _sorted(self, access: Access) -> Iterator[Chunk]:
        """Return the same rows in the order of the columns behind the constant ones, as one chunk."""
        start = len(self._layout.prefix)
        rows = [row for keys, values in self._chunks for row in zip(keys, values, strict=True)]
        rows.sort(key=lambda row: encode_key(decode_key(row[0], start)[access.constant :]))
        return iter([([key for key, _ in rows], [value for _, value in rows])])

    def Next(self) -> None:
        """Move to the next row."""
        self._row = None
        self._at += 1
        if self._at == self._size:
            self._move_on()

    def Column(self, number: int) -> Any:
        """Return a column; the last, or -1, is the rowid or the key."""
        row = self._row
        if row is None:
            key = self._keys[self._at]
            if self._is_keys_only:
                row = self._layout.told(key)
            else:
                row = self._layout.decoded(key, self._values[self._at])
            self._row = row
        return row[number]

    def Rowid(self) -> int:
        """Return the rowid."""
        rowid: int = self.Column(-1)
        return rowid
