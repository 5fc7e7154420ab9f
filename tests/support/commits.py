"""A program that commits by SQL until it is killed: each transaction leaves a mark in every row it writes.

    child.start("run", "commits:commit_on", path, done, options)
    child.lines()           "1", "2", ...: how many transactions have been committed

Transaction n sets all ROWS rows to n, inserts a row of its own, and deletes that of n - KEPT: what is read
afterwards tells of which transactions all is there, and of which nothing.

Rules
  1. A transaction is acknowledged when COMMIT has returned, by one write of a line to a pipe.

Thread safety: none.
"""

from __future__ import annotations

import os
from typing import Any

ROWS = 40
KEPT = 5


def commit_on(path: str, done: int, options: dict[str, Any]) -> None:
    """Commit transactions, from number `done` + 1 on, until somebody ends this process."""
    import lsmdbm.dbapi  # here, for whoever has no apsw imports this module too

    connection = lsmdbm.dbapi.connect(path, **options)
    cursor = connection.cursor()
    number = done
    while True:
        number += 1
        rows = [(f"row {row:02}", str(number)) for row in range(ROWS)]
        cursor.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?)", rows)
        cursor.execute("INSERT INTO kv VALUES (?, ?)", [f"transaction {number:08}", bytes(200)])
        cursor.execute("DELETE FROM kv WHERE key = ?", [f"transaction {number - KEPT:08}"])
        cursor.execute("SAVEPOINT mistake")
        cursor.execute("DELETE FROM kv")
        cursor.execute("ROLLBACK TO mistake")
        connection.commit()
        os.write(1, b"%d\n" % number)


def content(number: int) -> dict[bytes, bytes]:
    """Return what is there after so many transactions."""
    if not number:
        return {}
    kept = range(max(1, number - KEPT + 1), number + 1)
    rows = {b"row %02d" % row: b"%d" % number for row in range(ROWS)}
    return rows | {b"transaction %08d" % each: bytes(200) for each in kept}
