"""WriteBatch: many changes, all or nothing, in one record of the log.

Rules
  1. A key or a value is checked when it is given; what is in a batch can be written.
  2. Of several changes of one key the last one holds.
  3. A batch is filled in one `with` block, and written when that is left; an exception discards it.

Thread safety: a batch is filled by one thread at a time.  Whoever reads sees none of it, or all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol, overload

from lsmdbm._base.intervals import Intervals, holds, interval, united
from lsmdbm._base.public import member_of
from lsmdbm.coercion import Data, key_bytes, pairs_of, value_bytes
from lsmdbm.ranges import narrowed

if TYPE_CHECKING:
    from lsmdbm.decoded_handle import DecodedBatch
    from lsmdbm.text import Codec

NEW, OPEN, OVER = "new", "open", "over"
WHY_NOT = {
    NEW: "a batch is filled inside of its block: with db.batch() as batch",
    OPEN: "this batch is being filled already",
    OVER: "this batch is over: its block has been left",
}


class _Target(Protocol):
    """What a batch is written to: a handle."""

    def _writable(self) -> Any: ...


@member_of("lsmdbm")
class WriteBatch:
    """Changes that are made together: all of them when the block is left, or none.  Made by `batch()`.

    What is in it shows in no read until then.  A deletion of a key that is not there is none, and no error.
    `len()` is the number of keys it will set or delete, and of ranges it will delete.

    Memory: all keys and values are held until the block is left, and once more while they are written.  A
    batch may be larger than `memtable_bytes`, but not than 2 GiB.  To write more than fits, or without need
    for all or nothing, there is `update()`.

    Durability: after a crash all of a batch is there, or nothing.  Once the block is left it survives what
    a single write survives.

    >>> import lsmdbm
    >>> with lsmdbm.open("accounts", "n") as db:
    ...     db.update({"ann": "10", "bob": "0", "cay": "0"})
    ...     with db.batch() as batch:
    ...         batch["ann"], batch["bob"] = "4", "6"
    ...         del batch["cay"]
    ...     [*db.items()]
    [(b'ann', b'4'), (b'bob', b'6')]
    """

    __slots__ = ("_changes", "_database", "_ranges", "_state")

    def __init__(self, database: _Target) -> None:
        self._database = database
        self._changes: dict[bytes, bytes | None] = {}
        self._ranges: Intervals = ()  # to be deleted before anything is changed
        self._state = NEW

    def __repr__(self) -> str:
        return f"<lsmdbm.WriteBatch for {self._database!r}, {self._state}, {len(self)} changes>"

    def __len__(self) -> int:
        return len(self._changes) + len(self._ranges)

    def __setitem__(self, key: Data, value: Data) -> None:
        self.put(key, value)

    def __delitem__(self, key: Data) -> None:
        self.delete(key)

    def put(self, key: Data, value: Data) -> None:
        """Set one key; `batch[key] = value` is the same.

        Raises:
            RuntimeError: outside of the block.
            TypeError, ValueError: no key or no value, or one over its limit.
        """
        self._check_open()
        self._changes[key_bytes(key)] = value_bytes(value)

    def delete(self, key: Data) -> None:
        """Delete one key, if it is there; `del batch[key]` is the same."""
        self._check_open()
        self._changes[key_bytes(key)] = None

    def delete_range(
        self, start: Data | None = None, stop: Data | None = None, *, prefix: Data | None = None
    ) -> None:
        """Delete every key with `start <= key < stop` and, if given, that prefix.

        What this batch has put there so far goes, too; what it puts there from now on stays.  Costs a look
        at each key of the batch, however much there is in the database.
        """
        self._check_open()
        ranges = interval(*narrowed(None, None, start, stop, prefix))
        gone = [key for key in self._changes if holds(ranges, key)]
        for key in gone:
            del self._changes[key]
        self._ranges = united(self._ranges, ranges)

    def update(self, other: Any = (), /, **more: Data) -> None:
        """Set many keys, from a mapping, an iterable of pairs, or keywords.

        If it fails, what came before is in the batch.
        """
        self._check_open()
        for pairs in (pairs_of(other), more.items()):
            for key, value in pairs:
                self.put(key, value)

    def discard(self) -> None:
        """Forget all changes so far: what the block does next begins a new batch."""
        self._check_open()
        self._changes, self._ranges = {}, ()

    @overload
    def text(self, codec: None = None) -> DecodedBatch[bytes]: ...

    @overload
    def text(self, codec: str) -> DecodedBatch[str]: ...

    @overload
    def text(self, codec: Codec) -> DecodedBatch[Any]: ...

    def text(self, codec: str | Codec | None = None) -> DecodedBatch[Any]:
        """Return this batch for str keys and, if there is a codec, values that it encodes.

        What is put into either is in both; a `with` of one of the two is enough.  `codec` and errors are
        those of `Database.text()`.

        >>> import json
        >>> import lsmdbm
        >>> with lsmdbm.open("people", "n") as db:
        ...     with db.batch() as batch:
        ...         batch.text(json)["ann"] = {"age": 30}
        ...     db["ann"]
        b'{"age": 30}'
        """
        from lsmdbm.decoded_handle import DecodedBatch  # most programs never need them
        from lsmdbm.text import text_coding

        return DecodedBatch(text_coding(codec), self)

    def _check_open(self) -> None:
        self._check(OPEN)

    def _check(self, needed: str) -> None:
        if self._state != needed:
            raise RuntimeError(WHY_NOT[self._state])

    def __enter__(self) -> WriteBatch:
        self._check(NEW)
        self._state = OPEN
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        changes, ranges = self._changes, self._ranges
        self._changes, self._ranges = {}, ()
        self._state = OVER
        if kind is None:
            self._database._writable().batch([*changes], [*changes.values()], ranges)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a batch of a database handle cannot be pickled")
