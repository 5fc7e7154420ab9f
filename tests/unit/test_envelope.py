"""Envelopes: compressed where it pays, checked before anything else."""

import random
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lsmdbm._format import envelope
from lsmdbm._format.coding import Malformed
from lsmdbm._format.envelope import CRC_BYTES, MANY, MAX_COMPRESSED, WORTH, check, seal, unwrap, wrap
from support.documents import dictionary_for, documents
from support.format import describe, flipped, place, seed_of, u8, u32, u64, with_crc
from support.threads import in_threads

SEED = seed_of(18, 7)
RAW = b"red, green, " * 20
FRAME = zstandard.ZstdCompressor(level=1).compress(RAW)
COMPRESSOR = zstandard.ZstdCompressor
MAGIC = bytes.fromhex("28b52ffd")
DOCUMENTS = documents(random.Random("envelope"), 900)
DICTIONARY = dictionary_for(DOCUMENTS)
OTHER = dictionary_for([(key, value.swapcase()) for key, value in DOCUMENTS])
PARTS = [b"\n".join(value for _, value in DOCUMENTS[low : low + 20]) for low in range(0, 400, 20)]


def rle_frame(length, *, stated=None, window=None, dictionary=b""):
    """Return a zstd frame of `length` times b"x" in one block, by hand."""
    sizes = u64(length if stated is None else stated)
    last_rle_block = 1 | 1 << 1 | length << 3
    descriptor = 0xC0 | (0 if window else 0x20) | len(dictionary)  # 8 bytes of size, one segment if no window
    return MAGIC + u8(descriptor) + (window or b"") + dictionary + sizes + u32(last_rle_block)[:3] + b"x"


@pytest.mark.parametrize("raw", [b"", b"a", b"abc" * 4, RAW, bytes(100_000)], ids=describe)
@pytest.mark.parametrize("level", [None, -7, 0, 1, 19])
@pytest.mark.parametrize("offset", [0, 28, 1 << 40])
def test_wrapped_bytes_are_unwrapped(raw, level, offset):
    assert raw == unwrap(wrap(raw, level, SEED, offset), len(raw), SEED, offset)


@pytest.mark.parametrize("raw", [b"", b"abc", RAW], ids=describe)
def test_raw_envelope_is_the_bytes_and_their_checksum(raw):
    assert with_crc(raw, place(18, 7, 28)) == wrap(raw, None, SEED, 28)


def test_compressed_envelope_is_a_frame_and_its_checksum():
    stored = wrap(RAW, 1, SEED, 28)

    assert len(stored) < len(RAW)
    assert with_crc(stored[:-CRC_BYTES], place(18, 7, 28)) == stored
    assert (MAGIC, len(RAW)) == (stored[:4], zstandard.frame_content_size(stored[:-CRC_BYTES]))


def test_frame_is_kept_only_where_it_saves_enough():
    rng = random.Random(1)
    tried = [rng.randbytes(200 - same) + bytes(same) for same in range(60)]
    frames = [zstandard.ZstdCompressor(level=1).compress(raw) for raw in tried]
    stored = [wrap(raw, 1, SEED, 0)[:-CRC_BYTES] for raw in tried]

    assert {WORTH - 1, WORTH} <= {len(raw) - len(frame) for raw, frame in zip(tried, frames, strict=True)}
    assert stored == [
        frame if len(raw) - len(frame) >= WORTH else raw for raw, frame in zip(tried, frames, strict=True)
    ]


def mixed(count):
    """Return raw bytes of all kinds: too short, too long, compressible or not, and so many documents."""
    odd = [
        b"",
        b"a",
        bytes(WORTH),
        bytes(WORTH + 1),
        random.Random(2).randbytes(200),
        bytes(MAX_COMPRESSED + 1),
    ]
    return [*odd, *(value * 2 for _, value in DOCUMENTS[:count]), RAW]


@pytest.mark.parametrize("count", [0, MANY - 4, MANY - 3, MANY, 300])
@pytest.mark.parametrize(
    ("level", "dictionary"), [(None, b""), (-1, b""), (1, b""), (19, b""), (1, DICTIONARY)]
)
def test_bytes_are_compressed_together_as_each_alone(count, level, dictionary):
    raws = mixed(count)

    expected = [envelope.compress(raw, level, dictionary) for raw in raws]
    assert expected == envelope.compress_all(raws, level, dictionary)


@pytest.mark.parametrize(("count", "alone", "together"), [(MANY - 4, MANY - 1, 0), (MANY, 0, 1)])
def test_many_frames_are_made_by_one_call(monkeypatch, count, alone, together):
    calls = []

    class Counting:
        def __init__(self, level, **options):
            self.real = COMPRESSOR(level, **options)

        def compress(self, raw):
            calls.append("alone")
            return self.real.compress(raw)

        def multi_compress_to_buffer(self, raws):
            calls.append("together")
            return self.real.multi_compress_to_buffer(raws)

    monkeypatch.setattr(envelope, "_codecs", envelope._Codecs())
    monkeypatch.setattr(envelope.zstandard, "ZstdCompressor", Counting)
    envelope.compress_all(mixed(count), 1)

    assert (alone, together) == (calls.count("alone"), calls.count("together"))


def test_a_backend_that_knows_only_single_calls_will_do(monkeypatch):
    class Single:
        def __init__(self, level, **options):
            self.compress = COMPRESSOR(level, **options).compress

    expected = envelope.compress_all(mixed(MANY), 1)
    monkeypatch.setattr(envelope, "_codecs", envelope._Codecs())
    monkeypatch.setattr(envelope.zstandard, "ZstdCompressor", Single)

    assert expected == envelope.compress_all(mixed(MANY), 1)


def test_a_row_of_envelopes_is_each_at_its_place():
    bodies = [b"", b"red", RAW, b"green"]
    offset, expected = 28, []
    for body in bodies:
        expected.append(seal(body, SEED, offset))
        offset += len(expected[-1])

    assert expected == envelope.seal_all(bodies, SEED, 28)


def test_what_is_longer_than_the_limit_is_neither_compressed_nor_expanded(monkeypatch):
    monkeypatch.setattr(envelope, "MAX_COMPRESSED", len(RAW))
    longer = RAW + b"."

    assert len(wrap(RAW, 1, SEED, 0)) < len(RAW)
    assert RAW == unwrap(wrap(RAW, 1, SEED, 0), len(RAW), SEED, 0)
    assert longer + wrap(longer, 1, SEED, 0)[-CRC_BYTES:] == wrap(longer, 1, SEED, 0)
    assert longer == unwrap(wrap(longer, 1, SEED, 0), len(longer), SEED, 0)
    with pytest.raises(Malformed, match="cannot hold"):
        unwrap(seal(zstandard.compress(longer), SEED, 0), len(longer), SEED, 0)


@given(st.binary(max_size=300), st.sampled_from([None, 1]), st.integers(0, 2**32 - 1), st.integers(0, 2**63))
def test_any_bytes_are_unwrapped(raw, level, seed, offset):
    assert raw == unwrap(wrap(raw, level, seed, offset), len(raw), seed, offset)


@pytest.mark.parametrize("level", [None, 1])
@pytest.mark.parametrize(
    ("seed", "offset"), [(SEED, 29), (SEED, 0), (seed_of(17, 7), 28), (seed_of(18, 8), 28)]
)
def test_envelope_in_another_place_is_malformed(level, seed, offset):
    with pytest.raises(Malformed, match="checksum"):
        unwrap(wrap(RAW, level, SEED, 28), len(RAW), seed, offset)


@pytest.mark.parametrize("level", [None, 1])
def test_every_wrong_bit_of_an_envelope_is_noticed(level):
    for _, damaged in flipped(wrap(RAW, level, SEED, 28)):
        with pytest.raises(Malformed, match="checksum"):
            unwrap(damaged, len(RAW), SEED, 28)


@pytest.mark.parametrize("level", [None, 1])
def test_envelope_cut_anywhere_is_malformed(level):
    stored = wrap(RAW, level, SEED, 28)
    for length in range(len(stored)):
        with pytest.raises(Malformed, match="checksum"):
            unwrap(stored[:length], len(RAW), SEED, 28)


def test_check_gives_the_body_as_it_is_stored():
    assert FRAME == check(seal(FRAME, SEED, 28), SEED, 28)
    with pytest.raises(Malformed, match="checksum"):
        check(seal(FRAME, SEED, 28), SEED, 29)


def test_frames_by_hand_are_frames():
    assert b"x" * 1000 == unwrap(seal(rle_frame(1000), SEED, 0), 1000, SEED, 0)
    assert b"x" * 1000 == unwrap(seal(rle_frame(1000, window=b"\x50"), SEED, 0), 1000, SEED, 0)


@pytest.mark.parametrize(
    ("body", "raw_bytes", "reason"),
    [
        (b"abc", 2, "3 bytes cannot hold the 2"),
        (b"abc", MAX_COMPRESSED + 1, "cannot hold"),
        (b"abc", 4, "zstd"),
        (b"", 1, "zstd"),
        (FRAME, len(RAW) + 1, "zstd frame of 240 bytes where 241"),
        (FRAME[:-1], len(RAW), "zstd: "),
        (FRAME + b"\0", len(RAW), "zstd: "),
        (FRAME + FRAME, len(RAW), "zstd: "),
        (FRAME + FRAME, 2 * len(RAW), "zstd frame of 240 bytes"),
        (bytes.fromhex("502a4d18 04000000 00000000") + FRAME, len(RAW), "zstd frame of 0 bytes"),
        (
            zstandard.ZstdCompressor(write_content_size=False).compress(RAW),
            len(RAW),
            "zstd frame of -1 bytes",
        ),
        (rle_frame(1000, stated=999), 999, "zstd: "),
        (rle_frame(1000, stated=1001), 1001, "zstd: "),
        (rle_frame(1000, dictionary=b"\x07"), 1000, "zstd: "),
        (rle_frame(1000, window=b"\xf8")[:-1], 1000, "zstd: "),
    ],
    ids=describe,
)
def test_body_that_is_no_frame_of_the_stated_length_is_malformed(body, raw_bytes, reason):
    with pytest.raises(Malformed, match=reason):
        unwrap(seal(body, SEED, 0), raw_bytes, SEED, 0)


@pytest.mark.parametrize("stated", [1 << 30, 1 << 50, 2**64 - 3])
@pytest.mark.parametrize("raw_bytes", [1000, MAX_COMPRESSED])
def test_bomb_is_refused_before_memory_is_taken_for_it(stated, raw_bytes):
    bomb = seal(rle_frame(1000, stated=stated), SEED, 0)
    tracemalloc.start()
    try:
        with pytest.raises(Malformed, match=f"zstd frame of {stated} bytes where {raw_bytes}"):
            unwrap(bomb, raw_bytes, SEED, 0)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_nothing_is_expanded_before_the_checksum_held(monkeypatch):
    class Refusing:
        def decompress(self, *_, **__):
            raise AssertionError("expanded")

    monkeypatch.setattr(envelope, "_codecs", Refusing())
    stored = seal(FRAME, SEED, 28)
    with pytest.raises(Malformed, match="checksum"):
        unwrap(stored, len(RAW), SEED, 0)
    with pytest.raises(AssertionError, match="expanded"):
        unwrap(stored, len(RAW), SEED, 28)


def test_frame_that_gives_less_than_it_states_is_malformed(monkeypatch):
    class Short:
        def decompress(self, frame, *_):
            return zstandard.decompress(frame)[:-1]

    monkeypatch.setattr(envelope, "_codecs", Short())
    with pytest.raises(Malformed, match="gave 239 bytes, 240 expected"):
        unwrap(seal(FRAME, SEED, 0), len(RAW), SEED, 0)


# Dictionaries


def test_bytes_wrapped_with_a_dictionary_are_unwrapped_with_it_only():
    for raw in (b"", b"a", *PARTS):
        assert raw == unwrap(wrap(raw, 1, SEED, 28, DICTIONARY), len(raw), SEED, 28, DICTIONARY)
    stored = wrap(PARTS[0], 1, SEED, 28, DICTIONARY)
    with pytest.raises(Malformed, match="zstd: "):
        unwrap(stored, len(PARTS[0]), SEED, 28)
    with pytest.raises(Malformed, match="zstd: "):
        unwrap(stored, len(PARTS[0]), SEED, 28, OTHER)


def test_bytes_that_are_raw_need_no_dictionary():
    assert RAW == unwrap(seal(RAW, SEED, 28), len(RAW), SEED, 28, DICTIONARY)


def test_a_frame_that_is_found_is_expanded_with_the_dictionary_only_if_it_states_one(monkeypatch):
    """Expanded with a dictionary, a frame that was made without one may give other bytes."""
    with_one, without = (wrap(PARTS[0], 1, SEED, 28, dictionary) for dictionary in (DICTIONARY, b""))
    found = PARTS[0], len(PARTS[0])

    assert found == envelope.unwrap_found(with_one, SEED, 28, DICTIONARY)
    monkeypatch.setattr(envelope._codecs, "decompressor", None)
    assert found == envelope.unwrap_found(without, SEED, 28, DICTIONARY)


def test_a_dictionary_that_is_none_is_malformed_in_both_directions():
    for broken in (DICTIONARY[:20], b"\0" * 300, DICTIONARY[:8] + b"\xff" * 300):
        with pytest.raises(Malformed, match="zstd: "):
            wrap(PARTS[0], 1, SEED, 28, broken)
        with pytest.raises(Malformed, match="zstd: "):
            unwrap(wrap(PARTS[0], 1, SEED, 28, DICTIONARY), len(PARTS[0]), SEED, 28, broken)


@pytest.mark.parametrize("level", [None, 1])
@pytest.mark.parametrize("source", [b"", DICTIONARY])
@pytest.mark.parametrize("target", [b"", DICTIONARY, OTHER])
def test_a_body_goes_from_one_dictionary_to_another(level, source, target):
    for raw in (b"", b"short", *PARTS):
        body = envelope.compress(raw, 1, source)
        moved = envelope.recompress(body, len(raw), source, level, target)

        assert envelope.compress(raw, level, target) == moved
        assert raw == unwrap(seal(moved, SEED, 0), len(raw), SEED, 0, target)


def test_a_body_of_another_length_goes_nowhere():
    body = envelope.compress(PARTS[0], 1, DICTIONARY)
    for raw_bytes in (len(body) - 1, len(PARTS[0]) + 1, MAX_COMPRESSED + 1):
        with pytest.raises(Malformed):
            envelope.recompress(body, raw_bytes, DICTIONARY, 1, b"")


def test_a_thread_keeps_few_compressors_and_those_that_were_used_last():
    made = []

    def keep(key):
        return envelope._kept(kept, key, lambda: made.append(key) or key)

    kept = {}
    for key in [*range(envelope.KEPT), 0, envelope.KEPT, 0, 1]:
        assert key == keep(key)

    assert [*range(envelope.KEPT), envelope.KEPT, 1] == made
    assert envelope.KEPT == len(kept)


def test_threads_use_one_dictionary_at_the_same_time():
    failures = []

    def work(thread):
        for offset in range(100):
            raw = PARTS[(thread + offset) % len(PARTS)]
            stored = wrap(raw, 1, SEED, offset, DICTIONARY)
            if raw != unwrap(stored, len(raw), SEED, offset, bytes(bytearray(DICTIONARY))):
                failures.append(offset)

    in_threads(work, range(4))

    assert [] == failures


def test_threads_wrap_and_unwrap_at_the_same_time():
    failed = []

    def work(number):
        raw = b"%d " % number * 5000
        for offset in range(50):
            if raw != unwrap(wrap(raw, 1, SEED, offset), len(raw), SEED, offset):
                failed.append(number)

    in_threads(work, range(4))

    assert [] == failed
