"""DecodedRange: a part of a sorted mapping from str to decoded values.

Rules
  1. Order is that of the encoded keys.  For UTF-8 that is the order of code points, as Python compares str.
  2. Whoever asks for keys alone decodes no values and reads none.

Thread safety: that of what it stands on.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from itertools import starmap
from typing import TypeVar, overload

from lsmdbm._base.chunk import MISSING, Missing
from lsmdbm._base.public import member_of
from lsmdbm.coding import Coding
from lsmdbm.ranges import Range, SortedMapping

T = TypeVar("T")
V = TypeVar("V")


class Findable(SortedMapping[str, V]):
    """What follows from `_find`, the one look for a key and its decoded value."""

    __slots__ = ()

    @abstractmethod
    def _find(self, key: str) -> V | Missing: ...

    def __getitem__(self, key: str) -> V:
        value = self._find(key)
        if value is MISSING:
            raise KeyError(key)
        return value

    @overload
    def get(self, key: str) -> V | None: ...

    @overload
    def get(self, key: str, default: V | T) -> V | T: ...

    def get(self, key: str, default: object = None) -> object:
        """Return the value of `key`, or the very object given as default."""
        value = self._find(key)
        return default if value is MISSING else value


@member_of("lsmdbm")
class DecodedRange(Findable[V]):
    """The entries of a mapping of decoded values with `start <= key < stop`, ascending or descending.

    Made by `range()` of a text view, of a shelf, or of another range; a read-only `Mapping` whose views are
    sized and can be iterated again.  Making one costs nothing and reads nothing.

    >>> import lsmdbm
    >>> with lsmdbm.open("fruit", "n") as db:
    ...     fruit = db.text("utf-8")
    ...     fruit.update({"apple": "red", "banana": "yellow", "cherry": "dark red"})
    ...     [*fruit.range("b")], len(fruit.range(stop="c")), fruit.range(prefix="ch").first()
    (['banana', 'cherry'], 2, ('cherry', 'dark red'))
    """

    __slots__ = ("_coding", "_range")

    def __init__(self, coding: Coding[V], stored: Range) -> None:
        self._coding = coding
        self._range = stored

    def _over(self, stored: Range) -> DecodedRange[V]:
        return DecodedRange(self._coding, stored)

    def __repr__(self) -> str:
        return f"<DecodedRange over {self._range!r}>"

    def range(
        self,
        start: str | None = None,
        stop: str | None = None,
        *,
        prefix: str | None = None,
        reverse: bool = False,
    ) -> DecodedRange[V]:
        """Return the part of this range with `start <= key < stop` and, if given, that prefix.

        Args:
            start: smallest key that is in; None for no bound of its own.
            stop: smallest key that is out; None for no bound of its own.
            prefix: what keys begin with; together with bounds, both hold.
            reverse: iterate the other way round than this range does.
        """
        bounds = self._coding.bounds(start, stop, prefix)
        return self._over(self._range.range(**bounds, reverse=reverse))

    def _find(self, key: str) -> V | Missing:
        value = self._range._look_up(self._coding.encode_key(key))
        return MISSING if value is None else self._coding.decode_value(value)

    def __contains__(self, key: object) -> bool:
        return self._coding.encode_key(key) in self._range

    def __len__(self) -> int:
        """Count the keys; values are not read.  O(n)."""
        return len(self._range)

    def __bool__(self) -> bool:
        return bool(self._range)

    def first(self) -> tuple[str, V] | None:
        """Return the entry an iteration would begin with; None if there is none.  O(log n)."""
        return self._end(False)

    def last(self) -> tuple[str, V] | None:
        """Return the entry an iteration would end with; None if there is none.  O(log n)."""
        return self._end(True)

    def delete(self) -> None:
        """Delete all entries of this range, whatever their values are: see `Range.delete()`.

        Nothing is decoded.

        Raises:
            ReadOnlyError: it is a range of a read-only handle, or of a snapshot.
        """
        self._range.delete()

    def _end(self, last: bool) -> tuple[str, V] | None:
        found = self._range._end(last)
        return None if found is None else self._coding.decode_item(*found)

    def _keys(self, *, reverse: bool) -> Iterator[str]:
        # map and its like go on behind an error, as a generator would not: nothing ends early unnoticed.
        return map(self._coding.decode_key, self._range._keys(reverse=reverse))

    def _values(self, *, reverse: bool) -> Iterator[V]:
        return map(self._coding.decode_value, self._range._values(reverse=reverse))

    def _items(self, *, reverse: bool) -> Iterator[tuple[str, V]]:
        return starmap(self._coding.decode_item, self._range._items(reverse=reverse))
