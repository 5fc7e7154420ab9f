"""Type objects and constructors of PEP 249.

Rules
  1. A type object stands for declared types, by the words SQLite looks for in them; it is the very object
     that `description` shows.
  2. Dates and times are stored as text in ISO 8601, which sorts by time and which SQLite's functions read.

Thread safety: pure functions.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from lsmdbm._base.public import member_of

Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> datetime.date:  # noqa: N802 - the name of PEP 249
    """Return the local date of a time in seconds since the epoch."""
    return datetime.date.fromtimestamp(ticks)


def TimeFromTicks(ticks: float) -> datetime.time:  # noqa: N802 - the name of PEP 249
    """Return the local time of day of a time in seconds since the epoch."""
    return datetime.datetime.fromtimestamp(ticks).time()


def TimestampFromTicks(ticks: float) -> datetime.datetime:  # noqa: N802 - the name of PEP 249
    """Return the local date and time of a time in seconds since the epoch."""
    return datetime.datetime.fromtimestamp(ticks)


@member_of("lsmdbm.dbapi")
class TypeObject:
    """A kind of column; equal to itself alone.

    Args:
        name: what it is called.
        words: that are looked for in a declared type, in upper case.
    """

    __slots__ = ("name", "words")

    def __init__(self, name: str, *words: str) -> None:
        self.name = name
        self.words = words

    def __repr__(self) -> str:
        return f"lsmdbm.dbapi.{self.name}"


STRING = TypeObject("STRING", "CHAR", "CLOB", "TEXT", "JSON")
BINARY = TypeObject("BINARY", "BLOB", "BINARY")
NUMBER = TypeObject("NUMBER", "INT", "REAL", "FLOA", "DOUB", "NUM", "DEC", "BOOL")
DATETIME = TypeObject("DATETIME", "DATE", "TIME")
ROWID = TypeObject("ROWID", "ROWID")

_BY_WORDS = (ROWID, DATETIME, STRING, BINARY, NUMBER)  # what a text holds first decides
_BY_CLASS = {str: STRING, bytes: BINARY, int: NUMBER, float: NUMBER}


def type_of(declared: str | None, value: object = None) -> TypeObject | None:
    """Return the type object of a column, None if nothing is known of it.

    Args:
        declared: the type in its definition; None for an expression.
        value: of the first row, for columns without a declared type.

    >>> type_of("VARCHAR(20)"), type_of(None, 2.5), type_of(None)
    (lsmdbm.dbapi.STRING, lsmdbm.dbapi.NUMBER, None)
    """
    kind = _declared(declared) if declared else None
    return _BY_CLASS.get(type(value)) if kind is None else kind


@lru_cache(maxsize=512)
def _declared(declared: str) -> TypeObject | None:
    upper = declared.upper()
    return next((kind for kind in _BY_WORDS if any(word in upper for word in kind.words)), None)


def adapted(value: object, wrap: Callable[[object], Any] | None = None) -> Any:
    """Return what is stored of a date or a time (rule 2), and of anything else what `wrap` makes of it.

    Raises:
        TypeError: it is neither, and there is no `wrap`.
    """
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if wrap is not None:
        return wrap(value)
    raise TypeError(f"a parameter cannot be of type {type(value).__name__}")
