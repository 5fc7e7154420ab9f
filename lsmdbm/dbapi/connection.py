"""Connection: a store, and SQLite over it, by PEP 249.

Rules
  1. SQLite holds no data but what is TEMP: its database is in memory, and all else is in virtual tables.
  2. A transaction begins by itself, with the first statement that reads or writes; not with `autocommit`.
  3. Closing without a commit rolls back.

Thread safety: 1 in the terms of PEP 249: threads may share the module, but not connections.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, NoReturn, cast

import apsw

from lsmdbm._base.errors import error
from lsmdbm._base.public import member_of
from lsmdbm.coercion import parse_flag
from lsmdbm.database import Database
from lsmdbm.database import open as open_database
from lsmdbm.dbapi import errors
from lsmdbm.dbapi.bounds import startswith
from lsmdbm.dbapi.codecs import Codecs
from lsmdbm.dbapi.cursor import Cursor
from lsmdbm.dbapi.errors import ProgrammingError, fail
from lsmdbm.dbapi.kv import NAME, VALUE, KvModule
from lsmdbm.dbapi.session import Session
from lsmdbm.dbapi.statements import Kind, Statement
from lsmdbm.dbapi.tables import CATALOGUE, MODULE, CatalogueModule, Tables
from lsmdbm.dbapi.types import adapted

VERSION = 4  # of SQLite's interface for modules: savepoints, and the check of a table
CLOSED = "Cannot operate on a closed database"


def connect(
    path: object,
    flag: str = "c",
    *,
    autocommit: bool = False,
    codecs: Mapping[str, str] | None = None,
    **options: Any,
) -> Connection:
    """Open a database and return a connection to it.

    Args:
        path: of the directory: str, bytes or PathLike.
        flag: as in `lsmdbm.open()`, but that it creates the database if there is none.
        autocommit: whether each statement outside of BEGIN is a transaction of its own.
        codecs: by `table` or `table.column`, how columns hold what SQL has no type for: `"json"`, `"pickle"`,
            `"text"`, or `"raw"`, which is what a column without one has.  Of `kv` they are for the values.
        **options: see `lsmdbm.Options`.

    Raises:
        OperationalError: it cannot be opened; the cause says why.
        ProgrammingError: no such flag; no such codec.
        TypeError, ValueError: unknown option; option out of its bounds.

    >>> connection = connect("fruit", "n")
    >>> with connection:
    ...     _ = connection.cursor().execute("INSERT INTO kv VALUES ('apple', 'red')")
    >>> connection.cursor().execute("SELECT key, value FROM kv").fetchall()
    [(b'apple', b'red')]
    >>> connection.close()
    """
    named = Codecs(codecs or {})
    sqlite = apsw.Connection(":memory:")  # rule 1
    try:
        database = open_database(path, flag, **options)
    except error as exc:
        fail(exc)
    return Connection(sqlite, _session(database, parse_flag(flag)[0] == "r", sqlite), autocommit, named)


def _session(database: Database, is_read_only: bool, sqlite: apsw.Connection) -> Session:
    held = weakref.ref(sqlite)

    def is_in_transaction() -> bool:
        connection = held()  # which holds the session, by its tables
        return connection is not None and connection.in_transaction

    return Session(database, is_read_only, is_in_transaction)


@member_of("lsmdbm.dbapi")
class Connection:
    """A database that is read and written by SQL.  Made by `connect()`.

    The table `kv(key BLOB PRIMARY KEY, value BLOB)` is the whole database but for the rows of tables that
    CREATE TABLE has made, which lie in it too.  Used in a `with`, the connection is committed when the
    block is left, or rolled back if that is by an exception; it is not closed.

    Transactions are serializable: a commit fails with OperationalError, caused by `lsmdbm.ConflictError`, if
    somebody else has changed in the meantime what the transaction has read or written.  Then it was rolled
    back, and may be tried again.  Nothing waits, and reading blocks nobody.

    Durability: a commit is there as a whole or not at all; it survives what a single write survives.
    """

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    def __init__(self, sqlite: apsw.Connection, session: Session, autocommit: bool, codecs: Codecs) -> None:
        self._sqlite: apsw.Connection | None = sqlite
        self._session = session
        self._autocommit = bool(autocommit)
        self._cursors: weakref.WeakSet[Cursor] = weakref.WeakSet()
        self._codecs = codecs
        wrap = apsw.pyobject if codecs else None  # a table finds the object again
        sqlite.convert_binding = lambda cursor, number, value: adapted(value, wrap)
        sqlite.create_scalar_function("startswith", cast(Any, startswith), 2, deterministic=True)
        self._tables = Tables(session, sqlite, codecs)
        for name, module, is_eponymous in (
            (MODULE, self._tables, False),
            (CATALOGUE, CatalogueModule(self._session), True),
            (NAME, KvModule(self._session, codecs.of(NAME, VALUE, is_key=False)), True),
        ):
            sqlite.create_module(
                name,
                cast(Any, module),  # apsw's protocol asks for methods that it can do without
                use_bestindex_object=True,
                use_no_change=True,
                iVersion=VERSION,
                eponymous_only=is_eponymous,
            )

    def __repr__(self) -> str:
        return f"<lsmdbm.dbapi.Connection to {self._session.database!r}>"

    # -- transactions -------------------------------------------------------------------------------

    @property
    def autocommit(self) -> bool:
        """Whether statements outside of BEGIN are transactions of their own.  Setting it commits."""
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self.commit()
        self._autocommit = bool(value)

    @property
    def in_transaction(self) -> bool:
        """Whether there is a transaction to commit or to roll back."""
        return self._check_open().in_transaction

    def commit(self) -> None:
        """Commit what was changed, all or nothing; nothing is to be done if no transaction is open.

        Raises:
            OperationalError: a conflict, or the store says no: the transaction was rolled back.  Or not all
                rows of a RETURNING were fetched: then it is still open.
        """
        self._end("COMMIT")

    def rollback(self) -> None:
        """Forget what was changed since the last commit."""
        self._end("ROLLBACK")

    def _end(self, sql: str) -> None:
        sqlite = self._check_open()
        try:
            if sqlite.in_transaction:
                sqlite.execute(sql).close()
        except Exception as exc:
            if not sqlite.in_transaction:  # else a statement is in progress, and nothing has happened
                self._session.rollback()
            fail(exc)
        self._session.rollback()  # if it only read, SQLite has told no table

    def __enter__(self) -> Connection:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        elif (
            self._sqlite is not None
        ):  # one that was closed inside has nothing to roll back, and hides nothing
            self.rollback()

    # -- cursors ------------------------------------------------------------------------------------

    def cursor(self) -> Cursor:
        """Return a new cursor."""
        self._check_open()
        cursor = Cursor(self)
        self._cursors.add(cursor)
        return cursor

    def _new_cursor(self) -> apsw.Cursor:
        return self._check_open().cursor()

    def _begin_for(self, statement: Statement) -> None:
        """Begin a transaction if a statement needs one and there is none (rule 2)."""
        sqlite = self._check_open()
        self._tables.refresh()
        if statement.verb == "SAVEPOINT":
            self._tables.enlist()
        if (
            not self._autocommit
            and statement.kind in (Kind.QUERY, Kind.CHANGE, Kind.DEFINITION)
            and not sqlite.in_transaction
        ):
            sqlite.execute("BEGIN").close()

    def _settle(self, statement: Statement, failed: bool = False) -> None:
        """End the transaction of the store where SQLite has ended its own and told no table."""
        self._session.rest()
        if statement.kind not in (Kind.CONTROL, Kind.DEFINITION) or self._check_open().in_transaction:
            return
        if failed:
            self._session.rollback()
            return
        try:
            self._session.commit()
        except Exception as exc:
            fail(exc)

    def _changes(self) -> int:
        return self._check_open().total_changes() - self._session.uncounted

    def _last_rowid(self) -> int | None:
        return self._check_open().last_insert_rowid() or None

    # -- the end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Roll back what was not committed, and close the database.

        Durability: as `close()` of the database.

        Raises:
            ProgrammingError: it is closed already.
            OperationalError: what had been committed may be lost.
        """
        sqlite = self._check_open()
        self._sqlite = None
        try:
            for cursor in list(self._cursors):
                cursor.close()
            sqlite.close(True)
            self._session.rollback()
            self._session.database.close()
        except Exception as exc:
            fail(exc)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a connection to a database cannot be pickled: pass its path, and connect there")

    def _check_open(self) -> apsw.Connection:
        if self._sqlite is None:
            raise ProgrammingError(CLOSED)
        return self._sqlite
