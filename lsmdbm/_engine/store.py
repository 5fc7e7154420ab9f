"""Store: the conductor.  Takes writes to log and memtable, hands out views, keeps the promises of sync.

    write    record to the log -> memtable -> position moves on -> now and then a turn of background work
    read     view.get; or seal what is active, and view.chunks
    sync     the logs, oldest first; the directory if a name in it is new; then a mark
    close    drop jobs, sync, mark the log, let go of everything

Rules
  1. `_ready` is False while a write is between log and memtable, and stays False if it was interrupted
     there.  Whoever takes the lock next makes memory follow the log first (heal).
  2. A call that raised took effect wholly or not at all.
  3. Background work never fails a write.  A failed sync or log write fails all writes from then on
     (FailedError), and reads go on.
  4. The lock knows its owner: a signal handler or finalizer that runs inside a write of its own thread
     is refused, where a plain lock would wait for ever.
  5. A key is taken out of `_dead` before it is written: a queue does not walk over the tombstones of what
     was taken from it again and again.

Thread safety: every public method may be called from any thread.  `get` takes no lock.
"""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from lsmdbm._base.chunk import Chunks
from lsmdbm._base.ending import EndingLock, Lock
from lsmdbm._base.errors import ClosedError, ConflictError, FailedError, error
from lsmdbm._base.intervals import Intervals
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Directory, File, Storage
from lsmdbm._engine.background import Job
from lsmdbm._engine.count import census
from lsmdbm._engine.dead import DeadRanges, watched
from lsmdbm._engine.draft import Draft
from lsmdbm._engine.group import Group
from lsmdbm._engine.ingest import Source
from lsmdbm._engine.install import synced
from lsmdbm._engine.jobs import Workshop
from lsmdbm._engine.mapped import mapper_for
from lsmdbm._engine.merge import visible
from lsmdbm._engine.moment import Moment, still_open
from lsmdbm._engine.names import Counter
from lsmdbm._engine.plan import Limits
from lsmdbm._engine.recovery import Recovered
from lsmdbm._engine.stats import Stats
from lsmdbm._engine.syncer import Syncer
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.tree import Tree
from lsmdbm._engine.validation import Footprint, conflict, is_quick
from lsmdbm._engine.view import AFTER_FORK, View
from lsmdbm._engine.wal import Wal
from lsmdbm._format import records
from lsmdbm._format.manifest import Manifest

M = TypeVar("M", bound=Moment)

QUANTUM = 16 << 10  # bytes of log between two turns of background work, at most,
TURNS = 16  # and at least so many turns a memtable
ENTRY_CHARGE = 32  # what an entry of a batch counts beyond its bytes: a put pays as much for its record
RANGE_CHARGE, RANGE_FACTOR = 4096, 8  # what a range deletion counts, beyond so many times its record: each
# may become a hole of many tables, and a manifest names all of them
SMALL_DEBT_BYTES = 1 << 20  # compactions up to this size are done when the first write of an opening had to
# flush: a program that opens the database anew for every write never pays by the byte
FLUSHED_AT_CLOSE = 8  # close() flushes if memory holds at least an eighth of a memtable: replaying 1 MiB of
# single puts takes 40 ms, at every opening, and each reader does it again
SLICE_BYTES = 1 << 20  # flush() and compact() let other threads in after this much work
ROUNDS = 3  # that a commit validates without the lock while much is written; then it keeps others out
SHOWN_BYTES = 80  # of a key that is named in an error
DURABILITIES = ("none", "process", "interval", "full")  # each promises what the ones before it do


class Store:
    """One database, open for writing.

    Args:
        storage: clock and randomness.
        directory: where the files are; owned from here on.
        lock: the writer lock; held until close().
        options: how to work.
        recovered: what the files hold.
    """

    def __init__(
        self, storage: Storage, directory: Directory, lock: File, options: Options, recovered: Recovered
    ) -> None:
        self.options = options
        self._storage = storage
        self._directory = directory
        self._lock_file = lock
        self._make_locks()
        self._tables = Tables(directory, options)
        counter = Counter(recovered.next_number, self._tables.make_room)
        self._wal = Wal(directory, storage, counter, recovered.next_seq, recovered.logs, recovered.prev)
        self._wal.mapper = mapper_for(options.log_io, directory)
        self._wal.buffered = options.durability == "none" and self._wal.mapper is None
        workshop = Workshop(storage, directory, counter, self._tables, options, Limits.of(options))
        self._tree = Tree(workshop, self._wal, recovered)
        self._recovered: Recovered | None = recovered  # until the first write
        self._failure: FailedError | None = None
        self._why_closed: tuple[str, ...] = ()  # unless by close()
        self._is_closed = False
        self._is_released = False
        self._dead = DeadRanges()  # rule 5
        self._snapshots: weakref.WeakSet[Moment] = weakref.WeakSet()
        self._ready = False  # rule 1
        self._quantum = min(QUANTUM, max(1, options.memtable_bytes // TURNS))
        self._room = self._quantum  # bytes of log until the next turn
        self._unsynced_since: float | None = None
        self._syncer: Syncer | None = None  # at "interval" alone
        self._group = Group()
        self._after_write = self._follow_up(options.durability)

    def _make_locks(self) -> None:
        self._lock: Lock = threading.RLock()
        self._sync_lock: Lock = threading.RLock()  # taken before the other one
        self._owned: Callable[[], bool] = getattr(self._lock, "_is_owned")  # noqa: B009 - not in the stubs
        self._sync_owned: Callable[[], bool] = getattr(self._sync_lock, "_is_owned")  # noqa: B009

    # -- reading ------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """What a read of this moment sees; its active memtable still grows."""
        return self._tree.view

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, None if there is none."""
        return self._tree.view.get(key)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of those keys that have one, as of now."""
        with self._exclusive():
            self._prepare_read()
            view = self._tree.view
            recent = view.recent(keys)
        return view.get_many(keys, recent)

    def refresh(self) -> None:
        """Do nothing: reads see the newest state."""
        self._check_open()

    def pin(self) -> View:
        """Return a view that nothing changes any more.  O(1), but for folding small memtables."""
        with self._exclusive():
            self._prepare_read()
            return self._tree.pin()

    def snapshot(self) -> Moment:
        """Return the moment of now, to be kept.  O(1), but for folding small memtables."""
        return self._kept(Moment)

    def transaction(self) -> Draft:
        """Return a draft over the moment of now.  O(1), but for folding small memtables."""
        return self._kept(Draft)

    def _kept(self, kind: type[M]) -> M:
        with self._exclusive():
            self._prepare_read()
            moment = kind(self._tree.pin(), self._give_back)
            self._snapshots.add(moment)
            return moment

    def _give_back(self) -> None:
        """Unlink the tables that a snapshot was the last to need."""
        if self._owned():
            return  # a handler inside a write; the next install does it
        with self._lock:
            if not self._is_closed and self._failed() is None:
                self._tables.collect()

    def chunks(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> Chunks:
        """Return the entries with `start <= key < stop`, as of now, as a stream of chunks."""
        with self._exclusive():
            self._prepare_read()
            view = self._tree.pin()
            seq, (low, high) = self._wal.seq, self._dead.narrowed(start, stop)
        if not view.may_delete():
            return view.merged(low, high, reverse=reverse, keys_only=keys_only)

        def remember(found: bytes | None, walked: int) -> None:
            if self._owned():
                return  # a handler inside a write
            with self._lock:
                if self._wal.seq == seq:  # nothing was written into the range meanwhile
                    self._dead.note(start, stop, found, walked, reverse=reverse)

        merged = view.merged(low, high, reverse=reverse, keys_only=keys_only)
        return visible(watched(merged, reverse, remember))

    def first(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> tuple[bytes, bytes] | None:
        """Return the first entry of a range, the last one if `reverse`; None if there is none."""
        with self._exclusive():
            self._prepare_read()
            return self._dead.first(self._tree.view, start, stop, reverse=reverse, keys_only=keys_only)

    def length(self) -> int:
        """Return the exact number of keys."""
        with self._exclusive():
            self._prepare_read()
            view = self._tree.pin()
        table_keys, total = census(view)  # may read for long: others go on meanwhile
        with self._exclusive():
            if not self._is_closed:
                self._tree.learn_count(view, table_keys, total)
        return total

    @property
    def is_closed(self) -> bool:
        """Whether the store answers nothing any more."""
        return self._is_closed

    @property
    def is_released(self) -> bool:
        """Whether the store has let go of everything, the writer lock included."""
        return self._is_released

    @property
    def manifest(self) -> Manifest:
        """What was installed last."""
        return self._tree.manifest

    def stats(self) -> Stats:
        """Return the figures of this moment."""
        with self._exclusive():
            self._check_open()
            return self._tree.stats(self._failed(), still_open(self._snapshots))

    # -- writing ------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> None:
        """Set one key."""
        if self._owned():  # rule 4
            raise _reentered()
        with self._lock:
            self._put(key, value)
            follow_up = self._after_write
            if follow_up is None:
                return
            seq = self._wal.seq
        follow_up(seq)

    def put_if_absent(self, key: bytes, value: bytes) -> bytes | None:
        """Set a key that is not there; return the value of one that is."""
        with self._exclusive():
            self._prepare_read()
            found = self._tree.view.get(key)
            if found is None:
                self._put(key, value)
            seq = self._wal.seq
        self._settle(seq)
        return found

    def change(self, key: bytes, change: Callable[[bytes | None], bytes]) -> bytes:
        """Set a key to what a function makes of its value, None if it has none; return that.

        If the function raises, nothing is written.
        """
        with self._exclusive():
            self._prepare_read()
            value = change(self._tree.view.get(key))
            self._put(key, value)
            seq = self._wal.seq
        self._settle(seq)
        return value

    def take(self, key: bytes) -> bytes | None:
        """Delete a key and return its value; None, and nothing is written, if it is not there."""
        with self._exclusive():
            self._prepare_read()
            found = self._tree.view.get(key)
            if found is not None:
                self._delete(key)
            seq = self._wal.seq
        self._settle(seq)
        return found

    def take_first(self) -> tuple[bytes, bytes] | None:
        """Delete the smallest key and return its entry; None if there is none."""
        with self._exclusive():
            self._prepare_read()
            found = self._dead.first(self._tree.view)
            if found is not None:
                self._delete(found[0])
            seq = self._wal.seq
        self._settle(seq)
        return found

    def batch(self, keys: Sequence[bytes], values: Sequence[bytes | None], ranges: Intervals = ()) -> None:
        """Delete what is in some ranges, then set many keys, all or nothing; None deletes.

        The keys are unique, in any order.  What is in the ranges costs the same, however much it is.
        """
        if not keys and not ranges:
            return
        with self._exclusive():
            self._prepare_write()
            self._batch(keys, values, ranges)
            seq = self._wal.seq
        self._settle(seq)

    def commit(self, draft: Draft) -> None:
        """Write the changes of a draft, all or nothing, unless what it rests on has changed.

        A draft without changes rests on its moment alone, and is never in conflict.

        Raises:
            ConflictError: something was changed that the draft has read or written; nothing is written.
        """
        changes = draft.changes()
        if not changes:
            return
        footprint = draft.footprint()
        valid = self._valid_without_lock(footprint, draft.base)
        with self._exclusive():
            self._prepare_write()
            if self._wal.seq != valid.active.first_seq:
                _check_conflict(footprint, valid, self._tree.view)
            self._batch([*changes], [*changes.values()])
            seq = self._wal.seq
        self._settle(seq)

    def _valid_without_lock(self, footprint: Footprint, then: View) -> View:
        """Return a view that agrees with an older one, if can be so new that the rest is quick.

        Comparing long intervals would keep other threads waiting if it were done under the lock.
        """
        for _ in range(ROUNDS):
            if is_quick(footprint, then, self._tree.view):
                break
            now = self.pin()
            _check_conflict(footprint, then, now)
            then = now
        return then

    def clear(self) -> None:
        """Delete everything, at constant cost."""
        with self._exclusive():
            self._prepare_write()
            self._tree.background.drop_all()
            is_much = self._tree.has_much_on_disk()
            self._ready = False
            length = self._wal.clear()
            self._tree.forget_everything()
            self._wal.advance(length, 1)
            self._ready = True
            if is_much:
                self._in_background(self._tree.install_empty_memory)
            seq = self._wal.seq
        self._settle(seq)

    def ingest(self, sources: Sequence[Source]) -> None:
        """Set the keys of tables that were built elsewhere, given oldest first, all or nothing.

        On return they survive power loss, and so does everything written before.  Other threads wait.
        """
        if not sources:
            return
        with self._exclusive(), self._noting_failure():
            self._prepare_write()
            self._dead = DeadRanges()
            self._ready = False
            self._tree.ingest(sources)
            self._ready = True
            owed = min(sum(source.meta.raw_bytes for source in sources), self.options.memtable_bytes)
            self._in_background(lambda: self._tree.pay(owed))

    def _put(self, key: bytes, value: bytes) -> None:
        if not self._ready:
            self._prepare_write()
        dead = self._dead
        if dead.low <= key < dead.high:
            dead.revive(key)
        self._ready = False
        wal = self._wal
        length = wal.put(key, value)
        self._tree.view.active.entries[key] = value
        wal.advance(length, 1)
        self._ready = True
        self._room -= length
        if self._room < 0:
            self._turn()

    def _batch(self, keys: Sequence[bytes], values: Sequence[bytes | None], ranges: Intervals = ()) -> None:
        self._dead.revive_all(keys)
        self._ready = False
        wal = self._wal
        length = wal.ranges(ranges, keys, values) if ranges else wal.batch(keys, values)
        self._apply(keys, values, ranges)
        wal.advance(length, len(keys) + len(ranges))
        self._ready = True
        charge = RANGE_FACTOR * length + RANGE_CHARGE * len(ranges) if ranges else length
        self._account(charge + ENTRY_CHARGE * len(keys))

    def _apply(self, keys: Sequence[bytes], values: Sequence[bytes | None], ranges: Intervals) -> None:
        if ranges:
            self._tree.void(ranges, keys, values)
        else:
            active = self._tree.view.active
            active.deletes = active.deletes or None in values
            active.update(keys, values)

    def _delete(self, key: bytes) -> None:
        self._prepare_write()
        self._ready = False
        length = self._wal.delete(key)
        active = self._tree.view.active
        active.deletes = True
        active.entries[key] = None
        self._wal.advance(length, 1)
        self._ready = True
        self._account(length)

    # -- before a write -----------------------------------------------------------------------------

    def _exclusive(self) -> AbstractContextManager[object]:
        """Return the lock, for a `with`; a generator around it could be interrupted between lock and body."""
        if self._owned():  # rule 4
            raise _reentered()
        return self._lock

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError(*self._why_closed)

    def _failed(self) -> FailedError | None:
        """Return what has ended all writing, if anything has."""
        self._failure = self._failure or self._wal.failure
        return self._failure

    def _prepare_read(self) -> None:
        self._check_open()
        if not self._ready and self._failed() is None:
            self._heal()

    def _prepare_write(self) -> None:
        if self._ready:
            return
        self._check_open()
        self._check_failed()
        if self._recovered is not None:
            self._begin(self._recovered)
            self._check_failed()
        self._heal()
        with self._noting_failure():
            self._tree.settle_ingest()
        if self._tree.is_stalled():
            with self._noting_failure():
                self._tree.flush_now()  # raises why flushing fails, before anything is written
        self._ready = True

    def _check_failed(self) -> None:
        failure = self._failed()
        if failure is not None:
            raise FailedError(
                failure.errno, f"writing has failed before: {failure.strerror}", failure.filename
            )

    def _begin(self, recovered: Recovered) -> None:
        """Do what the first write of an opening owes to what recovery found."""
        if recovered.is_unsettled:
            with self._noting_failure():
                if recovered.is_suspect:  # its opening may not have come to this, at creation the last step
                    synced(lambda: self._storage.sync_parent(self._directory.path))
                self._tree.flush_now()
        self._tree.collect_garbage()
        self._recovered = None
        if recovered.is_unsettled:
            self._in_background(lambda: self._tree.background.work_off_small(SMALL_DEBT_BYTES))

    def _heal(self) -> None:
        """Make memory follow the log wherever a write was interrupted.  Idempotent."""
        record = self._wal.unapplied()
        if record is not None:
            change = records.decode_change(record)
            if change.clears:
                self._tree.forget_everything()
            self._apply(change.keys, change.values, change.ranges)
            self._wal.advance(record.end - record.offset, record.count)

    def collect_garbage(self) -> None:
        """Unlink the files of ours that the live set does not need."""
        self._tree.collect_garbage()

    # -- after a write ------------------------------------------------------------------------------

    def _account(self, charge_bytes: int) -> None:
        self._room -= charge_bytes
        if self._room < 0:
            self._turn()

    def _turn(self) -> None:
        """Account for what was written, and have debts worked off."""
        written = self._quantum - self._room
        self._room = self._quantum
        self._tree.view.active.charge += written
        self._in_background(lambda: self._tree.pay(written))

    def _in_background(self, work: Callable[[], None]) -> None:
        """Do something that must not fail the write that pays for it (rule 3)."""
        try:
            work()
        except FailedError as exc:
            self._fail(exc)
        except error as exc:
            self._tree.background.note(exc)
        if self._tree.is_stalled():
            self._ready = False  # the next write has to flush first

    def _fail(self, exc: FailedError) -> None:
        self._failure = self._failure or exc  # what came first is why
        self._ready = False

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except FailedError as exc:
            self._fail(exc)
            raise

    def strengthen(self, options: Options) -> None:
        """Keep from now on what another handle was promised too, if that is more."""
        mine = self.options
        durability = max(mine.durability, options.durability, key=DURABILITIES.index)
        intervals = [each.sync_interval for each in (mine, options) if each.durability == "interval"]
        stronger = dataclasses.replace(
            mine, durability=durability, sync_interval=min(intervals, default=mine.sync_interval)
        )
        if stronger == mine:
            return
        with self._exclusive(), self._noting_failure():
            self._prepare_read()
            if self._failure is None:
                self._wal.drain()
            self._wal.buffered = False
            self.options = stronger
            self._after_write = self._follow_up(durability)

    def _follow_up(self, durability: str) -> Callable[[int], None] | None:
        """Return what a write does when the lock is free again; it is told the sequence behind its own."""
        if durability == "interval":
            interval = self.options.sync_interval
            if self._syncer is None:
                self._syncer = Syncer(self._storage, self._sync_overdue, interval)
            elif interval < self._syncer.interval:
                self._syncer.interval = interval
                self._syncer.wake()
        if durability == "none" and not self._wal.buffered:
            return None
        return {"none": self._drain_if_due, "interval": self._sync_if_due, "full": self._sync_written}.get(
            durability
        )

    def _settle(self, seq: int) -> None:
        if self._after_write is not None:
            self._after_write(seq)

    def _drain_if_due(self, seq: int) -> None:
        with self._exclusive(), self._noting_failure():
            self._prepare_read()
            if self._failure is None and self._wal.is_buffer_due():
                self._wal.drain()

    def _sync_if_due(self, seq: int) -> None:
        now = self._storage.monotonic()
        if self._unsynced_since is None:
            if self._syncer is not None:
                self._syncer.wake()  # first
            self._unsynced_since = now
        if now - self._unsynced_since >= self.options.sync_interval:
            self._sync_written(seq)

    def _sync_overdue(self) -> float | None:
        """Sync what has waited for an interval; return how long the rest has to wait, None if nothing has."""
        since = self._unsynced_since
        if since is None or self._is_closed or self._failed() is not None:
            return None
        left = since + self.options.sync_interval - self._storage.monotonic()
        if left <= 0:
            self._sync_written(self._wal.seq)
        return left if left > 0 else None

    # -- flush and compact --------------------------------------------------------------------------

    def flush(self) -> None:
        """Write all there is in memory into tables."""
        background = self._tree.background
        self._see_through(self._tree.start_flush, lambda: background.flushing)

    def compact(self) -> None:
        """Merge everything into one sorted level without tombstones."""
        self.flush()
        background = self._tree.background
        self._see_through(self._tree.start_compaction, lambda: background.compacting)

    def _see_through(self, start: Callable[[], bool], current: Callable[[], Job | None]) -> None:
        """Start a job and see it through, in slices between which other threads may write."""
        job: Job | None = None
        while job is None or job.outputs is None or current() is job:
            with self._exclusive(), self._noting_failure():
                self._prepare_write()
                if job is None or current() is not job:  # or a write of another thread saw it fail
                    job = current() if start() else None
                if job is None:
                    return
                self._tree.background.work(job, SLICE_BYTES)

    # -- durability ---------------------------------------------------------------------------------

    def sync(self) -> None:
        """Make everything written so far survive power loss."""
        self._sync()

    def _sync_written(self, seq: int) -> None:
        """Make the writes below a sequence survive power loss, if another thread's sync does not do so."""
        wal = self._wal
        if not self._sync_owned():
            self._group.wait(lambda: seq <= wal.durable_seq)
        if seq > wal.durable_seq:
            self._sync(seq)

    def _sync(self, seq: int | None = None) -> None:
        """Sync the logs.

        Args:
            seq: what has to be durable ends before it; None for everything, and for a mark behind it.
        """
        with self._exclusive_sync(), self._group, self._noting_failure():
            with self._lock:
                self._prepare_sync()
                if seq is not None and seq <= self._wal.durable_seq:
                    return
                self._unsynced_since = None
                if seq is not None and self._wal.is_durable():
                    return
                target = self._wal.target()
            try:
                target.sync()
            except Exception:  # which is final
                raise
            except BaseException:
                with self._lock:
                    self._tree.background.drop_all()  # their files may have lost their names for good
                raise
            with self._lock:
                self._wal.note_durable(target, mark=seq is None)

    def _prepare_sync(self) -> None:
        """Put into tables what no sync of its log makes durable any more."""
        self._prepare_read()
        has_suspects = self._wal.has_suspects()
        is_built_on = self._recovered is not None and self._recovered.is_suspect
        if has_suspects or is_built_on or self._tree.is_unsettled or self._failure is not None:
            self._prepare_write()
        if has_suspects:
            self._tree.flush_now()

    def _exclusive_sync(self) -> AbstractContextManager[object]:
        """Return the other lock.  One sync at a time: the kernel tells a write-back error only once."""
        if self._sync_owned() or self._owned():  # rule 4
            raise _reentered()
        return self._sync_lock

    def close(self) -> None:
        """Sync, unless durability is "none", and let go of everything.  Interrupted, it can be called again.

        Raises:
            FailedError: writes that had returned may be lost.
        """
        with self._exclusive_sync(), self._exclusive():
            if self._is_closed:
                self._release()
                return
            self._tree.background.drop_all()
            try:
                self._prepare_read()
                if self._failure is None and self._is_log_long():
                    self._in_background(self._tree.flush_now)
                if self._failure is None:
                    self._close_log()
                elif not self._wal.is_durable():
                    raise FailedError(self._failure.errno, "closed after a failure: writes may be lost")
            except Exception:  # not an interruption: after that, a second call does it all
                self._end()
                raise
            self._end()

    def _is_log_long(self) -> bool:
        """Return whether every opening to come would pay for a log that one flush makes superfluous."""
        options = self.options
        limit = options.memtable_bytes / FLUSHED_AT_CLOSE
        is_ours = self._recovered is None and options.background != "manual"
        return is_ours and self._tree.unflushed_bytes() + self._quantum - self._room >= limit

    def _end(self) -> None:
        self._is_closed, self._ready = True, False
        self._release()

    def _close_log(self) -> None:
        self._tree.settle_ingest()
        if self.options.durability == "none":
            self._wal.drain()
        elif self._wal.number or self._wal.has_files():
            if self._wal.has_suspects():
                self._tree.flush_now()
            target = self._wal.target()
            target.sync()
            self._wal.note_durable(target, mark=True)
        self._wal.end_mapping()
        if self._recovered is None or not self._recovered.is_unsettled:
            self._remember_count()
        self._tables.collect()  # what a read, or the opening itself, needed when it was retired

    def _remember_count(self) -> None:
        try:
            self._tree.remember_count()
        except error:
            pass  # nothing of what was written rests on it; the next opening counts again

    def _release(self) -> None:
        if self._syncer is not None:
            self._syncer.stop()
        self._tree.background.end()
        self._tree.let_go(*self._why_closed)
        for moment in list(self._snapshots):
            moment.close(*self._why_closed)
        self._wal.close()
        self._tables.close()
        self._directory.close()
        self._lock_file.close()  # the lock goes last
        self._is_released = True

    def expect_end(self) -> None:
        """Be ready for an interpreter that stops threads in the middle of a write: this is its exit."""
        if self._syncer is not None:
            self._syncer.stop_and_wait()
        self._tree.background.expect_end()
        self._lock, self._sync_lock = EndingLock(self._lock), EndingLock(self._sync_lock)

    def die(self) -> None:
        """Be of no use any more: this is the child of a fork.  Nothing is written and nothing unlocked."""
        self._make_locks()
        self._syncer = None  # its thread is not here, which may have held the lock of its queue
        self._tables.die()
        self._why_closed = (AFTER_FORK,)
        self._end()


def _check_conflict(footprint: Footprint, then: View, now: View) -> None:
    key = conflict(footprint, then, now)
    if key is not None:
        shown = key[:SHOWN_BYTES] + b"..." if len(key) > SHOWN_BYTES else key
        raise ConflictError(f"{shown!r} was changed after the transaction had begun")


def _reentered() -> RuntimeError:
    return RuntimeError(
        "the database is in use by this very thread: called from a signal handler or finalizer?"
    )
