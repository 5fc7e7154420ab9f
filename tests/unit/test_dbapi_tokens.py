"""SQL is cut where SQLite cuts it."""

import pytest

from support import sql

sql.module()

from lsmdbm.dbapi.tokens import folded, tokens  # noqa: E402 - a module to be skipped comes first


def test_tokens_are_told_apart():
    text = (
        "SELECT \"a \"\"b\", [c d], `e``f`, 'it''s', x'00', 1.5e-3, ?1, :n, $n, @n -- all\n/* of */ FROM t;"
    )

    assert [
        ("word", "SELECT"),
        ("name", 'a "b'),
        ("sign", ","),
        ("name", "c d"),
        ("sign", ","),
        ("name", "e`f"),
        ("sign", ","),
        ("literal", "'it''s'"),
        ("sign", ","),
        ("literal", "x'00'"),
        ("sign", ","),
        ("literal", "1.5e-3"),
        ("sign", ","),
        ("sign", "?1"),
        ("sign", ","),
        ("sign", ":n"),
        ("sign", ","),
        ("sign", "$n"),
        ("sign", ","),
        ("sign", "@n"),
        ("word", "FROM"),
        ("word", "t"),
        ("sign", ";"),
    ] == [(token.kind, token.text) for token in tokens(text)]


def test_names_are_folded_as_sqlite_folds_them():
    assert "t\u00c9" == folded("T\u00c9")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("'a ; x", ["'", "a", ";", "x"]),
        ('"a', ['"', "a"]),
        ("[a", ["[", "a"]),
        ("`a", ["`", "a"]),
        ("x'a", ["x", "'", "a"]),
        ("a -- b ; c\nd /* e ; f */ g /* open", ["a", "d", "g"]),
        ("-- a", []),
        ("", []),
    ],
)
def test_what_has_no_end_is_still_cut_into_tokens(text, found):
    assert found == [token.text for token in tokens(text)]


def test_a_token_knows_where_it_is():
    text = 'a "b ""c" /* d */ 5'
    assert ["a", '"b ""c"', "5"] == [text[token.start : token.stop] for token in tokens(text)]
