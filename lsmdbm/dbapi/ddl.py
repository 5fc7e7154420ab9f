"""Definitions: what becomes of CREATE, DROP and ALTER before SQLite sees them.

Rules
  1. What SQLite keeps in memory would be gone with the connection, so only what says TEMP is left to it.

Thread safety: pure functions.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from lsmdbm.dbapi.errors import NotSupportedError
from lsmdbm.dbapi.statements import tokens

if TYPE_CHECKING:
    from lsmdbm.dbapi.session import Session

TEMPORARY = ("TEMP", "TEMPORARY")


def rewritten(session: Session, sql: str) -> str:
    """Return what is executed instead of a definition.

    Raises:
        NotSupportedError: it would not last.
    """
    verb, *words = islice(tokens(sql), 3)
    if verb == "CREATE" and not (words[0] in TEMPORARY and words[1] in ("TABLE", "VIEW")):
        raise NotSupportedError("only CREATE TEMP TABLE and TEMP VIEW are supported: the rest would not last")
    return sql
