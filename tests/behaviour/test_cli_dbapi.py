"""The verb sql over lsmdbm.dbapi itself."""

import pytest

import lsmdbm
from support import sql
from support.commands import call

dbapi = sql.module()


@pytest.fixture
def fruit(path):
    with lsmdbm.open(path, "c") as db:
        db.update({"apple": "red", "banana": b"\x1b[2J"})
    return path


def test_sql_reads_the_entries_and_escapes_them(fruit):
    found = call("sql", fruit, "SELECT key, value FROM kv ORDER BY key DESC")

    assert (0, ["key     value", r"banana  \x1b[2J", "apple   red"], "") == (
        found.code,
        found.lines,
        found.err,
    )


def test_sql_changes_something_only_with_write(fruit):
    statement = "INSERT INTO kv VALUES ('cherry', 'dark red')"
    refused = call("sql", fruit, statement)
    assert (3, 1) == (refused.code, refused.err.count("\n"))
    assert 0 == call("sql", fruit, statement, "--write").code

    assert b"dark red" == call("get", fruit, "cherry").out


def test_sql_on_a_damaged_database_is_a_line(fruit, tmp_path):
    (manifest,) = tmp_path.glob("db/*.man")
    manifest.write_bytes(manifest.read_bytes()[:-1])
    found = call("sql", fruit, "SELECT * FROM kv")

    assert (3, b"", 1) == (found.code, found.out, found.err.count("\n"))
    assert "manifest" in found.err


def test_sql_goes_on_behind_a_statement_that_fails(fruit):
    found = call("sql", fruit, stdin=b"SELEC;\nSELECT count(*) AS n FROM kv;\n")

    assert (0, ["n", "2"]) == (found.code, found.lines)
    assert "syntax error" in found.err
