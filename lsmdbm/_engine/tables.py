"""Tables: from a number to an open reader, and from a number nobody needs to an unlinked file.

Rules
  1. At most `max_open_files` readers are kept, within a bound in bytes for their indexes and filters.
     Who uses a reader that is evicted meanwhile keeps it, and its descriptor, alive.
  2. A table is unlinked only when it was retired by an install that is durable, and no live Version
     names it.  What cannot be unlinked now is tried again at the next call.

Thread safety: `reader` from any thread; the rest under the lock of the store.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable

from lsmdbm._base.errors import ClosedError, CorruptionError, NotFoundError, error
from lsmdbm._base.lru import LRU
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Directory, File
from lsmdbm._engine.lookup import Lookup
from lsmdbm._engine.names import TABLE, TOO_MANY_FILES, file_name
from lsmdbm._engine.version import Version
from lsmdbm._format.block import Block
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_reader import ReadCounters, TableReader

LEAST_INDEX_BYTES = 16 << 20  # for indexes and filters, however small cache_bytes is: a table that has to be
# opened for every read costs a hundred times what it saves


class Tables:
    """The tables of one database.

    Args:
        directory: where they are.
        options: `cache_bytes` and `max_open_files` count.
    """

    def __init__(self, directory: Directory, options: Options) -> None:
        self.directory = directory
        self.blocks: LRU[int, Block] = LRU(options.cache_bytes)
        self.readers: LRU[int, TableReader] = LRU(
            max(options.cache_bytes, LEAST_INDEX_BYTES), options.max_open_files
        )
        self.counters = ReadCounters()
        self._held: dict[int, File] = {}
        self._versions: weakref.WeakSet[Version] = weakref.WeakSet()
        self._lookups: weakref.WeakKeyDictionary[Version, Lookup] = weakref.WeakKeyDictionary()
        self._lookups_lock = threading.RLock()  # a handler in the middle of it may read
        self._retired: set[int] = set()
        self._is_closed = False

    def reader(self, meta: TableMeta) -> TableReader:
        """Return the open reader of a table.

        Raises:
            ClosedError: another thread closed the database in the middle of a read.
            CorruptionError: the table is missing or damaged.
        """
        reader = self.readers.get(meta.number)
        if reader is None:
            reader = TableReader(self.file(meta), meta, self.blocks, self.counters)
            had_evicted = self.readers.has_evicted
            self.readers.put(meta.number, reader, reader.cost)
            if self.readers.has_evicted and not had_evicted:
                self._let_go()
        return reader

    def lookup(self, version: Version) -> Lookup:
        """Return what looks up keys in the tables of a version; the same one each time."""
        with self._lookups_lock:
            found = self._lookups.get(version)
            if found is None:
                found = Lookup(version, self.reader, self._is_kept, self.counters)
                self._lookups[version] = found
            return found

    def _is_kept(self, number: int) -> bool:
        """Return whether a table stays open until it is unlinked."""
        is_bounded = self.readers.has_evicted or self._is_closed
        return not is_bounded and self.readers.peek(number) is not None

    def _let_go(self) -> None:
        """Have nobody remember tables as open: from now on some have to be closed."""
        with self._lookups_lock:
            for lookup in list(self._lookups.values()):
                lookup.let_go()

    def anew(self, meta: TableMeta) -> TableReader:
        """Return a reader that has read everything from disk again and is not kept: for checks."""
        return TableReader(self.file(meta), meta, LRU(0), ReadCounters())

    def file(self, meta: TableMeta) -> File:
        """Return the file of a table: the one that is held, or one opened now."""
        return self._held.get(meta.number) or self._open(meta)

    def _open(self, meta: TableMeta) -> File:
        name = file_name(meta.number, TABLE)
        try:
            try:
                return self.directory.open(name)
            except error as exc:
                if exc.errno not in TOO_MANY_FILES:
                    raise
                self.make_room()
                return self.directory.open(name)
        except error as exc:
            if self._is_closed:
                raise ClosedError from None
            if not isinstance(exc, NotFoundError):
                raise
            raise CorruptionError(str(exc.filename), -1, "table named by the manifest is missing") from None

    def make_room(self) -> None:
        """Close half of the open tables: the process has no descriptors left."""
        self.readers.shrink(len(self.readers) // 2)
        self._let_go()

    def hold(self, metas: Iterable[TableMeta]) -> None:
        """Open these tables for good, whatever the bounds are: a writer elsewhere may unlink them."""
        for meta in metas:
            if meta.number not in self._held:
                self._held[meta.number] = self.directory.open(file_name(meta.number, TABLE))

    def drop_held(self) -> None:
        """Let go of the tables that are held and that no live version names."""
        needed = self._needed()
        for number in self._held.keys() - needed:
            self.readers.discard(number)
            del self._held[number]

    def _needed(self) -> set[int]:
        return {meta.number for version in list(self._versions) for meta in version}

    def track(self, version: Version) -> Version:
        """Keep the tables of a version from being unlinked for as long as somebody refers to it."""
        self._versions.add(version)
        return version

    @property
    def has_retired(self) -> bool:
        """Whether there are tables that are to be unlinked by `collect`.  Needs no lock."""
        return bool(self._retired)

    @property
    def retired(self) -> set[int]:
        """The numbers of the tables that are to be unlinked by `collect`, now or later."""
        return set(self._retired)

    def retire(self, metas: Iterable[TableMeta]) -> None:
        """Say that a durable manifest no longer names these tables."""
        self._retired.update(meta.number for meta in metas)

    def collect(self) -> None:
        """Unlink the retired tables that no live version names."""  # rule 2
        if not self._retired:
            return
        for number in self._retired - self._needed():
            self.readers.discard(number)
            try:
                self.directory.unlink(file_name(number, TABLE))
            except error:
                continue
            self._retired.discard(number)

    def close(self) -> None:
        """Let go of every reader and every cached block.  Call it before the directory is closed."""
        self._is_closed = True
        self._let_go()
        self.readers.clear()
        self.blocks.clear()
        self._held.clear()

    def die(self) -> None:
        """Do what close() does in the child of a fork, where a lock of the caches may be held by nobody."""
        self.blocks, self.readers = LRU(0), LRU(0)
        self._lookups_lock = threading.RLock()
        self.close()
