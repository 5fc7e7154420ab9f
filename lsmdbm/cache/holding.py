"""Holding: the entries of a cache, found while they are alive, kept while they are in use.

Rules
  1. An entry whose expiry has come is not there, wherever it is met; its space goes with its table.
  2. The tables are dropped oldest first (fifo.py), so what is found under a key is what was written last, or
     nothing.
  3. A hit on an entry in the oldest tables writes it anew, if it is still the same: what is in use stays.

Thread safety: any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lsmdbm._base.chunk import MISSING, Chunks, Missing
from lsmdbm._base.errors import error
from lsmdbm.cache.aging import LATE_SHARE, late_stamp
from lsmdbm.cache.entries import NEVER, encode_entry, expiry_of, stamp_of, stored_of
from lsmdbm.cache.lifetimes import Default, Ttl, checked_ttl, expiry_after, moment
from lsmdbm.database import Database


class Otherwise(Exception):
    """Raised by what is to change an entry, and will not."""


class Holding:
    """What a cache has, by the keys of its database.

    Args:
        db: where it is.
        table_bytes: that its tables may take.
        ttl: of entries without one of their own.
        clock: returns seconds since 1970.
    """

    __slots__ = (
        *("_clock", "_db", "_late", "_levels", "_table_bytes", "_ttl"),
        *("expired", "hits", "is_read_only", "kept", "misses"),
    )

    def __init__(self, db: Database, table_bytes: int, ttl: float | None, clock: Callable[[], float]) -> None:
        self._db = db
        self._table_bytes = table_bytes
        self._ttl = ttl
        self._clock = clock
        self._levels: object = None  # that `_late` is of; a version would keep its tables on disk
        self._late = -1
        self.is_read_only = db._is_read_only
        self.hits = self.misses = self.expired = self.kept = 0

    # -- reading ------------------------------------------------------------------------------------

    def live(self, entry: bytes | None) -> bytes | None:
        """Return an entry unless it is over (rule 1)."""
        if entry is not None:
            expiry = expiry_of(entry)
            if expiry == NEVER or expiry > moment(self._clock()):
                return entry
        return None

    def look(self, name: bytes) -> bytes | None:
        """Return the live entry of a key, and count nothing."""
        return self.live(self._db.get(name))

    def find(self, name: bytes) -> bytes | Missing:
        """Return tag and payload of a key, and count that."""
        entry = self._db.get(name)
        live = self.live(entry)
        if live is None:
            self.misses += 1
            self.expired += entry is not None
            return MISSING
        self.hits += 1
        if not self.is_read_only and stamp_of(live) <= self._late_stamp():
            self._keep(name, live)
        return stored_of(live)

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Return the live entries of this moment, by their keys."""
        return ((name, entry) for name, entry in self._db.items() if self.live(entry) is not None)

    def is_over(self, chunks: Chunks) -> bool:
        """Return whether nothing of a table is alive."""
        live = self.live
        return all(live(entry) is None for _, entries in chunks for entry in entries)

    # -- writing ------------------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Raise if nothing can be written."""
        self._db._writable()
        self._db._check_open()

    def entry(self, stored: bytes, ttl: Ttl) -> bytes:
        """Return the entry of now, given tag and payload."""
        seconds = self._ttl if isinstance(ttl, Default) else checked_ttl(ttl)
        expiry = NEVER if seconds is None else expiry_after(seconds, self._clock())
        return encode_entry(expiry, self._stamp(), stored)

    def renewed(self, entry: bytes, stored: bytes) -> bytes:
        """Return an entry with another value, which ends when it would have."""
        return encode_entry(expiry_of(entry), self._stamp(), stored)

    def change(self, name: bytes, change: Callable[[bytes | None], bytes]) -> bool:
        """Set a key to what a function makes of its live entry, in one step; False if it raised Otherwise."""
        try:
            self._db._writable().change(name, lambda entry: change(self.live(entry)))
        except Otherwise:
            return False
        return True

    def take(self, name: bytes) -> bytes | None:
        """Delete a key; return its entry if that was alive."""
        return self.live(self._db._writable().take(name))

    def _stamp(self) -> int:
        return self._db._store.view.active.first_seq

    # -- what is in use stays -----------------------------------------------------------------------

    def _late_stamp(self) -> int:
        """Return up to which stamp entries will be thrown away soon."""
        version = self._db._store.view.version
        if version.levels is not self._levels:
            self._late = late_stamp(version, self._table_bytes, LATE_SHARE)
            self._levels = version.levels
        return self._late

    def _keep(self, name: bytes, held: bytes) -> None:
        """Write an entry anew, unless it was changed meanwhile (rule 3)."""

        def again(found: bytes | None) -> bytes:
            if found != held:
                raise Otherwise
            return self.renewed(held, stored_of(held))

        try:
            self._db._store.change(name, again)
        except (Otherwise, error, RuntimeError):  # a disk that is full, a signal handler: the read is right
            return
        self.kept += 1
