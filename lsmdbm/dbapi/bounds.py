"""Bounds: constraints on a key, as SQLite tells them, to what is read: a range, a set of keys, or nothing.

    choose      constraints, order -> Plan       when a statement is prepared; values are not known
    Plan.text   "key>? key<=? descending"        what EXPLAIN QUERY PLAN shows, and Filter is given
    locate      operators, values -> Span        when it runs

Rules
  1. Keys are BLOBs.  SQLite's order of types is NULL, numbers, TEXT, BLOB; but a str means its UTF-8, and
     compares as these bytes.  So NULL is never equal, above or below, and every number is below every key.
  2. A constraint that is taken is kept exactly: SQLite does not check it again, for it would compare TEXT
     with BLOB and find nothing.  Only constraints of collation BINARY are taken.
  3. Whatever is read comes in the order of the keys, or the other way round; sets of keys too.

Thread safety: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lsmdbm._base.chunk import prefix_stop

EQ, GT, LE, LT, GE, IS, FUNCTION = 2, 4, 8, 16, 32, 72, 150  # SQLITE_INDEX_CONSTRAINT_
SIGNS = {EQ: "key=?", GT: "key>?", LE: "key<=?", LT: "key<?", GE: "key>=?", IS: "key IS ?"}
PREFIX = "startswith(key,?)"
IN = "key IN ?"
DESCENDING, KEYS_ONLY = "descending", "keys only"

ROWS = 1_000_000  # as many a table is taken to have: what counts is that a bound beats none
LOOK_COST, ROW_COST = 10.0, 1.0  # of finding a key; of one more row
SHARES = {0: 1, 1: 4, 2: 16}  # of the rows, by the number of bounds: one in so many is inside


@dataclass(frozen=True, slots=True)
class Constraint:
    """One term of a WHERE, as `IndexInfo` tells it."""

    column: int
    operator: int
    is_usable: bool
    collation: str
    is_in: bool  # IN with a list or a query, all of which can be had at once


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cursor will do.

    Attributes:
        taken: which of the constraints it was made for, in the order in which their values come.
        signs: what each of these says, in the same order.
    """

    taken: tuple[int, ...]
    signs: tuple[str, ...]
    is_reverse: bool
    is_ordered: bool  # whether the order that was asked for is the one that comes
    is_keys_only: bool
    rows: int
    cost: float

    @property
    def is_unique(self) -> bool:
        """Whether there is one row at most."""
        return any(sign in (SIGNS[EQ], SIGNS[IS]) for sign in self.signs)

    @property
    def text(self) -> str:
        """What `read` takes; people see it in EXPLAIN QUERY PLAN."""
        words = [" and ".join(self.signs) or "all keys"]
        words += [DESCENDING] * self.is_reverse + [KEYS_ONLY] * self.is_keys_only
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a cursor is told of its plan.

    Attributes:
        is_look: whether it is `key = ?` and nothing else.
    """

    signs: tuple[str, ...]
    is_reverse: bool
    is_keys_only: bool
    is_look: bool


@dataclass(frozen=True, slots=True)
class Span:
    """The keys with `start <= key < stop`; None leaves that side open."""

    start: bytes | None = None
    stop: bytes | None = None

    def is_empty(self) -> bool:
        """Return whether there can be no key in it."""
        return self.start is not None and self.stop is not None and self.start >= self.stop


NOTHING = Span(b"", b"")


def outside(span: Span, low: bytes, high: bytes) -> list[Span]:
    """Return the parts of a span that are not between two keys: ascending, at most two."""
    parts = []
    if span.start is None or span.start < low:
        parts.append(Span(span.start, low if span.stop is None or span.stop > low else span.stop))
    if span.stop is None or span.stop > high:
        parts.append(Span(high if span.start is None or span.start < high else span.start, span.stop))
    return parts


def choose(
    constraints: Sequence[Constraint], order: Sequence[tuple[int, bool]], columns: Iterable[int]
) -> Plan:
    """Return how to read the rows that a statement asks for.

    Args:
        constraints: all of them hold.
        order: (column, whether descending) of each term; keys are unique, so what follows the key is idle.
        columns: that are asked for, 0 is the key.
    """
    taken, signs = [], []
    for at, each in enumerate(constraints):
        sign = _sign(each)
        if sign is not None:
            taken.append(at)
            signs.append(sign)
    is_ordered = bool(order) and order[0][0] == 0
    if any(sign in (SIGNS[EQ], SIGNS[IS]) for sign in signs):
        rows, cost = 1, LOOK_COST + ROW_COST
    elif IN in signs:
        rows, cost = 10, 10 * (LOOK_COST + ROW_COST)
    else:
        bounds = min(2, sum(2 if sign == PREFIX else 1 for sign in signs))
        rows = ROWS // SHARES[bounds]
        cost = LOOK_COST + rows * ROW_COST
    return Plan(
        tuple(taken), tuple(signs), is_ordered and order[0][1], is_ordered, not {*columns} - {0}, rows, cost
    )


def _sign(constraint: Constraint) -> str | None:
    """Return what a constraint that is taken says, None if it is not."""
    if constraint.column or not constraint.is_usable:
        return None
    if constraint.operator == FUNCTION:
        return PREFIX
    if constraint.collation != "BINARY":
        return None
    if constraint.is_in:
        return IN
    return SIGNS.get(constraint.operator)


@lru_cache(maxsize=256)
def read(text: str) -> Reading:
    """Return what the text of a plan says."""
    first, *words = text.split(", ")
    signs = () if first == "all keys" else tuple(first.split(" and "))
    return Reading(signs, DESCENDING in words, KEYS_ONLY in words, signs == (SIGNS[EQ],))


def locate(signs: Sequence[str], values: Sequence[object]) -> Span | list[bytes]:
    """Return the span of keys that fit, or, if there are only so many, a list of those that may: ascending.

    Args:
        signs: of a plan.
        values: one each; a set for IN.
    """
    span = Span()
    keys: set[bytes] | None = None
    for sign, value in zip(signs, values, strict=True):
        if sign == IN or sign in (SIGNS[EQ], SIGNS[IS]):
            found = _keys(value if isinstance(value, (set, frozenset)) else (value,))
            keys = found if keys is None else keys & found
        else:
            span = _narrowed(span, sign, value)
    if keys is None:
        return span
    return sorted(key for key in keys if _spans(span, key))


def _keys(values: Iterable[object]) -> set[bytes]:
    return {key for key in map(key_of, values) if key is not None}


def _spans(span: Span, key: bytes) -> bool:
    return (span.start is None or key >= span.start) and (span.stop is None or key < span.stop)


def _narrowed(span: Span, sign: str, value: object) -> Span:
    key = key_of(value)
    if key is None:
        is_number = value is not None
        is_above = sign in (SIGNS[GT], SIGNS[GE])
        return span if is_number and is_above else NOTHING  # rule 1
    start, stop = span.start, span.stop
    if sign in (SIGNS[GT], SIGNS[GE], PREFIX):
        low = key + b"\0" if sign == SIGNS[GT] else key
        start = low if start is None else max(start, low)
    if sign in (SIGNS[LT], SIGNS[LE], PREFIX):
        high = prefix_stop(key) if sign == PREFIX else key + b"\0" if sign == SIGNS[LE] else key
        if high is not None:
            stop = high if stop is None else min(stop, high)
    return Span(start, stop)


def key_of(value: object) -> bytes | None:
    """Return the key that a value is equal to, None if there can be none: of NULL and of numbers."""
    if isinstance(value, bytes):
        return value
    return value.encode("utf-8") if isinstance(value, str) else None


def startswith(data: object, prefix: object) -> int | None:
    """Return whether a text or a BLOB begins with another, as SQLite says it: 1, 0, and NULL for NULL.

    >>> startswith(b"apple", "ap"), startswith("pear", b"ap"), startswith(None, "ap"), startswith(5, "5")
    (1, 0, None, 0)
    """
    if data is None or prefix is None:
        return None
    whole, begin = key_of(data), key_of(prefix)
    return int(whole is not None and begin is not None and whole.startswith(begin))
