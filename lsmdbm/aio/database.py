"""The handle of `lsmdbm.aio`: a Database whose operations are awaited.

Rules
  1. Order of checks, errors and results are those of `lsmdbm.Database`; a method that there is an operator
     has a name here, for an operator cannot be awaited.
  2. Writes have a thread of their own, one: they take effect in the order in which they were asked for.
     Reads have others, so that none waits for a write, and so have flush() and compact(), which take long.
  3. close() lets everything that was asked for come to its end first; but compact() and flush() it ends.
  4. What the caller gives is iterated over in the loop, where its author expects it to be used.

Thread safety: used from one event loop at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from concurrent.futures import Future
from typing import Any, NoReturn, TypeVar
from weakref import WeakSet

from lsmdbm import database as blocking
from lsmdbm._base.errors import ClosedError, ConflictError, ReadOnlyError
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._base.public import member_of
from lsmdbm._base.storage import Storage
from lsmdbm._engine.check import Report
from lsmdbm._engine.stats import Stats
from lsmdbm._engine.view import View
from lsmdbm.aio.batch import AsyncBatch
from lsmdbm.aio.lane import Lane, WriteLane, outcome
from lsmdbm.aio.reads import Opening, Reads, kept
from lsmdbm.aio.snapshot import Snapshot
from lsmdbm.aio.stream import Stream, pieces_of_changes
from lsmdbm.aio.transaction import Transaction
from lsmdbm.changes import Change, checked_position
from lsmdbm.coercion import Data, key_bytes, pairs_of, value_bytes
from lsmdbm.retries import ATTEMPTS, waits

T = TypeVar("T")

READERS = 4  # threads: so many reads wait for the disk at once

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
class Database(Reads):
    """A persistent, sorted store of bytes, for tasks of an event loop.  Made by `open()`.

    What is awaited never keeps other tasks waiting for a disk or a lock.  If the wait is cancelled, an
    operation that has not begun does not happen, and one that has goes on to its end in its thread.
    """

    __slots__ = ("_care", "_closing", "_database", "_transactions", "_writes", "path")

    def __init__(self, database: blocking.Database) -> None:
        super().__init__(database, Lane("lsmdbm-read", READERS))
        self.path = database.path
        self._database = database
        self._writes = WriteLane("lsmdbm-write", lambda changes: _write(database, changes))
        self._care = Lane("lsmdbm-care", 1)
        self._closing: Future[None] | None = None
        self._transactions: WeakSet[Transaction] = WeakSet()  # those that may have a thread

    def __repr__(self) -> str:
        return f"<lsmdbm.aio.Database of {self._database!r}>"

    def _open_view(self) -> View:
        if self._closing is not None:
            raise ClosedError
        view = self._database._store.view
        view.active  # noqa: B018 - in the child of a fork, where the threads are missing too, ClosedError
        return view

    def _check_writable(self) -> None:
        self._open_view()
        if self._database._is_read_only:
            raise ReadOnlyError

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
            await self._writes.call(lambda: _write(self._database, changes))

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

    # -- care ---------------------------------------------------------------------------------------

    async def sync(self) -> None:
        """Make everything survive power loss that was written, and awaited, so far.  Writers go on."""
        await self._read(self._database.sync)

    async def flush(self) -> None:
        """Write what is held in memory into tables.  The log already keeps it: this is never needed."""
        self._check_writable()
        await self._care.call(self._database.flush)

    async def compact(self) -> None:
        """Merge all tables into one sorted level: smallest on disk, fastest to read.  O(n).

        Others read and write meanwhile.  `close()` ends it, with ClosedError.
        """
        self._check_writable()
        await self._care.call(self._database.compact)

    async def verify(self) -> Report:
        """Check every checksum of the database as of now; see `lsmdbm.Database.verify()`."""
        return await self._read(self._database.verify)

    async def backup(self, destination: object) -> None:
        """Make another database of the present state at `destination`; see `lsmdbm.Database.backup()`."""
        await self._read(lambda: self._database.backup(destination))

    async def approximate_size(
        self, start: Data | None = None, stop: Data | None = None, *, prefix: Data | None = None
    ) -> int:
        """Return about how many bytes entries take on disk; see `lsmdbm.Database.approximate_size()`."""
        bounds = [None if bound is None else kept(bound) for bound in (start, stop, prefix)]
        low, high, head = bounds
        return await self._read(lambda: self._database.approximate_size(low, high, prefix=head))

    async def refresh(self) -> None:
        """Move a read-only handle to the newest state that a writer in another process has left on disk."""
        await self._read(self._database.refresh)

    async def stats(self) -> Stats:
        """Return what the tree looks like and what it has done since it was opened."""
        return await self._read(self._database.stats)

    def changes(self, since: bytes | int | None = None) -> Stream[Change]:
        """Return what was written from a position on, up to the moment of the first step, for `async for`.

        See `lsmdbm.Database.changes()`; what that raises at once, the first step raises.

        >>> import asyncio
        >>> async def main():
        ...     async with open("orders", "n") as db:
        ...         start = await db.position()
        ...         await db.put("1", "open")
        ...         return [change.items async for change in db.changes(start)]
        >>> asyncio.run(main())
        [((b'1', b'open'),)]
        """
        self._open_view()
        database, position = self._database, checked_position(since)
        return Stream(self._reads, self._open_view, lambda: pieces_of_changes(database.changes(position)))

    async def position(self) -> bytes:
        """Return the position of now, from which `changes()` gives what is written from here on."""
        return await self._read(self._database.position)

    def snapshot(self) -> Opening[Snapshot]:
        """Return all entries of this moment: `async with db.snapshot() as s`, or `s = await db.snapshot()`.

        The moment is that of the await.  See `lsmdbm.Database.snapshot()`.
        """
        return Opening(self._snapshot)

    async def _snapshot(self) -> Snapshot:
        return Snapshot(self, await self._read(self._database.snapshot))

    def transaction(self) -> Opening[Transaction]:
        """Return a transaction: `async with db.transaction() as tx`, or `tx = await db.transaction()`.

        The block commits when it is left.  Its moment is that of the await.  Other tasks read and write
        meanwhile; if they change what it has read or written, its commit fails: `run()` tries again then.
        See `lsmdbm.Database.transaction()`.

        Raises:
            ReadOnlyError: the handle is read only.
        """
        self._check_writable()
        return Opening(self._begun)

    async def _begun(self) -> Transaction:
        transaction = Transaction(self, await self._read(self._database.transaction))
        self._transactions.add(transaction)
        return transaction

    async def run(self, function: Callable[[Transaction], Awaitable[T]], *, attempts: int = ATTEMPTS) -> T:
        """Await a function of a transaction and commit that; on a conflict, try again with a new one.

        Args:
            function: an async one; it may be called several times, so it should have no other effects.  An
                exception rolls the transaction back and goes on to the caller.
            attempts: how often it is called at most; at least 1.

        Returns:
            what the function has returned, in the attempt that was committed.

        Raises:
            ConflictError: the last attempt was in conflict, too.

        >>> import asyncio
        >>> async def main():
        ...     async def take(tx):
        ...         key, value = await tx.popitem()
        ...         return value
        ...
        ...     async with open("tasks", "n") as db:
        ...         await db.update({"1": "sweep", "2": "dust"})
        ...         return await db.run(take), await db.length()
        >>> asyncio.run(main())
        (b'sweep', 1)
        """
        pauses = waits(self._database._lease.storage, attempts)
        while True:
            pause = next(pauses)
            try:
                async with self.transaction() as transaction:
                    return await function(transaction)
            except ConflictError:
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    # -- the end ------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the handle, its iterations and its snapshots; roll its transactions back.  Twice is fine.

        Whatever was asked for before is done first.  If the wait is cancelled, closing goes on.

        Durability: unless durability is `"none"`, everything written survives power loss on return.

        Raises:
            FailedError: writes that had returned may be lost.
        """
        if self._closing is None:
            if self._is_in_child():
                self._database.close()  # which has nothing to wait for
                return
            self._closing = self._writes.submit(self._finish)
        try:
            await outcome(self._closing)
        finally:
            if self._closing.done():  # or the wait was cancelled
                self._writes.end()

    def _is_in_child(self) -> bool:
        """Return whether this is the child of a fork, where the threads are missing."""
        try:
            self._open_view()
        except ClosedError:
            return True
        return False

    def _finish(self) -> None:
        """Close, behind all writes; in their thread."""
        try:
            self._reads.end()
            for transaction in list(self._transactions):
                transaction._reads.end()
            self._database.close()
        finally:
            self._care.end()
            self._writes.end(wait=False)

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a database handle cannot be pickled: pass its path, and open it there")


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


def _write(database: blocking.Database, changes: dict[bytes, bytes]) -> None:
    """Set many keys, all or nothing.  In a thread."""
    store = database._writable()
    if len(changes) == 1:
        ((key, value),) = changes.items()
        store.put(key, value)
    else:
        store.batch([*changes], [*changes.values()])
