"""Columns of byte strings, and positions."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._format import columns
from lsmdbm._format.coding import Malformed
from lsmdbm._format.columns import (
    SPLIT_LIMIT,
    STRUCT_LIMIT,
    decode,
    decode_positions,
    encode,
    encode_positions,
    open_column,
    spread,
)
from support.format import u8, u32

ALL_SEPARATORS = b"\0\n\xff"
CASES = [
    ([], "00 00000000"),
    ([b""], "00 00000000"),
    ([b"", b"", b""], "00 00000000"),
    ([b"ab", b"cd"], "00 02000000 6162 6364"),
    ([b"\xff\0"], "00 02000000 ff00"),
    ([b"a", b"bc"], "02 00 61 00 6263"),
    ([b"", b"a", b""], "02 00 00 61 00"),
    ([b"\0", b"ab"], "02 0a 00 0a 6162"),
    ([b"\0\n", b"a"], "02 ff 000a ff 61"),
    ([ALL_SEPARATORS, b"a"], "01 01 0301 000aff 61"),
    ([b"", ALL_SEPARATORS], "01 01 0003 000aff"),
]
SIZES = [(1, 255), (2, 256), (2, 65535), (4, 65536)]
BAD = [
    ("", 0, "encoding -1"),
    ("", 3, "encoding -1"),
    ("03 00000000", 0, "encoding 3"),
    ("ff", 1, "encoding 255"),
    ("00", 0, "cut short"),
    ("00 000000", 0, "cut short"),
    ("00 02000000 616263", 2, "2 items of 2 bytes"),
    ("00 02000000 6162636465", 2, "2 items of 2 bytes"),
    ("00 ffffffff 61", 1, "1 items of 4294967295 bytes"),
    ("00 00000000 61", 7, "7 items of 0 bytes"),
    ("02", 1, "separated"),
    ("02 00", 0, "separated"),
    ("02 00 61", 0, "separated"),
    ("02 00 61 00 62", 1, "separated"),
    ("02 00 61 00 62", 3, "separated"),
    ("01", 1, "sizes of a column"),
    ("01 00", 0, "sizes of a column"),
    ("01 03 000000", 1, "sizes of a column"),
    ("01 08 0000000000000000", 1, "sizes of a column"),
    ("01 01 01", 2, "sizes of a column"),
    ("01 04 00000000 0000", 2, "sizes of a column"),
    ("01 01 0102 61", 2, "items end at 7"),
    ("01 01 0102 61626364", 2, "items end at 7"),
    ("01 04 ffffffff ffffffff", 2, "items end at"),
]
items = st.lists(st.binary(max_size=6) | st.sampled_from([b"", b"\0", b"\n", b"\xff", ALL_SEPARATORS]))


@pytest.mark.parametrize(("decoded", "stored"), CASES)
def test_column_has_these_bytes_and_is_read_back(decoded, stored):
    stored = bytes.fromhex(stored)

    assert stored == encode(decoded)
    assert decoded == decode(stored, len(decoded))


@pytest.mark.parametrize(("width", "length"), SIZES)
def test_sizes_take_the_narrowest_width_that_fits(width, length):
    decoded = [ALL_SEPARATORS, b"x" * length]
    sizes = (3).to_bytes(width, "little") + length.to_bytes(width, "little")

    assert u8(1) + u8(width) + sizes + ALL_SEPARATORS + decoded[1] == encode(decoded)
    assert decoded == decode(encode(decoded), 2)


def test_large_columns_are_not_joined():
    joined = [b"x" * (SPLIT_LIMIT - 1), b"y"]
    sized = [b"x" * SPLIT_LIMIT, b"y"]

    assert [2, 1] == [encode(joined)[0], encode(sized)[0]]
    assert [joined, sized] == [decode(encode(joined), 2), decode(encode(sized), 2)]


@pytest.mark.parametrize("length", [0, 1, 5])
@pytest.mark.parametrize("count", [STRUCT_LIMIT - 1, STRUCT_LIMIT, STRUCT_LIMIT + 1, 3 * STRUCT_LIMIT])
def test_uniform_columns_of_any_count_are_read_back(length, count):
    decoded = [b"%05d" % index for index in range(count)] if length == 5 else [b"x" * length] * count

    assert decoded == decode(encode(decoded), count)


def test_memory_of_unpackers_is_bounded_by_the_struct_limit():
    """An unpacker takes 32 bytes an item and is kept; a batch of a million keys left 32 MiB behind."""
    columns.items.cache_clear()
    decode(encode([b"ab"] * (STRUCT_LIMIT + 1)), STRUCT_LIMIT + 1)

    assert 0 == columns.items.cache_info().currsize


@pytest.mark.parametrize(
    ("decoded", "stored"),
    [
        ([b""], "02 00"),
        ([b"a"], "02 00 61"),
        ([b"ab", b"cd"], "02 58 6162 58 6364"),
        ([], "01 01"),
        ([b"ab"], "01 01 02 6162"),
        ([b"ab"], "01 04 02000000 6162"),
        ([], "00 05000000"),
    ],
)
def test_reader_takes_encodings_that_the_writer_would_not_choose(decoded, stored):
    assert decoded == decode(bytes.fromhex(stored), len(decoded))


@pytest.mark.parametrize(("stored", "count", "reason"), BAD)
def test_bytes_that_are_no_column_are_malformed(stored, count, reason):
    with pytest.raises(Malformed, match=reason):
        decode(bytes.fromhex(stored), count)


@pytest.mark.parametrize("stored", [stored for _, stored in CASES[3:]])
@pytest.mark.parametrize("change", [-1, 1])
def test_column_of_another_count_is_malformed(stored, change):
    decoded = next(decoded for decoded, other in CASES if other == stored)

    with pytest.raises(Malformed):
        decode(bytes.fromhex(stored), len(decoded) + change)


@given(items)
def test_any_items_are_read_back_together_and_one_by_one(decoded):
    column = open_column(encode(decoded), len(decoded))

    assert decoded == column.items()
    assert decoded == [column.item(index) for index in range(column.count)]


@given(items, st.lists(st.binary(max_size=3)))
def test_items_of_an_ascending_column_are_found_and_no_others(decoded, others):
    decoded = sorted(set(decoded))
    column = open_column(encode(decoded), len(decoded))
    probes = [*decoded, *others, *(item + b"\0" for item in decoded), *(item[:-1] for item in decoded)]

    expected = [decoded.index(probe) if probe in decoded else -1 for probe in probes]
    assert expected == [column.find(probe) for probe in probes]


@pytest.mark.parametrize(
    "decoded",
    [
        [b"aab", b"aba", b"baa"],  # b"aba" stands across the first two as well
        [b"abab", b"baba"],
        [b"\0\0\0\1", b"\0\0\1\0", b"\0\1\0\0", b"\1\0\0\0"],
        [b"", b"a", b"ab", b"abc"],
        [b"a", b"ba", b"bb", b"cab"],
        [b"", b"\0", b"\0\0", ALL_SEPARATORS],
    ],
)
def test_items_that_stand_across_others_are_found_where_they_are(decoded):
    column = open_column(encode(decoded), len(decoded))

    assert list(range(len(decoded))) == [column.find(item) for item in decoded]
    joined = b"".join(decoded)
    parts = {joined[low:high] for low in range(len(joined)) for high in range(low, len(joined) + 1)}
    assert {-1} == {column.find(part) for part in parts - set(decoded)}


@given(st.binary(max_size=40), st.integers(0, 12))
def test_any_bytes_are_a_column_or_malformed(stored, count):
    try:
        decoded = decode(stored, count)
    except Malformed:
        return
    assert count == len(decoded)
    assert sum(map(len, decoded)) <= len(stored)


def test_columns_state_what_they_hold_in_memory_beyond_their_bytes():
    assert [0, 0, 2 * columns.ITEM_OVERHEAD] == [
        open_column(encode(decoded), 2).overhead_bytes
        for decoded in ([b"ab", b"cd"], [b"a", b"bc"], [b"", ALL_SEPARATORS])
    ]


POSITIONS = [([], ""), ([0], "01000000 00000000"), ([1, 258], "02000000 01000000 02010000")]


@pytest.mark.parametrize(("decoded", "stored"), POSITIONS)
def test_positions_have_these_bytes_and_are_read_back(decoded, stored):
    stored = bytes.fromhex(stored)

    assert stored == encode_positions(decoded)
    assert decoded == decode_positions(stored, 259)


@pytest.mark.parametrize(
    "stored",
    [
        "00",
        "010000",
        "01000000",
        "01000000 0000",
        "01000000 00000000 00",
        "02000000 00000000",
        "ffffffff 00000000",
        "02000000 01000000 01000000",
        "02000000 02000000 01000000",
        "01000000 05000000",
        "01000000 ffffffff",
    ],
)
def test_bytes_that_are_no_positions_are_malformed(stored):
    with pytest.raises(Malformed, match="positions"):
        decode_positions(bytes.fromhex(stored), 5)


def test_no_positions_may_be_written_out_too():
    assert [] == decode_positions(u32(0), 5)


@given(st.lists(st.booleans()))
def test_spread_puts_each_none_where_it_was(deleted):
    values = [None if gone else b"%d" % index for index, gone in enumerate(deleted)]
    positions = [index for index, gone in enumerate(deleted) if gone]
    stored = encode_positions(positions)

    assert positions == decode_positions(stored, len(values))
    assert values == spread([value for value in values if value is not None], positions)


def test_spread_gives_a_list_of_its_own():
    live = [b"a"]

    assert live == spread(live, [])
    assert live is not spread(live, [])


def test_more_positions_than_items_take_no_memory():
    """A million of them, which a frame of a hundred bytes can hold, took 100 MB."""
    stored = u32(1 << 18) + b"".join(map(u32, range(1 << 18)))
    tracemalloc.start()
    try:
        with pytest.raises(Malformed, match="more positions than items"):
            decode_positions(stored, (1 << 18) - 1)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert 1 << 18 == len(decode_positions(stored, 1 << 18))
