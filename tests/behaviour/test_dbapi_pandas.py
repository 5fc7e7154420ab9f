"""pandas reads a connection, and writes to it."""

import pytest

from support import sql

dbapi = sql.module()
pandas = sql.suite("pandas")

UNTESTED = "pandas only supports SQLAlchemy"  # said of every module of PEP 249 but sqlite3


@pytest.fixture
def connection(path):
    connection = dbapi.connect(path)
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE fruit (id INTEGER PRIMARY KEY, name TEXT, weight REAL, note)")
    rows = [(1, "apple", 120.5, None), (2, "pear", None, b"\xff"), (3, "plum", 30.0, "ripe")]
    cursor.executemany("INSERT INTO fruit VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    yield connection
    connection.close()


def test_read_sql_query_gives_a_frame(connection):
    with pytest.warns(UserWarning, match=UNTESTED):
        frame = pandas.read_sql_query(
            "SELECT * FROM fruit WHERE id >= ? ORDER BY id", connection, params=(2,), index_col="id"
        )

    assert ["name", "weight", "note"] == [*frame.columns]
    assert [2, 3] == [*frame.index]
    assert ["pear", "plum"] == [*frame["name"]]
    assert [True, False] == [*frame["weight"].isna()]
    assert [b"\xff", "ripe"] == [*frame["note"]]


def test_read_sql_query_comes_in_pieces(connection):
    with pytest.warns(UserWarning, match=UNTESTED):
        frames = [*pandas.read_sql_query("SELECT id FROM fruit", connection, chunksize=2)]

    assert [[1, 2], [3]] == [[*frame["id"]] for frame in frames]


def test_to_sql_with_an_index_is_refused_and_leaves_nothing(connection):
    frame = pandas.DataFrame({"name": ["apple", "pear"]})
    with pytest.warns(UserWarning, match=UNTESTED), pytest.raises(dbapi.NotSupportedError):
        frame.to_sql("prices", connection)

    assert [("fruit",)] == connection.cursor().execute("SELECT name FROM lsmdbm_tables").fetchall()


def test_to_sql_makes_a_table_and_adds_to_it(connection):
    frame = pandas.DataFrame({"name": ["apple", "pear"], "price": [2.5, 3.0]})
    for outcome in ("fail", "append"):
        with pytest.warns(UserWarning, match=UNTESTED):
            frame.to_sql("prices", connection, index=False, if_exists=outcome)

    found = connection.cursor().execute("SELECT name, total(price) FROM prices GROUP BY name").fetchall()
    assert [("apple", 5.0), ("pear", 6.0)] == found
