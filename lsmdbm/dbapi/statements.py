"""Statements: that a text is exactly one, and what kind it is, without understanding it.

Rules
  1. Only tokens are told apart: what they mean is SQLite's business.
  2. A text of comments and blanks is a statement that does nothing.

Thread safety: pure functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from lsmdbm.dbapi.errors import NotSupportedError, ProgrammingError
from lsmdbm.dbapi.tokens import SIGN, WORD, Token, tokens


class Kind(Enum):
    """What a statement does to transactions."""

    QUERY = "reads"
    CHANGE = "writes rows"
    DEFINITION = "writes definitions"
    CONTROL = "begins or ends transactions and savepoints"
    OTHER = "neither begins a transaction nor needs one"


_KINDS = {
    **dict.fromkeys(("SELECT", "VALUES"), Kind.QUERY),
    **dict.fromkeys(("INSERT", "REPLACE", "UPDATE", "DELETE"), Kind.CHANGE),
    **dict.fromkeys(("CREATE", "DROP", "ALTER"), Kind.DEFINITION),
    **dict.fromkeys(("BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"), Kind.CONTROL),
}
_REFUSED = {
    "ATTACH": "two SQLite libraries in one process must not open the same file",
    "DETACH": "there is nothing attached",
    "VACUUM": "call compact() of an lsmdbm.Database",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement.

    Attributes:
        verb: its first word, in upper case; behind WITH, the first that is a verb.
    """

    kind: Kind
    verb: str


@lru_cache(maxsize=512)
def parse(sql: str) -> Statement:
    """Return what kind of statement a text is.

    >>> parse("with t as (select 1) insert into kv select * from t; -- as in the manual").verb
    'INSERT'

    Raises:
        ProgrammingError: it is more than one.
        NotSupportedError: it is one that cannot work here.
    """
    every = (_said(token) for token in tokens(sql))
    verb = next(every, "")
    if verb in _REFUSED:
        raise NotSupportedError(f"{verb} is not supported: {_REFUSED[verb]}")
    depth, is_over, is_trigger = 0, verb == ";", False
    is_common = verb == "WITH"
    for said in every:
        if is_over and said != ";" and not is_trigger:
            raise ProgrammingError("You can only execute one statement at a time")
        is_over = is_over or said == ";"
        depth += (said == "(") - (said == ")")
        is_trigger = is_trigger or (verb == "CREATE" and said == "TRIGGER")  # has statements inside
        if is_common and not depth and said in _KINDS:
            verb, is_common = said, False
    return Statement(_KINDS.get(verb, Kind.OTHER), verb)


def _said(token: Token) -> str:
    """Return a word in upper case, a sign as it is, and "" for what is neither: names in quotes, literals."""
    if token.kind == WORD:
        return token.text.upper()
    return token.text if token.kind == SIGN else ""
