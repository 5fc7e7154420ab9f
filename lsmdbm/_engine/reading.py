"""Reading: what a store answers while it is being written.

    now       view.get; or seal what is active, and view.chunks
    moments   the view of now, kept until they are closed: snapshots, and the drafts of transactions
    changes   the logs, read from a position on, up to now

A read makes memory follow the log first, where an interrupted write has left them apart; it writes nothing.

Thread safety: every public method may be called from any thread.  `get` takes no lock.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from lsmdbm._base.chunk import Chunks
from lsmdbm._base.leftovers import leave, taken
from lsmdbm._base.storage import Directory
from lsmdbm._engine.count import census
from lsmdbm._engine.dead import watched
from lsmdbm._engine.draft import Draft
from lsmdbm._engine.feed import Feed, Step
from lsmdbm._engine.merge import visible
from lsmdbm._engine.moment import Moment, still_open
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.view import View
from lsmdbm._engine.writer import Writer
from lsmdbm._format.manifest import Manifest

if TYPE_CHECKING:
    from lsmdbm._engine.figures import Stats

M = TypeVar("M", bound=Moment)


class Reading:
    """The reads of one database that is open for writing.

    Args:
        directory: where the files are.
        tables: those that are live, and those that moments hold.
        writer: whose lock is taken, and whose tree and log are read.
    """

    def __init__(self, directory: Directory, tables: Tables, writer: Writer) -> None:
        self._directory = directory
        self._tables = tables
        self._writer = writer
        self._tree = writer.tree
        self._wal = writer.wal
        self._snapshots: weakref.WeakSet[Moment] = weakref.WeakSet()

    @property
    def is_closed(self) -> bool:
        """Whether the store answers nothing any more."""
        return self._writer.is_closed

    @property
    def view(self) -> View:
        """What a read of this moment sees; its active memtable still grows."""
        return self._tree.view

    @property
    def manifest(self) -> Manifest:
        """What was installed last."""
        return self._tree.manifest

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, None if there is none."""
        return self._tree.view.get(key)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of those keys that have one, as of now."""
        with self._writer.exclusive():
            self._writer.prepare_read()
            view = self._tree.view
            recent = view.recent(keys)
        return view.get_many(keys, recent)

    def refresh(self) -> None:
        """Do nothing: reads see the newest state."""
        self._writer.check_open()

    def pin(self) -> View:
        """Return a view that nothing changes any more.  O(1), but for folding small memtables."""
        with self._writer.exclusive():
            self._writer.prepare_read()
            return self._tree.pin()

    def snapshot(self) -> Moment:
        """Return the moment of now, to be kept.  O(1), but for folding small memtables."""
        return self._kept(Moment)

    def transaction(self) -> Draft:
        """Return a draft over the moment of now.  O(1), but for folding small memtables."""
        return self._kept(Draft)

    def _kept(self, kind: type[M]) -> M:
        with self._writer.exclusive():
            self._writer.prepare_read()
            moment = kind(self._tree.pin(), self._give_back)
            self._snapshots.add(moment)
            return moment

    def _give_back(self) -> None:
        """Unlink the tables that a snapshot was the last to need; later, if somebody writes just now."""
        if self._tables.has_retired:  # what is retired after this look is collected after it
            leave(self._collect_unless_busy)

    def _collect_unless_busy(self) -> bool:
        with taken(self._writer.lock) as is_free:
            if is_free and not self._writer.is_closed and self._writer.failed() is None:
                self._tables.collect()
            return is_free

    def chunks(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> Chunks:
        """Return the entries with `start <= key < stop`, as of now, as a stream of chunks."""
        with self._writer.exclusive():
            self._writer.prepare_read()
            view = self._tree.pin()
            seq, (low, high) = self._wal.seq, self._writer.dead.narrowed(start, stop)
        if not view.may_delete():
            return view.merged(low, high, reverse=reverse, keys_only=keys_only)

        def remember(found: bytes | None, walked: int) -> None:
            if self._writer.owned():
                return  # a handler inside a write
            with self._writer.lock:
                if self._wal.seq == seq:  # nothing was written into the range meanwhile
                    self._writer.dead.note(start, stop, found, walked, reverse=reverse)

        merged = view.merged(low, high, reverse=reverse, keys_only=keys_only)
        return visible(watched(merged, reverse, remember))

    def first(
        self, start: bytes | None, stop: bytes | None, *, reverse: bool = False, keys_only: bool = False
    ) -> tuple[bytes, bytes] | None:
        """Return the first entry of a range, the last one if `reverse`; None if there is none."""
        with self._writer.exclusive():
            self._writer.prepare_read()
            return self._writer.dead.first(self._tree.view, start, stop, reverse=reverse, keys_only=keys_only)

    def length(self) -> int:
        """Return the exact number of keys."""
        with self._writer.exclusive():
            self._writer.prepare_read()
            view = self._tree.pin()
        table_keys, total = census(view)  # may read for long: others go on meanwhile
        with self._writer.exclusive():
            if not self._writer.is_closed:
                self._tree.learn_count(view, table_keys, total)
        return total

    def changes(self, position: bytes | int | None) -> Iterator[Step]:
        """Return what was written from a position on, up to now, record by record."""
        with self._writer.exclusive(), self._writer.noting_failure():
            return self._feed().since(position, self._writer.check_open)

    def position(self, seq: int | None = None) -> bytes:
        """Return the position of now, or the one behind all writes below a sequence."""
        with self._writer.exclusive(), self._writer.noting_failure():
            self._writer.settle()
            feed = self._feed()
            return feed.position(feed.next_seq if seq is None else seq)

    def _feed(self) -> Feed:
        """Return what the files of the logs hold by now, which is all that was written."""
        self._writer.write_out()
        return Feed(self._directory, self._tree.manifest.uuid, self._wal.head(), self._wal.seq)

    def stats(self) -> Stats:
        """Return the figures of this moment."""
        with self._writer.exclusive():
            self._writer.check_open()
            return self._tree.stats(self._writer.failed(), still_open(self._snapshots))
