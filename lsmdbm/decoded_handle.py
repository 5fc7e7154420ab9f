"""What a text view and a shelf have of a handle: moments, batches and transactions, of decoded values.

    DecodedSnapshot      all entries of one moment
    DecodedTransaction   such a mapping over a transaction
    DecodedBatch         many changes, all or nothing
    DecodedHandle        the mapping over a database that makes them: the common part of Text and Shelf

Rules
  1. Each stands on its namesake of bytes, and adds nothing but the coding: what holds for that holds here.
  2. Order of checks: closed or over, read only, types; what is wrong is told when it is given.

Thread safety: that of what they stand on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from lsmdbm._base.intervals import Intervals
from lsmdbm._base.public import member_of
from lsmdbm.coding import Coding
from lsmdbm.coercion import Data, pairs_of
from lsmdbm.decoded import DecodedMapping, KeysInOrder, _Stored, _Walked
from lsmdbm.decoded_range import DecodedRange
from lsmdbm.ranges import Range
from lsmdbm.retries import ATTEMPTS

T = TypeVar("T")
V = TypeVar("V")


class _Snapshot(_Walked, Protocol):
    """A snapshot of bytes."""

    def range(self) -> Range: ...

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]: ...

    def close(self) -> None: ...


@member_of("lsmdbm")
class DecodedSnapshot(KeysInOrder, DecodedRange[V]):
    """All entries of one moment with decoded values: a `DecodedRange` to be closed.

    Made by `snapshot()` of a text view or a shelf, and by `text()` of a `Snapshot`, on which it stands:
    closing one of the two closes the other.

    >>> import lsmdbm
    >>> with lsmdbm.open("stock", "n") as db:
    ...     stock = db.text("utf-8")
    ...     stock.update(apples="3", pears="4")
    ...     with stock.snapshot() as before:
    ...         stock["pears"] = "5"
    ...         before["pears"], [*before.range(prefix="a").items()]
    ('4', [('apples', '3')])
    """

    __slots__ = ("_db",)
    _db: _Snapshot

    def __init__(self, coding: Coding[V], snapshot: _Snapshot) -> None:
        super().__init__(coding, snapshot.range())
        self._db = snapshot

    def __repr__(self) -> str:
        return f"<DecodedSnapshot over {self._db!r}>"

    def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        """Return the values of those keys that are there; see `Database.get_many`."""
        return self._coding.get_many(self._db, keys)

    def close(self) -> None:
        """Let go of the moment; iterators end too.  Twice is fine."""
        self._db.close()

    def __enter__(self) -> DecodedSnapshot[V]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Savepoint(Protocol):
    """A savepoint of a transaction."""

    def rollback(self) -> None: ...

    def release(self) -> None: ...

    def __enter__(self) -> Any: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...


class _Transaction(_Stored, Protocol):
    """A transaction of bytes."""

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def savepoint(self) -> Any: ...

    def _is_over(self) -> bool: ...

    def _changed_keys(self) -> Iterable[bytes]: ...


@member_of("lsmdbm")
class DecodedTransaction(DecodedMapping[V]):
    """A transaction with decoded values: a mutable mapping to be committed.

    Made by `transaction()` of a text view or a shelf, and by `text()` of a `Transaction`, on which it stands:
    the two are one transaction, which ends once.  See there for what is a conflict, and what it costs.

    >>> import json
    >>> import lsmdbm
    >>> with lsmdbm.open("people", "n") as db:
    ...     people = db.text(json)
    ...     people["ann"] = {"age": 30}
    ...     with people.transaction() as tx:
    ...         tx["bob"] = {"age": tx["ann"]["age"] + 1}
    ...         [*tx], [*people]
    (['ann', 'bob'], ['ann'])
    """

    __slots__ = ("_coding", "_db")
    _db: _Transaction

    def __init__(self, transaction: _Transaction, coding: Coding[V]) -> None:
        super().__init__(transaction, coding)

    def __repr__(self) -> str:
        return f"<DecodedTransaction over {self._db!r}>"

    def commit(self) -> None:
        """Write all changes, all or nothing; see `Transaction.commit()`.  In any case it is over.

        Raises:
            ConflictError: something it has read or written was changed by somebody else since it began.

        Durability: as a single write; after a crash all of it is there, or nothing.
        """
        self._db.commit()

    def rollback(self) -> None:
        """Forget all changes; the transaction is over.  Fine if it is already."""
        self._db.rollback()

    def savepoint(self) -> Any:
        """Return a `Savepoint`, to which the changes can be rolled back; see `Transaction.savepoint()`."""
        return self._db.savepoint()

    def __enter__(self) -> DecodedTransaction[V]:
        self._db._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.rollback()
        elif not self._db._is_over():
            self.commit()


class _Batch(Protocol):
    """A batch of bytes."""

    _changes: dict[bytes, bytes | None]
    _ranges: Intervals

    def __len__(self) -> int: ...

    def put(self, key: bytes, value: Data) -> None: ...

    def delete(self, key: bytes) -> None: ...

    def delete_range(
        self, start: bytes | None = None, stop: bytes | None = None, *, prefix: bytes | None = None
    ) -> None: ...

    def update(self, other: Iterable[tuple[bytes, Data]], /) -> None: ...

    def discard(self) -> None: ...

    def _check_open(self) -> None: ...

    def __enter__(self) -> Any: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...


@member_of("lsmdbm")
class DecodedBatch(Generic[V]):
    """A `WriteBatch` that is given str keys and decoded values.

    Made by `batch()` of a text view or a shelf, and by `text()` of a `WriteBatch`, on which it stands.

    >>> import json
    >>> import lsmdbm
    >>> with lsmdbm.open("people", "n") as db:
    ...     people = db.text(json)
    ...     with people.batch() as batch:
    ...         batch["ann"], batch["bob"] = {"age": 30}, {"age": 40}
    ...         del batch["cay"]
    ...     [*people.items()]
    [('ann', {'age': 30}), ('bob', {'age': 40})]
    """

    __slots__ = ("_batch", "_coding")

    def __init__(self, coding: Coding[V], batch: _Batch) -> None:
        self._coding = coding
        self._batch = batch

    def __repr__(self) -> str:
        return f"<DecodedBatch over {self._batch!r}>"

    def __len__(self) -> int:
        return len(self._batch)

    def __setitem__(self, key: str, value: V) -> None:
        self.put(key, value)

    def __delitem__(self, key: str) -> None:
        self.delete(key)

    def put(self, key: str, value: V) -> None:
        """Set one key; `batch[key] = value` is the same.  The value is encoded at once."""
        self._batch._check_open()  # rule 2
        self._batch.put(self._coding.encode_key(key), self._coding.encode_value(value))

    def delete(self, key: str) -> None:
        """Delete one key, if it is there; `del batch[key]` is the same."""
        self._batch._check_open()
        self._batch.delete(self._coding.encode_key(key))

    def delete_range(
        self, start: str | None = None, stop: str | None = None, *, prefix: str | None = None
    ) -> None:
        """Delete every key with `start <= key < stop` and that prefix; see `WriteBatch.delete_range()`."""
        self._batch._check_open()
        self._batch.delete_range(**self._coding.bounds(start, stop, prefix))

    def update(self, other: Any = (), /, **more: V) -> None:
        """Set many keys, from a mapping, an iterable of pairs, or keywords.

        If it fails, what came before is in the batch.
        """
        self._batch._check_open()
        for pairs in (pairs_of(other), more.items()):
            self._batch.update(self._coding.encode_items(pairs))

    def discard(self) -> None:
        """Forget all changes so far: what the block does next begins a new batch."""
        self._batch.discard()

    def __enter__(self) -> DecodedBatch[V]:
        self._batch.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._batch.__exit__(kind)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a batch of a database handle cannot be pickled")


class _Handle(_Stored, Protocol):
    """A database, as far as it is asked for here."""

    def snapshot(self) -> Any: ...

    def batch(self) -> Any: ...

    def transaction(self) -> Any: ...

    def _retried(self, begin: Callable[[], Any], function: Callable[[Any], T], attempts: int) -> T: ...


class DecodedHandle(DecodedMapping[V]):
    """A database as a mapping from str to decoded values."""

    __slots__ = ()
    _db: _Handle

    def snapshot(self) -> DecodedSnapshot[V]:
        """Return all entries of this moment, as a mapping that nothing changes any more.  Copies nothing."""
        return DecodedSnapshot(self._coding, self._db.snapshot())

    def batch(self) -> DecodedBatch[V]:
        """Return a batch: what is put into it in a `with` block is written when that ends, all or nothing.

        Raises:
            ReadOnlyError: the handle is read only.
        """
        return DecodedBatch(self._coding, self._db.batch())

    def transaction(self) -> DecodedTransaction[V]:
        """Return a transaction: reads and writes that take place as if at one moment, or not at all.

        See `Database.transaction()`.

        Raises:
            ReadOnlyError: the handle is read only.
        """
        return DecodedTransaction(self._db.transaction(), self._coding)

    def run(self, function: Callable[[DecodedTransaction[V]], T], *, attempts: int = ATTEMPTS) -> T:
        """Call a function with such a transaction and commit that; on a conflict, try again with a new one.

        See `Database.run()`.

        >>> import lsmdbm
        >>> def visit(tx):
        ...     tx["visits"] = tx.get("visits", 0) + 1
        >>> with lsmdbm.open_shelf("counters", "n") as shelf:
        ...     shelf.run(visit)
        ...     shelf.run(visit)
        ...     shelf["visits"]
        2
        """
        return self._db._retried(self.transaction, function, attempts)
