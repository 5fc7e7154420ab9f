"""Random SQL: tables, and statements on them whose outcome does not depend on the order of a scan.

    world = World(random.Random(case))
    sql, parameters = world.statement()        the next one; `world.happened(sql, ok)` tells it how it went

Rules
  1. Tables with a primary key that is no rowid are read by SQLite in the order of insertion, by lsmdbm in
     that of the key.  So rows are compared as multisets, a LIMIT comes with an ORDER BY of all columns, and
     what could collide halfway changes one row.  So does UPDATE OR REPLACE of a key: docs/sql.md says how
     its expressions differ.
  2. Values are few, so that they meet; they include all that looks alike: 1, 1.0, '1', ' 1', x'31'.
  3. No rowid is the largest that there can be: the next one would be random.  Fractions are short binary
     ones, which every version of SQLite shows alike.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

INTEGERS = [0, 1, 2, 3, 5, -1, -2, 7, 10, 2**40, 2**40 + 1, 2**48 + 1, -(2**48)]
REALS = [0.0, 0.5, 1.0, 1.5, 2.0, -0.5, -1.0, 10.0, 2.0**40, 1e300]
TEXTS = [
    "",
    "a",
    "b",
    "ab",
    "A",
    "B",
    "1",
    "2",
    "1.0",
    "1.5",
    " 1",
    "1e1",
    "-1",
    "x",
    "a\0b",
    "a\0",
    "\u00e9",
    "zz",
]
BLOBS = [b"", b"a", b"1", b"\0", b"\0\xff", b"\xff", b"ab"]
TYPES = [
    "INTEGER",
    "INT",
    "TEXT",
    "VARCHAR(9)",
    "REAL",
    "DOUBLE",
    "BLOB",
    "NUMERIC",
    "DECIMAL(5,2)",
    "",
    "DATE",
]
DEFAULTS = ["1", "'a'", "1.5", "NULL", "-2", "x'61'", "(1 + 1)", "(lower('B'))", "'5'", "b_word", "TRUE"]
COMPARISONS = ["=", "==", "<", "<=", ">", ">=", "<>", "IS", "IS NOT"]
CONFLICTS = ["", "", "", "", " OR IGNORE", " OR REPLACE", " OR FAIL", " OR ABORT"]


@dataclass
class Table:
    """A table as it was made."""

    name: str
    columns: list[str]
    key: list[str]
    has_rowid: bool  # that is its key
    is_ordered: bool  # whether SQLite scans it in the order of its key, too
    generation: int = 0


@dataclass
class World:
    """What has been made so far."""

    drawn: random.Random
    tables: dict[str, Table] = field(default_factory=dict)
    kept: list[dict[str, Table]] = field(default_factory=list)  # of BEGIN, and of savepoints
    savepoints: list[str] = field(default_factory=list)
    is_in_transaction: bool = False
    pending: Any = None

    # -- the next statement ---------------------------------------------------------------------------

    def statement(self) -> tuple[str, list[Any]]:
        """Return a statement and its parameters."""
        self.pending = None
        if not self.tables or (len(self.tables) < 3 and self.drawn.random() < 0.05):
            return self.create(), []
        if self.drawn.random() < 0.12:
            return self.control(), []
        if self.drawn.random() < 0.02:
            return self.definition(), []
        kinds = [self.insert, self.insert, self.insert, self.update, self.delete, self.select, self.select]
        return self.drawn.choice([*kinds, self.select, self.select, self.join])()

    def happened(self, is_done: bool) -> None:
        """Take note of how it went."""
        if is_done and self.pending is not None:
            self.pending()

    # -- definitions ----------------------------------------------------------------------------------

    def create(self) -> str:
        drawn = self.drawn
        name = drawn.choice([each for each in ("t", "u", "v", "w") if each not in self.tables])
        columns = [f"c{number}" for number in range(drawn.randrange(1, 5))]
        types = [drawn.choice(TYPES) for _ in columns]
        clauses = [self.constraints() for _ in columns]
        key, tail, suffix = [], "", ""
        kind = drawn.choice(["rowid", "integer", "integer", "column", "composite", "composite"])
        if kind == "integer":
            at = drawn.randrange(len(columns))
            types[at], clauses[at] = "INTEGER", " PRIMARY KEY"
            key = [columns[at]]
        elif kind != "rowid":
            key = drawn.sample(columns, 1 if kind == "column" else min(len(columns), drawn.choice([2, 2, 3])))
            tail = f", PRIMARY KEY ({', '.join(key)})"
            if len(key) == 1 and types[columns.index(key[0])] == "INTEGER":
                types[columns.index(key[0])] = "INT"
            suffix = drawn.choice(["", " WITHOUT ROWID"])
        parts = [f"{n} {t}{c}" for n, t, c in zip(columns, types, clauses, strict=True)]
        has_rowid = kind in ("rowid", "integer")
        table = Table(name, columns, key, has_rowid, has_rowid or bool(suffix))
        self.pending = lambda: self.tables.update({name: table})
        return f"CREATE TABLE {name} ({', '.join(parts)}{tail}){suffix}"

    def constraints(self) -> str:
        text = ""
        if self.drawn.random() < 0.2:
            text += " NOT NULL"
        if self.drawn.random() < 0.4:
            text += f" DEFAULT {self.drawn.choice(DEFAULTS)}"
        if self.drawn.random() < 0.1:
            text += " COLLATE BINARY"
        return text

    def definition(self) -> str:
        name = self.drawn.choice([*self.tables])
        if self.drawn.random() < 0.5:
            self.pending = lambda: self.tables.pop(name)
            return f"DROP TABLE {name}"
        new = self.drawn.choice(["t", "u", "v", "w", "x"])
        held = self.tables[name]

        def rename() -> None:
            del self.tables[name]
            self.tables[new] = Table(new, held.columns, held.key, held.has_rowid, held.is_ordered)

        self.pending = rename
        return f"ALTER TABLE {name} RENAME TO {new}"

    # -- transactions ---------------------------------------------------------------------------------

    def control(self) -> str:
        drawn = self.drawn
        if not self.is_in_transaction:
            self.pending = self._begun
            return "BEGIN"
        kind = drawn.choice(["COMMIT", "ROLLBACK", "SAVEPOINT", "SAVEPOINT", "RELEASE", "TO", "TO"])
        if kind in ("COMMIT", "ROLLBACK"):
            self.pending = lambda: self.ended(kind)
            return kind
        if kind == "SAVEPOINT" or not self.savepoints:
            name = f"s{len(self.savepoints)}"
            self.pending = lambda: (self.savepoints.append(name), self.kept.append(dict(self.tables)))
            return f"SAVEPOINT {name}"
        at = drawn.randrange(len(self.savepoints))
        self.pending = lambda: self._returned(at, kind)
        return f"{'RELEASE' if kind == 'RELEASE' else 'ROLLBACK TO'} {self.savepoints[at]}"

    def _begun(self) -> None:
        self.is_in_transaction = True
        self.kept = [dict(self.tables)]
        self.savepoints = []

    def ended(self, kind: str) -> None:
        """Take note that a transaction is over."""
        if kind == "ROLLBACK":
            self.tables = self.kept[0]
        self.is_in_transaction = False
        self.kept, self.savepoints = [], []

    def _returned(self, at: int, kind: str) -> None:
        if kind == "TO":
            self.tables = dict(self.kept[at + 1])
        stays = at + (kind == "TO")
        del self.savepoints[stays:], self.kept[stays + 1 :]

    # -- values ---------------------------------------------------------------------------------------

    def value(self) -> Any:
        pool = self.drawn.choice(
            [INTEGERS[:6], INTEGERS[:6], INTEGERS, REALS, TEXTS, TEXTS[1:8], BLOBS, [None]]
        )
        return self.drawn.choice(pool)

    def term(self, parameters: list[Any]) -> str:
        """Return a value as SQL, mostly a parameter."""
        value = self.value()
        if self.drawn.random() < 0.7 or (isinstance(value, str) and "\0" in value):
            parameters.append(value)
            return "?"
        if isinstance(value, bytes):
            return f"x'{value.hex()}'"
        if isinstance(value, str):
            return f"'{value}'"
        return "NULL" if value is None else repr(value)

    def condition(self, table: Table, parameters: list[Any], prefix: str = "", depth: int = 0) -> str:
        drawn = self.drawn
        if depth < 2 and drawn.random() < 0.4:
            joined = drawn.choice([" AND ", " AND ", " AND ", " OR "])
            parts = [
                self.condition(table, parameters, prefix, depth + 1) for _ in range(drawn.choice([2, 2, 3]))
            ]
            return f"({joined.join(parts)})"
        columns = [*table.columns, *table.key * 2] + ["rowid"] * table.has_rowid
        column = prefix + drawn.choice(columns)
        kind = drawn.random()
        if kind < 0.6:
            return f"{column} {drawn.choice(COMPARISONS)} {self.term(parameters)}"
        if kind < 0.7:
            return f"{column} BETWEEN {self.term(parameters)} AND {self.term(parameters)}"
        if kind < 0.8:
            return f"{column} IN ({', '.join(self.term(parameters) for _ in range(drawn.randrange(1, 4)))})"
        if kind < 0.87:
            return f"{column} {drawn.choice(['IS NULL', 'IS NOT NULL', 'NOTNULL'])}"
        if kind < 0.93:
            return f"{column} {drawn.choice(COMPARISONS)} {prefix}{drawn.choice(table.columns)}"
        return f"{drawn.choice(['NOT ', ''])}{column} LIKE '{drawn.choice(['a%', '%b', '1%', '%'])}'"

    def where(self, table: Table, parameters: list[Any]) -> str:
        return f" WHERE {self.condition(table, parameters)}" if self.drawn.random() < 0.85 else ""

    def one_row(self, table: Table, parameters: list[Any]) -> str:
        """Return a condition that holds for one row at most."""
        columns = table.key or ["rowid"]
        return " WHERE " + " AND ".join(f"{column} = {self.term(parameters)}" for column in columns)

    # -- changes --------------------------------------------------------------------------------------

    def insert(self) -> tuple[str, list[Any]]:
        drawn = self.drawn
        table = self.tables[drawn.choice([*self.tables])]
        parameters: list[Any] = []
        verb = drawn.choice(
            [f"INSERT{drawn.choice(CONFLICTS)}", f"INSERT{drawn.choice(CONFLICTS)}", "REPLACE"]
        )
        if drawn.random() < 0.04:
            return f"{verb} INTO {table.name} DEFAULT VALUES", []
        columns = table.columns
        named = ""
        if drawn.random() < 0.5:
            columns = drawn.sample(columns, drawn.randrange(1, len(columns) + 1))
            if table.has_rowid and not table.key and drawn.random() < 0.3:
                columns = [*columns, "rowid"]
            named = f" ({', '.join(columns)})"
        if drawn.random() < 0.1:
            other = self.tables[drawn.choice([*self.tables])]
            picked = ", ".join(drawn.choice(other.columns) for _ in columns)
            source = f" SELECT {picked} FROM {other.name}{self.where(other, parameters)}"
            source += f" ORDER BY {picked} LIMIT 3" if other.columns else ""
        else:
            rows = [
                ", ".join(self.term(parameters) for _ in columns)
                for _ in range(drawn.choice([1, 1, 1, 2, 3, 5]))
            ]
            source = " VALUES " + ", ".join(f"({row})" for row in rows)
        return f"{verb} INTO {table.name}{named}{source}", parameters

    def update(self) -> tuple[str, list[Any]]:
        drawn = self.drawn
        table = self.tables[drawn.choice([*self.tables])]
        parameters: list[Any] = []
        columns = drawn.sample(table.columns, drawn.randrange(1, len(table.columns) + 1))
        is_moving = bool({*columns} & {*table.key})
        sets = []
        for column in columns:
            kind = drawn.random()
            if kind < 0.7:
                sets.append(f"{column} = {self.term(parameters)}")
            elif kind < 0.85:
                sets.append(f"{column} = {drawn.choice(table.columns)}")
            else:
                sets.append(f"{column} = length({column})" if kind < 0.9 else f"{column} = {column} + 1")
        conflict = drawn.choice(CONFLICTS)
        where = ""
        if not is_moving:
            where = self.where(table, parameters)
        elif not table.is_ordered or conflict == " OR REPLACE" or drawn.random() < 0.7:
            where = self.one_row(table, parameters)
        elif drawn.random() < 0.7:  # no OR, for which SQLite has plans of its own
            where = f" WHERE {drawn.choice(columns)} {drawn.choice(['<', '>='])} {self.term(parameters)}"
        return f"UPDATE{conflict} {table.name} SET {', '.join(sets)}{where}", parameters

    def delete(self) -> tuple[str, list[Any]]:
        table = self.tables[self.drawn.choice([*self.tables])]
        parameters: list[Any] = []
        if self.drawn.random() < 0.9:
            return f"DELETE FROM {table.name} WHERE {self.condition(table, parameters)}", parameters
        return f"DELETE FROM {table.name}", []

    # -- queries --------------------------------------------------------------------------------------

    def select(self) -> tuple[str, list[Any]]:
        drawn = self.drawn
        table = self.tables[drawn.choice([*self.tables])]
        parameters: list[Any] = []
        columns = ", ".join([*table.columns, *["rowid"] * table.has_rowid])
        kind = drawn.random()
        if kind < 0.15:
            column = drawn.choice(table.columns)
            what = f"count(*), count({column}), min({column}), max({column})"
            return f"SELECT {what} FROM {table.name}{self.where(table, parameters)}", parameters
        if kind < 0.25:
            column = drawn.choice(table.columns)
            group = f" GROUP BY {column} HAVING count(*) > {drawn.choice([0, 0, 1])}"
            return (
                f"SELECT {column}, count(*) FROM {table.name}{self.where(table, parameters)}{group}",
                parameters,
            )
        if kind < 0.35:
            picked = drawn.choice([*table.columns, *table.key])
            return f"SELECT DISTINCT {picked} FROM {table.name}{self.where(table, parameters)}", parameters
        if kind < 0.45:
            end = drawn.choice(["max", "min"])
            picked = drawn.choice([*table.columns, *table.key])
            return f"SELECT {end}({picked}) FROM {table.name}{self.where(table, parameters)}", parameters
        where = self.where(table, parameters)
        order = ""
        if drawn.random() < 0.5:
            down = drawn.choice(["", " DESC"])
            first = table.key[: drawn.randrange(1, 3)] or ["rowid"]
            terms = [f"{column}{down}" for column in [*first, *table.columns]]
            order = f" ORDER BY {', '.join(terms)}"
            if drawn.random() < 0.5:
                order += f" LIMIT {drawn.randrange(4)} OFFSET {drawn.randrange(2)}"
        return f"SELECT {columns} FROM {table.name}{where}{order}", parameters

    def join(self) -> tuple[str, list[Any]]:
        drawn = self.drawn
        left, right = (self.tables[drawn.choice([*self.tables])] for _ in range(2))
        parameters: list[Any] = []
        ons = [
            f"a.{drawn.choice([*left.columns, *left.key])} {drawn.choice(['=', '=', '=', 'IS', '<', '>='])}"
            f" b.{drawn.choice([*right.columns, *right.key, *right.key])}"
            for _ in range(drawn.choice([1, 1, 2]))
        ]
        kind = drawn.choice(["JOIN", "LEFT JOIN", "CROSS JOIN"])
        columns = ", ".join(
            [*(f"a.{name}" for name in left.columns), *(f"b.{name}" for name in right.columns)]
        )
        where = f" WHERE {self.condition(left, parameters, 'a.')}" if drawn.random() < 0.5 else ""
        return (
            f"SELECT {columns} FROM {left.name} a {kind} {right.name} b ON {' AND '.join(ons)}{where}",
            parameters,
        )
