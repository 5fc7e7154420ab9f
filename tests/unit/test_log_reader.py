"""The bytes of a whole log: its records in order, and what damage leaves of them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._format import log_reader, records
from lsmdbm._format.coding import Malformed
from lsmdbm._format.log_reader import find_mark, promises, scattered
from lsmdbm._format.records import (
    HEADER_BYTES,
    Change,
    LogHeader,
    decode_change,
    encode_chunk,
    encode_clear,
    encode_delete,
    encode_mark,
    encode_put,
    is_mark,
    record_at,
)
from support.format import describe, flipped, frame, patched, u32, u64, with_crc

HEADER = LogHeader(number=17, salt=0x8877665544332211, first_seq=5, prev=16, prev_end=400, prev_last_seq=4)
ANOTHER = HEADER._replace(number=16, prev=0)
SEED = HEADER.seed
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


# In order


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
    assert [] == list(promises(HEADER.encode() + stale, HEADER, HEADER_BYTES))


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

    assert [56, promised] == list(promises(patched(data, bad + 40, b"!"), HEADER, bad))
    assert [56, promised] == list(promises(data, HEADER, bad))
    assert [60] == list(promises(bytes(60) + frame(b"x", SEED, durable=60), HEADER, 60))
    assert [] == list(promises(data[:promised], HEADER, promised))
    assert [] == list(promises(b"", HEADER, 0))


def test_promises_of_other_logs_do_not_count():
    data = HEADER.encode() + encode_put(SEED, 5, 0, b"a", encode_put(SEED + 1, 6, 56, b"b", b""))

    assert [] == list(promises(data, HEADER, HEADER_BYTES + 1))


def test_promises_inside_of_a_damaged_record_are_found():
    inner = encode_put(SEED, 6, 56, b"b", b"")
    outer = patched(encode_put(SEED, 5, 0, b"a", inner), 0, u32(0))

    assert [56] == list(promises(HEADER.encode() + outer, HEADER, HEADER_BYTES))


def test_promises_of_every_damaged_small_log_are_those_of_intact_records():
    data, _ = write(SMALL)
    marks = [record for record in log_reader.in_order(data, HEADER) if is_mark(record)]
    for offset, damaged in flipped(data):
        intact = [mark.durable for mark in marks if not mark.offset <= offset < mark.end]

        assert intact == list(promises(damaged, HEADER, HEADER_BYTES)), offset


def test_searching_for_promises_has_a_budget():
    looks_like_a_record = u32(0) + u32(1000) + u64(5) + u32(1) + u32(56)

    assert [] == list(promises(bytes(64) + looks_like_a_record * 2 + bytes(1000), HEADER, 0))
    with pytest.raises(Malformed, match="looks like records"):
        list(promises(bytes(64) + looks_like_a_record * 40 + bytes(1000), HEADER, 0))


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
        frame(HEADER.encode(), SEED, count=1),
        frame(HEADER.encode(), SEED + 1, count=0),
        frame(HEADER.encode() + b"more", SEED, count=0),
        frame(with_crc(patched(HEADER.encode()[:-4], 4, u32(2))), SEED, count=0),
        frame(ANOTHER.encode(), ANOTHER.seed, count=0),
        frame(HEADER.encode(), SEED, count=0)[:-1],
        frame(HEADER.encode(), SEED, count=0, durable=1 << 20),
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


# Every valid record, wherever it begins


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


# Room that was allocated ahead


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
            whole = frame(
                b"\1" + u32(1) + b"k" + value, SEED, seq=5 + number, durable=rng.choice((0, len(data)))
            )
            data += rng.choice((whole, whole, whole[: rng.randrange(len(whole))], whole[rng.randrange(30) :]))
        data += bytes(rng.randrange(300))
        expected = naive(data, HEADER_BYTES)
        promised = [record_at(data, offset, SEED).durable for offset in expected]

        assert expected == [record.offset for record in scattered(data, HEADER, HEADER_BYTES)]
        assert [durable for durable in promised if durable] == list(promises(data, HEADER, HEADER_BYTES))


def test_a_record_among_zeros_may_begin_with_one(seed):
    """Its checksum does in one of 256."""
    rng = random.Random(f"{seed} zero checksum")
    while (record := frame(b"\1" + u32(1) + b"k" + rng.randbytes(8), SEED, durable=56))[0]:
        pass
    data = HEADER.encode() + bytes(rng.randrange(24, 90)) + record

    assert [56] == list(promises(data, HEADER, HEADER_BYTES))
    assert [len(data) - len(record)] == [each.offset for each in scattered(data, HEADER, HEADER_BYTES)]


class Looks:
    """The struct of a record's head, which counts how often it is looked for."""

    def __init__(self, struct):
        self.struct, self.count = struct, 0

    def unpack_from(self, data, offset):
        self.count += 1
        return self.struct.unpack_from(data, offset)


@pytest.mark.parametrize(
    "search", [lambda data: promises(data, HEADER, 60), lambda data: scattered(data, HEADER, 60)]
)
def test_zeros_are_searched_at_a_stride(monkeypatch, search):
    """16 MiB of them, which a killed process may leave behind its last record, took five seconds."""
    looks = Looks(records.RECORD)
    monkeypatch.setattr(log_reader, "RECORD", looks)
    record = frame(b"", SEED, durable=56)
    data = HEADER.encode() + bytes(1 << 20) + record + bytes(1 << 20)

    assert 1 == len(list(search(data)))
    assert looks.count < 200
