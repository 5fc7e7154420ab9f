"""The vocabulary file: what a chunk is, and the limits on what may be in one.

    Chunk = (keys, values)      two parallel lists

Rules
  1. `keys` are `bytes`, ascending by byte order and unique; `values` is as long as `keys`.
  2. A value of `None` is a tombstone: it shadows the key in every older source.
  3. A chunk that was handed on is never changed again: caches and readers share the lists.
  4. A key-only chunk has `KEY_ONLY` in place of every value that is not a tombstone.
  5. A stream of chunks is ordered and does not overlap itself.  In a reverse stream the chunks come
     last first, while each chunk on its own stays ascending.

Chunks, not entries, are what flows through the engine, because one C call over a list costs what one
step of a Python loop does.

Thread safety: pure functions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from enum import Enum
from typing import Final


class Missing(Enum):
    """The type of `MISSING`, what a source answers that knows nothing of a key, not even a deletion."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING

Chunk = tuple[list[bytes], list["bytes | None"]]
Chunks = Iterator[Chunk]

KEY_ONLY = b""
MAX_KEY_BYTES = 64 * 1024
MAX_VALUE_BYTES = 1 << 30


def check_key(key: bytes) -> bytes:
    """Return `key`, or raise ValueError when it is longer than `MAX_KEY_BYTES`."""
    if len(key) > MAX_KEY_BYTES:
        raise ValueError(f"key of {len(key)} bytes: the limit is {MAX_KEY_BYTES}")
    return key


def check_value(value: bytes) -> bytes:
    """Return `value`, or raise ValueError when it is longer than `MAX_VALUE_BYTES`."""
    if len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"value of {len(value)} bytes: the limit is {MAX_VALUE_BYTES}")
    return value


def bounds(keys: list[bytes], start: bytes | None, stop: bytes | None) -> tuple[int, int]:
    """Return the slice (low, high) of the ascending `keys` with `start <= key < stop`.

    `None` leaves that side open.  O(log n).
    """
    low = 0 if start is None else bisect_left(keys, start)
    high = len(keys) if stop is None else bisect_left(keys, stop, low)
    return low, high


def clip(chunk: Chunk, start: bytes | None, stop: bytes | None) -> Chunk:
    """Return the part of `chunk` with `start <= key < stop`; the chunk itself if that is all of it."""
    keys, values = chunk
    low, high = bounds(keys, start, stop)
    if low == 0 and high == len(keys):
        return chunk
    return keys[low:high], values[low:high]


def prefix_stop(prefix: bytes) -> bytes | None:
    r"""Return the smallest key above every key that starts with `prefix`; None if there is none.

    >>> prefix_stop(b"ab"), prefix_stop(b"a\xff"), prefix_stop(b"\xff"), prefix_stop(b"")
    (b'ac', b'b', None, None)
    """
    head = prefix.rstrip(b"\xff")
    if not head:
        return None
    return head[:-1] + bytes([head[-1] + 1])
