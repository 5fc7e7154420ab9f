"""Bloom filter: one 64-bit word per key, so that a probe is one hash and one word.

    filter := words u64[n]

    h       := MurmurHash3_x64_128(key, seed 0), both halves as one integer, the first half lowest
    word    := words[h mod n]
    pattern := mask(h >> 116) | mask((h >> 104) & 4095)
    mask(i) := the bits a, b and (5 a + 11 b + 17) mod 64, where a = i mod 64 and b = i div 64

Rules
  1. may_contain() is never False for a key that was built in.
  2. An empty filter says True to everything: filters are turned off by leaving them out.

With 12 bits per key 1.03 % of absent keys pass, with 10 bits 1.90 % (measured; docs/benchmarks.md).
The blocked layout is that of Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom
Filters" (2007), with a block of one word.

Thread safety: a Bloom is immutable.  Spec: docs/format.md, Bloom filter.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence

from mmh3 import hash128

from lsmdbm._format.coding import Malformed

WORD_BYTES = 8
EVERYTHING = b"\xff" * WORD_BYTES


_BITS = [1 << place for place in range(64)]
_MASKS = [
    _BITS[low] | _BITS[high] | _BITS[5 * low + 11 * high + 17 & 63] for high in range(64) for low in range(64)
]

hash_key = hash128


def pattern(h: int) -> int:
    """Return the bits that the key with this `hash_key` sets in its word of any filter."""
    return _MASKS[h >> 116] | _MASKS[h >> 104 & 4095]


def hashes(keys: Iterable[bytes]) -> list[int]:
    """Return what `build` wants of each key.  About 80 ns a key."""
    return list(map(hash128, keys))


def word_count(key_count: int, bits_per_key: int) -> int:
    """Return how many words a filter over `key_count` keys has; 0 turns it off."""
    return -(-key_count * bits_per_key // 64)


def fill(words: array[int], hashed: Sequence[int]) -> None:
    """Set the bits of some keys in `words`.  About 230 ns a key."""
    count = len(words)
    masks = _MASKS
    for h in hashed:
        top = h >> 104
        words[h % count] |= masks[top >> 12] | masks[top & 4095]


def blank(count: int) -> array[int]:
    """Return `count` empty words."""
    return array("Q", bytes(WORD_BYTES * count))


def encode(words: array[int]) -> bytes:
    """Return the words as bytes."""
    if sys.byteorder == "big":
        words = array("Q", words)
        words.byteswap()
    return words.tobytes()


class Bloom:
    """A filter as read from a table.

    Attributes:
        words: never empty.  A key may be here if all bits of its `pattern` are set in the one of them that
            stands at its `hash_key` modulo their number.
    """

    __slots__ = ("words",)

    def __init__(self, data: bytes) -> None:
        if len(data) % WORD_BYTES:
            raise Malformed(f"filter of {len(data)} bytes is no whole number of words")
        words = array("Q", data or EVERYTHING)  # rule 2
        if sys.byteorder == "big":
            words.byteswap()
        self.words = words

    def may_contain(self, key: bytes) -> bool:
        """Return False only if the key is certainly absent.  About 250 ns."""
        words = self.words
        h = hash128(key)
        bits = _MASKS[h >> 116] | _MASKS[h >> 104 & 4095]  # `may_hold` and `pattern`, without the calls
        return words[h % len(words)] & bits == bits

    def may_hold(self, h: int, bits: int) -> bool:
        """Do what `may_contain` does for the key with this `hash_key` and this `pattern`."""
        words = self.words
        return words[h % len(words)] & bits == bits
