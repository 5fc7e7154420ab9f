"""Entries that follow from their number, so that nobody need keep them: the same for every peer.

Rules
  1. A key is a hash of its number and the seed: numbers in order are keys in random order.
  2. A value is a slice of one pool, at a place that follows from the number and the version.  It is a fresh
     object each time, and half of every 100 bytes repeats the other half.
  3. `absent(i)` is a key that no number below `entries` has.

Thread safety: frozen after it is made.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache

import mmh3

PIECE = 100  # bytes; the second half of a piece is its first half again
PIECES = 1 << 14
LARGE_BYTES = 100_000
LUMP = 250  # entries that are made, and then timed, at once
PREPARED = 1_000_000  # so many are made before anything is timed; more would not fit into memory

Lump = tuple[list[bytes], list[bytes]]  # keys, values


@cache
def pool(seed: int) -> bytes:
    """Return what the values are cut from."""
    rng = random.Random(seed)
    return b"".join(2 * rng.randbytes(PIECE // 2) for _ in range(PIECES))


class Data:
    """Entries of one kind: random, sequential, small, large, urls or json."""

    def __init__(self, kind: str, entries: int, seed: int) -> None:
        self.kind = kind
        self.entries = max(10, entries // 1000) if kind == "large" else entries
        self.seed = seed & 0xFFFFFFFF
        self.key = getattr(self, f"_{kind}_key", self._hash)
        self.value = getattr(self, f"_{kind}_value", self._piece)
        self._pool = pool(self.seed)

    def _hash(self, number: int) -> bytes:
        return mmh3.hash_bytes(number.to_bytes(8, "little"), self.seed)

    def _sequential_key(self, number: int) -> bytes:
        return b"%016d" % number

    def _urls_key(self, number: int) -> bytes:
        site = number % 7
        return b"https://www.example.org/site-%d/articles/%s.html" % (site, self._hash(number).hex().encode())

    def _piece(self, number: int, version: int = 0) -> bytes:
        place = (number * 7919 + version * 104_729) % PIECES * PIECE
        return self._pool[place : place + PIECE]

    def _small_value(self, number: int, version: int = 0) -> bytes:
        return (number * 2_654_435_761 + version).to_bytes(8, "little")

    def _large_value(self, number: int, version: int = 0) -> bytes:
        place = (number * 7919 + version * 104_729) % (PIECES - LARGE_BYTES // PIECE) * PIECE
        return self._pool[place : place + LARGE_BYTES]

    def _json_value(self, number: int, version: int = 0) -> bytes:
        return json.dumps(self.document(number + version)).encode()

    def document(self, number: int) -> dict[str, object]:
        """Return a small record as programs keep them, some 250 bytes as JSON."""
        return {
            "id": number,
            "name": f"user{number * 7919 % 1_000_003}",
            "email": f"user{number * 7919 % 1_000_003}@example.org",
            "created": f"2026-{number % 12 + 1:02}-{number % 28 + 1:02}T{number % 24:02}:00:00Z",
            "active": number % 3 > 0,
            "score": number * 31 % 10_000 / 100,
            "tags": ["alpha", "beta", "gamma", "delta"][: number % 4 + 1],
            "address": {
                "city": ["Oslo", "Lima", "Pune", "Bern"][number % 4],
                "zip": f"{number % 100_000:05}",
            },
        }

    def absent(self, number: int) -> bytes:
        return self.key(number + (1 << 40))

    def sample(self, count: int, purpose: str) -> list[int]:
        """Return distinct numbers of entries in random order, another order for each purpose."""
        return random.Random(f"{self.seed} {purpose}").sample(range(self.entries), min(count, self.entries))

    def shuffled(self, purpose: str) -> range | list[int]:
        """Return the numbers of all entries in another order; very many backwards, as keys are hashes."""
        if self.entries > PREPARED:
            return range(self.entries - 1, -1, -1)
        return self.sample(self.entries, purpose)

    def lumps(
        self, numbers: range | list[int], version: int = 0, size: int = LUMP, stream: bool = False
    ) -> Iterator[Lump]:
        """Yield the entries with these numbers.

        Unless `stream`, all are made at once as long as memory allows, so that the threads of a peer get no
        time for themselves while an entry is made.
        """
        made = (
            ([*map(self.key, part)], [self.value(number, version) for number in part])
            for part in (numbers[low : low + size] for low in range(0, len(numbers), size))
        )
        return made if stream or len(numbers) > PREPARED or self.kind == "large" else iter([*made])

    def raw_bytes(self) -> float:
        """Return the bytes of key and value in an entry, on average over some."""
        some = range(min(self.entries, 1000))
        return sum(len(self.key(number)) + len(self.value(number)) for number in some) / len(some)
