"""SQL values as keys that sort as SQLite sorts, and as rows."""

import itertools
import random

import pytest

from lsmdbm import CorruptionError
from support import sql

sql.module()
from lsmdbm.dbapi import values  # noqa: E402 - apsw first
from lsmdbm.dbapi.values import IN_KEY, decode_key, decode_row, encode_key, encode_row  # noqa: E402

apsw = sql.suite("apsw")

LARGEST, SMALLEST = 2**63 - 1, -(2**63)
ASCENDING = [  # each value, and what is equal to it, as a key
    [None],
    [float("-inf")],
    [-1e300],
    [-(2.0**64)],
    [SMALLEST, -(2.0**63)],
    [SMALLEST + 1],
    [-(2**53) - 1],
    [-(2**53), -(2.0**53)],
    [-2],
    [-1.5],
    [-1, -1.0],
    [-5e-324],
    [0, 0.0, -0.0],
    [5e-324],
    [0.1],
    [1, 1.0],
    [255],
    [256],
    [2**53 - 1],
    [2**53, 2.0**53],
    [2**53 + 1],
    [2**53 + 2, 2.0**53 + 2],
    [2**62 - 1],
    [2**62, 2.0**62],
    [LARGEST - 1024],
    [LARGEST - 1023, float(LARGEST - 1023)],
    [LARGEST],
    [2.0**63],
    [float("inf")],
    [""],
    ["\0"],
    ["\0\0"],
    ["\0\1"],
    ["\0a"],
    ["\1"],
    ["\1\0"],
    ["\1\1"],
    ["\1\2"],
    ["\2"],
    ["a"],
    ["a\0"],
    ["a\0b"],
    ["ab"],
    ["b"],
    ["\u00e9"],
    ["\uffff"],
    ["\U00010000"],
    [b""],
    [b"\0"],
    [b"\0\xff"],
    [b"\1"],
    [b"\1\1"],
    [b"a"],
    [b"\xff"],
    [b"\xff\xff"],
]
VALUES = [value for equal in ASCENDING for value in equal]
KEYS = [
    ([None], "05"),
    ([1], "10 bff0000000000000"),
    ([-1.5], "10 4007ffffffffffff"),
    ([2**53 + 1], "10 c340000000000000 0001"),
    (["a\0b\1"], "20 61 01 01 62 01 02 00"),
    ([b"\xff"], "30 ff 00"),
    (["a", 1], "20 61 00 10 bff0000000000000"),
]
ROWS = [
    ([], "0000"),
    ([None, IN_KEY], "0200 00 0a"),
    ([1, -128, 128, -(2**31), 2**31], "0500 01 01 02 03 04 01 80 8000 00000080 0000008000000000"),
    ([1.5], "0100 05 000000000000f83f"),
    (["ab", b"c", ""], "0300 06 08 06 02 01 00 61 62 63"),
    (["a" * 256], "0100 07 00010000" + "61" * 256),
    ([b"a" * 256], "0100 09 00010000" + "61" * 256),
]


def kinds(row):
    return [type(value) for value in row]


def test_keys_compare_as_the_values_do():
    ranks = [(encode_key([value]), rank) for rank, equal in enumerate(ASCENDING) for value in equal]

    for (one, rank), (other, other_rank) in itertools.product(ranks, repeat=2):
        assert (rank < other_rank, rank == other_rank) == (one < other, one == other)


def test_sqlite_sorts_as_keys_do(seed):
    drawn = random.Random(f"{seed} keys")
    rows = [(drawn.choice(VALUES), drawn.choice(VALUES), number) for number in range(2000)]
    sqlite = apsw.Connection(":memory:")
    sqlite.execute("CREATE TABLE t (a, b, number)")
    sqlite.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)

    expected = [number for (number,) in sqlite.execute("SELECT number FROM t ORDER BY a, b, number")]
    assert expected == [row[2] for row in sorted(rows, key=lambda row: (encode_key(row[:2]), row[2]))]


def test_no_value_is_encoded_as_the_beginning_of_another():
    encoded = {encode_key([value]) for value in VALUES}

    for one, other in itertools.permutations(encoded, 2):
        assert not other.startswith(one)


@pytest.mark.parametrize("row", [[value] for value in VALUES] + [["a", None, 2], [b"", "", 0.5, b"\0"]])
def test_decoded_keys_are_equal_and_of_the_same_type_but_for_whole_reals(row):
    decoded = decode_key(b"prefix" + encode_key(row), 6)

    assert row == decoded
    for value, found in zip(row, decoded, strict=True):
        assert type(value) is type(found) or not values.is_told_by_key(value)


def test_decoding_stops_behind_so_many_values():
    assert ["a", 1] == decode_key(encode_key(["a", 1, "c"]), 0, 2)


@pytest.mark.parametrize(("row", "expected"), KEYS)
def test_keys_on_disk_never_change(row, expected):
    assert bytes.fromhex(expected) == encode_key(row)


@pytest.mark.parametrize(("row", "expected"), ROWS)
def test_rows_on_disk_never_change(row, expected):
    assert bytes.fromhex(expected) == encode_row(row)
    assert row == decode_row(bytes.fromhex(expected))
    assert kinds(row) == kinds(decode_row(bytes.fromhex(expected)))


def test_rows_come_back_as_they_were(seed):
    drawn = random.Random(f"{seed} rows")
    pool = [*VALUES, IN_KEY, "x" * 255, "x" * 256, b"y" * 70_000, 127, -129, 32767, 32768, 2**31 - 1]
    for _ in range(500):
        row = drawn.choices(pool, k=drawn.randrange(8))
        decoded = decode_row(encode_row(row))

        assert row == decoded
        assert kinds(row) == kinds(decoded)


def test_negative_zero_is_stored_as_zero():
    assert "0.0" == repr(decode_row(encode_row([-0.0]))[0])


@pytest.mark.parametrize("rowid", [SMALLEST, -1, 0, 1, 256, LARGEST])
def test_rowids_come_back(rowid):
    assert rowid == values.decode_rowid(values.encode_rowid(rowid))


def test_rowids_compare_as_bytes():
    rowids = [SMALLEST, SMALLEST + 1, -256, -1, 0, 1, 255, 256, LARGEST]

    assert rowids == sorted(rowids, key=values.encode_rowid)


@pytest.mark.parametrize(
    "row", ["", "01", "0200 01", "0100 01", "0100 01 0101", "0100 06 02 61", "0100 06 01 ff", "0100 0b 00"]
)
def test_what_is_no_row_is_corruption(row):
    with pytest.raises(CorruptionError):
        decode_row(bytes.fromhex(row) if row else b"\1")


@pytest.mark.parametrize("key", ["00", "10 bff0", "10 c340000000000000 00", "20 61", "20 ff 00", "30"])
def test_what_is_no_key_is_corruption(key):
    with pytest.raises(CorruptionError):
        decode_key(bytes.fromhex(key))


@pytest.mark.parametrize("row", [["abc", 5, None, b"de", 2.5]])
def test_every_cut_of_a_row_is_corruption(row):
    data = encode_row(row)
    for length in range(len(data)):
        with pytest.raises(CorruptionError):
            decode_row(data[:length])
