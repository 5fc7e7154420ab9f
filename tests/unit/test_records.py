"""What one record of a log is, and the header."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._base.chunk import MAX_KEY_BYTES
from lsmdbm._base.intervals import ABOVE_ALL, MAX_BOUND_BYTES
from lsmdbm._format import records
from lsmdbm._format.coding import MAX_NUMBER, Malformed, Unsupported
from lsmdbm._format.records import (
    HEADER_BYTES,
    RECORD_BYTES,
    Change,
    LogHeader,
    Record,
    decode_change,
    encode_chunk,
    encode_clear,
    encode_delete,
    encode_mark,
    encode_put,
    encode_ranges,
    is_mark,
    record_at,
)
from support.format import describe, flipped, frame, patched, seed_of, u8, u32, u64, with_crc

HEADER = LogHeader(number=17, salt=0x8877665544332211, first_seq=5, prev=16, prev_end=400, prev_last_seq=4)
SEED = HEADER.seed
LONG_KEY = b"k" * MAX_KEY_BYTES


def header_bytes(
    magic=b"LSMW", version=1, number=17, salt=HEADER.salt, first_seq=5, prev=16, prev_end=400, prev_last_seq=4
):
    who = magic + u32(version) + u64(number) + u64(salt)
    return with_crc(who + u64(first_seq) + u64(prev) + u32(prev_end) + u64(prev_last_seq))


def payload_record(payload, count=1):
    return Record(HEADER_BYTES, HEADER_BYTES + RECORD_BYTES + len(payload), 5, count, 0, payload)


UNIFORM_KEYS = "00 01000000 6162"
CASES = [  # a record, its payload, its count, what it does
    (encode_put(SEED, 5, 0, b"", b""), "01 00000000", 1, Change((b"",), (b"",))),
    (encode_put(SEED, 5, 0, b"ab", b"xyz"), "01 02000000 6162 78797a", 1, Change((b"ab",), (b"xyz",))),
    (encode_delete(SEED, 5, 0, b""), "02", 1, Change((b"",), (None,))),
    (encode_delete(SEED, 5, 0, b"ab"), "02 6162", 1, Change((b"ab",), (None,))),
    (encode_clear(SEED, 5, 0), "04", 1, Change((), (), clears=True)),
    (
        encode_chunk(SEED, 5, 0, [b"b", b"a"], [b"x", b"y"]),
        "03 07000000 00000000 00 01000000 6261 00 01000000 7879",
        2,
        Change([b"b", b"a"], [b"x", b"y"]),
    ),
    (
        encode_chunk(SEED, 5, 0, [b"a", b"b", b"c"], [None, b"", None]),
        "03 08000000 0c000000 00 01000000 616263 02000000 00000000 02000000 00 00000000",
        3,
        Change([b"a", b"b", b"c"], [None, b"", None]),
    ),
    (
        encode_chunk(SEED, 5, 0, [b"a", b"b"], [None, None]),
        f"03 07000000 0c000000 {UNIFORM_KEYS} 02000000 00000000 01000000",
        2,
        Change([b"a", b"b"], [None, None]),
    ),
    (
        encode_chunk(SEED, 5, 0, [LONG_KEY], [b""]),
        "03 05000100 00000000 00 00000100" + LONG_KEY.hex() + "00 00000000",
        1,
        Change([LONG_KEY], [b""]),
    ),
]
BAD_PAYLOADS = [
    ("", 1, "kind 0"),
    ("00", 1, "kind 0"),
    ("01", 1, "kind 1"),
    ("01 000000", 1, "kind 1"),
    ("01 03000000 6162", 1, "kind 1"),
    ("01 ffffffff 6162", 1, "kind 1"),
    ("01 02000000 6162", 2, "kind 1"),
    ("01 01000100" + 65537 * "6b", 1, "kind 1"),
    ("02 6162", 2, "kind 2"),
    ("02" + 65537 * "6b", 1, "kind 2"),
    ("03", 1, "kind 3"),
    ("03 00000000 000000", 1, "kind 3"),
    (f"03 07000000 00000000 {UNIFORM_KEYS} 00 01000000 7879", 0, "cut short"),
    ("03 00000000 00000000", 1, "encoding -1"),
    (f"03 08000000 00000000 {UNIFORM_KEYS}", 2, "cut short"),
    (f"03 07000000 01000000 {UNIFORM_KEYS}", 2, "cut short"),
    (f"03 07000000 0d000000 {UNIFORM_KEYS} 02000000 00000000 01000000", 2, "cut short"),
    ("03 ffffffff ffffffff", 1, "cut short"),
    ("03 05000000 00000000 00 00000000 00 00000000", 1 << 24, "cut short"),
    (f"03 07000000 00000000 {UNIFORM_KEYS}", 2, "0 values and 0 deletions for 2 keys"),
    (f"03 07000000 08000000 {UNIFORM_KEYS} 01000000 00000000", 2, "0 values and 1 deletions"),
    (f"03 07000000 08000000 {UNIFORM_KEYS} 01000000 02000000 00 01000000 78", 2, "positions"),
    (f"03 07000000 00000000 {UNIFORM_KEYS} 00 01000000 7879", 3, "3 items"),
    (f"03 07000000 00000000 {UNIFORM_KEYS} 00 01000000 78", 2, "2 items"),
    ("03 06000100 00000000 00 01000100" + 65537 * "6b" + "00 00000000", 1, "limit"),
    ("04 00", 1, "kind 4"),
    ("04", 2, "kind 4"),
]
# Header


def test_header_has_these_bytes_and_is_read_back():
    assert header_bytes() == HEADER.encode()
    assert HEADER == LogHeader.decode(header_bytes() + b"more")
    assert seed_of(17, HEADER.salt) == HEADER.seed
    assert HEADER_BYTES == len(header_bytes())


def test_first_header_of_a_chain_names_no_log_before_it():
    first = LogHeader(number=1, salt=0, first_seq=1)

    assert header_bytes(number=1, salt=0, first_seq=1, prev=0, prev_end=0, prev_last_seq=0) == first.encode()
    assert first == LogHeader.decode(first.encode())


def test_numbers_of_a_header_go_up_to_the_limit():
    largest = LogHeader(number=MAX_NUMBER, salt=2**64 - 1, first_seq=MAX_NUMBER, prev=MAX_NUMBER - 1)

    for header in (largest, largest._replace(prev_last_seq=MAX_NUMBER)):
        assert header == LogHeader.decode(header.encode())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no log header"),
        (header_bytes()[:-1], "no log header"),
        (header_bytes(magic=b"LSMM"), "no log header"),
        (header_bytes(number=16), "log 16 goes on from log 16"),
        (header_bytes(number=1 << 63), "log 9223372036854775808"),
        (header_bytes(first_seq=1 << 63), "sequence 9223372036854775808"),
        (header_bytes(first_seq=0), "sequence 0"),
        (header_bytes(prev_last_seq=1 << 63), "after 9223372036854775808"),
        (patched(header_bytes(), 52, u32(0)), "checksum"),
    ],
    ids=describe,
)
def test_bytes_that_are_no_header_are_malformed(data, reason):
    with pytest.raises(Malformed, match=reason) as caught:
        LogHeader.decode(data)
    assert not isinstance(caught.value, Unsupported)


def test_header_of_a_newer_format_is_unsupported():
    with pytest.raises(Unsupported, match="format 2"):
        LogHeader.decode(header_bytes(version=2))


def test_every_wrong_bit_of_a_header_is_noticed():
    for _, damaged in flipped(HEADER.encode()):
        with pytest.raises(Malformed):
            LogHeader.decode(damaged)


# Records


@pytest.mark.parametrize(("record", "payload", "count", "change"), CASES, ids=describe)
def test_record_has_these_bytes_and_is_read_back(record, payload, count, change):
    payload = bytes.fromhex(payload)

    assert frame(payload, SEED, count=count) == record
    assert change == decode_change(payload_record(payload, count))
    assert Record(3, 3 + len(record), 5, count, 0, payload) == record_at(b"..." + record, 3, SEED)


def test_mark_has_these_bytes_and_is_no_data():
    mark = frame(HEADER.encode(), SEED, seq=9, count=0, durable=56)
    record = record_at(HEADER.encode() + mark, HEADER_BYTES, SEED)

    assert mark == encode_mark(SEED, 9, 56, HEADER)
    assert is_mark(record)
    assert 8 == record.last_seq
    assert HEADER.encode() == record.payload


def test_record_covers_as_many_sequences_as_operations():
    record = encode_chunk(SEED, 7, 0, [b"a", b"b", b"c"], [b"1", None, b"3"])

    assert (7, 9) == (record_at(record, 0, SEED).seq, record_at(record, 0, SEED).last_seq)


@pytest.mark.parametrize(
    ("payload", "count", "reason"),
    BAD_PAYLOADS,
    ids=lambda value: value[:12] if isinstance(value, str) else None,
)
def test_payload_that_is_none_is_malformed(payload, count, reason):
    with pytest.raises(Malformed, match=reason) as caught:
        decode_change(payload_record(bytes.fromhex(payload), count))
    assert not isinstance(caught.value, Unsupported)


@pytest.mark.parametrize("kind", [6, 255])
def test_unknown_kinds_are_unsupported(kind):
    with pytest.raises(Unsupported, match=f"kind {kind}"):
        decode_change(payload_record(u8(kind) + b"more"))


@given(st.binary(max_size=40), st.integers(0, 5))
def test_any_payload_is_a_change_or_malformed(payload, count):
    for kind in range(1, 6):
        try:
            change = decode_change(payload_record(u8(kind) + payload, count))
        except Malformed:
            continue
        operations = len(change.keys) + len(change.ranges)
        assert len(change.keys) == len(change.values)
        assert operations == (0 if change.clears else count)


@pytest.mark.parametrize(
    ("record", "offset"),
    [
        (b"", 0),
        (frame(b"\4", SEED)[:RECORD_BYTES], 0),
        (frame(b"\4", SEED)[:-1], 0),
        (frame(b"\4", SEED), 1),
        (frame(b"\4", SEED, durable=1), 0),
        (frame(b"\4", SEED + 1), 0),
        (bytes(200), 0),
        (patched(frame(b"\4", SEED), 4, u32(2**31)), 0),
        (patched(frame(b"\4", SEED), 4, u32(2**32 - 1)), 0),
    ],
    ids=describe,
)
def test_bytes_that_are_no_record_are_none(record, offset):
    assert record_at(record, offset, SEED) is None


def test_record_may_promise_up_to_its_own_offset():
    assert 3 == record_at(b"..." + frame(b"\4", SEED, durable=3), 3, SEED).durable
    assert record_at(b"..." + frame(b"\4", SEED, durable=4), 3, SEED) is None


def test_batch_above_the_limit_is_a_value_error(monkeypatch):
    monkeypatch.setattr(records, "MAX_PAYLOAD_BYTES", 20)
    fits = encode_chunk(SEED, 5, 0, [b"a"], [b""])

    assert 20 == len(fits) - RECORD_BYTES
    assert record_at(fits, 0, SEED) is not None
    with pytest.raises(ValueError, match="batch of 22 bytes: the limit is 20"):
        encode_chunk(SEED, 5, 0, [b"a"], [b"ab"])


def test_record_above_the_limit_is_none(monkeypatch):
    record = encode_put(SEED, 5, 0, b"a", b"b" * 20)
    monkeypatch.setattr(records, "MAX_PAYLOAD_BYTES", 26)
    assert record_at(record, 0, SEED) is not None
    monkeypatch.setattr(records, "MAX_PAYLOAD_BYTES", 25)
    assert record_at(record, 0, SEED) is None


def test_large_batches_with_many_deletions_are_read_back():
    """Putting each deletion in its place with list.insert() took minutes for a batch of a million."""
    count = 200_000
    decoded = [None if index % 2 else b"" for index in range(count)]
    record = encode_chunk(SEED, 5, 0, [b"%06d" % index for index in range(count)], decoded)

    assert decoded == decode_change(record_at(record, 0, SEED)).values


def test_count_beyond_the_payload_takes_no_memory():
    payload = bytes.fromhex("03 05000000 00000000 00 00000000 00 00000000")
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            decode_change(payload_record(payload, 2**32 - 1))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


# Range deletions

RANGES = ((b"", b"a"), (b"b", b"c\0"), (b"x" * MAX_BOUND_BYTES, ABOVE_ALL))


@pytest.mark.parametrize("ranges", [RANGES, RANGES[:1], RANGES[2:], ((b"", ABOVE_ALL),)])
@pytest.mark.parametrize(("keys", "values"), [([], []), ([b"k", b""], [None, b""]), ([b"a"], [b"1"])])
def test_ranges_and_what_is_set_after_them_come_back(ranges, keys, values):
    record = record_at(b"." * 56 + encode_ranges(9, 5, 0, ranges, keys, values), 56, 9)
    change = decode_change(record)

    assert (5, len(ranges) + len(keys)) == (record.seq, record.count)
    assert (ranges, keys, values) == (change.ranges, list(change.keys), list(change.values))


def of_ranges(*pairs):
    return u8(5) + u32(len(pairs)) + b"".join(u32(len(bound)) + bound for pair in pairs for bound in pair)


@pytest.mark.parametrize(
    ("payload", "count", "reason"),
    [
        (u8(5), 1, "kind 5"),
        (u8(5) + u32(0), 1, "0 ranges"),
        (of_ranges((b"a", b"b"), (b"c", b"d")), 1, "2 ranges in a record of 1"),
        (of_ranges((b"a", b"a")), 1, "bounds"),
        (of_ranges((b"b", b"a")), 1, "bounds"),
        (of_ranges((b"b", b"x" * (MAX_BOUND_BYTES + 1))), 1, "bounds"),
        (of_ranges((b"c", b"d"), (b"a", b"b")), 2, "out of order"),
        (of_ranges((b"a", b"b"), (b"b", b"c")), 2, "out of order"),
        (of_ranges((b"a", b""), (b"b", b"c")), 2, "out of order"),
        (of_ranges((b"a", b"b")) + b"x", 1, "bytes"),
        (of_ranges((b"a", b"b")), 2, "cut short"),
        (of_ranges((b"a", b"b"))[:-1], 1, "bytes"),
    ],
)
def test_ranges_that_are_none_are_malformed(payload, count, reason):
    with pytest.raises(Malformed, match=reason):
        decode_change(payload_record(payload, count))


# Parts of a record


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_record_that_moves_to_another_log_does_the_same_there(case):
    record, _, count, change = CASES[case]
    there = LogHeader(number=18, salt=1, first_seq=5)
    promising = frame(record[RECORD_BYTES:], SEED, count=count, durable=56)
    data = there.encode() + records.moved(promising, there.seed)
    found = record_at(data, HEADER_BYTES, there.seed)

    assert (5, count, 0, change) == (found.seq, found.count, found.durable, decode_change(found))


def test_a_record_says_how_long_its_payload_is():
    record = encode_put(SEED, 5, 0, b"key", b"value")

    assert len(record) - RECORD_BYTES == records.payload_bytes(record[:RECORD_BYTES])
    assert 0 == records.payload_bytes(record[: RECORD_BYTES - 1])
    assert 0 == records.payload_bytes(bytes(RECORD_BYTES))
