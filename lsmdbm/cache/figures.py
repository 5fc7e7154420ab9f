"""The figures of a cache.

Thread safety: frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

from lsmdbm._base.public import member_of
from lsmdbm._engine.figures import Stats


@member_of("lsmdbm.cache")
@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache has done since it was opened, and what it holds.  Counted without a lock."""

    hits: int  # reads that found a live entry
    misses: int  # reads that found none
    expired: int  # misses that found an entry whose time was over
    kept: int  # hits that were written anew, since their entry was about to be thrown away
    refused: int  # values that were computed, and were too large to be stored
    max_bytes: int
    store: Stats  # of the database below

    @property
    def hit_rate(self) -> float | None:
        """Hits per read; None before any."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    @property
    def disk_bytes(self) -> int:
        """Bytes of tables, and of what is in the log and not in tables yet."""
        return self.store.file_bytes + self.store.memtable_bytes

    @property
    def evicted_bytes(self) -> int:
        """Bytes of tables that were thrown away, whatever was live in them."""
        return self.store.dropped_bytes
