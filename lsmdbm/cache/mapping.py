"""The mapping that a cache is: its keys one by one, many at once, and all of them, encoded and decoded.

Rules
  1. Order of checks: closed, read only, types, limits; all before anything is written.
  2. No function of the user is called under a lock of the database, but for the clock.

Thread safety: any thread.
"""

from __future__ import annotations

import operator
from collections.abc import ItemsView, Iterable, Iterator, MutableMapping, ValuesView
from typing import Any, TypeVar, overload

from lsmdbm._base.chunk import MISSING
from lsmdbm.cache.entries import Values, int_of, stored_of
from lsmdbm.cache.holding import Holding, Otherwise
from lsmdbm.cache.keys import decode_key, encode_key, encode_prefix
from lsmdbm.cache.lifetimes import TTL, Ttl
from lsmdbm.cache.space import Space
from lsmdbm.coercion import pairs_of
from lsmdbm.database import Database

T = TypeVar("T")


class CacheMapping(MutableMapping[Any, Any]):
    """What `Cache` is as a mapping; a subclass opens what it stands on."""

    __slots__ = ("_db", "_held", "_space", "_values")
    _db: Database
    _held: Holding
    _space: Space
    _values: Values

    # -- single keys --------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        stored = self._held.find(encode_key(key))
        if stored is MISSING:
            raise KeyError(key)
        return self._values.decode(stored)

    @overload
    def get(self, key: Any) -> Any | None: ...

    @overload
    def get(self, key: Any, default: T) -> Any | T: ...

    def get(self, key: Any, default: object = None) -> Any:
        """Return the value of `key`, or the very object given as default."""
        stored = self._held.find(encode_key(key))
        return default if stored is MISSING else self._values.decode(stored)

    def __contains__(self, key: object) -> bool:
        """Return whether there is a live entry.  Counts neither as a hit nor as a miss."""
        return self._held.look(encode_key(key)) is not None

    def __setitem__(self, key: Any, value: Any) -> None:
        self.set(key, value)

    def set(self, key: Any, value: Any, ttl: Ttl = TTL) -> None:
        """Set one key.

        Args:
            ttl: seconds after which the entry is over; None for never; the one of the cache by default.  0 is
                over at once.

        Raises:
            TypeError: key or value cannot be stored; the message says what can.
            ValueError: the value is larger than a sixteenth of `max_bytes`; `ttl` is no number of seconds.

        Durability: see `Cache`.

        >>> from lsmdbm.cache import Cache
        >>> cache = Cache("pages", "n")
        >>> cache.set("front", "<html>", ttl=3600)
        >>> cache.close()
        """
        self._held.check_writable()
        name, stored = self._encoded(key, value)
        self._db[name] = self._held.entry(stored, ttl)

    def add(self, key: Any, value: Any, ttl: Ttl = TTL) -> bool:
        """Set a key that is not there; return whether it was set.  One atomic step.

        >>> from lsmdbm.cache import Cache
        >>> with Cache("locks", "n") as cache:
        ...     cache.add("report", "worker 1", ttl=30), cache.add("report", "worker 2", ttl=30)
        (True, False)
        """
        self._held.check_writable()
        name, stored = self._encoded(key, value)

        def absent(found: bytes | None) -> bytes:
            if found is not None:
                raise Otherwise
            return self._held.entry(stored, ttl)

        return self._held.change(name, absent)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of `key`, which becomes `default` if there is none.  One atomic step."""
        while True:
            found = self.get(key, MISSING)
            if found is not MISSING:
                return found
            if self.add(key, default):
                return default

    def touch(self, key: Any, ttl: Ttl = TTL) -> bool:
        """Give an entry a new time to live, from now on; return whether it was there.  One atomic step."""
        self._held.check_writable()

        def touched(found: bytes | None) -> bytes:
            if found is None:
                raise Otherwise
            return self._held.entry(stored_of(found), ttl)

        return self._held.change(encode_key(key), touched)

    def increment(self, key: Any, delta: int = 1, *, default: int = 0, ttl: Ttl = TTL) -> int:
        """Add to an int, and return the sum.  One atomic step.

        Args:
            default: what an absent number counts as.
            ttl: of an entry that is made; one that is there ends when it would have.

        Raises:
            TypeError: the value is no int.

        >>> from lsmdbm.cache import Cache
        >>> with Cache("limits", "n") as cache:
        ...     [cache.increment("10.0.0.1", ttl=60) for _ in range(3)]
        [1, 2, 3]
        """
        self._held.check_writable()
        step, total = operator.index(delta), operator.index(default)

        def increased(found: bytes | None) -> bytes:
            nonlocal total
            if found is None:
                total += step
                return self._held.entry(self._values.encode(total), ttl)
            total = int_of(stored_of(found)) + step
            return self._held.renewed(found, self._values.encode(total))

        self._held.change(encode_key(key), increased)
        return total

    def __delitem__(self, key: Any) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def delete(self, key: Any) -> bool:
        """Delete a key; return whether it was there."""
        return self._held.take(encode_key(key)) is not None

    def pop(self, key: Any, default: Any = MISSING) -> Any:
        """Delete `key` and return its value; the default, or KeyError, if there is none.  One atomic step."""
        entry = self._held.take(encode_key(key))
        if entry is not None:
            return self._values.decode(stored_of(entry))
        if default is MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[Any, Any]:
        """Delete some entry and return it; KeyError if there is none."""
        for key in self:
            value = self.pop(key, MISSING)
            if value is not MISSING:
                return key, value
        raise KeyError("popitem(): cache is empty")

    # -- many at once -------------------------------------------------------------------------------

    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """Return the values of those keys that are there; see `Database.get_many`.

        Raises:
            ValueError: two keys are equal, and not the same, such as 1 and True: a dict holds one of them.
        """
        self._db._check_open()
        named: dict[Any, bytes] = {}
        for key in keys:
            name = encode_key(key)
            if named.setdefault(key, name) != name:
                raise ValueError(f"get_many() of a key equal to {key!r} that is another one: ask one by one")
        entries = self._db.get_many(list(named.values()))
        found = {}
        for key, name in named.items():
            entry = self._held.live(entries.get(name))
            if entry is not None:
                found[key] = self._values.decode(stored_of(entry))
        self._held.hits += len(found)
        self._held.misses += len(named) - len(found)
        return found

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Set many keys; see `Database.update`."""
        for pairs in (pairs_of(other), more.items()):
            self._db.update(self._entries_of(pairs))

    def _entries_of(self, pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[bytes, bytes]]:
        for key, value in pairs:
            name, stored = self._encoded(key, value)
            yield name, self._held.entry(stored, TTL)

    def _encoded(self, key: Any, value: Any) -> tuple[bytes, bytes]:
        """Return a key, and tag and payload of a value, if both together are small enough."""
        name, stored = encode_key(key), self._values.encode(value)
        self._space.check(len(name) + len(stored))
        return name, stored

    def delete_prefix(self, prefix: tuple[Any, ...]) -> None:
        """Delete all tuples that begin with those of `prefix`, at constant cost, however many there are.

        >>> from lsmdbm.cache import Cache
        >>> with Cache("users", "n") as cache:
        ...     cache.update({("user", 7, "name"): "Ann", ("user", 7, "mail"): "a@b.c", ("user", 77): "Bob"})
        ...     cache.delete_prefix(("user", 7))
        ...     [*cache]
        [('user', 77)]
        """
        self._db.delete_range(prefix=encode_prefix(prefix))

    def clear(self) -> None:
        """Delete everything, at constant cost."""
        self._db.clear()

    # -- everything ---------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        return (decode_key(name) for name, _ in self._held.entries())

    def __len__(self) -> int:
        """Return the number of live entries.  O(n): reads all of them."""
        return sum(1 for _ in self._held.entries())

    def __bool__(self) -> bool:
        return next(self._held.entries(), None) is not None

    def items(self) -> ItemsView[Any, Any]:
        """Return the live entries, in the order of the stored keys; an iteration sees one moment."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """Return the live values, in the same order."""
        return _Values(self)

    def _pairs(self) -> Iterator[tuple[Any, Any]]:
        decode = self._values.decode
        return ((decode_key(name), decode(stored_of(entry))) for name, entry in self._held.entries())


class _Items(ItemsView[Any, Any]):
    """The entries of a cache, read in one pass."""

    __slots__ = ()
    _mapping: CacheMapping

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._pairs()


class _Values(ValuesView[Any]):
    """Its values."""

    __slots__ = ()
    _mapping: CacheMapping

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._pairs())
