"""The verb sql, over a module that speaks PEP 249: the stdlib's sqlite3 stands in for lsmdbm.dbapi."""

import json
import sqlite3
import sys
from types import SimpleNamespace

import pytest

import lsmdbm
from support.commands import call

EVIL = "\x1b[2J"


@pytest.fixture
def asked(monkeypatch, tmp_path, path):
    """Put a module in the place of lsmdbm.dbapi; return what it was asked for."""
    lsmdbm.open(path, "c").close()
    other = tmp_path / "other"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE kv (key, value)")
        connection.execute("INSERT INTO kv VALUES ('apple', x'ff'), (?, NULL)", (EVIL,))
    connection.close()
    flags = []

    def connect(path, flag, timeout):
        flags.append((path, flag))
        return sqlite3.connect(other)

    monkeypatch.setitem(sys.modules, "lsmdbm.dbapi", SimpleNamespace(connect=connect))
    return flags


def test_rows_come_as_a_table_as_json_lines_and_as_csv(asked, path):
    query = "SELECT key, value FROM kv"

    assert ["key      value", r"apple    \xff", r"\x1b[2J  NULL"] == call("sql", path, query).lines
    rows = list(map(json.loads, call("sql", path, query, "--format", "jsonl").lines))
    assert [{"key": "apple", "value_base64": "/w=="}, {"key": EVIL, "value": None}] == rows
    assert ["key,value", r"apple,\xff", r"\x1b[2J,"] == call("sql", path, query, "--format", "csv").lines
    assert [(path, "r")] * 3 == asked


def test_statements_change_something_only_if_they_may_say_so(asked, path):
    assert 0 == call("sql", path, "DELETE FROM kv", "--write").code

    assert [(path, "w")] == asked
    assert ["n", "0"] == call("sql", path, "SELECT count(*) AS n FROM kv").lines


def test_statements_come_down_a_pipe_and_one_that_fails_ends_nothing(asked, path):
    lines = (
        b"SELECT count(*)\nFROM kv;\nSELEC 1;\n\nINSERT INTO kv VALUES (1, 2);\nSELECT count(*) AS n FROM kv"
    )
    found = call("sql", path, stdin=lines)

    assert (0, ["count(*)", "2", "n", "3"]) == (found.code, found.lines)
    assert 'lsmdbm: OperationalError: near "SELEC": syntax error\n' == found.err
    assert 3 == call("sql", path, stdin=b"SELEC 1;").code


def test_a_statement_that_fails_is_a_line(asked, path):
    found = call("sql", path, "SELECT * FROM absent")

    assert (3, b"", "lsmdbm: OperationalError: no such table: absent\n") == (
        found.code,
        found.out,
        found.err,
    )


def test_a_database_that_is_not_there_is_told_and_not_made(asked, path):
    found = call("sql", f"{path}-none", "SELECT 1", "--write")

    assert (3, f"lsmdbm: {path}-none: there is no database\n", []) == (found.code, found.err, asked)
