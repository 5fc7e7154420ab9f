"""Lifetimes: seconds to live, and when an entry ends by them.

Thread safety: pure functions.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from lsmdbm.cache.entries import NEVER

SECOND = 1_000_000  # in units of an expiry
LAST = NEVER - 1  # what an expiry can be at most; half a million years


class Default(Enum):
    """The type of `TTL`, which stands for the lifetime that a cache gives."""

    TTL = "ttl"

    def __repr__(self) -> str:
        return "TTL"


TTL: Final = Default.TTL

Ttl = float | None | Default


def checked_ttl(ttl: float | None) -> float | None:
    """Return a lifetime.

    Raises:
        TypeError, ValueError: it is neither None nor a number of seconds, 0 or more.
    """
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise TypeError(f"ttl must be a number of seconds or None, not {type(ttl).__name__}")
    if not 0 <= ttl < float("inf"):
        raise ValueError(f"ttl={ttl!r}: must be 0 or more seconds, or None")
    return ttl


def check_given(ttl: Ttl) -> None:
    """Raise what `checked_ttl` does."""
    if not isinstance(ttl, Default):
        checked_ttl(ttl)


def moment(seconds: float) -> int:
    """Return a time in units of an expiry."""
    return int(seconds * SECOND)


def expiry_after(ttl: float | None, now: float) -> int:
    """Return when an entry ends that is made now."""
    if ttl is None:
        return NEVER
    if ttl >= LAST // SECOND:  # before it is too large for a float, or for an int
        return LAST
    return max(0, min(LAST, moment(now + ttl)))
