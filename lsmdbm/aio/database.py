"""Database: what `lsmdbm.aio.open()` returns - a store of bytes whose operations are awaited.

Rules
  1. Order of checks, errors and results are those of `lsmdbm.Database`; a method that there is an operator
     has a name here, for an operator cannot be awaited.
  2. What has nothing to do with keys and values is in `handle`.
  3. What the caller gives is iterated over in the loop, where its author expects it to be used.

Thread safety: used from one event loop at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Any

from lsmdbm import database as blocking
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._base.public import member_of
from lsmdbm._base.storage import Storage
from lsmdbm.aio.batch import AsyncBatch
from lsmdbm.aio.handle import Handle, write
from lsmdbm.aio.lane import Lane, outcome
from lsmdbm.aio.reads import Opening, kept
from lsmdbm.coercion import Data, key_bytes, pairs_of, value_bytes

_STORAGE = OsStorage()
_NOTHING: Any = object()


def open(file: object, flag: str = "r", mode: int = 0o666, **options: Any) -> Opening[Database]:  # noqa: A001 - dbm's name
    """Open the database at a path, by `async with` or by `await`.

    Arguments, errors and durability are those of `lsmdbm.open()`.  Nothing happens before it is awaited; a
    wait for another process's lock blocks nobody here.

    >>> import asyncio
    >>> async def main():
    ...     async with open("words", "n") as db:
    ...         await db.put("apple", "red")
    ...         return await db.get("apple")
    >>> asyncio.run(main())
    b'red'
    """
    return open_on(_STORAGE, file, flag, mode, options)


def open_on(
    storage: Storage, file: object, flag: object, mode: int, options: dict[str, Any]
) -> Opening[Database]:
    """Do what `open` does, on any storage: the seam for tests."""
    return Opening(lambda: _opened(storage, file, flag, mode, options))


async def _opened(
    storage: Storage, file: object, flag: object, mode: int, options: dict[str, Any]
) -> Database:
    lane = Lane("lsmdbm-open", 1)
    opened = lane.submit(lambda: blocking.open_on(storage, file, flag, mode, options))
    try:
        database = Database(await outcome(opened))
    except asyncio.CancelledError:  # the thread may wait for a lock for long
        lane.submit(lambda: opened.result().close())  # it is nobody's
        lane.end(wait=False)
        raise
    except BaseException:
        lane.end()
        raise
    lane.end()
    return database


@member_of("lsmdbm.aio")
class Database(Handle):
    """A persistent, sorted store of bytes, for tasks of an event loop.  Made by `open()`.

    What is awaited never keeps other tasks waiting for a disk or a lock.  If the wait is cancelled, an
    operation that has not begun does not happen, and one that has goes on to its end in its thread.
    """

    __slots__ = ()

    # -- single keys --------------------------------------------------------------------------------

    async def put(self, key: Data, value: Data) -> None:
        """Set one key: `db[key] = value`.

        Tasks that put at the same time share one record of the log, and one sync.

        Durability: that of `lsmdbm.Database`, once it has been awaited.
        """
        self._check_writable()
        await self._writes.put(key_bytes(key), value_bytes(value))

    async def delete(self, key: Data) -> None:
        """Delete one key: `del db[key]`; KeyError if it is not there."""
        self._check_writable()
        gone = kept(key)
        await self._writes.call(lambda: self._database.__delitem__(gone))

    async def setdefault(self, key: Data, default: Data = b"") -> bytes:
        """Return the value of `key`, which becomes `default` if there is none.  One atomic step."""
        self._open_view()
        name, value = kept(key), kept(default)
        return await self._writes.call(lambda: self._database.setdefault(name, value))

    async def pop(self, key: Data, default: Any = _NOTHING) -> Any:
        """Delete `key` and return its value; the default, or KeyError, if there is none.  One atomic step.

        If the wait is cancelled after it has begun, the value is deleted and lost.
        """
        self._open_view()
        name = kept(key)
        arguments = (name,) if default is _NOTHING else (name, default)
        return await self._writes.call(lambda: self._database.pop(*arguments))

    async def popitem(self) -> tuple[bytes, bytes]:
        """Delete the smallest key and return it with its value; KeyError if the database is empty.

        If the wait is cancelled after it has begun, the entry is deleted and lost.
        """
        self._check_writable()
        return await self._writes.call(self._database.popitem)

    async def increment(self, key: Data, delta: int = 1) -> int:
        """Add to the number that is stored under `key`, 0 if there is none; return the sum.

        One atomic step; see `lsmdbm.Database.increment()`.
        """
        self._check_writable()
        name = kept(key)
        return await self._writes.call(lambda: self._database.increment(name, delta))

    # -- many at once -------------------------------------------------------------------------------

    async def update(self, other: Any = (), /, **more: Data) -> None:
        """Set many keys, from a mapping, an iterable or async iterable of pairs, or keywords.

        Written in batches, each whole or not at all; memory is bounded, however long the iterable is, and
        others get a turn, and may write, between two batches.  If the iterable fails, or a key or value has
        the wrong type, what came before it is written; if it is cancelled, only the batches so far.

        The iterable runs in the loop: one that waits for something should be an async one.
        """
        self._check_writable()
        batch = _Batch()
        try:
            if isinstance(other, AsyncIterable):
                async for key, value in other:
                    if batch.add(key, value):
                        await self._write(batch)
            else:
                for key, value in pairs_of(other):
                    if batch.add(key, value):
                        await self._write(batch)
            for key, value in more.items():
                if batch.add(key, value):
                    await self._write(batch)
        except asyncio.CancelledError:
            raise
        except BaseException:
            await self._write(batch)
            raise
        await self._write(batch)

    async def _write(self, batch: _Batch) -> None:
        changes = batch.take()
        if changes:
            self._check_writable()
            await self._writes.call(lambda: write(self._database, changes))

    def batch(self) -> AsyncBatch:
        """Return a batch: what is put into it in an `async with` is written when that ends, all or nothing.

        It is filled like that of `lsmdbm.Database`, without `await`: nothing is read or written before the
        block is left.

        Raises:
            ReadOnlyError: the handle is read only.
        """
        self._check_writable()
        return AsyncBatch(self, self._database.batch())

    async def delete_range(
        self, start: Data | None = None, stop: Data | None = None, *, prefix: Data | None = None
    ) -> None:
        """Delete every key with `start <= key < stop` and that prefix: in one atomic step, at constant cost.

        See `lsmdbm.Database.delete_range()`.
        """
        self._check_writable()
        await self._writes.call(self._range(start, stop, prefix).delete)

    async def clear(self) -> None:
        """Delete everything, at constant cost."""
        self._check_writable()
        await self._writes.call(self._database.clear)

    async def approximate_size(
        self, start: Data | None = None, stop: Data | None = None, *, prefix: Data | None = None
    ) -> int:
        """Return about how many bytes entries take on disk; see `lsmdbm.Database.approximate_size()`."""
        bounds = [None if bound is None else kept(bound) for bound in (start, stop, prefix)]
        low, high, head = bounds
        return await self._read(lambda: self._database.approximate_size(low, high, prefix=head))


class _Batch:
    """What update() gathers into one record of the log."""

    __slots__ = ("_changes", "_size")

    def __init__(self) -> None:
        self._changes: dict[bytes, bytes] = {}
        self._size = 0

    def add(self, key: Data, value: Data) -> bool:
        """Add an entry, and return whether it is time to write."""
        data, held = key_bytes(key), value_bytes(value)
        self._changes[data] = held
        self._size += len(data) + len(held)
        return self._size >= blocking.UPDATE_BYTES or len(self._changes) >= blocking.UPDATE_ENTRIES

    def take(self) -> dict[bytes, bytes]:
        """Return what there is, and begin anew."""
        changes, self._changes, self._size = self._changes, {}, 0
        return changes
