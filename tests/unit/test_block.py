"""Blocks: a chunk as a head and a body, and searching in one."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._base.chunk import KEY_ONLY, MAX_KEY_BYTES, MISSING
from lsmdbm._format import block
from lsmdbm._format.block import (
    Block,
    decode_body,
    decode_head,
    encode_body,
    encode_head,
    key_chunk,
    tombstones_of,
)
from lsmdbm._format.coding import Malformed, Unsupported
from lsmdbm._format.columns import ITEM_OVERHEAD
from support.format import chunk_of, describe, u8, u32

LONG_KEY = b"k" * MAX_KEY_BYTES
CASES = [  # entries, head, body
    ([(b"", b"")], "01000000 01 01 05000000 00 00000000", "00 00000000"),
    ([(b"a", b"xy")], "01000000 01 01 06000000 00 01000000 61", "00 02000000 7879"),
    (
        [(b"a", b"x"), (b"bc", b"")],
        "02000000 01 01 06000000 02 00 61 00 6263",
        "02 00 78 00",
    ),
    (
        [(b"a", None), (b"b", b"xy"), (b"c", None)],
        "03000000 02 01 08000000 02 0c000000 00 01000000 616263 02000000 00000000 02000000",
        "00 02000000 7879",
    ),
    (
        [(b"a", None), (b"b", None)],
        "02000000 02 01 07000000 02 0c000000 00 01000000 6162 02000000 00000000 01000000",
        "",
    ),
    ([(LONG_KEY, b"")], "01000000 01 01 05000100 00 00000100" + LONG_KEY.hex(), "00 00000000"),
]
KEYS_AB = "00 01000000 6162"
BAD_HEADS = [
    ("", "bytes expected"),
    ("01000000", "bytes expected"),
    ("01000000 01 01 050000", "bytes expected"),
    ("01000000 01 01 05000000 00 000000", "bytes expected"),
    ("01000000 01 01 ffffffff 00 00000000", "bytes expected"),
    ("01000000 01 01 05000000 00 00000000 00", "1 bytes too many"),
    ("02000000 00", "without keys"),
    ("02000000 01 02 04000000 00000000", "without keys"),
    (f"00000000 01 01 07000000 {KEYS_AB}", "without keys"),
    (f"ffffffff 01 01 07000000 {KEYS_AB}", "without keys"),
    ("ffffff00 01 01 05000000 00 00000000", "without keys"),
    (f"02000000 02 01 07000000 01 07000000 {KEYS_AB} {KEYS_AB}", "column twice"),
    (f"02000000 02 01 07000000 02 04000000 {KEYS_AB} 01000000", "positions"),
    (f"02000000 02 01 07000000 02 08000000 {KEYS_AB} 01000000 02000000", "positions"),
    (f"03000000 01 01 07000000 {KEYS_AB}", "3 items"),
    ("02000000 01 01 07000000 00 01000000 6261", "not ascending"),
    ("02000000 01 01 07000000 03 01000000 6162", "encoding 3"),
    ("01000000 01 01 06000100 00 01000100" + 65537 * "6b", "limit"),
]
entries = st.dictionaries(
    st.binary(max_size=3), st.none() | st.binary(max_size=5), min_size=1, max_size=30
).map(lambda found: sorted(found.items()))


def encoded(chunk):
    keys, values = chunk
    tombstones = tombstones_of(values)
    return encode_head(keys, tombstones), encode_body(values, tombstones)


@pytest.mark.parametrize(("decoded", "head", "body"), CASES, ids=lambda value: f"{len(value)}-long")
def test_block_has_these_bytes_and_is_read_back(decoded, head, body):
    keys, values = chunk_of(decoded)

    assert (bytes.fromhex(head), bytes.fromhex(body)) == encoded((keys, values))
    assert (keys, tombstones_of(values)) == decode_head(bytes.fromhex(head))
    assert (keys, values) == Block(bytes.fromhex(head), bytes.fromhex(body)).chunk()


@pytest.mark.parametrize(("head", "reason"), BAD_HEADS, ids=lambda value: value[:20])
def test_bytes_that_are_no_head_are_malformed(head, reason):
    with pytest.raises(Malformed, match=reason) as caught:
        decode_head(bytes.fromhex(head))
    assert not isinstance(caught.value, Unsupported)


@pytest.mark.parametrize("column", [0, 3, 255])
def test_unknown_columns_are_unsupported(column):
    keys = bytes.fromhex(KEYS_AB)
    head = u32(2) + u8(2) + u8(1) + u32(7) + u8(column) + u32(3) + keys + b"new"

    with pytest.raises(Unsupported, match=f"{column}.*this version knows 1 and 2"):
        decode_head(head)


def test_columns_may_come_in_any_order():
    head = u32(2) + u8(2) + u8(2) + u32(8) + u8(1) + u32(7) + u32(1) + u32(1) + bytes.fromhex(KEYS_AB)

    assert ([b"a", b"b"], [1]) == decode_head(head)


@pytest.mark.parametrize(
    ("body", "live_count"),
    [(b"", 1), (b"\0\0\0\0\0", 0), (b"\0\1\0\0\0a", 2), (b"\0\1\0\0\0", 1), (b"\2\0a\0b", 1), (b"\7", 1)],
    ids=describe,
)
def test_bytes_that_are_no_body_are_malformed(body, live_count):
    with pytest.raises(Malformed):
        decode_body(body, live_count)


def test_body_of_the_wrong_block_is_malformed():
    head, _ = encoded(([b"a", b"b"], [b"1", None]))
    _, body = encoded(([b"a", b"b"], [b"1", b"2"]))

    with pytest.raises(Malformed):
        Block(head, body)


def test_count_beyond_the_head_takes_no_memory():
    """Sixteen million empty keys, which 15 bytes could state, took half a GiB."""
    head = u32(block.MAX_COUNT) + u8(1) + u8(1) + u32(5) + u8(0) + u32(0)
    tracemalloc.start()
    try:
        with pytest.raises(Malformed, match="without keys"):
            decode_head(head)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_more_keys_than_the_limit_are_malformed(monkeypatch):
    head, _ = encoded(([b"a", b"b", b"c"], [b"", b"", b""]))
    monkeypatch.setattr(block, "MAX_COUNT", 2)

    with pytest.raises(Malformed, match="without keys"):
        decode_head(head)


@given(entries)
def test_any_chunk_is_read_back(decoded):
    keys, values = chunk_of(decoded)
    found = Block(*encoded((keys, values)))

    assert (keys, values) == found.chunk()
    assert (keys, [None if value is None else KEY_ONLY for value in values]) == found.key_chunk()
    assert found.key_chunk() == key_chunk(keys, tombstones_of(values))


@given(entries, st.lists(st.binary(max_size=3)))
def test_every_key_is_found_and_no_other(decoded, others):
    found = Block(*encoded(chunk_of(decoded)))
    model = dict(decoded)
    probes = [*model, *others, *(key + b"\0" for key in model), *(key[:-1] for key in model)]

    assert [model.get(key, MISSING) for key in probes] == [found.get(key) for key in probes]


@given(st.binary(max_size=40), st.binary(max_size=10))
def test_any_bytes_are_a_block_or_malformed(columns, body):
    for head in (columns, u32(2) + u8(1) + u8(1) + u32(len(columns)) + columns):
        try:
            keys, values = Block(head, body).chunk()
        except Malformed:
            continue
        assert len(keys) == len(values)
        assert sorted(keys) == keys


def test_every_wrong_bit_behind_a_right_checksum_is_a_block_or_malformed():
    head, body = encoded(chunk_of([(b"a", None), (b"bc", b"x"), (b"c", b""), (b"d", None), (b"e", b"yz")]))
    for bit in range(8 * len(head)):
        damaged = bytearray(head)
        damaged[bit >> 3] ^= 1 << (bit & 7)
        try:
            keys, values = Block(bytes(damaged), body).chunk()
        except Malformed:
            continue
        assert len(keys) == len(values)


def test_cost_counts_bytes_and_objects():
    keys = [b"%03d" % index for index in range(100)]
    binary = [bytes((index, 0, 10, 255)) * (1 + index % 2) for index in range(100)]  # without a separator
    uniform = encoded((keys, [b"v" * 20] * 100))
    split = encoded((keys, [b"v" * index for index in range(100)]))
    sized = encoded((binary, binary))
    deleted = encoded((keys, [None] * 100))

    assert [0, 0, 200 * ITEM_OVERHEAD, 100 * ITEM_OVERHEAD] == [
        Block(head, body).cost - len(head) - len(body) - block._BLOCK_OVERHEAD
        for head, body in (uniform, split, sized, deleted)
    ]


def test_keys_that_are_kept_are_counted_once():
    found = Block(*encoded(([b"a", b"b"], [b"1", b"2"])))
    cost = found.cost
    assert not found.has_keys

    found.keep_keys()
    found.keep_keys()
    assert found.has_keys
    assert found.keys is found.keys
    assert cost + 2 * ITEM_OVERHEAD + len(b"ab") == found.cost


def test_one_entry_is_found_whatever_the_order_of_the_others_but_nothing_is_read_in_order():
    found = Block(*encoded(([b"b", b"a"], [b"1", b"2"])))

    assert b"2" == found.get(b"a")
    for read in (found.chunk, found.key_chunk, found.keep_keys):
        with pytest.raises(Malformed, match="not ascending"):
            read()


def test_tombstones_are_found_by_position():
    assert [] == tombstones_of([b"", b"a"])
    assert [0, 2] == tombstones_of([None, b"a", None])
