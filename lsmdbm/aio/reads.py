"""Reads: what the handle, the snapshots and the transactions of `lsmdbm.aio` have in common.

Rules
  1. A value that is in memory already is returned at once; everything else is read in a thread.
  2. A task that finds everything in memory still gives way to the others after MEMORY_READS reads.
  3. What a caller may change later, a bytearray or an iterable, is copied before the first wait, in the loop.

Thread safety: used from one event loop at a time.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Protocol, TypeVar, overload

from lsmdbm._engine.view import View
from lsmdbm.aio.lane import Lane
from lsmdbm.aio.stream import Stream, pieces_of_range
from lsmdbm.coercion import Data, lookup_bytes
from lsmdbm.ranges import Range
from lsmdbm.source import SortedSource

K = TypeVar("K", bound=Data)
T = TypeVar("T")

MEMORY_READS = 100


class _Ending(Protocol):
    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None: ...


C = TypeVar("C", bound=_Ending)


class Opening(Awaitable[C], AbstractAsyncContextManager[C], Generic[C]):
    """What is opened by `await`, or by `async with`, which ends it too.

    Args:
        make: opens it.
    """

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], Coroutine[Any, Any, C]]) -> None:
        self._make = make

    def __await__(self) -> Generator[Any, None, C]:
        return self._make().__await__()

    async def __aenter__(self) -> C:
        self._made = await self._make()
        return self._made

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        await self._made.__aexit__(kind, *rest)


def kept(data: Data) -> Data:
    """Return a key or a value that nobody changes any more (rule 3)."""
    return bytes(data) if isinstance(data, (bytearray, memoryview)) else data


class Reads:
    """Reading, from an event loop.

    Args:
        source: what is read.
        lane: where.
    """

    __slots__ = ("_reads", "_source", "_turns")

    def __init__(self, source: SortedSource, lane: Lane) -> None:
        self._source = source
        self._reads = lane
        self._turns = MEMORY_READS  # reads until others get a turn (rule 2)

    @abstractmethod
    def _open_view(self) -> View:
        """Return what a read of this moment sees; ClosedError if there is nothing to be read any more."""

    async def _look_up(self, key: Data) -> bytes | None:
        recent = self._open_view().recent
        wanted = lookup_bytes(key)
        found = recent((wanted,))
        if wanted not in found:
            self._turns = MEMORY_READS
            return await self._reads.call(lambda: self._source._get(wanted))
        self._turns -= 1
        if self._turns < 0:
            self._turns = MEMORY_READS
            await asyncio.sleep(0)
        return found[wanted]

    async def _read(self, function: Callable[[], T]) -> T:
        self._open_view()
        return await self._reads.call(function)

    @overload
    async def get(self, key: Data) -> bytes | None: ...

    @overload
    async def get(self, key: Data, default: T) -> bytes | T: ...

    async def get(self, key: Data, default: object = None) -> object:
        """Return the value of `key`, or the very object given as default.

        Cost: what was written lately is in memory, and returned without a hop to a thread.
        """
        value = await self._look_up(key)
        return default if value is None else value

    async def contains(self, key: Data) -> bool:
        """Return whether there is such a key: the `in` of a mapping, which cannot be awaited."""
        return await self._look_up(key) is not None

    async def get_many(self, keys: Iterable[K]) -> dict[K, bytes]:
        """Return the values of many keys, all of one moment, in the order of the keys.

        Keys that are not there are left out.  One hop to a thread for all of them, for what is in memory too;
        they are looked up in sorted order, which reads each block once.

        Args:
            keys: any iterable; it is read to its end in the loop, before anything is looked up.

        Raises:
            TypeError: one of them is neither str nor bytes-like.
        """
        self._open_view()
        named = {key: lookup_bytes(key) for key in keys}
        found = await self._reads.call(lambda: self._source._get_many([*named.values()]))
        return {key: found[raw] for key, raw in named.items() if raw in found}

    async def length(
        self, start: Data | None = None, stop: Data | None = None, *, prefix: Data | None = None
    ) -> int:
        """Return the exact number of keys, those with `start <= key < stop` and that prefix."""
        return await self._reads.call(self._range(start, stop, prefix).__len__)

    async def first(
        self, start: Data | None = None, stop: Data | None = None, *, prefix: Data | None = None
    ) -> tuple[bytes, bytes] | None:
        """Return the entry with the smallest key within those bounds; None if there is none."""
        return await self._reads.call(self._range(start, stop, prefix).first)

    async def last(
        self, start: Data | None = None, stop: Data | None = None, *, prefix: Data | None = None
    ) -> tuple[bytes, bytes] | None:
        """Return the entry with the largest key within those bounds; None if there is none."""
        return await self._reads.call(self._range(start, stop, prefix).last)

    def keys(
        self,
        start: Data | None = None,
        stop: Data | None = None,
        *,
        prefix: Data | None = None,
        reverse: bool = False,
    ) -> Stream[bytes]:
        """Return the keys with `start <= key < stop` and that prefix, for `async for`; reads no values."""
        return self._stream(self._range(start, stop, prefix, reverse), "keys")

    def values(
        self,
        start: Data | None = None,
        stop: Data | None = None,
        *,
        prefix: Data | None = None,
        reverse: bool = False,
    ) -> Stream[bytes]:
        """Return the values of those keys, in the order of the keys, for `async for`."""
        return self._stream(self._range(start, stop, prefix, reverse), "values")

    def items(
        self,
        start: Data | None = None,
        stop: Data | None = None,
        *,
        prefix: Data | None = None,
        reverse: bool = False,
    ) -> Stream[tuple[bytes, bytes]]:
        """Return the entries with `start <= key < stop` and that prefix, for `async for`.

        All of one moment, that of the first step.  They are fetched 1,000 or 256 KiB at a time.
        """
        return self._stream(self._range(start, stop, prefix, reverse), "items")

    def __aiter__(self) -> Stream[bytes]:
        return self.keys()

    def _stream(self, entries: Range, what: str) -> Stream[Any]:
        check_open = self._open_view
        return Stream(self._reads, check_open, lambda: pieces_of_range(entries, what, check_open))

    def _range(
        self, start: Data | None, stop: Data | None, prefix: Data | None, reverse: bool = False
    ) -> Range:
        self._open_view()
        return self._source.range(start, stop, prefix=prefix, reverse=reverse)
