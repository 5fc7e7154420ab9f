"""Snapshot: all entries of one moment, read from an event loop.

Thread safety: used from one event loop at a time.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from lsmdbm._base.public import member_of
from lsmdbm._engine.view import View
from lsmdbm.aio.lane import Lane, outcome
from lsmdbm.aio.reads import Reads
from lsmdbm.snapshot import Snapshot as BlockingSnapshot


class _Handle(Protocol):
    """What a snapshot belongs to."""

    _reads: Lane
    _closing: Future[None] | None

    def _open_view(self) -> View: ...

    async def close(self) -> None: ...


@member_of("lsmdbm.aio")
class Snapshot(Reads):
    """All entries of one moment, for tasks of an event loop.  Made by `snapshot()` of a Database.

    It reads what a Database reads, and ends with its own `close()` or with that of its handle.
    """

    __slots__ = ("_database", "_snapshot")

    def __init__(self, database: _Handle, snapshot: BlockingSnapshot) -> None:
        super().__init__(snapshot, database._reads)
        self._database = database
        self._snapshot = snapshot

    def __repr__(self) -> str:
        return f"<lsmdbm.aio.Snapshot of {self._snapshot!r}>"

    def _open_view(self) -> View:
        self._snapshot._check_open()
        self._database._open_view()
        return self._snapshot._moment.view

    async def position(self) -> bytes:
        """Return the position of this moment, from which `changes()` gives what was written after it."""
        return await self._read(self._snapshot.position)

    async def close(self) -> None:
        """Let go of the moment.  Twice is fine."""
        if self._database._closing is not None:
            await self._database.close()  # with it, its snapshots end
        else:
            await outcome(self._reads.submit(self._snapshot.close))

    async def __aenter__(self) -> Snapshot:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
