"""What every peer is asked for: a dozen methods.

Rules
  1. `put`, `get` and `delete` are bound once, to the peer's own methods where these fit: nothing stands
     between the clock and the peer that its user would not write too.
  2. `get` answers None for an absent key.
  3. A peer runs with its defaults; where it has them, 10 bloom bits per key and a cache of 64 MiB.
  4. With `durable`, a write that returned survives power loss.  Without it, its default holds; lmdb alone
     is told not to sync, because it cannot be compared otherwise.
  5. What a peer lacks is False in its class: `is_ordered`, `has_threads`, `compacts`.

Thread safety: as the peer says in `has_threads`.
"""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from typing import Any, ClassVar

BLOOM_BITS, CACHE_BYTES = 10, 64 << 20

Pair = tuple[bytes, bytes]


class Adapter:
    """One open store of a peer, at a path inside a directory that is its own."""

    name: ClassVar[str]
    module: ClassVar[str]  # what to import; its absence means that the peer is not installed
    first_use: ClassVar[str] = "pass"  # a statement after which nothing is left to be imported for `open`
    package: ClassVar[str] = ""  # distribution whose version is noted; "" for the standard library
    is_ordered: ClassVar[bool] = False  # scans backwards, finds the keys from one on
    has_threads: ClassVar[bool] = False  # one store, many threads
    compacts: ClassVar[bool] = False

    put: Callable[[Any, Any], object]
    get: Callable[[Any], Any]
    delete: Callable[[Any], object]

    def __init__(self, directory: str, durable: bool = False) -> None:
        self.path = os.path.join(directory, "store")
        self.durable = durable
        self.open()

    @classmethod
    def lacks(cls) -> str:
        """Return why this peer cannot be run here, "" if it can."""
        try:
            importlib.import_module(cls.module)
        except ImportError as exc:
            return str(exc)
        return ""

    @classmethod
    def version(cls) -> str:
        return metadata.version(cls.package) if cls.package else "of the standard library"

    def open(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def update(self, pairs: Iterable[Pair]) -> None:
        """Put many, in whatever way the peer has for many."""
        put = self.put
        for key, value in pairs:
            put(key, value)

    def scan(self) -> Iterator[Pair]:
        """Every entry; in order, where the peer has one."""
        raise NotImplementedError

    def scan_back(self) -> Iterator[Pair]:
        """Every entry in descending order.  Requires: is_ordered."""
        raise NotImplementedError

    def seek(self, key: bytes, count: int) -> list[Pair]:
        """The entries from a key on, at most so many.  Requires: is_ordered."""
        raise NotImplementedError

    def pop_first(self) -> Pair:
        """Remove and return the entry with the smallest key.  Requires: is_ordered."""
        [pair] = self.seek(b"", 1)
        self.delete(pair[0])
        return pair

    def compact(self) -> None:
        """Give back what overwritten and deleted entries hold; nothing where the peer does not do that."""

    def put_object(self, key: str, value: object) -> None:
        self.put(key.encode(), pickle.dumps(value))

    def get_object(self, key: str) -> object:
        return pickle.loads(self.get(key.encode()))

    def counters(self) -> dict[str, float]:
        """What the peer says about itself; phases look for `blocks_read`."""
        return {}

    def __enter__(self) -> Adapter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def disk_bytes(directory: str) -> int:
    """Bytes of all files below a directory, by what is allocated if that is less: files may have holes."""
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            status = os.stat(os.path.join(place, name))
            total += min(status.st_size, getattr(status, "st_blocks", 1 << 60) * 512)
    return total
