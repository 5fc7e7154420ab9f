"""Schema: what a CREATE TABLE says, and which of it can be kept.

    parse(sql) -> Schema            SQLite itself reads the statement, in a database of its own
    Schema.declaration              the columns, as the virtual table declares them

Rules
  1. A table without a primary key, or with an INTEGER PRIMARY KEY, has rowids, and these are its key.  Any
     other is kept in the order of its primary key, and has none.
  2. What cannot be kept is a NotSupportedError that names it; nothing is left out silently.

Thread safety: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apsw

from lsmdbm.dbapi.asking import ask
from lsmdbm.dbapi.errors import NotSupportedError
from lsmdbm.dbapi.tokens import Token, folded, quoted, tokens

TEXT, NUMERIC, INTEGER, REAL, BLOB = "TEXT", "NUMERIC", "INTEGER", "REAL", "BLOB"  # affinities

KEY_COLUMN = "lsm key"  # hidden, last of a table without rowids: by it SQLite names a row to be changed

_AFFINITIES = [  # by the first of these words in a type, in SQLite's order
    ("INT", INTEGER),
    ("CHAR", TEXT),
    ("CLOB", TEXT),
    ("TEXT", TEXT),
    ("BLOB", BLOB),
    ("REAL", REAL),
    ("FLOA", REAL),
    ("DOUB", REAL),
]
_COLLATIONS = ("BINARY", "NOCASE", "RTRIM")
_CANNOT = {  # words that SQLite takes for nothing else
    "AUTOINCREMENT": "AUTOINCREMENT",
    "CHECK": "CHECK constraints",
    "FOREIGN": "FOREIGN KEY constraints",
    "REFERENCES": "FOREIGN KEY constraints",
    "UNIQUE": "UNIQUE constraints",
}
_GENERATED = (2, 3)  # `hidden` of table_xinfo: virtual, stored


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        declared: its type as it was written, "" if there was none.
        default: SQL of the default, None if there is none.
        collation: BINARY unless one was named.
    """

    name: str
    declared: str
    is_not_null: bool
    default: str | None
    collation: str

    @property
    def affinity(self) -> str:
        """What SQLite makes of values that are stored in it."""
        return affinity_of(self.declared)


@dataclass(frozen=True, slots=True)
class Schema:
    """A table.

    Attributes:
        name: as it was written.
        key: places of the columns of the primary key, in its order; empty for a table with rowids.
        rowid_place: of the INTEGER PRIMARY KEY, another name of the rowid; None if there is none.
        sql: the statement, as SQLite remembers it.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[int, ...]
    rowid_place: int | None
    sql: str

    @property
    def has_rowid(self) -> bool:
        """Whether the rowid is its key (rule 1)."""
        return not self.key

    @property
    def declaration(self) -> str:
        """What `declare_vtab` is told."""
        columns = [
            f"{quoted(each.name)} {each.declared}"
            + " PRIMARY KEY" * (place == self.rowid_place)
            + " NOT NULL" * each.is_not_null
            + f" COLLATE {each.collation}" * (each.collation != "BINARY")
            for place, each in enumerate(self.columns)
        ]
        if self.has_rowid:
            return f"CREATE TABLE x({', '.join(columns)})"
        columns.append(f"{quoted(self._key_column())} BLOB HIDDEN PRIMARY KEY NOT NULL")
        return f"CREATE TABLE x({', '.join(columns)}) WITHOUT ROWID"

    def _key_column(self) -> str:
        taken = {folded(each.name) for each in self.columns}
        name = KEY_COLUMN
        while name in taken:
            name += "_"
        return name

    def renamed(self, name: str) -> Schema:
        """Return the same table under another name.

        Raises:
            apsw.SQLError: SQLite allows no such name.
        """
        scratch = apsw.Connection(":memory:")
        ask(scratch, self.sql)
        ask(scratch, f"ALTER TABLE {quoted(self.name)} RENAME TO {quoted(name)}")
        return replace(self, name=name, sql=_statement(scratch)[1])


def affinity_of(declared: str) -> str:
    """Return the affinity of a declared type.

    >>> affinity_of("VARCHAR(20)"), affinity_of("BIGINT"), affinity_of("DECIMAL(10,2)"), affinity_of("")
    ('TEXT', 'INTEGER', 'NUMERIC', 'BLOB')
    """
    upper = declared.upper()
    return next((affinity for word, affinity in _AFFINITIES if word in upper), NUMERIC if upper else BLOB)


def parse(sql: str) -> Schema:
    """Return what a CREATE TABLE says.

    Raises:
        NotSupportedError: something in it cannot be kept.
        apsw.SQLError: it is wrong.
    """
    words = tokens(sql)
    if _is_from_query(words):
        raise NotSupportedError("CREATE TABLE ... AS SELECT is not supported: create the table, then INSERT")
    scratch = apsw.Connection(":memory:")
    ask(scratch, sql)
    _refuse(_clauses(words))
    name, statement = _statement(scratch)
    without_rowid, strict = ask(
        scratch, "SELECT wr, strict FROM pragma_table_list(?) WHERE schema = 'main'", (name,)
    )[0]
    if strict:
        raise NotSupportedError("STRICT tables are not supported")
    rows: list[Any] = ask(
        scratch,
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid',
        (name,),
    )
    if any(row[5] in _GENERATED for row in rows):
        raise NotSupportedError("generated columns are not supported")
    columns = tuple(_column(scratch, name, *row[:4]) for row in rows)
    key = tuple(place for _, place in sorted((row[4], place) for place, row in enumerate(rows) if row[4]))
    key_index = _key_index(scratch, name)
    if key and not without_rowid and key_index is None:
        return Schema(name, columns, (), key[0], statement)
    if key_index is not None:
        _check_collations(scratch, key_index)
    return Schema(name, columns, key, None, statement)


def _statement(scratch: apsw.Connection) -> tuple[str, str]:
    """Return the name and the statement of the one table of a database."""
    found = ask(scratch, "SELECT name, sql FROM sqlite_master WHERE type = 'table'")
    return str(found[0][0]), str(found[0][1])


def _is_from_query(words: Sequence[Token]) -> bool:
    """Return whether AS comes where the columns should begin."""
    head = next((at for at, token in enumerate(words) if token.is_sign("(") or token.is_word("AS")), None)
    return head is not None and words[head].is_word("AS")


def _clauses(words: Sequence[Token]) -> Iterator[str]:
    for at, token in enumerate(words):
        for word, what in _CANNOT.items():
            if token.is_word(word):
                yield what
        if token.is_word("ON") and at + 1 < len(words) and words[at + 1].is_word("CONFLICT"):
            yield "ON CONFLICT clauses"


def _refuse(clauses: Iterator[str]) -> None:
    for what in clauses:
        raise NotSupportedError(
            f"{what} are not supported" if what.endswith("s") else f"{what} is not supported"
        )


def _column(
    scratch: apsw.Connection, table: str, name: str, declared: str, not_null: int, default: str | None
) -> Column:
    collation = str(scratch.column_metadata("main", table, name)[1]).upper()
    if collation not in _COLLATIONS:
        raise NotSupportedError(f"the collation {collation} of column {name} is not supported")
    if any(token.is_word("HIDDEN") for token in tokens(declared)):
        raise NotSupportedError(
            f"the type {declared} of column {name} is not supported: SQLite would hide it"
        )
    return Column(name, declared, bool(not_null), default, collation)


def _key_index(scratch: apsw.Connection, table: str) -> str | None:
    """Return the index of a primary key; None if the key is the rowid, or there is none."""
    found = ask(scratch, "SELECT name FROM pragma_index_list(?) WHERE origin = 'pk'", (table,))
    return str(found[0][0]) if found else None


def _check_collations(scratch: apsw.Connection, index: str) -> None:
    for name, collation in ask(
        scratch, "SELECT name, coll FROM pragma_index_xinfo(?) WHERE key = 1", (index,)
    ):
        if str(collation).upper() != "BINARY":
            raise NotSupportedError(f"COLLATE {collation} on column {name} of a primary key is not supported")
