"""SQL: the table kv of lsmdbm.dbapi, and one that CREATE TABLE makes, beside the same in a file of sqlite3.

    python -m benchmarks.sql [ENTRIES]

Fills kv with ENTRIES rows of 14 + 100 bytes, 100,000 if not given, in random order by `executemany`, and
again with OR REPLACE; then a table of as many rows with an INTEGER PRIMARY KEY, a TEXT and a REAL, and one
with a key of a TEXT and an INTEGER.  Closes and opens; runs each statement below, fetches all of it, and
commits.
Neither waits for a disk: lsmdbm is at durability "process", sqlite3 has `synchronous=off`.  Prints, of RUNS
runs that alternate, the best time of each, and ours as a multiple of the other's.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import lsmdbm
import lsmdbm.dbapi

RUNS = 5
LOOKS = 10_000
CREATE = "CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID"
INSERT, REPLACE = "INSERT INTO kv VALUES (?, ?)", "INSERT OR REPLACE INTO kv VALUES (?, ?)"
TABLES = [
    "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, x REAL)",
    "CREATE TABLE u (name TEXT, id INTEGER, x REAL, PRIMARY KEY (name, id)) WITHOUT ROWID",
]


class Work:
    """What is done on either: rows in random order, and keys to ask for."""

    def __init__(self, count: int) -> None:
        rng = random.Random(17)
        self.count = count
        self.rows = [(b"key:%010d" % number, rng.randbytes(50).hex().encode()) for number in range(count)]
        rng.shuffle(self.rows)
        self.keys = [rng.choice(self.rows)[0] for _ in range(LOOKS)]
        self.tenth = b"key:%010d" % (count // 10)
        self.numbered = [(number, f"name {number % 1000}", number / 2) for number in range(count)]
        self.numbers = [rng.randrange(count) for _ in range(LOOKS)]

    def inserts(self) -> dict[str, tuple[str, list[Any]]]:
        """Return what is timed first: statements for `executemany`, and their rows."""
        named = [(name, number, x) for number, name, x in self.numbered]
        return {
            "INSERT, executemany": (INSERT, self.rows),
            "OR REPLACE, executemany": (REPLACE, self.rows),
            "table: INSERT, executemany": ("INSERT INTO t VALUES (?, ?, ?)", self.numbered),
            "table: INSERT, a key of two": ("INSERT INTO u VALUES (?, ?, ?)", named),
        }

    def statements(self, cursor: Any) -> dict[str, Callable[[], int]]:
        """Return what is timed behind the inserts, each with the number of rows that must come out."""

        def many(sql: str, groups: list[list[Any]]) -> int:
            return sum(len(cursor.execute(sql, group).fetchall()) for group in groups)

        def one(sql: str, *parameters: object) -> int:
            return len(cursor.execute(sql, parameters).fetchall())

        def changed(sql: str, *parameters: object) -> int:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)

        hundreds = [[*{*self.keys[at : at + 100]}] for at in range(0, len(self.keys), 100)]
        join = "SELECT length(b.value) FROM kv a JOIN kv b ON b.key = a.key WHERE a.key < ?"
        return {
            "count(*)": lambda: one("SELECT count(*) FROM kv"),
            "all rows": lambda: one("SELECT * FROM kv"),
            "one row by key": lambda: many(
                "SELECT value FROM kv WHERE key = ?", [[key] for key in self.keys]
            ),
            "100 rows by IN": lambda: sum(
                many(f"SELECT * FROM kv WHERE key IN ({','.join('?' * len(group))})", [group])
                for group in hundreds
            ),
            "100 rows of a range": lambda: many(
                "SELECT * FROM kv WHERE key >= ? ORDER BY key LIMIT 100", [[key] for key in self.keys[:500]]
            ),
            "max(key)": lambda: many("SELECT max(key) FROM kv", [[]] * 500),
            "join by key, a tenth": lambda: one(join, self.tenth),
            "sum(length(value))": lambda: one("SELECT sum(length(value)) FROM kv"),
            "UPDATE, a tenth": lambda: changed("UPDATE kv SET value = x'00' WHERE key < ?", self.tenth),
            "DELETE, a tenth": lambda: changed("DELETE FROM kv WHERE key < ?", self.tenth),
            "table: all rows": lambda: one("SELECT * FROM t"),
            "table: one row by key": lambda: many(
                "SELECT * FROM t WHERE id = ?", [[number] for number in self.numbers]
            ),
            "table: 100 rows of a range": lambda: many(
                "SELECT * FROM t WHERE id >= ? AND id < ? + 100 ORDER BY id",
                [[number, number] for number in self.numbers[:500]],
            ),
            "table: rows of one name, backwards": lambda: many(
                "SELECT * FROM u WHERE name = ? ORDER BY id DESC",
                [[f"name {number % 1000}"] for number in self.numbers[:500]],
            ),
            "table: GROUP BY": lambda: one("SELECT name, count(*), sum(x) FROM t GROUP BY name"),
        }


def connect(kind: str, path: str) -> Any:
    """Return a connection of either kind, with a table kv."""
    if kind == "lsmdbm":
        return lsmdbm.dbapi.connect(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = off")
    connection.execute(CREATE)
    return connection


def make_tables(kind: str, path: str) -> None:
    """Make the tables that are not there by themselves."""
    connection = connect(kind, path)
    for statement in TABLES:
        connection.cursor().execute(statement)
    connection.commit()
    connection.close()


def run(kind: str, path: str, work: Work) -> dict[str, tuple[float, int]]:
    """Return seconds and rows of each piece of work, the commit included."""
    found = {}

    def timed(name: str, job: Callable[[], int]) -> None:
        started = time.perf_counter()
        rows = job()
        connection.commit()
        found[name] = time.perf_counter() - started, rows

    make_tables(kind, path)
    for name, (sql, rows) in work.inserts().items():
        connection = connect(kind, path)
        cursor = connection.cursor()
        timed(name, lambda sql=sql, rows=rows, cursor=cursor: cursor.executemany(sql, rows).rowcount)  # type: ignore[misc]
        connection.close()
    connection = connect(kind, path)
    for name, job in work.statements(connection.cursor()).items():
        timed(name, job)
    connection.close()
    return found


def main() -> None:
    work = Work(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
    best: dict[tuple[str, str], float] = {}
    print(f"{work.count:,} rows of each table, the best of {RUNS} runs\n")
    with tempfile.TemporaryDirectory() as root:
        for number in range(RUNS):
            answers = []
            for kind in ("sqlite3", "lsmdbm"):
                found = run(kind, os.path.join(root, f"{kind}.{number}"), work)
                for name, (seconds, _) in found.items():
                    best[name, kind] = min(seconds, best.get((name, kind), seconds))
                answers.append({name: rows for name, (_, rows) in found.items()})
            if answers[0] != answers[1]:
                raise SystemExit(f"the answers differ: {answers}")
    print("| work | sqlite3, ms | lsmdbm.dbapi, ms | ratio |\n| --- | --- | --- | --- |")
    for name in answers[0]:
        theirs, ours = best[name, "sqlite3"] * 1000, best[name, "lsmdbm"] * 1000
        print(f"| {name} | {theirs:.1f} | {ours:.1f} | {ours / theirs:.1f} |")


if __name__ == "__main__":
    main()
