"""AsyncBatch: many changes, all or nothing, which wait for no disk before their block is left.

Thread safety: used from one event loop at a time.
"""

from __future__ import annotations

from typing import Protocol

from lsmdbm._base.public import member_of
from lsmdbm.aio.lane import WriteLane
from lsmdbm.batch import WriteBatch


class _Handle(Protocol):
    """What a batch is written to."""

    _writes: WriteLane

    def _check_writable(self) -> None: ...


@member_of("lsmdbm.aio")
class AsyncBatch:
    """A WriteBatch that is written in a thread when its `async with` block is left.  Made by `batch()`."""

    __slots__ = ("_batch", "_database")

    def __init__(self, database: _Handle, batch: WriteBatch) -> None:
        self._database = database
        self._batch = batch

    async def __aenter__(self) -> WriteBatch:
        return self._batch.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._batch.__exit__(kind)
            return
        self._database._check_writable()
        await self._database._writes.call(lambda: self._batch.__exit__(None))
