"""The verb sql over lsmdbm.dbapi itself."""

import pytest

import lsmdbm
from support import sql
from support.child import Child
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


def test_sql_tells_what_the_store_says_as_every_verb_does(fruit, tmp_path):
    """It had the words of EAGAIN, and for damage no word of repair."""
    with lsmdbm.open(fruit, "w") as db:
        db.flush()
    (table,) = tmp_path.glob("db/*.sst")
    data = table.read_bytes()
    with Child(tmp_path) as child:
        child("open", fruit, "w")
        found = [
            call("sql", fruit, *more, "--write", "--timeout", "0", stdin=b"SELECT 1;")
            for more in ([], ["SELECT 1"])
        ]
        put = call("put", fruit, "a", "b", "--timeout", "0")
    assert [(3, f"lsmdbm: {fruit}: writer lock held by pid {child.pid}\n")] * 3 == [
        (each.code, each.err) for each in (*found, put)
    ]

    assert 2 == call("sql", fruit, "SELECT 1", "--timeout", "-1").code
    table.write_bytes(data[:40] + b"rot" + data[43:])
    scan, asked, piped = (
        call("scan", fruit),
        call("sql", fruit, "SELECT * FROM kv"),
        call("sql", fruit, stdin=b"SELECT * FROM kv"),
    )
    assert 1 == scan.err.count("; lsmdbm repair saves what can be read\n")
    assert [(3, scan.err)] * 2 == [(each.code, each.err) for each in (asked, piped)]


def test_sql_goes_on_behind_a_statement_that_fails(fruit):
    found = call("sql", fruit, stdin=b"SELEC;\nSELECT count(*) AS n FROM kv;\n")

    assert (0, ["n", "2"]) == (found.code, found.lines)
    assert "syntax error" in found.err
