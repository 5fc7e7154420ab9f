"""What a CREATE TABLE says, and what of it cannot be kept."""

import pytest

from support import sql

dbapi = sql.module()
from lsmdbm.dbapi import schema  # noqa: E402 - apsw first
from lsmdbm.dbapi.schema import Column, affinity_of, parse  # noqa: E402
from lsmdbm.dbapi.tokens import quoted  # noqa: E402

apsw = sql.suite("apsw")

REFUSED = [
    ("CREATE TABLE t (a CHECK (a > 1))", "CHECK constraints"),
    ("CREATE TABLE t (a, CONSTRAINT c CHECK (a > 1))", "CHECK constraints"),
    ("CREATE TABLE t (a UNIQUE)", "UNIQUE constraints"),
    ("CREATE TABLE t (a, b, UNIQUE (a, b))", "UNIQUE constraints"),
    ("CREATE TABLE t (a REFERENCES u)", "FOREIGN KEY constraints"),
    ("CREATE TABLE t (a, FOREIGN KEY (a) REFERENCES u (b))", "FOREIGN KEY constraints"),
    ("CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT)", "AUTOINCREMENT"),
    ("CREATE TABLE t (a, b AS (a + 1))", "generated columns"),
    ("CREATE TABLE t (a, b GENERATED ALWAYS AS (a + 1) STORED)", "generated columns"),
    ("CREATE TABLE t (a NOT NULL ON CONFLICT REPLACE)", "ON CONFLICT clauses"),
    ("CREATE TABLE t (a PRIMARY KEY ON CONFLICT IGNORE)", "ON CONFLICT clauses"),
    ("CREATE TABLE t AS SELECT 1", "AS SELECT"),
    ("CREATE TABLE t AS VALUES (1)", "AS SELECT"),
    ("CREATE TABLE t (a INT) STRICT", "STRICT"),
    ("CREATE TABLE t (a TEXT COLLATE NOCASE PRIMARY KEY)", "COLLATE"),
    ("CREATE TABLE t (a, b, PRIMARY KEY (a, b COLLATE rtrim))", "COLLATE"),
    ("CREATE TABLE t (a HIDDEN TEXT)", "HIDDEN"),
]
WRONG = [
    "CREATE TABLE t (a",
    "CREATE TABLE t (a, A)",
    "CREATE TABLE sqlite_t (a)",
    "CREATE TABLE t (a, PRIMARY KEY (b))",
    "CREATE TABLE t (a COLLATE none)",
    "CREATE TABLE t (a) WITHOUT ROWID",
    "CREATE TABLE t ()",
]
KEYS = [
    ("a, b", (), None),
    ("a INTEGER PRIMARY KEY, b", (), 0),
    ("b, a INTEGER, PRIMARY KEY (a)", (), 1),
    ("b, a INTEGER, PRIMARY KEY (a ASC)", (), 1),
    ("a INTEGER PRIMARY KEY DESC, b", (0,), None),  # SQLite's own oddity
    ("a INT PRIMARY KEY, b", (0,), None),
    ("a TEXT, b, PRIMARY KEY (b, a)", (1, 0), None),
    ("a, b, c, d, PRIMARY KEY (d DESC, a)", (3, 0), None),
]


@pytest.mark.parametrize(("columns", "key", "rowid_place"), KEYS)
def test_a_table_is_kept_by_rowid_or_by_its_primary_key(columns, key, rowid_place):
    found = parse(f"CREATE TABLE t ({columns})")

    assert (key, rowid_place, not key) == (found.key, found.rowid_place, found.has_rowid)


def test_without_rowid_even_an_integer_is_a_key_like_any_other():
    found = parse("CREATE TABLE t (a INTEGER PRIMARY KEY, b) WITHOUT ROWID")

    assert ((0,), None) == (found.key, found.rowid_place)
    assert found.columns[0].is_not_null


def test_columns_have_what_the_statement_says():
    found = parse(
        "CREATE TABLE IF NOT EXISTS main.[a table] ("
        " \"check\" VARCHAR (20) NOT NULL DEFAULT 'unique', -- references\n"
        " b DEFAULT (1 + 1) COLLATE nocase, /* AUTOINCREMENT */ c)"
    )

    assert "a table" == found.name
    assert Column("check", "VARCHAR (20)", True, "'unique'", "BINARY") == found.columns[0]
    assert Column("b", "", False, "1 + 1", "NOCASE") == found.columns[1]
    assert Column("c", "", False, None, "BINARY") == found.columns[2]


@pytest.mark.parametrize(("statement", "what"), REFUSED)
def test_what_cannot_be_kept_is_refused_by_name(statement, what):
    with pytest.raises(dbapi.NotSupportedError, match=what):
        parse(statement)


@pytest.mark.parametrize("statement", WRONG)
def test_what_is_wrong_is_an_error_of_sqlite(statement):
    with pytest.raises(apsw.Error):
        parse(statement)


@pytest.mark.parametrize(("columns", "key", "rowid_place"), KEYS)
def test_declarations_are_such_as_sqlite_takes(columns, key, rowid_place):
    found = parse(f"CREATE TABLE t ({columns})")
    again = parse(found.sql)

    assert found == again
    declared = apsw.Connection(":memory:")
    declared.execute(found.declaration.replace("HIDDEN", ""))
    names = [row[1] for row in declared.execute("PRAGMA table_info(x)")]
    assert [column.name for column in found.columns] == names[: len(found.columns)]
    assert bool(key) == (len(names) > len(found.columns))


def test_the_hidden_column_has_a_name_of_its_own():
    found = parse(f"CREATE TABLE t ({quoted(schema.KEY_COLUMN.upper())} PRIMARY KEY)")

    assert quoted(schema.KEY_COLUMN + "_") in found.declaration


def test_renaming_changes_the_name_alone():
    found = parse("CREATE TABLE t (a, b PRIMARY KEY)")
    renamed = found.renamed('say "t"')

    assert 'say "t"' == renamed.name
    assert (found.columns, found.key) == (renamed.columns, renamed.key)
    assert renamed == parse(renamed.sql)


@pytest.mark.parametrize(
    "declared",
    [
        "INT",
        "bigint",
        "FLOATING POINT",
        "CHARINT",
        "CLOB",
        "text",
        "BLOB",
        "REAL",
        "double",
        "NUM",
        "STRING",
        "x",
    ],
)
def test_affinities_are_those_of_sqlite(declared):
    sqlite = apsw.Connection(":memory:")
    sqlite.execute(f"CREATE TABLE t (a {declared})")
    for value in ("1", "1.5", 1, 1.0, 1.5, "a"):
        expected = sqlite.execute("INSERT INTO t VALUES (?) RETURNING a", (value,)).fetchall()[0][0]
        plain = apsw.Connection(":memory:")
        plain.execute(f"CREATE TABLE t (a {affinity_of(declared)})")
        found = plain.execute("INSERT INTO t VALUES (?) RETURNING a", (value,)).fetchall()[0][0]
        assert (type(expected), expected) == (type(found), found)
