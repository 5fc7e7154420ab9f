"""Handle: a database that somebody has open, but for its keys and values: its moments, its care, its end.

Rules
  1. No key and no value is looked at here: those are the mapping's, `Database`.
  2. A handle that is closed answers ClosedError to everything but close().

Thread safety: a handle may be used from any thread.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast
from weakref import WeakValueDictionary

from lsmdbm._base.errors import ClosedError, ReadOnlyError
from lsmdbm._base.leftovers import leave
from lsmdbm._base.paths import path_text
from lsmdbm._engine.sharing import Lease
from lsmdbm._engine.store import Store
from lsmdbm.ranges import Flows
from lsmdbm.retries import ATTEMPTS, retried
from lsmdbm.snapshot import Snapshot
from lsmdbm.transaction import Transaction

if TYPE_CHECKING:
    from lsmdbm._engine.check import Progress, Report
    from lsmdbm._engine.figures import Stats
    from lsmdbm.changes import Change

T = TypeVar("T")
H = TypeVar("H", bound="Handle")
M = TypeVar("M", Snapshot, Transaction)


class _Closed:
    """Stands in for the store of a closed handle (rule 2)."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # tools that look into modules, doctest's collector say, ask for such names
            raise AttributeError(name)
        raise ClosedError


_CLOSED = cast(Store, _Closed())


class Handle:
    """What a `Database` is besides a mapping."""

    __slots__ = ("__weakref__", "_flows", "_is_read_only", "_lease", "_moments", "_store", "path")

    def __init__(self, path: str, lease: Lease, *, is_read_only: bool) -> None:
        self.path = path
        self._lease = lease
        self._is_read_only = is_read_only
        self._flows = Flows()
        # By id: they have no hash.
        self._moments: WeakValueDictionary[int, Snapshot | Transaction] = WeakValueDictionary()
        self._store = cast(Store, lease.store)  # or a Reader, which does what "r" needs; last: see __del__

    def __repr__(self) -> str:
        state = "closed" if self._store is _CLOSED else "read-only" if self._is_read_only else "open"
        return f"<lsmdbm.Database {self.path!r}, {state}>"

    def _check_open(self) -> None:
        self._store.view.active  # noqa: B018 - ClosedError if the handle is closed, or this is the child of a fork

    def _writable(self) -> Store:
        if self._is_read_only:
            self._check_open()
            raise ReadOnlyError
        return self._store

    # -- moments ------------------------------------------------------------------------------------

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

    def _position(self, seq: int) -> bytes:
        return self._store.position(seq)

    # -- care ---------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Make everything written so far survive power loss.

        Cost: a sync of the log; of each log, where several are not durable yet.

        Raises:
            FailedError: it could not be done, and what is on disk is not known.
        """
        self._store.sync()

    def flush(self) -> None:
        """Write what is held in memory into tables.  The log already keeps it: this is never needed.

        Others write meanwhile.

        Raises:
            error: the system says no; what was written stays in memory and in the log.

        Durability: on return everything written before the call survives power loss.
        """
        self._writable().flush()

    def compact(self) -> None:
        """Merge all tables into one sorted level: smallest on disk, fastest to read.

        Others write meanwhile.  Cost: reads and writes everything once; on disk, old and new tables are there
        side by side until the end.

        Raises:
            error: the system says no, for want of space say; everything is as it was.

        Durability: on return everything written before the call survives power loss.
        """
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

        Cost: reads every table once, and holds the index and the filter of one.
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

        >>> import lsmdbm
        >>> from lsmdbm.bulk import TableWriter
        >>> with TableWriter("fruit.table") as writer:
        ...     writer.add("apple", "green")
        >>> with lsmdbm.open("words", "n") as db:
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
        """Return what the tree looks like and what it has done since it was opened.  Reads nothing."""
        return self._store.stats()

    # -- the end ------------------------------------------------------------------------------------

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

    def __enter__(self: H) -> H:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_store", _CLOSED) is _CLOSED:
            return
        if globals()["leave"] is None:  # the interpreter has ended, and emptied the modules that all rests on
            return
        try:
            warnings.warn(f"unclosed database {self.path!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            leave(self._close_unless_busy)  # waits for nobody: it may be in the middle of a write

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a database handle cannot be pickled: pass its path, and open it there")
