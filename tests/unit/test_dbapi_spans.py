"""From constraints on a primary key to what is read: no row that satisfies them is left out."""

import itertools
import random

import pytest

from support import sql

sql.module()
from lsmdbm.dbapi import access, bounds, spans  # noqa: E402 - apsw first
from lsmdbm.dbapi.bounds import EQ, GE, GT, IS, LE, LT, Constraint  # noqa: E402
from lsmdbm.dbapi.schema import BLOB, INTEGER, NUMERIC, REAL, TEXT, parse  # noqa: E402
from lsmdbm.dbapi.shaping import Converter  # noqa: E402
from lsmdbm.dbapi.spans import ISNULL, Span, column_spans, common, key_spans, rowid_spans  # noqa: E402
from lsmdbm.dbapi.values import encode_key, encode_rowid  # noqa: E402

apsw = sql.suite("apsw")

SQL = {EQ: "=", GT: ">", LE: "<=", LT: "<", GE: ">=", IS: "IS", ISNULL: "IS NULL"}
TYPES = {TEXT: "TEXT", NUMERIC: "NUMERIC", INTEGER: "INTEGER", REAL: "REAL", BLOB: ""}
VALUES = [None, 0, 1, -1, 1.5, 2**53 + 1, 2.0**53, 1e300, float("inf"), "", "a", "1", "1.0", " 1", "-1", "b"]
VALUES += [
    "1e1",
    10,
    "abc",
    b"",
    b"1",
    b"a",
    b"\0",
    b"\xff",
    2**63 - 1,
    -(2**63),
    9.3e18,
    -9.3e18,
    ":",
    "!",
    "9",
]


@pytest.fixture(scope="module")
def converter():
    return Converter()


def holds(found, data):
    return found is None or any(
        span.start <= data and (span.stop is None or data < span.stop) for span in found
    )


def stored(affinity, values):
    """A database with values in a column of an affinity."""
    sqlite = apsw.Connection(":memory:")
    sqlite.execute(f"CREATE TABLE t (value {TYPES[affinity]}); CREATE TABLE o (value)")
    sqlite.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
    return sqlite


@pytest.mark.parametrize("affinity", TYPES)
@pytest.mark.parametrize("operator", SQL)
def test_spans_hold_whatever_sqlite_finds(affinity, operator, converter):
    sqlite = stored(affinity, VALUES)
    right = "" if operator == ISNULL else "?"
    for value in VALUES:
        found = column_spans(affinity, operator, value, converter)
        bindings = (value,) if right else ()
        rows = sqlite.execute(f"SELECT value, value {SQL[operator]} {right} FROM t", bindings).fetchall()
        for held, is_found in rows:
            assert not is_found or holds(found, encode_key([held])), (held, SQL[operator], value)
            if affinity in (NUMERIC, INTEGER, REAL):  # these are not checked again
                assert bool(is_found) == holds(found, encode_key([held])), (held, SQL[operator], value)


@pytest.mark.parametrize("affinity", TYPES)
@pytest.mark.parametrize("other", TYPES)
def test_spans_hold_whatever_a_join_finds(affinity, other, converter):
    sqlite = stored(affinity, VALUES)
    sqlite.execute(f"CREATE TABLE u (value {TYPES[other]}); INSERT INTO u SELECT value FROM t")
    for operator in (EQ, GT, LE, LT, GE, IS):
        rows = sqlite.execute(f"SELECT t.value, u.value FROM t, u WHERE t.value {SQL[operator]} u.value")
        for held, value in rows:
            if _is_excepted(affinity, other, operator, value):
                continue
            found = column_spans(affinity, operator, value, converter)
            assert holds(found, encode_key([held])), (held, SQL[operator], value)


def _is_excepted(affinity, other, operator, value):
    """What the docstring of spans.py says is not covered."""
    is_number = other in (NUMERIC, INTEGER, REAL)
    return affinity == TEXT and is_number and operator in (LT, LE) and isinstance(value, str)


@pytest.mark.parametrize("operator", SQL)
def test_spans_of_rowids_hold_just_what_sqlite_finds(operator, converter):
    rowids = [-(2**63), -(2**63) + 1, -2, -1, 0, 1, 2, 10, 2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1]
    sqlite = apsw.Connection(":memory:")
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    sqlite.executemany("INSERT INTO t VALUES (?)", [(rowid,) for rowid in rowids])
    right = "" if operator == ISNULL else "?"
    for value in VALUES:
        found = rowid_spans(operator, value, converter)
        bindings = (value,) if right else ()
        expected = [
            row[0] for row in sqlite.execute(f"SELECT id FROM t WHERE id {SQL[operator]} {right}", bindings)
        ]

        assert expected == [rowid for rowid in rowids if holds(found, encode_rowid(rowid))], (
            SQL[operator],
            value,
        )


def test_points_are_told_from_ranges(converter):
    assert [True] == [span.is_point for span in column_spans(TEXT, EQ, "a", converter)]
    assert [False] == [span.is_point for span in column_spans(TEXT, GE, "a", converter)]
    assert [True] == [span.is_point for span in rowid_spans(EQ, 5, converter)]
    assert [] == column_spans(TEXT, EQ, None, converter) == rowid_spans(EQ, 1.5, converter)
    assert column_spans(TEXT, EQ, 5, converter) is None


def test_spans_in_common(seed, converter):
    drawn = random.Random(f"{seed} spans")
    keys = [encode_key([value]) for value in VALUES]
    for _ in range(1000):
        one, other = (
            column_spans(drawn.choice([*TYPES]), drawn.choice([*SQL]), drawn.choice(VALUES), converter)
            for _ in range(2)
        )
        both = common(one, other)
        for key in keys:
            assert (holds(one, key) and holds(other, key)) == holds(both, key)


def test_spans_of_several_columns_are_those_below_each_point(converter):
    first, second = column_spans(TEXT, EQ, "a", converter), column_spans(INTEGER, GE, 5, converter)
    a, five = encode_key(["a"]), encode_key([5])

    assert [Span(b"p" + a, b"p" + a[:-1] + b"\1", True)] == key_spans(b"p", [first])
    assert [Span(b"p" + a + five, b"p" + a[:-1] + b"\1")] == key_spans(b"p", [first, second])
    assert [Span(b"p", b"q", True)] == key_spans(b"p", [None, second])
    assert [] == key_spans(b"p", [first, []])


# -- what is taken ------------------------------------------------------------------------------------


def key_for(columns):
    return access.key_of(parse(f"CREATE TABLE t ({columns})"))


def constraint(column, operator=EQ, is_usable=True, collation="BINARY"):
    return Constraint(column, operator, is_usable, collation, False)


COMPOSITE = "a TEXT, b INT, c REAL, d, PRIMARY KEY (a, b, c)"


@pytest.mark.parametrize(
    ("columns", "constraints", "text"),
    [
        (COMPOSITE, [], "all rows"),
        (COMPOSITE, [constraint(0)], "a=?"),
        (COMPOSITE, [constraint(1)], "all rows"),
        (COMPOSITE, [constraint(1), constraint(0)], "a=? and b=?"),
        (COMPOSITE, [constraint(0), constraint(1, GT), constraint(1, LE)], "a=? and b>? and b<=?"),
        (COMPOSITE, [constraint(0, GT), constraint(1)], "a>?"),
        (COMPOSITE, [constraint(0, is_usable=False), constraint(1)], "all rows"),
        (COMPOSITE, [constraint(0, collation="NOCASE")], "all rows"),
        (COMPOSITE, [constraint(0, bounds.FUNCTION)], "all rows"),
        (COMPOSITE, [constraint(0), constraint(3)], "a=?"),
        ("a, id INTEGER PRIMARY KEY", [constraint(1)], "rowid=?"),
        ("a, id INTEGER PRIMARY KEY", [constraint(-1, LT)], "rowid<?"),
        ("a, b", [constraint(0)], "all rows"),
    ],
)
def test_constraints_are_taken_from_the_left(columns, constraints, text):
    assert text == access.choose(key_for(columns), constraints, [], [0, 1]).text


@pytest.mark.parametrize(
    ("constraints", "order", "expected"),
    [
        ([], [(0, False)], "forward"),
        ([], [(0, True), (1, True)], "backward"),
        ([], [(0, True), (1, False)], "sorted"),
        ([], [(1, False)], "sorted"),
        ([], [(0, False), (3, False)], "sorted"),
        ([], [(0, False), (2, False)], "sorted"),
        ([constraint(0)], [(1, True)], "backward"),
        ([constraint(0)], [(0, True), (1, True)], "backward"),
        ([constraint(0), constraint(1)], [(2, False)], "forward"),
        ([constraint(0, GT)], [(1, False)], "sorted"),
        ([constraint(0)], [(2, False)], "sorted"),
    ],
)
def test_an_order_is_that_of_the_key_or_left_to_sqlite(constraints, order, expected):
    chosen = access.choose(key_for(COMPOSITE), constraints, order, [0])

    assert expected == ("sorted" if not chosen.is_ordered else "backward" if chosen.is_reverse else "forward")


def test_behind_a_rowid_nothing_is_left_to_sort():
    chosen = access.choose(key_for("a INTEGER PRIMARY KEY, b"), [], [(0, True), (1, False)], [0])

    assert (True, True) == (chosen.is_ordered, chosen.is_reverse)


def test_a_column_without_a_type_is_not_taken_to_be_constant():
    chosen = access.choose(key_for("a, b INT, PRIMARY KEY (a, b)"), [constraint(0)], [(1, False)], [0])

    assert not chosen.is_ordered


@pytest.mark.parametrize(
    ("columns", "asked", "expected"),
    [("a, b", [], True), ("a INTEGER PRIMARY KEY, b", [0], True), ("a, b", [0], False)]
    + [(COMPOSITE, [4], True), (COMPOSITE, [0], False)],
)
def test_values_are_read_where_they_are_asked_for(columns, asked, expected):
    assert expected == access.choose(key_for(columns), [], [], asked).is_keys_only


def test_what_narrows_more_costs_less():
    key = key_for(COMPOSITE)
    chosen = [
        [],
        [constraint(0, GT)],
        [constraint(0, GT), constraint(0, LT)],
        [constraint(0)],
        [constraint(0), constraint(1, GT)],
        [constraint(0), constraint(1)],
        [constraint(0), constraint(1), constraint(2)],
    ]
    costs = [access.choose(key, constraints, [], [0]).cost for constraints in chosen]

    assert costs == sorted(costs, reverse=True)
    assert len(costs) == len({*costs})


@pytest.mark.parametrize(
    ("columns", "place", "expected"),
    [("a INT, b INT, PRIMARY KEY (a, b)", 1, True), ("a TEXT, b INT, PRIMARY KEY (a, b)", 1, False)]
    + [
        ("a INT, b, PRIMARY KEY (a, b)", 0, True),
        ("a INT, b, PRIMARY KEY (a, b)", 1, False),
        ("a, b", 0, True),
    ],
)
def test_constraints_are_checked_again_behind_a_column_that_holds_no_numbers(columns, place, expected):
    """A span of many values ends the narrowing; constraints behind it were not kept, and not checked."""
    assert expected == key_for(columns).is_exact(place)


def test_every_operator_has_a_sign():
    assert {*spans.OPERATORS} == {*access.SIGNS}
    assert len({*access.SIGNS.values()}) == len(access.SIGNS)
    assert all(one not in other for one, other in itertools.permutations(["=?", ">?", "<?"], 2))
