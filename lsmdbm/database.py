"""Database: what `open()` returns - a sorted MutableMapping of bytes with the manners of dbm.

Rules
  1. Keys and values go in as str or bytes-like objects and come out as bytes.
  2. Order of checks: closed, read only, types, limits; all before anything is written.
  3. A handle that is closed answers ClosedError to everything but close().

Thread safety: a handle may be used from any thread.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast, overload
from weakref import WeakValueDictionary

from lsmdbm._base.chunk import MAX_KEY_BYTES, MAX_VALUE_BYTES, Chunks
from lsmdbm._base.errors import ClosedError, NotFoundError, ReadOnlyError
from lsmdbm._base.intervals import interval
from lsmdbm._base.leftovers import leave
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._base.paths import path_text
from lsmdbm._base.public import member_of
from lsmdbm._base.storage import Storage
from lsmdbm._engine import sharing
from lsmdbm._engine.sharing import Lease
from lsmdbm._engine.stats import Stats
from lsmdbm._engine.store import Store
from lsmdbm.batch import WriteBatch
from lsmdbm.coercion import Data, key_bytes, lookup_bytes, number_of, pairs_of, parse_flag, value_bytes
from lsmdbm.ranges import Flows, narrowed
from lsmdbm.retries import ATTEMPTS, retried
from lsmdbm.snapshot import Snapshot
from lsmdbm.source import SortedSource
from lsmdbm.transaction import Transaction

if TYPE_CHECKING:
    from lsmdbm._engine.check import Progress, Report
    from lsmdbm.changes import Change
    from lsmdbm.text import Codec, Text

T = TypeVar("T")
M = TypeVar("M", Snapshot, Transaction)

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
        TypeError, ValueError: unknown option; option out of its bounds; `mode` is no int.

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
    if not isinstance(mode, int):
        raise TypeError(f"mode must be an int, not {type(mode).__name__}")
    if durability is not None:
        options = {"durability": durability, **options}
    if not path:
        raise NotFoundError.at(path)
    return Database(path, sharing.acquire(storage, path, letter, mode, options), is_read_only=letter == "r")


class _Closed:
    """Stands in for the store of a closed handle (rule 3)."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # tools that look into modules, doctest's collector say, ask for such names
            raise AttributeError(name)
        raise ClosedError


_CLOSED = cast(Store, _Closed())


@member_of("lsmdbm")
class Database(SortedSource, MutableMapping[bytes, bytes]):
    """A persistent, sorted mapping from bytes to bytes.  Made by `open()`.

    Iteration, `keys()`, `values()` and `items()` go in ascending byte order, over the state of the
    moment they begin.  Single keys cost O(log n); `len()` is exact and counts only what changed.
    """

    __slots__ = ("__weakref__", "_flows", "_is_read_only", "_lease", "_moments", "_store", "path")

    def __init__(self, path: str, lease: Lease, *, is_read_only: bool) -> None:
        self.path = path
        self._lease = lease
        self._store = cast(Store, lease.store)  # a Reader answers to all that is asked of a read-only handle
        self._is_read_only = is_read_only
        self._flows = Flows()
        # By id: they have no hash.
        self._moments: WeakValueDictionary[int, Snapshot | Transaction] = WeakValueDictionary()

    def __repr__(self) -> str:
        state = "closed" if self._store is _CLOSED else "read-only" if self._is_read_only else "open"
        return f"<lsmdbm.Database {self.path!r}, {state}>"

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
        """Return the value of `key`, which becomes `default` if there is none.  One atomic step."""
        found = self.get(key)
        if found is not None:
            return found
        put_if_absent = self._writable().put_if_absent
        value = value_bytes(default)
        found = put_if_absent(key_bytes(key), value)
        return value if found is None else found

    def pop(self, key: Data, default: Any = _NOTHING) -> Any:
        """Delete `key` and return its value; the default, or KeyError, if there is none.  One atomic step."""
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
        """Delete the smallest key and return it with its value; KeyError if the database is empty."""
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

    # -- care ---------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Make everything written so far survive power loss.

        Raises:
            FailedError: it could not be done, and what is on disk is not known.
        """
        self._store.sync()

    def flush(self) -> None:
        """Write what is held in memory into tables.  The log already keeps it: this is never needed."""
        self._writable().flush()

    def compact(self) -> None:
        """Merge all tables into one sorted level: smallest on disk, fastest to read.  O(n)."""
        self._writable().compact()

    def reorganize(self) -> None:
        """Give back the space of what was deleted or replaced: `compact()` under gdbm's name."""
        self.compact()

    def verify(self, *, progress: Progress | None = None) -> Report:
        """Check every checksum of the database as of now, as `lsmdbm.verify()` does; writers go on.

        Everything is read from disk, past all caches.  What is in memory only is not looked at.

        Args:
            progress: called with the bytes read so far and the bytes there are.

        Returns:
            What was found; true if nothing is wrong.  Damage is never raised.
        """
        from lsmdbm._engine.check import check, run

        view = self._store.pin()
        report = run(check(view.tables.directory, view.tables, view.version), progress)
        self._check_open()  # closed meanwhile, everything would seem to be missing
        return report

    def backup(self, destination: object) -> None:
        """Make another database of the present state at `destination`, while writers go on.

        Tables are linked where the file system can do that, which takes no time and no space; then what
        rots in one rots in both.  Else they are copied, and every block of the copy is checked.

        Args:
            destination: absent, or an empty directory; its parent must exist.  It gets the permission bits
                of this database.

        Raises:
            error: `destination` holds something, or lies in the database; the system refuses something.
            NotFoundError: no parent directory.
            CorruptionError: a table that had to be copied is damaged.

        Durability: on return the copy survives power loss.  Cut off before, there is none; if it fails, what
        was made of it is removed.

        >>> import lsmdbm
        >>> with lsmdbm.open("words", "n") as db:
        ...     db["apple"] = "red"
        ...     db.backup("words of today")
        >>> with lsmdbm.open("words of today") as db:
        ...     db["apple"]
        b'red'
        """
        from lsmdbm._engine.backup import backup

        path = path_text(destination)
        view = self._store.pin()
        backup(self._lease.storage, view, self._store.manifest, path)

    def snapshot(self) -> Snapshot:
        """Return all entries of this moment, as a mapping that nothing changes any more.  Copies nothing.

        A snapshot of a read-only handle stays at its moment through every `refresh()`.  Close it when it has
        served: it keeps what it reads on disk and in memory.
        """
        return self._ending_with_this(Snapshot(self, self._store.snapshot()))

    def transaction(self) -> Transaction:
        """Return a transaction: reads and writes that take place as if at one moment, or not at all.

        Nothing waits for it and it holds no lock: if what it has read or written was changed by somebody else
        in the meantime, its commit fails.  `run()` tries again then.  Close it, best by a `with`: like a
        snapshot it keeps what it reads on disk and in memory, and counts as one in `stats()`.

        Raises:
            ReadOnlyError: the handle is read only.

        >>> import lsmdbm
        >>> with lsmdbm.open("accounts", "n") as db:
        ...     db.update({"ann": "10", "bob": "0"})
        ...     with db.transaction() as tx:
        ...         if int(tx["ann"]) >= 7:
        ...             tx["ann"], tx["bob"] = str(int(tx["ann"]) - 7), str(int(tx["bob"]) + 7)
        ...     [*db.items()]
        [(b'ann', b'3'), (b'bob', b'7')]
        """
        return self._ending_with_this(Transaction(self, self._writable().transaction()))

    def run(self, function: Callable[[Transaction], T], *, attempts: int = ATTEMPTS) -> T:
        """Call a function with a transaction and commit that; on a conflict, try again with a new one.

        Between two attempts it waits, for a random time that grows from about a millisecond to a tenth of a
        second.

        Args:
            function: may be called several times, so it should have no other effects.  An exception rolls the
                transaction back and goes on to the caller.
            attempts: how often it is called at most; at least 1.

        Returns:
            what the function has returned, in the attempt that was committed.

        Raises:
            ConflictError: the last attempt was in conflict, too.

        Durability: as a single write.

        >>> import lsmdbm
        >>> def take(tx):
        ...     return tx.popitem()[1]
        >>> with lsmdbm.open("tasks", "n") as db:
        ...     db.update({"1": "sweep", "2": "dust"})
        ...     db.run(take), len(db)
        (b'sweep', 1)
        """
        return self._retried(self.transaction, function, attempts)

    def _retried(self, begin: Callable[[], Any], function: Callable[[Any], T], attempts: int) -> T:
        return retried(self._lease.storage, begin, function, attempts)

    def _ending_with_this(self, moment: M) -> M:
        self._moments[id(moment)] = moment
        if self._store is _CLOSED:  # another thread was faster
            moment._end()
            raise ClosedError
        return moment

    def ingest(self, paths: Iterable[object], *, progress: Progress | None = None) -> int:
        """Add the entries of files that `lsmdbm.bulk.TableWriter` has made, all of them or nothing.

        They replace what was written before under the same keys; of two files that hold the same key the
        later one counts.  The files are only read: remove them when this has returned.

        Args:
            paths: of the files.
            progress: called with the bytes checked so far and the bytes there are.  What it raises ends it.

        Returns:
            How many entries the files hold, keys that several have counted for each.

        Raises:
            NotFoundError: there is no file.
            CorruptionError: a file is no table, or a damaged one.
            error: it is of a newer format; the system says no.
            TypeError: `paths` is one path.

        Cost: everything is read and checked once, while others go on; then it is copied, while writers wait:
        by the block, still compressed, or merged where files overlap.  Where nothing of their keys is there,
        no compaction touches the entries again; after a large ingest over existing keys a `compact()` is
        worth while.

        Durability: on return the entries, and everything written before, survive power loss.  If it raises,
        reads find all of them or none, and that stays.  If the process is killed in it, or fails, all of them
        or none are there when the database is opened again.

        >>> from lsmdbm.bulk import TableWriter
        >>> with TableWriter("fruit.table") as writer:
        ...     writer.add("apple", "green")
        >>> with open("words", "n") as db:
        ...     db["apple"] = "red"
        ...     db.ingest(["fruit.table"]), db["apple"]
        (1, b'green')
        """
        from lsmdbm._engine.check import run
        from lsmdbm._engine.ingest import check_all

        store = self._writable()
        if isinstance(paths, (str, bytes)) or hasattr(paths, "__fspath__"):
            raise TypeError(f"ingest() takes a list of paths, not {paths!r}")
        texts = [path_text(path) for path in paths]
        sources = run(check_all(self._lease.storage, texts), progress)
        store.ingest(sources)
        return sum(source.meta.entries for source in sources)

    def changes(self, since: bytes | int | None = None) -> Iterator[Change]:
        """Return what was written from a position on, up to now, in order: for whoever follows.

        It ends at what this handle shows; call it again later with the `next` of the last change.  A batch is
        one change, and so is a transaction.  A read-only handle goes up to its moment: `refresh()` it first.

        How far back the log goes is up to the option `log_keep_bytes`; what `ingest()` adds is never in it.

        Args:
            since: where to begin: the `next` of a change, or what `position()` of this database or of a
                snapshot has returned; None for the beginning of the database.  A sequence, an int,
                begins with the change that it is in; but a number cannot tell whether power was lost since,
                and other writes have got the sequences that were seen.

        Raises:
            HistoryLostError: some of the changes are in no log any more, or power was lost and with it a
                write that was seen already.  It is raised before any change is returned, but where a loss of
                power has torn a log that was kept: that shows when it is read.
            CorruptionError: a log is damaged.
            ValueError: this is no position.

        Cost: one pass over the log from the position on, 256 KiB of it in memory at a time.

        >>> import lsmdbm
        >>> with lsmdbm.open("orders", "n") as db:
        ...     start = db.position()
        ...     db["1"] = "open"
        ...     with db.batch() as batch:
        ...         batch["1"], batch["2"] = "paid", "open"
        ...     for change in db.changes(start):
        ...         print(change.seq, change.items)
        1 ((b'1', b'open'),)
        2 ((b'1', b'paid'), (b'2', b'open'))
        """
        from lsmdbm.changes import changes_of, checked_position

        self._check_open()
        return changes_of(self._store.changes(checked_position(since)), self._check_open)

    def position(self) -> bytes:
        """Return the position of now, 32 bytes: `changes()` of it gives what is written from here on.

        Keep it, with what was copied of this moment; that of a `snapshot()` is safer for a copy.  It can be
        kept for as long as one likes, and used by any handle of the same database.

        Cost: a look at the newest log, or few of them.
        """
        return self._store.position()

    def refresh(self) -> None:
        """Move a read-only handle to the newest state that a writer in another process has left on disk.

        Without it, the handle stays at the moment it was opened; iterations under way stay at theirs.  Any
        other handle sees everything at once anyway.  Costs a listing of the directory if nothing has changed,
        and reading what was added to the log if no file is new; else reading the logs, at most some 16 MiB.

        Raises:
            NotFoundError: the database has been removed.
            CorruptionError: it cannot be read; the handle stays where it was.
        """
        self._store.refresh()

    def stats(self) -> Stats:
        """Return what the tree looks like and what it has done since it was opened."""
        return self._store.stats()

    def close(self) -> None:
        """Close the handle, its iterators and its snapshots; roll its transactions back.

        Twice is fine, and goes on where the first was interrupted.

        Durability: unless durability is `"none"`, everything written survives power loss on return.

        Raises:
            FailedError: writes that had returned may be lost.
        """
        self._stop()
        self._lease.release()

    def _stop(self) -> None:
        self._store = _CLOSED
        self._flows.stop()
        for moment in list(self._moments.values()):
            moment._end()

    def _close_unless_busy(self) -> bool:
        """Do what `close` does without waiting for anybody; False if somebody was in the way."""
        self._stop()
        return self._lease.release_unless_busy()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_store", _CLOSED) is _CLOSED:
            return
        try:
            warnings.warn(f"unclosed database {self.path!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            leave(self._close_unless_busy)  # waits for nobody: it may be in the middle of a write

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a database handle cannot be pickled: pass its path, and open it there")

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

    def _check_open(self) -> None:
        if self._store is _CLOSED:
            raise ClosedError

    def _position(self, seq: int) -> bytes:
        return self._store.position(seq)

    def _delete_range(self, start: bytes | None, stop: bytes | None) -> None:
        store = self._writable()
        if start is None and stop is None:
            store.clear()
        else:
            store.batch((), (), interval(start, stop))

    def _writable(self) -> Store:
        if self._is_read_only:
            self._check_open()
            raise ReadOnlyError
        return self._store
