"""Stores without an order to use: the dbm modules, semidbm, two over SQLite, a pickled dict as the floor."""

from __future__ import annotations

import importlib
import os
import pickle
import shelve
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.adapters.base import Adapter, Pair


class Dbm(Adapter):
    """A dbm module of the standard library; objects go through shelve."""

    def open(self) -> None:
        self.db: Any = importlib.import_module(self.module).open(self.path, "c")
        self.get = self.db.get
        self.delete = self.db.__delitem__
        self.put = self._put_durably if self.durable else self.db.__setitem__
        self.shelf = shelve.Shelf(self.db)
        self.put_object, self.get_object = self.shelf.__setitem__, self.shelf.__getitem__

    def _put_durably(self, key: bytes, value: bytes) -> None:
        self.db[key] = value
        self.db.sync()

    def close(self) -> None:
        self.shelf.dict = {}  # it would close what is closed here
        self.db.close()

    def scan(self) -> Iterator[Pair]:
        for key in self.db.keys():  # noqa: SIM118 - not every dbm can be iterated over
            yield key, self.db[key]


class DbmDumb(Dbm):
    name = module = "dbm.dumb"


class DbmGnu(Dbm):
    name = module = "dbm.gnu"
    compacts = True

    def scan(self) -> Iterator[Pair]:
        key = self.db.firstkey()
        while key is not None:
            yield key, self.db[key]
            key = self.db.nextkey(key)

    def compact(self) -> None:
        self.db.reorganize()


class DbmNdbm(Dbm):
    name = module = "dbm.ndbm"

    def _put_durably(self, key: bytes, value: bytes) -> None:
        self.db[key] = value  # it has no sync(): its figure here is of writes that are not durable


class DbmSqlite3(Dbm):
    name = module = "dbm.sqlite3"

    def _put_durably(self, key: bytes, value: bytes) -> None:
        self.db[key] = value  # each write is a transaction, synced before it returns

    def scan(self) -> Iterator[Pair]:
        for key in self.db:
            yield key, self.db[key]


class Semidbm(Dbm):
    name = module = package = "semidbm"
    compacts = True

    def open(self) -> None:
        import semidbm

        self.db = semidbm.open(self.path, "c")
        self.delete = self.db.__delitem__
        self.put = self._put_durably if self.durable else self.db.__setitem__

    def close(self) -> None:
        self.db.close()

    def get(self, key: bytes) -> bytes | None:
        try:
            return self.db[key]
        except KeyError:
            return None

    def compact(self) -> None:
        self.db.compact()


class Sqlitedict(Adapter):
    """Writes are in a transaction that is committed when the store is closed, as by default."""

    name = module = package = "sqlitedict"
    has_threads = True

    def open(self) -> None:
        import sqlitedict

        self.db: Any = sqlitedict.SqliteDict(self.path)
        self.get, self.delete = self.db.get, self.db.__delitem__
        self.put = self._put_durably if self.durable else self.db.__setitem__
        self.put_object, self.get_object = self.db.__setitem__, self.db.__getitem__

    def _put_durably(self, key: bytes, value: bytes) -> None:
        self.db[key] = value
        self.db.commit()

    def close(self) -> None:
        self.db.commit()
        self.db.close()

    def update(self, pairs: Iterable[Pair]) -> None:
        self.db.update(pairs)

    def scan(self) -> Iterator[Pair]:
        return iter(self.db.items())


class Diskcache(Adapter):
    name = module = package = "diskcache"
    has_threads = True

    def open(self) -> None:
        import diskcache

        more = {"sqlite_synchronous": 2} if self.durable else {}
        # A cache that evicts would have less to do than the others.
        self.db: Any = diskcache.Cache(self.path, eviction_policy="none", size_limit=1 << 40, **more)
        self.put, self.get, self.delete = self.db.set, self.db.get, self.db.__delitem__
        self.put_object, self.get_object = self.db.set, self.db.get

    def close(self) -> None:
        self.db.close()

    def update(self, pairs: Iterable[Pair]) -> None:
        with self.db.transact():
            for key, value in pairs:
                self.db.set(key, value)

    def scan(self) -> Iterator[Pair]:
        for key in self.db.iterkeys():
            yield key, self.db[key]


class PickledDict(Adapter):
    """The floor: a dict, read with pickle when it is opened and written when it is closed."""

    name = "dict"
    module = "pickle"

    def open(self) -> None:
        self.db: dict[Any, Any] = {}
        self.is_new = not os.path.exists(self.path)
        if not self.is_new:
            with open(self.path, "rb") as file:
                self.db = pickle.load(file)
        self.get, self.delete = self.db.get, self.db.__delitem__
        self.put = self._put_durably if self.durable else self.db.__setitem__

    def _put_durably(self, key: bytes, value: bytes) -> None:
        self.db[key] = value
        self._write()

    def _write(self) -> None:
        with open(self.path, "wb") as file:
            pickle.dump(self.db, file, pickle.HIGHEST_PROTOCOL)
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        self._write()

    def update(self, pairs: Iterable[Pair]) -> None:
        self.db.update(pairs)

    def scan(self) -> Iterator[Pair]:
        return iter(self.db.items())
