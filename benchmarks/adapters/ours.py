"""lsmdbm, and its variants."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import ClassVar

import lsmdbm
from benchmarks.adapters.base import Adapter, Pair
from lsmdbm.cache import Cache


class Lsmdbm(Adapter):
    name = "lsmdbm"
    module = "lsmdbm"
    first_use = "lsmdbm.open"  # names come when they are asked for
    is_ordered = has_threads = compacts = True
    options: ClassVar[dict[str, str]] = {}

    @classmethod
    def lacks(cls) -> str:
        try:
            lsmdbm.Options(**cls.options)
        except ValueError as exc:
            return str(exc)
        return ""

    @classmethod
    def version(cls) -> str:
        return lsmdbm.__version__

    def open(self) -> None:
        durability = "full" if self.durable else "process"
        self.db = lsmdbm.open(self.path, "c", durability=durability, **self.options)
        self.put = self.db.__setitem__
        self.get = self.db.get
        self.delete = self.db.__delitem__
        self.shelf: lsmdbm.shelve.Shelf[object] | None = None

    def close(self) -> None:
        if self.shelf is not None:
            self.shelf.close()
        self.db.close()

    def update(self, pairs: Iterable[Pair]) -> None:
        self.db.update(pairs)

    def scan(self) -> Iterator[Pair]:
        return iter(self.db.items())

    def scan_back(self) -> Iterator[Pair]:
        return iter(self.db.range(reverse=True).items())

    def seek(self, key: bytes, count: int) -> list[Pair]:
        return [*islice(self.db.range(key).items(), count)]

    def pop_first(self) -> Pair:
        return self.db.popitem()

    def compact(self) -> None:
        self.db.compact()

    def _shelf(self) -> lsmdbm.shelve.Shelf[object]:
        if self.shelf is None:
            self.shelf = lsmdbm.open_shelf(self.path, "c")
        return self.shelf

    def put_object(self, key: str, value: object) -> None:
        self._shelf()[key] = value

    def get_object(self, key: str) -> object:
        return self._shelf()[key]

    def counters(self) -> dict[str, float]:
        stats = self.db.stats()
        figures = {name: value for name, value in dataclasses.asdict(stats).items() if isinstance(value, int)}
        return {**figures, "write_amplification": stats.write_amplification or 0.0}


class LsmdbmMmap(Lsmdbm):
    name = "lsmdbm-mmap"
    options: ClassVar[dict[str, str]] = {"log_io": "mmap"}


class LsmdbmProcess(Lsmdbm):
    name = "lsmdbm-process"
    options: ClassVar[dict[str, str]] = {"background": "process"}


class LsmdbmMmapProcess(Lsmdbm):
    name = "lsmdbm-mmap-process"
    options: ClassVar[dict[str, str]] = {**LsmdbmMmap.options, **LsmdbmProcess.options}


class LsmdbmCache(Adapter):
    """The cache over it, beside Diskcache; as there, nothing is evicted."""

    name = "lsmdbm-cache"
    module = "lsmdbm.cache"
    has_threads = True

    @classmethod
    def version(cls) -> str:
        return lsmdbm.__version__

    def open(self) -> None:
        durability = "full" if self.durable else "process"
        self.db = Cache(self.path, max_bytes=1 << 40, codec=pickle, durability=durability)
        self.put, self.get, self.delete = self.db.set, self.db.get, self.db.__delitem__
        self.put_object, self.get_object = self.db.set, self.db.get

    def close(self) -> None:
        self.db.close()

    def update(self, pairs: Iterable[Pair]) -> None:
        self.db.update(pairs)

    def scan(self) -> Iterator[Pair]:
        return iter(self.db.items())
