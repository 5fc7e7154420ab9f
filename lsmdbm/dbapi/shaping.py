"""Shaping: what SQLite makes of values before it stores them - defaults, affinity, NOT NULL.

A virtual table is given values as the statement has them.  Most of them fit the column as they are; for the
others SQLite is asked, by a column with that affinity in a database of its own.

Rules
  1. The rules are SQLite's own: nothing here parses a number.
  2. Defaults are for columns that an INSERT does not name; one that is named and given NULL gets NULL.

Thread safety: used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from lsmdbm.dbapi.asking import ask
from lsmdbm.dbapi.schema import BLOB, INTEGER, NUMERIC, REAL, TEXT, Column, Schema
from lsmdbm.dbapi.tokens import SIGN, tokens
from lsmdbm.dbapi.values import Value

_FITTING: dict[str, frozenset[type]] = {  # the types that a column with an affinity takes as they are
    TEXT: frozenset((str, bytes, type(None))),
    NUMERIC: frozenset((int, bytes, type(None))),
    INTEGER: frozenset((int, bytes, type(None))),
    REAL: frozenset((float, bytes, type(None))),
    BLOB: frozenset((int, float, str, bytes, type(None))),
}
MAX_FITS = 256  # remembered: where each column is given one type, there is one
_MOMENTS = ("CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP")


class Converter:
    """Applies affinities, by a database in memory."""

    __slots__ = ("_scratch",)

    def __init__(self) -> None:
        self._scratch = apsw.Connection(":memory:")
        for affinity in _FITTING:
            ask(self._scratch, f"CREATE TABLE {affinity}_value (value {affinity})")

    def convert(self, affinity: str, value: Value) -> Value:
        """Return what a column with that affinity makes of a value.

        >>> [Converter().convert(NUMERIC, value) for value in ("5", "5.5", "five", 5.0)]
        [5, 5.5, 'five', 5]
        """
        if type(value) in _FITTING[affinity]:
            return value
        insert = f"INSERT INTO {affinity}_value VALUES (?) RETURNING value"
        found: Value = ask(self._scratch, insert, (value,))[0][0]
        ask(self._scratch, f"DELETE FROM {affinity}_value")
        return found


class Shape:
    """How the rows of one table become what is stored."""

    __slots__ = ("_converter", "_count", "_defaults", "_fits", "_fitting", "_required", "_schema")

    def __init__(self, schema: Schema, converter: Converter) -> None:
        self._schema = schema
        self._converter = converter
        self._count = len(schema.columns)
        self._fits: set[tuple[type, ...]] = set()  # types of rows that were stored as they were
        self._fitting = [_FITTING[column.affinity] for column in schema.columns]
        self._required = [
            place
            for place, column in enumerate(schema.columns)
            if column.is_not_null and place != schema.rowid_place
        ]
        self._defaults = [None if each.default is None else Default(each) for each in schema.columns]

    def fitted(self, values: Sequence[Value]) -> list[Value]:
        """Return a row with the affinities of its columns applied; columns beyond are left out."""
        types = tuple(map(type, values))
        if types in self._fits:
            return list(values[: self._count])
        if all(kind in fits for kind, fits in zip(types, self._fitting, strict=False)):
            if len(self._fits) < MAX_FITS:
                self._fits.add(types)
            return list(values[: self._count])
        return [
            value if type(value) in fits else self._converter.convert(column.affinity, value)
            for value, fits, column in zip(values, self._fitting, self._schema.columns, strict=False)
        ]

    def default(self, place: int) -> Value:
        """Return the default of a column, of this moment if it is an expression; None if it has none."""
        default = self._defaults[place]
        return None if default is None else default.value()

    def missing(self, values: Sequence[Value], *, without_default: bool = False) -> str | None:
        """Return the name of a column that must not be NULL and is, perhaps without a default; or None."""
        for place in self._required:
            if values[place] is None and not (without_default and self._defaults[place]):
                return self._schema.columns[place].name
        return None

    def replace(self, values: list[Value]) -> None:
        """Put the defaults where NULL must not be: OR REPLACE."""
        for place in self._required:
            if values[place] is None:
                values[place] = self.default(place)


class Default:
    """The default of a column: a value, or an expression that is evaluated each time."""

    __slots__ = ("_scratch", "_value")

    def __init__(self, column: Column) -> None:
        text = str(column.default)
        scratch = apsw.Connection(":memory:")
        try:
            ask(scratch, f"CREATE TABLE t (value {column.declared} DEFAULT {text})")
        except apsw.SQLError:  # only an expression needs parentheses, and a word in them would be a column
            ask(scratch, f"CREATE TABLE t (value {column.declared} DEFAULT ({text}))")
        self._scratch = scratch
        words = tokens(text)
        is_fixed = not any(
            each.is_word(*_MOMENTS) or (each.kind == SIGN and each.text == "(") for each in words
        )
        self._value = (self._evaluate(),) if is_fixed else None

    def value(self) -> Value:
        """Return it."""
        return self._evaluate() if self._value is None else self._value[0]

    def _evaluate(self) -> Value:
        found: Value = ask(self._scratch, "INSERT INTO t DEFAULT VALUES RETURNING value")[0][0]
        ask(self._scratch, "DELETE FROM t")
        return found
