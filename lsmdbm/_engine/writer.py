"""Writer: one write after the other, each to the log and to memory, and what an interrupted one has left.

    write    record to the log -> memtable -> position moves on -> now and then a turn of background work
    heal     the record of a write that was interrupted there -> memtable -> position moves on

Rules
  1. `_ready` is False while a write is between log and memtable, and stays False if it was interrupted
     there.  Whoever takes the lock next makes memory follow the log first (heal).
  2. A call that raised took effect wholly or not at all.
  3. Background work never fails a write.  A failed sync or log write fails all writes from then on
     (FailedError), and reads go on.
  4. The lock knows its owner: a signal handler or finalizer that runs inside a write of its own thread
     is refused, where a plain lock would wait for ever.
  5. A key is taken out of `dead` before it is written: a queue does not walk over the tombstones of what
     was taken from it again and again.

Thread safety: under `lock`, but for `exclusive`, which returns it, and `failed`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from lsmdbm._base.ending import Lock, owner_test
from lsmdbm._base.errors import ClosedError, FailedError, error
from lsmdbm._base.intervals import Intervals
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Directory, Storage
from lsmdbm._engine.dead import DeadRanges
from lsmdbm._engine.ingest import Source
from lsmdbm._engine.install import synced
from lsmdbm._engine.recovery import Recovered
from lsmdbm._engine.tree import Tree
from lsmdbm._engine.wal import Target, Wal
from lsmdbm._format import records

QUANTUM = 16 << 10  # bytes of log between two turns of background work, at most,
TURNS = 16  # and at least so many turns a memtable
ENTRY_CHARGE = 32  # what an entry of a batch counts beyond its bytes: a put pays as much for its record
RANGE_CHARGE, RANGE_FACTOR = 4096, 8  # what a range deletion counts, beyond so many times its record: each
# may become a hole of many tables, and a manifest names all of them
SMALL_DEBT_BYTES = 1 << 20  # compactions up to this size are done when the first write of an opening had to
# flush: a program that opens the database anew for every write never pays by the byte
FLUSHED_AT_CLOSE = 8  # close() flushes if memory holds at least an eighth of a memtable: replaying 1 MiB of
# single puts takes 40 ms, at every opening, and each reader does it again


class Writer:
    """Takes the writes of one store.

    Args:
        storage: syncs the name of the database, where its creation was cut off.
        directory: where the files are.
        wal: the log.
        tree: what is live.
        options: how to work; what is said there of durability does not matter here.
        recovered: what the files hold.

    Attributes:
        recovered: the same, until the first write; then None.
        dead: ranges known to hold no live key.
        is_closed: whether nothing is answered any more.
        why_closed: unless that was by close().
    """

    def __init__(
        self,
        storage: Storage,
        directory: Directory,
        wal: Wal,
        tree: Tree,
        options: Options,
        recovered: Recovered,
    ) -> None:
        self.wal = wal
        self.tree = tree
        self.recovered: Recovered | None = recovered
        self.dead = DeadRanges()  # rule 5
        self.is_closed = False
        self.why_closed: tuple[str, ...] = ()
        self.make_lock()
        self._storage = storage
        self._directory = directory
        self._options = options
        self._failure: FailedError | None = None
        self._ready = False  # rule 1
        self._quantum = min(QUANTUM, max(1, options.memtable_bytes // TURNS))
        self._room = self._quantum  # bytes of log until the next turn

    # -- the lock -----------------------------------------------------------------------------------

    def make_lock(self) -> None:
        """Forget whoever holds the lock."""
        self.lock: Lock = threading.RLock()
        self.owned = owner_test(self.lock)

    def exclusive(self) -> AbstractContextManager[object]:
        """Return the lock, for a `with`; a generator around it could be interrupted between lock and body."""
        if self.owned():  # rule 4
            raise reentered()
        return self.lock

    # -- one write ----------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> None:
        """Set one key."""
        if not self._ready:
            self.prepare_write()
        dead = self.dead
        if dead.low <= key < dead.high:
            dead.revive(key)
        self._ready = False
        wal = self.wal
        length = wal.put(key, value)
        self.tree.view.active.entries[key] = value
        wal.advance(length, 1)
        self._ready = True
        self._room -= length
        if self._room < 0:
            self._turn()

    def delete(self, key: bytes) -> None:
        """Delete one key."""
        self.prepare_write()
        self._ready = False
        length = self.wal.delete(key)
        active = self.tree.view.active
        active.deletes = True
        active.entries[key] = None
        self.wal.advance(length, 1)
        self._ready = True
        self._account(length)

    def batch(self, keys: Sequence[bytes], values: Sequence[bytes | None], ranges: Intervals = ()) -> None:
        """Delete what is in some ranges, then set keys; None deletes.  `prepare_write` came last."""
        self.dead.revive_all(keys)
        self._ready = False
        wal = self.wal
        length = wal.ranges(ranges, keys, values) if ranges else wal.batch(keys, values)
        self._apply(keys, values, ranges)
        wal.advance(length, len(keys) + len(ranges))
        self._ready = True
        charge = RANGE_FACTOR * length + RANGE_CHARGE * len(ranges) if ranges else length
        self._account(charge + ENTRY_CHARGE * len(keys))

    def clear(self) -> None:
        """Delete everything, at constant cost."""
        self.prepare_write()
        self.tree.background.drop_all()
        is_much = self.tree.has_much_on_disk()
        self._ready = False
        length = self.wal.clear()
        self.tree.forget_everything()
        self.wal.advance(length, 1)
        self._ready = True
        if is_much:
            self.in_background(self.tree.install_empty_memory)

    def ingest(self, sources: Sequence[Source]) -> None:
        """Set the keys of tables that were built elsewhere, given oldest first, all or nothing."""
        self.prepare_write()
        self.dead = DeadRanges()
        self._ready = False
        self.tree.ingest(sources)
        self._ready = True
        owed = min(sum(source.meta.raw_bytes for source in sources), self._options.memtable_bytes)
        self.in_background(lambda: self.tree.pay(owed))

    def _apply(self, keys: Sequence[bytes], values: Sequence[bytes | None], ranges: Intervals) -> None:
        if ranges:
            self.tree.void(ranges, keys, values)
        else:
            active = self.tree.view.active
            active.deletes = active.deletes or None in values
            active.update(keys, values)

    # -- before it ----------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise ClosedError if nothing is answered any more."""
        if self.is_closed:
            raise ClosedError(*self.why_closed)

    def failed(self) -> FailedError | None:
        """Return what has ended all writing, if anything has."""
        self._failure = self._failure or self.wal.failure
        return self._failure

    def prepare_read(self) -> None:
        """Make memory follow the log."""
        self.check_open()
        if not self._ready and self.failed() is None:
            self._heal()

    def prepare_write(self) -> None:
        """Make memory follow the log, and settle what has to be settled before the next record."""
        if self._ready:
            return
        self.check_open()
        self._check_failed()
        if self.recovered is not None:
            self._begin(self.recovered)
            self._check_failed()
        self._heal()
        with self.noting_failure():
            self.tree.settle_ingest()
        if self.tree.is_stalled():
            with self.noting_failure():
                self.tree.flush_now()  # raises why flushing fails, before anything is written
        self._ready = True

    def prepare_sync(self) -> None:
        """Put into tables what no sync of its log makes durable any more."""
        self.prepare_read()
        has_suspects = self.wal.has_suspects()
        if has_suspects or self._failure is not None:
            self.prepare_write()
        self.settle()
        if has_suspects:
            self.tree.flush_now()

    def settle(self) -> None:
        """Install what is there, if nobody knows whether the next opening would find it."""
        is_built_on = self.recovered is not None and self.recovered.is_suspect
        if is_built_on or self.tree.is_unsettled:
            self.prepare_write()

    def note_durable(self, target: Target, *, mark: bool) -> None:
        """Take note that `target` was synced; see Wal."""
        was_ready, self._ready = self._ready, False  # interrupted, it may have left a mark to be looked for
        self.wal.note_durable(target, mark=mark)
        self._ready = was_ready

    def write_out(self) -> None:
        """Have everything that was written in the files of the logs.

        Raises:
            FailedError: writing has failed before, and nobody knows what is in them.
        """
        self.prepare_read()
        self._check_failed()
        self.wal.drain()

    def _check_failed(self) -> None:
        failure = self.failed()
        if failure is not None:
            raise FailedError(
                failure.errno, f"writing has failed before: {failure.strerror}", failure.filename
            )

    def _begin(self, recovered: Recovered) -> None:
        """Do what the first write of an opening owes to what recovery found."""
        if recovered.is_unsettled:
            with self.noting_failure():
                if recovered.is_suspect:  # its opening may not have come to this, at creation the last step
                    synced(lambda: self._storage.sync_parent(self._directory.path))
                self.tree.flush_now()
        self.tree.collect_garbage()
        self.recovered = None
        if recovered.is_unsettled:
            self.in_background(lambda: self.tree.background.work_off_small(SMALL_DEBT_BYTES))

    def _heal(self) -> None:
        """Make memory follow the log wherever a write was interrupted.  Idempotent."""
        record = self.wal.unapplied()
        if record is not None:
            change = records.decode_change(record)
            if change.clears:
                self.tree.forget_everything()
            self._apply(change.keys, change.values, change.ranges)
            self.wal.advance(record.end - record.offset, record.count)

    # -- after it -----------------------------------------------------------------------------------

    def _account(self, charge_bytes: int) -> None:
        self._room -= charge_bytes
        if self._room < 0:
            self._turn()

    def _turn(self) -> None:
        """Account for what was written, and have debts worked off."""
        written = self._quantum - self._room
        self._room = self._quantum
        self.tree.view.active.charge += written
        self.in_background(lambda: self.tree.pay(written))

    def in_background(self, work: Callable[[], None]) -> None:
        """Do something that must not fail the write that pays for it (rule 3)."""
        try:
            work()
        except FailedError as exc:
            self._fail(exc)
        except error as exc:
            self.tree.background.note(exc)
        if self.tree.is_stalled():
            self._ready = False  # the next write has to flush first

    def _fail(self, exc: FailedError) -> None:
        self._failure = self._failure or exc  # what came first is why
        self._ready = False

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Let no write happen after a FailedError that comes out of the body."""
        try:
            yield
        except FailedError as exc:
            self._fail(exc)
            raise

    def is_log_long(self) -> bool:
        """Return whether every opening to come would pay for a log that one flush makes superfluous."""
        options = self._options
        limit = options.memtable_bytes / FLUSHED_AT_CLOSE
        is_ours = self.recovered is None and options.background != "manual"
        return is_ours and self.tree.unflushed_bytes() + self._quantum - self._room >= limit

    def end(self) -> None:
        """Answer nothing any more."""
        self.is_closed, self._ready = True, False


def reentered() -> RuntimeError:
    """Return the error of a call that came from inside another one of its own thread."""
    return RuntimeError(
        "the database is in use by this very thread: called from a signal handler or finalizer?"
    )
