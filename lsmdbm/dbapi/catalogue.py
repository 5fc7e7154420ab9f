r"""Catalogue: which tables a database has, kept in the database itself.

    00 "sql" 00 "generation"     how often the catalogue was changed, decimal text
    00 "sql" 00 "table" name     JSON: id, and the CREATE TABLE; the name in lower case
    00 "sql" 00 "r" id key       a row; id u32, big-endian
    00 "sql" 00 "dropped" id     nothing: the rows of a table that is gone are still to be deleted

Rules
  1. Keys that begin with RESERVED, 00 "sql" 00, are those above, and nobody else's: `kv` leaves them out.
  2. Every change takes the next generation, which becomes the id of a table that is made: no id is used
     twice, so rows can never turn up in another table.
  3. A transaction reads the generation when it begins.  So it is in conflict with every change of the
     catalogue by somebody else, and what it writes to tables goes to tables that are there.
  4. A DROP TABLE leaves the rows where they are, and a note.  Once it is committed nobody can write to them
     any more, and `sweep` deletes them all as one range, at a cost that does not depend on their number.

Thread safety: pure functions of the mapping they are given.  Spec: docs/sql.md, Keys and rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Protocol

from lsmdbm._base.errors import CorruptionError
from lsmdbm.database import Database
from lsmdbm.dbapi.schema import Schema, parse
from lsmdbm.dbapi.tokens import folded
from lsmdbm.dbapi.values import RESERVED
from lsmdbm.source import SortedSource

# On disk: never changes.
GENERATION = RESERVED + b"generation"
TABLE = RESERVED + b"table"
ROW = RESERVED + b"r"  # there are many
DROPPED = RESERVED + b"dropped"
ID_BYTES = 4


class Writable(Protocol):
    """What a change is made in: a transaction, or a database."""

    def get(self, key: bytes, /) -> bytes | None:
        """Return a value."""
        ...

    def __setitem__(self, key: bytes, value: bytes, /) -> None: ...

    def __delitem__(self, key: bytes, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is there.

    Attributes:
        id: its number, for ever.
    """

    id: int
    schema: Schema

    @property
    def prefix(self) -> bytes:
        """What the keys of its rows begin with."""
        return ROW + _id_bytes(self.id)


def _id_bytes(table: int) -> bytes:
    return table.to_bytes(ID_BYTES, "big")


def generation(source: SortedSource) -> int:
    """Return how often the catalogue was changed.  One look."""
    return int(source.get(GENERATION) or 0)


def tables(source: SortedSource) -> dict[str, Table]:
    """Return the tables by their folded names.  O(n) in their number.

    Raises:
        CorruptionError: what is there is no catalogue.
    """
    return {
        key[len(TABLE) :].decode("utf-8"): _table(key, value)
        for key, value in source.range(prefix=TABLE).items()
    }


def table(source: SortedSource, name: str) -> Table | None:
    """Return the table of a name, None if there is none."""
    key = _name_key(name)
    value = source.get(key)
    return None if value is None else _table(key, value)


def _table(key: bytes, value: bytes) -> Table:
    try:
        held = json.loads(value)
        return Table(int(held["id"]), parse(held["sql"]))
    except (ValueError, TypeError, KeyError) as exc:
        raise CorruptionError("SQL catalogue", -1, f"{key!r}: {exc}") from exc


def create(target: Writable, schema: Schema) -> Table:
    """Add a table; that there is none of the name is for the caller to know."""
    made = Table(_next_generation(target), schema)
    _put(target, made)
    return made


def drop(target: Writable, table: Table) -> None:
    """Take a table away (rule 4)."""
    _next_generation(target)
    del target[_name_key(table.schema.name)]
    target[DROPPED + _id_bytes(table.id)] = b""


def rename(target: Writable, table: Table, name: str) -> Table:
    """Give a table another name; its rows stay where they are."""
    renamed = Table(table.id, table.schema.renamed(name))
    _next_generation(target)
    del target[_name_key(table.schema.name)]
    _put(target, renamed)
    return renamed


def sweep(database: Database) -> None:
    """Delete the rows of tables that are gone (rule 4); others may do the same meanwhile.

    Cut off, it goes on with the next one.  Costs a look if there is nothing to do.
    """
    for note in list(database.range(prefix=DROPPED)):
        database.delete_range(prefix=ROW + note[len(DROPPED) :])
        database.pop(note, None)


def _next_generation(target: Writable) -> int:
    number = int(target.get(GENERATION) or 0) + 1
    target[GENERATION] = b"%d" % number
    return number


def _put(target: Writable, table: Table) -> None:
    entry = {"id": table.id, "sql": table.schema.sql}
    target[_name_key(table.schema.name)] = json.dumps(entry).encode("ascii")


def _name_key(name: str) -> bytes:
    return TABLE + folded(name).encode("utf-8")
