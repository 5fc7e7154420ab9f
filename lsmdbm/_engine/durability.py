"""Durability: what a write of one store is promised when it returns, and the syncs that keep it.

    none      nothing; records wait in a buffer that is written out when it is large or old
    process   the page cache of the system has the record, which keeps it if the process is killed
    interval  besides, the log is synced when an interval is over, by a write or else by a thread
    full      besides, the log is synced before the write returns, once for all who wait

Rules
  1. The sync lock is taken before the lock of the store, and knows its owner as that one does.  One sync at a
     time: the kernel tells a write-back error only once.
  2. What a log promises is told after the sync: target, sync, note.  The lock of the store is free meanwhile.
  3. A sync that failed, or whose result was lost in an interruption, is never repeated as if it were new.

Thread safety: every public method may be called from any thread.  Spec: docs/durability.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from lsmdbm._base.ending import EndingLock, Lock, owner_test
from lsmdbm._base.errors import FailedError, error
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Storage
from lsmdbm._engine.group import Group
from lsmdbm._engine.syncer import Syncer
from lsmdbm._engine.writer import Writer, reentered

LEVELS = ("none", "process", "interval", "full")  # each promises what the ones before it do


class Durability:
    """The durability of one store.

    Args:
        storage: the clock.
        writer: takes the writes.
        options: the level, and its interval.

    Attributes:
        options: the same; stronger as soon as another handle asks for more.
        follow_up: what a write does when the lock is free again; it is told the sequence behind its own.
            None at the levels that need nothing.
    """

    def __init__(self, storage: Storage, writer: Writer, options: Options) -> None:
        self.options = options
        self._storage = storage
        self._writer = writer
        self._wal = writer.wal
        self._make_lock()
        self._unsynced_since: float | None = None
        self._syncer: Syncer | None = None  # at "interval" alone
        self._group = Group()
        self._wal.buffered = options.durability == "none" and self._wal.mapper is None
        self.follow_up = self._follow_up(options.durability)

    def _make_lock(self) -> None:
        self.lock: Lock = threading.RLock()
        self._owned = owner_test(self.lock)

    # -- levels -------------------------------------------------------------------------------------

    def strengthen(self, options: Options) -> None:
        """Keep from now on what another handle was promised too, if that is more."""
        mine, writer = self.options, self._writer
        durability = max(mine.durability, options.durability, key=LEVELS.index)
        intervals = [each.sync_interval for each in (mine, options) if each.durability == "interval"]
        stronger = mine.replace(
            durability=durability, sync_interval=min(intervals, default=mine.sync_interval)
        )
        if stronger == mine:
            return
        with writer.exclusive(), writer.noting_failure():
            writer.prepare_read()
            if writer.failed() is None:
                self._wal.drain()
            self._wal.unbuffer()
            self.options = stronger
            self.follow_up = self._follow_up(durability)

    def _follow_up(self, durability: str) -> Callable[[int], None] | None:
        if durability == "interval":
            interval = self.options.sync_interval
            if self._syncer is None:
                self._syncer = Syncer(self._storage, self._sync_overdue, interval)
            elif interval < self._syncer.interval:
                self._syncer.interval = interval
                self._syncer.wake()
        if durability == "none" and not self._wal.buffered:
            return None
        return {"none": self._drain_if_due, "interval": self._sync_if_due, "full": self.sync_written}.get(
            durability
        )

    def settle(self, seq: int) -> None:
        """Do for the writes below a sequence what they are promised.  The lock of the store is free."""
        if self.follow_up is not None:
            self.follow_up(seq)

    def _drain_if_due(self, seq: int) -> None:
        writer = self._writer
        with writer.exclusive(), writer.noting_failure():
            writer.prepare_read()
            if writer.failed() is None and self._wal.is_buffer_due():
                self._drain_if_there_is_room()

    def _drain_if_there_is_room(self) -> None:
        try:
            self._wal.drain()
        except FailedError:
            raise
        except error:
            pass  # the write took place, and is held on to: the one that finds the buffer full says so

    def _sync_if_due(self, seq: int) -> None:
        now = self._storage.monotonic()
        if self._unsynced_since is None:
            if self._syncer is not None:
                self._syncer.wake()  # first
            self._unsynced_since = now
        if now - self._unsynced_since >= self.options.sync_interval:
            self.sync_written(seq)

    def _sync_overdue(self) -> float | None:
        """Sync what has waited for an interval; return how long the rest has to wait, None if nothing has."""
        since = self._unsynced_since
        if since is None or self._writer.is_closed or self._writer.failed() is not None:
            return None
        left = since + self.options.sync_interval - self._storage.monotonic()
        if left <= 0:
            self.sync_written(self._wal.seq)
        return left if left > 0 else None

    # -- sync ---------------------------------------------------------------------------------------

    def exclusive(self) -> AbstractContextManager[object]:
        """Return the sync lock, for a `with`."""  # rule 1
        if self._owned() or self._writer.owned():
            raise reentered()
        return self.lock

    def sync_written(self, seq: int) -> None:
        """Make the writes below a sequence survive power loss, if another thread's sync does not do so."""
        wal = self._wal
        if not self._owned():
            self._group.wait(lambda: seq <= wal.durable_seq)
        if seq > wal.durable_seq:
            self.sync_logs(seq)

    def sync_logs(self, seq: int | None = None) -> None:
        """Sync the logs.

        Args:
            seq: what has to be durable ends before it; None for everything, and for a mark behind it.
        """
        writer, wal = self._writer, self._wal
        with self.exclusive(), self._group, writer.noting_failure():
            with writer.lock:
                writer.prepare_sync()
                if seq is not None and seq <= wal.durable_seq:
                    return
                self._unsynced_since = None
                if seq is not None and wal.is_durable():
                    return
                target = wal.target()
            try:
                target.sync()
            except FailedError:  # which is final
                raise
            except BaseException:
                with writer.lock:
                    writer.tree.background.drop_all()  # their files may have lost their names for good
                raise
            with writer.lock:
                writer.note_durable(target, mark=seq is None)

    # -- the end ------------------------------------------------------------------------------------

    def end_log(self) -> None:
        """Keep what the log of a store that is being closed has promised.  Under both locks."""
        tree, wal = self._writer.tree, self._wal
        tree.settle_ingest()
        if self.options.durability == "none":
            wal.drain()
        elif wal.number or wal.has_unsynced():
            if wal.has_suspects():
                tree.flush_now()
            target = wal.target()
            target.sync()
            wal.note_durable(target, mark=True)
        wal.end_mapping()

    def stop(self) -> None:
        """End the thread, if there is one."""
        if self._syncer is not None:
            self._syncer.stop()

    def expect_end(self) -> None:
        """Be ready for an interpreter that stops threads in the middle of a sync: this is its exit."""
        if self._syncer is not None:
            self._syncer.stop_and_wait()
        self.lock = EndingLock(self.lock)

    def die(self) -> None:
        """Be of no use any more: this is the child of a fork."""
        self._make_lock()
        self._syncer = None  # its thread is not here, which may have held the lock of its queue
