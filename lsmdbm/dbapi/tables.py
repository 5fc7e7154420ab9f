"""Tables: which tables a connection shows, and that these are the ones of the catalogue.

    lsmdbm_tables      the catalogue, to be read: name, id, sql

Rules
  1. Before a statement that begins a transaction of the store, the generation is read in that transaction.
     If it is another one than the tables were made for, those that are gone are dropped, and those that are
     new are made.  So a transaction sees the tables of its moment, whoever made them.
  2. A change of the catalogue and the change of SQLite's own schema are between two savepoints, so neither is
     there without the other, whatever is rolled back.
  3. SQLite tells a virtual table of savepoints once something is written to it, and then of the innermost,
     which may be one of its own for a statement.  So before a savepoint comes a statement that writes nothing
     to the catalogue's table.

Thread safety: that of the connection.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import apsw

from lsmdbm.dbapi import catalogue
from lsmdbm.dbapi.asking import ask
from lsmdbm.dbapi.catalogue import Table
from lsmdbm.dbapi.codecs import Codecs
from lsmdbm.dbapi.errors import NotSupportedError, ProgrammingError
from lsmdbm.dbapi.kv import NAME as KV
from lsmdbm.dbapi.rows import RowsTable
from lsmdbm.dbapi.schema import parse
from lsmdbm.dbapi.session import Enlisted, Session
from lsmdbm.dbapi.shaping import Converter
from lsmdbm.dbapi.tokens import folded, quoted

MODULE = "lsm"
CATALOGUE = "lsmdbm_tables"
CATALOGUE_SCHEMA = "CREATE TABLE x(name TEXT, id INTEGER, sql TEXT)"
ENLIST = f"DELETE FROM {CATALOGUE} WHERE 0"
SAVEPOINT = '"lsmdbm definition"'

_ARGUMENT = re.compile(rf"USING {MODULE}\((\d+)\)$")


class Tables:
    """The tables of a connection, and the module by which SQLite makes them.

    Attributes:
        named: the columns that the INSERT under way names; None if it names none, so gives all.
    """

    def __init__(self, session: Session, connection: apsw.Connection, codecs: Codecs) -> None:
        self._session = session
        self._codecs = codecs
        self._connection = weakref.ref(connection)  # which holds this
        self._converter = Converter()
        self._generation: int | None = None  # that the tables were made for
        self._known: dict[int, Table] = {}  # by their ids
        self.named: frozenset[str] | None = None

    # -- the module ---------------------------------------------------------------------------------

    def Connect(
        self, connection: apsw.Connection, module: str, database: str, name: str, *arguments: str
    ) -> tuple[str, RowsTable]:
        """Return the definition of a table, and the table."""
        table = self._known.get(int(arguments[0])) if len(arguments) == 1 else None
        if table is None:
            raise NotSupportedError(
                f"CREATE VIRTUAL TABLE ... USING {MODULE} is not supported: CREATE TABLE is"
            )
        connection.vtab_config(apsw.SQLITE_VTAB_CONSTRAINT_SUPPORT, 1)
        schema = table.schema
        found = {
            place: self._codecs.of(
                name, column.name, is_key=place in schema.key or place == schema.rowid_place
            )
            for place, column in enumerate(schema.columns)
        }
        codecs = {place: codec for place, codec in found.items() if codec is not None}
        held = RowsTable(self._session, connection, table, name, self._converter, codecs, lambda: self.named)
        return schema.declaration, held

    Create = Connect

    # -- the tables of the moment -------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the tables of the transaction that is open, or else of a new one (rule 1).

        Cost: a look, if nobody has changed the catalogue.
        """
        session, sqlite = self._session, self._sqlite()
        session.rest()
        while not session.is_begun:
            generation = catalogue.generation(session.source)
            if generation == self._generation:
                return
            self._show(sqlite, catalogue.tables(session.source))
            if sqlite.in_transaction:  # its end may bring the tables of before back
                self._generation = None
                return
            self._generation = generation
            session.rollback()  # it may be that SQLite had nothing to do
            if not session.is_read_only:
                catalogue.sweep(session.database)

    def _show(self, sqlite: apsw.Connection, tables: dict[str, Table]) -> None:
        new = {table.id: table for table in tables.values()}
        self._known.update(new)
        present = dict(self._present(sqlite))
        for name, number in present.items():
            table = tables.get(folded(name))
            if table is None or table.id != number:
                ask(sqlite, f"DROP TABLE main.{quoted(name)}")
        kept = {*self._present(sqlite)}
        for table in tables.values():
            if (table.schema.name, table.id) not in kept:
                self._make(sqlite, table)
        self._known = new

    def _make(self, sqlite: apsw.Connection, table: Table) -> None:
        ask(sqlite, f"CREATE VIRTUAL TABLE main.{quoted(table.schema.name)} USING {MODULE}({table.id})")

    def _present(self, sqlite: apsw.Connection) -> Iterator[tuple[str, int]]:
        """Yield name and id of the tables that SQLite shows."""
        for name, sql in ask(sqlite, "SELECT name, sql FROM main.sqlite_master WHERE type = 'table'"):
            match = _ARGUMENT.search(str(sql))
            if match is not None:
                yield str(name), int(match[1])

    def _sqlite(self) -> apsw.Connection:
        connection = self._connection()
        if connection is None:  # who asks holds it
            raise ProgrammingError("the connection is gone")
        return connection

    def enlist(self) -> None:
        """Let SQLite tell of savepoints from now on, if a transaction is open (rule 3)."""
        sqlite = self._sqlite()
        if sqlite.in_transaction:
            ask(sqlite, ENLIST)

    # -- looking one up -----------------------------------------------------------------------------

    def find(self, database: str | None, name: str) -> Table | None:
        """Return the table that a statement means by a name, None if it is none of the catalogue."""
        sqlite = self._sqlite()
        if database is None and self._is_taken(sqlite, "temp", name):
            return None
        if database is not None and folded(database) != "main":
            return None
        return catalogue.table(self._session.source, name)

    def exists(self, name: str) -> bool:
        """Return whether there is anything of a name that another table cannot have."""
        return folded(name) in (KV, CATALOGUE) or self._is_taken(self._sqlite(), "main", name)

    def _is_taken(self, sqlite: apsw.Connection, database: str, name: str) -> bool:
        found = ask(sqlite, f"SELECT name FROM {database}.sqlite_master")
        return any(folded(str(held)) == folded(name) for (held,) in found)

    # -- changing -----------------------------------------------------------------------------------

    def create(self, sql: str) -> None:
        """Make the table that a CREATE TABLE says; that there is none of its name is for the caller to know.

        Raises:
            NotSupportedError, apsw.SQLError: see `schema.parse`.
        """
        schema = parse(sql)

        def change(sqlite: apsw.Connection) -> None:
            table = catalogue.create(self._session.transaction, schema)
            self._known[table.id] = table
            self._make(sqlite, table)

        self._change(change)

    def drop(self, table: Table) -> None:
        """Take a table away, and its rows."""

        def change(sqlite: apsw.Connection) -> None:
            catalogue.drop(self._session.transaction, table)
            ask(sqlite, f"DROP TABLE main.{quoted(table.schema.name)}")

        self._change(change)

    def rename(self, table: Table, name: str) -> None:
        """Give a table another name."""

        def change(sqlite: apsw.Connection) -> None:
            renamed = catalogue.rename(self._session.transaction, table, name)
            ask(sqlite, f"DROP TABLE main.{quoted(table.schema.name)}")
            self._known[table.id] = renamed
            self._make(sqlite, renamed)

        self._change(change)

    def _change(self, change: Callable[[apsw.Connection], None]) -> None:
        """Make a change as a whole, or not at all (rules 2 and 3)."""
        sqlite = self._sqlite()
        is_own = not sqlite.in_transaction
        if is_own:
            ask(sqlite, "BEGIN")
        try:
            self._change_within(sqlite, change)
        except BaseException:
            if is_own:
                ask(sqlite, "ROLLBACK")
            raise
        if is_own:
            self._commit(sqlite)

    def _change_within(self, sqlite: apsw.Connection, change: Callable[[apsw.Connection], None]) -> None:
        self.enlist()
        ask(sqlite, f"SAVEPOINT {SAVEPOINT}")
        depth = self._session.depth
        try:
            change(sqlite)
        except BaseException:
            self._session.undo(depth)  # of statements that failed
            ask(sqlite, f"ROLLBACK TO {SAVEPOINT}")
            ask(sqlite, f"RELEASE {SAVEPOINT}")
            raise
        ask(sqlite, f"RELEASE {SAVEPOINT}")

    def _commit(self, sqlite: apsw.Connection) -> None:
        try:
            ask(sqlite, "COMMIT")
        except BaseException:
            if sqlite.in_transaction:
                ask(sqlite, "ROLLBACK")
            raise


class CatalogueModule:
    """What SQLite makes the table of tables with: eponymous, as `kv` is."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def Connect(self, *_: object) -> tuple[str, CatalogueTable]:
        """Return the definition of the table, and the table."""
        return CATALOGUE_SCHEMA, CatalogueTable(self._session)

    Create = Connect


class CatalogueTable(Enlisted):
    """The catalogue as a table; CREATE, DROP and ALTER are what change it."""

    __slots__ = ()

    def BestIndexObject(self, _: apsw.IndexInfo) -> bool:
        """Say that all of it will be read."""
        return True

    def Open(self) -> CatalogueCursor:
        """Return a cursor."""
        return CatalogueCursor(self.session)

    def Disconnect(self) -> None:
        """End; there is nothing to let go of."""

    Destroy = Disconnect

    def UpdateDeleteRow(self, *_: object) -> None:
        """Refuse; there must be a method for ENLIST."""
        raise NotSupportedError(
            f"{CATALOGUE} is read only: CREATE TABLE, DROP TABLE and ALTER TABLE change it"
        )

    def UpdateInsertRow(self, *_: object) -> int:
        """Refuse."""
        raise NotSupportedError(
            f"{CATALOGUE} is read only: CREATE TABLE, DROP TABLE and ALTER TABLE change it"
        )

    UpdateChangeRow = UpdateDeleteRow


class CatalogueCursor:
    """The tables by name."""

    __slots__ = ("_at", "_rows", "_session")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows: list[tuple[Any, ...]] = []
        self._at = 0
        session.cursor_opened()

    def Filter(self, *_: object) -> None:
        """Begin to read."""
        found = catalogue.tables(self._session.source).values()
        self._rows = [(table.schema.name, table.id, table.schema.sql) for table in found]
        self._at = 0

    def Next(self) -> None:
        """Move to the next row."""
        self._at += 1

    def Eof(self) -> bool:
        """Return whether there is no row."""
        return self._at >= len(self._rows)

    def Column(self, number: int) -> Any:
        """Return a column, the id for the rowid."""
        return self._rows[self._at][1 if number < 0 else number]

    def Rowid(self) -> int:
        """Return the id."""
        return int(self.Column(1))

    def Close(self) -> None:
        """End."""
        self._session.cursor_closed()
