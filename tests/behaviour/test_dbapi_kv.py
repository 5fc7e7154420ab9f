"""The table kv is the whole store: what is pushed down to it, and that answers are SQLite's own."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm._base.os_file import OsFile
from support import sql
from support.budgets import Budget
from support.sql import all_of, plan

dbapi = sql.module()

INSERT = "INSERT INTO kv VALUES (?, ?)"
COUNT = 20_000  # rows of a database that is read from disk
FRUIT = [(b"apple", b"red"), (b"banana", b"yellow"), (b"cherry", b"dark red")]


@pytest.fixture
def connection(path):
    connection = dbapi.connect(path)
    yield connection
    connection.close()


@pytest.fixture
def fruit(connection):
    connection.cursor().executemany(INSERT, FRUIT)
    connection.commit()
    return connection


def rows(connection, statement, parameters=()):
    return connection.cursor().execute(statement, parameters).fetchall()


# -- the mapping, all bytes of it -------------------------------------------------------------------


def test_all_bytes_go_in_and_come_out(connection, path, seed):
    rng = random.Random(f"{seed} all bytes")
    entries = {rng.randbytes(rng.randrange(6)): rng.randbytes(rng.randrange(6)) for _ in range(500)}
    entries |= {b"": b"", b"\0": b"\0", b"\xff" * 3: b"\0\xff", bytes(range(256)): bytes(range(256))}
    connection.cursor().executemany(INSERT, entries.items())
    connection.commit()

    assert sorted(entries.items()) == all_of(connection)
    with lsmdbm.open(path) as db:
        assert entries == dict(db)


def test_text_is_stored_as_its_utf_8_and_comes_out_as_bytes(fruit):
    fruit.cursor().execute("INSERT INTO kv VALUES ('k\u00fcche', '\u20ac')")

    assert [("k\u00fcche".encode(), "\u20ac".encode())] == rows(
        fruit, "SELECT * FROM kv WHERE key = 'k\u00fcche'"
    )
    assert [("blob", "blob")] == rows(fruit, "SELECT DISTINCT typeof(key), typeof(value) FROM kv")


def test_a_key_moves_with_its_value(fruit):
    fruit.cursor().execute("UPDATE kv SET key = 'fig' WHERE key = 'banana'")

    assert [FRUIT[0], FRUIT[2], (b"fig", b"yellow")] == all_of(fruit)


def test_an_update_that_moves_rows_ahead_of_itself_meets_each_once(fruit):
    assert 3 == fruit.cursor().execute("UPDATE kv SET key = 'x' || key WHERE key > 'a'").rowcount
    assert [(b"x" + key, value) for key, value in FRUIT] == all_of(fruit)


def test_a_row_that_or_replace_has_replaced_is_not_updated_with_its_old_value(fruit):
    """SQLite collects the rows of an UPDATE first, and handed on values from before they were replaced."""
    cursor = fruit.cursor()
    cursor.execute("UPDATE OR REPLACE kv SET key = 'banana' WHERE key < x'63'")

    assert 2 == cursor.rowcount
    assert [(b"banana", b"red"), FRUIT[2]] == all_of(fruit)


def test_a_table_can_be_filled_from_itself(fruit):
    fruit.cursor().execute("INSERT INTO kv SELECT key || '2', value FROM kv WHERE key IN ('apple', 'cherry')")

    assert [b"apple", b"apple2", b"banana", b"cherry", b"cherry2"] == [key for key, _ in all_of(fruit)]


def test_conflicting_keys_are_replaced_or_ignored_as_the_statement_says(fruit):
    cursor = fruit.cursor()
    cursor.execute("REPLACE INTO kv VALUES ('apple', 'green')")
    cursor.execute("INSERT OR IGNORE INTO kv VALUES ('apple', 'blue'), ('date', 'brown')")
    cursor.execute("UPDATE OR IGNORE kv SET key = 'apple' WHERE key = 'banana'")
    assert 0 == cursor.rowcount
    cursor.execute("UPDATE OR REPLACE kv SET key = 'banana' WHERE key = 'cherry'")

    assert [(b"apple", b"green"), (b"banana", b"dark red"), (b"date", b"brown")] == all_of(fruit)


def test_values_are_read_by_the_functions_of_sqlite(connection):
    connection.cursor().executemany(INSERT, [("ann", '{"age": 30}'), ("bob", '{"age": 40}')])

    query = "SELECT sum(CAST(value AS TEXT) ->> 'age'), group_concat(CAST(key AS TEXT), '+') FROM kv"
    assert [(70, "ann+bob")] == rows(connection, query)


def test_like_and_glob_are_false_for_keys_and_startswith_is_there_instead(fruit):
    for term in ("key LIKE 'a%'", "key GLOB 'a*'", "key LIKE '%' AND key > 'a'"):
        assert [] == rows(fruit, f"SELECT * FROM kv WHERE {term}")
    assert [(1, 0, None)] == rows(
        fruit, "SELECT startswith(value, 'r'), startswith(key, x'62'), startswith(key, NULL) FROM kv LIMIT 1"
    )
    assert FRUIT[:1] == rows(fruit, "SELECT * FROM kv WHERE startswith(key, 'app')")


def test_no_file_of_sqlite_is_open(fruit):
    assert {""} == {file for *_, file in rows(fruit, "PRAGMA database_list")}


# -- what is pushed down ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("SELECT * FROM kv", "all keys"),
        ("SELECT key FROM kv", "all keys, keys only"),
        ("SELECT count(*) FROM kv", "all keys, keys only"),
        ("SELECT * FROM kv WHERE key >= 'b' AND key < 'c' ORDER BY key", "key>=? and key<?"),
        ("SELECT * FROM kv WHERE key > 'b' ORDER BY key DESC, value LIMIT 2", "key>?, descending"),
        ("SELECT * FROM kv WHERE key BETWEEN 'b' AND 'c' AND value > ''", "key>=? and key<=?"),
        ("SELECT * FROM kv WHERE key = 'b'", "key=?"),
        ("SELECT * FROM kv WHERE key IS 'b'", "key IS ?"),
        ("SELECT key FROM kv WHERE key IN ('b', 'c') ORDER BY key DESC", "key IN ?, descending, keys only"),
        ("SELECT * FROM kv WHERE startswith(key, 'b') ORDER BY key", "startswith(key,?)"),
        ("SELECT max(key) FROM kv", "all keys, descending, keys only"),
        ("SELECT min(key) FROM kv WHERE key > 'b'", "key>?, keys only"),
        ("SELECT * FROM kv WHERE key = 'B' COLLATE NOCASE", "all keys"),
        ("SELECT * FROM kv WHERE key LIKE 'b%'", "all keys"),
        ("SELECT * FROM kv WHERE value = x'62'", "all keys"),
        ("SELECT * FROM kv WHERE startswith(value, 'b')", "all keys"),
        ("DELETE FROM kv WHERE key > 'b'", "key>?, keys only"),
        ("UPDATE kv SET value = '' WHERE key > 'b'", "key>?"),
    ],
)
def test_the_plan_says_what_is_read(fruit, query, text):
    (detail,) = plan(fruit, query)
    assert f"kv VIRTUAL TABLE INDEX 0:{text}" == detail.partition(" ")[2]


def test_a_join_on_the_key_looks_up_one_key_for_each_row(fruit):
    fruit.cursor().execute("CREATE TEMP TABLE t AS SELECT 'apple' AS name UNION SELECT 'cherry'")
    query = "SELECT name, value FROM t JOIN kv ON key = name ORDER BY +name"

    assert ["SCAN t", "SCAN kv VIRTUAL TABLE INDEX 0:key=?"] == plan(fruit, query)[:2]
    assert [("apple", b"red"), ("cherry", b"dark red")] == rows(fruit, query)


def test_rows_of_two_looks_are_not_told_twice(fruit):
    query = "SELECT key FROM kv WHERE key = 'apple' OR key >= 'a' AND key < 'b' OR key > 'c'"

    assert "MULTI-INDEX OR" in plan(fruit, query)
    assert [b"apple", b"cherry"] == sorted(key for (key,) in rows(fruit, query))


class Disk:
    """How many blocks of some 4 KiB the storage has read; a scan reads several at once."""

    def __init__(self, monkeypatch):
        self.reads = 0
        pread = OsFile.pread

        def count(file, length, offset):
            self.reads += max(1, length // 4096)
            return pread(file, length, offset)

        monkeypatch.setattr(OsFile, "pread", count)

    def of(self, work):
        """Return how many blocks a piece of work reads."""
        before = self.reads
        work()
        return self.reads - before


@pytest.fixture
def large(path, monkeypatch):
    """A connection to some MiB in tables, nothing of which is cached; and what counts the reads."""
    with lsmdbm.open(path, "n", compression=None) as db:
        db.update((b"%06d" % number, b"%0200d" % number) for number in range(COUNT))
        db.compact()
    connection = dbapi.connect(path, cache_bytes=0, autocommit=True)
    disk = Disk(monkeypatch)
    rows(connection, "SELECT value FROM kv WHERE key IN ('000000', '010000', '019999')")  # opens the tables
    yield connection, disk
    connection.close()


@pytest.mark.parametrize(
    ("query", "most"),
    [
        ("SELECT * FROM kv WHERE key = '012345'", 2),
        ("SELECT * FROM kv WHERE key IN ('012345', '000001', '019000')", 6),
        ("SELECT * FROM kv WHERE key >= '012345' AND key < '012350'", 6),
        ("SELECT * FROM kv WHERE startswith(key, '01234')", 6),
        ("SELECT * FROM kv WHERE key > '012345' ORDER BY key LIMIT 3", 6),
        ("SELECT * FROM kv WHERE key < '012345' ORDER BY key DESC LIMIT 3", 6),
        ("SELECT * FROM kv LIMIT 3", 6),
        ("SELECT max(key) FROM kv", 6),
        ("SELECT min(key) FROM kv WHERE key > '012345'", 6),
        ("UPDATE kv SET value = 'x' WHERE key BETWEEN '012345' AND '012347'", 10),
        ("DELETE FROM kv WHERE key BETWEEN '012345' AND '012347'", 10),
        ("SELECT * FROM kv WHERE key < 5", 0),
        ("SELECT * FROM kv WHERE key > NULL", 0),
        ("SELECT * FROM kv WHERE key > 'b' AND key < 'a'", 0),
    ],
)
def test_a_push_down_reads_few_blocks(large, query, most):
    connection, disk = large
    whole = disk.of(lambda: rows(connection, "SELECT * FROM kv"))
    cursor = connection.cursor()

    assert 300 < whole
    assert most >= disk.of(
        lambda: [*cursor.execute(query)] if query.startswith("SELECT") else cursor.execute(query)
    )


def test_keys_in_one_block_are_read_together(path, monkeypatch):
    keys = [b"%06d" % number for number in range(340, 350)]
    query = f"SELECT key FROM kv WHERE length(value) > 0 AND key IN ({', '.join('?' * len(keys))})"
    with lsmdbm.open(path, "n", compression=None) as db:
        db.update((b"%06d" % number, b"%0200d" % number) for number in range(1000))
        db.flush()
    with closing(dbapi.connect(path)) as connection:
        rows(connection, "SELECT value FROM kv WHERE key = '000000'")  # opens the table
        disk, found = Disk(monkeypatch), []

        assert disk.of(lambda: found.extend(rows(connection, query, keys))) in (1, 2)
    assert [(key,) for key in keys] == found


def test_counting_reads_keys_only(path, monkeypatch):
    """Keys and values of a block are apart on disk: what is counted is bytes."""
    with lsmdbm.open(path, "n", compression=None) as db:
        db.update((b"%06d" % number, b"%0200d" % number) for number in range(COUNT))
        db.compact()
    lengths = []
    pread = OsFile.pread

    def note(file, length, offset):
        lengths.append(length)
        return pread(file, length, offset)

    monkeypatch.setattr(OsFile, "pread", note)
    read = {}
    for query in ("SELECT count(*) FROM kv", "SELECT sum(length(value)) FROM kv"):
        connection = dbapi.connect(path, cache_bytes=0)
        lengths.clear()
        rows(connection, query)
        read[query] = sum(lengths)
        connection.close()
    of_keys, of_all = read.values()
    assert of_keys < of_all / 4


def test_rows_of_many_blocks_come_in_both_orders(large):
    connection, _ = large
    keys = [b"%06d" % number for number in range(COUNT)]

    for query, expected in (
        ("SELECT key FROM kv ORDER BY key DESC", keys[::-1]),
        ("SELECT key FROM kv WHERE key BETWEEN '000100' AND '015000' ORDER BY key", keys[100:15001]),
        ("SELECT key FROM kv WHERE key <= '015000' ORDER BY key DESC LIMIT 5000", keys[15000:10000:-1]),
    ):
        assert expected == [key for (key,) in rows(connection, query)]
    found = rows(connection, "SELECT * FROM kv WHERE key < '010000' ORDER BY key DESC")
    assert [(b"%06d" % number, b"%0200d" % number) for number in range(9999, -1, -1)] == found


def test_rows_are_read_as_they_are_fetched(large):
    connection, disk = large
    cursor = connection.cursor()

    assert 6 >= disk.of(lambda: cursor.execute("SELECT * FROM kv").fetchmany(5))
    assert 300 < disk.of(cursor.fetchall)


def test_a_join_reads_what_its_rows_ask_for(large):
    connection, disk = large
    connection.cursor().execute("CREATE TEMP TABLE t AS SELECT '012345' AS name UNION SELECT '000007'")

    assert 6 >= disk.of(lambda: rows(connection, "SELECT value FROM t CROSS JOIN kv ON key = name"))


# -- what can fail ----------------------------------------------------------------------------------


def test_damage_comes_out_of_the_statement_that_meets_it(path):
    with lsmdbm.open(path, "n", compression=None) as db:
        db.update((b"%06d" % number, b"%0200d" % number) for number in range(COUNT))
        db.compact()
    table = max(Path(path).glob("*.sst"))
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(data)
    with closing(dbapi.connect(path)) as connection:
        cursor = connection.cursor().execute("SELECT * FROM kv")
        begin = cursor.fetchmany(100)
        for fetch in (cursor.fetchall, lambda: [*connection.cursor().execute("SELECT * FROM kv")]):
            with pytest.raises(dbapi.OperationalError) as caught:
                fetch()
            assert isinstance(caught.value.__cause__, lsmdbm.CorruptionError)
        assert begin == rows(connection, "SELECT * FROM kv LIMIT 100")


# -- as SQLite answers ------------------------------------------------------------------------------


ALPHABET = [b"", b"a", b"b", b"ab", b"ba", b"a\0", b"a\xff", b"\xff", b"\xff\xff", b"abc", b"5", b"b\0b"]


class Beside:
    """kv, and the same table of SQLite itself, to which text goes as a BLOB: all that differs."""

    def __init__(self, connection):
        self.ours = connection.cursor()
        self.theirs = sqlite3.connect(":memory:", isolation_level=None).cursor()
        create = "CREATE TABLE kv (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID"
        self.theirs.execute(create)
        starts = lambda data, prefix: None if prefix is None else int(data.startswith(prefix))  # noqa: E731
        self.theirs.connection.create_function("startswith", 2, starts)

    def close(self):
        self.theirs.connection.close()

    def both(self, statement, values=()):
        """Execute it on both, and return the answers: rows, or that it was an error."""
        found = []
        for cursor, given in (
            (self.ours, values),
            (self.theirs, [value.encode() if isinstance(value, str) else value for value in values]),
        ):
            try:
                cursor.execute(statement, given)
                found.append(cursor.fetchall() if cursor.description else cursor.rowcount)
            except (dbapi.DatabaseError, sqlite3.DatabaseError) as exc:
                found.append(type(exc).__name__)
        return found


@pytest.fixture
def beside(connection):
    beside = Beside(connection)
    yield beside
    beside.close()


def test_text_is_text_where_sqlite_compares_it_itself(fruit):
    """It does so in results, and where an equation makes a constant of the key: BLOBs are meant there."""
    assert [(0, 1)] == rows(fruit, "SELECT key = 'apple', key = x'6170706c65' FROM kv WHERE key = 'apple'")
    assert [] == rows(fruit, "SELECT * FROM kv WHERE key = x'6170706c65' AND key < 'b'")
    assert FRUIT[:1] == rows(fruit, "SELECT * FROM kv WHERE key = x'6170706c65' AND key < x'62'")


def value(rng):
    drawn = rng.random()
    if drawn < 0.1:
        return rng.choice([None, 5, -1.5, 1 << 40])
    data = rng.choice(ALPHABET)
    return data.decode() if drawn < 0.4 and data.isascii() else data


def condition(rng, values):
    form = rng.choice(
        ["key {} ?"] * 5 + ["key IN (?, ?, ?)", "key BETWEEN ? AND ?", "startswith(key, ?)", "key IS ?"]
    )
    if form == "startswith(key, ?)":  # of SQLite it has to be a function of two BLOBs
        values.append(rng.choice([None, *ALPHABET]))
        return form
    values.extend(value(rng) for _ in range(form.count("?")))
    return form.format(rng.choice(["=", "<", "<=", ">", ">="]))


def where(rng, values):
    """Return conditions.  A text is its UTF-8 where kv compares it, which SQLite leaves not always to it."""
    terms = [condition(rng, values) for _ in range(rng.randrange(4))]
    joint = rng.choice([" AND ", " AND ", " OR "])
    if len(terms) > 1 and (joint == " OR " or any(term in ("key = ?", "key IS ?") for term in terms)):
        values[:] = [each.encode() if isinstance(each, str) else each for each in values]
    return f" WHERE {joint.join(terms)}" if terms else ""


def query(rng):
    """Return a query whose answer has an order, and its parameters."""
    values = []
    text = where(rng, values)
    what = rng.choice(
        ["*", "key", "value, key", "count(*)", "max(key)", "min(key), max(key)", "DISTINCT key"]
    )
    if "(" in what:
        return f"SELECT {what} FROM kv{text}", values
    order = rng.choice(["key", "key DESC", "key, value", "key DESC, value DESC", "value DESC, key"])
    limit = rng.choice(["", " LIMIT 3", " LIMIT 2 OFFSET 1"])
    return f"SELECT {what} FROM kv{text} ORDER BY {order}{limit}", values


def test_queries_are_answered_as_sqlite_answers_them(beside, seed):
    with Budget("SQLQUERIES", small=400, default=2000, crash=20_000, long=200_000, unit="queries") as reach:
        for case in reach:
            rng = random.Random(case)
            beside.both("DELETE FROM kv")
            for key in rng.sample(ALPHABET, rng.randrange(len(ALPHABET))):
                beside.both(INSERT, [key, rng.choice(ALPHABET)])
            for _ in range(50):
                statement, values = query(rng)
                ours, theirs = beside.both(statement, values)
                assert (statement, values, theirs) == (statement, values, ours)
                reach.count()


def step(rng, savepoints):
    """Return a statement that changes rows, or begins or ends something, and its parameters."""
    values = []
    drawn = rng.random()
    if drawn < 0.35:
        name = rng.choice(["SAVEPOINT", "RELEASE", "ROLLBACK TO", "BEGIN", "COMMIT", "ROLLBACK"])
        if name in ("BEGIN", "COMMIT", "ROLLBACK"):
            return name, []
        return f"{name} {rng.choice(savepoints)}", []
    how = rng.choice(["", "", " OR REPLACE", " OR IGNORE", " OR FAIL", " OR ABORT", " OR ROLLBACK"])
    if drawn < 0.75:
        count = rng.choice([1, 1, 2, 3])
        values = [rng.choice(ALPHABET) for _ in range(2 * count)]
        return f"INSERT{how} INTO kv VALUES {', '.join(['(?, ?)'] * count)}", values
    if drawn < 0.9:
        change = rng.choice(["value = ?", "key = ?"])
        values.append(rng.choice(ALPHABET))
        condition = f" WHERE key {rng.choice(['=', '<', '>'])} ?"
        values.append(rng.choice(ALPHABET))
        return f"UPDATE{how} kv SET {change}{condition}", values
    return f"DELETE FROM kv{where(rng, values)}", values


def test_changes_transactions_and_savepoints_are_those_of_sqlite(path, seed):
    with Budget(
        "SQLCHANGES", small=1500, default=6000, crash=60_000, long=600_000, unit="statements"
    ) as reach:
        for case in reach:
            rng = random.Random(case)
            connection = dbapi.connect(path, "n", autocommit=True)
            beside = Beside(connection)
            history = []
            for _ in range(60):
                statement, values = step(rng, ["one", "two", "three"])
                history.append((statement, values))
                ours, theirs = beside.both(statement, values)
                is_failed = isinstance(ours, str)
                assert is_failed == isinstance(theirs, str), (history, ours, theirs)
                assert is_failed or ours == theirs or "FROM" not in statement, (history, ours, theirs)
                assert beside.theirs.connection.in_transaction == connection.in_transaction, history
                ours, theirs = beside.both("SELECT * FROM kv ORDER BY key")
                assert theirs == ours, history
                reach.count()
            beside.close()
            connection.close()
