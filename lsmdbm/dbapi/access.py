"""Access: what a statement asks of a table, to how its rows are read; before any value is known.

    choose       constraints, order, columns -> Access
    Access.text  "city=? and age>?, descending"     what EXPLAIN QUERY PLAN shows, and Filter is given

Rules
  1. Constraints are taken from the first column of the key on, up to one without an equality.  SQLite checks
     them again, unless the column holds numbers: see spans.py.
  2. Rows come in the order of the key, or the other way round.  That is the order asked for if its terms are
     columns of the key, one after the other; a column with an equality may be left out, and so may all that
     follows a rowid, for no two rows have the same.

Thread safety: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lsmdbm.dbapi.bounds import EQ, GE, GT, IS, LE, LOOK_COST, LT, ROW_COST, ROWS, Constraint
from lsmdbm.dbapi.schema import BLOB, INTEGER, TEXT, Schema
from lsmdbm.dbapi.spans import EQUALITIES, ISNULL, OPERATORS

ROWID, ROWID_COLUMN = "rowid", -1
SIGNS = {EQ: "=?", GT: ">?", LE: "<=?", LT: "<?", GE: ">=?", IS: " IS ?", ISNULL: " IS NULL"}
EQUAL_SHARE, BOUND_SHARE = 100, 4  # one row in so many is taken to satisfy an equality, a bound


@dataclass(frozen=True, slots=True)
class Access:
    """How rows are read.

    Attributes:
        taken: which of the constraints, in the order in which their values come.
        terms: of each of these the column of the key, by its place in it, and the operator.
        constant: how many columns of the key are taken to have one value each, for the order.
        is_unique: whether there is one row at most.
        is_look: whether it is `rowid = ?` and nothing else.
    """

    taken: tuple[int, ...]
    terms: tuple[tuple[int, int], ...]
    constant: int
    is_reverse: bool
    is_ordered: bool
    is_keys_only: bool
    is_unique: bool
    is_look: bool
    rows: int
    cost: float
    text: str


@dataclass(frozen=True, slots=True)
class Key:
    """The columns that rows are kept in the order of.

    Attributes:
        places: of each column the numbers by which SQLite calls it.
        affinities: of each column.
        hidden: numbers of what else is known from a key alone.
    """

    names: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]
    affinities: tuple[str, ...]
    is_rowid: bool
    hidden: frozenset[int]

    def is_exact(self, place: int) -> bool:
        """Return whether what is read is just what satisfies a constraint on a column: see spans.py.

        It is not if a column before may turn out to have many values: then those behind are not looked at.
        """
        return not {BLOB, TEXT} & {*self.affinities[: place + 1]}

    def place_of(self, column: int) -> int | None:
        """Return where in the key a column is, None if it is not in it."""
        return next((at for at, numbers in enumerate(self.places) if column in numbers), None)


def key_of(schema: Schema) -> Key:
    """Return the key of a table."""
    if schema.has_rowid:
        numbers = (ROWID_COLUMN,) if schema.rowid_place is None else (ROWID_COLUMN, schema.rowid_place)
        return Key((ROWID,), (numbers,), (INTEGER,), True, frozenset(numbers))
    columns = [schema.columns[place] for place in schema.key]
    return Key(
        tuple(column.name for column in columns),
        tuple((place,) for place in schema.key),
        tuple(column.affinity for column in columns),
        False,
        frozenset((len(schema.columns),)),
    )


def choose(
    key: Key, constraints: Sequence[Constraint], order: Sequence[tuple[int, bool]], columns: Iterable[int]
) -> Access:
    """Return how to read the rows that a statement asks for.

    Args:
        constraints: all of them hold.
        order: (column, whether descending) of each term.
        columns: that are asked for.
    """
    taken, terms, equal = _taken(key, constraints)
    constant = next((at for at in range(equal) if key.affinities[at] == BLOB), equal)
    is_reverse, is_ordered = _order(key, order, constant)
    bounds = sum(operator not in EQUALITIES for _, operator in terms)
    is_unique = equal == len(key.places) and key.is_exact(equal - 1)
    rows = 1 if equal == len(key.places) else max(1, ROWS // EQUAL_SHARE**equal // BOUND_SHARE**bounds)
    is_keys_only = not {*columns} - key.hidden
    words = [" and ".join(key.names[at] + SIGNS[operator] for at, operator in terms) or "all rows"]
    words += ["descending"] * is_reverse + ["keys only"] * is_keys_only
    return Access(
        taken=tuple(taken),
        terms=tuple(terms),
        constant=constant if is_ordered else 0,
        is_reverse=is_reverse,
        is_ordered=is_ordered,
        is_keys_only=is_keys_only,
        is_unique=is_unique and all(operator == EQ for _, operator in terms),
        is_look=key.is_rowid and [operator for _, operator in terms] == [EQ],
        rows=rows,
        cost=LOOK_COST + rows * ROW_COST,
        text=", ".join(words),
    )


def _taken(key: Key, constraints: Sequence[Constraint]) -> tuple[list[int], list[tuple[int, int]], int]:
    """Return the constraints that are taken, what they say, and the number of columns with equalities."""
    taken: list[int] = []
    terms: list[tuple[int, int]] = []
    for at, numbers in enumerate(key.places):
        found = [
            (index, each.operator)
            for index, each in enumerate(constraints)
            if each.is_usable
            and each.column in numbers
            and each.operator in OPERATORS
            and (each.collation == "BINARY" or each.operator == ISNULL)
        ]
        taken += [index for index, _ in found]
        terms += [(at, operator) for _, operator in found]
        if not any(operator in EQUALITIES for _, operator in found):
            return taken, terms, at
    return taken, terms, len(key.places)


def _order(key: Key, order: Sequence[tuple[int, bool]], constant: int) -> tuple[bool, bool]:
    """Return whether to read backwards, and whether rows come in the order that is asked for (rule 2)."""
    if not order:
        return False, False
    at = 0
    is_reverse = order[0][1]
    for column, is_descending in order:
        place = key.place_of(column)
        if place is None or place < at or is_descending != is_reverse:
            return False, False
        if any(skipped >= constant for skipped in range(at, place)):
            return False, False
        at = place + 1
        if key.is_rowid:
            break
    return is_reverse, True
