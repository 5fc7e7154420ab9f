"""A cache bounded in cost and in count: decoded blocks, open tables.

Rules
  1. The sum of the costs stays within `max_cost` and the number of entries within `max_count`, but
     for one entry, which may be larger than the whole cache allows: it is simply not kept.
  2. A hit makes an entry the youngest; eviction takes the oldest.
  3. Evicting drops a reference and does nothing else.  Whoever uses the object keeps it alive.
  4. What is offered to a full cache enters it when it is offered again before many others are: to evict for
     what is read once costs more than it gives (decision 25).
  5. A `put` cut short by an exception from outside, or re-entered by a signal handler, may leave the
     sum of the costs off by that entry until the cache is emptied.  It breaks nothing else.

Thread safety: `get` takes no lock: it looks up in an OrderedDict, and moves, with one C call each; after an
eviction in between it still has the entry.  What changes the sum of the costs takes the lock.  Of two threads
that offer at once one may not be remembered.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

OFFER_COST = 64 << 10  # of the cache for each key that is remembered as offered once, twice as many at most
LEAST_OFFERS = 16


class LRU(Generic[K, V]):
    """A least-recently-used cache.

    Args:
        max_cost: bound on the sum of the costs given to `put`, in any unit.
        max_count: bound on the number of entries; None for no bound.

    Attributes:
        peek: returns the entry without making it younger and without counting a hit or miss; one C call.
        has_evicted: whether an entry ever had to go.  Before, ages do not matter, and who wants no hits and
            misses to be counted may peek.
    """

    __slots__ = (
        *("_costs", "_entries", "_lock", "_offered", "_offered_before", "_remembered", "_touch"),
        *("cost", "has_evicted", "hits", "max_cost", "max_count", "misses", "peek"),
    )

    def __init__(self, max_cost: int, max_count: int | None = None) -> None:
        self.max_cost = max_cost
        self.max_count = max_count
        self.cost = 0
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._costs: dict[K, int] = {}
        self._offered: set[K] = set()
        self._offered_before: set[K] = set()
        self._remembered = LEAST_OFFERS + max_cost // OFFER_COST
        self._lock = threading.RLock()  # rule 5: a handler in the middle of a `put` may read, and so put
        self._touch: Callable[[K], None] = self._entries.move_to_end
        self.peek: Callable[[K], V | None] = self._entries.get
        self.has_evicted = False

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """Return the entry and make it the youngest; None if it is not there.  O(1)."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        try:
            self._touch(key)
        except KeyError:  # evicted by another thread since: what we hold is still good
            pass
        return entry

    def put(self, key: K, entry: V, cost: int) -> None:
        """Enter or replace an entry, then evict the oldest until the bounds hold again."""
        entries = self._entries
        with self._lock:
            if key in entries:
                self._drop(key)
            if cost > self.max_cost:  # rule 1
                return
            self._costs[key] = cost
            entries[key] = entry
            self.cost += cost
            self._evict(self.max_cost, self.max_count)

    def offer(self, key: K, entry: V, cost: int) -> None:
        """Do what `put` does, but make room only for what was offered twice within a while (rule 4)."""
        if self.cost + cost > self.max_cost:
            if key not in self._offered and key not in self._offered_before:
                self._offered.add(key)
                if len(self._offered) >= self._remembered:
                    self._offered_before, self._offered = self._offered, set()
                return
            self._offered.discard(key)
            self._offered_before.discard(key)
        self.put(key, entry, cost)

    def discard(self, key: K) -> None:
        """Forget an entry, if it is there."""
        with self._lock:
            self._drop(key)

    def shrink(self, count: int) -> None:
        """Evict the oldest until at most `count` entries are left."""
        with self._lock:
            self._evict(None, count)

    def clear(self) -> None:
        """Forget everything."""
        self.shrink(0)

    def _evict(self, max_cost: int | None, max_count: int | None) -> None:
        """Evict the oldest until the bounds hold."""
        entries, costs = self._entries, self._costs
        while (max_cost is not None and self.cost > max_cost) or (
            max_count is not None and len(entries) > max_count
        ):
            self.has_evicted = True
            try:
                key, _ = entries.popitem(last=False)  # one C call: `get` reorders without the lock
            except KeyError:  # rule 5: the sum is off, or it was emptied since it was looked at
                self._start_anew()
                return
            self.cost -= costs.pop(key, 0)
        if not entries:  # rule 5
            self._start_anew()

    def _drop(self, key: K) -> None:
        if self._entries.pop(key, None) is not None:
            self.cost -= self._costs.pop(key, 0)
            if not self._entries:  # rule 5
                self._start_anew()

    def _start_anew(self) -> None:
        self._costs.clear()
        self.cost = 0
