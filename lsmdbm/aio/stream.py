"""Stream: an iteration for `async for`, fetched piece by piece in a thread.

Rules
  1. A stream sees one moment, the one of its first step, to its end; it never blocks a writer.
  2. Memory: one piece, of CHUNK_ENTRIES or CHUNK_BYTES, and what the engine gives at a time, a block or so.
  3. A step that was cancelled takes nothing: what was being fetched for it is there for the next one.
  4. A stream whose handle was closed raises ClosedError at its next step.
  5. What it keeps is let go of at its end, by `aclose()`, or with its last reference; a `break` is enough.

Thread safety: a stream is used from one event loop; pieces are fetched one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

from lsmdbm._base.public import member_of
from lsmdbm.aio.lane import Lane, outcome
from lsmdbm.changes import Change
from lsmdbm.ranges import Range

T = TypeVar("T")

CHUNK_ENTRIES, CHUNK_BYTES = 1000, 256 << 10  # what is fetched at a time, at least


@member_of("lsmdbm.aio")
class Stream(AsyncIterator[T], Generic[T]):
    """The keys, values or entries of a range, or changes, in order, for `async for`.

    Made by `keys()` and its like.  Nothing is read before the first step.
    """

    __slots__ = ("_begin", "_check_open", "_fetching", "_is_over", "_lane", "_pieces", "_ready")

    def __init__(
        self, lane: Lane, check_open: Callable[[], object], begin: Callable[[], Iterator[list[T]]]
    ) -> None:
        self._lane = lane
        self._check_open = check_open
        self._begin = begin  # called in a thread
        self._pieces: Iterator[list[T]] | None = None  # once it has begun, and until it is over
        self._ready: Iterator[T] = iter(())
        self._fetching: asyncio.Future[list[T]] | None = None
        self._is_over = False

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        while True:
            if not self._is_over:
                self._check_open()  # rule 4
            for each in self._ready:
                return each
            if self._is_over:
                raise StopAsyncIteration
            await self._fetch()

    async def _fetch(self) -> None:
        fetching = self._fetching
        if fetching is None:
            fetching = self._fetching = outcome(self._lane.submit(self._next_piece))
        try:
            piece = await asyncio.shield(fetching)  # rule 3
        except Exception:
            self._end()
            raise
        if self._fetching is fetching:  # else another step was faster
            self._fetching = None
            self._ready = iter(piece)
            self._is_over = not piece

    def _next_piece(self) -> list[T]:
        """Return the next piece, an empty one at the end.  In a thread."""
        if self._pieces is None:
            self._pieces = self._begin()
        return next(self._pieces, [])

    async def aclose(self) -> None:
        """End the iteration, and let go of what it keeps, on disk and in memory.  Twice is fine."""
        fetching = self._fetching
        self._end()
        if fetching is not None:
            await asyncio.wait([fetching])
            self._pieces = None

    def _end(self) -> None:
        self._is_over = True
        self._ready = iter(())
        self._fetching = self._pieces = None


def pieces_of_range(entries: Range, what: str, check_open: Callable[[], object]) -> Iterator[list[Any]]:
    """Yield a range piece by piece: its "keys", "values" or "items"."""
    step = -1 if entries._reverse else 1

    def parts() -> Iterator[tuple[list[Any], int]]:
        for keys, values in entries._pass(keys_only=what == "keys"):
            check_open()
            size = sum(map(len, keys)) + sum(map(len, cast("list[bytes]", values)))  # a read gives no None
            if what == "items":
                yield [*zip(keys, values, strict=True)][::step], size
            else:
                yield (keys if what == "keys" else values)[::step], size

    return _gathered(parts())


def pieces_of_changes(changes: Iterator[Change]) -> Iterator[list[Change]]:
    """Yield changes piece by piece."""
    return _gathered(
        ([change], sum(len(key) + len(value or b"") for key, value in change.items)) for change in changes
    )


def _gathered(parts: Iterable[tuple[list[T], int]]) -> Iterator[list[T]]:
    """Yield pieces (rule 2) out of parts, each with its length in bytes."""
    piece: list[T] = []
    size = 0
    for part, part_bytes in parts:
        piece += part
        size += part_bytes
        if len(piece) >= CHUNK_ENTRIES or size >= CHUNK_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
