"""Session: the one transaction of a connection, shared by all of its virtual tables.

    source          what a statement reads: the open transaction; a snapshot, if the handle is read only
    transaction     what it writes to: the same, and from then on there is something to commit
    Enlisted        the methods by which SQLite tells a virtual table what becomes of its transaction

Rules
  1. A transaction of the store begins with the first read or write after the last one ended.  All statements
     up to the COMMIT of SQLite share it; outside of BEGIN those that overlap do.
  2. It is committed in `Sync`: what fails there, SQLite rolls back.  Every table of a transaction is told,
     and each call but the first finds nothing to do.
  3. Outside of BEGIN, one that only read ends with the last cursor of a virtual table.
  4. Levels are those of SQLite: savepoints, those it makes for single statements among them.  It tells a
     table that has not written yet only of the innermost; nothing was written between that and outer ones,
     so the lowest mark at or above a level is the mark of that level.  A savepoint that has begun the
     transaction has level -1, and no table is told of it: that mark is set before the first write.
  5. apsw does not hand `RollbackTo` on while an exception of ours is under way, so who runs statements calls
     `undo` when one has failed.

Thread safety: used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from lsmdbm.database import Database
from lsmdbm.snapshot import Snapshot
from lsmdbm.transaction import Savepoint, Transaction

START = -1  # the level of the mark before the first write


class Session:
    """What a connection reads and writes at present.

    Args:
        database: a handle of its own; closed by whoever made it.
        is_read_only: whether that was opened with flag "r".
        is_in_transaction: whether SQLite is between BEGIN and COMMIT.

    Attributes:
        uncounted: of the changes that SQLite counts, those that OR IGNORE has ignored, and those that are in
            the `rowcount` of a cursor already.
        undone: how often writes were forgotten: what is remembered of them holds no longer.
    """

    __slots__ = (
        "_cursors",
        "_is_in_transaction",
        "_keeps_failed",
        "_marks",
        "_source",
        "_written",
        "database",
        "is_read_only",
        "undone",
        "uncounted",
    )

    def __init__(self, database: Database, is_read_only: bool, is_in_transaction: Callable[[], bool]) -> None:
        self.database = database
        self.is_read_only = is_read_only
        self._is_in_transaction = is_in_transaction
        self._source: Transaction | Snapshot | None = None
        self._written: Transaction | None = None  # the same, once there is something to commit
        self._keeps_failed = False
        self._marks: list[tuple[int, Savepoint]] = []  # (level, mark), levels ascending
        self._cursors = 0
        self.uncounted = 0
        self.undone = 0

    # -- reading and writing ------------------------------------------------------------------------

    @property
    def source(self) -> Transaction | Snapshot:
        """What is read: a sorted mapping of one moment, with the writes of this connection over it."""
        if self._source is None:
            if self.is_read_only:
                self.database.refresh()
                self._source = self.database.snapshot()
            else:
                self._source = self.database.transaction()
        return self._source

    @property
    def transaction(self) -> Transaction:
        """What is written to; asking for it makes SQLite's COMMIT one of the store.

        Raises:
            ReadOnlyError: the handle is read only.
        """
        if self._written is not None:
            return self._written
        source = self.source
        if isinstance(source, Snapshot):
            return self.database.transaction()  # which raises
        self._marks.append((START, source.savepoint()))
        self._written = source
        return source

    @property
    def is_begun(self) -> bool:
        """Whether there is a transaction of the store, or a snapshot."""
        return self._source is not None

    def cursor_opened(self) -> None:
        """Take note of one more cursor of a virtual table."""
        self._cursors += 1

    def cursor_closed(self) -> None:
        """Take note of one less (rule 3)."""
        self._cursors -= 1
        self.rest()

    def rest(self) -> None:
        """End what only read, outside of BEGIN, and is read no more (rule 3)."""
        if not self._cursors and self._written is None and not self._is_in_transaction():
            self.rollback()

    # -- the end ------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit what was written, all or nothing; the next read begins anew.  Fine if there is nothing.

        Raises:
            ConflictError: somebody else has changed what it read or wrote; nothing is written.
        """
        source, written = self._forget()
        if written is not None:
            written.commit()
        elif source is not None:
            _let_go(source)

    def rollback(self) -> None:
        """Forget what was written; the next read begins anew.  Fine if there is nothing."""
        source, _ = self._forget()
        if source is not None:
            _let_go(source)

    def settle(self) -> None:
        """Commit what no table was told to commit: SQLite says nothing to one that was dropped."""
        if self._written is not None and not self._is_in_transaction():
            self.commit()

    def _forget(self) -> tuple[Transaction | Snapshot | None, Transaction | None]:
        found = self._source, self._written
        self._source = self._written = None
        self._marks.clear()
        return found

    # -- levels -------------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """The number of marks that SQLite has set; see `undo`."""
        return max(0, len(self._marks) - 1)

    def mark(self, level: int) -> None:
        """Set the mark of a level, unless another table has had it set."""
        if self.is_read_only:
            return
        transaction = self.transaction
        if self._marks[-1][0] < level:
            self._marks.append((level, transaction.savepoint()))

    def release(self, level: int) -> None:
        """Drop the marks of a level and above; what was written stays (rule 4)."""
        self._release(self._position(level), level)

    def _release(self, position: int, level: int) -> None:
        dropped = self._marks[position:]
        del self._marks[position:]
        if not dropped:
            return
        mark = dropped[0][1]
        if self._marks[-1][0] < level - 1:
            self._marks.append((level - 1, mark))
        else:
            mark.release()

    def roll_back_to(self, level: int) -> None:
        """Forget what was written since the mark of a level, which stays (rule 4)."""
        position = self._position(level)
        if position < len(self._marks):
            mark = self._marks[position][1]
            mark.rollback()
            self.undone += 1
            self._marks[position:] = [(level, mark)]

    def keep_failed(self) -> None:
        """Let what a statement wrote before it failed stay: OR FAIL."""
        self._keeps_failed = True

    def undo(self, depth: int) -> None:
        """Forget what a statement wrote that has failed (rule 5); `depth` is that of before it began."""
        keeps, self._keeps_failed = self._keeps_failed, False
        position = depth + 1
        if position < len(self._marks):
            level, mark = self._marks[position]
            if not keeps:
                mark.rollback()
                self.undone += 1
            self._release(position, level)

    def _position(self, level: int) -> int:
        """Return the index of the lowest mark at or above a level."""
        return next((at for at, (other, _) in enumerate(self._marks) if other >= level), len(self._marks))


def _let_go(source: Transaction | Snapshot) -> None:
    if isinstance(source, Transaction):
        source.rollback()
    else:
        source.close()


class Enlisted:
    """A virtual table whose changes are part of the session: what SQLite calls on one, by apsw's names.

    Any of these may come without `Begin`: for a table that the transaction has made.
    """

    __slots__ = ("session",)

    def __init__(self, session: Session) -> None:
        self.session = session

    def Begin(self) -> None:
        """Hear that something will be written."""

    def Sync(self) -> None:
        """Commit: what raises here makes the COMMIT fail (rule 2)."""
        self.session.commit()

    def Commit(self) -> None:
        """Hear that all tables were synced."""

    def Rollback(self) -> None:
        """Forget what was written."""
        self.session.rollback()

    def Savepoint(self, level: int) -> None:
        """Set a mark."""
        self.session.mark(level)

    def Release(self, level: int) -> None:
        """Drop a mark, and those above."""
        self.session.release(level)

    def RollbackTo(self, level: int) -> None:
        """Go back to a mark."""
        self.session.roll_back_to(level)
