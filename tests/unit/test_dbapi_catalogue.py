"""The catalogue of tables, what rows become before they are stored, and what statements name."""

import datetime

import pytest

import lsmdbm
from lsmdbm import CorruptionError
from support import sql

dbapi = sql.module()
from lsmdbm.dbapi import catalogue, ddl  # noqa: E402 - apsw first
from lsmdbm.dbapi.catalogue import RESERVED  # noqa: E402
from lsmdbm.dbapi.layout import Layout  # noqa: E402
from lsmdbm.dbapi.schema import BLOB, INTEGER, NUMERIC, REAL, TEXT, parse  # noqa: E402
from lsmdbm.dbapi.shaping import Converter, Shape  # noqa: E402

T = parse("CREATE TABLE T (a, b)")


@pytest.fixture
def db(path):
    with lsmdbm.open(path, "n") as db:
        yield db


def test_tables_are_found_by_their_folded_names(db):
    made = catalogue.create(db, T)

    assert {"t": made} == catalogue.tables(db)
    assert made == catalogue.table(db, "T") == catalogue.table(db, "t")
    assert catalogue.table(db, "u") is None


def test_every_change_is_a_generation_and_no_id_comes_twice(db):
    generations = [catalogue.generation(db)]
    first = catalogue.create(db, T)
    generations.append(catalogue.generation(db))
    catalogue.rename(db, first, "u")
    generations.append(catalogue.generation(db))
    catalogue.drop(db, catalogue.table(db, "u"))
    generations.append(catalogue.generation(db))
    second = catalogue.create(db, T)

    assert [0, 1, 2, 3] == generations
    assert (1, 4) == (first.id, second.id)


def test_a_renamed_table_keeps_its_rows(db):
    made = catalogue.create(db, T)
    renamed = catalogue.rename(db, made, "U")

    assert made.prefix == renamed.prefix
    assert {"u": renamed} == catalogue.tables(db)
    assert "U" == catalogue.table(db, "u").schema.name


def test_a_dropped_table_leaves_its_rows_to_the_next_sweep(db):
    made, other = catalogue.create(db, T), catalogue.create(db, parse("CREATE TABLE u (a)"))
    db.update({made.prefix + b"1": "", made.prefix + b"\xff" * 9: "", other.prefix + b"1": "", "mine": ""})
    catalogue.drop(db, made)
    assert 2 == len(db.range(prefix=made.prefix))

    catalogue.sweep(db)

    assert [catalogue.GENERATION, other.prefix + b"1", catalogue.TABLE + b"u", b"mine"] == [*db]
    catalogue.sweep(db)


def test_all_keys_of_the_catalogue_are_reserved_ones(db):
    made = catalogue.create(db, T)
    db[made.prefix] = ""
    catalogue.drop(db, made)

    assert all(key.startswith(RESERVED) for key in db)


def test_keys_on_disk_never_change(db):
    made = catalogue.create(db, T)

    assert b"\0sql\0r\0\0\0\1" == made.prefix
    assert {
        b"\0sql\0generation": b"1",
        b"\0sql\0tablet": b'{"id": 1, "sql": "CREATE TABLE T (a, b)"}',
    } == dict(db)


def test_a_catalogue_is_part_of_a_transaction(db):
    with db.transaction() as transaction:
        catalogue.create(transaction, T)
        assert ["t"] == [*catalogue.tables(transaction)]
        transaction.rollback()

    assert {} == catalogue.tables(db)
    assert 0 == catalogue.generation(db)


@pytest.mark.parametrize("entry", [b"", b"{}", b"[]", b'{"id": "x", "sql": ""}', b"\xff"])
def test_what_is_no_entry_is_corruption(db, entry):
    db[catalogue.TABLE + b"t"] = entry

    with pytest.raises(CorruptionError, match="SQL catalogue"):
        catalogue.tables(db)


# -- what is stored -----------------------------------------------------------------------------------


def shape(columns):
    return Shape(parse(f"CREATE TABLE t ({columns})"), Converter())


def test_values_get_the_affinity_of_their_columns():
    columns = shape("a TEXT, b NUMERIC, c INTEGER, d REAL, e")

    assert ["5", 5, 5, 5.0, "5"] == columns.fitted(["5"] * 5)
    assert ["5.5", 5.5, 5.5, 5.5, 5.5] == columns.fitted([5.5] * 5)
    assert ["x"] * 5 == columns.fitted(["x"] * 5)
    assert [None] * 5 == columns.fitted([None] * 5)
    assert [b"5"] * 5 == columns.fitted([b"5"] * 5)
    kinds = [str, int, int, float, int]
    assert kinds == [type(value) for value in columns.fitted([7] * 5)]


@pytest.mark.parametrize(
    ("affinity", "value", "expected"),
    [(TEXT, 1.5, "1.5"), (INTEGER, " 7 ", 7), (NUMERIC, "1e3", 1000), (REAL, "x", "x"), (BLOB, "1", "1")]
    + [(INTEGER, 2.0**70, 2.0**70), (NUMERIC, 2.0, 2), (REAL, 2**53 + 1, 2.0**53), (NUMERIC, "0x10", "0x10")],
)
def test_conversions_are_those_of_sqlite(affinity, value, expected):
    found = Converter().convert(affinity, value)

    assert (type(expected), expected) == (type(found), found)


def test_defaults_are_values_or_evaluated_each_time():
    columns = shape(
        'a DEFAULT 5, b TEXT DEFAULT 5, c DEFAULT abc, d DEFAULT "x y", e DEFAULT (1 + 1), f DEFAULT -1.5,'
        " g DEFAULT x'00', h DEFAULT NULL, i, j DEFAULT TRUE, k DEFAULT (random()), l DEFAULT CURRENT_DATE"
    )
    found = [columns.default(place) for place in range(12)]

    assert [5, "5", "abc", "x y", 2, -1.5, b"\0", None, None, 1] == found[:10]
    assert found[10] != columns.default(10)
    assert datetime.date.fromisoformat(found[11])


def test_missing_values_are_named():
    columns = shape("id INTEGER PRIMARY KEY NOT NULL, a NOT NULL DEFAULT 5, b NOT NULL")

    assert "a" == columns.missing([None, None, None])
    assert "b" == columns.missing([None, None, None], without_default=True)
    assert columns.missing([None, 1, 2]) is None
    row = [None, None, 2]
    columns.replace(row)
    assert [None, 5, 2] == row


@pytest.mark.parametrize("columns", ["a, b", "a INTEGER PRIMARY KEY, b", "a, b, PRIMARY KEY (b, a)"])
def test_rows_come_back_from_their_entries(db, columns):
    table = catalogue.create(db, parse(f"CREATE TABLE t ({columns})"))
    layout = Layout(table)
    for row in ([1, "x"], [2, None], [3, 1.5], [4, 2.0]):
        key = layout.base(row) if table.schema.key else layout.rowid_key(row[0])
        decoded = layout.decoded(key, layout.encoded(row))

        assert [*map(repr, row)] == [*map(repr, decoded[:2])]
        assert (key if table.schema.key else row[0]) == decoded[2] == layout.told(key)[2]


def test_keys_with_null_are_counted_up():
    layout = Layout(catalogue.Table(1, parse("CREATE TABLE t (a, b, PRIMARY KEY (a, b))")))
    base = layout.base([None, 1])
    first = layout.after(base, None)
    second = layout.after(base, first)

    assert base < first < second
    assert second.startswith(base)
    assert (True, False) == (layout.has_null([None, 1]), layout.has_null([0, 1]))


def test_a_row_of_another_table_is_corruption():
    layout = Layout(catalogue.Table(1, T))

    with pytest.raises(CorruptionError, match="3 columns, and its table 2"):
        layout.decoded(layout.rowid_key(1), bytes.fromhex("0300000000"))


def test_columns_of_many_types_are_read_and_only_so_many_layouts_kept(monkeypatch):
    monkeypatch.setattr("lsmdbm.dbapi.layout.MAX_LAYOUTS", 3)
    layout = Layout(catalogue.Table(1, T))
    values = [None, 1, 1000, 1 << 40, 1.5, "a", b"a"]
    rows = [[one, other] for one in values for other in values]

    found = [layout.decoded(layout.rowid_key(1), layout.encoded(row)) for row in rows]
    assert [[*row, 1] for row in rows] == found
    assert 3 >= len(layout._layouts)


# -- what changes name --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "target", "named"),
    [
        ("INSERT INTO t VALUES (1)", (None, "t"), None),
        ("INSERT INTO t SELECT a FROM u", (None, "t"), None),
        ("INSERT OR IGNORE INTO main.t (a, B) VALUES (1, 2)", ("main", "t"), {"a", "b"}),
        ("REPLACE INTO [a b] AS x (\"c d\", 'e') SELECT 1, 2", (None, "a b"), {"c d", "e"}),
        ("WITH u (a) AS (SELECT 1), v AS (SELECT 2) INSERT INTO t (a) SELECT * FROM u", (None, "t"), {"a"}),
        ("INSERT INTO t DEFAULT VALUES", (None, "t"), set()),
        ("UPDATE OR REPLACE t SET a = (1)", (None, "t"), None),
        ("DELETE FROM temp.t WHERE a", ("temp", "t"), None),
    ],
)
def test_what_a_change_names_is_found(statement, target, named):
    change = ddl.change_of(statement)

    assert (target, named, False) == (change.target, change.named, change.is_returning)


def test_returning_is_found_where_it_is_one():
    assert ddl.change_of("INSERT INTO t VALUES (1) RETURNING a").is_returning
    assert ddl.change_of("DELETE FROM t RETURNING *").is_returning
    assert not ddl.change_of("INSERT INTO t VALUES ('RETURNING', (SELECT \"RETURNING\"))").is_returning
