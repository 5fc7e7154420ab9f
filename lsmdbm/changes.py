"""Change: what one write has changed, as it comes out of the log again, for whoever follows a database.

Rules
  1. A write is one change, whatever was in it: a batch and a transaction are seen whole, or not at all.
  2. A change says what was done, not what was so: a key that is set again to the value that it had is in it,
     and so is a deletion of one that was not there.

Thread safety: changes never change; an iteration belongs to one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from lsmdbm._base.intervals import ABOVE_ALL
from lsmdbm._base.public import member_of
from lsmdbm._engine.feed import Step
from lsmdbm.batch import WriteBatch


@member_of("lsmdbm")
class Change(NamedTuple):
    """What one write has changed.  Made by `changes()`.

    It was done in the order of the fields: first everything was deleted if `clears`, then what is in
    `ranges`, then the keys of `items` were set, or deleted.

    >>> import lsmdbm
    >>> with lsmdbm.open("source", "n") as source, lsmdbm.open("replica", "n") as replica:
    ...     source.update({"a": "1", "b": "2"})
    ...     source.delete_range("b")
    ...     for change in source.changes():
    ...         with replica.batch() as batch:
    ...             change.apply(batch)
    ...     dict(replica)
    {b'a': b'1'}
    """

    seq: int
    """Sequence of its first operation.  Later changes have higher ones; each operation takes one."""
    next: bytes
    """The position behind it: where `changes()` goes on."""
    clears: bool
    """Whether everything was deleted, by `clear()`."""
    ranges: tuple[tuple[bytes, bytes | None], ...]
    """What `delete_range()` has deleted: `start`, which is in, and `stop`, which is out; None for the end."""
    items: tuple[tuple[bytes, bytes | None], ...]
    """Keys with their values; None for a key that was deleted."""

    def apply(self, batch: WriteBatch) -> None:
        """Do the same to another database: put into a batch what this change has done."""
        if self.clears:
            batch.delete_range()
        for start, stop in self.ranges:
            batch.delete_range(start, stop)
        for key, value in self.items:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)


def checked_position(position: object) -> bytes | int | None:
    """Return a position or a sequence that a caller has given; TypeError if it can be neither."""
    if position is None or isinstance(position, bytes):
        return position
    if isinstance(position, int) and not isinstance(position, bool):
        return position
    kind = type(position).__name__
    raise TypeError(f"a position is bytes, a sequence an int, and None is the beginning; not {kind}")


def changes_of(steps: Iterator[Step], check_open: Callable[[], object]) -> Iterator[Change]:
    """Yield what a store tells, for as long as its handle is open."""
    for seq, change, position in steps:
        check_open()
        ranges = tuple((start, None if stop == ABOVE_ALL else stop) for start, stop in change.ranges)
        items = tuple(zip(change.keys, change.values, strict=True))
        yield Change(seq, position, change.clears, ranges, items)
