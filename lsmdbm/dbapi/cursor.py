"""Cursor: statements and their rows, by PEP 249.

Rules
  1. One statement at a time; it is a new one as soon as `execute` is called, whatever comes of it.
  2. Rows are read from the store as they are fetched.
  3. A statement that fails has changed nothing, but for OR FAIL and for the rows of `executemany` before.

Thread safety: that of the connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NoReturn, Protocol

import apsw

from lsmdbm._base.public import member_of
from lsmdbm.dbapi.codecs import Codecs
from lsmdbm.dbapi.ddl import announce, defined
from lsmdbm.dbapi.errors import ProgrammingError, fail
from lsmdbm.dbapi.session import Session
from lsmdbm.dbapi.statements import Kind, Statement, parse
from lsmdbm.dbapi.tables import Tables
from lsmdbm.dbapi.types import TypeObject, type_of

Parameters = Sequence[Any] | Mapping[str, Any]
Row = tuple[Any, ...]
Column = tuple[str, TypeObject | None, None, None, None, None, None]

CLOSED = "Cannot operate on a closed cursor"
NO_ROWS = "The last statement has no rows, or there was none"


class _Owner(Protocol):
    """What a cursor stands on: a connection."""

    _codecs: Codecs
    _session: Session
    _tables: Tables

    def _check_open(self) -> object: ...

    def _new_cursor(self) -> apsw.Cursor: ...

    def _begin_for(self, statement: Statement) -> None: ...

    def _settle(self, statement: Statement, failed: bool = False) -> None: ...

    def _changes(self) -> int: ...

    def _last_rowid(self) -> int | None: ...


class _Columns:
    """Takes note of the columns of a statement before its first row is read: after that it is too late."""

    __slots__ = ("_codecs", "declared")

    def __init__(self, codecs: Codecs) -> None:
        self._codecs = codecs
        self.declared: tuple[tuple[str, str | None], ...] = ()

    def note(self, cursor: apsw.Cursor, *_: object) -> bool:
        self.declared = cursor.get_description()
        cursor.row_trace = self._codecs.trace(cursor)
        return True


@member_of("lsmdbm.dbapi")
class Cursor:
    """Statements on a connection, one after the other, and the rows of the last.  Made by `cursor()`.

    An iterator over these rows.  Parameters are given for `?`, or as a mapping for `:name`.  Rows are tuples;
    a BLOB is bytes, a TEXT str.

    >>> import lsmdbm.dbapi
    >>> connection = lsmdbm.dbapi.connect("fruit", "n")
    >>> cursor = connection.cursor()
    >>> cursor.executemany("INSERT INTO kv VALUES (?, ?)", [("pear", "green"), ("apple", "red")]).rowcount
    2
    >>> cursor.execute("SELECT * FROM kv WHERE key < ?", ["b"]).fetchall()
    [(b'apple', b'red')]
    >>> connection.close()
    """

    def __init__(self, connection: _Owner) -> None:
        self.connection = connection
        self.arraysize = 1
        self.lastrowid: int | None = None
        self._raw: apsw.Cursor | None = connection._new_cursor()
        self._columns = _Columns(connection._codecs)
        self._reset()

    def _reset(self) -> None:
        self._description: tuple[Column, ...] | None = None
        self._first: list[Row] = []  # a row that was read for its types
        self._rowcount = -1
        self._row: int | None = None
        self._are_left = False  # rows that SQLite may still give
        self._before: int | None = None  # changes before a statement that changes rows, while it runs

    # -- executing ----------------------------------------------------------------------------------

    def execute(self, operation: str, parameters: Parameters = ()) -> Cursor:
        """Execute one statement, and return this cursor.

        Raises:
            ProgrammingError: the statement is wrong, or more than one; the parameters do not fit.
            NotSupportedError: it asks for what cannot be kept.
            IntegrityError, DataError: it cannot write that.
            OperationalError: the store says no; a conflict, for COMMIT.
        """
        raw, statement = self._begin(operation)
        raw.exec_trace = self._columns.note

        def run(sql: str) -> None:
            try:
                raw.execute(sql, parameters)
            except KeyError as exc:
                if not isinstance(parameters, Mapping):
                    raise
                raise ProgrammingError(f"no parameter is given for {exc}") from exc

        if self._run(statement, operation, run):
            self._describe(raw)
        else:
            self._finish()
        return self

    def executemany(self, operation: str, seq_of_parameters: Iterable[Parameters]) -> Cursor:
        """Execute one statement that changes rows with each of many parameters, and return this cursor.

        Raises:
            ProgrammingError: the statement changes no rows; and what `execute` raises.  What comes before
                the parameters that failed is done.
        """
        raw, statement = self._begin(operation)
        if statement.kind is not Kind.CHANGE:
            raise ProgrammingError("executemany() is for INSERT, UPDATE, DELETE and REPLACE")
        raw.exec_trace = None
        self._columns.declared = ()

        def run(sql: str) -> None:
            for _ in raw.executemany(sql, self._announced(seq_of_parameters)):
                pass  # rows of RETURNING

        self._run(statement, operation, run)
        self._finish()
        return self

    def _announced(self, seq_of_parameters: Iterable[Parameters]) -> Iterator[Parameters]:
        """Yield parameters, and say before each what the INSERT names: they may come by way of another."""
        tables = self.connection._tables
        named = tables.named
        for parameters in seq_of_parameters:
            tables.named = named
            yield parameters

    def _begin(self, operation: str) -> tuple[apsw.Cursor, Statement]:
        """Forget the statement before, and return what a new one is (rule 1).

        One with rows left is ended here, not by the next `execute` of SQLite: until then it would hold its
        moment, and lock its table against DROP.
        """
        raw = self._open()
        are_left = self._are_left
        self._reset()
        if are_left:
            try:
                raw.execute("")
            except Exception as exc:
                fail(exc)
        if not isinstance(operation, str):
            raise ProgrammingError(f"a statement must be a str, not {type(operation).__name__}")
        return raw, parse(operation)

    def _run(self, statement: Statement, operation: str, run: Any) -> bool:
        """Run a statement up to its first row; return whether it may have rows."""
        connection = self.connection
        session = connection._session
        try:
            connection._begin_for(statement)
            sql = operation
            if statement.kind is Kind.DEFINITION:
                sql = defined(connection._tables, operation)
            elif statement.kind is Kind.CHANGE:
                announce(connection._tables, operation)
        except Exception as exc:
            fail(exc)
        if statement.kind is Kind.CHANGE:
            self._before = connection._changes()
        depth = session.depth
        self._columns.declared = ()
        try:
            run(sql)
        except BaseException as exc:
            self._before = None
            session.undo(depth)
            connection._settle(statement, failed=True)
            if isinstance(exc, Exception):
                fail(exc)
            raise
        connection._settle(statement)
        if statement.verb in ("INSERT", "REPLACE"):
            self.lastrowid = connection._last_rowid()
        return bool(self._columns.declared)

    def _describe(self, raw: apsw.Cursor) -> None:
        self._are_left = True
        declared = self._columns.declared
        if any(kind is None for _, kind in declared):
            self._first = list(islice(raw, 1))
        values: Sequence[Any] = self._first[0] if self._first else (None,) * len(declared)
        self._description = tuple(
            (name, type_of(kind, value), None, None, None, None, None)
            for (name, kind), value in zip(declared, values, strict=True)
        )
        self._row = 0

    def _finish(self) -> None:
        self._are_left = False
        if self._before is not None:
            self._rowcount = self.connection._changes() - self._before
            self._before = None
            self.connection._session.uncounted += self._rowcount  # not once more for one around it

    # -- fetching -----------------------------------------------------------------------------------

    @property
    def description(self) -> tuple[Column, ...] | None:
        """The columns of the last statement, each as 7 items: name, type object, and five times None.

        None if it has no rows.  The type is that of the declaration; for an expression that of the first row,
        None if there is none, or if it is NULL.
        """
        return self._description

    @property
    def rowcount(self) -> int:
        """How many rows the last statement has changed; -1 for a query, and before the end of RETURNING."""
        return self._rowcount

    @property
    def rownumber(self) -> int | None:
        """The index of the row that is fetched next, from 0; None if the last statement has no rows."""
        return self._row

    def fetchone(self) -> Row | None:
        """Return the next row, None if there is none.

        Raises:
            ProgrammingError: the last statement has no rows; so do the others.
        """
        return next(self, None)

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """Return the next `size` rows, `arraysize` if it is not given; fewer at the end."""
        count = self.arraysize if size is None else size
        if count < 0:
            raise ProgrammingError(f"the number of rows to fetch must not be negative: {count}")
        return list(islice(self, count))

    def fetchall(self) -> list[Row]:
        """Return all rows that are left."""
        raw = self._rows()
        rows, self._first = self._first, []
        try:
            rows += raw  # in one call, which the loop of an iteration is not
        except Exception as exc:
            fail(exc)
        self._row = (self._row or 0) + len(rows)
        self._finish()
        return rows

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        raw = self._rows()
        try:
            row: Row = self._first.pop() if self._first else next(raw)
        except StopIteration:
            self._finish()
            raise
        except Exception as exc:
            fail(exc)
        self._row = (self._row or 0) + 1
        return row

    def _rows(self) -> apsw.Cursor:
        raw = self._open()
        if self._description is None:
            raise ProgrammingError(NO_ROWS)
        return raw

    # -- the rest -----------------------------------------------------------------------------------

    def setinputsizes(self, sizes: object) -> None:
        """Do nothing: sizes need no announcement."""
        self._open()

    def setoutputsize(self, size: object, column: object = None) -> None:
        """Do nothing: columns are read whole."""
        self._open()

    def close(self) -> None:
        """Let go of the rows.  Twice is fine."""
        if self._raw is not None:
            self._reset()
            self._raw.close(True)
            self._raw = None

    def __del__(self) -> None:
        try:
            if getattr(self, "_raw", None) is not None:
                self.close()  # apsw 3.54.0 leaks a cursor, and its connection, that is freed and not closed
        except Exception:  # a finalizer has nobody to tell
            pass

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a cursor cannot be pickled")  # nor copied: the end of a copy would close the other

    def _open(self) -> apsw.Cursor:
        self.connection._check_open()
        if self._raw is None:
            raise ProgrammingError(CLOSED)
        return self._raw
