"""Dictionaries: had where they pay, kept while they do well, and refused where they are none."""

import random

import pytest
import zstandard

from lsmdbm._format import dictionaries, envelope
from lsmdbm._format.coding import Malformed
from lsmdbm._format.dictionaries import (
    DICTIONARY_BYTES,
    LEAST_SAMPLE,
    LEAST_TABLE_BYTES,
    MAGIC,
    MAX_DICTIONARY_BYTES,
    SAMPLE_BLOCKS,
    check,
    choose,
    sample_count,
    unwrap,
)
from support.documents import blocks_of, dictionary_for, documents, noise
from support.format import u32

RNG = random.Random("dictionaries")
DOCUMENTS = blocks_of(documents(RNG, 900))
NOISE = blocks_of(noise(RNG, 900))
TABLE = 1 << 20


def stored(blocks, dictionary):
    """Return what blocks take on disk with a dictionary."""
    parts = [part for block in blocks for part in dictionaries._raw(block)]
    return sum(len(envelope.compress(part, 1, dictionary)) for part in parts)


def test_documents_get_a_dictionary_that_makes_other_documents_of_their_kind_smaller(seed):
    dictionary = choose(DOCUMENTS, 1, TABLE)
    others = blocks_of(documents(random.Random(f"{seed} others"), 400))

    assert 0 < len(dictionary) <= DICTIONARY_BYTES
    assert stored(others, dictionary) < 0.8 * stored(others, b"")
    assert dictionary == check(dictionary)


def test_what_has_nothing_in_common_gets_none():
    assert b"" == choose(NOISE, 1, TABLE)


def test_nothing_is_trained_where_untrained_bytes_promise_nothing(monkeypatch):
    monkeypatch.setattr(zstandard, "train_dictionary", None)

    assert b"" == choose(NOISE, 1, TABLE)
    with pytest.raises(TypeError):
        choose(DOCUMENTS, 1, TABLE)


@pytest.mark.parametrize("level", [-7, 1, 3, 19])
def test_a_dictionary_is_had_at_every_level(level):
    assert check(choose(DOCUMENTS, level, TABLE))


def test_the_same_sample_gives_the_same_dictionary():
    assert choose(DOCUMENTS, 1, TABLE) == choose(list(DOCUMENTS), 1, TABLE)
    assert choose(DOCUMENTS, 1, TABLE) != choose(DOCUMENTS[3:], 1, TABLE)


def test_the_bytes_of_a_dictionary_count_against_it():
    """It is worth it in a table of a megabyte, and not in one of a few blocks; it is in a table twice."""
    for table_bytes, is_worth_it in ((TABLE, True), (4_000, False)):
        assert is_worth_it == bool(choose(DOCUMENTS, 1, table_bytes))
    edge = next(size for size in range(2_000, 200_000, 1_000) if choose(DOCUMENTS, 1, size))
    dictionary = choose(DOCUMENTS, 1, edge)
    tests = DOCUMENTS[2::3]
    share = sum(len(part) for block in tests for part in dictionaries._raw(block)) / edge
    own = 2 * share * len(envelope.compress(dictionary, 1))

    assert 0.85 < (stored(tests, dictionary) + own) / stored(tests, b"") <= 0.9


def test_what_is_tested_was_not_trained_on():
    """The planted case: a third of the blocks, those held out, have nothing to do with the others."""
    sample = [NOISE[place] if place % 3 == 2 else block for place, block in enumerate(DOCUMENTS)]

    assert b"" == choose(sample, 1, TABLE)


def test_a_dictionary_that_does_well_is_kept(monkeypatch):
    inherited = choose(DOCUMENTS[:20], 1, TABLE)
    monkeypatch.setattr(zstandard, "train_dictionary", None)

    assert inherited == choose(DOCUMENTS[20:], 1, TABLE, inherited)


def test_a_dictionary_that_has_aged_is_replaced_or_dropped():
    other = [(key, value.replace(b'"', b"'").swapcase()) for key, value in documents(RNG, 900)]
    aged = dictionary_for(other)
    fresh = choose(DOCUMENTS, 1, TABLE, aged)

    assert aged
    assert fresh == choose(DOCUMENTS, 1, TABLE)
    assert b"" == choose(NOISE, 1, TABLE, aged)


@pytest.mark.parametrize("content", [b"", bytes(100), b"\xff" * 300])
def test_an_inherited_dictionary_that_zstd_refuses_is_not_kept(content):
    assert choose(DOCUMENTS, 1, TABLE) == choose(DOCUMENTS, 1, TABLE, MAGIC + u32(7) + content)


def test_of_few_blocks_there_is_no_dictionary():
    assert b"" == choose(DOCUMENTS[: LEAST_SAMPLE - 1], 1, TABLE)
    assert b"" != choose(DOCUMENTS[:LEAST_SAMPLE], 1, TABLE)
    assert b"" == choose([], 1, TABLE)


@pytest.mark.parametrize(
    ("block_bytes", "total_bytes", "count"),
    [
        (4096, LEAST_TABLE_BYTES, SAMPLE_BLOCKS),
        (4096, LEAST_TABLE_BYTES - 1, 0),
        (1, 1 << 30, SAMPLE_BLOCKS),
        (16384, 1 << 30, 12),
        (32768, 1 << 30, 0),
        (1 << 24, 1 << 40, 0),
    ],
)
def test_a_sample_is_bounded_and_large_enough_or_none(block_bytes, total_bytes, count):
    assert count == sample_count(block_bytes, total_bytes)


def test_parts_without_any_bytes_do_no_harm():
    """Blocks of deleted keys have empty bodies."""
    deleted = [(keys, [None] * len(keys)) for keys, _ in DOCUMENTS]

    assert isinstance(choose(deleted, 1, TABLE), bytes)
    assert isinstance(choose([([b""], [b""])] * 50, 1, TABLE), bytes)


def test_every_frame_states_the_id_of_its_dictionary_in_one_byte():
    dictionary = choose(DOCUMENTS, 1, TABLE)
    identity = int.from_bytes(dictionary[4:8], "little")
    for part in dictionaries._raw(DOCUMENTS[0]):
        found = zstandard.get_frame_parameters(envelope.compress(part, 1, dictionary))
        assert identity == found.dict_id

    assert 0 < identity < 256


# What is no dictionary


@pytest.mark.parametrize(
    ("dictionary", "reason"),
    [
        (b"", "no dictionary"),
        (b"\0" + MAGIC + bytes(100), "no dictionary"),
        (MAGIC + u32(0) + bytes(100), "without an id"),
        (MAGIC + u32(1) + bytes(MAX_DICTIONARY_BYTES - 7), "dictionary of 65537 bytes: the limit is 65536"),
    ],
)
def test_what_is_no_dictionary_is_malformed(dictionary, reason):
    with pytest.raises(Malformed, match=reason):
        check(dictionary)
    with pytest.raises(Malformed, match=reason if dictionary else "not compressed"):
        unwrap(envelope.wrap(dictionary, 1, 5, 28), len(dictionary), 5, 28)


def test_a_dictionary_cut_short_is_malformed():
    with pytest.raises(Malformed, match="no dictionary"):
        check(MAGIC + u32(1)[:3])


def test_the_longest_dictionary_is_taken():
    longest = MAGIC + u32(1) + bytes(MAX_DICTIONARY_BYTES - 8)

    assert longest == unwrap(envelope.wrap(longest, 1, 5, 28), len(longest), 5, 28)


def test_a_dictionary_that_is_not_compressed_is_refused():
    dictionary = MAGIC + u32(1) + RNG.randbytes(100)
    with pytest.raises(Malformed, match="dictionary is not compressed"):
        unwrap(envelope.wrap(dictionary, 1, 5, 28), len(dictionary), 5, 28)


def test_a_length_over_the_limit_is_refused_before_anything_is_expanded(monkeypatch):
    monkeypatch.setattr(envelope, "unwrap", None)
    with pytest.raises(Malformed, match="the limit"):
        unwrap(b"", MAX_DICTIONARY_BYTES + 1, 5, 28)
