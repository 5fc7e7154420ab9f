"""Database: what `open()` returns - a sorted MutableMapping of bytes with the manners of dbm.

Rules
  1. Keys and values go in as str or bytes-like objects and come out as bytes.
  2. Order of checks: closed, read only, types, limits; all before anything is written.
  3. What has nothing to do with keys and values is in `handle`.

Thread safety: a handle may be used from any thread.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from lsmdbm._base.chunk import MAX_KEY_BYTES, MAX_VALUE_BYTES, Chunks
from lsmdbm._base.errors import NotFoundError, ReadOnlyError
from lsmdbm._base.intervals import interval
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._base.paths import path_text
from lsmdbm._base.public import member_of
from lsmdbm._base.storage import Storage
from lsmdbm._engine import sharing
from lsmdbm.batch import WriteBatch
from lsmdbm.coercion import (
    Data,
    check_mode,
    key_bytes,
    lookup_bytes,
    number_of,
    pairs_of,
    parse_flag,
    value_bytes,
)
from lsmdbm.handle import Handle
from lsmdbm.ranges import narrowed
from lsmdbm.source import SortedSource

if TYPE_CHECKING:
    from lsmdbm.text import Codec, Text

T = TypeVar("T")

UPDATE_ENTRIES, UPDATE_BYTES = 1000, 256 << 10  # what update() gathers into one record of the log

_STORAGE = OsStorage()
_NOTHING: Any = object()


def open(file: object, flag: str = "r", mode: int = 0o666, **options: Any) -> Database:  # noqa: A001 - dbm's name
    """Open the database at a path, a directory of its own.

    Args:
        file: path of the directory: str, bytes or PathLike.
        flag: `"r"` to read an existing database, `"w"` to read and write one, `"c"` to create it if
            there is none, `"n"` to begin with an empty one.  After the letter gdbm's suffixes may
            follow: `"s"` for durability `"full"`, `"f"` for `"process"`, `"u"` and `"m"` without effect.
        mode: permission bits of new files, less the umask; directories get `x` wherever there is `r`.
        **options: see `Options`.

    Raises:
        FlagError: no such flag.
        NotFoundError: no database there, or no parent directory.
        LockedError: another process kept it open for writing for `timeout` seconds.
        CorruptionError: the files are damaged.
        error: something else is at the path; the database is of a newer format; the system says no.
        TypeError, ValueError: unknown option; option or `mode` out of its bounds; `mode` is no int.

    Durability: nothing is written by opening an existing database.

    >>> with open("words", "n") as db:
    ...     db["apple"] = "red"
    ...     db["apple"]
    b'red'
    """
    return open_on(_STORAGE, file, flag, mode, options)


def open_on(storage: Storage, file: object, flag: object, mode: int, options: dict[str, Any]) -> Database:
    """Do what `open` does, on any storage: the seam for tests."""
    letter, durability = parse_flag(flag)
    path = path_text(file)
    check_mode(mode)
    if durability is not None:
        options = {"durability": durability, **options}
    if not path:
        raise NotFoundError.at(path)
    return Database(path, sharing.acquire(storage, path, letter, mode, options), is_read_only=letter == "r")


@member_of("lsmdbm")
class Database(Handle, SortedSource, MutableMapping[bytes, bytes]):
    """A persistent, sorted mapping from bytes to bytes.  Made by `open()`.

    Iteration, `keys()`, `values()` and `items()` go in ascending byte order, over the state of the
    moment they begin.  Single keys cost O(log n); `len()` is exact and counts only what changed.

    Any method may raise ClosedError, once the handle is closed, CorruptionError, where something read from
    disk is not what was written, and `error`, where the system says no.  What writes raises ReadOnlyError at
    flag `"r"`, TypeError and ValueError for what is no key or value, before anything is written, and
    FailedError once an error has left it open what is on disk.

    Durability: a write that has returned survives a kill of the process, at the default durability; after
    `sync()` or `close()`, power loss.  Each call is all or nothing, but for `update()`.
    """

    __slots__ = ()

    # -- single keys: those of SortedSource, with a call less -----------------------------------------

    def __getitem__(self, key: Data) -> bytes:
        value = self._store.get(key if type(key) is bytes else lookup_bytes(key))
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Data, value: Data) -> None:
        """Set one key.

        Durability: on return the pair survives a kill of the process, at the default durability; after
        `sync()`, power loss.
        """
        if self._is_read_only:
            self._writable()
        put = self._store.put  # rule 2: here a closed handle says so
        if type(key) is not bytes or len(key) > MAX_KEY_BYTES:
            key = key_bytes(key)
        if type(value) is not bytes or len(value) > MAX_VALUE_BYTES:
            value = value_bytes(value)
        put(key, value)

    def __delitem__(self, key: Data) -> None:
        if self._writable().take(lookup_bytes(key)) is None:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self._store.get(lookup_bytes(cast(Data, key))) is not None

    @overload
    def get(self, key: Data) -> bytes | None: ...

    @overload
    def get(self, key: Data, default: T) -> bytes | T: ...

    def get(self, key: Data, default: object = None) -> object:
        """Return the value of `key`, or the very object given as default."""
        value = self._store.get(key if type(key) is bytes else lookup_bytes(key))
        return default if value is None else value

    def setdefault(self, key: Data, default: Data = b"") -> bytes:
        """Return the value of `key`, which becomes `default` if there is none.  One atomic step.

        >>> import lsmdbm
        >>> with lsmdbm.open("colours", "n") as db:
        ...     db.setdefault("apple", "red"), db.setdefault("apple", "green")
        (b'red', b'red')
        """
        found = self.get(key)
        if found is not None:
            return found
        put_if_absent = self._writable().put_if_absent
        value = value_bytes(default)
        found = put_if_absent(key_bytes(key), value)
        return value if found is None else found

    def pop(self, key: Data, default: Any = _NOTHING) -> Any:
        """Delete `key` and return its value; the default, or KeyError, if there is none.  One atomic step.

        >>> import lsmdbm
        >>> with lsmdbm.open("colours", "n") as db:
        ...     db["apple"] = "red"
        ...     db.pop("apple"), db.pop("apple", None)
        (b'red', None)
        """
        if self._is_read_only:
            self._check_open()
            if default is _NOTHING or self.get(key) is not None:
                raise ReadOnlyError
            return default
        value = self._store.take(lookup_bytes(key))
        if value is not None:
            return value
        if default is _NOTHING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[bytes, bytes]:
        """Delete the smallest key and return it with its value; KeyError if the database is empty.

        One atomic step, O(log n) however many were taken before: a queue of jobs is made of it.

        >>> import lsmdbm
        >>> with lsmdbm.open("jobs", "n") as db:
        ...     db.update({"1": "wash", "2": "dry"})
        ...     db.popitem(), len(db)
        ((b'1', b'wash'), 1)
        """
        found = self._writable().take_first()
        if found is None:
            raise KeyError("popitem(): database is empty")
        return found

    def increment(self, key: Data, delta: int = 1) -> int:
        """Add to the number that is stored under `key`, 0 if there is none; return the sum.  One atomic step.

        A number is stored as decimal ASCII text, such as `b"-12"`, which every client of dbm can read.

        Raises:
            TypeError: `delta` is no integer.
            ValueError: the value is no integer in that form; nothing is written.

        >>> import lsmdbm
        >>> with lsmdbm.open("visits", "n") as db:
        ...     db.increment("front page"), db.increment("front page", 10), db["front page"]
        (1, 11, b'11')
        """
        change = self._writable().change
        step = operator.index(delta)
        return int(change(key_bytes(key), lambda value: b"%d" % (number_of(value) + step)))

    # -- many at once -------------------------------------------------------------------------------

    def update(self, other: Any = (), /, **more: Data) -> None:
        """Set many keys, from a mapping, an iterable of pairs, or keywords.

        Written in batches, each whole or not at all; memory is bounded, however long the iterable is.  If
        the iterable fails, or a key or value has the wrong type, what came before it is written.

        Cost: less than setting the keys one by one, for up to 1,000 of them share a record of the log.

        >>> import lsmdbm
        >>> with lsmdbm.open("fruit", "n") as db:
        ...     db.update({"apple": "red"}, cherry="dark red")
        ...     db.update((name, "yellow") for name in ("banana", "lemon"))
        ...     [*db]
        [b'apple', b'banana', b'cherry', b'lemon']
        """
        store = self._writable()
        for pairs in (pairs_of(other), more.items()):
            batch: dict[bytes, bytes | None] = {}
            size = 0
            try:
                for key, value in pairs:
                    data = key_bytes(key)
                    batch[data] = held = value_bytes(value)
                    size += len(data) + len(held)
                    if size >= UPDATE_BYTES or len(batch) >= UPDATE_ENTRIES:
                        full, batch, size = batch, {}, 0
                        store.batch([*full], [*full.values()])
            finally:
                store.batch([*batch], [*batch.values()])

    def batch(self) -> WriteBatch:
        """Return a batch: what is put into it in a `with` block is written when that ends, all or nothing.

        Raises:
            ReadOnlyError: the handle is read only.
        """
        self._writable()
        self._check_open()
        return WriteBatch(self)

    def delete_range(
        self, start: Data | None = None, stop: Data | None = None, *, prefix: Data | None = None
    ) -> None:
        """Delete every key with `start <= key < stop` and, if given, that prefix: in one atomic step.

        Costs one record of the log, however much it deletes, and reads nothing.  The next flush gives back
        the tables that hold nothing else, compactions the space in others.

        Durability: as for a single write.

        >>> import lsmdbm
        >>> with lsmdbm.open("sessions", "n") as db:
        ...     db.update({"ann:1": "a", "ann:2": "b", "bob:1": "c", "cay:1": "d"})
        ...     db.delete_range(prefix="ann:")
        ...     db.delete_range("c")
        ...     [*db]
        [b'bob:1']
        """
        self._writable()
        self._check_open()
        self._delete_range(*narrowed(None, None, start, stop, prefix))

    def clear(self) -> None:
        """Delete everything, at constant cost; the space is given back by and by."""
        self._writable().clear()

    # -- everything, in order -----------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the exact number of keys.

        Cost: one look per key written since the last call; the first call, and one after a large
        flush, may have to count all keys, without their values.
        """
        return self._store.length()

    def keys(self) -> list[bytes]:  # type: ignore[override]
        """Return all keys as a sorted list: the dbm contract.  `iterkeys()` does not build it."""
        return list(iter(self.range()))  # list() of the range would count it first, in a pass of its own

    def iterkeys(self) -> Iterator[bytes]:
        """Iterate over the keys, without their values."""
        return iter(self.range())

    @overload
    def text(self, codec: None = None) -> Text[bytes]: ...

    @overload
    def text(self, codec: str) -> Text[str]: ...

    @overload
    def text(self, codec: Codec) -> Text[Any]: ...

    def text(self, codec: str | Codec | None = None) -> Text[Any]:
        """Return this database with str keys and, if there is a codec, decoded values.

        Making one costs nothing and copies nothing: what is written through either shows in both.

        Args:
            codec: None for values as they are, bytes; the name of a text encoding for values that are str; or
                any object with `dumps` and `loads`, such as the modules json and pickle.  `dumps(value)`
                returns bytes, or a str to be stored as UTF-8; `loads` is given bytes.

        Raises:
            LookupError: there is no text encoding of that name.
            TypeError: the codec is none of these.

        >>> import json
        >>> with open("people", "n") as db:
        ...     people = db.text(json)
        ...     people["ann"] = {"age": 30}
        ...     [*people.items()], db["ann"]
        ([('ann', {'age': 30})], b'{"age": 30}')
        """
        from lsmdbm.text import Text, text_coding  # as in verify() and backup(): most programs never need it

        self._check_open()
        return Text(self, text_coding(codec))

    def approximate_size(
        self, start: Data | None = None, stop: Data | None = None, *, prefix: Data | None = None
    ) -> int:
        """Return about how many bytes the entries with `start <= key < stop` and that prefix take on disk.

        Counts tables, compressed as they are, and in them what is deleted or replaced but not compacted away
        yet; not what is only in memory and in the log.  Right to one block of a table, some 4 KiB before
        compression, at each bound, for each level.  Without bounds it is the size of all tables.

        Cost: a look at the index of the tables that the bounds go through; no block is read.

        >>> import lsmdbm
        >>> with lsmdbm.open("sizes", "n") as db:
        ...     db.update((f"{number:05}", "value") for number in range(10_000))
        ...     db.flush()
        ...     0 < db.approximate_size("05000") < db.approximate_size() == db.stats().file_bytes
        True
        """
        view = self._store.view
        low, high = narrowed(None, None, start, stop, prefix)
        if low is not None and high is not None and low >= high:
            return 0
        return view.stored_bytes(low, high)

    # -- what ranges stand on -----------------------------------------------------------------------

    def _get(self, key: bytes) -> bytes | None:
        return self._store.get(key)

    def _get_many(self, keys: list[bytes]) -> dict[bytes, bytes]:
        return self._store.get_many(keys)

    def _chunks(self, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool) -> Chunks:
        return self._store.chunks(start, stop, reverse=reverse, keys_only=keys_only)

    def _first(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool, keys_only: bool
    ) -> tuple[bytes, bytes] | None:
        return self._store.first(start, stop, reverse=reverse, keys_only=keys_only)

    def _length(self) -> int:
        return self._store.length()

    def _delete_range(self, start: bytes | None, stop: bytes | None) -> None:
        store = self._writable()
        if start is None and stop is None:
            store.clear()
        else:
            store.batch((), (), interval(start, stop))
