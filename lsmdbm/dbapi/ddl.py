"""Definitions: what becomes of CREATE, DROP and ALTER before SQLite sees them, and what a change says.

Rules
  1. What SQLite keeps in memory would be gone with the connection: CREATE TABLE makes a table of the store,
     only what says TEMP is left to SQLite, and anything else is refused.
  2. SQLite does not tell a virtual table which columns an INSERT names, and gives RETURNING the values of the
     statement, not those that were stored.  The first is found here, the second refused.

Thread safety: that of the connection; parsing is pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from lsmdbm.dbapi.errors import NotSupportedError, ProgrammingError
from lsmdbm.dbapi.tables import Tables
from lsmdbm.dbapi.tokens import LITERAL, NAME, WORD, Token, folded, string_of, tokens

TEMPORARY = ("TEMP", "TEMPORARY")
LEFT_TO_SQLITE = ""  # a statement that does nothing


class _Reader:
    """Tokens, read from the left."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, found: Sequence[Token]) -> None:
        self._tokens = found
        self._at = 0

    def peek(self, ahead: int = 0) -> Token | None:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else None

    def take(self, *words: str) -> bool:
        """Step over words, if they come next."""
        for ahead, word in enumerate(words):
            token = self.peek(ahead)
            if token is None or not token.is_word(word):
                return False
        self._at += len(words)
        return True

    def sign(self, text: str) -> bool:
        """Step over a sign, if it comes next."""
        token = self.peek()
        if token is None or not token.is_sign(text):
            return False
        self._at += 1
        return True

    def skip(self) -> None:
        self._at += 1

    def name(self) -> str | None:
        """Step over a name and return it; None if there is none."""
        token = self.peek()
        if token is None or token.kind not in (WORD, NAME, LITERAL):
            return None
        self._at += 1
        return string_of(token.text) if token.kind == LITERAL else token.text

    def qualified(self) -> tuple[str | None, str] | None:
        """Step over a name and return the database, None if it does not say, and the name."""
        first = self.name()
        if first is None:
            return None
        if not self.sign("."):
            return None, first
        second = self.name()
        return None if second is None else (first, second)


def defined(tables: Tables, sql: str) -> str:
    """Do what a definition says, or return what SQLite is to execute instead.

    Raises:
        NotSupportedError: it would not last.
        ProgrammingError, apsw.SQLError: it is wrong.
    """
    reader = _Reader(tokens(sql))
    if reader.take("CREATE"):
        return _created(tables, reader, sql)
    if reader.take("DROP", "TABLE"):
        return _dropped(tables, reader, sql)
    if reader.take("ALTER", "TABLE"):
        return _altered(tables, reader, sql)
    return sql


def _created(tables: Tables, reader: _Reader, sql: str) -> str:
    is_temporary = any(reader.take(word) for word in TEMPORARY)
    is_table = reader.take("TABLE")
    if is_temporary and (is_table or reader.take("VIEW")):
        return sql
    if not is_table:
        raise NotSupportedError(
            "CREATE is supported for TABLE, TEMP TABLE and TEMP VIEW: anything else would not last"
        )
    may_exist = reader.take("IF", "NOT", "EXISTS")
    found = reader.qualified()
    if found is None or (found[0] is not None and folded(found[0]) != "main"):
        return sql  # wrong, or temp.name
    if not tables.exists(found[1]):
        tables.create(sql)
    elif not may_exist:
        raise ProgrammingError(f"table {found[1]} already exists")
    return LEFT_TO_SQLITE


def _dropped(tables: Tables, reader: _Reader, sql: str) -> str:
    reader.take("IF", "EXISTS")
    found = reader.qualified()
    table = None if found is None else tables.find(*found)
    if table is None or not _is_end(reader):
        return sql
    tables.drop(table)
    return LEFT_TO_SQLITE


def _altered(tables: Tables, reader: _Reader, sql: str) -> str:
    found = reader.qualified()
    table = None if found is None else tables.find(*found)
    if table is None:
        return sql
    if not reader.take("RENAME", "TO"):
        raise NotSupportedError("ALTER TABLE is supported for RENAME TO alone")
    name = reader.name()
    if name is None or not _is_end(reader):
        return sql  # wrong: SQLite says how
    if tables.exists(name) and folded(name) != folded(table.schema.name):
        raise ProgrammingError(f"there is already another table or index with this name: {name}")
    tables.rename(table, name)
    return LEFT_TO_SQLITE


def _is_end(reader: _Reader) -> bool:
    while reader.sign(";"):
        pass
    return reader.peek() is None


# -- changes ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """An INSERT, UPDATE or DELETE.

    Attributes:
        target: database and name of its table; None if that was not found.
        named: the columns that an INSERT names, folded; None for all.
    """

    target: tuple[str | None, str] | None
    named: frozenset[str] | None
    is_returning: bool


def announce(tables: Tables, sql: str) -> None:
    """Tell the tables what a change is about to do (rule 2).

    Raises:
        NotSupportedError: RETURNING, of a table of the store.
    """
    change = change_of(sql)
    if change.is_returning and change.target is not None and tables.find(*change.target) is not None:
        raise NotSupportedError(
            "RETURNING is not supported: SQLite would return what was given, not what is stored"
        )
    tables.named = change.named


@lru_cache(maxsize=512)
def change_of(sql: str) -> Change:
    """Return what a statement changes.

    >>> change_of("INSERT OR IGNORE INTO main.t (a, [b c]) SELECT 1, 2").named == {"a", "b c"}
    True
    """
    reader = _Reader(tokens(sql))
    is_returning = _has_returning(tokens(sql))
    if reader.take("WITH"):
        _skip_to_verb(reader)
    if not reader.take("REPLACE"):
        for verb in ("INSERT", "UPDATE", "DELETE"):
            reader.take(verb)
        if reader.take("OR"):
            reader.skip()
    if not reader.take("INTO"):
        reader.take("FROM")
    target = reader.qualified()
    if reader.take("AS"):
        reader.name()
    return Change(target, _named(reader), is_returning)


def _skip_to_verb(reader: _Reader) -> None:
    depth = 0
    while (token := reader.peek()) is not None:
        if not depth and token.is_word("INSERT", "REPLACE", "UPDATE", "DELETE"):
            return
        depth += token.is_sign("(") - token.is_sign(")")
        reader.skip()


def _has_returning(found: Sequence[Token]) -> bool:
    depth = 0
    for token in found:
        depth += token.is_sign("(") - token.is_sign(")")
        if not depth and token.is_word("RETURNING"):
            return True
    return False


def _named(reader: _Reader) -> frozenset[str] | None:
    if reader.take("DEFAULT", "VALUES"):
        return frozenset()
    if not reader.sign("("):
        return None
    names = set()
    while (name := reader.name()) is not None:
        names.add(folded(name))
        reader.sign(",")
    return frozenset(names)
