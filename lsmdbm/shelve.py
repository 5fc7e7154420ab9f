"""Shelves: str keys and objects over a database.  `from lsmdbm import shelve` replaces `import shelve`.

Rules
  1. A Shelf is a `shelve.Shelf` and does all that one does; what differs is what it costs.
  2. Nothing builds a list of the keys, and nothing that can be told from the database reads a value.
  3. With writeback, an object that was handed out or stored is in the cache, and the cache comes first:
     single keys, ranges and iterations all hand out that same object until the next `sync()`.
  4. What is in the cache is in the database too, if maybe in an older state; so the keys are those of
     the database.
  5. What cannot be serialized is refused where it is given, before it enters the cache.
  6. `sync()` writes the cache in one batch, all or nothing; past SYNC_BYTES in several.  An object that
     can no longer be serialized keeps no other from being written.
  7. Snapshots, batches and transactions are of what is stored.  What a batch or a transaction has written,
     and what a range deletion has deleted, leaves the cache: its object there is as old as one that was
     replaced by an assignment, and the next `sync()` would bring it back.

Thread safety: that of the database; with writeback, one thread at a time.
"""

from __future__ import annotations

import builtins
import pickle
import shelve
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from functools import partial
from typing import Any, NoReturn, TypeVar, cast

from lsmdbm._base.chunk import MISSING, Missing
from lsmdbm._base.leftovers import leave
from lsmdbm._engine.sharing import Lease
from lsmdbm._engine.store import Store
from lsmdbm.coding import Coding
from lsmdbm.coercion import Data, key_bytes, value_bytes
from lsmdbm.database import Database
from lsmdbm.database import open as open_database
from lsmdbm.decoded_handle import DecodedBatch, DecodedHandle, DecodedSnapshot, DecodedTransaction
from lsmdbm.decoded_range import DecodedRange
from lsmdbm.ranges import Range
from lsmdbm.writeback import CachedBatch, CachedRange, CachedTransaction

__all__ = ["Shelf", "ShelveError", "open", "open_shelf"]

V = TypeVar("V")

SYNC_BYTES = 256 << 20  # of serialized objects in one record of the log; what is more goes into another


class ShelveError(getattr(shelve, "ShelveError", ValueError)):  # type: ignore[misc]  # the stdlib's is of 3.15
    """One of `serializer` and `deserializer` was given without the other."""


class _Closed(MutableMapping[bytes, bytes]):
    """Stands in for the database of a closed shelf."""

    def _refuse(self, *_: object) -> NoReturn:
        raise ValueError("invalid operation on closed shelf")

    __getitem__ = __setitem__ = __delitem__ = __iter__ = __len__ = _refuse

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, name if name.startswith("__") else "_refuse")

    def __repr__(self) -> str:
        return "<closed>"


_CLOSED = cast(Database, _Closed())


class Shelf(DecodedHandle[V], shelve.Shelf[V]):  # type: ignore[misc]  # their overloads of get()
    """A `shelve.Shelf` over a database: a sorted mapping from str to objects, made by `open_shelf()`.

    Args:
        dict: an open `Database`.  The shelf closes it.
        protocol: of the pickles; None for pickle's default.
        writeback: keep each object handed out or stored, and store it again at `sync()` and `close()`:
            changes made in place are then not lost.
        keyencoding: encoding of the keys.  Their order is that of their bytes, and `range(prefix=...)`
            needs an encoding in which the bytes of a text begin with those of its beginning, as in UTF-8.
        serializer: `serializer(object, protocol)` returns bytes, or a str to be stored as UTF-8.
        deserializer: `deserializer(data)` returns the object to those bytes.

    Raises:
        ShelveError: a serializer without a deserializer, or the other way round.

    A value read from a shelf is a copy of its own: without writeback, changes in place are forgotten.
    Unpickling runs what the pickle says: open only files you trust, or give another serializer.
    """

    dict: Database
    cache: MutableMapping[str, V]
    writeback: bool
    _protocol: int

    def __init__(
        self,
        dict: Database,  # noqa: A002 - the name the stdlib gave it
        protocol: int | None = None,
        writeback: bool = False,
        keyencoding: str = "utf-8",
        *,
        serializer: Callable[[Any, int], Data] | None = None,
        deserializer: Callable[[bytes], Any] | None = None,
    ) -> None:
        if not isinstance(dict, Database):
            raise TypeError(
                f"this Shelf stands on a Database, not on {type(dict).__name__}: see shelve.Shelf"
            )
        dump, load = _serialization(serializer, deserializer)
        shelve.Shelf.__init__(self, dict, protocol, writeback, keyencoding)
        self.serializer, self.deserializer = dump, load
        self._coding = Coding(keyencoding, partial(_dumped, dump, self._protocol), load)

    @property
    def _db(self) -> Database:  # type: ignore[override]
        return self.dict

    def __repr__(self) -> str:
        return f"<lsmdbm.shelve.Shelf over {self.dict!r}>"

    # -- single keys --------------------------------------------------------------------------------

    def _find(self, key: str) -> V | Missing:
        if self.cache:
            self._key(key)  # closed? no str?
            if key in self.cache:
                return self.cache[key]
        value = super()._find(key)
        if self.writeback and value is not MISSING:
            self.cache[key] = value
        return value

    def __setitem__(self, key: str, value: V) -> None:
        super().__setitem__(key, value)
        if self.writeback:
            self.cache[key] = value  # rule 5

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.cache.pop(key, None)

    def setdefault(self, key: str, default: Any = None) -> V:
        """Return the value of `key`, which becomes `default` if there is none."""
        value = self._find(key)
        if value is MISSING:
            self[key] = value = default
        return cast(V, value)

    def _take(self, key: str, name: bytes, data: bytes) -> V | Missing:
        if key not in self.cache:
            return super()._take(key, name, data)
        taken = self._db.pop(name, None)
        held = self.cache.pop(key)
        return MISSING if taken is None else held

    # -- many at once -------------------------------------------------------------------------------

    def get_many(self, keys: Iterable[str]) -> builtins.dict[str, V]:
        """Return the values of those keys that are there; see `Database.get_many`."""
        if not self.writeback:
            return super().get_many(keys)
        found = ((key, self._find(key)) for key in keys)  # rule 3
        return {key: value for key, value in found if value is not MISSING}

    def _encoded(self, pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[bytes, Data]]:
        for key, value in pairs:
            yield self._coding.encode_key(key), self._coding.encode_value(value)
            if self.writeback:
                self.cache[key] = value  # rule 5: the pair before was taken

    def _forget(self, is_gone: Callable[[bytes], bool]) -> None:
        """Take objects out of the cache whose stored keys are gone, or have other values (rule 7)."""
        for key in [key for key in self.cache if is_gone(self._coding.encode_key(key))]:
            del self.cache[key]

    def clear(self) -> None:
        """Delete everything, at constant cost."""
        super().clear()
        self.cache.clear()

    # -- ranges -------------------------------------------------------------------------------------

    def _over(self, stored: Range) -> DecodedRange[V]:
        return CachedRange(self, stored) if self.writeback else super()._over(stored)

    def snapshot(self) -> DecodedSnapshot[V]:
        """Return all entries of this moment, as a mapping that nothing changes any more.

        It holds what is stored: with writeback, changes made in place are in it after a `sync()` only, and
        the objects it hands out are copies of their own.
        """
        return super().snapshot()

    def batch(self) -> DecodedBatch[V]:
        """Return a batch: what is put into it in a `with` block is written when that ends, all or nothing.

        With writeback, the shelf keeps none of the objects it is given: they are stored as they are then.

        Raises:
            ReadOnlyError: the shelf is read only.
        """
        return CachedBatch(self, self._db.batch()) if self.writeback else super().batch()

    def transaction(self) -> DecodedTransaction[V]:
        """Return a transaction: reads and writes that take place as if at one moment, or not at all.

        It reads what is stored: with writeback, changes made in place are in it after a `sync()` only, and
        the objects it hands out are copies of its own.  What it commits replaces objects of the shelf.

        Raises:
            ReadOnlyError: the shelf is read only.
        """
        return CachedTransaction(self, self._db.transaction()) if self.writeback else super().transaction()

    # -- care ---------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Store the objects of the cache, empty it, and make everything written survive power loss.

        Raises:
            ReadOnlyError: with writeback, on a shelf opened with `"r"` that was read from.
            FailedError: it could not be done, and what is on disk is not known.
            Exception: what the serializer raised.  That object stays in the cache; all others are stored.

        Durability: with writeback, after a kill or power loss all objects are as they are now, or none is; of
        more than 256 MiB, some may be.
        """
        if self.dict is _CLOSED:
            return
        failed = self._store_cache(self._db._writable().batch) if self.writeback and self.cache else None
        self._db.sync()
        if failed is not None:
            raise failed

    def _store_cache(self, write: Callable[[list[bytes], list[bytes]], object]) -> Exception | None:
        """Do so, and return the first error of a serializer."""
        failed: Exception | None = None
        batch: dict[bytes, bytes] = {}
        held, size = {}, 0
        for key, value in self.cache.items():
            try:
                name = key_bytes(self._coding.encode_key(key))
                batch[name] = data = value_bytes(self._coding.encode_value(value))
            except Exception as exc:  # rule 6
                failed, held[key] = failed or exc, value
                continue
            size += len(name) + len(data)
            if size > SYNC_BYTES:
                write([*batch], [*batch.values()])
                batch, size = {}, 0
        write([*batch], [*batch.values()])
        self.cache = held
        return failed

    def reorganize(self) -> None:
        """Give back the space of what was deleted or replaced, after a `sync()`.  O(n)."""
        self.sync()
        self._db.reorganize()

    def close(self) -> None:
        """Close the shelf and its database, after a `sync()`.  Twice is fine.

        The database is closed even if the `sync()` fails; then the error is raised.
        """
        db = self.dict
        if db is _CLOSED:
            return
        try:
            self.sync()
        finally:
            self.dict, self.cache = _CLOSED, {}
            db.close()

    def __del__(self) -> None:
        try:
            db = self.dict  # AttributeError: it was never made
            if db is not _CLOSED:
                store = db._store
                db._stop()  # its own finalizer, which may come next, has nothing to do then
                leave(partial(self._end_unless_busy, store, db._lease))
        except Exception:  # a finalizer has nobody to tell; close() tells those who call it
            pass

    def _end_unless_busy(self, store: Store, lease: Lease) -> bool:
        """Do what `close` does without waiting for anybody; False if somebody was in the way."""

        def write(keys: list[bytes], values: list[bytes]) -> None:
            if not store.batch_unless_busy(keys, values):
                raise BlockingIOError

        try:
            if self.writeback and self.cache:
                self._store_cache(write)
        except BlockingIOError:
            return False
        except Exception:  # the database is closed all the same
            pass
        self.cache = {}
        return lease.release_unless_busy()


def _serialization(
    serializer: Callable[[Any, int], Data] | None, deserializer: Callable[[bytes], Any] | None
) -> tuple[Callable[[Any, int], Data], Callable[[bytes], Any]]:
    if (serializer is None) != (deserializer is None):
        raise ShelveError("serializer and deserializer go together: one was given without the other")
    return serializer or pickle.dumps, deserializer or pickle.loads


def _dumped(dump: Callable[[Any, int], Data], protocol: int, value: object) -> Data:
    return dump(value, protocol)


def open_shelf(
    file: object,
    flag: str = "c",
    protocol: int | None = None,
    writeback: bool = False,
    *,
    keyencoding: str = "utf-8",
    serializer: Callable[[Any, int], Data] | None = None,
    deserializer: Callable[[bytes], Any] | None = None,
    **options: Any,
) -> Shelf[Any]:
    """Open a shelf: a sorted mapping from str to objects, in a database of its own.

    Args:
        file, flag: as for `lsmdbm.open()`, but for the default flag, which is `"c"`.
        protocol, writeback, keyencoding, serializer, deserializer: see `Shelf`.
        **options: those of `lsmdbm.open()`, `mode` included.

    Raises:
        ShelveError: a serializer without a deserializer, or the other way round.
        error: and whatever else `lsmdbm.open()` raises.

    Durability: as for a database; with writeback, `sync()` and `close()` write what was changed in place.

    >>> with open_shelf("people") as shelf:
    ...     shelf["ann"] = {"age": 30, "likes": ["tea"]}
    ...     shelf["bob"] = {"age": 40, "likes": []}
    ...     shelf["ann"]["likes"], shelf.range("b").first()
    (['tea'], ('bob', {'age': 40, 'likes': []}))
    """
    _serialization(serializer, deserializer)
    db = open_database(file, flag, **options)
    try:
        return Shelf(db, protocol, writeback, keyencoding, serializer=serializer, deserializer=deserializer)
    except BaseException:
        db.close()
        raise


def open(  # noqa: A001 - the name the stdlib gave it
    filename: object, flag: str = "c", protocol: int | None = None, writeback: bool = False, **options: Any
) -> Shelf[Any]:
    """Do what `open_shelf()` does, with the names of the stdlib's `shelve.open()`."""
    return open_shelf(filename, flag, protocol, writeback, **options)
