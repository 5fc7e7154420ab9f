"""Handle: what a database is to an event loop but for its keys and values: its threads, moments, care, end.

Rules
  1. Writes have a thread of their own, one: they take effect in the order in which they were asked for.
     Reads have others, so that none waits for a write, and so have flush() and compact(), which take long.
  2. close() lets everything that was asked for come to its end first; but compact() and flush() it ends.

Thread safety: used from one event loop at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import NoReturn, TypeVar
from weakref import WeakSet

from lsmdbm import database as blocking
from lsmdbm._base.errors import ClosedError, ConflictError, ReadOnlyError
from lsmdbm._engine.check import Report
from lsmdbm._engine.figures import Stats
from lsmdbm._engine.view import View
from lsmdbm.aio.lane import Lane, WriteLane, outcome
from lsmdbm.aio.reads import Opening, Reads
from lsmdbm.aio.snapshot import Snapshot
from lsmdbm.aio.stream import Stream, pieces_of_changes
from lsmdbm.aio.transaction import Transaction
from lsmdbm.changes import Change, checked_position
from lsmdbm.retries import ATTEMPTS, waits

T = TypeVar("T")
H = TypeVar("H", bound="Handle")

READERS = 4  # threads: so many reads wait for the disk at once


class Handle(Reads):
    """What a `Database` is besides its keys and values."""

    __slots__ = ("_care", "_closing", "_database", "_transactions", "_writes", "path")

    def __init__(self, database: blocking.Database) -> None:
        super().__init__(database, Lane("lsmdbm-read", READERS))
        self.path = database.path
        self._database = database
        self._writes = WriteLane("lsmdbm-write", lambda changes: write(database, changes))
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

    # -- moments ------------------------------------------------------------------------------------

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
        >>> from lsmdbm import aio
        >>> async def main():
        ...     async def take(tx):
        ...         key, value = await tx.popitem()
        ...         return value
        ...
        ...     async with aio.open("tasks", "n") as db:
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
        >>> from lsmdbm import aio
        >>> async def main():
        ...     async with aio.open("orders", "n") as db:
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

    async def __aenter__(self: H) -> H:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a database handle cannot be pickled: pass its path, and open it there")


def write(database: blocking.Database, changes: dict[bytes, bytes]) -> None:
    """Set many keys, all or nothing.  In a thread."""
    store = database._writable()
    if len(changes) == 1:
        ((key, value),) = changes.items()
        store.put(key, value)
    else:
        store.batch([*changes], [*changes.values()])
