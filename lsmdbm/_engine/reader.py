"""Reader: the store behind flag "r".  Takes no lock, creates no file, changes nothing.

    (1) recover: the highest manifest, its tables, the logs, replayed in memory
    (2) open all tables and keep them open: a writer elsewhere may unlink them at any time
    (3) if anything was missing or inconsistent, a writer was faster: begin again with a new listing

Rules
  1. A reader sees one moment until `refresh`; a snapshot of it stays at that one.
  2. Damage is believed when two passes over the same listing agree on it.

Thread safety: every method may be called from any thread; `refresh` replaces the view in one step.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import cast

from lsmdbm._base.chunk import Chunks
from lsmdbm._base.errors import ClosedError, CorruptionError, NotFoundError, error
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Directory, Storage
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.moment import Moment, still_open
from lsmdbm._engine.names import MANIFEST, WAL
from lsmdbm._engine.recovery import Recovered, recover
from lsmdbm._engine.stats import Stats, Totals, gather
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.view import AFTER_FORK, GoneView, View

PASSES, SECONDS = 100, 5.0  # after which a directory that keeps changing is given up


class Reader:
    """One database, open for reading.

    Args:
        storage: the clock.
        directory: where the files are; owned from here on.
        options: sizes of caches.

    Raises:
        NotFoundError: there is no database in the directory.
        CorruptionError: it cannot be read.
    """

    def __init__(self, storage: Storage, directory: Directory, options: Options) -> None:
        self._storage = storage
        self._directory = directory
        self.options = options
        self._is_closed = False
        self._why_closed: tuple[str, ...] = ()  # unless by close()
        self._lock = threading.RLock()
        self._tables = Tables(directory, options)
        self._files: list[tuple[str, int | None]] | None = None  # what was read, if all of it was
        self._snapshots: weakref.WeakSet[Moment] = weakref.WeakSet()
        self.refresh()

    def refresh(self) -> None:
        """Move to the newest state on disk.  If that fails, the old one stays.

        Tables that are open stay open, with what is cached of them; logs are read anew if any has changed.
        """
        with self._lock:
            if self._is_closed:
                raise ClosedError(*self._why_closed)
            files = self._manifests_and_logs()
            if files == self._files:
                return
            recovered = self._settled()
            version = self._tables.track(recovered.version)
            sealed = () if recovered.memtable.is_empty else (recovered.memtable,)
            self._log_files = len(recovered.logs)
            self.manifest = recovered.manifest
            active = Memtable(recovered.next_seq)
            self.view = View(active, sealed, version, self._tables, recovered.table_keys)
            self._now = Moment(self.view)
            # A write under way may become whole without any file becoming longer.
            self._files = None if recovered.has_tail else files
            self._tables.drop_held()

    def _manifests_and_logs(self) -> list[tuple[str, int | None]]:
        names = sorted(name for name in self._directory.listdir() if name.endswith((MANIFEST, WAL)))
        return [(name, self._directory.length(name)) for name in names]

    def _settled(self) -> Recovered:
        deadline = self._storage.monotonic() + SECONDS
        damage: tuple[str, list[str]] | None = None
        for _ in range(PASSES):
            names = sorted(self._directory.listdir())
            try:
                return self._attempt()
            except (NotFoundError, CorruptionError) as exc:
                seen = (str(exc), names)
                if seen == damage or self._storage.monotonic() >= deadline:  # rule 2
                    raise
                damage = seen
        raise error(f"{self._directory.path}: changes too fast to be read")

    def _attempt(self) -> Recovered:
        recovered = recover(self._directory)
        if recovered is None:
            raise NotFoundError.at(self._directory.path)
        self._tables.hold(recovered.version)
        return recovered

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, None if there is none."""
        return self.view.get(key)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of those keys that have one."""
        view = self.pin()
        return view.get_many(keys, view.recent(keys))

    def pin(self) -> View:
        """Return the view of this moment."""
        if self._is_closed:
            raise ClosedError(*self._why_closed)
        return self.view

    def chunks(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> Chunks:
        """Return the entries with `start <= key < stop` as a stream of chunks."""
        self.pin()
        return self._now.chunks(start, stop, reverse=reverse, keys_only=keys_only)

    def first(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> tuple[bytes, bytes] | None:
        """Return the first entry of a range, the last one if `reverse`; None if there is none."""
        self.pin()
        return self._now.first(start, stop, reverse=reverse, keys_only=keys_only)

    def length(self) -> int:
        """Return the exact number of keys."""
        self.pin()
        return self._now.length()

    def snapshot(self) -> Moment:
        """Return the moment of now, to be kept through every `refresh`."""
        with self._lock:
            moment = Moment(self.pin(), self._give_back)
            self._snapshots.add(moment)
            return moment

    def _give_back(self) -> None:
        """Let go of the tables that a snapshot was the last to need."""
        with self._lock:
            self._tables.drop_held()

    def sync(self) -> None:
        """Do nothing: nothing was written."""

    def stats(self) -> Stats:
        """Return the figures of this moment."""
        with self._lock:
            return gather(self.pin(), self._log_files, Totals(), None, still_open(self._snapshots))

    def close(self) -> None:
        """Let go of everything."""
        if not self._is_closed:
            self._is_closed = True
            for moment in list(self._snapshots):
                moment.close(*self._why_closed)
            self._tables.close()
            self.view = cast(View, GoneView(*self._why_closed))
            self._directory.close()

    def die(self) -> None:
        """Be of no use any more: this is the child of a fork."""
        self._why_closed = (AFTER_FORK,)
        self._lock = threading.RLock()  # another thread may have held it
        if not self._is_closed:
            self._tables.die()
        self.close()
