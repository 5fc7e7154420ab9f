"""Store: the conductor.  Hands writes to the writer, keeps what they are promised, and closes.

    write    writer: log, memtable -> durability: what its level asks for
    read     as `reading` has it
    close    drop jobs, sync, mark the log, let go of everything

What a write is, and what an interrupted one has left, is in `writer`; what is live, and what becomes of it,
in `tree`; when it is synced, in `durability`.  Here stands in which order these are asked, under which lock.

Thread safety: every public method may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

from lsmdbm._base.chunk import Chunks
from lsmdbm._base.ending import EndingLock
from lsmdbm._base.errors import FailedError, error
from lsmdbm._base.intervals import Intervals
from lsmdbm._base.leftovers import taken
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Directory, File, Storage
from lsmdbm._engine import fifo
from lsmdbm._engine.background import Job
from lsmdbm._engine.draft import Draft
from lsmdbm._engine.durability import Durability
from lsmdbm._engine.ingest import Source
from lsmdbm._engine.jobs import Workshop
from lsmdbm._engine.mapped import MAPPED_BATCH_BYTES, MAPPED_SPAN_BLOCKS, enough_bytes, mapper_for
from lsmdbm._engine.memtable import load_order
from lsmdbm._engine.names import Counter
from lsmdbm._engine.plan import Limits
from lsmdbm._engine.reading import Reading
from lsmdbm._engine.recovery import Recovered
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.tree import Tree
from lsmdbm._engine.validation import check_conflict, valid_view
from lsmdbm._engine.view import AFTER_FORK
from lsmdbm._engine.wal import Wal
from lsmdbm._engine.writer import Writer, reentered

SLICE_BYTES = 1 << 20  # flush() and compact() let other threads in after this much work


class Store(Reading):
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
        tables = Tables(directory, options)
        counter = Counter(recovered.next_number, tables.make_room)
        logs, prev = recovered.logs, recovered.prev
        mapper = mapper_for(options.log_io, directory, enough_bytes(options))
        wal = Wal(directory, storage, counter, recovered.next_seq, logs, prev, mapper=mapper)
        workshop = Workshop(storage, directory, counter, tables, options, Limits.of(options))
        if mapper is not None:  # puts keep the GIL, and what they pay for gives it up seldom
            workshop = workshop._replace(batch_bytes=MAPPED_BATCH_BYTES, span_blocks=MAPPED_SPAN_BLOCKS)
        tree = Tree(workshop, wal, recovered)
        super().__init__(directory, tables, Writer(storage, directory, wal, tree, options, recovered))
        self._durability = Durability(storage, self._writer, options)
        self._lock_file = lock
        self._is_released = False

    @property
    def options(self) -> Options:
        """How to work; stronger as soon as another handle asks for more."""
        return self._durability.options

    @property
    def is_released(self) -> bool:
        """Whether the store has let go of everything, the writer lock included."""
        return self._is_released

    # -- writing ------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> None:
        """Set one key."""
        writer = self._writer
        if writer.owned():  # what exclusive() does, with a call less
            raise reentered()
        with writer.lock:
            writer.put(key, value)
            follow_up = self._durability.follow_up
            if follow_up is None:
                return
            seq = self._wal.seq
        follow_up(seq)

    def put_if_absent(self, key: bytes, value: bytes) -> bytes | None:
        """Set a key that is not there; return the value of one that is."""
        with self._writer.exclusive():
            self._writer.prepare_read()
            found = self._tree.view.get(key)
            if found is None:
                self._writer.put(key, value)
            seq = self._wal.seq
        self._durability.settle(seq)
        return found

    def change(self, key: bytes, change: Callable[[bytes | None], bytes]) -> bytes:
        """Set a key to what a function makes of its value, None if it has none; return that.

        If the function raises, nothing is written.
        """
        with self._writer.exclusive():
            self._writer.prepare_read()
            value = change(self._tree.view.get(key))
            self._writer.put(key, value)
            seq = self._wal.seq
        self._durability.settle(seq)
        return value

    def take(self, key: bytes) -> bytes | None:
        """Delete a key and return its value; None, and nothing is written, if it is not there."""
        with self._writer.exclusive():
            self._writer.prepare_read()
            found = self._tree.view.get(key)
            if found is not None:
                self._writer.delete(key)
            seq = self._wal.seq
        self._durability.settle(seq)
        return found

    def take_first(self) -> tuple[bytes, bytes] | None:
        """Delete the smallest key and return its entry; None if there is none."""
        with self._writer.exclusive():
            self._writer.prepare_read()
            found = self._writer.dead.first(self._tree.view)
            if found is not None:
                self._writer.delete(found[0])
            seq = self._wal.seq
        self._durability.settle(seq)
        return found

    def batch(self, keys: Sequence[bytes], values: Sequence[bytes | None], ranges: Intervals = ()) -> None:
        """Delete what is in some ranges, then set many keys, all or nothing; None deletes.

        The keys are unique, in any order.  What is in the ranges costs the same, however much it is.
        """
        if not keys and not ranges:
            return
        with self._writer.exclusive():
            self._writer.prepare_write()
            self._writer.batch(keys, values, ranges)
            seq = self._wal.seq
        self._durability.settle(seq)

    def batch_unless_busy(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> bool:
        """Set many keys, all or nothing, without waiting; False if somebody, this thread too, is inside.

        Nothing is promised of it before the next sync.
        """
        with taken(self._writer.lock) as is_free:
            if is_free and keys:
                self._writer.prepare_write()
                self._writer.batch(keys, values)
            return is_free

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
        valid = valid_view(footprint, draft.base, lambda: self._tree.view, self.pin)
        with self._writer.exclusive():
            self._writer.prepare_write()
            if self._wal.seq != valid.active.first_seq:
                check_conflict(footprint, valid, self._tree.view)
            self._writer.batch([*changes], [*changes.values()])
            seq = self._wal.seq
        self._durability.settle(seq)

    def clear(self) -> None:
        """Delete everything, at constant cost."""
        with self._writer.exclusive():
            self._writer.clear()
            seq = self._wal.seq
        self._durability.settle(seq)

    def ingest(self, sources: Sequence[Source]) -> None:
        """Set the keys of tables that were built elsewhere, given oldest first, all or nothing.

        On return they survive power loss, and so does everything written before.  Other threads wait.
        """
        if not sources:
            return
        with self._writer.exclusive(), self._writer.noting_failure():
            self._writer.ingest(sources)

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

    def drop_oldest(self, is_over: Callable[[Chunks], bool]) -> int:
        """Drop the oldest tables, as long as a function says of their entries that none counts any more.

        Reads tables while others go on, to where the function has seen enough.  Nothing that is older than a
        table dropped can come back, since that is dropped as well.

        Args:
            is_over: is given the entries of one table, tombstones included, and without its holes.

        Returns:
            the bytes of the tables that were dropped.
        """
        over = self._oldest(is_over)  # elsewhere: its view would keep them on disk
        with self._writer.exclusive(), self._writer.noting_failure():
            self._writer.prepare_write()
            return self._tree.drop_oldest(over)

    def _oldest(self, is_over: Callable[[Chunks], bool]) -> set[int]:
        """Return the numbers of the oldest tables, as long as a function says yes to their entries."""
        view = self.pin()
        metas = takewhile(lambda meta: is_over(view.entries_of(meta)), fifo.oldest_first(view.version))
        return {meta.number for meta in metas}

    def _see_through(self, start: Callable[[], bool], current: Callable[[], Job | None]) -> None:
        """Start a job and see it through, in slices between which other threads may write."""
        job: Job | None = None
        while job is None or job.outputs is None or current() is job:
            with self._writer.exclusive(), self._writer.noting_failure():
                self._writer.prepare_write()
                if job is None or current() is not job:  # or a write of another thread saw it fail
                    job = current() if start() else None
                if job is None:
                    return
                self._tree.background.work(job, SLICE_BYTES)

    def collect_garbage(self) -> None:
        """Unlink the files of ours that the live set does not need."""
        self._tree.collect_garbage()

    # -- durability ---------------------------------------------------------------------------------

    def sync(self) -> None:
        """Make everything written so far survive power loss."""
        self._durability.sync_logs()

    def strengthen(self, options: Options) -> None:
        """Keep from now on what another handle was promised too, if that is more."""
        self._durability.strengthen(options)

    # -- the end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Sync, unless durability is "none", and let go of everything.  Interrupted, it can be called again.

        Raises:
            FailedError: writes that had returned may be lost.
        """
        with self._durability.exclusive(), self._writer.exclusive():
            self._close()

    def close_unless_busy(self) -> bool:
        """Do what `close` does without waiting for anybody; False if somebody, this thread too, is inside."""
        with taken(self._durability.lock, self._writer.lock) as is_free:
            if is_free:
                self._close()
            return is_free

    def _close(self) -> None:
        writer = self._writer
        if writer.is_closed:
            self._release()
            return
        self._tree.background.drop_all()
        try:
            writer.prepare_read()
            if writer.failed() is None and writer.is_log_long():
                writer.in_background(self._tree.flush_now)
            failure = writer.failed()
            if failure is None:
                self._finish()
            elif not self._wal.is_durable():
                raise FailedError(failure.errno, "closed after a failure: writes may be lost")
        except error:  # anything else is an interruption: after that, a second call does it all
            self._end()
            raise
        self._end()

    def _finish(self) -> None:
        """Leave the files as the next opening would like to find them."""
        self._durability.end_log()
        recovered = self._writer.recovered
        if recovered is None or not recovered.is_unsettled:
            try:
                self._tree.remember_count()
            except error:
                pass  # nothing of what was written rests on it; the next opening counts again
        self._tables.collect()  # what a read, or the opening itself, needed when it was retired

    def _end(self) -> None:
        self._writer.end()
        self._release()

    def _release(self) -> None:
        why = self._writer.why_closed
        self._durability.stop()
        self._tree.background.end()
        self._tree.let_go(*why)
        for moment in list(self._snapshots):
            moment.close(*why)
        self._wal.close()
        self._tables.close()
        self._directory.close()
        self._lock_file.close()  # the lock goes last
        self._is_released = True

    def expect_end(self) -> None:
        """Be ready for an interpreter that stops threads in the middle of a write: this is its exit."""
        if not self._is_released:
            load_order()  # a late write or close may flush
        self._durability.expect_end()
        self._tree.background.expect_end()
        self._writer.lock = EndingLock(self._writer.lock)

    def die(self) -> None:
        """Be of no use any more: this is the child of a fork.  Nothing is written and nothing unlocked."""
        self._writer.make_lock()
        self._durability.die()
        self._tables.die()
        self._writer.why_closed = (AFTER_FORK,)
        self._end()
