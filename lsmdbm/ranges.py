"""Range: a part of a sorted mapping is a mapping too.

Rules
  1. A range is lazy: it holds bounds and a source, no entries.  Each look and each iteration is of the
     moment it begins; an iteration sees one moment to its end and never blocks a writer.
  2. Bounds are half open: `start` is in, `stop` is out.
  3. An iterator whose handle was closed raises ClosedError at its next step, and so does every one in the
     child of a fork: a lock of the caches may be held by nobody there.

Thread safety: a range may be used from any thread; one iterator by one thread at a time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from itertools import chain
from operator import length_hint
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

from lsmdbm._base.chunk import Chunks, prefix_stop
from lsmdbm._base.forking import on_fork
from lsmdbm._base.public import member_of
from lsmdbm.coercion import Data, lookup_bytes

K = TypeVar("K")
V = TypeVar("V")


class Flow:
    """One iteration under way.  Emptying `items` ends the inner loop of whoever iterates."""

    __slots__ = ("__weakref__", "items", "rest")

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.rest: Iterator[Any] = iter(())

    def hand_out(self, items: list[Any]) -> Iterator[Any]:
        """Return an iterator over a list of its own, which is where whoever iterates is now."""
        self.items = items
        self.rest = iter(items)
        return self.rest

    def left(self) -> int:
        """Return how many of the current items nobody has asked for yet."""
        return length_hint(self.rest)


class Flows:
    """The iterations under way on one handle.  Closing the handle stops them (rule 3)."""

    __slots__ = ("__weakref__", "_flows")

    def __init__(self) -> None:
        self._flows: WeakSet[Flow] = WeakSet()
        _of_all_handles.add(self)

    def begin(self, chunks: Chunks) -> Flow:
        """Return a new one, over such a stream."""
        flow = Flow()
        self._flows.add(flow)
        return flow

    def stop(self) -> None:
        """Stop all of them where they are."""
        for flow in list(self._flows):
            flow.items.clear()


_of_all_handles: WeakSet[Flows] = WeakSet()


def _after_fork() -> None:  # rule 3
    for flows in list(_of_all_handles):
        flows.stop()


on_fork(_after_fork)


class Source(Protocol):
    """What a range stands on: a handle, or a moment of one."""

    _flows: Flows

    def _get(self, key: bytes) -> bytes | None: ...

    def _chunks(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool
    ) -> Chunks: ...

    def _first(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool
    ) -> tuple[bytes, bytes] | None: ...

    def _length(self) -> int: ...

    def _check_open(self) -> None: ...

    def _delete_range(self, start: bytes | None, stop: bytes | None) -> None: ...


class SortedMapping(Mapping[K, V]):
    """What sorted mappings have in common, whatever their keys and values are."""

    __slots__ = ()

    @abstractmethod
    def _keys(self, *, reverse: bool) -> Iterator[K]: ...

    @abstractmethod
    def _values(self, *, reverse: bool) -> Iterator[V]: ...

    @abstractmethod
    def _items(self, *, reverse: bool) -> Iterator[tuple[K, V]]: ...

    def __iter__(self) -> Iterator[K]:
        return self._keys(reverse=False)

    def __reversed__(self) -> Iterator[K]:
        return self._keys(reverse=True)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return same_entries(self, other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def keys(self) -> RangeKeys[K]:
        """Return the keys, as a sized view; iterating it reads no values."""
        return RangeKeys(self)

    def values(self) -> RangeValues[V]:
        """Return the values, in key order, as a sized view."""
        return RangeValues(self)

    def items(self) -> RangeItems[K, V]:
        """Return the pairs of key and value, as a sized view."""
        return RangeItems(self)


@member_of("lsmdbm")
class Range(SortedMapping[bytes, bytes]):
    """The entries of a sorted mapping with `start <= key < stop`, in ascending or descending order.

    Made by `range()` of a database or of another range; a read-only `Mapping` whose views are sized and
    can be iterated again.  Making one costs nothing and reads nothing.

    >>> import lsmdbm
    >>> with lsmdbm.open("fruit", "n") as db:
    ...     db.update({"apple": "red", "banana": "yellow", "cherry": "dark red"})
    ...     [*db.range("b")], len(db.range(stop="c")), db.range(prefix="ch").first()
    ([b'banana', b'cherry'], 2, (b'cherry', b'dark red'))
    """

    __slots__ = ("_reverse", "_source", "_start", "_stop")

    def __init__(self, source: Source, start: bytes | None, stop: bytes | None, reverse: bool) -> None:
        self._source = source
        self._start = start
        self._stop = stop
        self._reverse = reverse

    def __repr__(self) -> str:
        bounds = f"start={self._start!r}, stop={self._stop!r}"
        return f"<Range {bounds}{', reverse=True' if self._reverse else ''}>"

    def range(
        self,
        start: Data | None = None,
        stop: Data | None = None,
        *,
        prefix: Data | None = None,
        reverse: bool = False,
    ) -> Range:
        """Return the part of this range with `start <= key < stop` and, if given, that prefix.

        Args:
            start: smallest key that is in; None for no bound of its own.
            stop: smallest key that is out; None for no bound of its own.
            prefix: what keys begin with; together with bounds, both hold.
            reverse: iterate the other way round than this range does.
        """
        low, high = narrowed(self._start, self._stop, start, stop, prefix)
        return Range(self._source, low, high, self._reverse ^ bool(reverse))

    def _spans(self, key: bytes) -> bool:
        return (self._start is None or key >= self._start) and (self._stop is None or key < self._stop)

    def _look_up(self, key: bytes) -> bytes | None:
        if self._spans(key):
            return self._source._get(key)
        self._source._check_open()
        return None

    def __getitem__(self, key: Data) -> bytes:
        value = self._look_up(lookup_bytes(key))
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return self._look_up(lookup_bytes(key)) is not None  # type: ignore[arg-type]  # which raises the TypeError

    def __len__(self) -> int:
        """Count the keys; values are not read.  O(n), but of everything it is `len()` of the database."""
        if self._start is None and self._stop is None:
            return self._source._length()
        return sum(len(keys) for keys, _ in self._pass(keys_only=True))

    def __bool__(self) -> bool:
        return self._end(False, keys_only=True) is not None

    def first(self) -> tuple[bytes, bytes] | None:
        """Return the entry an iteration would begin with; None if there is none.  O(log n)."""
        return self._end(False)

    def last(self) -> tuple[bytes, bytes] | None:
        """Return the entry an iteration would end with; None if there is none.  O(log n)."""
        return self._end(True)

    def delete(self) -> None:
        """Delete all entries of this range, at constant cost: see `Database.delete_range()`.

        Raises:
            ReadOnlyError: it is a range of a read-only handle, or of a snapshot.
        """
        self._source._delete_range(self._start, self._stop)

    def _end(self, last: bool, keys_only: bool = False) -> tuple[bytes, bytes] | None:
        if self._is_empty():
            return None
        return self._source._first(self._start, self._stop, reverse=self._reverse ^ last, keys_only=keys_only)

    def _is_empty(self) -> bool:
        self._source._check_open()
        return self._start is not None and self._stop is not None and self._start >= self._stop

    def _pass(self, *, reverse: bool = False, keys_only: bool = False) -> Chunks:
        if self._is_empty():
            return iter(())
        return self._source._chunks(
            self._start, self._stop, reverse=self._reverse ^ reverse, keys_only=keys_only
        )

    def _keys(self, *, reverse: bool) -> Iterator[bytes]:
        chunks = self._pass(reverse=reverse, keys_only=True)
        step = -1 if reverse ^ self._reverse else 1
        return chain.from_iterable(_key_lists(self._source, chunks, step))

    def _values(self, *, reverse: bool) -> Iterator[bytes]:
        chunks = self._pass(reverse=reverse)
        step = -1 if reverse ^ self._reverse else 1
        return chain.from_iterable(_value_lists(self._source, chunks, step))

    def _items(self, *, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        chunks = self._pass(reverse=reverse)
        step = -1 if reverse ^ self._reverse else 1
        return chain.from_iterable(_item_lists(self._source, chunks, step))


def narrowed(
    low: bytes | None, high: bytes | None, start: Data | None, stop: Data | None, prefix: Data | None
) -> tuple[bytes | None, bytes | None]:
    """Return the bounds low .. high narrowed to start .. stop and to a prefix."""
    starts, stops = [low], [high]
    if start is not None:
        starts.append(lookup_bytes(start, "start"))
    if stop is not None:
        stops.append(lookup_bytes(stop, "stop"))
    if prefix is not None:
        data = lookup_bytes(prefix, "prefix")
        starts.append(data)
        stops.append(prefix_stop(data))
    return (
        max((bound for bound in starts if bound is not None), default=None),
        min((bound for bound in stops if bound is not None), default=None),
    )


def same_entries(ours: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    """Return whether two mappings hold the same, in one pass and without copying either."""
    if len(ours) != len(other):
        return False
    # Keys of our mappings are all bytes or all str, and a mapping of one kind refuses to look for the other.
    if isinstance(next(iter(ours), None), str) != isinstance(next(iter(other), None), str):
        return False
    nothing = object()
    return all(other.get(key, nothing) == value for key, value in ours.items())


def _key_lists(source: Source, chunks: Chunks, step: int) -> Iterator[Iterator[bytes]]:
    flow = source._flows.begin(chunks)
    source._check_open()  # the handle may have been closed since the iterator was made
    for keys, _ in chunks:
        yield flow.hand_out(keys[::step])  # a list of our own: closing the handle empties it
        source._check_open()


def _value_lists(source: Source, chunks: Chunks, step: int) -> Iterator[Iterator[Any]]:
    flow = source._flows.begin(chunks)
    source._check_open()  # the handle may have been closed since the iterator was made
    for _, values in chunks:
        yield flow.hand_out(values[::step])  # without a None: a read gives no tombstones
        source._check_open()


def _item_lists(source: Source, chunks: Chunks, step: int) -> Iterator[Iterator[tuple[bytes, bytes]]]:
    flow = source._flows.begin(chunks)
    source._check_open()  # the handle may have been closed since the iterator was made
    for keys, values in chunks:
        # Not strict: closing the handle empties one of the two.
        yield zip(flow.hand_out(keys[::step]), values[::step], strict=False)  # type: ignore[arg-type]  # a read gives no None
        source._check_open()


class RangeKeys(KeysView[K], Generic[K]):
    """The keys of a sorted mapping."""

    __slots__ = ()
    _mapping: SortedMapping[K, Any]

    def __init__(self, mapping: SortedMapping[K, Any]) -> None:
        super().__init__(mapping)

    def __iter__(self) -> Iterator[K]:
        return self._mapping._keys(reverse=False)

    def __reversed__(self) -> Iterator[K]:
        return self._mapping._keys(reverse=True)


class RangeValues(ValuesView[V], Generic[V]):
    """The values of a sorted mapping, in key order."""

    __slots__ = ()
    _mapping: SortedMapping[Any, V]

    def __init__(self, mapping: SortedMapping[Any, V]) -> None:
        super().__init__(mapping)

    def __contains__(self, value: object) -> bool:
        return any(value == held for held in self)

    def __iter__(self) -> Iterator[V]:
        return self._mapping._values(reverse=False)

    def __reversed__(self) -> Iterator[V]:
        return self._mapping._values(reverse=True)


class RangeItems(ItemsView[K, V], Generic[K, V]):
    """The entries of a sorted mapping."""

    __slots__ = ()
    _mapping: SortedMapping[K, V]

    def __init__(self, mapping: SortedMapping[K, V]) -> None:
        super().__init__(mapping)

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._items(reverse=False)

    def __reversed__(self) -> Iterator[tuple[K, V]]:
        return self._mapping._items(reverse=True)
