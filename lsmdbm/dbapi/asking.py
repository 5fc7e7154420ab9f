"""Asking: a statement of our own, to SQLite, and all of its answer.

Rules
  1. Every cursor is closed: apsw 3.54.0, the newest for Python 3.10, leaks one that is freed and not closed,
     and its connection.

Thread safety: that of the connection.
"""

from __future__ import annotations

from typing import Any

import apsw


def ask(sqlite: apsw.Connection, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
    """Execute statements and return their rows.

    >>> ask(apsw.Connection(":memory:"), "SELECT ?", (5,))
    [(5,)]
    """
    cursor = sqlite.cursor()
    try:
        return cursor.execute(sql, bindings).fetchall()
    finally:
        cursor.close(True)
