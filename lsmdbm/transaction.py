"""Transaction: reads and writes that take place as if at one moment, or not at all.

Rules
  1. A transaction reads a snapshot with its own writes over it.  Nobody else sees those before the commit,
     which is one record of the log.
  2. It commits only if what it has read and written is still as its snapshot has it: so all transactions
     that commit do what they would have done one after the other, in the order of their commits.
  3. A look that found nothing is a read too; a walk over a range is one up to where it stopped; what comes
     from the transaction's own writes is none.  One that wrote nothing needs no validation.
  4. It ends with `commit()`, whether that succeeds or not, with `rollback()`, with the `close()` of its
     handle, or with its last reference: then it was rolled back.  It holds no lock before its commit.

Thread safety: a transaction is used by one thread at a time; any number of them may be open on a handle.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, overload

from lsmdbm._base.chunk import Chunks
from lsmdbm._base.errors import ClosedError
from lsmdbm._base.public import member_of
from lsmdbm._engine.draft import Draft, Mark
from lsmdbm._engine.validation import Walk
from lsmdbm.coercion import Data, key_bytes, lookup_bytes, number_of, pairs_of, value_bytes
from lsmdbm.ranges import Flow, Flows, narrowed
from lsmdbm.source import SortedSource

if TYPE_CHECKING:
    from lsmdbm.decoded_handle import DecodedTransaction
    from lsmdbm.text import Codec

COMMITTED, ROLLED_BACK, FAILED = (
    "The transaction has already been committed",
    "The transaction has already been rolled back",
    "The transaction is over: its commit has failed",
)
OVER = "The savepoint is over: it was released, or an earlier one was rolled back or released"

_NOTHING: Any = object()


class _Target(Protocol):
    """What a transaction is committed to: a handle."""

    def _writable(self) -> Any: ...


class _WatchedFlows(Flows):
    """Iterations that tell how far they were read."""

    __slots__ = ()

    def begin(self, chunks: Chunks) -> Flow:
        flow = super().begin(chunks)
        if isinstance(chunks, Walk):  # what is not is empty
            chunks.watch(flow.left)
        return flow


@member_of("lsmdbm")
class Transaction(SortedSource, MutableMapping[bytes, bytes]):
    """All entries of one moment, and changes over them that are committed together.  Made by `transaction()`.

    A sorted `MutableMapping` with the manners of the database, that reads its own writes: an iteration sees
    the state at its begin.  Used in a `with`, it is committed when the block is left, and rolled back if that
    is by an exception.  Once it is over, by `commit()`, `rollback()` or the `close()` of its handle,
    ClosedError is what it answers; leaving the block is fine still.

    Cost: reads cost what those of the database cost, writes go to memory.  All that is written, every key
    that is looked up and the bounds of every walk are held in memory until the end.

    >>> import lsmdbm
    >>> with lsmdbm.open("stock", "n") as db:
    ...     db.update({"apples": "3", "pears": "4"})
    ...     with db.transaction() as tx:
    ...         del tx["apples"]
    ...         tx["plums"] = "9"
    ...         [*tx], [*db]
    ([b'pears', b'plums'], [b'apples', b'pears'])
    """

    __slots__ = ("__weakref__", "_database", "_draft", "_flows", "_savepoints")

    def __init__(self, database: _Target, draft: Draft) -> None:
        # The handle: it is not closed for want of references while this one is used.
        self._database = database
        self._draft = draft
        self._flows = _WatchedFlows()
        self._savepoints: list[object] = []  # one token each, nested, the outermost first

    def __repr__(self) -> str:
        return f"<lsmdbm.Transaction on {self._database!r}, {'over' if self._is_over() else 'open'}>"

    # -- the end ------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Write all changes, all or nothing; in any case the transaction is over.

        Raises:
            ConflictError: something it has read or written was changed by somebody else since it began.
                Nothing is written; begin anew, or leave all that to `run()`.
            ValueError: it is too large for a record of the log, 2 GiB.

        Cost: nothing is compared if nobody has written since it began.  Else one look for each key of these
        writes that was read, written or lies in a range that was walked over; if memory was flushed
        meanwhile, one for each key, and another pass over each range.  Other threads wait while some thousand
        keys are compared at most, unless flushes come faster than passes.

        Durability: as a single write; after a crash all of it is there, or nothing.
        """
        self._check_open()
        store = self._database._writable()
        try:
            store.commit(self._draft)
        except BaseException:
            self._end(FAILED)
            raise
        self._end(COMMITTED)

    def rollback(self) -> None:
        """Forget all changes; the transaction is over.  Fine if it is already."""
        self._end(ROLLED_BACK)

    def _end(self, *why: str) -> None:
        self._draft.close(*why)
        self._flows.stop()

    def __enter__(self) -> Transaction:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.rollback()
        elif not self._is_over():
            self.commit()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a transaction of a database handle cannot be pickled")

    def savepoint(self) -> Savepoint:
        """Return a point to which the changes of this transaction can be rolled back.  O(log n).

        In a `with`, an exception that leaves the block rolls back to it.  Savepoints nest.  What was read
        since stays read, whatever is rolled back.

        >>> import lsmdbm
        >>> with lsmdbm.open("steps", "n") as db, db.transaction() as tx:
        ...     tx["first"] = "done"
        ...     try:
        ...         with tx.savepoint():
        ...             tx["second"] = "done"
        ...             raise RuntimeError
        ...     except RuntimeError:
        ...         [*tx]
        [b'first']
        """
        mark, token = self._draft.mark(), object()
        self._savepoints.append(token)
        return Savepoint(self, mark, token)

    @overload
    def text(self, codec: None = None) -> DecodedTransaction[bytes]: ...

    @overload
    def text(self, codec: str) -> DecodedTransaction[str]: ...

    @overload
    def text(self, codec: Codec) -> DecodedTransaction[Any]: ...

    def text(self, codec: str | Codec | None = None) -> DecodedTransaction[Any]:
        """Return this transaction with str keys and, if there is a codec, decoded values.

        What is read and written through either counts for both, which end together.  `codec` and errors are
        those of `Database.text()`.

        >>> import lsmdbm
        >>> with lsmdbm.open("names", "n") as db, db.transaction() as tx:
        ...     tx.text("utf-8")["ann"] = "Ann"
        ...     tx["ann"]
        b'Ann'
        """
        from lsmdbm.decoded_handle import DecodedTransaction  # most programs never need them
        from lsmdbm.text import text_coding

        self._check_open()
        return DecodedTransaction(self, text_coding(codec))

    # -- writing ------------------------------------------------------------------------------------

    def __setitem__(self, key: Data, value: Data) -> None:
        self._check_open()
        self._draft.put(key_bytes(key), value_bytes(value))

    def __delitem__(self, key: Data) -> None:
        self.pop(key)

    def pop(self, key: Data, default: Any = _NOTHING) -> Any:
        """Delete `key` and return its value; the default, or KeyError, if there is none."""
        self._check_open()
        data = lookup_bytes(key)
        value = self._draft.get(data)
        if value is not None:
            self._draft.delete(data)
            return value
        if default is _NOTHING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[bytes, bytes]:
        """Delete the smallest key and return it with its value; KeyError if there is none."""
        found = self.first()
        if found is None:
            raise KeyError("popitem(): transaction is empty")
        self._draft.delete(found[0])
        return found

    def setdefault(self, key: Data, default: Data = b"") -> bytes:
        """Return the value of `key`, which becomes `default` if there is none."""
        found = self.get(key)
        if found is None:
            found = value_bytes(default)
            self._draft.put(key_bytes(key), found)
        return found

    def increment(self, key: Data, delta: int = 1) -> int:
        """Add to the number that is stored under `key`, 0 if there is none; return the sum.

        What `Database.increment()` does, which is one atomic step and never in conflict; here the number is
        read, and so the commit fails if somebody else has changed it.

        Raises:
            TypeError: `delta` is no integer.
            ValueError: the value is no integer in decimal ASCII text.

        >>> import lsmdbm
        >>> with lsmdbm.open("seats", "n") as db:
        ...     db["free"] = "2"
        ...     with db.transaction() as tx:
        ...         if tx.increment("free", -1) >= 0:
        ...             tx["ann"] = "seated"
        ...     [*db.items()]
        [(b'ann', b'seated'), (b'free', b'1')]
        """
        self._check_open()
        step = operator.index(delta)
        name = key_bytes(key)
        text = b"%d" % (number_of(self._draft.get(name)) + step)
        self._draft.put(name, text)
        return int(text)

    def update(self, other: Any = (), /, **more: Data) -> None:
        """Set many keys, from a mapping, an iterable of pairs, or keywords.

        If it fails, what came before is in the transaction.
        """
        self._check_open()
        for pairs in (pairs_of(other), more.items()):
            for key, value in pairs:
                self[key] = value

    def delete_range(
        self, start: Data | None = None, stop: Data | None = None, *, prefix: Data | None = None
    ) -> None:
        """Delete the entries with `start <= key < stop` and, if given, that prefix.

        O(n) in their number, unlike that of the database: each is walked over and remembered.
        """
        self._delete_range(*narrowed(None, None, start, stop, prefix))

    def clear(self) -> None:
        """Delete everything; O(n), see `delete_range()`."""
        self._delete_range(None, None)

    def _delete_range(self, start: bytes | None, stop: bytes | None) -> None:
        self._check_open()
        if start is not None and stop is not None and start >= stop:
            return
        for keys, _ in self._chunks(start, stop, reverse=False, keys_only=True):
            for key in keys:
                self._draft.delete(key)

    # -- what ranges stand on -----------------------------------------------------------------------

    def _get(self, key: bytes) -> bytes | None:
        return self._draft.get(key)

    def _get_many(self, keys: list[bytes]) -> dict[bytes, bytes]:
        return self._draft.get_many(keys)

    def _chunks(self, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool) -> Chunks:
        return self._draft.chunks(start, stop, reverse=reverse, keys_only=keys_only)

    def _first(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool
    ) -> tuple[bytes, bytes] | None:
        return self._draft.first(start, stop, reverse=reverse, keys_only=keys_only)

    def _length(self) -> int:
        return self._draft.length()

    def _check_open(self) -> None:
        self._draft.check_open()

    def _is_over(self) -> bool:
        return self._draft.is_closed

    def _writable(self) -> Transaction:
        self._check_open()
        return self

    def _changed_keys(self) -> Iterable[bytes]:
        return self._draft.changes().keys()


@member_of("lsmdbm")
class Savepoint:
    """A point of a transaction to which it can return.  Made by `savepoint()`.

    It is over once it is released, once an earlier one of the same transaction is rolled back or released,
    and with its transaction; ClosedError is what it answers then.
    """

    __slots__ = ("_mark", "_token", "_transaction")

    def __init__(self, transaction: Transaction, mark: Mark, token: object) -> None:
        self._transaction = transaction
        self._mark = mark
        self._token = token

    def rollback(self) -> None:
        """Forget what the transaction has written since, and savepoints made since; this one stays."""
        self._forget(1)
        self._transaction._draft.go_back(self._mark)

    def release(self) -> None:
        """End this savepoint, and those made since; the changes stay in the transaction."""
        self._forget(0)

    def _forget(self, kept: int) -> None:
        """Forget this savepoint and those made since, but for so many."""
        self._transaction._check_open()
        tokens = self._transaction._savepoints
        if self._token not in tokens:
            raise ClosedError(OVER)
        del tokens[tokens.index(self._token) + kept :]

    def __enter__(self) -> Savepoint:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._transaction._is_over() or self._token not in self._transaction._savepoints:
            return
        if kind is not None:
            self.rollback()
        self.release()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a savepoint of a transaction cannot be pickled")
