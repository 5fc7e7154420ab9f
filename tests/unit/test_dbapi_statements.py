"""Statements are told apart by their tokens: how many there are, and of what kind."""

import pytest

from support import sql

dbapi = sql.module()

from lsmdbm.dbapi.statements import Kind, parse  # noqa: E402 - a module to be skipped comes first


@pytest.mark.parametrize(
    ("text", "kind", "verb"),
    [
        ("select 1", Kind.QUERY, "SELECT"),
        ("/* x */ VALUES (1);", Kind.QUERY, "VALUES"),
        ("insert into t values (1)", Kind.CHANGE, "INSERT"),
        ("Replace into t values (1)", Kind.CHANGE, "REPLACE"),
        ("with a(x) as (select 1), b as (values (2)) delete from t", Kind.CHANGE, "DELETE"),
        ("with a as (delete) select 1", Kind.QUERY, "SELECT"),
        ("with a as (select 1) select :delete, [insert], 'update' from a", Kind.QUERY, "SELECT"),
        ("with a as (select ')') [delete] insert into t values (1)", Kind.CHANGE, "INSERT"),
        ("with", Kind.OTHER, "WITH"),
        ("create temp table t (x)", Kind.DEFINITION, "CREATE"),
        ("drop table t", Kind.DEFINITION, "DROP"),
        ("rollback to x", Kind.CONTROL, "ROLLBACK"),
        ("end", Kind.CONTROL, "END"),
        ("pragma user_version", Kind.OTHER, "PRAGMA"),
        ("explain delete from t", Kind.OTHER, "EXPLAIN"),
        ("", Kind.OTHER, ""),
        (";;", Kind.OTHER, ";"),
        ("create trigger t insert on x begin select 1; select 2; end;", Kind.DEFINITION, "CREATE"),
    ],
)
def test_a_statement_is_of_the_kind_of_its_verb(text, kind, verb):
    assert (kind, verb) == (parse(text).kind, parse(text).verb)


@pytest.mark.parametrize(
    "text", ["select 1; select 2", ";select 1", "select 1;;x", "select ';'; 'x'", "a;[b]"]
)
def test_a_second_statement_is_an_error(text):
    with pytest.raises(dbapi.ProgrammingError, match="one statement"):
        parse(text)


@pytest.mark.parametrize("text", ["attach 'x' as y", " DETACH y", "vacuum", "vacuum into 'x'"])
def test_what_opens_other_files_is_refused(text):
    with pytest.raises(dbapi.NotSupportedError):
        parse(text)
