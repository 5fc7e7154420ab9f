"""A sorted mapping of bytes that ranges stand on: all that follows from looks, chunks, ends and a length.

A `Database` is one, and a `Snapshot`; whoever supplies what `Source` asks for becomes one.

Rules
  1. Order of checks: closed, types; and only then anything is read.

Thread safety: that of the subclass.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import TypeVar, overload

from lsmdbm._base.chunk import Chunks
from lsmdbm.coercion import Data, lookup_bytes
from lsmdbm.ranges import Flows, Range, RangeItems, RangeKeys, RangeValues, SortedMapping, narrowed

K = TypeVar("K", bound=Data)
T = TypeVar("T")


class SortedSource(SortedMapping[bytes, bytes]):
    """Reading as a mapping, in order."""

    __slots__ = ()
    _flows: Flows

    # -- what a subclass supplies -------------------------------------------------------------------

    @abstractmethod
    def _get(self, key: bytes) -> bytes | None: ...

    @abstractmethod
    def _get_many(self, keys: list[bytes]) -> dict[bytes, bytes]: ...

    @abstractmethod
    def _chunks(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool
    ) -> Chunks: ...

    @abstractmethod
    def _first(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool
    ) -> tuple[bytes, bytes] | None: ...

    @abstractmethod
    def _length(self) -> int: ...

    @abstractmethod
    def _check_open(self) -> None: ...

    @abstractmethod
    def _delete_range(self, start: bytes | None, stop: bytes | None) -> None: ...

    # -- single keys --------------------------------------------------------------------------------

    def __getitem__(self, key: Data) -> bytes:
        self._check_open()
        value = self._get(lookup_bytes(key))
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        self._check_open()
        return self._get(lookup_bytes(key)) is not None  # type: ignore[arg-type]  # which raises the TypeError

    @overload
    def get(self, key: Data) -> bytes | None: ...

    @overload
    def get(self, key: Data, default: bytes | T) -> bytes | T: ...

    def get(self, key: Data, default: object = None) -> object:
        """Return the value of `key`, or the very object given as default.  O(log n)."""
        self._check_open()
        value = self._get(lookup_bytes(key))
        return default if value is None else value

    def get_many(self, keys: Iterable[K]) -> dict[K, bytes]:
        """Return the values of many keys, all of one moment, in the order of the keys.

        Keys that are not there are left out.  Looks them up in sorted order, which reads each block once:
        the quicker, the closer together the keys are.  Takes memory for all keys and values.

        >>> import lsmdbm
        >>> with lsmdbm.open("colours", "n") as db:
        ...     db.update({"apple": "red", "banana": "yellow"})
        ...     db.get_many(["banana", "cherry", "apple"])
        {'banana': b'yellow', 'apple': b'red'}
        """
        self._check_open()
        named = {key: lookup_bytes(key) for key in keys}
        found = self._get_many(list(named.values()))
        return {key: found[raw] for key, raw in named.items() if raw in found}

    # -- everything, in order -----------------------------------------------------------------------

    def __len__(self) -> int:
        return self._length()

    def __bool__(self) -> bool:
        return self._first(None, None, reverse=False, keys_only=True) is not None

    def keys(self) -> RangeKeys[bytes]:
        """Return the keys, as a sized view; iterating it reads no values."""
        self._check_open()
        return super().keys()

    def values(self) -> RangeValues[bytes]:
        """Return the values, in key order, as a sized view."""
        self._check_open()
        return super().values()

    def items(self) -> RangeItems[bytes, bytes]:
        """Return the pairs of key and value, in key order, as a sized view."""
        self._check_open()
        return super().items()

    def range(
        self,
        start: Data | None = None,
        stop: Data | None = None,
        *,
        prefix: Data | None = None,
        reverse: bool = False,
    ) -> Range:
        """Return the entries with `start <= key < stop` and, if given, that prefix, as a lazy mapping.

        >>> import lsmdbm
        >>> with lsmdbm.open("letters", "n") as db:
        ...     db.update((letter, letter.upper()) for letter in "abcde")
        ...     list(db.range("b", "d")), list(db.range(reverse=True))[:2]
        ([b'b', b'c'], [b'e', b'd'])
        """
        self._check_open()
        low, high = narrowed(None, None, start, stop, prefix)
        return Range(self, low, high, bool(reverse))

    def first(self) -> tuple[bytes, bytes] | None:
        """Return the entry with the smallest key; None if there is none.  O(log n)."""
        return self._first(None, None, reverse=False, keys_only=False)

    def last(self) -> tuple[bytes, bytes] | None:
        """Return the entry with the largest key; None if there is none.  O(log n)."""
        return self._first(None, None, reverse=True, keys_only=False)

    def _keys(self, *, reverse: bool) -> Iterator[bytes]:
        return self.range()._keys(reverse=reverse)

    def _values(self, *, reverse: bool) -> Iterator[bytes]:
        return self.range()._values(reverse=reverse)

    def _items(self, *, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        return self.range()._items(reverse=reverse)

    # -- dbm ----------------------------------------------------------------------------------------

    def firstkey(self) -> bytes | None:
        """Return the smallest key, None if there is none.  O(log n)."""
        return _key(self._first(None, None, reverse=False, keys_only=True))

    def lastkey(self) -> bytes | None:
        """Return the largest key, None if there is none.  O(log n)."""
        return _key(self._first(None, None, reverse=True, keys_only=True))

    def nextkey(self, key: Data) -> bytes | None:
        """Return the smallest key above `key`, which need not exist; None if there is none.

        O(log n), as the other three: a walk is cheaper by a `range()`, of which a step costs O(1).

        >>> import lsmdbm
        >>> with lsmdbm.open("letters", "n") as db:
        ...     db.update((letter, letter.upper()) for letter in "acd")
        ...     db.firstkey(), db.nextkey("b"), db.prevkey("b"), db.nextkey("d")
        (b'a', b'c', b'a', None)
        """
        self._check_open()
        return _key(self._first(lookup_bytes(key) + b"\0", None, reverse=False, keys_only=True))

    def prevkey(self, key: Data) -> bytes | None:
        """Return the largest key below `key`, which need not exist; None if there is none."""
        self._check_open()
        return _key(self._first(None, lookup_bytes(key), reverse=True, keys_only=True))


def _key(found: tuple[bytes, bytes] | None) -> bytes | None:
    return None if found is None else found[0]
