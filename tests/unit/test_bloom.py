"""The bloom filter: never a false no, and few false yeses."""

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmh3 import hash128

from lsmdbm._format import bloom
from lsmdbm._format.bloom import Bloom, blank, encode, fill, hashes, word_count
from lsmdbm._format.coding import Malformed


def build(keys, bits_per_key=12):
    words = blank(word_count(len(keys), bits_per_key))
    fill(words, hashes(keys))
    return encode(words)


def mask(index):
    low, high = index % 64, index // 64
    return (1 << low) | (1 << high) | (1 << ((5 * low + 11 * high + 17) % 64))


def test_filter_is_what_the_specification_says():
    keys = [b"key %d" % index for index in range(50)]
    words = [0] * 10
    for key in keys:
        h = hash128(key, seed=0)
        words[h % 10] |= mask(h >> 116) | mask((h >> 104) & 4095)

    assert b"".join(word.to_bytes(8, "little") for word in words) == build(keys)


def test_filter_of_known_keys_has_these_bytes():
    """The hash is part of the format: another version of mmh3 must give the same."""
    assert "8100102085005204" == build([b"apple", b"banana"]).hex()


@pytest.mark.parametrize(
    ("keys", "bits", "words"), [(0, 12, 0), (1, 0, 0), (1, 1, 1), (16, 4, 1), (17, 4, 2), (1000, 12, 188)]
)
def test_words_are_as_many_as_the_bits_need(keys, bits, words):
    assert words == word_count(keys, bits)
    assert 8 * words == len(encode(blank(words)))


@given(st.lists(st.binary(max_size=8)), st.integers(1, 16))
def test_no_key_is_denied(keys, bits):
    found = Bloom(build(keys, bits))

    assert all(map(found.may_contain, keys))


def test_empty_filter_denies_nothing():
    assert Bloom(b"").may_contain(b"anything")


def test_filter_without_keys_denies_everything():
    assert not Bloom(bytes(8)).may_contain(b"anything")


@pytest.mark.parametrize("length", [1, 7, 9, 15])
def test_filter_that_is_no_whole_number_of_words_is_malformed(length):
    with pytest.raises(Malformed, match=f"filter of {length} bytes"):
        Bloom(bytes(length))


def test_words_are_little_endian_on_any_machine(monkeypatch):
    words = array("Q", [0x0102030405060708, 1 << 63])
    here = encode(words)
    monkeypatch.setattr(bloom.sys, "byteorder", {"little": "big", "big": "little"}[bloom.sys.byteorder])

    assert here == b"".join(encode(words)[low : low + 8][::-1] for low in (0, 8))
    assert array("Q", [0x0102030405060708, 1 << 63]) == words  # encode() leaves its argument alone
    assert words == Bloom(encode(words)).words


@pytest.mark.parametrize(("bits", "limit"), [(10, 0.025), (12, 0.015), (16, 0.007)])
def test_few_absent_keys_pass(bits, limit, seed):
    rng = random.Random(f"{seed} bloom")
    keys = {rng.randbytes(rng.randrange(4, 20)) for _ in range(20_000)}
    probes = [key for key in (rng.randbytes(12) for _ in range(200_000)) if key not in keys]
    passed = sum(map(Bloom(build(keys, bits)).may_contain, probes))

    assert passed / len(probes) < limit, f"seed {seed}: {passed} of {len(probes)} pass"
