"""Space: how the bytes of a cache are shared out, so that its directory never takes more.

    max_bytes = tables | logs, a table being flushed, one not dropped yet: 4 memtables | a fold: an eighth

A fold joins 8 of at most 64 runs, the smallest neighbours there are, so no more than an eighth of all
(fifo.py).  Values larger than a memtable are on disk up to three times while they are new, which nothing is
set aside for.

Thread safety: frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_BYTES = 1 << 30  # unless it is said
LEAST_BYTES = 1 << 20
MEMTABLES = 32  # as many make up the whole, up to
MOST_MEMTABLE = 8 << 20  # the size a memtable has elsewhere
SET_ASIDE = 4  # memtables
FOLD = 8
LARGEST = 16  # no value takes more than such a part


@dataclass(frozen=True, slots=True)
class Space:
    """The measures of a cache, in bytes."""

    max_bytes: int
    memtable_bytes: int

    @classmethod
    def of(cls, max_bytes: int, memtable_bytes: int | None) -> Space:
        """Return the measures for a bound, and a memtable of whatever size is given.

        Raises:
            ValueError: the bound is too small, or the memtable too large for it.
        """
        if type(max_bytes) is not int or not LEAST_BYTES <= max_bytes < 1 << 62:
            raise ValueError(f"max_bytes={max_bytes!r}: must be an int from {LEAST_BYTES} to {(1 << 62) - 1}")
        if memtable_bytes is None:
            return cls(max_bytes, min(max_bytes // MEMTABLES, MOST_MEMTABLE))
        if type(memtable_bytes) is not int or not 0 < memtable_bytes <= max_bytes // LARGEST:
            raise ValueError(
                f"option memtable_bytes={memtable_bytes!r}: must be an int from 1 to"
                f" {max_bytes // LARGEST}, a sixteenth of max_bytes"
            )
        return cls(max_bytes, memtable_bytes)

    @property
    def table_bytes(self) -> int:
        """What tables may take."""
        return self.max_bytes - self.max_bytes // FOLD - SET_ASIDE * self.memtable_bytes

    def options(self) -> dict[str, object]:
        """Return the options of the database below."""
        return {"compaction": "fifo", "max_bytes": self.table_bytes, "memtable_bytes": self.memtable_bytes}

    def holds(self, entry_bytes: int) -> bool:
        """Return whether an entry is small enough."""
        return entry_bytes <= self.max_bytes // LARGEST

    def check(self, entry_bytes: int) -> None:
        """Raise ValueError if an entry is too large."""
        if not self.holds(entry_bytes):
            limit = self.max_bytes // LARGEST
            raise ValueError(f"entry of {entry_bytes} bytes: a sixteenth of max_bytes, {limit}, is the limit")
