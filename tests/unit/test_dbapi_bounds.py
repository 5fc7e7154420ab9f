"""From constraints to what is read: bounds are pure, and follow SQLite's order of types."""

import pytest

from support import sql

sql.module()

from lsmdbm.dbapi.bounds import (  # noqa: E402 - a module to be skipped is not to be imported before
    EQ,
    FUNCTION,
    GE,
    GT,
    IS,
    LE,
    LT,
    NOTHING,
    Constraint,
    Span,
    choose,
    locate,
    read,
    startswith,
)

LIKE, LIMIT = 65, 73


def on_key(operator, *, column=0, usable=True, collation="BINARY", is_in=False):
    return Constraint(column, operator, usable, collation, is_in)


@pytest.mark.parametrize(
    ("constraints", "taken", "text"),
    [
        ([], (), "all keys"),
        ([on_key(GE), on_key(LT)], (0, 1), "key>=? and key<?"),
        ([on_key(LIKE), on_key(GT), on_key(LIMIT)], (1,), "key>?"),
        ([on_key(EQ, column=1), on_key(EQ)], (1,), "key=?"),
        ([on_key(EQ, is_in=True)], (0,), "key IN ?"),
        ([on_key(IS)], (0,), "key IS ?"),
        ([on_key(FUNCTION, collation="")], (0,), "startswith(key,?)"),
        ([on_key(FUNCTION, column=1, collation="")], (), "all keys"),
        ([on_key(EQ, usable=False)], (), "all keys"),
        ([on_key(EQ, collation="NOCASE"), on_key(LE, collation="RTRIM")], (), "all keys"),
    ],
)
def test_only_constraints_that_can_be_kept_exactly_are_taken(constraints, taken, text):
    plan = choose(constraints, [], {0, 1})

    assert (taken, text) == (plan.taken, plan.text)
    assert (plan.signs, False, False) == (read(text).signs, read(text).is_reverse, read(text).is_keys_only)


@pytest.mark.parametrize(
    ("order", "is_ordered", "is_reverse"),
    [
        ([], False, False),
        ([(0, False)], True, False),
        ([(0, True), (1, False)], True, True),
        ([(1, True)], False, False),
        ([(1, False), (0, True)], False, False),
    ],
)
def test_an_order_that_begins_with_the_key_is_kept(order, is_ordered, is_reverse):
    plan = choose([on_key(GT)], order, {0})

    assert (is_ordered, is_reverse, True) == (plan.is_ordered, plan.is_reverse, plan.is_keys_only)
    assert (is_reverse, True) == (read(plan.text).is_reverse, read(plan.text).is_keys_only)


def test_the_closer_the_bounds_the_less_it_costs():
    plans = [
        choose(constraints, [], {0, 1})
        for constraints in (
            [],
            [on_key(GT)],
            [on_key(GT), on_key(LT)],
            [on_key(EQ, is_in=True)],
            [on_key(EQ)],
        )
    ]

    assert sorted((plan.cost for plan in plans), reverse=True) == [plan.cost for plan in plans]
    assert [False] * 4 + [True] == [plan.is_unique for plan in plans]


@pytest.mark.parametrize(
    ("text", "values", "found"),
    [
        ("all keys", (), Span()),
        ("key>?", ("a",), Span(b"a\0")),
        ("key>=?", (b"a",), Span(b"a")),
        ("key<?", ("a",), Span(None, b"a")),
        ("key<=?", (b"a",), Span(None, b"a\0")),
        ("key>? and key>=? and key<? and key<=?", (b"a", b"b", b"y", b"x"), Span(b"b", b"x\0")),
        ("startswith(key,?)", ("ab",), Span(b"ab", b"ac")),
        ("startswith(key,?)", (b"\xff",), Span(b"\xff")),
        ("startswith(key,?)", (b"",), Span(b"")),
        ("startswith(key,?)", (7,), NOTHING),
        ("startswith(key,?)", (None,), NOTHING),
        ("key>?", (5,), Span()),  # numbers are below all keys
        ("key>=?", (5.5,), Span()),
        ("key<?", (5,), NOTHING),
        ("key<=?", (5,), NOTHING),
        ("key>?", (None,), NOTHING),  # NULL is neither above nor below
        ("key<=?", (None,), NOTHING),
        ("key>? and key<?", (None, "z"), NOTHING),
        ("key=?", ("\u20ac",), ["\u20ac".encode()]),
        ("key=?", (5,), []),
        ("key IS ?", (None,), []),
        ("key IN ?", ({"b", b"a", None, 5, b"b"},), [b"a", b"b"]),
        ("key IN ? and key=? and key>?", ({b"a", b"b"}, b"b", b"a"), [b"b"]),
        ("key IN ? and key<?", ({b"a", b"b"}, b"b"), [b"a"]),
        ("key=? and key<?", (b"b", None), []),
    ],
)
def test_values_become_keys_by_the_order_of_types(text, values, found):
    assert found == locate(read(text).signs, values)


def test_what_narrows_to_nothing_is_empty():
    assert NOTHING.is_empty()
    assert Span(b"b", b"a").is_empty()
    assert not Span(b"a", b"a\0").is_empty()
    assert not Span().is_empty()


def test_startswith_is_what_the_span_of_a_prefix_says():
    keys = [b"", b"a", b"ab", b"ab\xff", b"ac", b"\xff", b"\xff\xff"]
    for prefix in keys:
        span = locate(("startswith(key,?)",), (prefix,))
        inside = [key for key in keys if key >= span.start and (span.stop is None or key < span.stop)]
        assert inside == [key for key in keys if startswith(key, prefix)]
