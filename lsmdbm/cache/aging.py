"""Aging: which entries will be thrown away soon, told by their stamps.

Thread safety: pure functions.
"""

from __future__ import annotations

from lsmdbm._engine.fifo import oldest_first
from lsmdbm._engine.version import Version

LATE_SHARE = 0.25  # of the room for tables: what is read in the oldest of them is written anew


def late_stamp(version: Version, table_bytes: int, share: float) -> int:
    """Return the newest stamp in the tables that go before so much of their room is written; -1 if none do.

    O(tables).
    """
    room = table_bytes * share - (table_bytes - version.total_bytes)  # less what is not taken yet
    late = -1
    for meta in oldest_first(version):
        if room <= 0:
            break
        late = max(late, meta.last_seq)
        room -= meta.file_bytes
    return late
