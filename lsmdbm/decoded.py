"""Mappings from str to decoded values over a sorted mapping from bytes to bytes.

    KeysInOrder          its keys, one after the other, as dbm names that
    DecodedMapping       the mapping itself, over a database or a transaction

Rules
  1. Keys, order and values are those of `coding` and `decoded_range`.
  2. A value is decoded before its entry is deleted: what cannot be decoded stays.
  3. Order of checks: closed, read only, types, limits; all before anything is written.

Thread safety: that of what they stand on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, NoReturn, Protocol, TypeVar

from lsmdbm._base.chunk import MISSING, Missing
from lsmdbm.coding import Coding
from lsmdbm.coercion import Data, pairs_of
from lsmdbm.decoded_range import DecodedRange, Findable
from lsmdbm.ranges import Range, RangeItems, RangeKeys, RangeValues

V = TypeVar("V")

_NOTHING: Any = object()


class _Walked(Protocol):
    """What has keys in order."""

    def firstkey(self) -> bytes | None: ...

    def lastkey(self) -> bytes | None: ...

    def nextkey(self, key: bytes) -> bytes | None: ...

    def prevkey(self, key: bytes) -> bytes | None: ...

    def _check_open(self) -> None: ...


class KeysInOrder:
    """The keys at the ends, and those beside another one."""

    __slots__ = ()
    _db: _Walked
    _coding: Coding[Any]

    def firstkey(self) -> str | None:
        """Return the smallest key, None if there is none."""
        return self._name(self._db.firstkey())

    def lastkey(self) -> str | None:
        """Return the largest key, None if there is none."""
        return self._name(self._db.lastkey())

    def nextkey(self, key: str) -> str | None:
        """Return the smallest key above `key`, which need not exist; None if there is none."""
        return self._name(self._db.nextkey(self._key(key)))

    def prevkey(self, key: str) -> str | None:
        """Return the largest key below `key`, which need not exist; None if there is none."""
        return self._name(self._db.prevkey(self._key(key)))

    def _key(self, key: object) -> bytes:
        self._db._check_open()  # rule 3
        return self._coding.encode_key(key)

    def _name(self, key: bytes | None) -> str | None:
        return None if key is None else self._coding.decode_key(key)


class _Stored(_Walked, Protocol):
    """What a decoded mapping stands on: a database or a transaction, as far as it is asked for here."""

    def __setitem__(self, key: bytes, value: Data) -> None: ...

    def __delitem__(self, key: bytes) -> None: ...

    def __contains__(self, key: object) -> bool: ...

    def __len__(self) -> int: ...

    def __bool__(self) -> bool: ...

    def get(self, key: bytes) -> bytes | None: ...

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]: ...

    def setdefault(self, key: bytes, default: Data) -> bytes: ...

    def pop(self, key: bytes, default: Any) -> Any: ...

    def update(self, other: Iterable[tuple[bytes, Data]], /) -> None: ...

    def clear(self) -> None: ...

    def range(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        *,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Range: ...

    def _writable(self) -> Any: ...


class DecodedMapping(KeysInOrder, Findable[V], MutableMapping[str, V]):
    """A sorted mapping from str to decoded values; what it is called and who makes it, its subclasses say."""

    __slots__ = ()
    _db: _Stored
    _coding: Coding[V]

    def __init__(self, db: _Stored, coding: Coding[V]) -> None:
        self._db = db
        self._coding = coding

    # -- single keys --------------------------------------------------------------------------------

    def _key_to_write(self, key: object) -> bytes:
        self._db._check_open()  # rule 3: in this order
        self._db._writable()
        return self._coding.encode_key(key)

    def _find(self, key: str) -> V | Missing:
        data = self._db.get(self._key(key))
        return MISSING if data is None else self._coding.decode_value(data)

    def __setitem__(self, key: str, value: V) -> None:
        name = self._key_to_write(key)  # before the value is encoded, which an assignment would do first
        self._db[name] = self._coding.encode_value(value)

    def __delitem__(self, key: str) -> None:
        if self._db.pop(self._key_to_write(key), None) is None:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self._key(key) in self._db

    def setdefault(self, key: str, default: Any = None) -> V:
        """Return the value of `key`, which becomes `default` if there is none.  One atomic step."""
        name = self._key(key)
        data = self._db.get(name)
        if data is None:
            self._db._writable()  # rule 3
            data = self._db.setdefault(name, self._coding.encode_value(default))
        return self._coding.decode_value(data)

    def pop(self, key: str, default: Any = _NOTHING) -> Any:
        """Delete `key` and return its value; the default, or KeyError, if there is none."""
        name = self._key_to_write(key) if default is _NOTHING else self._key(key)
        data = self._db.get(name)
        value = MISSING if data is None else self._take(key, name, data)
        if value is not MISSING:
            return value
        if default is _NOTHING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, V]:
        """Delete the first key and return it with its value; KeyError if there is none."""
        self._db._writable()
        while (found := self._db.range().first()) is not None:
            key = self._coding.decode_key(found[0])
            value = self._take(key, *found)
            if value is not MISSING:
                return key, value
        raise KeyError("popitem(): mapping is empty")

    def _take(self, key: str, name: bytes, data: bytes) -> V | Missing:
        """Delete an entry that was found, and return its value; MISSING if somebody else has taken it."""
        self._db._writable()
        value = self._coding.decode_value(data)  # rule 2
        taken = self._db.pop(name, None)
        if taken is None:
            return MISSING
        return value if taken == data else self._coding.decode_value(taken)

    # -- many at once -------------------------------------------------------------------------------

    def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        """Return the values of those keys that are there, all of one moment; see `Database.get_many`."""
        return self._coding.get_many(self._db, keys)

    def update(self, other: Any = (), /, **more: V) -> None:
        """Set many keys, from a mapping, an iterable of pairs, or keywords.

        Written in batches, each whole or not at all; memory is bounded, however long the iterable is.  If
        the iterable fails, or a key or value has the wrong type, what came before it is written.
        """
        for pairs in (pairs_of(other), more.items()):
            self._db.update(self._encoded(pairs))

    def _encoded(self, pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[bytes, Data]]:
        return self._coding.encode_items(pairs)

    def delete_range(
        self, start: str | None = None, stop: str | None = None, *, prefix: str | None = None
    ) -> None:
        """Delete every key with `start <= key < stop` and that prefix; see `Database.delete_range()`.

        Nothing is decoded: what no codec could read goes, too.
        """
        self._db._writable()
        self.range(start, stop, prefix=prefix).delete()

    def clear(self) -> None:
        """Delete everything: of a database at constant cost, and the space is given back by and by."""
        self._db.clear()

    # -- everything, in order -----------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the exact number of keys, as the database counts them."""
        return len(self._db)

    def __bool__(self) -> bool:
        return bool(self._db)

    def keys(self) -> RangeKeys[str]:
        """Return the keys, as a sized view; iterating it reads no values."""
        self._db._check_open()
        return super().keys()

    def values(self) -> RangeValues[V]:
        """Return the values, in key order, as a sized view."""
        self._db._check_open()
        return super().values()

    def items(self) -> RangeItems[str, V]:
        """Return the pairs of key and value, in key order, as a sized view."""
        self._db._check_open()
        return super().items()

    def range(
        self,
        start: str | None = None,
        stop: str | None = None,
        *,
        prefix: str | None = None,
        reverse: bool = False,
    ) -> DecodedRange[V]:
        """Return the entries with `start <= key < stop` and, if given, that prefix, as a lazy mapping."""
        self._db._check_open()
        bounds = self._coding.bounds(start, stop, prefix)
        return self._over(self._db.range(**bounds, reverse=reverse))

    def _over(self, stored: Range) -> DecodedRange[V]:
        return DecodedRange(self._coding, stored)

    def _keys(self, *, reverse: bool) -> Iterator[str]:
        return self.range()._keys(reverse=reverse)

    def _values(self, *, reverse: bool) -> Iterator[V]:
        return self.range()._values(reverse=reverse)

    def _items(self, *, reverse: bool) -> Iterator[tuple[str, V]]:
        return self.range()._items(reverse=reverse)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a view of a database handle cannot be pickled: pass its path, and open it there")
