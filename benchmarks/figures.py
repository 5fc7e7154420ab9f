"""Medians, percentiles, ratios; the distributions of YCSB.

Thread safety: pure functions; a distribution belongs to one thread.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Mapping, Sequence

PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}

ZIPFIAN = 0.99  # the constant of YCSB
FNV_OFFSET, FNV_PRIME, WORD = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


def percentiles(seconds: Iterable[float], prefix: str = "") -> dict[str, float]:
    """Return p50, p99, p99.9 and the largest, in microseconds; {} of nothing."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {f"{prefix}{name}": ordered[round(last * share)] * 1e6 for name, share in PERCENTILES.items()}


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of every figure, over the runs that have it."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: statistics.median(run[name] for run in runs if name in run) for name in names}


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """Return ours as a multiple of theirs, None if either is missing or theirs is 0."""
    return ours / theirs if ours is not None and theirs else None


def drift(seconds: Sequence[float]) -> float:
    """Return what the last tenth cost as a multiple of the first, by medians."""
    tenth = max(1, len(seconds) // 10)
    return statistics.median(seconds[-tenth:]) / statistics.median(seconds[:tenth])


class Zipfian:
    """Ranks 0, 1, ... of which rank r comes up in proportion to 1 / (r + 1) ** 0.99.

    After Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 1994, as in YCSB.
    """

    def __init__(self, count: int, rng: random.Random) -> None:
        self.count, self._rng = count, rng
        self._zeta = sum(rank**-ZIPFIAN for rank in range(1, count + 1))
        self._alpha = 1 / (1 - ZIPFIAN)
        two = 1 + 0.5**ZIPFIAN
        self._eta = (1 - (2 / count) ** (1 - ZIPFIAN)) / (1 - two / self._zeta) if count > 2 else 1.0

    def rank(self) -> int:
        place = self._rng.random()
        scaled = place * self._zeta
        if scaled < 1:
            return 0
        if scaled < 1 + 0.5**ZIPFIAN:
            return min(1, self.count - 1)
        found = int(self.count * (self._eta * place - self._eta + 1) ** self._alpha)
        return min(found, self.count - 1)

    def scrambled(self) -> int:
        """Return a number that is popular by its rank, with the ranks strewn over all numbers."""
        return fnv(self.rank()) % self.count


def fnv(number: int) -> int:
    """Return the 64-bit FNV-1a hash of a number's eight bytes."""
    value = FNV_OFFSET
    for byte in number.to_bytes(8, "little"):
        value = (value ^ byte) * FNV_PRIME & WORD
    return value
