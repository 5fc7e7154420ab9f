"""Tables that CREATE TABLE makes: rows in the store, in the order of their key, and there to stay."""

import gc
import random

import pytest

import lsmdbm
from lsmdbm._base.os_file import OsFile
from support import sql
from support.sql import plan

dbapi = sql.module()
from lsmdbm.dbapi import catalogue  # noqa: E402 - apsw first

apsw = sql.suite("apsw")

COUNT = 6000  # rows of a table that is read from disk
LARGEST = 2**63 - 1


@pytest.fixture
def connect(path):
    """Open connections, and close them at the end of the test."""
    opened = []

    def connect_one(*arguments, **options):
        opened.append(dbapi.connect(path, *arguments, **options))
        return opened[-1]

    yield connect_one
    for connection in opened:
        try:
            connection.close()
        except dbapi.ProgrammingError:  # closed by the test
            pass


@pytest.fixture
def connection(connect):
    return connect()


def run(connection, statement, parameters=()):
    cursor = connection.cursor().execute(statement, parameters)
    return cursor.fetchall() if cursor.description else None


def names(connection):
    return [name for (name,) in run(connection, "SELECT name FROM sqlite_master ORDER BY name")]


def reopened(connect, connection):
    connection.close()
    return connect()


# -- tables last --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "columns",
    ["a, b", "a INTEGER PRIMARY KEY, b", "a TEXT PRIMARY KEY, b", "a, b, PRIMARY KEY (b, a)"]
    + ["a PRIMARY KEY, b) WITHOUT ROWID --"],
)
def test_a_reopened_database_has_its_tables(connect, columns):
    connection = connect()
    run(connection, f"CREATE TABLE t ({columns}\n)" if "--" not in columns else f"CREATE TABLE t ({columns}")
    run(connection, "INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    connection.commit()

    connection = reopened(connect, connection)

    assert ["t"] == names(connection)
    assert [(1, "x"), (2, "y")] == [(int(a), b) for a, b in run(connection, "SELECT * FROM t ORDER BY a")]


def test_tables_survive_flush_and_compaction(connect, path):
    connection = connect()
    run(connection, "CREATE TABLE t (a TEXT PRIMARY KEY, b)")
    connection.cursor().executemany("INSERT INTO t VALUES (?, ?)", [(f"{n:04}", n) for n in range(1000)])
    connection.commit()
    connection.close()
    with lsmdbm.open(path, "w") as db:
        db.compact()

    assert [(1000, 499_500)] == run(connect(), "SELECT count(*), sum(b) FROM t")


def test_what_is_not_committed_is_gone_with_its_table(connect):
    connection = connect()
    run(connection, "CREATE TABLE t (a)")
    run(connection, "INSERT INTO t VALUES (1)")
    assert ["t"] == names(connection)

    connection.rollback()

    assert [] == names(connection)
    assert [] == names(reopened(connect, connection))
    with pytest.raises(dbapi.ProgrammingError, match="no such table: t"):
        run(connect(), "SELECT * FROM t")


def test_a_dropped_table_takes_its_rows_with_it(connect, path):
    connection = connect()
    run(connection, "CREATE TABLE t (a)")
    run(connection, "CREATE TABLE u (a)")
    connection.cursor().executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(100)])
    run(connection, "INSERT INTO u VALUES (5)")
    connection.commit()
    run(connection, "DROP TABLE t")
    assert ["u"] == names(connection)
    connection.commit()
    assert [(5,)] == run(connection, "SELECT * FROM u")
    connection.close()

    with lsmdbm.open(path) as db:
        assert 1 == len(db.range(prefix=catalogue.ROW))
        assert [] == [*db.range(prefix=catalogue.DROPPED)]


def test_rows_of_a_table_dropped_before_a_crash_are_deleted_by_the_next_connection(connect, path):
    connection = connect()
    run(connection, "CREATE TABLE t (a)")
    run(connection, "INSERT INTO t VALUES (1)")
    run(connection, "DROP TABLE t")
    connection.commit()
    connection.close()  # nothing has swept since
    with lsmdbm.open(path) as db:
        assert 1 == len(db.range(prefix=catalogue.DROPPED))

    run(connect(), "SELECT 1")

    with lsmdbm.open(path) as db:
        assert [catalogue.GENERATION] == [*db]


def test_a_drop_that_is_rolled_back_has_not_been(connect):
    connection = connect()
    run(connection, "CREATE TABLE t (a)")
    run(connection, "INSERT INTO t VALUES (1)")
    connection.commit()
    run(connection, "DROP TABLE t")
    connection.rollback()

    assert [(1,)] == run(connection, "SELECT * FROM t")
    assert [(1,)] == run(reopened(connect, connection), "SELECT * FROM t")


def test_a_table_made_anew_is_empty(connection):
    for _ in range(3):
        run(connection, "CREATE TABLE t (a)")
        assert [] == run(connection, "SELECT * FROM t")
        run(connection, "INSERT INTO t VALUES (1)")
        run(connection, "DROP TABLE t")


def test_a_renamed_table_keeps_its_rows(connect):
    connection = connect()
    run(connection, "CREATE TABLE t (a, b PRIMARY KEY)")
    run(connection, "INSERT INTO t VALUES (1, 2)")
    connection.commit()
    run(connection, 'ALTER TABLE t RENAME TO "a ""new"" name"')
    assert ['a "new" name'] == names(connection)
    connection.rollback()
    assert [(1, 2)] == run(connection, "SELECT * FROM t")
    run(connection, "DROP TABLE t")  # by the name that it has again
    connection.rollback()
    run(connection, "ALTER TABLE main.T RENAME TO u;")
    connection.commit()

    connection = reopened(connect, connection)

    assert [(1, 2)] == run(connection, "SELECT * FROM u")
    with pytest.raises(dbapi.IntegrityError, match=r"UNIQUE constraint failed: u\.b"):
        run(connection, "INSERT INTO u VALUES (1, 2)")


@pytest.mark.parametrize("is_autocommit", [False, True])
def test_definitions_are_undone_by_savepoints(connect, is_autocommit):
    connection = connect(autocommit=is_autocommit)
    run(connection, "CREATE TABLE t (a)")
    run(connection, "SAVEPOINT one")
    run(connection, "CREATE TABLE u (a)")
    run(connection, "INSERT INTO u VALUES (1)")
    run(connection, "ALTER TABLE t RENAME TO v")
    run(connection, "ROLLBACK TO one")
    assert ["t"] == names(connection)
    run(connection, "RELEASE one")
    connection.commit()

    connection = reopened(connect, connection)

    assert ["t"] == names(connection)
    run(connection, "CREATE TABLE u (a)")
    assert [] == run(connection, "SELECT * FROM u")


def test_the_first_statement_after_a_savepoint_may_be_a_definition(connection):
    run(connection, "SAVEPOINT one")
    run(connection, "CREATE TABLE t (a)")
    run(connection, "ROLLBACK TO one")
    run(connection, "RELEASE one")
    connection.commit()

    assert [] == names(connection)
    assert [] == run(connection, "SELECT * FROM lsmdbm_tables")


def test_the_catalogue_is_a_table(connection):
    run(connection, "CREATE TABLE t (a)")
    run(connection, "CREATE TABLE U (b)")

    expected = [("t", 1, "CREATE TABLE t (a)"), ("U", 2, "CREATE TABLE U (b)")]
    assert expected == run(connection, "SELECT * FROM lsmdbm_tables ORDER BY id")
    for statement in ("DELETE FROM lsmdbm_tables", "INSERT INTO lsmdbm_tables VALUES ('x', 1, '')"):
        with pytest.raises(dbapi.NotSupportedError, match="CREATE TABLE"):
            run(connection, statement)


@pytest.mark.parametrize("table", ["kv", "t"])
def test_a_statement_that_fails_behind_a_savepoint_leaves_the_savepoint(connection, table):
    """SQLite tells of a savepoint with the first write, and a failure took that mark for one of its own."""
    run(connection, "CREATE TABLE t (a PRIMARY KEY, b NOT NULL)")
    connection.commit()
    run(connection, "SELECT 1")
    run(connection, "SAVEPOINT one")
    with pytest.raises(dbapi.IntegrityError):
        run(connection, f"INSERT INTO {table} VALUES ('y', NULL)")
    run(connection, f"INSERT INTO {table} VALUES ('z', 'z')")
    run(connection, "ROLLBACK TO one")

    found = run(connection, "SELECT CAST(key AS TEXT) FROM kv WHERE key = 'z' UNION SELECT a FROM t")
    assert ("z",) not in found


@pytest.mark.parametrize("is_autocommit", [False, True])
def test_a_table_that_is_being_read_is_not_dropped(connect, is_autocommit):
    connection = connect(autocommit=is_autocommit)
    run(connection, "CREATE TABLE t (a)")
    run(connection, "INSERT INTO t VALUES (1), (2)")
    connection.commit()
    cursor = connection.cursor().execute("SELECT a FROM t")
    for statement in ("DROP TABLE t", "ALTER TABLE t RENAME TO u"):
        with pytest.raises(dbapi.OperationalError, match="locked"):
            run(connection, statement)
    assert [("t",)] == run(connection, "SELECT name FROM lsmdbm_tables")
    del cursor

    connection.commit()
    connection = reopened(connect, connection)
    assert [(1,), (2,)] == run(connection, "SELECT a FROM t")
    assert [("t",)] == run(connection, "SELECT name FROM lsmdbm_tables")


def test_kv_shows_and_takes_nothing_that_belongs_to_tables(connection):
    run(connection, "CREATE TABLE t (a)")
    run(connection, "INSERT INTO t VALUES (1), (2)")
    low, high = catalogue.RESERVED[:-1], catalogue.RESERVED[:-1] + b"\1"  # just outside
    run(connection, "INSERT INTO kv VALUES (x'', 0 || ''), (?, ''), (?, ''), ('z', '')", [low, high])

    expected = [b"", low, high, b"z"]
    for where in (
        "",
        "WHERE key >= x''",
        "WHERE key <= 'z'",
        "WHERE key BETWEEN x'00' AND 'zz' OR key = x''",
    ):
        assert expected == [key for (key,) in run(connection, f"SELECT key FROM kv {where} ORDER BY key")]
    assert expected[::-1] == [key for (key,) in run(connection, "SELECT key FROM kv ORDER BY key DESC")]
    assert [(4, b"z", b"")] == run(connection, "SELECT count(*), max(key), min(key) FROM kv")
    inside = catalogue.GENERATION
    assert [] == run(connection, "SELECT * FROM kv WHERE key = ?", [inside])
    assert [(low,)] == run(connection, "SELECT key FROM kv WHERE key IN (?, ?)", [inside, low])
    assert [] == run(connection, "SELECT * FROM kv WHERE key >= ? AND key < ?", [catalogue.RESERVED, high])
    for statement in ("INSERT INTO kv VALUES (?, '')", "UPDATE kv SET key = ? WHERE key = 'z'"):
        with pytest.raises(dbapi.DataError, match="belong to tables"):
            run(connection, statement, [inside])
    run(connection, "UPDATE kv SET value = 'all'")
    run(connection, "DELETE FROM kv")

    assert [(1,), (2,)] == run(connection, "SELECT * FROM t")
    assert [] == run(connection, "SELECT * FROM kv")


# -- several connections ------------------------------------------------------------------------------


def test_tables_of_another_connection_show_with_the_next_transaction(connect):
    one, other = connect(), connect()
    assert [] == names(other)
    run(one, "CREATE TABLE t (a)")
    run(one, "INSERT INTO t VALUES (1)")
    one.commit()
    assert [] == names(other)  # it is at its moment

    other.commit()

    assert [(1,)] == run(other, "SELECT * FROM t")
    run(one, "DROP TABLE t")
    run(one, "CREATE TABLE t (b, c)")
    one.commit()
    assert [(1,)] == run(other, "SELECT * FROM t")
    other.rollback()
    assert [] == run(other, "SELECT b, c FROM t")


def test_in_autocommit_tables_show_at_once(connect):
    one, other = connect(autocommit=True), connect(autocommit=True)
    run(one, "SELECT 1")
    run(other, "SELECT 1")
    run(one, "CREATE TABLE t (a)")
    assert ["t"] == names(other)
    run(other, "ALTER TABLE t RENAME TO u")
    run(one, "INSERT INTO u VALUES (1)")
    assert [(1,)] == run(other, "SELECT * FROM u")


def test_a_reader_sees_what_a_writer_has_made(connect):
    writer = connect()
    run(writer, "CREATE TABLE t (a)")
    writer.commit()
    reader = connect("r")
    assert ["t"] == names(reader)
    run(writer, "INSERT INTO t VALUES (1)")
    run(writer, "CREATE TABLE u (a)")
    writer.commit()
    reader.commit()

    assert [(1,)] == run(reader, "SELECT * FROM t")
    assert ["t", "u"] == names(reader)
    for statement in ("CREATE TABLE v (a)", "DROP TABLE t", "INSERT INTO t VALUES (2)"):
        with pytest.raises(dbapi.OperationalError) as caught:
            run(reader, statement)
        assert isinstance(caught.value.__cause__, lsmdbm.ReadOnlyError)
        reader.rollback()


@pytest.mark.parametrize(
    ("statement", "left"),
    [("DROP TABLE t", []), ("ALTER TABLE t RENAME TO u", ["u"]), ("CREATE TABLE u (a)", ["t", "u"])],
)
@pytest.mark.parametrize("write", ["INSERT INTO t VALUES (1)", "INSERT INTO kv VALUES ('a', 'b')"])
def test_who_writes_while_another_connection_defines_tables_is_in_conflict(connect, statement, left, write):
    one, other, reader = connect(), connect(), connect()
    run(one, "CREATE TABLE t (a)")
    one.commit()
    run(reader, "SELECT * FROM t")
    run(other, write)
    run(one, statement)
    one.commit()
    reader.commit()

    with pytest.raises(dbapi.OperationalError) as caught:
        other.commit()

    assert isinstance(caught.value.__cause__, lsmdbm.ConflictError)
    assert left == names(other)


def test_two_tables_of_one_name_are_in_conflict(connect):
    one, other = connect(), connect()
    run(one, "CREATE TABLE t (a)")
    run(other, "CREATE TABLE t (b)")
    one.commit()

    with pytest.raises(dbapi.OperationalError):
        other.commit()

    assert [] == run(other, "SELECT a FROM t")
    run(other, "INSERT INTO t VALUES (1)")
    other.commit()
    assert [(1,)] == run(one, "SELECT * FROM t")


def test_definitions_in_autocommit_that_lose_leave_nothing(connect):
    one, other = connect(), connect(autocommit=True)
    run(other, "SELECT 1")
    run(one, "CREATE TABLE t (a)")
    run(other, "CREATE TABLE t (b)")
    with pytest.raises(dbapi.OperationalError):
        one.commit()

    assert [] == run(one, "SELECT b FROM t")


def test_inserts_of_two_connections_that_draw_one_rowid_are_in_conflict(connect):
    one, other = connect(), connect()
    run(one, "CREATE TABLE t (a)")
    one.commit()
    run(one, "INSERT INTO t VALUES ('one')")
    run(other, "INSERT INTO t VALUES ('other')")
    one.commit()
    with pytest.raises(dbapi.OperationalError):
        other.commit()
    run(other, "INSERT INTO t VALUES ('other')")
    other.commit()

    assert [(1, "one"), (2, "other")] == run(one, "SELECT rowid, a FROM t")


def test_definitions_leave_no_connection_of_sqlite_behind(connect):
    """With apsw 3.54.0 a cursor that was freed and not closed kept its connection for ever."""
    gc.collect()
    before = len(apsw.connections())
    connection = connect()
    run(connection, "CREATE TABLE t (a DEFAULT (1 + 1), b TEXT)")
    run(connection, "INSERT INTO t (b) VALUES (5)")
    run(connection, "ALTER TABLE t RENAME TO u")
    connection.commit()
    run(connection, "DROP TABLE u")
    connection.commit()
    connection.close()
    del connection
    gc.collect()

    assert before >= len(apsw.connections()) - 1  # the fixture holds the one that is closed


# -- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("CREATE INDEX i ON t (a)", "would not last"),
        ("CREATE UNIQUE INDEX i ON t (a)", "would not last"),
        ("CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END", "would not last"),
        ("CREATE VIEW v AS SELECT * FROM t", "would not last"),
        ("CREATE VIRTUAL TABLE v USING lsm(1)", "would not last"),
        ("CREATE TABLE u AS SELECT * FROM t", "AS SELECT"),
        ("CREATE TABLE u (a CHECK (a > 1))", "CHECK"),
        ("ALTER TABLE t ADD COLUMN c", "RENAME TO"),
        ("ALTER TABLE t RENAME COLUMN a TO c", "RENAME TO"),
        ("ALTER TABLE t DROP COLUMN a", "RENAME TO"),
        ("INSERT INTO t VALUES (1, 2) RETURNING a", "RETURNING"),
        ("UPDATE t SET a = 1 RETURNING a", "RETURNING"),
    ],
)
def test_what_cannot_be_kept_is_refused(connection, statement, what):
    run(connection, "CREATE TABLE t (a, b)")
    with pytest.raises(dbapi.NotSupportedError, match=what):
        run(connection, statement)

    assert ["t"] == names(connection)
    assert [] == run(connection, "SELECT * FROM t")


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("CREATE TABLE t (a)", "table t already exists"),
        ("CREATE TABLE main.T (a)", "table T already exists"),
        ("CREATE TABLE kv (a)", "table kv already exists"),
        ("CREATE TABLE lsmdbm_tables (a)", "table lsmdbm_tables already exists"),
        ("CREATE TABLE u (a,)", "syntax error"),
        ("CREATE TABLE u", "incomplete input"),
        ("CREATE TABLE", "incomplete input"),
        ("CREATE TABLE other.u (a)", "unknown database other"),
        ("CREATE TABLE sqlite_u (a)", "reserved"),
        ("DROP TABLE u", "no such table: u"),
        ("DROP TABLE t u", "syntax error"),
        ("DROP TABLE kv", "may not be dropped"),
        ("ALTER TABLE u RENAME TO v", "no such table: u"),
        ("ALTER TABLE t RENAME TO other", "already another table"),
        ("ALTER TABLE t RENAME TO kv", "already another table"),
        ("ALTER TABLE t RENAME TO sqlite_t", "reserved"),
        ("ALTER TABLE t RENAME TO", "incomplete input"),
    ],
)
def test_what_is_wrong_is_a_programming_error(connection, statement, what):
    run(connection, "CREATE TABLE t (a)")
    run(connection, "CREATE TABLE other (a)")
    run(connection, "INSERT INTO t VALUES (1)")
    with pytest.raises(dbapi.ProgrammingError, match=what):
        run(connection, statement)

    assert ["other", "t"] == names(connection)
    assert [(1,)] == run(connection, "SELECT * FROM t")


def test_if_exists_and_if_not_exists_are_heeded(connection):
    run(connection, "CREATE TABLE IF NOT EXISTS t (a)")
    run(connection, "INSERT INTO t VALUES (1)")
    run(connection, "CREATE TABLE IF NOT EXISTS T (b, c)")
    assert [(1,)] == run(connection, "SELECT a FROM t")
    run(connection, "DROP TABLE IF EXISTS t")
    run(connection, "DROP TABLE IF EXISTS t")
    assert [] == names(connection)


def test_temporary_tables_stay_in_memory_and_go_first(connect):
    connection = connect()
    run(connection, "CREATE TABLE t (a)")
    run(connection, "INSERT INTO t VALUES ('kept')")
    run(connection, "CREATE TEMP TABLE t (a UNIQUE)")
    run(connection, "CREATE TABLE temp.u (a)")
    assert [] == run(connection, "SELECT * FROM t")
    assert [(1,)] == run(connection, "INSERT INTO u VALUES (1) RETURNING a")
    run(connection, "DROP TABLE t")
    assert [("kept",)] == run(connection, "SELECT * FROM t")
    connection.commit()

    assert ["t"] == names(reopened(connect, connection))


# -- rows ---------------------------------------------------------------------------------------------


def test_rowids_go_on_from_the_largest(connection):
    cursor = connection.cursor()
    run(connection, "CREATE TABLE t (a)")
    found = []
    for statement in (
        "INSERT INTO t VALUES (1), (2)",
        "INSERT INTO t (rowid, a) VALUES (10, 3)",
        "INSERT INTO t VALUES (4)",
        "DELETE FROM t WHERE rowid = 11",
        "INSERT INTO t VALUES (5)",
        "INSERT INTO t (oid, a) VALUES (-5, 6)",
        "INSERT INTO t VALUES (7)",
    ):
        found.append(cursor.execute(statement).lastrowid)

    assert [2, None, 11, 11, 11, None, 12] == found  # SQLite is told of no rowid that it knows
    expected = [(-5, 6), (1, 1), (2, 2), (10, 3), (11, 5), (12, 7)]
    assert expected == run(connection, "SELECT rowid, a FROM t")


def test_rowids_after_an_undone_insert_are_not_lost(connection):
    run(connection, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
    run(connection, "INSERT INTO t VALUES (NULL)")
    run(connection, "SAVEPOINT one")
    run(connection, "INSERT INTO t VALUES (NULL), (NULL)")
    run(connection, "ROLLBACK TO one")
    run(connection, "INSERT INTO t VALUES (NULL)")
    with pytest.raises(dbapi.IntegrityError):
        run(connection, "INSERT INTO t VALUES (NULL), (NULL), (1)")
    run(connection, "INSERT INTO t VALUES (NULL)")

    assert [(1,), (2,), (3,)] == run(connection, "SELECT a FROM t")


def test_beyond_the_largest_rowid_the_largest_that_is_free_is_taken(connection):
    run(connection, "CREATE TABLE t (a INTEGER PRIMARY KEY)")
    run(connection, "INSERT INTO t VALUES (?), (?)", [LARGEST, LARGEST - 2])
    run(connection, "INSERT INTO t VALUES (NULL), (NULL)")

    assert [(LARGEST - 3,), (LARGEST - 2,), (LARGEST - 1,), (LARGEST,)] == run(connection, "SELECT a FROM t")


@pytest.mark.parametrize("value", ["x", 1.5, b"1"])
def test_a_rowid_is_an_integer(connection, value):
    run(connection, "CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    with pytest.raises(dbapi.DataError, match="datatype mismatch"):
        run(connection, "INSERT INTO t VALUES (?, 1)", [value])
    run(connection, "INSERT INTO t VALUES ('5', 1)")
    with pytest.raises(dbapi.DataError, match="datatype mismatch"):
        run(connection, "UPDATE t SET a = ?", [value])
    with pytest.raises(dbapi.DataError, match="datatype mismatch"):
        run(connection, "UPDATE t SET a = NULL")

    assert [(5, 1)] == run(connection, "SELECT * FROM t")


def test_nulls_in_a_primary_key_differ_from_each_other(connection):
    run(connection, "CREATE TABLE t (a, b, c, PRIMARY KEY (a, b))")
    run(connection, "INSERT INTO t VALUES (NULL, 1, 'x'), (NULL, 1, 'y'), (1, NULL, 'z'), (1, 1, 'w')")
    run(connection, "UPDATE t SET c = 'yy' WHERE c = 'y'")
    run(connection, "DELETE FROM t WHERE c = 'x'")
    run(connection, "INSERT INTO t VALUES (NULL, 1, 'v')")
    assert [("yy",), ("v",)] == run(connection, "SELECT c FROM t WHERE a IS NULL")
    assert [] == run(connection, "SELECT c FROM t WHERE a = NULL")
    run(connection, "UPDATE t SET a = 2 WHERE c = 'v'")
    run(connection, "UPDATE t SET b = NULL WHERE c = 'w'")

    expected = [(None, 1, "yy"), (1, None, "z"), (1, None, "w"), (2, 1, "v")]
    assert expected == run(connection, "SELECT * FROM t")


def test_a_statement_that_fails_leaves_nothing(connection):
    run(connection, "CREATE TABLE t (a PRIMARY KEY, b NOT NULL)")
    run(connection, "INSERT INTO t VALUES (1, 1)")
    for statement, what in [
        ("INSERT INTO t VALUES (2, 2), (3, NULL)", r"NOT NULL constraint failed: t\.b"),
        ("INSERT INTO t VALUES (2, 2), (1, 1)", r"UNIQUE constraint failed: t\.a"),
        ("INSERT INTO t SELECT a + 1, b FROM t UNION ALL VALUES (1, 1)", r"UNIQUE constraint failed: t\.a"),
    ]:
        with pytest.raises(dbapi.IntegrityError, match=what):
            run(connection, statement)
        assert [(1, 1)] == run(connection, "SELECT * FROM t")


def test_conflict_clauses_are_heeded(connection):
    cursor = connection.cursor()
    run(connection, "CREATE TABLE t (a PRIMARY KEY, b NOT NULL DEFAULT 'd')")
    run(connection, "INSERT INTO t VALUES (1, 'old')")
    assert 1 == cursor.execute("INSERT OR IGNORE INTO t VALUES (1, 'x'), (2, NULL), (3, 'y')").rowcount
    assert 2 == cursor.execute("REPLACE INTO t VALUES (1, 'new'), (4, NULL)").rowcount
    with pytest.raises(dbapi.IntegrityError):
        run(connection, "INSERT OR FAIL INTO t VALUES (5, 'z'), (1, 'x')")

    assert [(1, "new"), (3, "y"), (4, "d"), (5, "z")] == run(connection, "SELECT * FROM t")


def test_rows_that_an_update_has_replaced_are_not_updated_with_old_values(connection):
    run(connection, "CREATE TABLE t (a INT PRIMARY KEY, b) WITHOUT ROWID")
    run(connection, "INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    run(connection, "UPDATE OR REPLACE t SET a = a + 1 WHERE a < 3")

    assert [(3, "one")] == run(connection, "SELECT * FROM t")


def test_keys_that_are_too_long_are_refused(connection):
    run(connection, "CREATE TABLE t (a TEXT PRIMARY KEY, b)")
    run(connection, "INSERT INTO t VALUES (?, 1)", ["a" * 65_000])
    with pytest.raises(dbapi.DataError, match="the limit is 65536"):
        run(connection, "INSERT INTO t VALUES (?, 1)", ["b" * 65_536])
    with pytest.raises(dbapi.DataError, match="the limit is 65536"):
        run(connection, "UPDATE t SET a = ?", ["b" * 65_536])

    assert [(65_000,)] == run(connection, "SELECT length(a) FROM t")


def test_text_that_is_no_utf8_is_refused(connection):
    run(connection, "CREATE TABLE t (a)")
    with pytest.raises(dbapi.DataError, match="utf-8"):
        run(connection, "INSERT INTO t VALUES (CAST(x'ff' AS TEXT))")

    assert [] == run(connection, "SELECT * FROM t")


def test_names_may_be_anything(connect):
    connection = connect()
    run(connection, 'CREATE TABLE "a ""x"", -- \u00e9" ("by" INT, [b c], PRIMARY KEY ("b c"))')
    run(connection, 'INSERT INTO "A ""X"", -- \u00e9" ("B C") VALUES (5)')
    connection.commit()

    connection = reopened(connect, connection)
    assert [(None, 5)] == run(connection, 'SELECT * FROM "a ""x"", -- \u00e9" WHERE [b c] = 5')


def test_columns_are_described(connection):
    run(connection, "CREATE TABLE t (id INTEGER PRIMARY KEY, a VARCHAR(20) NOT NULL, b REAL, c)")
    cursor = connection.cursor().execute("SELECT * FROM t")

    assert ["id", "a", "b", "c"] == [column[0] for column in cursor.description]
    kinds = [dbapi.NUMBER, dbapi.STRING, dbapi.NUMBER, None]
    assert kinds == [column[1] for column in cursor.description]
    rows = run(connection, "PRAGMA table_info(t)")
    assert [("id", "INTEGER", 0, 1), ("a", "VARCHAR(20)", 1, 0)] == [(*row[1:4], row[5]) for row in rows[:2]]


def test_what_is_written_while_rows_are_read_does_not_show(connection):
    run(connection, "CREATE TABLE t (a)")
    connection.cursor().executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(100)])
    cursor = connection.cursor().execute("SELECT a FROM t")
    found = [cursor.fetchone()[0]]
    run(connection, "DELETE FROM t WHERE a > 50")
    run(connection, "INSERT INTO t SELECT a + 1000 FROM t")

    assert [*range(100)] == found + [a for (a,) in cursor]


def test_a_cursor_goes_on_through_commits_at_the_moment_of_its_statement(connection):
    """What is equal to a number may be in two spans; the second began where the first had come to its end."""
    run(connection, "CREATE TABLE t (a PRIMARY KEY)")
    run(connection, "CREATE TABLE n (v INT)")
    run(connection, "INSERT INTO t VALUES (4), (5), ('05'), ('5'), ('6')")
    run(connection, "INSERT INTO n VALUES (5)")
    connection.commit()
    cursor = connection.cursor().execute("SELECT CAST(a AS BLOB) FROM n CROSS JOIN t ON a = v")
    found = [cursor.fetchone()]
    run(connection, "DELETE FROM t")
    connection.commit()

    assert [(b"5",), (b"05",), (b"5",)] == found + cursor.fetchall()


# -- push-down ----------------------------------------------------------------------------------------


@pytest.fixture
def cities(connection):
    """A table of populations by country and year, with a key of both."""
    run(connection, "CREATE TABLE t (country TEXT, year INT, people INT, PRIMARY KEY (country, year))")
    drawn = random.Random("cities")
    rows = [(country, year, drawn.randrange(1000)) for country in "abc" for year in range(1900, 2000)]
    connection.cursor().executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    return connection


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", "all rows"),
        ("WHERE country = 'a'", "country=?"),
        ("WHERE country = 'a' AND year = 1950", "country=? and year=?"),
        ("WHERE country = 'a' AND year BETWEEN 1910 AND 1920", "country=? and year>=? and year<=?"),
        ("WHERE country > 'a' AND year = 1950", "country>?"),
        ("WHERE year = 1950", "all rows"),
        ("WHERE country IS NULL", "country IS NULL"),
        ("WHERE country IN ('a', 'b') AND year < 1905", "country=? and year<?"),
        ("ORDER BY country, year", "all rows"),
        ("ORDER BY country DESC, year DESC", "all rows, descending"),
        ("WHERE country = 'b' ORDER BY year DESC LIMIT 3", "country=?, descending"),
    ],
)
def test_constraints_and_orders_on_the_key_are_pushed_down(cities, where, expected):
    assert [f"SCAN t VIRTUAL TABLE INDEX 0:{expected}"] == plan(cities, f"SELECT * FROM t {where}")


@pytest.mark.parametrize("order", ["year", "country, year DESC", "people", "country, people"])
def test_other_orders_are_sorted(cities, order):
    assert "USE TEMP B-TREE" in " ".join(plan(cities, f"SELECT * FROM t ORDER BY {order}"))


def test_an_order_holds_where_a_text_is_compared_with_numbers(connection):
    """A number may be equal to many texts if it comes out of a column of numbers: rows are sorted then."""
    run(connection, "CREATE TABLE t (a TEXT, b INT, PRIMARY KEY (a, b))")
    run(connection, "INSERT INTO t VALUES ('1', 5), ('01', 7), ('1.0', 1), ('01', 2), ('2', 3), ('x', 4)")
    run(connection, "CREATE TABLE n (v INT)")
    run(connection, "INSERT INTO n VALUES (1)")

    for order in ("", " DESC"):
        found = run(connection, f"SELECT b FROM t WHERE a = (SELECT v FROM n) ORDER BY b{order}")
        assert [1, 2, 5, 7][:: -1 if order else 1] == [b for (b,) in found]


def test_a_text_key_like_a_number_is_compared_as_text_with_a_text_out_of_a_column_of_numbers(connection):
    """SQLite would find a row: see docs/sql.md, What differs from SQLite."""
    run(connection, "CREATE TABLE t (a TEXT PRIMARY KEY)")
    run(connection, "CREATE TABLE n (v INT)")
    run(connection, "INSERT INTO t VALUES ('5'), ('x')")
    run(connection, "INSERT INTO n VALUES ('1x')")

    assert [] == run(connection, "SELECT a FROM n CROSS JOIN t ON a < v")


def test_a_join_looks_up_keys(cities):
    run(cities, "CREATE TABLE n (id INTEGER PRIMARY KEY, name TEXT)")
    run(cities, "INSERT INTO n VALUES (1950, 'a'), (1960, 'b')")

    steps = plan(cities, "SELECT * FROM n JOIN t ON country = name AND year = id")
    assert "SCAN t VIRTUAL TABLE INDEX 0:country=? and year=?" in steps


@pytest.fixture
def on_disk(connect, monkeypatch):
    """A connection to a table that lies on disk alone, and the bytes that are read from there."""
    connection = connect("c", memtable_bytes=1 << 20, cache_bytes=0)
    run(connection, "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)")
    rows = [(n, random.Random(n).randbytes(100).hex()) for n in range(COUNT)]
    connection.cursor().executemany("INSERT INTO t VALUES (?, ?)", rows)
    connection.commit()
    connection._session.database.compact()
    read = []
    pread = OsFile.pread

    def counted(self, length, offset):
        read.append(length)
        return pread(self, length, offset)

    monkeypatch.setattr(OsFile, "pread", counted)
    return connection, read


@pytest.mark.parametrize(
    ("statement", "share"),
    [
        ("SELECT a FROM t WHERE id = 3000", 0.01),
        ("SELECT a FROM t WHERE id BETWEEN 3000 AND 3030", 0.03),
        ("SELECT a FROM t ORDER BY id DESC LIMIT 5", 0.01),
        ("SELECT max(id) FROM t", 0.01),
        ("SELECT count(*) FROM t", 0.2),
        ("SELECT sum(id) FROM t", 0.2),
    ],
)
def test_what_is_not_asked_for_is_not_read(on_disk, statement, share):
    connection, read = on_disk
    run(connection, "SELECT sum(length(a)) FROM t")
    everything = sum(read)
    read.clear()
    run(connection, statement)

    assert 0 < sum(read) < share * everything


def test_parameters_that_come_by_way_of_another_insert_change_neither_defaults_nor_rowcount(connection):
    """Rows behind the first had NULL for their defaults, for the other INSERT names all of its columns."""
    run(connection, "CREATE TABLE t (a, b DEFAULT 5)")
    run(connection, "CREATE TABLE log (a)")

    def numbers():
        for number in range(3):
            run(connection, "INSERT INTO log VALUES (?)", (number,))
            yield (number,)

    cursor = connection.cursor().executemany("INSERT INTO t (a) VALUES (?)", numbers())
    assert [(0, 5), (1, 5), (2, 5)] == run(connection, "SELECT * FROM t")
    assert (3, [(3,)]) == (cursor.rowcount, run(connection, "SELECT count(*) FROM log"))
