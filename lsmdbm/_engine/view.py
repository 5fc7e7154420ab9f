"""View: what one read pins - the active memtable, the sealed ones, and a Version.  Never changed.

Rules
  1. Newer hides older: active memtable, sealed ones newest first, level 0 newest first, level 1, ...
  2. Whoever holds a View keeps its tables on disk.
  3. A View taken for a range has an empty active memtable: taking it seals what was active, so that
     nothing below the read moves.
  4. What is in the ranges of a memtable is void in all that is older than it, what is in the holes of a table
     in that table alone.  Reads go around both, and never come to what is void.
  5. Everything up to `flushed_seq` is in the tables, and nothing else; `table_keys` counts their live keys,
     None if that is not known.  With the tables it moves in one step.

Thread safety: immutable but for `table_keys`, a memo, and the active memtable, of which `get` only looks up
single keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NoReturn

from lsmdbm._base.chunk import MISSING, Chunks
from lsmdbm._base.errors import ClosedError
from lsmdbm._base.intervals import Intervals, gaps, holds, united
from lsmdbm._engine.memtable import Memtable, find, sources
from lsmdbm._engine.merge import merge, visible
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.version import Version, sorted_runs
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_check import problems_of

AFTER_FORK = "The database was opened before a fork: open it again in the child"


class View:
    """The state of the store as one read sees it."""

    __slots__ = ("_find", "_has_ranges", "_reader", "active", "sealed", "table_keys", "tables", "version")

    def __init__(
        self,
        active: Memtable,
        sealed: tuple[Memtable, ...],
        version: Version,
        tables: Tables,
        table_keys: int | None = None,
    ) -> None:
        self.active = active
        self.sealed = sealed
        self.version = version
        self.tables = tables
        self.table_keys = table_keys
        self._reader = tables.reader
        self._find = tables.lookup(version).get
        self._has_ranges = bool(active.ranges) or any([memtable.ranges for memtable in sealed])

    @property
    def flushed_seq(self) -> int:
        """The sequence of the newest write that is in the tables."""
        return (self.sealed[-1] if self.sealed else self.active).first_seq - 1

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, None if there is none.

        O(1) in the memtables, O(log n) in each table whose bounds include the key.
        """
        value = self.active.entries.get(key, MISSING)
        if value is not MISSING:
            return value
        if self._has_ranges:
            value = find((self.active, *self.sealed), key)
            return self._find(key) if value is MISSING else value
        for memtable in self.sealed:
            value = memtable.entries.get(key, MISSING)
            if value is not MISSING:
                return value
        return self._find(key)

    def recent(self, keys: Iterable[bytes]) -> dict[bytes, bytes | None]:
        """Return what the memtables say of some keys; those of which they say nothing are left out."""
        found: dict[bytes, bytes | None] = {}
        for memtable in reversed((self.active, *self.sealed)):
            entries, ranges = memtable.entries, memtable.ranges
            if ranges:
                found.update((key, None) for key in keys if holds(ranges, key))
            found.update((key, entries[key]) for key in keys if key in entries)
        return found

    def get_many(self, keys: Iterable[bytes], recent: Mapping[bytes, bytes | None]) -> dict[bytes, bytes]:
        """Return the values of those keys that have one.

        In key order, so that each block is read once, if the cache holds one of each table.

        Args:
            recent: what `recent` says of the keys, at the moment that counts.
        """
        found = {key: value for key, value in recent.items() if value is not None}
        for key in sorted({key for key in keys if key not in recent}):
            value = self._find(key)
            if value is not None:
                found[key] = value
        return found

    def chunks(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        *,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> Chunks:
        """Return the live entries with `start <= key < stop` as a stream of chunks.

        Memory: a few blocks per level, however long the range is.
        """
        merged = self.merged(start, stop, reverse=reverse, keys_only=keys_only)
        return visible(merged) if self.may_delete() else merged

    def merged(self, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool) -> Chunks:
        """Return the entries of a range, tombstones included."""
        if start is not None and stop is not None and start >= stop:
            return iter(())
        found, void = sources((self.active, *self.sealed), start, stop, reverse=reverse, keys_only=keys_only)
        for number in range(len(self.version.levels)):
            inside = self.version.within(number, start, stop)
            runs = sorted_runs(inside) if number == 0 else [inside]
            runs = [run[::-1] for run in runs] if reverse else runs
            found += [self._run(run, void, start, stop, reverse, keys_only) for run in runs if run]
        return merge(found, reverse=reverse)

    def may_delete(self) -> bool:
        """Return whether there may be tombstones anywhere."""
        return self.version.may_delete or any(memtable.deletes for memtable in (self.active, *self.sealed))

    def first(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        *,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> tuple[tuple[bytes, bytes] | None, int]:
        """Return the first live entry of a range, the last one if `reverse`, None if there is none.

        And how many tombstones stand before it.
        """
        walked = 0
        for keys, values in self.merged(start, stop, reverse=reverse, keys_only=keys_only):
            order = range(len(keys) - 1, -1, -1) if reverse else range(len(keys))
            for index in order:
                value = values[index]
                if value is not None:
                    return (keys[index], value), walked
                walked += 1
        return None, walked

    def _run(
        self,
        metas: Iterable[TableMeta],
        void: Intervals,
        start: bytes | None,
        stop: bytes | None,
        reverse: bool,
        keys_only: bool,
    ) -> Chunks:
        for meta in metas:
            if not void and not meta.holes:
                yield from self._reader(meta).chunks(start, stop, reverse=reverse, keys_only=keys_only)
                continue
            end = meta.largest + b"\0"
            low = meta.smallest if start is None else max(start, meta.smallest)
            parts = gaps(united(void, meta.holes), low, end if stop is None else min(stop, end))
            for first, behind in reversed(parts) if reverse else parts:  # rule 4
                yield from self._reader(meta).chunks(first, behind, reverse=reverse, keys_only=keys_only)

    def entries_of(self, meta: TableMeta) -> Chunks:
        """Return what one table holds, tombstones included, without its holes."""
        return self._run((meta,), (), None, None, False, False)

    def stored_bytes(self, start: bytes | None, stop: bytes | None) -> int:
        """Return about how many bytes on disk the tables have for `start <= key < stop`.

        Reads no blocks: of a table that a bound goes through, the index says how large a part is meant.
        """
        total = 0
        for number in range(len(self.version.levels)):
            for meta in self.version.within(number, start, stop):
                is_inside = (start is None or start <= meta.smallest) and (
                    stop is None or meta.largest < stop
                )
                total += meta.file_bytes if is_inside else self._reader(meta).stored_bytes(start, stop)
        return total

    def check_tables(self) -> None:
        """Read every table whole.

        Raises:
            CorruptionError: the first thing that is wrong.
        """
        for meta in self.version:
            for problem in problems_of(self._reader(meta)):
                raise problem

    def below(self, depth: int) -> View:
        """Return what the sealed memtables from `depth` on and the tables say: nothing that still grows."""
        return View(Memtable(0), self.sealed[depth:], self.version, self.tables, self.table_keys)

    def under(self, ranges: Intervals) -> View:
        """Return this view, whose active memtable is empty, as some range deletions leave it."""
        return View(Memtable(0, ranges=ranges), self.sealed, self.version, self.tables)

    def with_active(self, active: Memtable, sealed: tuple[Memtable, ...]) -> View:
        """Return this view with other memtables."""
        return View(active, sealed, self.version, self.tables, self.table_keys)

    def with_version(self, version: Version, sealed: tuple[Memtable, ...], table_keys: int | None) -> View:
        """Return this view with another version, and the sealed memtables that it does not hold."""
        return View(self.active, sealed, version, self.tables, table_keys)

    def with_table_keys(self, table_keys: int) -> View:
        """Return this view, whose tables have been counted."""
        return View(self.active, self.sealed, self.version, self.tables, table_keys)


class GoneView:
    """Stands in for the view of a store that is closed: whatever is asked of it, it raises ClosedError.

    Args:
        text: why, if the store was not closed by its user.
    """

    __slots__ = ("_text",)

    def __init__(self, *text: str) -> None:
        self._text = text

    def __getattr__(self, name: str) -> NoReturn:
        raise ClosedError(*self._text)
