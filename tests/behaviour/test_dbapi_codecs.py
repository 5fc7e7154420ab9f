"""Codecs: columns that hold what SQL has no type for."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import lsmdbm
from support import sql

dbapi = sql.module()

OBJECTS = [{"a": [1, 2.5, None, True], "\u00e9": {}}, [], [1, "x"], {"nested": {"deep": [{}]}}]


class Unpickled:
    """Tells when it is unpickled."""

    times = 0

    def __setstate__(self, state):
        Unpickled.times += 1

    def __getstate__(self):
        return 1


@pytest.fixture
def connect(path):
    opened = []

    def connect_one(codecs=None, **options):
        opened.append(dbapi.connect(path, codecs=codecs, **options))
        return opened[-1]

    yield connect_one
    for connection in opened:
        connection.close()


def run(connection, statement, parameters=()):
    cursor = connection.cursor().execute(statement, parameters)
    return cursor.fetchall() if cursor.description else None


def filled(connection, values, columns="id INTEGER PRIMARY KEY, doc"):
    run(connection, f"CREATE TABLE t ({columns})")
    connection.cursor().executemany("INSERT INTO t VALUES (?, ?)", enumerate(values))
    return connection


@pytest.mark.parametrize("name", ["json", "pickle"])
@pytest.mark.parametrize("place", ["t", "t.doc", "T.DOC"])
def test_objects_come_back(connect, name, place):
    connection = filled(connect({place: name}), OBJECTS)

    assert [*enumerate(OBJECTS)] == run(connection, "SELECT * FROM t")
    assert [(each,) for each in OBJECTS] == [*connection.cursor().execute("SELECT doc AS d FROM t AS x")]
    cursor = connection.cursor().execute("SELECT doc FROM t")
    assert (OBJECTS[0],) == cursor.fetchone()
    assert [(each,) for each in OBJECTS[1:3]] == cursor.fetchmany(2)


def test_any_object_comes_back_from_a_pickle(connect):
    values = [{1, 2}, ..., Path("x"), 1 + 2j, dbapi.Warning]

    assert [*enumerate(values)] == run(filled(connect({"t": "pickle"}), values), "SELECT * FROM t")


def test_json_is_text_in_sql(connect):
    connection = filled(connect({"t": "json"}), OBJECTS)

    assert [(2.5, "text")] == run(connection, "SELECT doc ->> '$.a[1]', typeof(doc) FROM t WHERE id = 0")
    run(connection, "UPDATE t SET doc = json_set(doc, '$.new', 5) WHERE id = 3")
    run(connection, "INSERT INTO t SELECT 10, doc FROM t WHERE id = 3")
    assert [({**OBJECTS[3], "new": 5},)] * 2 == run(connection, "SELECT doc FROM t WHERE id IN (3, 10)")


def test_what_sql_has_a_type_for_goes_in_as_it_is(connect):
    values = [None, 5, 2.5, '"text"', b"[1]"]
    assert [None, 5, 2.5, "text", [1]] == [
        value for (value,) in run(filled(connect({"t": "json"}), values), "SELECT doc FROM t")
    ]


def test_without_a_codec_a_column_shows_what_is_stored(connect):
    connection = filled(connect({"t": "json"}), OBJECTS[:1])
    connection.commit()

    assert OBJECTS[0] == json.loads(run(connect(), "SELECT doc FROM t")[0][0])
    assert OBJECTS[0] == json.loads(run(connect({"t": "json", "t.doc": "raw"}), "SELECT doc FROM t")[0][0])


def test_a_codec_of_a_table_leaves_its_key_alone(connect):
    connection = connect({"t": "json", "u": "json"})
    run(connection, "CREATE TABLE t (a TEXT, b TEXT, doc, PRIMARY KEY (b, a))")
    run(connection, "INSERT INTO t VALUES ('x', 'y', ?)", [OBJECTS[0]])

    assert [("x", "y", OBJECTS[0])] == run(connection, "SELECT * FROM t")


def test_codecs_go_by_the_name_that_a_table_has(connect):
    connection = filled(connect({"u": "json"}), ["[1]"])
    assert [("[1]",)] == run(connection, "SELECT doc FROM t")
    run(connection, "ALTER TABLE t RENAME TO u")
    assert [([1],)] == run(connection, "SELECT doc FROM u")


@pytest.mark.parametrize("name", ["json", "pickle"])
def test_values_of_kv_have_codecs_too(connect, path, name):
    connection = connect({"kv": name})
    run(connection, "INSERT INTO kv VALUES ('a', ?)", [OBJECTS[0]])
    run(connection, "INSERT INTO kv SELECT 'b', value FROM kv")
    run(connection, "UPDATE kv SET value = ? WHERE key = 'a'", [OBJECTS[2]])
    connection.commit()

    assert [(b"a", OBJECTS[2]), (b"b", OBJECTS[0])] == run(connection, "SELECT * FROM kv WHERE key < 'c'")
    loads = {"json": json.loads, "pickle": pickle.loads}[name]
    with lsmdbm.open(path) as db:
        assert OBJECTS[2] == loads(db["a"])


def test_text_of_kv_is_text_in_sql(connect):
    connection = connect({"kv": "text"})
    run(connection, "INSERT INTO kv VALUES ('a', 'red'), ('b', x'c3a9')")

    assert [("red",), ("\u00e9",)] == run(connection, "SELECT value FROM kv")
    assert [(b"a", "text")] == run(connection, "SELECT key, typeof(value) FROM kv WHERE value LIKE 'R%'")


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("json", "{", "Expecting property name"),
        ("json", {1, 2}, "not JSON serializable"),
        ("json", [float("nan")], "not JSON compliant"),
        ("pickle", lambda: 1, "ickle"),
        ("text", b"\xff", "utf-8"),
        ("text", {}, "no values of type dict"),
    ],
)
@pytest.mark.parametrize("table", ["t", "kv"])
def test_what_cannot_be_in_a_column_is_refused(connect, name, value, what, table):
    connection = connect({table: name})
    run(connection, "CREATE TABLE t (id PRIMARY KEY, doc)")
    with pytest.raises(dbapi.DataError, match=f"codec {name}: .*{what}"):
        run(connection, f"INSERT INTO {table} VALUES ('a', ?)", [value])

    assert [] == run(connection, "SELECT * FROM t UNION ALL SELECT * FROM kv WHERE key = 'a'")


def test_objects_for_a_column_without_a_codec_are_refused(connect):
    connection = filled(connect({"u": "json"}), [])
    with pytest.raises(dbapi.Error):
        run(connection, "INSERT INTO t VALUES (1, ?)", [{}])
    with pytest.raises(dbapi.ProgrammingError, match="cannot be of type dict"):
        run(connect(), "INSERT INTO kv VALUES ('a', ?)", [{}])


@pytest.mark.parametrize("name", ["json", "pickle", "text"])
def test_stored_values_that_are_none_of_a_codec_are_data_errors(connect, name):
    connection = connect()
    run(connection, "INSERT INTO kv VALUES ('a', x'ff')")
    connection.commit()

    with pytest.raises(dbapi.DataError, match=f"codec {name}"):
        run(connect({"kv": name}), "SELECT value FROM kv")


def test_nothing_is_unpickled_that_was_not_asked_for(connect):
    connection = filled(connect({"t": "pickle"}), [Unpickled()])
    connection.commit()
    run(connect(), "SELECT * FROM t")
    run(connect({"kv": "json"}), "SELECT * FROM t")
    assert 0 == Unpickled.times

    run(connection, "SELECT * FROM t")

    assert 1 == Unpickled.times


def test_pickle_is_not_imported_before_it_is_asked_for(tmp_path):
    code = (
        "import sys, lsmdbm.dbapi as d; c = d.connect('db', 'n', codecs={'t': 'json'}); c.close()\n"
        "before = 'pickle' in sys.modules; d.connect('db', codecs={'t': 'pickle'}).close()\n"
        "print(before, 'pickle' in sys.modules)"
    )
    root = Path(lsmdbm.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )

    assert ("False True\n", "") == (done.stdout, done.stderr)


@pytest.mark.parametrize("name", ["yaml", "", "JSON", None])
def test_an_unknown_codec_is_an_error_before_anything_is_opened(path, name):
    with pytest.raises(dbapi.ProgrammingError, match="there is no codec"):
        dbapi.connect(path, codecs={"t": name})

    assert not Path(path).exists()
