"""Sorted stores in C and C++: LevelDB, RocksDB, LMDB, SQLite's LSM1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from benchmarks.adapters.base import BLOOM_BITS, CACHE_BYTES, Adapter, Pair

LMDB_BYTES = 1 << 36  # of address space; the file grows as it is filled


class Plyvel(Adapter):
    name = module = package = "plyvel"
    is_ordered = has_threads = compacts = True

    def open(self) -> None:
        import plyvel

        self.db: Any = plyvel.DB(
            self.path, create_if_missing=True, bloom_filter_bits=BLOOM_BITS, lru_cache_size=CACHE_BYTES
        )
        self.get = self.db.get
        self.put = self._put_durably if self.durable else self.db.put
        self.delete = self.db.delete

    def _put_durably(self, key: bytes, value: bytes) -> None:
        self.db.put(key, value, sync=True)

    def close(self) -> None:
        self.db.close()

    def update(self, pairs: Iterable[Pair]) -> None:
        pairs = iter(pairs)
        while some := [*islice(pairs, 1000)]:
            with self.db.write_batch() as batch:
                for key, value in some:
                    batch.put(key, value)

    def scan(self) -> Iterator[Pair]:
        return self.db.iterator()

    def scan_back(self) -> Iterator[Pair]:
        return self.db.iterator(reverse=True)

    def seek(self, key: bytes, count: int) -> list[Pair]:
        with self.db.iterator(start=key) as entries:
            return [*islice(entries, count)]

    def compact(self) -> None:
        self.db.compact_range()


class Rocksdict(Adapter):
    name = module = package = "rocksdict"
    is_ordered = has_threads = compacts = True

    def open(self) -> None:
        import rocksdict

        table = rocksdict.BlockBasedOptions()
        table.set_bloom_filter(BLOOM_BITS, False)
        table.set_block_cache(rocksdict.Cache(CACHE_BYTES))
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        self.db: Any = rocksdict.Rdict(self.path, options=options)
        if self.durable:
            writing = rocksdict.WriteOptions()
            writing.sync = True
            self.db.set_write_options(writing)
        self.put, self.get, self.delete = self.db.put, self.db.get, self.db.delete

    def close(self) -> None:
        self.db.close()

    def update(self, pairs: Iterable[Pair]) -> None:
        import rocksdict

        pairs = iter(pairs)
        while some := [*islice(pairs, 1000)]:
            batch = rocksdict.WriteBatch(raw_mode=True)
            for key, value in some:
                batch.put(key, value)
            self.db.write(batch)

    def scan(self) -> Iterator[Pair]:
        return self.db.items()

    def scan_back(self) -> Iterator[Pair]:
        return self.db.items(backwards=True)

    def seek(self, key: bytes, count: int) -> list[Pair]:
        return [*islice(self.db.items(from_key=key), count)]

    def compact(self) -> None:
        self.db.compact_range(None, None)


class Lmdb(Adapter):
    """A transaction per call, as a program without a wider one has it."""

    name = module = package = "lmdb"
    is_ordered = has_threads = True

    def open(self) -> None:
        import lmdb

        self.db: Any = lmdb.open(self.path, map_size=LMDB_BYTES, sync=self.durable)
        self.reader: Any = None

    def close(self) -> None:
        self._end_reader()
        self.db.close()

    def _end_reader(self) -> None:
        if self.reader is not None:
            self.reader.abort()
            self.reader = None

    def put(self, key: bytes, value: bytes) -> None:
        with self.db.begin(write=True) as transaction:
            transaction.put(key, value)

    def get(self, key: bytes) -> bytes | None:
        with self.db.begin() as transaction:
            return transaction.get(key)

    def delete(self, key: bytes) -> None:
        with self.db.begin(write=True) as transaction:
            transaction.delete(key)

    def update(self, pairs: Iterable[Pair]) -> None:
        with self.db.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti(pairs)

    def _cursor(self) -> Any:
        self._end_reader()
        self.reader = self.db.begin()
        return self.reader.cursor()

    def scan(self) -> Iterator[Pair]:
        return iter(self._cursor())

    def scan_back(self) -> Iterator[Pair]:
        return self._cursor().iterprev()

    def seek(self, key: bytes, count: int) -> list[Pair]:
        with self.db.begin() as transaction, transaction.cursor() as cursor:
            found = cursor.set_range(key) if key else cursor.first()
            return [*islice(cursor, count)] if found else []


class Lsm1(Adapter):
    name = package = "lsm-db"
    module = "lsm"
    is_ordered = compacts = True

    def open(self) -> None:
        import lsm

        safety = lsm.SAFETY_FULL if self.durable else lsm.SAFETY_NORMAL
        self.db: Any = lsm.LSM(self.path, write_safety=safety)
        self.put, self.delete = self.db.insert, self.db.delete

    def close(self) -> None:
        self.db.close()

    def get(self, key: bytes) -> bytes | None:
        try:
            return self.db.fetch(key)
        except KeyError:
            return None

    def update(self, pairs: Iterable[Pair]) -> None:
        with self.db.transaction():
            self.db.update(dict(pairs))

    def scan(self) -> Iterator[Pair]:
        return iter(self.db)

    def scan_back(self) -> Iterator[Pair]:
        return iter(self.db[::True])

    def seek(self, key: bytes, count: int) -> list[Pair]:
        found = self.db[key:]
        pairs = [*islice(found, count)]
        found.close()  # it holds a cursor, and that a snapshot
        return pairs

    def compact(self) -> None:
        self.db.flush()
        while self.db.work(1 << 20):
            pass
        self.db.checkpoint(0)
