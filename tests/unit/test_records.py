"""The log: header, records, marks, and what damage leaves of them."""

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._base.chunk import MAX_KEY_BYTES
from lsmdbm._base.intervals import ABOVE_ALL, MAX_BOUND_BYTES
from lsmdbm._format import log_reader, records
from lsmdbm._format.coding import MAX_NUMBER, Malformed, Unsupported
from lsmdbm._format.log_reader import find_mark, promises, scattered
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
from support.format import describe, flipped, patched, seed_of, u8, u32, u64, with_crc

HEADER = LogHeader(number=17, salt=0x8877665544332211, first_seq=5, prev=16, prev_end=400, prev_last_seq=4)
SEED = HEADER.seed
LONG_KEY = b"k" * MAX_KEY_BYTES


def header_bytes(
    magic=b"LSMW", version=1, number=17, salt=HEADER.salt, first_seq=5, prev=16, prev_end=400, prev_last_seq=4
):
    who = magic + u32(version) + u64(number) + u64(salt)
    return with_crc(who + u64(first_seq) + u64(prev) + u32(prev_end) + u64(prev_last_seq))


def frame(payload, *, seq=5, count=1, durable=0, seed=SEED):
    tail = u32(len(payload)) + u64(seq) + u32(count) + u32(durable) + payload
    return u32(zlib.crc32(tail, seed)) + tail


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
keys = st.binary(max_size=5)
values = st.none() | st.binary(max_size=6)
operations = st.one_of(
    st.tuples(st.just("put"), keys, st.binary(max_size=20)),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("clear")),
    st.tuples(st.just("chunk"), st.dictionaries(keys, values, min_size=1)),
    st.tuples(st.just("mark")),
)


def write(history, header=HEADER):
    """Return a log of these operations, and what each record but the marks does."""
    data, seq, changes = header.encode(), header.first_seq, []
    for kind, *arguments in history:
        if kind == "put":
            data += encode_put(header.seed, seq, 0, *arguments)
            changes.append(Change((arguments[0],), (arguments[1],)))
        elif kind == "delete":
            data += encode_delete(header.seed, seq, 0, *arguments)
            changes.append(Change((arguments[0],), (None,)))
        elif kind == "clear":
            data += encode_clear(header.seed, seq, 0)
            changes.append(Change((), (), clears=True))
        elif kind == "mark":
            data += encode_mark(header.seed, seq, len(data), header)
            continue
        else:
            changes.append(Change(list(arguments[0]), list(arguments[0].values())))
            data += encode_chunk(header.seed, seq, 0, changes[-1].keys, changes[-1].values)
        seq += max(1, len(changes[-1].keys))
    return data, changes


def replay(data, header=HEADER):
    return [decode_change(record) for record in log_reader.in_order(data, header) if not is_mark(record)]


SMALL = (
    ("put", b"apple", b"red"),
    ("mark",),
    ("chunk", {b"b": b"x", b"c": None}),
    ("clear",),
    ("delete", b"d"),
    ("put", b"", b""),
    ("mark",),
)


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

    assert frame(payload, count=count) == record
    assert change == decode_change(payload_record(payload, count))
    assert Record(3, 3 + len(record), 5, count, 0, payload) == record_at(b"..." + record, 3, SEED)


def test_mark_has_these_bytes_and_is_no_data():
    mark = frame(HEADER.encode(), seq=9, count=0, durable=56)
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
        (frame(b"\4")[:RECORD_BYTES], 0),
        (frame(b"\4")[:-1], 0),
        (frame(b"\4"), 1),
        (frame(b"\4", durable=1), 0),
        (frame(b"\4", seed=SEED + 1), 0),
        (bytes(200), 0),
        (patched(frame(b"\4"), 4, u32(2**31)), 0),
        (patched(frame(b"\4"), 4, u32(2**32 - 1)), 0),
    ],
    ids=describe,
)
def test_bytes_that_are_no_record_are_none(record, offset):
    assert record_at(record, offset, SEED) is None


def test_record_may_promise_up_to_its_own_offset():
    assert 3 == record_at(b"..." + frame(b"\4", durable=3), 3, SEED).durable
    assert record_at(b"..." + frame(b"\4", durable=4), 3, SEED) is None


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


# Logs


@given(st.lists(operations, max_size=6), st.binary(max_size=30))
def test_log_is_read_back_whatever_stands_behind_it(history, behind):
    data, changes = write(history)
    found = list(log_reader.in_order(data + behind, HEADER))

    assert changes == replay(data + behind)
    assert [len(data)] == [record.end for record in found][-1:] or not found


def test_reading_can_go_on_from_a_record():
    data, changes = write(SMALL)
    found = list(log_reader.in_order(data, HEADER))

    assert found[3:] == list(log_reader.in_order(data, HEADER, found[3].offset))


def test_log_ends_where_a_sequence_is_missing():
    data = HEADER.encode() + encode_put(SEED, 5, 0, b"a", b"") + encode_put(SEED, 7, 0, b"b", b"")

    assert [Change((b"a",), (b"",))] == replay(data)
    assert [] == replay(HEADER.encode() + encode_put(SEED, 6, 0, b"a", b""))


def test_records_of_another_log_are_no_records_here():
    other = LogHeader(number=17, salt=1, first_seq=5)
    data, _ = write(SMALL)
    stale, _ = write(SMALL, other)

    assert [] == replay(HEADER.encode() + stale[HEADER_BYTES:])
    assert replay(data) == replay(data + stale[len(data) :])
    assert [] == list(promises(HEADER.encode() + stale, SEED, HEADER_BYTES))


def test_every_wrong_bit_of_a_log_leaves_a_prefix():
    data, changes = write(SMALL)
    ends = [record.end for record in log_reader.in_order(data, HEADER) if not is_mark(record)]
    for offset, damaged in flipped(data):
        if offset < HEADER_BYTES:
            with pytest.raises(Malformed):
                LogHeader.decode(damaged)
        else:
            intact = sum(end <= offset for end in ends)

            assert changes[:intact] == replay(damaged), offset


def test_log_cut_anywhere_leaves_a_prefix():
    data, changes = write(SMALL)
    ends = [record.end for record in log_reader.in_order(data, HEADER) if not is_mark(record)]
    for length in range(len(data)):
        if length < HEADER_BYTES:
            with pytest.raises(Malformed):
                LogHeader.decode(data[:length])
        for found in (data[:length], data[:length] + bytes(100), data[:length] + b"\xff" * 100):
            intact = sum(data[:end] == found[:end] for end in ends)  # the last bytes of a record may be zeros

            assert changes[:intact] == replay(found), length


# Promises and marks


def test_promises_behind_damage_are_found():
    data = HEADER.encode() + encode_put(SEED, 5, 0, b"a", b"x" * 50)
    bad = len(data)
    data += encode_put(SEED, 6, 0, b"b", b"y" * 50) + encode_put(SEED, 7, 56, b"c", b"") + b"rubbish"
    promised = len(data)
    data += encode_mark(SEED, 8, promised, HEADER)

    assert [56, promised] == list(promises(patched(data, bad + 40, b"!"), SEED, bad))
    assert [56, promised] == list(promises(data, SEED, bad))
    assert [60] == list(promises(bytes(60) + frame(b"", durable=60), SEED, 60))
    assert [] == list(promises(data[:promised], SEED, promised))
    assert [] == list(promises(b"", SEED, 0))


def test_promises_of_other_logs_do_not_count():
    data = HEADER.encode() + encode_put(SEED, 5, 0, b"a", encode_put(SEED + 1, 6, 56, b"b", b""))

    assert [] == list(promises(data, SEED, HEADER_BYTES + 1))


def test_promises_inside_of_a_damaged_record_are_found():
    inner = encode_put(SEED, 6, 56, b"b", b"")
    outer = patched(encode_put(SEED, 5, 0, b"a", inner), 0, u32(0))

    assert [56] == list(promises(HEADER.encode() + outer, SEED, HEADER_BYTES))


def test_promises_of_every_damaged_small_log_are_those_of_intact_records():
    data, _ = write(SMALL)
    marks = [record for record in log_reader.in_order(data, HEADER) if is_mark(record)]
    for offset, damaged in flipped(data):
        intact = [mark.durable for mark in marks if not mark.offset <= offset < mark.end]

        assert intact == list(promises(damaged, SEED, HEADER_BYTES)), offset


def test_searching_for_promises_has_a_budget():
    looks_like_a_record = u32(0) + u32(1000) + u64(5) + u32(1) + u32(56)

    assert [] == list(promises(bytes(64) + looks_like_a_record * 2 + bytes(1000), SEED, 0))
    with pytest.raises(Malformed, match="looks like records"):
        list(promises(bytes(64) + looks_like_a_record * 40 + bytes(1000), SEED, 0))


def test_mark_is_found_though_the_header_is_damaged():
    data, _ = write(SMALL)

    assert find_mark(data, 17)
    assert find_mark(bytes(HEADER_BYTES) + data[HEADER_BYTES:], 17)
    assert not find_mark(data, 18)
    assert not find_mark(b"", 17)


def test_log_without_a_mark_has_none():
    data, _ = write([operation for operation in SMALL if operation != ("mark",)])

    assert not find_mark(data, 17)
    assert not find_mark(HEADER.encode(), 17)
    assert not find_mark(data + HEADER.encode(), 17)


@pytest.mark.parametrize(
    "fake",
    [
        b"LSMW" * 20,
        HEADER.encode(),
        frame(HEADER.encode(), count=1),
        frame(HEADER.encode(), count=0, seed=SEED + 1),
        frame(HEADER.encode() + b"more", count=0),
        frame(header_bytes(version=2), count=0),
        frame(header_bytes(number=16, prev=0), count=0, seed=seed_of(16, HEADER.salt)),
        frame(HEADER.encode(), count=0)[:-1],
        frame(HEADER.encode(), count=0, durable=1 << 20),
    ],
    ids=describe,
)
def test_what_is_not_quite_a_mark_is_none(fake):
    assert not find_mark(HEADER.encode() + encode_put(SEED, 5, 0, b"a", b"b" + fake), 17)
    assert find_mark(
        HEADER.encode() + encode_put(SEED, 5, 0, b"a", b"b" + fake) + encode_mark(SEED, 6, 0, HEADER), 17
    )


def test_every_wrong_bit_of_the_only_mark_hides_it():
    data = HEADER.encode()
    for _, damaged in flipped(encode_mark(SEED, 5, 0, HEADER)):
        assert not find_mark(data + damaged, 17)


def test_looking_for_a_mark_takes_a_checksum_only_where_the_length_is_that_of_a_header(monkeypatch):
    """A value full of headers behind large lengths made the search quadratic."""
    tried = []
    monkeypatch.setattr(records, "record_at", lambda data, offset, seed: tried.append(offset))
    bait = u32(0) + u32(10_000) + u64(5) + u32(0) + u32(0) + HEADER.encode()

    assert not find_mark(HEADER.encode() + bait * 50 + bytes(10_000), 17)
    assert [] == tried


def test_random_logs_survive_random_damage(seed):
    rng = random.Random(f"{seed} records")
    for _ in range(300):
        history = [
            rng.choice((("put", rng.randbytes(4), rng.randbytes(rng.randrange(40))), ("mark",), ("clear",)))
            for _ in range(rng.randrange(1, 8))
        ]
        data, changes = write(history)
        low = rng.randrange(HEADER_BYTES, len(data))
        damaged = patched(data, low, rng.randbytes(rng.randrange(1, 60)))
        found = replay(damaged)

        assert changes[: len(found)] == found, f"seed {seed}"


# Salvage: every valid record, wherever it begins


def test_scattered_finds_what_reading_in_order_finds_and_more():
    rng = random.Random(5)
    parts, seq = [HEADER.encode()], 5
    for number in range(30):
        if number % 7 == 3:
            parts.append(encode_mark(SEED, seq, 0, HEADER))
            continue
        keys = [b"%d" % key for key in range(rng.choice((1, 1, 5)))]
        one = len(keys) == 1
        parts.append(
            encode_put(SEED, seq, 0, keys[0], rng.randbytes(20))
            if one
            else encode_chunk(SEED, seq, 0, keys, [None] * 5)
        )
        seq += len(keys)
    data = b"".join(parts)
    whole = list(log_reader.in_order(data, HEADER))
    assert len(whole) == 30
    assert whole == list(scattered(data, HEADER, HEADER_BYTES))

    for hit in range(30):
        for offset in (whole[hit].offset, whole[hit].offset + 5, whole[hit].end - 1):
            damaged = patched(data, offset, bytes([data[offset] ^ 255]))
            found = list(scattered(damaged, HEADER, HEADER_BYTES))
            assert whole[:hit] + whole[hit + 1 :] == found
            assert whole[:hit] == list(log_reader.in_order(damaged, HEADER))
            assert whole[hit + 1 :] == list(scattered(damaged, HEADER, whole[hit].end))


def test_scattered_takes_no_record_of_another_log_or_sequence():
    other = LogHeader(number=17, salt=1, first_seq=5)
    foreign = encode_put(other.seed, 5, 0, b"a", b"b") + encode_put(SEED, 4, 0, b"a", b"b")
    ahead = encode_put(SEED, 1 << 40, 0, b"a", b"b")

    assert [] == list(scattered(HEADER.encode() + foreign + ahead, HEADER, HEADER_BYTES))


def test_scattered_gives_up_where_too_much_looks_like_records():
    bait = u32(0) + u32(50_000) + u64(6) + u32(1) + u32(0)
    with pytest.raises(Malformed, match="too much of the log looks like records"):
        list(scattered(HEADER.encode() + bait * 50 + bytes(50_000), HEADER, HEADER_BYTES))


def test_the_header_is_found_in_a_mark():
    data = encode_put(SEED, 5, 0, b"a", b"b") + encode_mark(SEED, 6, 0, HEADER)

    assert HEADER == find_mark(bytes(HEADER_BYTES) + data, 17)


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


# Room that was allocated ahead


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_record_that_moves_to_another_log_does_the_same_there(case):
    record, _, count, change = CASES[case]
    there = LogHeader(number=18, salt=1, first_seq=5)
    promising = frame(record[RECORD_BYTES:], count=count, durable=56)
    data = there.encode() + records.moved(promising, there.seed)
    (found,) = log_reader.in_order(data, there)

    assert (5, count, 0, change) == (found.seq, found.count, found.durable, decode_change(found))


def test_a_record_says_how_long_its_payload_is():
    record = encode_put(SEED, 5, 0, b"key", b"value")

    assert len(record) - RECORD_BYTES == records.payload_bytes(record[:RECORD_BYTES])
    assert 0 == records.payload_bytes(record[: RECORD_BYTES - 1])
    assert 0 == records.payload_bytes(bytes(RECORD_BYTES))


def test_zeros_are_told_from_anything_else():
    data = b"x" + bytes(1000)

    assert [False, True, True, True] == [log_reader.is_blank(data, start) for start in (0, 1, 500, 1001)]
    assert not log_reader.is_blank(data + b"x", 1)


def naive(data, start):
    """Return the offsets of all records at or behind `start`, by trying each."""
    found, offset = [], start
    while offset < len(data):
        record = record_at(data, offset, SEED)
        if record is not None:
            found.append(offset)
        offset = offset + 1 if record is None else record.end
    return found


def test_records_among_zeros_are_found_wherever_they_stand(seed, budget):
    """With values that begin or end with zeros, and what is left of records that were torn."""
    rng = random.Random(f"{seed} zeros")
    for _ in range({"small": 20, "default": 100}.get(budget, 1000)):
        data = HEADER.encode()
        for number in range(rng.randrange(4)):
            data += bytes(rng.choice((0, 1, 5, 23, 24, 25, 200)))
            value = bytes(rng.randrange(60)) + rng.choice((b"", b"x")) + bytes(rng.randrange(60))
            whole = frame(b"\1" + u32(1) + b"k" + value, seq=5 + number, durable=rng.choice((0, len(data))))
            data += rng.choice((whole, whole, whole[: rng.randrange(len(whole))], whole[rng.randrange(30) :]))
        data += bytes(rng.randrange(300))
        expected = naive(data, HEADER_BYTES)
        promised = [record_at(data, offset, SEED).durable for offset in expected]

        assert expected == [record.offset for record in scattered(data, HEADER, HEADER_BYTES)]
        assert [durable for durable in promised if durable] == list(promises(data, SEED, HEADER_BYTES))


def test_a_record_among_zeros_may_begin_with_one(seed):
    """Its checksum does in one of 256."""
    rng = random.Random(f"{seed} zero checksum")
    while (record := frame(b"\1" + u32(1) + b"k" + rng.randbytes(8), durable=56))[0]:
        pass
    data = HEADER.encode() + bytes(rng.randrange(24, 90)) + record

    assert [56] == list(promises(data, SEED, HEADER_BYTES))
    assert [len(data) - len(record)] == [each.offset for each in scattered(data, HEADER, HEADER_BYTES)]


class Looks:
    """The struct of a record's head, which counts how often it is looked for."""

    def __init__(self, struct):
        self.struct, self.count = struct, 0

    def unpack_from(self, data, offset):
        self.count += 1
        return self.struct.unpack_from(data, offset)


@pytest.mark.parametrize(
    "search", [lambda data: promises(data, SEED, 60), lambda data: scattered(data, HEADER, 60)]
)
def test_zeros_are_searched_at_a_stride(monkeypatch, search):
    """16 MiB of them, which a killed process may leave behind its last record, took five seconds."""
    looks = Looks(records.RECORD)
    monkeypatch.setattr(log_reader, "RECORD", looks)
    record = frame(b"", durable=56)
    data = HEADER.encode() + bytes(1 << 20) + record + bytes(1 << 20)

    assert 1 == len(list(search(data)))
    assert looks.count < 200
