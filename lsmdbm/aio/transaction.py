"""Transaction: reads and writes of a task that take place as if at one moment, or not at all.

Rules
  1. All that is asked of a transaction is done in one thread of its own, in the order in which it was
     asked for: tasks may share one, and nobody else waits for it.
  2. It ends with `commit()`, with `rollback()`, with the `close()` of its handle, which lets a commit that
     was asked for come to its end, or with its last reference.

Thread safety: used from one event loop at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from typing import Any, NoReturn, Protocol

from lsmdbm._base.errors import ClosedError
from lsmdbm._base.public import member_of
from lsmdbm._engine.view import View
from lsmdbm.aio.lane import Lane, outcome
from lsmdbm.aio.reads import Reads, kept
from lsmdbm.coercion import Data, key_bytes, lookup_bytes, pairs_of, value_bytes
from lsmdbm.transaction import Savepoint as BlockingSavepoint
from lsmdbm.transaction import Transaction as BlockingTransaction

ENDING = "The transaction is being committed or rolled back"

_NOTHING: Any = object()


class _Handle(Protocol):
    """What a transaction belongs to."""

    def _open_view(self) -> View: ...


@member_of("lsmdbm.aio")
class Transaction(Reads):
    """All entries of one moment, and changes over them that are committed together.  Made by `transaction()`.

    It reads what a Database reads, and its own writes over it.  Used in an `async with`, it is committed when
    the block is left, and rolled back if that is by an exception, a cancellation included.  What is a
    conflict, and what is held in memory, is said at `lsmdbm.Transaction`; a step of an iteration counts as
    a read of all that was fetched with it.

    Cost: a hop to a thread for every call.
    """

    __slots__ = ("__weakref__", "_database", "_is_ending", "_transaction")

    def __init__(self, database: _Handle, transaction: BlockingTransaction) -> None:
        super().__init__(transaction, Lane("lsmdbm-transaction", 1))
        self._database = database
        self._transaction = transaction
        self._is_ending = False

    def __repr__(self) -> str:
        return f"<lsmdbm.aio.Transaction of {self._transaction!r}>"

    def _open_view(self) -> View:
        self._transaction._check_open()
        if self._is_ending:
            raise ClosedError(ENDING)
        self._database._open_view()
        return self._transaction._draft.view

    async def _look_up(self, key: Data) -> bytes | None:
        wanted = lookup_bytes(key)  # never at once: that it was looked at has to be noted
        return await self._read(lambda: self._source._get(wanted))

    # -- writing ------------------------------------------------------------------------------------

    async def put(self, key: Data, value: Data) -> None:
        """Set one key, in this transaction."""
        self._open_view()
        name, data = key_bytes(key), value_bytes(value)
        await self._read(lambda: self._transaction.__setitem__(name, data))

    async def delete(self, key: Data) -> None:
        """Delete one key; KeyError if it is not there."""
        self._open_view()
        gone = kept(key)
        await self._read(lambda: self._transaction.__delitem__(gone))

    async def setdefault(self, key: Data, default: Data = b"") -> bytes:
        """Return the value of `key`, which becomes `default` if there is none."""
        self._open_view()
        name, value = kept(key), kept(default)
        return await self._read(lambda: self._transaction.setdefault(name, value))

    async def pop(self, key: Data, default: Any = _NOTHING) -> Any:
        """Delete `key` and return its value; the default, or KeyError, if there is none."""
        self._open_view()
        name = kept(key)
        arguments = (name,) if default is _NOTHING else (name, default)
        return await self._read(lambda: self._transaction.pop(*arguments))

    async def popitem(self) -> tuple[bytes, bytes]:
        """Delete the smallest key and return it with its value; KeyError if there is none."""
        return await self._read(self._transaction.popitem)

    async def increment(self, key: Data, delta: int = 1) -> int:
        """Add to the number that is stored under `key`; see `lsmdbm.Transaction.increment()`."""
        self._open_view()
        name = kept(key)
        return await self._read(lambda: self._transaction.increment(name, delta))

    async def update(self, other: Any = (), /, **more: Data) -> None:
        """Set many keys, from a mapping, an iterable or async iterable of pairs, or keywords.

        The iterable is read to its end in the loop first.  If it fails, or a key or value has the wrong type,
        nothing of it is in the transaction.
        """
        self._open_view()
        given = [pair async for pair in other] if isinstance(other, AsyncIterable) else pairs_of(other)
        pairs = [
            (key_bytes(key), value_bytes(value)) for each in (given, more.items()) for key, value in each
        ]
        await self._read(lambda: self._transaction.update(pairs))

    async def delete_range(
        self, start: Data | None = None, stop: Data | None = None, *, prefix: Data | None = None
    ) -> None:
        """Delete the entries with `start <= key < stop` and that prefix.  O(n) in their number."""
        await self._read(self._range(start, stop, prefix).delete)

    async def clear(self) -> None:
        """Delete everything; O(n)."""
        await self._read(self._transaction.clear)

    def savepoint(self) -> Savepoint:
        """Return a point to which the changes can be rolled back: `async with tx.savepoint():`.

        The point is where the block begins; an exception that leaves it rolls back to there.
        """
        return Savepoint(self)

    # -- the end ------------------------------------------------------------------------------------

    async def commit(self) -> None:
        """Write all changes, all or nothing; in any case the transaction is over.

        If the wait is cancelled, a commit that has begun goes on to its end.

        Raises:
            ConflictError: something it has read or written was changed by somebody else since it began.

        Durability: as a single write; after a crash all of it is there, or nothing.
        """
        self._open_view()
        await self._end(self._transaction.commit)

    async def rollback(self) -> None:
        """Forget all changes; the transaction is over.  Fine if it is already."""
        if not self._is_ending and not self._transaction._is_over():
            await self._end(self._transaction.rollback)

    async def _end(self, ending: Callable[[], None]) -> None:
        self._is_ending = True

        def finish() -> None:
            try:
                ending()
            finally:
                self._transaction.rollback()  # fine if it is over
                self._reads.end(wait=False)

        await outcome(self._reads.submit(finish))  # begun or not, it will be made

    async def __aenter__(self) -> Transaction:
        self._open_view()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            await self.rollback()
        elif not self._is_ending and not self._transaction._is_over():
            await self.commit()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a transaction of a database handle cannot be pickled")


@member_of("lsmdbm.aio")
class Savepoint:
    """A point of a transaction to which it can return.  Made by `savepoint()`, and set by `async with`."""

    __slots__ = ("_point", "_transaction")

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._point: BlockingSavepoint | None = None

    def _set_point(self) -> BlockingSavepoint:
        if self._point is None:
            raise RuntimeError("a savepoint is set by its block: async with tx.savepoint() as point")
        return self._point

    async def rollback(self) -> None:
        """Forget what the transaction has written since, and savepoints made since; this one stays."""
        await self._transaction._read(self._set_point().rollback)

    async def release(self) -> None:
        """End this savepoint, and those made since; the changes stay in the transaction."""
        await self._transaction._read(self._set_point().release)

    async def __aenter__(self) -> Savepoint:
        self._point = await self._transaction._read(self._transaction._transaction.savepoint)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._transaction._is_ending or self._transaction._transaction._is_over():
            return
        await self._transaction._read(lambda: self._set_point().__exit__(kind))
