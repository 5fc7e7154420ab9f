"""Statements: that a text is exactly one, and what kind it is, without understanding it.

Rules
  1. Only tokens are told apart: strings, quoted names, comments, words, other signs.  What they mean is
     SQLite's business.
  2. A text of comments and blanks is a statement that does nothing.

Thread safety: pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from lsmdbm.dbapi.errors import NotSupportedError, ProgrammingError

TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<word>[^\W\d][\w$]*)
    |(?P<other>'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|[\w$.]+|.)""",
    re.DOTALL | re.VERBOSE,
)


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


def tokens(sql: str) -> Iterator[str]:
    """Yield the tokens of a text, comments and blanks left out; words in upper case, all else as it is."""
    for match in TOKEN.finditer(sql):
        if match.lastgroup != "blank":
            yield match[0].upper() if match.lastgroup == "word" else match[0]


@lru_cache(maxsize=512)
def parse(sql: str) -> Statement:
    """Return what kind of statement a text is.

    >>> parse("with t as (select 1) insert into kv select * from t; -- as in the manual").verb
    'INSERT'

    Raises:
        ProgrammingError: it is more than one.
        NotSupportedError: it is one that cannot work here.
    """
    every = tokens(sql)
    verb = next(every, "")
    if verb in _REFUSED:
        raise NotSupportedError(f"{verb} is not supported: {_REFUSED[verb]}")
    depth, is_over, is_trigger = 0, verb == ";", False
    is_common = verb == "WITH"
    for token in every:
        if is_over and token != ";" and not is_trigger:
            raise ProgrammingError("You can only execute one statement at a time")
        is_over = is_over or token == ";"
        depth += (token == "(") - (token == ")")
        is_trigger = is_trigger or (verb == "CREATE" and token == "TRIGGER")  # has statements inside
        if is_common and not depth and token in _KINDS:
            verb, is_common = token, False
    return Statement(_KINDS.get(verb, Kind.OTHER), verb)
