"""The manifest: one file, whole and of its own number, or none."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._base.chunk import MAX_KEY_BYTES
from lsmdbm._base.options import Options
from lsmdbm._format import manifest
from lsmdbm._format.coding import MAX_NUMBER, Malformed, Unsupported
from lsmdbm._format.manifest import MAX_LEVELS, MAX_TABLES, UNKNOWN_COUNT, Manifest, TableMeta, decode, encode
from support.format import counted, describe, flipped, patched, u8, u32, u64, with_crc

UUID = bytes(range(16))
SHAPE = Options().shape()


def table(number, smallest=b"a", largest=b"b", **fields):
    known = {"file_bytes": 500, "footer_crc": 0xAABBCCDD, "entries": 4, "tombstones": 1, "raw_bytes": 90}
    numbers = {**known, "first_seq": 3, "last_seq": 9, **fields}
    return TableMeta(number=number, smallest=smallest, largest=largest, **numbers)


def state(*levels, **fields):
    known = {"number": 19, "next_number": 20, "last_seq": 9, "min_wal": 17, "live_count": 3}
    return Manifest(**{"uuid": UUID, **known, "shape": SHAPE, "levels": levels, **fields})


def sealed(body, number=19):
    """Return a manifest file around these first bytes."""
    return with_crc(body + u64(len(body) + 20), seed_of(number)) + b"LSMMEND."


def seed_of(number):
    return manifest.crc32(u64(number))


def fixed_bytes(
    version=1, oldest_reader=1, features=0, number=19, next_number=20, last_seq=9, min_wal=17, live=3
):
    start = b"LSMM" + u32(version) + u32(oldest_reader) + u32(features) + UUID
    return start + u64(number) + u64(next_number) + u64(last_seq) + u64(min_wal) + u64(live)


def shape_bytes(block_bytes=4096, compression=3, level=1, bloom_bits=14, compaction=0):
    return u32(block_bytes) + u8(compression) + u8(level) + u8(bloom_bits) + u8(compaction)


def table_bytes(level=0, number=18, smallest=b"a", largest=b"b", entries=4, tombstones=1, file_bytes=500):
    counts = u64(entries) + u64(tombstones) + u64(90) + u64(3) + u64(9)
    keys = counted(smallest) + counted(largest)
    return u8(level) + u64(number) + u64(file_bytes) + u32(0xAABBCCDD) + counts + keys


def with_tables(*tables):
    return sealed(fixed_bytes() + shape_bytes() + u32(len(tables)) + b"".join(tables))


def test_a_manifest_without_tables_is_never_longer_than_said():
    options = Options(compaction="fifo", max_bytes=1 << 40, log_keep_bytes=1 << 30)
    assert manifest.BLANK_BYTES == len(encode(state(shape=options.shape())))


def kept_bytes(number, end, last_seq, shape=None, keep_bytes=1 << 20):
    """Return a manifest up to its tables, of a database that keeps logs."""
    kept = u64(keep_bytes) + u64(number) + u32(end) + u64(last_seq)
    return fixed_bytes(features=2) + (shape or shape_bytes()) + kept


KEEPING = {**SHAPE, "log_keep_bytes": 1 << 20}
EMPTY = fixed_bytes() + shape_bytes() + u32(0)
CASES = [
    (state(), sealed(EMPTY)),
    (state(min_wal=20), sealed(fixed_bytes(min_wal=20) + shape_bytes() + u32(0))),
    (
        state(
            (table(MAX_NUMBER - 1, entries=MAX_NUMBER),),
            next_number=MAX_NUMBER,
            last_seq=MAX_NUMBER,
            live_count=MAX_NUMBER,
        ),
        sealed(
            fixed_bytes(next_number=MAX_NUMBER, last_seq=MAX_NUMBER, live=MAX_NUMBER)
            + shape_bytes()
            + u32(1)
            + table_bytes(number=MAX_NUMBER - 1, entries=MAX_NUMBER)
        ),
    ),
    (state(live_count=None), sealed(fixed_bytes(live=2**64 - 1) + shape_bytes() + u32(0))),
    (
        state(shape={**SHAPE, "compression": None, "compression_level": -7, "bloom_bits_per_key": 0}),
        sealed(fixed_bytes() + shape_bytes(compression=2, level=249, bloom_bits=0) + u32(0)),
    ),
    (
        state(shape={**SHAPE, "dictionaries": False}),
        sealed(fixed_bytes() + shape_bytes(compression=1) + u32(0)),
    ),
    (
        state(shape={**SHAPE, "compression": None, "dictionaries": False}),
        sealed(fixed_bytes() + shape_bytes(compression=0) + u32(0)),
    ),
    (
        state(shape={**SHAPE, "compaction": "tiered"}),
        sealed(fixed_bytes() + shape_bytes(compaction=1) + u32(0)),
    ),
    (
        state(shape={**SHAPE, "compaction": "fifo", "max_bytes": 1 << 40}),
        sealed(fixed_bytes() + shape_bytes(compaction=2) + u64(1 << 40) + u32(0)),
    ),
    (
        state((table(18),), (), (table(3, b"a", b"a"), table(7, b"b", b"c"))),
        with_tables(table_bytes(), table_bytes(2, 3, b"a", b"a"), table_bytes(2, 7, b"b", b"c")),
    ),
    (
        state((table(18, b"m", b"z"), table(12, b"", b"\xff" * MAX_KEY_BYTES))),
        with_tables(table_bytes(0, 18, b"m", b"z"), table_bytes(0, 12, b"", b"\xff" * MAX_KEY_BYTES)),
    ),
]
CASES += [
    (state(shape=KEEPING), sealed(kept_bytes(0, 0, 0) + u32(0))),
    (state(shape=KEEPING, prev_log=(16, 161, 9)), sealed(kept_bytes(16, 161, 9) + u32(0))),
    (
        state(shape={**KEEPING, "compaction": "fifo", "max_bytes": 7}, prev_log=(1, 2**32 - 1, 0)),
        sealed(kept_bytes(1, 2**32 - 1, 0, shape_bytes(compaction=2) + u64(7)) + u32(0)),
    ),
]
SMALL = state((table(18),), (table(3, b"a", b"a"), table(7, b"b", b"c")))
BAD = [
    (b"", "no manifest"),
    (b"LSMM", "no manifest"),
    (sealed(EMPTY)[:91], "no manifest"),
    (patched(sealed(EMPTY), 0, b"LSMW"), "no manifest"),
    (sealed(EMPTY)[:-1], "cut short"),
    (sealed(EMPTY) + b"\0", "cut short"),
    (patched(sealed(EMPTY), len(EMPTY), u64(7)), "cut short"),
    (sealed(EMPTY, number=18), "checksum"),
    (sealed(EMPTY[:-1]), "bytes expected"),
    (sealed(EMPTY + b"\0"), "1 bytes too many"),
    (sealed(fixed_bytes() + shape_bytes() + u32(1)), "bytes expected"),
    (sealed(fixed_bytes() + shape_bytes() + u32(MAX_TABLES) + table_bytes()), "bytes expected"),
    (sealed(fixed_bytes() + shape_bytes() + u32(MAX_TABLES + 1) + table_bytes()), "100001 tables"),
    (sealed(fixed_bytes(min_wal=0) + shape_bytes() + u32(0)), "log 0 is needed"),
    (with_tables(table_bytes()[:-2]), "bytes expected"),
    (sealed(fixed_bytes(number=18) + shape_bytes() + u32(0)), "manifest 18"),
    (sealed(fixed_bytes(next_number=19) + shape_bytes() + u32(0)), "next number 19"),
    (sealed(fixed_bytes(next_number=1 << 63) + shape_bytes() + u32(0)), "next number 9223372036854775808"),
    (sealed(fixed_bytes(min_wal=21) + shape_bytes() + u32(0)), "next number 20"),
    (sealed(fixed_bytes(last_seq=1 << 63) + shape_bytes() + u32(0)), "last sequence 9223372036854775808"),
    (sealed(fixed_bytes(live=1 << 63) + shape_bytes() + u32(0)), "9223372036854775808 keys"),
    (with_tables(table_bytes(number=20)), "next number 20"),
    (with_tables(table_bytes(number=18), table_bytes(number=18)), "next number 20"),
    (with_tables(table_bytes(level=MAX_LEVELS)), "level 16 is out of order"),
    (with_tables(table_bytes(level=127)), "level 127 is out of order"),
    (with_tables(table_bytes(1, 3), table_bytes(0, 18)), "table 18 in level 0 is out of order"),
    (with_tables(table_bytes(1, 3, b"a", b"b"), table_bytes(1, 4, b"b", b"c")), "table 4 in level 1"),
    (with_tables(table_bytes(1, 3, b"c", b"d"), table_bytes(1, 4, b"a", b"b")), "table 4 in level 1"),
    (with_tables(table_bytes(smallest=b"b", largest=b"a")), "bounds of table 18"),
    (with_tables(table_bytes(largest=b"b" * (MAX_KEY_BYTES + 1))), "bounds of table 18"),
    (with_tables(table_bytes(smallest=b"a" * (MAX_KEY_BYTES + 1))), "bounds of table 18"),
    (with_tables(table_bytes(entries=1 << 63)), "9223372036854775808 entries"),
    (with_tables(table_bytes(entries=1, tombstones=2)), "1 entries, 2 deletions"),
    (with_tables(table_bytes(entries=0, tombstones=0)), "0 entries"),
    (with_tables(table_bytes(file_bytes=0)), " 0 bytes"),
    (sealed(kept_bytes(17, 161, 9) + u32(0)), "log 17, up to sequence 9, is kept for nothing"),
    (sealed(kept_bytes(16, 161, 10) + u32(0)), "log 16, up to sequence 10, is kept for nothing"),
    (sealed(kept_bytes(16, 161, 9, keep_bytes=0) + u32(0)), "is kept for nothing"),
    (sealed(kept_bytes(16, 161, 9)[:-1]), "bytes expected"),
]
NEWER = [
    (fixed_bytes(version=2, oldest_reader=2) + shape_bytes() + u32(0), "format 2"),
    (fixed_bytes(features=0x10) + shape_bytes() + u32(0), "features 0x10"),
    (fixed_bytes() + shape_bytes(compression=4) + u32(0), "compression 4"),
    (fixed_bytes() + shape_bytes(compaction=3) + u32(0), "compaction 3"),
    (fixed_bytes() + shape_bytes(compaction=2) + u64(0) + u32(0), "max_bytes=0"),
    (
        fixed_bytes() + shape_bytes(compaction=2) + u64(1 << 63) + u32(0),
        "max_bytes=9223372036854775808",
    ),
    (kept_bytes(0, 0, 0, keep_bytes=1 << 63) + u32(0), "log_keep_bytes=9223372036854775808"),
    (fixed_bytes() + shape_bytes(block_bytes=0) + u32(0), "block_bytes=0"),
    (fixed_bytes() + shape_bytes(block_bytes=2**32 - 1) + u32(0), "block_bytes=4294967295"),
    (fixed_bytes() + shape_bytes(level=100) + u32(0), "compression_level=100"),
    (fixed_bytes() + shape_bytes(bloom_bits=255) + u32(0), "bloom_bits_per_key=255"),
]


@pytest.mark.parametrize(("decoded", "stored"), CASES, ids=describe)
def test_manifest_has_these_bytes_and_is_read_back(decoded, stored):
    assert stored == encode(decoded)
    assert decoded == decode(stored, 19)


@pytest.mark.parametrize(("stored", "reason"), BAD, ids=describe)
def test_bytes_that_are_no_manifest_are_malformed(stored, reason):
    with pytest.raises(Malformed, match=reason) as caught:
        decode(stored, 19)
    assert not isinstance(caught.value, Unsupported)


@pytest.mark.parametrize(("body", "reason"), NEWER, ids=describe)
def test_manifest_of_a_newer_format_is_unsupported_and_says_why(body, reason):
    with pytest.raises(Unsupported, match=reason):
        decode(sealed(body), 19)


def test_newer_manifest_that_older_readers_may_read_is_read():
    assert state() == decode(sealed(fixed_bytes(version=2) + shape_bytes() + u32(0)), 19)


def test_damaged_manifest_of_a_newer_format_is_not_called_newer():
    newer = sealed(NEWER[0][0])
    for _, damaged in flipped(newer):
        with pytest.raises(Malformed) as caught:
            decode(damaged, 19)
        assert not isinstance(caught.value, Unsupported)


def test_every_wrong_bit_of_a_manifest_is_noticed():
    for _, damaged in flipped(encode(SMALL)):
        with pytest.raises(Malformed):
            decode(damaged, 19)


def test_manifest_cut_anywhere_is_none():
    stored = encode(SMALL)
    for length in range(len(stored)):
        for found in (stored[:length], stored[:length] + bytes(len(stored) - length)):
            if found != stored:
                with pytest.raises(Malformed):
                    decode(found, 19)


def test_manifest_under_the_name_of_another_is_none():
    with pytest.raises(Malformed, match="checksum"):
        decode(encode(SMALL), 20)


def test_manifest_with_damage_and_a_right_checksum_is_read_or_malformed(seed):
    rng = random.Random(f"{seed} manifest")
    body = encode(SMALL)[:-20]
    for _ in range(3000):
        damaged = patched(body, rng.randrange(len(body)), rng.randbytes(rng.choice((1, 4, 8))))
        try:
            found = decode(sealed(damaged), 19)
        except Malformed:
            continue
        assert found == decode(encode(found), 19), f"seed {seed}"


numbers = st.integers(0, MAX_NUMBER)
metas = st.builds(
    table,
    st.integers(0, 10**9),
    st.just(b""),
    st.binary(max_size=6),
    file_bytes=st.integers(1, MAX_NUMBER),
    footer_crc=st.integers(0, 2**32 - 1),
    entries=st.integers(1, MAX_NUMBER),
    tombstones=st.just(0),
    raw_bytes=numbers,
    first_seq=numbers,
    last_seq=numbers,
)


@given(
    st.lists(metas, unique_by=lambda meta: meta.number, max_size=5),
    st.lists(st.binary(max_size=4), unique=True, max_size=4),
    st.builds(
        state,
        uuid=st.binary(min_size=16, max_size=16),
        number=st.integers(0, 10**9),
        next_number=st.integers(10**10, MAX_NUMBER),
        last_seq=numbers,
        min_wal=numbers.map(lambda number: 1 + number % 10**9),
        live_count=st.none() | numbers,
    ),
)
def test_any_manifest_is_read_back(newest, keys, decoded):
    deep = tuple(table(10**9 + 1 + index, key, key) for index, key in enumerate(sorted(keys)))
    decoded = decoded._replace(
        levels=(tuple(newest), (), deep) if deep else (tuple(newest),) if newest else ()
    )

    assert decoded == decode(encode(decoded), decoded.number)


def test_unknown_count_is_no_number_that_a_count_can_be():
    assert UNKNOWN_COUNT > MAX_NUMBER


@pytest.mark.parametrize("count", [-1, MAX_NUMBER + 1])
def test_count_that_cannot_be_is_written_as_unknown(count):
    """A manifest with a wrong count leads to such a one; no reader would take the next manifest then."""
    assert SMALL._replace(live_count=None) == decode(encode(SMALL._replace(live_count=count)), 19)


# Holes

HOLES = ((b"a", b"ab"), (b"b", b"b\0"))


def test_holes_come_back_and_a_reader_that_does_not_know_them_is_warned():
    expected = state((table(18, holes=HOLES),), (), (table(17),))
    data = encode(expected)

    assert (1, expected) == (int.from_bytes(data[12:16], "little"), decode(data, 19))
    assert 0 == int.from_bytes(encode(state((table(18),)))[12:16], "little")


@pytest.mark.parametrize(
    ("holes", "reason"),
    [
        (((b"", b"aa"),), "holes of table 18"),
        (((b"a", b"b\0\0"),), "holes of table 18"),
        (((b"b", b"b"),), "holes of table 18"),
        (((b"b", b"a"),), "holes of table 18"),
        (((b"b", b"b\0"), (b"a", b"aa")), "holes of table 18"),
        (((b"a", b"aa"), (b"aa", b"ab")), "holes of table 18"),
        (((b"a", b"b\0"),), "table 18 is void"),
    ],
)
def test_holes_that_cannot_be_are_malformed(holes, reason):
    with pytest.raises(Malformed, match=reason):
        decode(encode(state((table(18, holes=holes),))), 19)


def test_holes_that_the_features_deny_are_malformed():
    data = encode(state((table(18, holes=HOLES),)))
    body = data[:12] + u32(0) + data[16:-20]
    with pytest.raises(Malformed, match="which the features deny"):
        decode(sealed(body), 19)
