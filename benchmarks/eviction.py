"""How often a cache misses, by how much of its old end is written anew when it is read, and what LRU misses.

    python -m benchmarks.eviction [--keys 20000] [--reads 60000]

Keys are drawn from a Zipf distribution; what is missed is set, 100 bytes that do not compress.  Misses are
those of the second half.  LRU is a simulation with as many entries as the cache holds that writes nothing
anew.

Thread safety: none.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import OrderedDict
from unittest import mock

from lsmdbm.cache import Cache, holding

SKEWS = (0.7, 0.9, 1.1)
SHARES = (0.0, 0.125, 0.25, 0.5)
MAX_BYTES = 1 << 20
VALUE_BYTES = 100


def drawn(keys: int, skew: float, reads: int, rng: random.Random) -> list[int]:
    """Return keys, as often as they are asked for."""
    names = rng.sample(range(keys), keys)
    return rng.choices(names, [1 / (rank + 1) ** skew for rank in range(keys)], k=reads)


def cached(stream: list[int], share: float, rng: random.Random) -> tuple[float, float, int]:
    """Return the misses of a read, the entries written anew for each, and how many are alive at the end."""
    half, hits = len(stream) // 2, 0
    with (
        mock.patch.object(holding, "LATE_SHARE", share),
        tempfile.TemporaryDirectory() as place,
        Cache(place, max_bytes=MAX_BYTES) as held,
    ):
        for number, key in enumerate(stream):
            if held.get(key) is None:
                held[key] = rng.randbytes(VALUE_BYTES)
            else:
                hits += number >= half
        return 1 - hits / (len(stream) - half), held.stats().kept / len(stream), len(held)


def lru(stream: list[int], entries: int) -> float:
    """Return the misses of a read where what was used last stays."""
    half, hits = len(stream) // 2, 0
    held: OrderedDict[int, None] = OrderedDict()
    for number, key in enumerate(stream):
        if key in held:
            held.move_to_end(key)
            hits += number >= half
        else:
            held[key] = None
            if len(held) > entries:
                held.popitem(last=False)
    return 1 - hits / (len(stream) - half)


def table(keys: int, reads: int) -> list[str]:
    """Return the lines of a table."""
    lines = ["| skew | written anew in | misses | writes for it, a read |", "| --- | --- | --- | --- |"]
    for skew in SKEWS:
        rng = random.Random(f"eviction {skew}")
        stream = drawn(keys, skew, reads, rng)
        entries = 0
        for share in SHARES:
            misses, kept, alive = cached(stream, share, rng)
            entries = entries or alive
            lines.append(f"| {skew} | {share:.3f} of the room | {misses:.3f} | {kept:.3f} |")
        lines.append(f"| {skew} | LRU of {entries:,} | {lru(stream, entries):.3f} | |")
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eviction")
    parser.add_argument("--keys", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--reads", type=int, default=60_000, help="default: %(default)s")
    asked = parser.parse_args(arguments)
    print("\n".join(table(asked.keys, asked.reads)))


if __name__ == "__main__":
    main()
