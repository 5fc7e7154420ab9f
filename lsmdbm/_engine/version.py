"""Version: the set of live tables, by level.  Never changed; a flush or compaction makes the next one.

Rules
  1. Level 0 holds tables newest first, which may overlap; what one compaction left there stands together,
     in key order.  A deeper level holds tables in key order that do not overlap.
  2. What stands in a lower-numbered level is newer than what stands in a higher-numbered one.
  3. What is in the holes of a table is void, in that table alone.  A table that would be void is left out.

Thread safety: immutable.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter, is_

from lsmdbm._base.errors import error
from lsmdbm._base.intervals import Intervals, holds_all, inside, united, without
from lsmdbm._format.manifest import MAX_LEVELS, MAX_TABLES, TableMeta

Run = tuple[TableMeta, ...]  # in key order, without overlap
Levels = tuple[Run, ...]  # but for level 0

_smallest = attrgetter("smallest")


class _Facts:
    """What is found out once about the tables of a level."""

    __slots__ = ("file_bytes", "holes", "largest", "may_delete", "raw_bytes")

    def __init__(self, tables: tuple[TableMeta, ...]) -> None:
        self.largest = [meta.largest for meta in tables]
        self.file_bytes = sum([meta.file_bytes for meta in tables])
        self.raw_bytes = sum([meta.raw_bytes for meta in tables])
        self.may_delete = any([meta.tombstones for meta in tables])
        self.holes = max([len(meta.holes) for meta in tables], default=0)


class Version:
    """The live tables of one moment.

    Args:
        levels: level 0 first; see rule 1.
        drops: how often tables have gone away with what was in them, since the database was opened.
        before: the version that this one was made from: what is known of levels in common is taken over.
    """

    __slots__ = (
        *("__weakref__", "_facts", "_largest"),
        *("drops", "levels", "may_delete", "most_holes", "raw_bytes", "total_bytes"),
    )

    def __init__(self, levels: Levels = (), drops: int = 0, before: Version | None = None) -> None:
        while levels and not levels[-1]:
            levels = levels[:-1]
        self.levels: Levels = levels
        self.drops = drops
        known = dict(zip(map(id, before.levels), before._facts, strict=True)) if before is not None else {}
        self._facts: list[_Facts] = [known.get(id(level)) or _Facts(level) for level in levels]
        self._largest = [facts.largest for facts in self._facts]
        self.may_delete = any(facts.may_delete for facts in self._facts)
        self.most_holes = max([facts.holes for facts in self._facts], default=0)  # in one table
        self.total_bytes = sum(facts.file_bytes for facts in self._facts)  # on disk
        self.raw_bytes = sum(facts.raw_bytes for facts in self._facts)  # before compression

    def __iter__(self) -> Iterator[TableMeta]:
        for level in self.levels:
            yield from level

    def __len__(self) -> int:
        return sum(map(len, self.levels))

    def level(self, number: int) -> tuple[TableMeta, ...]:
        """Return the tables of a level; () for a level that does not exist yet."""
        return self.levels[number] if number < len(self.levels) else ()

    def level_bytes(self, number: int) -> int:
        """Return the bytes on disk of one level."""
        return self._facts[number].file_bytes if number < len(self._facts) else 0

    def overlapping(self, number: int, smallest: bytes, largest: bytes) -> tuple[TableMeta, ...]:
        """Return the tables of a level that may hold a key with `smallest <= key <= largest`, in their order.

        O(log n) below level 0.
        """
        tables = self.level(number)
        if number == 0:
            return tuple(meta for meta in tables if meta.smallest <= largest and smallest <= meta.largest)
        if not tables:
            return ()
        low = bisect_left(self._largest[number], smallest)
        return tables[low : bisect_right(tables, largest, low, key=_smallest)]

    def largest(self, number: int) -> list[bytes]:
        """Return the largest keys of the tables of a level, in their order.  Not to be changed."""
        return self._largest[number]

    def within(self, number: int, start: bytes | None, stop: bytes | None) -> tuple[TableMeta, ...]:
        """Return the tables of a level that may hold a key with `start <= key < stop`, in their order.

        `None` leaves that side open.  O(log n) below level 0.
        """
        tables = self.level(number)
        if number == 0:
            return tuple(
                meta
                for meta in tables
                if (start is None or meta.largest >= start) and (stop is None or meta.smallest < stop)
            )
        if not tables:
            return ()
        low = 0 if start is None else bisect_left(self._largest[number], start)
        return tables[low : None if stop is None else bisect_left(tables, stop, low, key=_smallest)]

    def holds_below(self, number: int, key: bytes) -> bool:
        """Return whether a level deeper than `number` has a table whose bounds include `key`."""
        return self.overlaps_below(number, key, key)

    def overlaps_below(self, number: int, smallest: bytes, largest: bytes) -> bool:
        """Return whether a level deeper than `number` has a table that may hold a key within those bounds."""
        deeper = range(number + 1, len(self.levels))
        return any(self.overlapping(level, smallest, largest) for level in deeper)

    def void(self, ranges: Intervals) -> Version:
        """Return the version that a deletion of everything in some ranges leaves.  O(tables), no read."""
        levels = tuple(voided(level, ranges) for level in self.levels)
        return self if all(map(is_, levels, self.levels)) else Version(levels, self.drops, self)

    def voided_since(self, metas: Sequence[TableMeta]) -> Intervals:
        """Return what has become void of some tables of an earlier version, as this one has them.

        Requires that tables which are not here any more were void: that nothing else took them away.
        """
        now = {meta.number: meta.holes for meta in self}
        found: Intervals = ()
        for meta in metas:
            everything = ((meta.smallest, meta.largest + b"\0"),)
            found = united(found, without(now.get(meta.number, everything), meta.holes))
        return found

    def replace(
        self, removed: Sequence[TableMeta], added: Mapping[int, Sequence[TableMeta]], *, is_drop: bool = False
    ) -> Version:
        """Return the version without some tables and with others.

        Args:
            removed: tables of this version.
            added: by level; for level 0 newest first.  They take the place of the newest table of level 0
                that is removed; if none is, they are newer than all that is there.
            is_drop: whether what is in the removed tables goes away.

        Raises:
            error: the result would have too many levels or tables.
        """
        gone = {meta.number for meta in removed}
        depth = max([len(self.levels), *(number + 1 for number in added)])
        if depth > MAX_LEVELS:
            raise error(f"a database has at most {MAX_LEVELS} levels")
        if len(self) - len(gone) + sum(map(len, added.values())) > MAX_TABLES:
            raise error(f"a database has at most {MAX_TABLES} tables")
        levels = []
        for number in range(depth):
            fresh, tables = added.get(number, ()), self.level(number)
            kept = [meta for meta in tables if meta.number not in gone] if gone else [*tables]
            if not fresh and len(kept) == len(tables):
                levels.append(tables)
            elif number > 0:
                levels.append(tuple(sorted([*fresh, *kept], key=_smallest)))
            else:
                place = self._place(gone)
                levels.append((*kept[:place], *fresh, *kept[place:]))
        return Version(tuple(levels), self.drops + is_drop, self)

    def _place(self, gone: set[int]) -> int:
        """Return where in level 0 the newest of these tables stands; 0 if none is there."""
        return next((place for place, meta in enumerate(self.level(0)) if meta.number in gone), 0)


def voided(metas: Run, ranges: Intervals) -> Run:
    """Return tables without what is in some ranges; those that are void then are left out."""
    left = [_without(meta, ranges) for meta in metas]
    if all(map(is_, left, metas)):
        return metas
    return tuple(meta for meta in left if meta is not None)


def _without(meta: TableMeta, ranges: Intervals) -> TableMeta | None:
    fresh = inside(ranges, meta.smallest, meta.largest + b"\0")
    if not fresh:
        return meta
    holes = united(meta.holes, fresh)
    return None if holds_all(holes, meta.smallest, meta.largest) else meta._replace(holes=holes)


def sorted_runs(tables: Sequence[TableMeta]) -> list[Run]:
    """Return tables of level 0, newest first, as runs: neighbours in key order that do not overlap."""
    runs: list[list[TableMeta]] = []
    for meta in tables:
        if runs and runs[-1][-1].largest < meta.smallest:
            runs[-1].append(meta)
        else:
            runs.append([meta])
    return list(map(tuple, runs))
