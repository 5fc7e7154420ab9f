"""Tokens: SQL cut into words, names, literals and signs, without their meaning.

    tokens("DROP TABLE [a b]; -- gone")    DROP, TABLE, "a b" as a name, ;

Rules
  1. White space and comments are no tokens.
  2. SQLite is what understands SQL.  This finds names and words that it alone would tell too late, or not at
     all.

Thread safety: pure functions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

WORD, NAME, LITERAL, SIGN = "word", "name", "literal", "sign"

_TOKEN = re.compile(
    r"""
      (?P<blank> \s+ | --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<name> "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] )
    | (?P<literal> [xX]?'(?:[^']|'')*' | \.?\d(?:[eE][+-]?|[\w.])* )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<sign> [?:@$\#][\w$]* | . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        kind: WORD, NAME (one in quotes), LITERAL or SIGN.
        text: as it is written; of a NAME what the quotes hold.
        start, stop: where it is in the statement.
    """

    kind: str
    text: str
    start: int
    stop: int

    def is_word(self, *words: str) -> bool:
        """Return whether it is one of these words, which are given in upper case."""
        return self.kind == WORD and self.text.upper() in words

    def is_sign(self, text: str) -> bool:
        """Return whether it is that sign."""
        return self.kind == SIGN and self.text == text


@lru_cache(maxsize=1)  # for who asks once more of the same statement
def tokens(sql: str) -> tuple[Token, ...]:
    """Return the tokens of some SQL.  O(n).

    >>> [token.text for token in tokens('SELECT "a b" FROM t -- all')]
    ['SELECT', 'a b', 'FROM', 't']
    """
    found = []
    for match in _TOKEN.finditer(sql):
        kind = str(match.lastgroup)
        if kind != "blank":
            text = _unquoted(match[0]) if kind == NAME else match[0]
            found.append(Token(kind, text, match.start(), match.end()))
    return tuple(found)


def _unquoted(text: str) -> str:
    return text[1:-1] if text[0] == "[" else text[1:-1].replace(text[0] * 2, text[0])


def string_of(literal: str) -> str:
    """Return what a string literal holds; SQLite takes one for a name in some places."""
    return literal[1:-1].replace("''", "'")


def quoted(name: str) -> str:
    """Return a name as it is written in SQL, whatever is in it.

    >>> quoted('the "best" of')
    '"the ""best"" of"'
    """
    return '"' + name.replace('"', '""') + '"'


def folded(name: str) -> str:
    """Return what names that SQLite takes for the same have in common: it knows the case of ASCII alone."""
    return name.encode("utf-8").lower().decode("utf-8")
