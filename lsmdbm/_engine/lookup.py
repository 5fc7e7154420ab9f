"""Lookup: which tables of a version may hold a key, newest first, and where they are open.

Rules
  1. Level 0 first, newest first, then level by level.  No table in a hole of which the key is.
  2. Of all but the lowest tables the filter is asked first: most likely the key is further down.  The lowest
     one asks the block cache first.
  3. Open tables are remembered here, next to their bounds and their filters, as long as the cache of open
     tables keeps every one of them.  From the first eviction on that cache is asked each time, so that its
     bounds hold.  Whoever remembers one asks afterwards whether that may be: so none is left by a `let_go`.

Thread safety: `get` and `let_go` from any thread; what is remembered of a table changes in one step.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable

from lsmdbm._base.chunk import MISSING, Missing
from lsmdbm._base.intervals import holds
from lsmdbm._engine.version import Version
from lsmdbm._format.bloom import hash_key, pattern
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_reader import ReadCounters, TableReader

Opened = tuple["array[int]", int, TableReader]  # the words of its filter, how many they are, and the table


class _Place:
    """A table of the version, and whether it is remembered as open."""

    __slots__ = ("largest", "meta", "opened", "smallest")

    def __init__(self, meta: TableMeta) -> None:
        self.smallest = meta.smallest
        self.largest = meta.largest
        self.meta = meta
        self.opened: Opened | None = None


class Lookup:
    """Looks up keys in the tables of one version.

    Args:
        version: is not referred to afterwards, only its tables are.
        reader: opens a table.
        may_keep: whether a table, by its number, may be remembered as open.
        counters: of filters asked.
    """

    __slots__ = (
        "__weakref__",
        "_between",
        "_counters",
        "_has_holes",
        "_lowest",
        "_may_keep",
        "_newest",
        "_reader",
    )

    def __init__(
        self,
        version: Version,
        reader: Callable[[TableMeta], TableReader],
        may_keep: Callable[[int], bool],
        counters: ReadCounters,
    ) -> None:
        levels = [
            (version.largest(number), list(map(_Place, metas))) for number, metas in enumerate(version.levels)
        ]
        self._newest = levels[0][1] if levels else []
        self._between = [level for level in levels[1:] if level[1]]
        if self._between:
            self._lowest = self._between.pop()
        else:  # the oldest table of level 0
            oldest = self._newest[-1:]
            self._newest = self._newest[:-1]
            self._lowest = [place.largest for place in oldest], oldest
        self._has_holes = version.most_holes > 0
        self._reader = reader
        self._may_keep = may_keep
        self._counters = counters

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key` in the tables, None if there is none.

        O(log n) in memory for each table whose bounds include the key, and mostly one read.
        """
        value: bytes | None | Missing = MISSING
        torn = self._has_holes
        if self._newest or self._between:  # rule 2
            hashed = hash_key(key)
            bits, probes = pattern(hashed), 0
            for place in self._above(key) if self._between else self._newest:
                if place.smallest <= key <= place.largest and not (torn and holds(place.meta.holes, key)):
                    words, count, reader = place.opened or self._open(place)
                    probes += 1
                    if words[hashed % count] & bits == bits:  # `may_hold`, without the call
                        value = reader.get(key, is_probable=True)
                        if value is not MISSING:
                            break
            self._counters.filter_probes += probes
        if value is MISSING:
            largest, places = self._lowest
            index = bisect_left(largest, key)
            if index < len(places):
                place = places[index]
                if place.smallest <= key and not (torn and holds(place.meta.holes, key)):
                    value = (place.opened or self._open(place))[2].get(key)
        return None if value is MISSING else value

    def _above(self, key: bytes) -> list[_Place]:
        """Return all tables but the lowest that may have a key within their bounds."""
        places = self._newest.copy()
        for largest, level in self._between:
            index = bisect_left(largest, key)
            places += level[index : index + 1]
        return places

    def _open(self, place: _Place) -> Opened:
        """Open a table, and remember that."""  # rule 3
        reader = self._reader(place.meta)
        place.opened = opened = reader.words, len(reader.words), reader
        if not self._may_keep(place.meta.number):
            place.opened = None
        return opened

    def let_go(self) -> None:
        """Remember no table as open."""
        for places in (self._newest, self._lowest[1], *[level[1] for level in self._between]):
            for place in places:
                place.opened = None
