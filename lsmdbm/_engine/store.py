"""Store: the conductor.  Takes writes to log and memtable, hands out views, has debts worked off.

    write    record to the log -> memtable -> position moves on -> now and then a turn of background work
    read     view.get; or seal what is active, and view.chunks
    flush    seal, rotate the log, write tables, install, forget the logs
    close    drop jobs, sync, mark the log, let go of everything

Rules
  1. `_ready` is False while a write is between log and memtable, and stays False if it was interrupted
     there.  Whoever takes the lock next makes memory follow the log first (heal).
  2. A call that raised took effect wholly or not at all.
  3. Background work never fails a write.  A failed sync or log write fails all writes from then on
     (FailedError), and reads go on.
  4. The lock knows its owner: a signal handler or finalizer that runs inside a write of its own thread
     is refused, where a plain lock would wait for ever.

Thread safety: every public method may be called from any thread.  `get` takes no lock.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lsmdbm._base.chunk import Chunks
from lsmdbm._base.errors import ClosedError, FailedError, error
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Directory, File, Storage
from lsmdbm._engine.background import Background, Job
from lsmdbm._engine.count import Count
from lsmdbm._engine.install import Installer
from lsmdbm._engine.jobs import Workshop
from lsmdbm._engine.memtable import Memtable, fold_newest
from lsmdbm._engine.names import MANIFEST, TABLE, WAL, file_name, parse
from lsmdbm._engine.names import Counter as Numbers
from lsmdbm._engine.picker import Limits, Plan
from lsmdbm._engine.recovery import Recovered
from lsmdbm._engine.stats import Stats, Totals, gather
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.version import Version
from lsmdbm._engine.view import View
from lsmdbm._engine.wal import Wal
from lsmdbm._format import records
from lsmdbm._format.manifest import TableMeta

QUANTUM = 16 << 10  # bytes of log between two turns of background work
ENTRY_CHARGE = 32  # what an entry of a batch counts beyond its bytes: a put pays as much for its record
SLICE_BYTES = 1 << 20  # flush() and compact() let other threads in after this much work
STALL_MEMTABLES = 4  # so many memtables of unflushed writes are taken while flushes fail


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
        self._numbers = Numbers(recovered.next_number)
        self._tables = Tables(directory, options)
        self._wal = Wal(
            directory, storage, self._numbers, recovered.next_seq, recovered.logs, recovered.prev
        )
        self._wal.buffered = options.durability == "none"
        self._installer = Installer(directory, self._numbers, recovered.manifest)
        self._workshop = Workshop(
            storage, directory, self._numbers, self._tables, options, Limits.of(options)
        )
        self._background = Background(
            self._workshop, lambda: self.view.version, self._install_flush, self._install_compaction
        )
        self._count = Count(0 if recovered.is_cleared else recovered.manifest.live_count)
        self._totals = Totals()
        self._recovered: Recovered | None = recovered  # until the first write
        self._failure: FailedError | None = None
        self._is_closed = False
        self._ready = False  # rule 1
        self._room = self._room_charged = QUANTUM
        self._unsynced_since: float | None = None
        sealed = (recovered.memtable,) if recovered.memtable.entries else ()
        version = self._tables.track(recovered.version)
        self.view = View(Memtable(recovered.next_seq), sealed, version, self._tables)
        self._active = self.view.active
        self._after_write = self._follow_up(options.durability)

    def _make_locks(self) -> None:
        self._lock = threading.RLock()
        self._sync_lock = threading.RLock()  # taken before the other one
        self._owned: Callable[[], bool] = getattr(self._lock, "_is_owned")  # noqa: B009 - not in the stubs
        self._sync_owned: Callable[[], bool] = getattr(self._sync_lock, "_is_owned")  # noqa: B009

    # -- reading ------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, None if there is none."""
        return self.view.get(key)

    def pin(self) -> View:
        """Return a view that nothing changes any more.  O(1), but for folding small memtables."""
        with self._exclusive():
            self._prepare_read()
            return self._seal()

    def chunks(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> Chunks:
        """Return the entries with `start <= key < stop`, as of now, as a stream of chunks."""
        return self.pin().chunks(start, stop, reverse=reverse, keys_only=keys_only)

    def first(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> tuple[bytes, bytes] | None:
        """Return the first entry of a range, the last one if `reverse`; None if there is none."""
        with self._exclusive():
            self._prepare_read()
            return self.view.first(start, stop, reverse=reverse, keys_only=keys_only)

    def length(self) -> int:
        """Return the exact number of keys."""
        with self._exclusive():
            self._prepare_read()
            return self._count.exact(self._seal())

    # -- writing ------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> None:
        """Set one key."""
        if self._owned():  # rule 4
            raise _reentered()
        with self._lock:
            self._put(key, value)
        if self._after_write is not None:
            self._after_write()

    def put_if_absent(self, key: bytes, value: bytes) -> bytes | None:
        """Set a key that is not there; return the value of one that is."""
        with self._exclusive():
            self._prepare_read()
            found = self.view.get(key)
            if found is None:
                self._put(key, value)
        self._settle()
        return found

    def take(self, key: bytes) -> bytes | None:
        """Delete a key and return its value; None, and nothing is written, if it is not there."""
        with self._exclusive():
            self._prepare_read()
            found = self.view.get(key)
            if found is not None:
                self._delete(key)
        self._settle()
        return found

    def take_first(self) -> tuple[bytes, bytes] | None:
        """Delete the smallest key and return its entry; None if there is none."""
        with self._exclusive():
            self._prepare_read()
            found = self.view.first(None, None)
            if found is not None:
                self._delete(found[0])
        self._settle()
        return found

    def batch(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Set many keys, all or nothing; None deletes.  The keys are unique, in any order."""
        if not keys:
            return
        with self._exclusive():
            self._prepare_write()
            self._ready = False
            length = self._wal.batch(keys, values)
            self._active.deletes = self._active.deletes or None in values
            self._active.update(keys, values)
            self._wal.advance(length, len(keys))
            self._ready = True
            self._room -= length + ENTRY_CHARGE * len(keys)
            if self._room < 0:
                self._turn()
        self._settle()

    def clear(self) -> None:
        """Delete everything, at constant cost."""
        with self._exclusive():
            self._prepare_write()
            self._background.drop_all()
            is_large = bool(self._installer.current.levels) or self._wal.log_count() > 1
            self._ready = False
            length = self._wal.clear()
            self._forget_everything()
            self._wal.advance(length, 1)
            self._ready = True
            if is_large or self._wal.position[0] > self.options.memtable_bytes:
                self._in_background(self._install_nothing)
        self._settle()

    def _put(self, key: bytes, value: bytes) -> None:
        if not self._ready:
            self._prepare_write()
        self._ready = False
        wal = self._wal
        length = wal.put(key, value)
        self._active.entries[key] = value
        wal.advance(length, 1)
        self._ready = True
        self._room -= length
        if self._room < 0:
            self._turn()

    def _delete(self, key: bytes) -> None:
        if not self._ready:
            self._prepare_write()
        self._ready = False
        length = self._wal.delete(key)
        self._active.deletes = True
        self._active.entries[key] = None
        self._wal.advance(length, 1)
        self._ready = True
        self._room -= length
        if self._room < 0:
            self._turn()

    def _forget_everything(self) -> None:
        """What a clear() does to memory."""
        active = Memtable(self._wal.seq + 1)
        self.view = View(active, (), self._tables.track(Version()), self._tables)
        self._active = active
        self._room = self._room_charged = QUANTUM
        self._count.cleared()

    # -- before and after a write -------------------------------------------------------------------

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._owned():  # rule 4
            raise _reentered()
        with self._lock:
            yield

    @contextmanager
    def _exclusive_sync(self) -> Iterator[None]:
        """One sync at a time: the kernel tells a write-back error only once."""
        if self._sync_owned() or self._owned():  # rule 4
            raise _reentered()
        with self._sync_lock:
            yield

    def _prepare_read(self) -> None:
        if self._is_closed:
            raise ClosedError
        if not self._ready and self._failure is None:
            self._heal()

    def _prepare_write(self) -> None:
        if self._ready:
            return
        if self._is_closed:
            raise ClosedError
        failure = self._failure or self._wal.failure
        if failure is not None:
            self._failure = failure
            raise FailedError(failure.errno, f"writing has failed before: {failure.strerror}", failure.filename)
        if self._recovered is not None:
            self._begin(self._recovered)
        self._heal()
        if self._is_stalled():
            with self._noting_failure():
                self._flush_everything()  # raises why flushing fails, before anything is written
        self._ready = True

    def _is_stalled(self) -> bool:
        in_memory = self._active.charge + sum(memtable.charge for memtable in self.view.sealed)
        return self._background.trouble is not None and in_memory > STALL_MEMTABLES * self.options.memtable_bytes

    def _begin(self, recovered: Recovered) -> None:
        """Do what the first write of an opening owes to what recovery found."""
        if recovered.must_flush or recovered.is_cleared:
            with self._noting_failure():
                self._flush_everything()
        self._collect_garbage()
        self._recovered = None

    def _heal(self) -> None:
        """Make memory follow the log wherever a write was interrupted.  Idempotent."""
        self._active = self.view.active
        record = self._wal.unapplied()
        if record is not None:
            change = records.decode_change(record)
            if change.clears:
                self._forget_everything()
            self._active.deletes = self._active.deletes or None in change.values
            self._active.update(change.keys, change.values)
            self._wal.advance(record.end - record.offset, record.count)
        self._active.rebuild_order()

    def _follow_up(self, durability: str) -> Callable[[], None] | None:
        return {"none": self._drain_if_due, "interval": self._sync_if_due, "full": self._sync_written}.get(durability)

    def _settle(self) -> None:
        if self._after_write is not None:
            self._after_write()

    def _drain_if_due(self) -> None:
        with self._exclusive():
            if self._wal.is_buffer_due():
                self._wal.drain()

    def _sync_if_due(self) -> None:
        now = self._storage.monotonic()
        if self._unsynced_since is None:
            self._unsynced_since = now
        if now - self._unsynced_since >= self.options.sync_interval:
            self._sync_written()

    def _turn(self) -> None:
        """Account for what was written, and have debts worked off."""
        written = QUANTUM - self._room
        self._charge()
        self._room = self._room_charged = QUANTUM
        if self.options.background == "manual":
            if self._wal.is_full():
                self._wal.rotate()
            return
        self._in_background(lambda: self._pay(written))

    def _charge(self) -> None:
        self._active.charge += self._room_charged - self._room
        self._room_charged = self._room

    def _pay(self, written_bytes: int) -> None:
        limit = self.options.memtable_bytes
        unflushed = self._unflushed_bytes()
        if unflushed >= limit:
            if self._background.flushing is not None:
                self._background.work(self._background.flushing)
            self._start_flush()
        elif self._wal.is_full():
            self._wal.rotate()
        self._background.advance(written_bytes, limit - self._unflushed_bytes())

    def _unflushed_bytes(self) -> int:
        """Return what is in memory and not being flushed yet."""
        flushing = self._background.flushing
        waiting = self.view.sealed[: -len(flushing.memtables)] if flushing is not None else self.view.sealed
        return self._active.charge + sum(memtable.charge for memtable in waiting)

    def _in_background(self, work: Callable[[], None]) -> None:
        """Do something that must not fail the write that pays for it (rule 3)."""
        try:
            work()
        except FailedError as exc:
            self._fail(exc)
        except error as exc:
            self._background.note(exc)
        if self._is_stalled():
            self._ready = False  # the next write has to flush first

    def _fail(self, exc: FailedError) -> None:
        self._failure = exc
        self._ready = False

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except FailedError as exc:
            self._fail(exc)
            raise

    # -- sealing, flushing, compacting --------------------------------------------------------------

    def _seal(self) -> View:
        """Return a view whose active memtable is empty."""
        view = self.view
        active = view.active
        if not active.entries:
            return view
        was_ready, self._ready = self._ready, False
        self._charge()
        active.last_seq = self._wal.seq - 1
        flushing = self._background.flushing
        sealed = fold_newest((active, *view.sealed), len(flushing.memtables) if flushing is not None else 0)
        view = self.view = view.with_active(Memtable(self._wal.seq), sealed)
        self._active = view.active
        self._ready = was_ready
        return view

    def _start_flush(self) -> bool:
        """Begin to flush all there is in memory; False if there is nothing.  None may be under way."""
        sealed = self._seal().sealed
        if not sealed:
            return False
        self._wal.rotate()
        self._background.start_flush(sealed)
        return True

    def _flush_everything(self) -> None:
        """Flush and install in one go, even if there is nothing but an old state to get rid of."""
        self._background.drop_all()
        if self._start_flush() and self._background.flushing is not None:
            self._background.work(self._background.flushing)
        else:
            self._install_nothing()

    def flush(self) -> None:
        """Write all there is in memory into tables."""
        self._run(self._start_flush_after_the_last, lambda: self._background.flushing)

    def compact(self) -> None:
        """Merge everything into one sorted level without tombstones."""
        self.flush()
        self._run(self._background.start_compaction_of_everything, lambda: self._background.compacting)

    def _start_flush_after_the_last(self) -> bool:
        if self._background.flushing is not None:
            self._background.work(self._background.flushing)
        return self._start_flush()

    def _run(self, start: Callable[[], bool], current: Callable[[], Job | None]) -> None:
        """Start a job and see it through, in slices between which other threads may write."""
        with self._exclusive(), self._noting_failure():
            self._prepare_write()
            if not start():
                return
            job = current()
        while job is not None:
            with self._exclusive(), self._noting_failure():
                self._prepare_read()
                if current() is not job:  # done, by a write of another thread
                    return
                self._background.work(job, SLICE_BYTES)

    def _install_flush(self, memtables: tuple[Memtable, ...], metas: list[TableMeta]) -> None:
        version = self.view.version.replace((), {0: metas})
        remaining = self.view.sealed[: -len(memtables)]

        def move_over() -> None:
            self.view = self.view.with_version(self._tables.track(version), self.view.sealed[: -len(memtables)])
            self._count.flushed(remaining, memtables)

        self._install(version, memtables[0].last_seq, self._count.after_flush(remaining, memtables), move_over)
        self._totals.flushes += 1
        self._totals.flushed_bytes += sum(meta.file_bytes for meta in metas)

    def _install_compaction(self, plan: Plan, metas: list[TableMeta]) -> None:
        version = self.view.version.replace(plan.inputs, {plan.level: metas})

        def move_over() -> None:
            self.view = self.view.with_version(self._tables.track(version), self.view.sealed)

        self._install(version, self._installer.current.last_seq, self._count.tables_only, move_over)
        if plan.is_move:
            self._totals.moves += 1
        else:
            self._totals.compactions += 1
            self._totals.compacted_bytes += sum(meta.file_bytes for meta in metas)

    def _install_nothing(self) -> None:
        """Install that there is nothing but what the next log will hold.  Requires empty memtables."""
        self._wal.rotate()
        self._install(self.view.version, self._wal.seq - 1, self._count.tables_only, lambda: None)

    def _install(
        self, version: Version, last_seq: int, live_count: int | None, move_over: Callable[[], None]
    ) -> None:
        before = self._installer.current
        state = dataclasses.replace(
            before,
            levels=version.levels,
            last_seq=last_seq,
            min_wal=self._wal.min_wal(last_seq),
            live_count=live_count,
            shape=self.options.shape(),
        )
        self._installer.install(state, move_over)
        kept = {meta.number for meta in version}
        self._tables.retire(meta for level in before.levels for meta in level if meta.number not in kept)
        self._unlink([file_name(number, WAL) for number in self._wal.forget(last_seq)])
        self._tables.collect()

    def _unlink(self, names: list[str]) -> None:
        for name in names:
            try:
                self._directory.unlink(name)
            except error:
                pass  # the next opening collects it

    def _collect_garbage(self) -> None:
        """Unlink the files of ours that the live set does not need."""
        manifest = self._installer.current
        needed = {file_name(manifest.number, MANIFEST)}
        needed |= {file_name(meta.number, TABLE) for level in manifest.levels for meta in level}
        needed |= {file_name(log.number, WAL) for log in self._wal.older}
        self._installer.forget_older()
        self._unlink([name for name in self._directory.listdir() if parse(name) and name not in needed])

    # -- durability ---------------------------------------------------------------------------------

    def sync(self) -> None:
        """Make everything written so far survive power loss."""
        with self._exclusive(), self._noting_failure():
            self._prepare_read()
            if self._failure is not None:
                self._prepare_write()
            if self._wal.has_suspects():
                self._prepare_write()
                self._flush_everything()
        self._sync(mark=True)

    def _sync_written(self) -> None:
        self._sync(mark=False)

    def _sync(self, *, mark: bool) -> None:
        """Sync the logs.  Who had to wait for another thread's sync may find that it served both."""
        with self._exclusive_sync(), self._noting_failure():
            with self._lock:
                if self._failure is not None:
                    self._prepare_write()
                self._unsynced_since = None
                if self._wal.is_durable() and not mark:
                    return
                target = self._wal.target()
            target.sync()
            with self._lock:
                self._wal.note_durable(target, mark=mark)

    def close(self) -> None:
        """Sync, unless durability is "none", and let go of everything.

        Raises:
            FailedError: writes that had returned may be lost.
        """
        with self._exclusive_sync(), self._exclusive():
            if self._is_closed:
                return
            self._background.drop_all()
            try:
                if self._failure is None:
                    self._prepare_read()
                    self._close_log()
                elif not self._wal.is_durable():
                    raise FailedError(self._failure.errno, "closed after a failure: writes may be lost")
            finally:
                self._is_closed, self._ready = True, False
                self._release()

    def _close_log(self) -> None:
        if self.options.durability == "none":
            self._wal.drain()
        elif self._wal.number or self._wal.has_files():
            if self._wal.has_suspects():
                self._flush_everything()
            target = self._wal.target()
            target.sync()
            self._wal.note_durable(target, mark=True)

    def _release(self) -> None:
        self._wal.close()
        self._tables.close()
        self._directory.close()
        self._lock_file.close()  # the lock goes last

    def die(self) -> None:
        """Be of no use any more: this is the child of a fork.  Nothing is written and nothing unlocked."""
        self._make_locks()
        self._is_closed, self._ready = True, False
        self._release()

    def check_tables(self) -> None:
        """Read every table whole.

        Raises:
            CorruptionError: the first thing that is wrong.
        """
        for meta in self.view.version:
            for problem in self._tables.reader(meta).problems():
                raise problem

    # -- figures ------------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """Return the figures of this moment."""
        with self._exclusive():
            if self._is_closed:
                raise ClosedError
            self._charge()
            self._totals.written_bytes = self._wal.written_bytes
            trouble = self._failure or self._background.trouble
            return gather(self.view, self._wal.log_count(), self._totals, trouble)


def _reentered() -> RuntimeError:
    return RuntimeError("the database is in use by this very thread: called from a signal handler or finalizer?")
