"""Snapshot: a database as it was at one moment, for as long as somebody wants to read it.

Rules
  1. A snapshot reads one moment, whatever is written, flushed, compacted or cleared meanwhile.
  2. It ends with its own `close()`, with the `close()` of its handle, or with its last reference; its
     iterators and ranges end with it, and keep it alive.

Thread safety: a snapshot may be used from any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol, overload

from lsmdbm._base.chunk import Chunks
from lsmdbm._base.errors import ReadOnlyError
from lsmdbm._base.public import member_of
from lsmdbm._engine.moment import Moment
from lsmdbm.ranges import Flows
from lsmdbm.source import SortedSource

if TYPE_CHECKING:
    from lsmdbm.decoded_handle import DecodedSnapshot
    from lsmdbm.text import Codec

CLOSED = "The snapshot has already been closed"


class _Origin(Protocol):
    """What a snapshot was taken of: a handle."""

    def _position(self, seq: int) -> bytes: ...


@member_of("lsmdbm")
class Snapshot(SortedSource):
    """All entries of one moment: a read-only, sorted `Mapping` from bytes to bytes.  Made by `snapshot()`.

    Reads cost what those of the database cost; `len()` counts once.  What a snapshot reads is kept on disk
    and in memory until it is closed, so close it, best by a `with`; one that is forgotten ends with its last
    reference.  It ends with the handle that made it, too: ClosedError is what it answers then.

    >>> import lsmdbm
    >>> with lsmdbm.open("stock", "n") as db:
    ...     db.update({"apples": "3", "pears": "4"})
    ...     with db.snapshot() as before:
    ...         del db["apples"]
    ...         db["pears"] = "5"
    ...         before["apples"], len(before), [*before.range("b").items()], [*db]
    (b'3', 2, [(b'pears', b'4')], [b'pears'])
    """

    __slots__ = ("__weakref__", "_flows", "_moment", "_origin")

    def __init__(self, origin: _Origin, moment: Moment) -> None:
        self._origin = origin  # the handle: it is not closed for want of references while this one is used
        self._moment = moment
        self._flows = Flows()

    def __repr__(self) -> str:
        return f"<lsmdbm.Snapshot of {self._origin!r}{', closed' if self._moment.is_closed else ''}>"

    def close(self) -> None:
        """Let go of the moment; iterators end too.  Twice is fine.

        Files that nobody else needs are removed.
        """
        self._end(CLOSED)

    def _end(self, *why: str) -> None:
        self._moment.close(*why)
        self._flows.stop()

    def position(self) -> bytes:
        """Return the position of this moment: `changes()` of it gives what was written after it.

        So a copy of a snapshot, and what follows it, are the database.

        Cost: a look at the logs that were begun since, or the newest one.
        """
        self._moment.check_open()
        return self._origin._position(self._moment.view.active.first_seq)

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a snapshot of a database handle cannot be pickled")

    @overload
    def text(self, codec: None = None) -> DecodedSnapshot[bytes]: ...

    @overload
    def text(self, codec: str) -> DecodedSnapshot[str]: ...

    @overload
    def text(self, codec: Codec) -> DecodedSnapshot[Any]: ...

    def text(self, codec: str | Codec | None = None) -> DecodedSnapshot[Any]:
        """Return this snapshot with str keys and, if there is a codec, decoded values.

        It is the same moment, which ends for both when either is closed.  `codec` and errors are those of
        `Database.text()`.

        >>> import lsmdbm
        >>> with lsmdbm.open("names", "n") as db:
        ...     db["ann"] = "Ann"
        ...     with db.snapshot() as before:
        ...         before.text("utf-8")["ann"]
        'Ann'
        """
        from lsmdbm.decoded_handle import DecodedSnapshot  # most programs never need them
        from lsmdbm.text import text_coding

        self._check_open()
        return DecodedSnapshot(text_coding(codec), self)

    # -- what ranges stand on -----------------------------------------------------------------------

    def _get(self, key: bytes) -> bytes | None:
        return self._moment.get(key)

    def _get_many(self, keys: list[bytes]) -> dict[bytes, bytes]:
        return self._moment.get_many(keys)

    def _chunks(self, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool) -> Chunks:
        return self._moment.chunks(start, stop, reverse=reverse, keys_only=keys_only)

    def _first(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool
    ) -> tuple[bytes, bytes] | None:
        return self._moment.first(start, stop, reverse=reverse, keys_only=keys_only)

    def _length(self) -> int:
        return self._moment.length()

    def _check_open(self) -> None:
        self._moment.check_open()

    def _delete_range(self, start: bytes | None, stop: bytes | None) -> None:
        self._check_open()
        raise ReadOnlyError("A snapshot is for reading only")
