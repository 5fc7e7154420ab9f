"""Keeping: logs that recovery does not need any more, kept for those who follow the changes.

Rules
  1. A kept log is one whose writes all are in tables.  Recovery never looks at it: its number is below the
     `min_wal` of the manifest.
  2. It is synced before the manifest that makes it one is installed, which makes its name durable, too: what
     no crash takes from the tables, none takes from those who follow.  But a log of an earlier opening that
     is not known to be durable cannot be made so; what a crash takes from it is told.
  3. The oldest go first, as soon as those behind them hold `log_keep_bytes`.  Nothing is synced for that: one
     that is back after a loss of power goes at the next opening.
  4. Which logs are history is said by the chain, as for recovery: each names the one before it, and the
     manifest the newest of those that are kept.  So what a gap has left, or flag "n", is never taken for it.

Thread safety: under the lock of the store.  Spec: docs/durability.md, Changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lsmdbm._base.storage import Directory
from lsmdbm._engine.log import Log
from lsmdbm._engine.names import WAL, file_name
from lsmdbm._format.manifest import NO_LOG, Manifest

LEAST_BYTES = 64 << 10  # that a log counts: an opening per write would leave thousands of them in a megabyte


class KeptLogs:
    """The logs that are kept, by number.

    Args:
        directory: where they are.
        keep_bytes: how much of them is kept; 0 for none.
    """

    def __init__(self, directory: Directory, keep_bytes: int) -> None:
        self._directory = directory
        self._keep_bytes = keep_bytes
        self._bytes: dict[int, int] = {}

    def __iter__(self) -> Iterator[int]:
        return iter(self._bytes)

    def newest(self, flushed: Sequence[Log], before: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return what a manifest says of the newest kept log.

        Args:
            flushed: logs whose writes all are in tables with that manifest, oldest first.
            before: what the manifest before it says.
        """
        if not self._keep_bytes:
            return NO_LOG
        return (flushed[-1].number, flushed[-1].end, flushed[-1].last_seq) if flushed else before

    @property
    def are_wanted(self) -> bool:
        """Whether any are kept."""
        return self._keep_bytes > 0

    def find(self, numbers: Sequence[int], manifest: Manifest) -> None:
        """Take the kept logs of earlier openings, given all numbers of logs.  O(1) for each."""
        if not self._keep_bytes:
            return
        for number in numbers:
            if number <= manifest.prev_log[0] and number not in self._bytes:
                length = self._directory.length(file_name(number, WAL)) or 0
                self._bytes[number] = max(LEAST_BYTES, length)

    def add(self, logs: Sequence[Log]) -> None:
        """Take logs whose writes all are in tables by now."""
        self._bytes.update((log.number, max(LEAST_BYTES, log.end)) for log in logs)

    def surplus(self) -> list[int]:
        """Let go of the logs that are not to be kept any more, and return their numbers."""  # rule 3
        gone = []
        left = sum(self._bytes.values())
        for number in sorted(self._bytes):
            left -= self._bytes[number]
            if left < self._keep_bytes:
                break
            gone.append(number)
        for number in gone:
            del self._bytes[number]
        return gone
