"""lsmdbm.dbapi is a module as PEP 249 asks for one, and its transactions are those of the store."""

import ast
import copy
import datetime
import gc
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import lsmdbm
from support import sql
from support.sql import all_of
from support.threads import in_threads

dbapi = sql.module()

ROOT = Path(__file__).parents[2]

ERRORS = [
    "Warning",
    "Error",
    "InterfaceError",
    "DatabaseError",
    "DataError",
    "OperationalError",
    "IntegrityError",
    "InternalError",
    "ProgrammingError",
    "NotSupportedError",
]
FRUIT = [(b"apple", b"red"), (b"banana", b"yellow"), (b"cherry", b"dark red")]
INSERT = "INSERT INTO kv VALUES (?, ?)"


@pytest.fixture
def connect(path):
    """Open connections, and close them at the end of the test."""
    opened = []

    def connect_one(*arguments, **options):
        opened.append(dbapi.connect(*arguments, **options))
        return opened[-1]

    yield connect_one
    for connection in opened:
        try:
            connection.close()
        except dbapi.ProgrammingError:  # the test has closed it
            pass


@pytest.fixture
def connection(connect, path):
    return connect(path)


@pytest.fixture
def cursor(connection):
    return connection.cursor()


@pytest.fixture
def fruit(connection):
    connection.cursor().executemany(INSERT, FRUIT)
    connection.commit()
    return connection


def value_of(connection, key):
    row = connection.cursor().execute("SELECT value FROM kv WHERE key = ?", [key]).fetchone()
    return None if row is None else row[0]


# -- the module -------------------------------------------------------------------------------------


def python(code, tmp_path):
    root = Path(lsmdbm.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )


def test_globals_say_what_pep_249_asks_for():
    assert ("2.0", 1, "qmark") == (dbapi.apilevel, dbapi.threadsafety, dbapi.paramstyle)


def test_everything_public_is_there():
    assert [] == [name for name in dbapi.__all__ if not hasattr(dbapi, name)]


def test_the_reference_has_every_public_name():
    text = (ROOT / "docs/api.md").read_text("ascii")

    assert sorted(dbapi.__all__) == sorted(re.findall(r":: lsmdbm\.dbapi\.(\w+)", text))
    values = re.findall(r":: lsmdbm\.dbapi\.(\w+)\n   :value: (.*)", text)
    assert ["apilevel", "threadsafety", "paramstyle"] == [name for name, _ in values]
    assert all(ast.literal_eval(value) == getattr(dbapi, name) for name, value in values)


def test_without_apsw_the_import_names_the_extra(tmp_path):
    done = python("import sys; sys.modules['apsw'] = None; import lsmdbm.dbapi", tmp_path)

    assert "ImportError: lsmdbm.dbapi needs apsw: pip install 'lsmdbm[sql]'" == done.stderr.splitlines()[-1]


def test_importing_lsmdbm_imports_neither_dbapi_nor_apsw(tmp_path):
    done = python(
        "import lsmdbm, sys; print([n for n in sys.modules if 'apsw' in n or 'dbapi' in n])", tmp_path
    )

    assert "[]\n" == done.stdout


def test_exceptions_form_the_tree_of_pep_249():
    below_error = ["InterfaceError", "DatabaseError"]
    below_database = ERRORS[ERRORS.index("DataError") :]

    assert Exception is dbapi.Warning.__base__
    assert [dbapi.Error] * 2 == [getattr(dbapi, name).__base__ for name in below_error]
    assert [dbapi.DatabaseError] * 6 == [getattr(dbapi, name).__base__ for name in below_database]
    assert issubclass(dbapi.Error, lsmdbm.error)


@pytest.mark.parametrize("name", ERRORS)
def test_each_exception_is_an_attribute_of_connections(name):
    assert getattr(dbapi, name) is getattr(dbapi.Connection, name)


def test_constructors_make_what_can_be_stored():
    day = datetime.date(2024, 2, 29)
    moment = datetime.datetime(2024, 2, 29, 23, 59, 58)
    ticks = moment.timestamp()

    assert day == dbapi.Date(2024, 2, 29) == dbapi.DateFromTicks(ticks)
    assert moment == dbapi.Timestamp(2024, 2, 29, 23, 59, 58) == dbapi.TimestampFromTicks(ticks)
    assert datetime.time(23, 59, 58) == dbapi.Time(23, 59, 58) == dbapi.TimeFromTicks(ticks)
    assert b"\0\1" == dbapi.Binary(b"\0\1")


def test_dates_and_times_are_stored_as_text_that_sorts(cursor):
    given = [dbapi.Date(2024, 2, 29), dbapi.Timestamp(2024, 2, 29, 1, 2, 3), dbapi.Time(1, 2)]

    assert ("2024-02-29", "2024-02-29 01:02:03", "01:02:00") == cursor.execute(
        "SELECT ?, ?, ?", given
    ).fetchone()
    assert (366,) == cursor.execute("SELECT julianday(?) - julianday('2023-02-28')", given[:1]).fetchone()


def test_type_objects_are_what_a_description_shows(cursor):
    cursor.execute("CREATE TEMP TABLE t (a VARCHAR(20), b BLOB, c DECIMAL(5, 2), d TIMESTAMP, e, f BOOLEAN)")
    cursor.execute("SELECT * FROM t")

    kinds = [dbapi.STRING, dbapi.BINARY, dbapi.NUMBER, dbapi.DATETIME, None, dbapi.NUMBER]
    assert kinds == [column[1] for column in cursor.description]
    assert 5 == len({dbapi.STRING, dbapi.BINARY, dbapi.NUMBER, dbapi.DATETIME, dbapi.ROWID})


def test_an_expression_has_the_type_of_its_first_row(cursor):
    cursor.execute("SELECT 1 AS a, 'x', x'00', 2.5, NULL UNION ALL SELECT 2, 2, 2, 2, 2")

    kinds = [dbapi.NUMBER, dbapi.STRING, dbapi.BINARY, dbapi.NUMBER, None]
    assert kinds == [column[1] for column in cursor.description]
    assert "a" == cursor.description[0][0]
    assert [(1, "x", b"\0", 2.5, None), (2, 2, 2, 2, 2)] == cursor.fetchall()


# -- opening and closing ----------------------------------------------------------------------------


def test_connect_makes_a_database_that_is_the_mapping(connect, path):
    connection = connect(path)
    connection.cursor().executemany(INSERT, FRUIT)
    connection.commit()
    connection.close()

    with lsmdbm.open(path) as db:
        assert FRUIT == [*db.items()]


def test_a_connection_and_a_handle_of_one_process_share_the_database(fruit, path):
    with lsmdbm.open(path, "w") as db:
        assert b"red" == db["apple"]
        db["apple"] = "green"

    assert b"green" == value_of(fruit, "apple")


def test_options_reach_the_store(connect, path):
    with pytest.raises(TypeError, match="no_such_option"):
        connect(path, no_such_option=1)
    connection = connect(path, memtable_bytes=4096, autocommit=True)
    connection.cursor().executemany(INSERT, ((f"{n:05}", b"x" * 100) for n in range(100)))

    with lsmdbm.open(path, "r") as db:
        assert 0 < db.stats().tables


def test_what_cannot_be_opened_is_an_operational_error_with_its_cause(connect, path):
    with pytest.raises(dbapi.OperationalError) as caught:
        connect(path, "w")
    assert isinstance(caught.value.__cause__, lsmdbm.NotFoundError)
    with pytest.raises(dbapi.ProgrammingError) as caught:
        connect(path, "x")
    assert isinstance(caught.value.__cause__, lsmdbm.FlagError)


def test_after_close_everything_raises_a_second_close_too(fruit):
    cursor, rows = fruit.cursor(), fruit.cursor().execute("SELECT * FROM kv")
    fruit.close()

    for operation in (
        fruit.close,
        fruit.commit,
        fruit.rollback,
        fruit.cursor,
        fruit.__enter__,
        rows.fetchone,
        rows.fetchall,
        lambda: next(rows),
        lambda: cursor.execute("SELECT 1"),
        lambda: cursor.executemany(INSERT, FRUIT),
        lambda: cursor.setinputsizes([1]),
        lambda: cursor.setoutputsize(1),
        lambda: fruit.in_transaction,
        lambda: setattr(fruit, "autocommit", True),
    ):
        with pytest.raises(dbapi.ProgrammingError, match="closed"):
            operation()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_nothing_of_a_connection_can_be_copied_or_pickled(fruit, copied):
    cursor = fruit.cursor()
    cursor.execute("SELECT key FROM kv")
    for each in (fruit, cursor):
        with pytest.raises(TypeError, match="^a c[a-z ]+ cannot be pickled"):
            copied(each)
    gc.collect()

    assert 3 == len(cursor.fetchall())


def test_closing_without_a_commit_rolls_back(fruit, path):
    fruit.cursor().execute("DELETE FROM kv")
    fruit.close()

    with lsmdbm.open(path) as db:
        assert 3 == len(db)


def test_close_ends_cursors_that_are_being_read_and_gives_the_lock_back(fruit, path):
    cursor = fruit.cursor().execute("SELECT * FROM kv")
    assert FRUIT[0] == cursor.fetchone()
    fruit.close()

    lsmdbm.destroy(path)
    assert not Path(path).exists()


def test_a_forgotten_connection_warns_and_lets_go_of_everything(path):
    connection = dbapi.connect(path)
    connection.cursor().execute("INSERT INTO kv VALUES ('a', 'b')")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del connection
        gc.collect()

    assert [ResourceWarning] == [each.category for each in caught if "unclosed database" in str(each.message)]
    lsmdbm.destroy(path)  # nobody has it open


def test_a_with_block_commits_or_rolls_back_and_leaves_the_connection_open(fruit):
    with fruit as entered:
        entered.cursor().execute("INSERT INTO kv VALUES ('date', 'brown')")
    with pytest.raises(ZeroDivisionError), fruit:
        fruit.cursor().execute("DELETE FROM kv")
        raise ZeroDivisionError

    assert 4 == len(all_of(fruit))


def test_a_with_block_that_closes_and_fails_shows_its_own_error(fruit):
    with pytest.raises(ZeroDivisionError), fruit:
        fruit.close()
        raise ZeroDivisionError


# -- cursors ----------------------------------------------------------------------------------------


def test_a_query_describes_its_columns_even_without_rows(fruit):
    cursor = fruit.cursor()
    assert None is cursor.description

    for where in ("key > 'a'", "key > 'x'"):
        cursor.execute(f"SELECT key, value AS what FROM kv WHERE {where}")
        rest = (None,) * 5
        assert (("key", dbapi.BINARY, *rest), ("what", dbapi.BINARY, *rest)) == cursor.description
    cursor.execute("DELETE FROM kv")
    assert None is cursor.description


def test_rows_are_fetched_in_all_ways(fruit):
    cursor = fruit.cursor()
    query = "SELECT key FROM kv ORDER BY key"
    keys = [(key,) for key, _ in FRUIT]

    assert keys == cursor.execute(query).fetchall()
    assert [] == cursor.fetchall()
    assert keys == [*cursor.execute(query)]
    assert [*keys, None, None] == [cursor.execute(query).fetchone(), *(cursor.fetchone() for _ in range(4))]
    assert keys[:1] == cursor.execute(query).fetchmany()
    cursor.arraysize = 2
    assert [keys[1:], []] == [cursor.fetchmany(), cursor.fetchmany()]
    assert [keys[:1], keys[1:], []] == [
        cursor.execute(query).fetchmany(1),
        cursor.fetchmany(5),
        cursor.fetchmany(1),
    ]


def test_rownumber_is_the_index_of_the_next_row(fruit):
    cursor = fruit.cursor()
    assert None is cursor.rownumber
    cursor.execute("SELECT key, 1 FROM kv")

    numbers = [cursor.rownumber]
    for fetch in (cursor.fetchone, cursor.fetchmany, cursor.fetchall):
        fetch()
        numbers.append(cursor.rownumber)
    assert [0, 1, 2, 3] == numbers
    cursor.execute("DELETE FROM kv")
    assert None is cursor.rownumber


def test_fetching_without_a_result_set_raises(cursor):
    for statement in (None, "INSERT INTO kv VALUES ('a', 'b')"):
        if statement:
            cursor.execute(statement)
        for fetch in (cursor.fetchone, cursor.fetchmany, cursor.fetchall, lambda: next(cursor)):
            with pytest.raises(dbapi.Error):
                fetch()


def test_rowcount_counts_changes_and_knows_nothing_of_queries(fruit):
    cursor = fruit.cursor()
    counts = [cursor.rowcount]
    for statement in (
        "SELECT * FROM kv",
        "INSERT INTO kv VALUES ('d', ''), ('e', '')",
        "UPDATE kv SET value = 'x' WHERE key < 'c'",
        "INSERT OR IGNORE INTO kv VALUES ('e', 'again'), ('f', '')",
        "INSERT OR REPLACE INTO kv VALUES ('e', 'again'), ('g', '')",
        "WITH t(x) AS (SELECT 'h') INSERT INTO kv SELECT x, x FROM t",
        "DELETE FROM kv",
        "DELETE FROM kv",
        "CREATE TEMP TABLE t (x)",
    ):
        counts.append(cursor.execute(statement).rowcount)
    assert [-1, -1, 2, 2, 1, 2, 1, 8, 0, -1] == counts
    assert 3 == cursor.executemany(INSERT, FRUIT).rowcount


def test_rowcount_of_returning_is_known_at_its_end(cursor):
    cursor.execute("INSERT INTO kv VALUES ('a', '1'), ('b', '2') RETURNING key, length(value)")

    assert -1 == cursor.rowcount
    assert [("a", 1), ("b", 1)] == cursor.fetchall()
    assert 2 == cursor.rowcount


def test_a_commit_before_the_last_row_of_returning_fails_and_loses_nothing(connection):
    """The transaction of the store was rolled back, and that of SQLite was not."""
    cursor = connection.cursor().execute("INSERT INTO kv VALUES ('a', '1'), ('b', '2') RETURNING key")
    cursor.fetchone()
    with pytest.raises(dbapi.OperationalError, match="in progress"):
        connection.commit()

    assert connection.in_transaction
    assert [("b",)] == cursor.fetchall()
    connection.commit()
    assert [(b"a", b"1"), (b"b", b"2")] == all_of(connection)


def test_a_statement_that_fails_ends_the_rows_before(fruit):
    cursor = fruit.cursor()
    for statement in ("SELECT 1; SELECT 2", "SELEC", "CREATE INDEX i ON kv (key)", "VACUUM"):
        cursor.execute("SELECT * FROM kv")
        with pytest.raises(dbapi.Error):
            cursor.execute(statement)
        with pytest.raises(dbapi.ProgrammingError):
            cursor.fetchone()
        assert (None, None, -1) == (cursor.description, cursor.rownumber, cursor.rowcount)


def test_parameters_may_come_from_another_cursor_and_fail_as_they_do(fruit):
    cursor, other = fruit.cursor(), fruit.cursor()
    cursor.executemany(INSERT, ((key + b"2", value) for key, value in other.execute("SELECT * FROM kv")))
    assert 6 == len(all_of(fruit))

    def failing():
        yield "x", "y"
        raise RuntimeError("their own")

    with pytest.raises(RuntimeError, match="their own"):
        cursor.executemany(INSERT, failing())
    assert b"y" == value_of(fruit, "x")


def test_an_interrupt_between_parameters_goes_through_and_the_connection_goes_on(fruit):
    def interrupted():
        yield "x", "y"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fruit.cursor().executemany(INSERT, interrupted())
    assert b"y" == value_of(fruit, "x")
    fruit.rollback()
    assert FRUIT == all_of(fruit)


def test_a_connection_shows_its_database(connection, path):
    assert path in repr(connection)


def test_lastrowid_is_that_of_an_insert_into_a_table_with_rowids(cursor):
    cursor.execute("CREATE TEMP TABLE t (x)")
    found = [cursor.lastrowid]
    for statement in (
        "INSERT INTO t VALUES (1), (2)",
        "UPDATE t SET x = 3",
        "INSERT INTO kv VALUES ('a', '')",
    ):
        found.append(cursor.execute(statement).lastrowid)
    assert [None, 2, 2, None] == found


def test_execute_returns_the_cursor_and_forgets_the_rows_before(fruit):
    cursor = fruit.cursor()

    assert cursor is cursor.execute("SELECT * FROM kv") is cursor.setinputsizes([]) or cursor
    cursor.fetchone()
    cursor.execute("SELECT 7")
    assert [(7,)] == cursor.fetchall()


def test_parameters_are_given_by_position_or_by_name(cursor):
    assert (1, "x") == cursor.execute("SELECT ?, ?", (1, "x")).fetchone()
    assert (1, "x") == cursor.execute("SELECT :one, :two", {"one": 1, "two": "x"}).fetchone()


@pytest.mark.parametrize(
    ("statement", "parameters", "kind"),
    [
        ("SELECT * FROM nowhere", (), "ProgrammingError"),
        ("SELEC 1", (), "ProgrammingError"),
        ("SELECT ?", (), "ProgrammingError"),
        ("SELECT ?", (1, 2), "ProgrammingError"),
        ("SELECT ?", (object(),), "ProgrammingError"),
        ("SELECT ?", (1 << 64,), "DataError"),
        ("SELECT ?", ("\ud800",), "DataError"),
        ("SELECT ?", (memoryview(b"abcd")[::2],), "DataError"),
        ("SELECT :one", {"two": 2}, "ProgrammingError"),
        (5, (), "ProgrammingError"),
        (b"SELECT 1", (), "ProgrammingError"),
        ([], (), "ProgrammingError"),
        ("SELECT zeroblob(2147483647) || 'x'", (), "DataError"),
        ("INSERT INTO kv VALUES (NULL, 'x')", (), "IntegrityError"),
        ("INSERT INTO kv VALUES ('x', NULL)", (), "IntegrityError"),
        ("INSERT INTO kv VALUES ('apple', 'x')", (), "IntegrityError"),
        ("UPDATE kv SET key = 'apple' WHERE key = 'banana'", (), "IntegrityError"),
        ("INSERT INTO kv VALUES (1, 'x')", (), "DataError"),
        ("INSERT INTO kv VALUES ('x', 1.5)", (), "DataError"),
        ("INSERT INTO kv VALUES (zeroblob(65537), 'x')", (), "DataError"),
        ("UPDATE kv SET value = 1", (), "DataError"),
        ("COMMIT", (), "ProgrammingError"),
        ("ROLLBACK TO nowhere", (), "ProgrammingError"),
        ("CREATE TABLE t AS SELECT 1", (), "NotSupportedError"),
        ("CREATE TABLE t2 (x CHECK (x > 0)); DROP TABLE kv", (), "ProgrammingError"),
        ("CREATE INDEX i ON kv (value)", (), "NotSupportedError"),
        ("CREATE TRIGGER t AFTER INSERT ON kv BEGIN SELECT 1; SELECT 2; END", (), "NotSupportedError"),
        ("CREATE VIEW v AS SELECT 1", (), "NotSupportedError"),
        ("ATTACH 'other.db' AS other", (), "NotSupportedError"),
        ("VACUUM INTO 'other.db'", (), "NotSupportedError"),
        ("DROP TABLE kv", (), "ProgrammingError"),
        ("ALTER TABLE kv ADD COLUMN x", (), "ProgrammingError"),
        ("INSERT INTO kv VALUES ('a', 'b') ON CONFLICT DO UPDATE SET value = 'c'", (), "ProgrammingError"),
        ("INSERT INTO kv VALUES ('a', 'b') ON CONFLICT DO NOTHING", (), "ProgrammingError"),
        ("DELETE FROM kv RETURNING key", (), "ProgrammingError"),
        ("UPDATE kv SET value = '' RETURNING key", (), "ProgrammingError"),
        ("CREATE TEMP TRIGGER t AFTER INSERT ON kv BEGIN SELECT 1; END", (), "NotSupportedError"),
        ("VACUUM", (), "NotSupportedError"),
    ],
)
def test_a_statement_that_fails_says_so_in_the_right_class_and_changes_nothing(
    fruit, tmp_path, monkeypatch, statement, parameters, kind
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(dbapi.Error) as caught:
        fruit.cursor().execute(statement, parameters)

    assert getattr(dbapi, kind) is type(caught.value)
    assert FRUIT == all_of(fruit)
    assert ["db"] == [each.name for each in tmp_path.iterdir()]


@pytest.mark.parametrize("second", ["SELECT 2", "DELETE FROM kv", "garbage", "/* ; */ x"])
def test_only_one_statement_is_executed_at_a_time(fruit, second):
    with pytest.raises(dbapi.ProgrammingError, match="one statement"):
        fruit.cursor().execute(f"DELETE FROM kv WHERE key = ';'; {second}")

    assert FRUIT == all_of(fruit)


@pytest.mark.parametrize(
    "statement",
    ["SELECT ';', \"a;b\" FROM (SELECT 1 AS [a;b]) ; ", "SELECT 1, 2; ;-- ; x", "SELECT 1,2/*;*/;"],
)
def test_semicolons_that_end_nothing_are_no_second_statement(cursor, statement):
    assert 2 == len(cursor.execute(statement).fetchone())


@pytest.mark.parametrize("statement", ["", " -- nothing\n", ";"])
def test_an_empty_statement_does_nothing(cursor, statement):
    cursor.execute(statement)

    assert (None, -1) == (cursor.description, cursor.rowcount)


def test_executemany_is_for_statements_that_change_rows(cursor):
    for statement in ("SELECT ?", "WITH t(x) AS (SELECT ?) SELECT * FROM t", "CREATE TEMP TABLE t (x)"):
        with pytest.raises(dbapi.ProgrammingError):
            cursor.executemany(statement, [(1,)])

    cursor.executemany("WITH t(x) AS (SELECT ?) INSERT INTO kv SELECT x, x FROM t", [("a",), ("b",)])
    assert 2 == cursor.rowcount


def test_a_new_statement_ends_the_one_before_first(connect, path):
    """DROP TABLE by the cursor that had just read a row of it was "locked"."""
    connection = connect(path, autocommit=True)
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE t (x)")
    cursor.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
    assert (1,) == cursor.execute("SELECT x FROM t").fetchone()
    cursor.execute("DROP TABLE t")
    assert [] == cursor.execute("SELECT name FROM lsmdbm_tables").fetchall()


def test_a_new_statement_sees_the_tables_of_its_moment_where_rows_were_left(connect, path):
    """In autocommit, rows that were not fetched kept the tables of their moment for the next statement."""
    cursor = connect(path, autocommit=True).cursor()
    cursor.executemany(INSERT, FRUIT)
    cursor.execute("SELECT * FROM kv").fetchone()
    connect(path, autocommit=True).cursor().execute("CREATE TABLE t (x)")
    assert [] == cursor.execute("SELECT * FROM t").fetchall()


def test_a_number_of_rows_below_zero_is_an_error(fruit):
    with pytest.raises(dbapi.ProgrammingError, match="-1"):
        fruit.cursor().execute("SELECT * FROM kv").fetchmany(-1)


def test_closed_cursors_answer_with_an_error(fruit):
    cursor = fruit.cursor().execute("SELECT * FROM kv")
    cursor.close()
    cursor.close()

    for operation in (cursor.fetchone, lambda: cursor.execute("SELECT 1")):
        with pytest.raises(dbapi.ProgrammingError, match="closed"):
            operation()


# -- transactions -----------------------------------------------------------------------------------


def test_a_transaction_begins_by_itself_and_reads_its_own_writes(connect, path):
    one, other = connect(path), connect(path)
    one.cursor().execute("INSERT INTO kv VALUES ('a', '1')")

    assert one.in_transaction
    assert b"1" == value_of(one, "a")
    assert None is value_of(other, "a")
    one.commit()
    assert not one.in_transaction
    assert None is value_of(other, "a")  # its own transaction began before
    other.commit()
    assert b"1" == value_of(other, "a")


def test_rollback_forgets_and_without_a_transaction_nothing_happens(fruit):
    fruit.cursor().execute("DELETE FROM kv")
    fruit.rollback()
    fruit.rollback()
    fruit.commit()

    assert FRUIT == all_of(fruit)


def test_with_autocommit_each_statement_is_a_transaction(connect, path):
    one, other = connect(path, autocommit=True), connect(path, autocommit=True)
    one.cursor().executemany(INSERT, FRUIT)

    assert FRUIT == all_of(other)
    with pytest.raises(dbapi.IntegrityError):
        one.cursor().execute("INSERT INTO kv VALUES ('b', ''), ('apple', '')")
    assert FRUIT == all_of(other)
    one.cursor().execute("BEGIN")
    one.cursor().execute("DELETE FROM kv")
    assert FRUIT == all_of(other)
    one.cursor().execute("COMMIT")
    assert [] == all_of(other)


def test_or_fail_keeps_the_rows_before_the_failure_in_autocommit_too(connect, path):
    for autocommit in (True, False):
        connection = connect(path, "n", autocommit=autocommit)
        with pytest.raises(dbapi.IntegrityError):
            connection.cursor().execute("INSERT OR FAIL INTO kv VALUES ('a', ''), ('a', ''), ('b', '')")
        connection.commit()
        assert [(b"a", b"")] == all_of(connection)
        connection.close()


def test_setting_autocommit_commits(connect, path):
    one, other = connect(path), connect(path, autocommit=True)
    one.cursor().execute("INSERT INTO kv VALUES ('a', '1')")
    one.autocommit = True

    assert b"1" == value_of(other, "a")
    assert one.autocommit


def test_a_conflict_is_an_operational_error_and_the_transaction_is_over(fruit, connect, path):
    other = connect(path)
    for connection in (fruit, other):
        connection.cursor().execute("UPDATE kv SET value = value || 'x' WHERE key = 'apple'")
    other.commit()

    with pytest.raises(dbapi.OperationalError) as caught:
        fruit.commit()
    assert isinstance(caught.value.__cause__, lsmdbm.ConflictError)
    assert not fruit.in_transaction
    assert b"redx" == value_of(fruit, "apple")
    fruit.cursor().execute("UPDATE kv SET value = value || 'y' WHERE key = 'apple'")
    fruit.commit()
    other.rollback()
    assert b"redxy" == value_of(other, "apple")


def test_a_conflict_fails_the_commit_that_sql_or_autocommit_asks_for(fruit, connect, path):
    other = connect(path, autocommit=True)
    fruit.cursor().execute("SELECT count(*) FROM kv").fetchall()
    fruit.cursor().execute("INSERT INTO kv VALUES ('log', '3')")
    other.cursor().execute("DELETE FROM kv WHERE key = 'apple'")

    with pytest.raises(dbapi.OperationalError):
        fruit.cursor().execute("COMMIT")
    assert FRUIT[1:] == all_of(fruit)


def test_transactions_that_touch_different_rows_do_not_conflict(fruit, connect, path):
    other = connect(path)
    fruit.cursor().execute("UPDATE kv SET value = 'x' WHERE key = 'apple'")
    other.cursor().execute("UPDATE kv SET value = 'y' WHERE key >= 'b' AND key < 'c'")
    other.commit()
    fruit.commit()

    other.rollback()
    assert [(b"apple", b"x"), (b"banana", b"y"), FRUIT[2]] == all_of(other)


def test_a_row_that_a_limit_has_not_reached_was_not_read(fruit, connect, path):
    other = connect(path, autocommit=True)
    fruit.cursor().execute("SELECT * FROM kv ORDER BY key LIMIT 1").fetchall()
    fruit.cursor().execute("INSERT INTO kv VALUES ('log', '')")
    other.cursor().execute("DELETE FROM kv WHERE key = 'cherry'")
    fruit.commit()

    assert [b"apple", b"banana", b"log"] == [key for key, _ in all_of(other)]


def test_savepoints_of_sql_nest(fruit):
    cursor = fruit.cursor()
    for statement in (
        "SAVEPOINT one",
        "DELETE FROM kv WHERE key = 'apple'",
        "SAVEPOINT two",
        "INSERT INTO kv VALUES ('x', ''), ('y', '')",
        "ROLLBACK TO two",
        "INSERT INTO kv VALUES ('z', '')",
        "RELEASE two",
    ):
        cursor.execute(statement)
    assert [b"banana", b"cherry", b"z"] == [key for key, _ in all_of(fruit)]
    cursor.execute("ROLLBACK TO one")
    assert FRUIT == all_of(fruit)
    cursor.execute("RELEASE one")
    assert not fruit.in_transaction


def test_the_savepoint_that_opened_a_transaction_commits_it(connect, path):
    one, other = connect(path), connect(path, autocommit=True)
    for statement in ("SAVEPOINT s", "INSERT INTO kv VALUES ('a', '1')", "RELEASE s"):
        assert None is value_of(other, "a")
        one.cursor().execute(statement)
    assert b"1" == value_of(other, "a")


def test_a_savepoint_from_before_the_first_write_undoes_what_an_inner_one_has_released(fruit):
    """SQLite tells a table that has not written yet of the innermost savepoint alone."""
    cursor = fruit.cursor()
    for statement in (
        "BEGIN",
        "SAVEPOINT a",
        "SAVEPOINT b",
        "SAVEPOINT c",
        "DELETE FROM kv WHERE key = 'apple'",
        "RELEASE c",
        "RELEASE b",
        "ROLLBACK TO a",
    ):
        cursor.execute(statement)
    assert FRUIT == all_of(fruit)


def test_a_statement_that_fails_inside_a_transaction_is_undone_as_a_whole(fruit):
    cursor = fruit.cursor()
    cursor.execute("INSERT INTO kv VALUES ('first', '')")
    cursor.execute("SAVEPOINT s")
    for statement in (
        "INSERT INTO kv VALUES ('x', ''), ('y', ''), ('apple', '')",
        "UPDATE kv SET key = 'same'",
        "UPDATE kv SET value = CASE WHEN key < x'66' THEN 'x' END",
        "INSERT INTO kv SELECT key || 'x', abs(-9223372036854775807 - (key > x'62')) || '' FROM kv",
    ):
        with pytest.raises(dbapi.DatabaseError):
            cursor.execute(statement)
    cursor.execute("RELEASE s")
    assert [*FRUIT, (b"first", b"")] == all_of(fruit)


def test_or_rollback_rolls_the_transaction_back(fruit):
    cursor = fruit.cursor()
    cursor.execute("DELETE FROM kv WHERE key = 'cherry'")
    with pytest.raises(dbapi.IntegrityError):
        cursor.execute("INSERT OR ROLLBACK INTO kv VALUES ('x', ''), ('apple', '')")

    assert not fruit.in_transaction
    assert FRUIT == all_of(fruit)


def test_rows_go_on_as_they_were_through_writes_commits_and_rollbacks(connect, path):
    connection = connect(path)
    rows = [(b"%05d" % number, b"") for number in range(5000)]
    connection.cursor().executemany(INSERT, rows)
    connection.commit()
    reading = [connection.cursor().execute("SELECT * FROM kv") for _ in range(3)]
    begun = [cursor.fetchone() for cursor in reading]
    connection.cursor().execute("DELETE FROM kv")
    second = connection.cursor().execute("SELECT * FROM kv")

    assert rows == [*begun[:1], *reading[0]]
    connection.commit()
    assert rows == [*begun[:1], *reading[1]]
    connection.rollback()
    assert rows == [*begun[:1], *reading[2]]
    assert [] == second.fetchall()


def test_reading_ends_with_its_statement_in_autocommit(connect, path):
    connection = connect(path, autocommit=True)
    connection.cursor().executemany(INSERT, FRUIT)
    with lsmdbm.open(path) as db:
        cursor = connection.cursor().execute("SELECT * FROM kv")
        cursor.fetchone()
        assert 1 == db.stats().snapshots
        cursor.fetchall()
        assert 0 == db.stats().snapshots
        connection.autocommit = False
        cursor.execute("SELECT * FROM kv").fetchall()
        assert 1 == db.stats().snapshots
        connection.commit()
        assert 0 == db.stats().snapshots


def test_a_read_only_connection_reads_the_newest_state_at_each_begin(connect, path):
    with lsmdbm.open(path, "c") as db:
        db.update(dict(FRUIT))
    reader = connect(path, "r")

    assert FRUIT == all_of(reader)
    with lsmdbm.open(path, "w") as db:
        db["apple"] = "green"
    assert b"red" == value_of(reader, "apple")
    reader.commit()
    assert b"green" == value_of(reader, "apple")


def test_writing_through_a_read_only_connection_is_an_operational_error(connect, path):
    with lsmdbm.open(path, "c") as db:
        db.update(dict(FRUIT))
    reader = connect(path, "r")

    for statement in ("INSERT INTO kv VALUES ('a', '')", "DELETE FROM kv", "UPDATE kv SET value = ''"):
        with pytest.raises(dbapi.OperationalError) as caught:
            reader.cursor().execute(statement)
        assert isinstance(caught.value.__cause__, lsmdbm.ReadOnlyError)
    reader.rollback()
    reader.cursor().execute("CREATE TEMP TABLE t AS SELECT * FROM kv")
    assert FRUIT == reader.cursor().execute("SELECT * FROM t").fetchall()


def test_temporary_tables_are_there_until_the_connection_ends(fruit, connect, path):
    fruit.cursor().execute("CREATE TEMP TABLE seen AS SELECT key FROM kv")
    fruit.commit()

    assert (3,) == fruit.cursor().execute("SELECT count(*) FROM seen JOIN kv USING (key)").fetchone()
    fruit.cursor().execute("CREATE TEMP VIEW view AS SELECT max(key) FROM seen")
    assert (b"cherry",) == fruit.cursor().execute("SELECT * FROM view").fetchone()
    for name in ("seen", "view"):
        with pytest.raises(dbapi.ProgrammingError):
            connect(path).cursor().execute(f"SELECT * FROM {name}")


def test_a_temporary_table_may_have_what_other_tables_may_not(cursor):
    cursor.execute(
        "CREATE TEMP TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT COLLATE NOCASE UNIQUE ON CONFLICT"
        " IGNORE, b INT CHECK (b > 0) REFERENCES t (id), c INT GENERATED ALWAYS AS (b + 1) STORED) STRICT"
    )
    cursor.execute("INSERT INTO t (a, b) VALUES ('x', 1), ('X', 1)")
    assert [(1, "x", 1, 2)] == cursor.execute("SELECT * FROM t").fetchall()
    with pytest.raises(dbapi.IntegrityError):
        cursor.execute("INSERT INTO t (a, b) VALUES ('y', 0)")


def test_threads_that_have_connections_of_their_own_lose_no_update(connect, path):
    connect(path).cursor().connection.close()
    failures, conflicts, rounds = [], [], 40

    def work(_):
        try:
            connection = dbapi.connect(path)
            done = 0
            while done < rounds:
                try:
                    with connection:
                        found = value_of(connection, "n")
                        put = "INSERT OR REPLACE INTO kv VALUES ('n', ?)"
                        connection.cursor().execute(put, [str(int(found or b"0") + 1)])
                    done += 1
                except dbapi.OperationalError as exc:
                    conflicts.append(exc)
            connection.close()
        except BaseException as exc:
            failures.append(exc)

    in_threads(work, range(4))
    assert [] == failures
    assert {lsmdbm.ConflictError} >= {type(exc.__cause__) for exc in conflicts}
    with lsmdbm.open(path) as db:
        assert b"160" == db["n"]
