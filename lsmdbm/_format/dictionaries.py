"""Dictionaries: what the blocks of a table have in common, for zstd to begin each of them with.

    dictionary := magic 0xEC30A437 u32 | id u32 | entropy tables | content            RFC 8878, section 5

Rules
  1. Every third block of a sample is held out of training, and tells what a dictionary is worth.
  2. A dictionary is taken only if it makes the table smaller by a tenth, its own bytes counted, twice.
  3. One that inputs have is kept as long as it does as well as untrained bytes of the sample: then blocks
     go from table to table as they are.  What does worse has aged.
  4. Nothing is trained where untrained bytes of the sample promise nothing.
  5. The same sample gives the same dictionary.

Thread safety: pure functions.  Spec: docs/format.md, Dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence

import zstandard

from lsmdbm._base.chunk import Chunk
from lsmdbm._format import envelope
from lsmdbm._format.block import encode_body, encode_head, tombstones_of
from lsmdbm._format.coding import U32, Malformed, crc32

MAX_DICTIONARY_BYTES = 1 << 16  # On disk: a reader refuses more.
DICTIONARY_BYTES = 8 << 10  # a writer makes none longer: more gave nothing
LEAST_DICTIONARY_BYTES = 2 << 10  # shorter ones did next to nothing
TABLE_SHARE = 64  # nor any longer than this part of the table it is for
LEAST_TABLE_BYTES = 128 << 10  # of keys and values, for which a dictionary is thought of
SAMPLE_BLOCKS, SAMPLE_BYTES = 48, 192 << 10  # 4 KiB blocks: training on more gave 1 % and took twice the time
LEAST_SAMPLE = 9  # blocks
HELD_OUT = 3  # rule 1
COPIES = 2  # of a dictionary in a table
WORTH = 0.9  # rule 2
PROMISE = 0.95  # rule 4
SEGMENT_BYTES, DMER_BYTES = 1024, 8  # of the COVER algorithm: short segments gave 5 % less
MAGIC = U32.pack(0xEC30A437)  # RFC 8878
HEADER_BYTES = 2 * U32.size

Raw = Sequence[bytes]  # heads and bodies of blocks


def check(dictionary: bytes) -> bytes:
    """Return a dictionary, or raise Malformed if it is none."""
    if len(dictionary) > MAX_DICTIONARY_BYTES:
        raise Malformed(f"dictionary of {len(dictionary)} bytes: the limit is {MAX_DICTIONARY_BYTES}")
    if len(dictionary) < HEADER_BYTES or not dictionary.startswith(MAGIC):
        raise Malformed("no dictionary")
    if dictionary.startswith(bytes(U32.size), U32.size):
        raise Malformed("dictionary without an id")
    return dictionary


def unwrap(stored: bytes, raw_bytes: int, seed: int, offset: int) -> bytes:
    """Return the dictionary in an envelope: `envelope.unwrap` with the limits of one."""
    if raw_bytes > MAX_DICTIONARY_BYTES:
        raise Malformed(f"dictionary of {raw_bytes} bytes: the limit is {MAX_DICTIONARY_BYTES}")
    if len(stored) - envelope.CRC_BYTES >= raw_bytes:
        raise Malformed("dictionary is not compressed")  # it could not be found when its lengths are lost
    return check(envelope.unwrap(stored, raw_bytes, seed, offset))


def sample_count(block_bytes: int, total_bytes: int) -> int:
    """Return how many blocks to sample for tables of so many bytes of keys and values; 0 for none."""
    count = min(SAMPLE_BLOCKS, SAMPLE_BYTES // block_bytes)
    return count if count >= LEAST_SAMPLE and total_bytes >= LEAST_TABLE_BYTES else 0


def choose(sample: Sequence[Chunk], level: int, table_bytes: int, inherited: bytes = b"") -> bytes:
    """Return the dictionary for tables of which these are some blocks; b"" if none pays.

    Takes about 1 ms, and 8 ms more if it trains one.

    Args:
        sample: chunks as long as blocks, from all over the tables.
        level: zstd level.
        table_bytes: keys and values in a table.
        inherited: the dictionary that most of the blocks have already; b"" for none.
    """
    blocks = [_raw(chunk) for chunk in sample]
    if len(blocks) < LEAST_SAMPLE:
        return b""
    tests = [part for block in blocks[HELD_OUT - 1 :: HELD_OUT] for part in block]
    learned = [part for place, block in enumerate(blocks) if (place + 1) % HELD_OUT for part in block]
    length = min(DICTIONARY_BYTES, max(LEAST_DICTIONARY_BYTES, table_bytes // TABLE_SHARE))
    content = b"".join(learned)[-DICTIONARY_BYTES:]
    plain = _stored(tests, level, b"")

    def total(dictionary: bytes) -> float:
        """Bytes of the tests, and of the share of the dictionary that falls upon them."""
        share = COPIES * sum(map(len, tests)) / max(1, table_bytes)
        return _stored(tests, level, dictionary) + share * len(envelope.compress(dictionary, level))

    if inherited and _is_usable(inherited, level):
        kept = total(inherited)
        if kept <= min(WORTH * plain, _stored_behind(content[-length:], tests, level)):  # rule 3
            return inherited
    if _stored_behind(content, tests, level) > PROMISE * plain:  # rule 4
        return b""
    trained = _train(learned, length, level)
    return trained if trained and total(trained) <= WORTH * plain else b""  # rule 2


def _raw(chunk: Chunk) -> tuple[bytes, bytes]:
    keys, values = chunk
    deleted = tombstones_of(values)
    return encode_head(keys, deleted), encode_body(values, deleted)


def _train(parts: Raw, length: int, level: int) -> bytes:
    """Return a dictionary of at most so many bytes that can be compressed; b"" if zstd finds none."""
    identity = crc32(b"".join(parts)) % 255 + 1  # in one byte, because each frame repeats it
    try:
        trained = zstandard.train_dictionary(
            length, list(parts), k=SEGMENT_BYTES, d=DMER_BYTES, level=level, dict_id=identity
        ).as_bytes()
    except zstandard.ZstdError:
        return b""
    return trained if len(envelope.compress(trained, level)) < len(trained) else b""


def _is_usable(dictionary: bytes, level: int) -> bool:
    try:
        envelope.compress(bytes(2 * envelope.WORTH), level, dictionary)
    except Malformed:
        return False
    return True


def _stored(parts: Raw, level: int, dictionary: bytes) -> int:
    return sum(len(envelope.compress(part, level, dictionary)) for part in parts)


def _stored_behind(content: bytes, parts: Raw, level: int) -> int:
    """Return what the parts take with untrained content before each of them."""
    data = zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    data.precompute_compress(level=level)
    compress = zstandard.ZstdCompressor(level=level, dict_data=data).compress
    return sum(min(len(part), len(compress(part))) for part in parts)
