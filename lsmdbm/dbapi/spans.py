"""Spans: constraints on the columns of a primary key, with their values, to the keys that may satisfy them.

    column_spans     one constraint on one column   -> spans of that column's encoding
    key_spans        those of all columns           -> spans of keys

Rules
  1. A span may hold more than what satisfies a constraint, never less: SQLite checks each row again.  It
     knows what a table is not told, the affinity of the other side, which changes how the two are compared:
         TEXT column     a number may stand for many texts; a text is compared as text, see below
         no affinity     a number is equal to texts that look like it, if it comes from a column of numbers;
                         a text to numbers that look like it, if it comes from a TEXT column
         others          the other side becomes a number if it looks like one, so all is known
  2. Spans are ascending and do not overlap.  None means that everything may satisfy.
  3. NULL is equal to nothing, but for IS.

What is not covered: `key < other.number`, where the key is TEXT that looks like a number, and the number is
a text that looks like none and sorts below the key.  SQLite takes the key for a number then, we do not.

Thread safety: pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isinf

from lsmdbm._base.chunk import prefix_stop
from lsmdbm.dbapi.bounds import EQ, GE, GT, IS, LE, LT
from lsmdbm.dbapi.schema import BLOB, NUMERIC, TEXT
from lsmdbm.dbapi.shaping import Converter
from lsmdbm.dbapi.values import (
    MAX_INTEGER,
    MIN_INTEGER,
    NULL_TAG,
    NUMBER_TAG,
    TEXT_TAG,
    Value,
    encode_key,
    encode_rowid,
)

ISNULL = 71  # SQLITE_INDEX_CONSTRAINT_ISNULL
EQUALITIES = (EQ, IS, ISNULL)
OPERATORS = (EQ, GT, LE, LT, GE, IS, ISNULL)


@dataclass(frozen=True, slots=True)
class Span:
    """Encodings with `start <= encoding < stop`; None leaves that side open.

    Attributes:
        is_point: whether it is all that begins with one value: `start`.
    """

    start: bytes
    stop: bytes | None
    is_point: bool = False


Spans = list[Span]

NULLS = Span(NULL_TAG, prefix_stop(NULL_TAG), is_point=True)
ABOVE_NULL = NULL_TAG + b"\xff"  # below every other value
NUMBERS = Span(NUMBER_TAG, prefix_stop(NUMBER_TAG))
LIKE_NUMBERS = Span(TEXT_TAG + b"\t", TEXT_TAG + b":")  # a text that looks like a number begins in between


def column_spans(affinity: str, operator: int, value: Value, converter: Converter) -> Spans | None:
    """Return where values of a column are that may satisfy `column operator value`."""
    if operator == ISNULL or (operator == IS and value is None):
        return [NULLS]
    if value is None:
        return []  # rule 3
    if isinstance(value, str) and affinity not in (TEXT, BLOB):
        value = converter.convert(NUMERIC, value)
    span = _span(operator, value)
    if affinity == TEXT:
        return None if isinstance(value, (int, float)) else [span]
    if affinity == BLOB and isinstance(value, (int, float)):
        return _united([span, LIKE_NUMBERS])
    if affinity == BLOB and isinstance(value, str):
        if operator in (EQ, IS):
            looks_like_number = not isinstance(converter.convert(NUMERIC, value), str)
            return _united([NUMBERS, span]) if looks_like_number else [span]
        return _united([NUMBERS, LIKE_NUMBERS, span])
    return [span]


def _span(operator: int, value: Value) -> Span:
    data = encode_key((value,))
    after = prefix_stop(data)
    if operator in (EQ, IS):
        return Span(data, after, is_point=True)
    if operator == GT:
        return Span(after or data, None)
    if operator == GE:
        return Span(data, None)
    return Span(ABOVE_NULL, data if operator == LT else after)


def rowid_spans(operator: int, value: Value, converter: Converter) -> Spans:
    """Return where rowids are that may satisfy `rowid operator value`."""
    if operator == ISNULL or value is None:
        return []
    if isinstance(value, str):
        value = converter.convert(NUMERIC, value)
    low, high = MIN_INTEGER, MAX_INTEGER
    if not isinstance(value, (int, float)):  # every number is below it
        if operator in (EQ, IS, GT, GE):
            return []
    elif operator in (EQ, IS):
        low, high = _at_least(value), _at_most(value)
    elif operator in (GT, GE):
        low = _at_least(value) + (operator == GT and value == _at_least(value))
    else:
        high = _at_most(value) - (operator == LT and value == _at_most(value))
    if low > high:
        return []
    start = encode_rowid(low)
    stop = None if high == MAX_INTEGER else encode_rowid(high + 1)
    return [Span(start, stop, is_point=low == high)]


def _at_least(value: float) -> int:
    if isinf(value):
        return MIN_INTEGER if value < 0 else MAX_INTEGER + 1
    return min(max(ceil(value), MIN_INTEGER), MAX_INTEGER + 1)


def _at_most(value: float) -> int:
    if isinf(value):
        return MIN_INTEGER - 1 if value < 0 else MAX_INTEGER
    return min(max(floor(value), MIN_INTEGER - 1), MAX_INTEGER)


def _united(spans: Spans) -> Spans:
    """Return spans that cover the same (rule 2)."""
    found: Spans = []
    for span in sorted(spans, key=lambda each: each.start):
        last = found[-1] if found else None
        if last is None or (last.stop is not None and last.stop < span.start):
            found.append(span)
        elif last.stop is not None and (span.stop is None or span.stop > last.stop):
            found[-1] = Span(last.start, span.stop)
    return found


def common(left: Spans | None, right: Spans | None) -> Spans | None:
    """Return what two lists have in common."""
    if left is None or right is None:
        return right if left is None else left
    found = []
    for one in left:
        for other in right:
            start = max(one.start, other.start)
            stop = min((each for each in (one.stop, other.stop) if each is not None), default=None)
            if stop is None or start < stop:
                point = next((each for each in (one, other) if each.is_point), None)
                found.append(Span(start, stop, is_point=point is not None and point.start == start))
    return found


def key_spans(prefix: bytes, columns: Sequence[Spans | None]) -> Spans:
    """Return the spans of keys, below a prefix, whose columns lie in those spans.

    Args:
        columns: of the key, in its order; those left out may be anything.

    Returns:
        points where all of `columns` are points.
    """
    points = [prefix]
    for spans in columns:
        if spans is None:
            break
        if not all(span.is_point for span in spans):
            return [
                Span(point + span.start, prefix_stop(point) if span.stop is None else point + span.stop)
                for point in points
                for span in spans
            ]
        points = [point + span.start for point in points for span in spans]
    return [Span(point, prefix_stop(point), is_point=True) for point in points]
