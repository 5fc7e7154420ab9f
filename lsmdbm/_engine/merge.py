"""Merging sorted streams: what is newer wins, by windows of whole chunks.

Rules
  1. Sources are given newest first; that order alone decides which of two values is newer.
  2. A window is everything up to the smallest last key of the current chunks, the horizon: nothing that
     comes later can be below it.  One dict.update per source, oldest first, and one sort make it
     one chunk.  Where a single source has keys, its part passes untouched.
  3. Every window uses up at least one chunk, so a merge ends whatever the keys are.
  4. No chunk of a source is empty.

A merge of two interleaved runs costs 0.6 to 0.7 of what heapq.merge over entries does (decision 2).

Thread safety: pure functions over their sources.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from lsmdbm._base.chunk import Chunk, Chunks


def combine(parts: Sequence[Chunk]) -> Chunk:
    """Return one chunk from overlapping ones, newest first."""
    if len(parts) == 1:
        return parts[0]
    window: dict[bytes, bytes | None] = {}
    for keys, values in reversed(parts):
        window.update(zip(keys, values, strict=False))
    merged = sorted(window)
    return merged, list(map(window.__getitem__, merged))


class _Head:
    """What is left of the current chunk of one source: the entries low .. high - 1."""

    __slots__ = ("high", "keys", "low", "source", "values")

    def __init__(self, source: Chunks) -> None:
        self.source = source
        self.keys: list[bytes] = []
        self.values: list[bytes | None] = []
        self.low = self.high = 0

    def advance(self) -> bool:
        """Move to the next chunk; False at the end of the source."""
        chunk = next(self.source, None)
        if chunk is None:
            return False
        self.keys, self.values = chunk
        self.low, self.high = 0, len(self.keys)
        return True

    def take(self, low: int, high: int) -> Chunk:
        if low == 0 and high == len(self.keys):
            return self.keys, self.values
        return self.keys[low:high], self.values[low:high]


def merge(sources: Iterable[Chunks], *, reverse: bool = False) -> Chunks:
    """Merge streams of chunks, given newest first, into one; tombstones are kept.

    Args:
        reverse: the sources are reverse streams, and so is the result.
    """
    heads = [head for head in map(_Head, sources) if head.advance()]
    window = _window_down if reverse else _window_up
    while len(heads) > 1:
        yield combine(window(heads))
        heads = [head for head in heads if head.low < head.high or head.advance()]
    for head in heads:
        yield head.take(head.low, head.high)
        yield from head.source


def _window_up(heads: list[_Head]) -> list[Chunk]:
    horizon = min(head.keys[head.high - 1] for head in heads)
    parts = []
    for head in heads:
        keys, low = head.keys, head.low
        ends_here = keys[head.high - 1] == horizon  # rule 3
        high = head.high if ends_here else bisect_right(keys, horizon, low, head.high)
        if high > low:
            parts.append(head.take(low, high))
            head.low = high
    return parts


def _window_down(heads: list[_Head]) -> list[Chunk]:
    horizon = max(head.keys[head.low] for head in heads)
    parts = []
    for head in heads:
        keys, high = head.keys, head.high
        begins_here = keys[head.low] == horizon  # rule 3
        low = head.low if begins_here else bisect_left(keys, horizon, head.low, high)
        if high > low:
            parts.append(head.take(low, high))
            head.high = low
    return parts


def visible(chunks: Chunks) -> Chunks:
    """Drop tombstones, and chunks that hold nothing else.  For reads."""
    for keys, values in chunks:
        if None not in values:
            yield keys, values
            continue
        live = [pair for pair in zip(keys, values, strict=False) if pair[1] is not None]
        if live:
            yield [key for key, _ in live], [value for _, value in live]


def survivors(chunk: Chunk, is_bottom: Callable[[bytes], bool]) -> Chunk:
    """Drop the tombstones below which nothing older can be.  For compaction."""
    keys, values = chunk
    if None not in values:
        return chunk
    pairs = zip(keys, values, strict=False)
    kept = [(key, value) for key, value in pairs if value is not None or not is_bottom(key)]
    return [key for key, _ in kept], [value for _, value in kept]


class Span(Protocol):
    """A part of a sorted source that need not be read as long as nothing overlaps it."""

    lower: bytes  # no key in it is below this
    upper: bytes  # no key in it is above this, none in the next span of the source is at or below it

    def load(self) -> Chunk:
        """Read it."""


S = TypeVar("S", bound=Span)


class _SpanHead(Generic[S]):
    """The current span of one source: unread, or what is left of its chunk from `low` on."""

    __slots__ = ("keys", "low", "source", "span", "unread", "values")

    def __init__(self, source: Iterator[S]) -> None:
        self.source = source
        self.span: S
        self.unread = True
        self.keys: list[bytes] = []
        self.values: list[bytes | None] = []
        self.low = 0

    def advance(self) -> bool:
        span = next(self.source, None)
        if span is None:
            return False
        self.span, self.unread = span, True
        return True

    @property
    def start(self) -> bytes:
        """No key left in the span is below this."""
        return self.span.lower if self.unread else self.keys[self.low]

    def take_to(self, horizon: bytes) -> Chunk | None:
        """Return the entries up to `horizon`, reading the span if it may have any."""
        if self.unread:
            if self.span.lower > horizon:
                return None
            self.keys, self.values = self.span.load()
            self.low, self.unread = 0, False
        high = len(self.keys) if self.is_used_up_by(horizon) else bisect_right(self.keys, horizon, self.low)
        low, self.low = self.low, high
        return (self.keys[low:high], self.values[low:high]) if low < high else None

    def is_used_up_by(self, horizon: bytes) -> bool:
        return self.span.upper == horizon or (not self.unread and self.low >= len(self.keys))


def merge_spans(sources: Iterable[Iterator[S]]) -> Iterator[Chunk | S]:
    """Merge sources of spans, newest first; a span that overlaps no other source comes out unread.

    Chunks and spans come out in key order.
    """
    heads = [head for head in map(_SpanHead, sources) if head.advance()]
    while heads:
        first = min(heads, key=lambda head: head.start)
        if first.unread and all(first.span.upper < head.start for head in heads if head is not first):
            yield first.span
            if not first.advance():
                heads.remove(first)
            continue
        horizon = min(head.span.upper for head in heads)
        yield combine([part for head in heads if (part := head.take_to(horizon)) is not None])
        heads = [head for head in heads if not head.is_used_up_by(horizon) or head.advance()]
