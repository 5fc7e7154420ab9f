"""Writeback: ranges, batches and transactions of a shelf that keeps the objects it has handed out.

Rules
  1. Keys are those of the database, objects those of the shelf, which knows newer states of them.
  2. What was written or deleted past the shelf leaves its cache: the next `sync()` would bring it back.

Thread safety: one thread at a time, as a shelf with writeback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Protocol, TypeVar

from lsmdbm._base.chunk import MISSING, Missing
from lsmdbm._base.intervals import holds
from lsmdbm.batch import WriteBatch
from lsmdbm.coding import Coding
from lsmdbm.decoded_handle import DecodedBatch, DecodedTransaction
from lsmdbm.decoded_range import DecodedRange
from lsmdbm.ranges import Range
from lsmdbm.transaction import Transaction

V = TypeVar("V")


class _Shelf(Protocol[V]):
    """A shelf, as far as it is asked for here."""

    _coding: Coding[V]

    def __getitem__(self, key: str) -> V: ...

    def _find(self, key: str) -> V | Missing: ...

    def _forget(self, is_gone: Callable[[bytes], bool]) -> None: ...


class CachedRange(DecodedRange[V]):
    """A range of a shelf with writeback: the keys are the database's, the values the shelf's (rule 1).

    An entry deleted since the iteration began is left out: its value, once cached, would come back to life
    at the next sync.
    """

    __slots__ = ("_shelf",)

    def __init__(self, shelf: _Shelf[V], stored: Range) -> None:
        super().__init__(shelf._coding, stored)
        self._shelf = shelf

    def _over(self, stored: Range) -> DecodedRange[V]:
        return CachedRange(self._shelf, stored)

    def delete(self) -> None:
        """Delete all entries of this range, in the cache as well (rule 2)."""
        super().delete()
        self._shelf._forget(self._range._spans)

    def _find(self, key: str) -> V | Missing:
        return self._shelf._find(key) if self._range._spans(self._coding.encode_key(key)) else MISSING

    def _end(self, last: bool) -> tuple[str, V] | None:
        found = self._range._end(last, keys_only=True)
        if found is None:
            return None
        key = self._coding.decode_key(found[0])
        return key, self._shelf[key]

    def _values(self, *, reverse: bool) -> Iterator[V]:
        return map(itemgetter(1), self._items(reverse=reverse))

    def _items(self, *, reverse: bool) -> Iterator[tuple[str, V]]:
        return filter(None, map(self._item, self._keys(reverse=reverse)))

    def _item(self, key: str) -> tuple[str, V] | None:
        value = self._shelf._find(key)
        return None if value is MISSING else (key, value)


class CachedBatch(DecodedBatch[V]):
    """A batch of a shelf with writeback (rule 2)."""

    __slots__ = ("_shelf",)

    def __init__(self, shelf: _Shelf[V], batch: WriteBatch) -> None:
        super().__init__(shelf._coding, batch)
        self._shelf = shelf

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        changes, ranges = self._batch._changes, self._batch._ranges
        super().__exit__(kind)
        if kind is None:
            self._shelf._forget(lambda name: name in changes or holds(ranges, name))


class CachedTransaction(DecodedTransaction[V]):
    """A transaction of a shelf with writeback (rule 2)."""

    __slots__ = ("_shelf",)

    def __init__(self, shelf: _Shelf[V], transaction: Transaction) -> None:
        super().__init__(transaction, shelf._coding)
        self._shelf = shelf

    def commit(self) -> None:
        """Commit, and forget what was written in the cache as well."""
        changed = {*self._db._changed_keys()}
        super().commit()
        self._shelf._forget(changed.__contains__)
