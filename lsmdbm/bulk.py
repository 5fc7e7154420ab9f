"""Bulk building: sorted files made in any process, and whole databases out of them.

    TableWriter     sorted entries into one file, which `Database.ingest()` adds to a database
    bulk_load       entries in any order into a new database, by as many processes as an executor has

Rules
  1. A file or a database that is not complete is removed.
  2. Entries are checked before they are taken, as for any other write.

Thread safety: a TableWriter belongs to one thread; bulk_load() may be called from any.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from lsmdbm._base.chunk import MAX_KEY_BYTES, MAX_VALUE_BYTES
from lsmdbm._base.errors import ClosedError
from lsmdbm._base.options import SHAPE, Options
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._base.paths import path_text
from lsmdbm._base.storage import Storage
from lsmdbm._engine.building import Building
from lsmdbm._engine.loading import load
from lsmdbm.coercion import Data, check_mode, key_bytes, pairs_of, value_bytes
from lsmdbm.tally import Progress, Tally, checked

__all__ = ["BuiltTable", "TableWriter", "bulk_load"]

CHUNK_ENTRIES, CHUNK_BYTES = 1000, 256 << 10  # gathered before they are encoded

_STORAGE = OsStorage()


@dataclass(frozen=True, slots=True)
class BuiltTable:
    """A file that a TableWriter made; small, and can be pickled."""

    path: str
    """Of the file, absolute."""
    entries: int
    """How many it holds."""
    smallest: bytes
    """The first key."""
    largest: bytes
    """The last key."""
    file_bytes: int
    """Length of the file."""


class TableWriter:
    """Writes sorted entries into one file, which `Database.ingest()` can add to a database.

    No database is opened, and no lock taken: any number of them can work at once, in any process or on any
    machine that shares the file system.  A context manager: leaving it finishes the file, and an exception
    removes it.

    Args:
        path: of the new file: str, bytes or PathLike; any name will do.  Not in the directory of a database.
        mode: permission bits of the file, less the umask.
        **options: `block_bytes`, `compression` and `compression_level`, as for `lsmdbm.open()`.

    Raises:
        error: there is something at `path`; the system says no.
        NotFoundError: no parent directory.
        TypeError, ValueError: unknown option; option or `mode` out of its bounds; `mode` is no int.

    Cost: about as much as writing into a database without reading; memory for one block, and some 100 bytes
    per 4 KiB of entries until the file is finished.

    Durability: the finished file survives power loss.

    >>> with TableWriter("fruit.table") as writer:
    ...     writer.extend([("apple", "red"), ("banana", "yellow")])
    ...     writer.add("cherry", "red")
    >>> writer.table.entries, writer.table.largest
    (3, b'cherry')
    """

    def __init__(self, path: object, *, mode: int = 0o666, **options: Any) -> None:
        self._take(_STORAGE, path, mode, options)

    def _take(self, storage: Storage, path: object, mode: int, options: dict[str, Any]) -> None:
        text = path_text(path)
        check_mode(mode)
        for name in options:
            if name not in SHAPE or name in ("bloom_bits_per_key", "compaction"):
                raise TypeError(f"TableWriter() got an unexpected keyword argument {name!r}")
        chosen = Options.choose(options)
        self._keys: list[bytes] = []
        self._values: list[bytes | None] = []
        self._room = CHUNK_BYTES
        self._last: bytes | None = None
        self._table: BuiltTable | None = None
        self._is_abandoned = False
        self._building: Building | None = Building(storage, text, mode, chosen)

    @classmethod
    def on(cls, storage: Storage, path: object, **options: Any) -> TableWriter:
        """Return a writer on any storage: the seam for tests."""
        writer = cls.__new__(cls)
        writer._take(storage, path, 0o666, options)
        return writer

    @property
    def table(self) -> BuiltTable | None:
        """What was written, once it is finished; None before, or if there was no entry and so is no file."""
        return self._table

    def add(self, key: Data, value: Data) -> None:
        """Write one entry.

        Raises:
            ValueError: the key is not above the one before; key or value are too long.  Nothing was written.
            TypeError: they are not str or bytes-like.
        """
        self.extend(((key, value),))

    def extend(self, pairs: Any) -> None:
        """Write the entries of a sorted mapping, or of an iterable of pairs, in strictly ascending key order.

        Order is that of bytes, which for str is that of `sorted()`.

        Raises:
            ValueError, TypeError: see `add`; what came before that entry is written.
        """
        if self._building is None:
            raise ClosedError("The table is finished, or was abandoned")
        for key, value in pairs_of(pairs):
            if type(key) is not bytes or len(key) > MAX_KEY_BYTES:
                key = key_bytes(key)  # noqa: PLW2901
            if type(value) is not bytes or len(value) > MAX_VALUE_BYTES:
                value = value_bytes(value)  # noqa: PLW2901
            if self._last is not None and key <= self._last:
                raise ValueError(f"key {key!r} is not above the one before it, {self._last!r}")
            self._keys.append(key)
            self._values.append(value)
            self._last = key
            self._room -= len(key) + len(value)
            if self._room <= 0 or len(self._keys) >= CHUNK_ENTRIES:
                self._pass_on()

    def _pass_on(self) -> None:
        building, keys, values = self._building, self._keys, self._values
        self._keys, self._values, self._room = [], [], CHUNK_BYTES
        if building is None or not keys:
            return
        try:
            building.add(keys, values)
        except BaseException:  # half of them may be in: without them, it would be another table
            self.abandon()
            raise

    def finish(self) -> BuiltTable | None:
        """Complete the file and make it durable; None, and no file, if there was no entry.  Twice is fine.

        Raises:
            ClosedError: it was abandoned, or a write had failed.
        """
        if self._is_abandoned:
            raise ClosedError("The table was abandoned")
        if self._building is None:
            return self._table
        self._pass_on()
        building, self._building = self._building, None
        if self._last is None:
            building.abandon()
            return None
        try:
            meta = building.finish()
        except BaseException:
            self._is_abandoned = True
            building.abandon()
            raise
        self._table = BuiltTable(building.path, meta.entries, meta.smallest, meta.largest, meta.file_bytes)
        return self._table

    def abandon(self) -> None:
        """Remove the file, if it is not finished."""
        building, self._building = self._building, None
        if building is not None:
            self._is_abandoned = True
            building.abandon()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.abandon()


def bulk_load(
    path: object,
    iterable: Any,
    executor: Executor | None = None,
    *,
    progress: Progress | None = None,
    mode: int = 0o666,
    run_bytes: int = 32 << 20,
    in_flight: int = 4,
    **options: Any,
) -> int:
    """Make a new database of entries in any order, and return how many keys it has.

    The entries are sorted in runs that fit into memory, the runs merged into one sorted level: there is
    nothing left to compact.  With an executor, sorting and merging are done by its workers, while this
    process takes entries from the iterable.

    Args:
        path: of the new database: absent, or an empty directory.
        iterable: pairs of key and value, or a mapping; where a key comes twice, the last pair counts.
        executor: any `concurrent.futures.Executor` whose workers see the same file system; None to do
            everything here.  It is not shut down.
        progress: called with how many entries were taken from the iterable, and how many there are in all,
            None if it does not say: every 1000 entries, and after each piece of work.  What it raises ends
            the load.
        mode: permission bits of new files, less the umask.
        run_bytes: of entries that are sorted together, as they are held in memory, 100 bytes each included.
        in_flight: tasks that the executor is given at a time: at least as many as it has workers.  This
            process holds up to `in_flight + 2` runs in memory.
        **options: of `lsmdbm.open()`, of which those count that the database remembers, and
            `memtable_bytes`, the length at which its tables are cut.

    Raises:
        error: there is something at `path`; the system says no.
        NotFoundError: no parent directory.
        TypeError, ValueError: an entry is not of str or bytes, or too long: its position and key are named.
            Or an option or `mode` is none, or out of its bounds.

    Whatever the executor or a worker raises comes out as it is.

    Cost: reads and writes everything once, twice if the entries are not in order; once more for each factor
    of 16 by which they exceed 16 runs.

    Durability: on return everything survives power loss.  Before that there is no database: if anything goes
    wrong, what was made is removed.  After a kill, files are left that do not open: `destroy()` them.

    >>> import lsmdbm
    >>> bulk_load("squares", ((str(number), str(number**2)) for number in range(1000)))
    1000
    >>> with lsmdbm.open("squares") as db:
    ...     db["31"]
    b'961'
    """
    return bulk_load_on(_STORAGE, path, iterable, executor, progress, mode, run_bytes, in_flight, options)


def bulk_load_on(
    storage: Storage,
    path: object,
    iterable: Any,
    executor: Executor | None,
    progress: Progress | None,
    mode: int,
    run_bytes: int,
    in_flight: int,
    options: dict[str, Any],
) -> int:
    """Do what `bulk_load` does, on any storage: the seam for tests."""
    text = path_text(path)
    check_mode(mode)
    chosen = Options.choose(options, {})
    for name, value in (("run_bytes", run_bytes), ("in_flight", in_flight)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{name}={value!r}: must be an int above 0")
    tally = Tally(progress, iterable)
    entries = checked(tally.over(pairs_of(iterable)), tally)
    count = load(
        *(storage, text, mode, chosen, entries, executor),
        run_bytes=run_bytes,
        in_flight=in_flight,
        turned=tally.report,
    )
    tally.report()
    return count
