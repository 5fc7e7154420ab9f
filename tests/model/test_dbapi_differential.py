"""Random tables, statements and transactions: lsmdbm.dbapi answers as the standard library's sqlite3 does."""

import random
import sqlite3
from collections import Counter

from support import sql
from support.budgets import Budget
from support.statements import World

dbapi = sql.module()

STATEMENTS = 60  # of one case
ALIKE = {  # where PEP 249 leaves it open, sqlite3 chooses otherwise
    "OperationalError": "ProgrammingError",  # SQL that is wrong
    "DataError": "IntegrityError",  # a value that is no rowid
}


def outcome(cursor, statement, parameters):
    """Return what a statement does: rows, a number of changes, or an error and what it says."""
    try:
        cursor.execute(statement, parameters)
        if cursor.description is not None:
            return "rows", cursor.fetchall()
        is_insert = statement.startswith(("INSERT", "REPLACE"))
        return "done", max(0, cursor.rowcount) if is_insert or statement[0] in "UD" else 0
    except (sqlite3.Error, dbapi.Error) as exc:
        name = type(exc).__name__
        return "error", ALIKE.get(name, name), str(exc) if "constraint" in str(exc) else ""


def comparable(result, statement):
    """Return what of an outcome does not depend on the order of a scan."""
    if result[0] != "rows":
        return result
    if any(word in statement for word in ("DISTINCT", "GROUP BY", "max(", "min(")):
        return "rows", Counter(result[1])  # of 1 and 1.0 the one that a scan meets first
    types = Counter(map(repr, result[1]))
    return (
        ("rows", types, result[1]) if "ORDER BY" in statement else ("rows", types)
    )  # 1 and 1.0 may change places


def is_doubtful(statement, result):
    """Return whether what an error has left behind in a transaction depends on the version of SQLite.

    Up to 3.40 at least, rows before one that fails stay if SQLite thought that none could.
    """
    is_tolerant = any(word in statement for word in ("REPLACE", "OR IGNORE", "OR FAIL"))
    return result[0] == "error" and is_tolerant and "UNIQUE" not in result[2]


class Pair:
    """The same statements on both."""

    def __init__(self, path):
        self.path = path
        self.theirs = sqlite3.connect(":memory:", isolation_level=None)
        self.ours = dbapi.connect(path, autocommit=True)

    def run(self, statement, parameters=()):
        theirs = self.theirs.cursor()
        expected = outcome(theirs, statement, parameters)
        actual = outcome(self.ours.cursor(), statement, parameters)
        return comparable(expected, statement), comparable(actual, statement)

    def reopen(self):
        self.ours.close()
        self.ours = dbapi.connect(self.path, autocommit=True)

    def close(self):
        self.ours.close()
        self.theirs.close()


def run_case(case, path, reach):
    drawn = random.Random(case)
    world, pair = World(drawn), Pair(path)
    history = []
    try:
        for _ in range(STATEMENTS):
            statement, parameters = world.statement()
            history.append(f"{statement}  {parameters!r}" if parameters else statement)
            expected, actual = pair.run(statement, parameters)
            assert expected == actual, "\n".join([*history, f"sqlite3: {expected}", f"lsmdbm:  {actual}"])
            world.happened(expected[0] != "error")
            if world.is_in_transaction and is_doubtful(statement, expected):
                assert pair.run("ROLLBACK") == (("done", 0), ("done", 0))
                world.ended("ROLLBACK")
            reach.count()
            reach.count(expected[0])
            if not world.is_in_transaction and drawn.random() < 0.02:
                pair.reopen()
        if world.is_in_transaction:
            pair.run(drawn.choice(["COMMIT", "ROLLBACK"]))
        pair.reopen()
        for (name,) in pair.theirs.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            expected, actual = pair.run(f"SELECT * FROM {name}")
            assert expected == actual, "\n".join([*history, name])
    finally:
        pair.close()


def test_random_statements_have_the_outcomes_that_they_have_in_sqlite3(tmp_path):
    with Budget(
        "TABLES", small=600, default=10_000, crash=10_000, long=1_000_000, unit="statements"
    ) as reach:
        for number, case in enumerate(reach):
            run_case(case, tmp_path / str(number), reach)
