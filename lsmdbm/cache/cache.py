"""Cache: a persistent mapping that forgets - what is over, and what is oldest when space is short.

Thread safety: any thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

from lsmdbm._base.chunk import MISSING
from lsmdbm._base.errors import error
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._base.public import member_of
from lsmdbm.cache.entries import Values, stored_of
from lsmdbm.cache.figures import CacheStats
from lsmdbm.cache.flights import Flights
from lsmdbm.cache.holding import Holding
from lsmdbm.cache.keys import BEHIND, PREFIX, encode_key
from lsmdbm.cache.lifetimes import TTL, Ttl, check_given, checked_ttl
from lsmdbm.cache.mapping import CacheMapping
from lsmdbm.cache.memo import Memo, Names
from lsmdbm.cache.space import MAX_BYTES, Space
from lsmdbm.database import Database, open_on
from lsmdbm.text import Codec

T = TypeVar("T")
P = ParamSpec("P")

_STORAGE = OsStorage()
NAMED_BYTES = 80  # of a key that is shown in an error
_OURS = ("compaction", "log_keep_bytes", "max_bytes")  # options that are the cache's own


@member_of("lsmdbm.cache")
class Cache(CacheMapping):
    """A persistent cache in a directory of its own, which takes `max_bytes` at most.

    Keys are str, bytes, int, float, bool, None, and tuples of these; 1, 1.0 and True are different keys.
    Values are bytes, str, and whatever comes back from JSON as it was; others by a codec.  Single keys cost
    O(log n).  What goes over all entries, `len()` and `==` among them, reads all of them.

    Args:
        path: the directory; it is made if there is none, unless `flag` says otherwise.
        flag: `"c"`, `"w"`, `"n"`, or `"r"`, as for `lsmdbm.open()`.  One process writes at a time.
        mode: permission bits of new files; by default nobody else gets any.
        max_bytes: what the directory takes at most, in bytes; 1 MiB at least.  The oldest entries go first.
            A value larger than a sixteenth of it is refused; one larger than a memtable may make the
            directory larger for a while, by up to three times its size.  Not remembered.
        ttl: seconds after which an entry is over, unless it has a `ttl` of its own; None for never.
        codec: for values that are neither bytes nor str: an object with `dumps` and `loads`, such as the
            module pickle.  With pickle, whoever can write into the directory can run code here.
        clock: returns seconds since 1970.
        **options: see `Options`; `compaction`, `max_bytes` and `log_keep_bytes` are the cache's own.

    Raises:
        error: the directory holds something that is no cache.
        NotFoundError, LockedError, CorruptionError, FlagError: as `lsmdbm.open()`.
        TypeError, ValueError: unknown option; option out of its bounds; no codec; no seconds.

    Durability: as for a database.  By default what was written survives a kill of the process.  Power loss
    may take the last writes back, deletions among them, in order: what is found under a key after it was
    there before.

    >>> with Cache("pages", max_bytes=100_000_000, ttl=3600) as cache:
    ...     cache["front"] = "<html>"
    ...     cache.set(("user", 7), {"name": "Ann"}, ttl=60)
    ...     cache["front"], cache.get(("user", 7)), cache.get("back")
    ('<html>', {'name': 'Ann'}, None)
    """

    __slots__ = ("_flights", "_names", "_refused")

    def __init__(
        self,
        path: object,
        flag: str = "c",
        mode: int = 0o600,
        *,
        max_bytes: int = MAX_BYTES,
        ttl: float | None = None,
        codec: Codec | None = None,
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        for name in _OURS:
            if name in options:
                raise TypeError(f"Cache() got an unexpected keyword argument {name!r}")
        self._space = Space.of(max_bytes, options.get("memtable_bytes"))
        seconds = checked_ttl(ttl)
        self._values = Values(codec)
        self._flights = Flights()
        self._names = Names()
        self._refused = 0
        self._db = open_on(_STORAGE, path, flag, mode, {**options, **self._space.options()})
        self._held = Holding(self._db, self._space.table_bytes, seconds, clock)
        try:
            _refuse_foreign(self._db)
        except BaseException:
            self._db.close()
            raise

    def __repr__(self) -> str:
        return f"<lsmdbm.cache.Cache in {self._db!r}>"

    # -- computing what is not there ----------------------------------------------------------------

    def get_or_set(self, key: Any, function: Callable[[], T], ttl: Ttl = TTL) -> T:
        """Return the value of `key`; if there is none, that of a function, which is stored.

        Of the threads that ask one calls the function, and the others wait; what it raises goes to all of
        them.  Threads that use another `Cache`, or are in another process, do not know of it.  A value that
        cannot be decoded any more counts as absent.  One that is too large is returned, and not stored; so is
        any if the cache is read only.

        Raises:
            TypeError: the value cannot be stored; the message says what can.
            RuntimeError: the function asks for the very value it computes.

        >>> with Cache("squares", "n") as cache:
        ...     cache.get_or_set(12, lambda: 144), cache.get_or_set(12, lambda: 1 / 0)
        (144, 144)
        """
        check_given(ttl)
        name = encode_key(key)
        found = self._decoded(name)
        if found is not MISSING:
            return cast(T, found)
        made: Any = MISSING

        def make() -> bytes:
            nonlocal made
            entry = self._held.look(name)
            if entry is not None and self._value_of(stored_of(entry)) is not MISSING:
                return stored_of(entry)  # somebody was faster
            made = function()
            stored = self._values.encode(made)
            self._store(name, stored, ttl)
            return stored

        stored = self._flights.make(name, make)
        return cast(T, self._values.decode(stored) if made is MISSING else made)

    def memoize(
        self,
        name: str,
        *,
        ttl: Ttl = TTL,
        key: Callable[..., Any] | None = None,
    ) -> Callable[[Callable[P, T]], Memo[P, T]]:
        """Return a decorator: calls of a function with the same arguments are answered from the cache.

        Args:
            name: under which the results are kept, under `(name, ...)`.  It is not taken from the function:
                what is stored outlives the code.  Take another one when the function returns something else
                than before.
            ttl: of the results.
            key: called with the arguments, returns what makes the call another one: for arguments that are no
                keys, such as `self`, or that do not matter.

        Raises:
            TypeError: the function is a coroutine function.
            ValueError: another function has the name.

        The function gets `cache_key()`, with the arguments of a call, and `cache_clear()`; `__wrapped__` is
        the function itself.  How arguments are given does not matter, and defaults count.

        >>> with Cache("results", "n") as cache:
        ...
        ...     @cache.memoize("double", ttl=60)
        ...     def double(number):
        ...         print("computing")
        ...         return 2 * number
        ...
        ...     double(4), double(number=4), double.cache_key(4) in cache
        computing
        (8, 8, True)
        """
        check_given(ttl)

        def decorate(function: Callable[P, T]) -> Memo[P, T]:
            self._names.take(name, function)
            return Memo(self, name, function, ttl, key)

        return decorate

    def expire(self) -> int:
        """Give back the space of the oldest entries, as far as all of them are over; return how many bytes.

        Never needed: what is over is not found, and goes as the oldest in its turn.  Ends at the first table
        that holds a live entry, so a cache whose entries have much the same `ttl` gains most.  What is in
        memory, or in the log, stays.

        Cost: the blocks of the tables that go, and usually one more.

        >>> with Cache("pages", "n", ttl=3600) as cache:
        ...     cache["front"] = "<html>"
        ...     cache.expire()
        0
        """
        self._held.check_writable()
        return self._db._writable().drop_oldest(self._held.is_over)

    # -- care ---------------------------------------------------------------------------------------

    def stats(self) -> CacheStats:
        """Return what the cache has done since it was opened, and what it holds."""
        return CacheStats(
            hits=self._held.hits,
            misses=self._held.misses,
            expired=self._held.expired,
            kept=self._held.kept,
            refused=self._refused,
            max_bytes=self._space.max_bytes,
            store=self._db.stats(),
        )

    def refresh(self) -> None:
        """Move a cache that is read only to the newest state of its writer; see `Database.refresh`."""
        self._db.refresh()

    def sync(self) -> None:
        """Make everything written so far survive power loss."""
        self._db.sync()

    def close(self) -> None:
        """Close the cache.  Twice is fine."""
        self._db.close()

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a cache cannot be pickled: pass its path, and open it there")

    # -- values -------------------------------------------------------------------------------------

    def _decoded(self, name: bytes) -> Any:
        """Return the value of a key; MISSING if there is none that can be decoded."""
        stored = self._held.find(name)
        if stored is MISSING:
            return MISSING
        value = self._value_of(stored)
        if value is MISSING:
            self._held.hits, self._held.misses = self._held.hits - 1, self._held.misses + 1
        return value

    def _value_of(self, stored: bytes) -> Any:
        """Return the value of a tag and its payload; MISSING if it cannot be decoded."""
        try:
            return self._values.decode(stored)
        except Exception:  # a class that is gone, say: then it has to be computed anew
            return MISSING

    def _store(self, name: bytes, stored: bytes, ttl: Ttl) -> None:
        """Set a key to what was computed, if that can be stored."""
        if self._held.is_read_only:
            return
        if not self._space.holds(len(name) + len(stored)):
            self._refused += 1
            return
        self._db[name] = self._held.entry(stored, ttl)


def _refuse_foreign(db: Database) -> None:
    """Raise if a database holds a key that is none of a cache; reads nothing of one that is."""
    for outside in (db.range(stop=PREFIX), db.range(BEHIND)):
        found = outside.first()
        if found is not None:
            raise error(f"{db.path}: is no cache: it holds {found[0][:NAMED_BYTES]!r}")
