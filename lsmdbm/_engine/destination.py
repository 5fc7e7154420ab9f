"""Destination: a directory that becomes a database in one step, or is left as it was found.

    (1) the directory is made, or is there and empty; its writer lock is taken
    (2) tables are written or linked into it, and synced, by those who use this
    (3) the directory is synced, a manifest is written and synced, the directory is synced: COMMIT POINT
    (4) its parent is synced

Rules
  1. Until (3) there is no manifest, so that it does not open: tables without a manifest are corruption.
  2. What is there already is refused before anything is written.
  3. If anything goes wrong, what was made is removed again, as far as that is possible.
  4. It gets the permission bits of its source, if it has one, and is never more open than that in between;
     its owner may write it in any case.

Thread safety: one thread at a time.  Spec: docs/operations.md, Backup.
"""

from __future__ import annotations

from lsmdbm._base.errors import FailedError, error
from lsmdbm._base.options import Options
from lsmdbm._base.paths import parent_of
from lsmdbm._base.storage import Directory, File, Storage, directory_mode
from lsmdbm._engine.install import Installer, synced
from lsmdbm._engine.jobs import Workshop
from lsmdbm._engine.names import LOCK, Counter
from lsmdbm._engine.plan import Limits
from lsmdbm._engine.removal import empty, take_lock
from lsmdbm._engine.tables import Tables
from lsmdbm._format.manifest import Manifest


class Destination:
    """A new database on its way.  A context manager: left without `commit()`, it takes everything back.

    Args:
        storage: where.
        path: absent, or an empty directory.
        source: the directory of the database that it is made from, None if it is made from nothing on disk.
        options: for the tables that are written.
        next_number: lowest number for a new file.
        mode: permission bits of new files, less the umask, if there is no source.

    Raises:
        error: `path` holds something, or lies in the source.
        NotFoundError: there is no parent directory.
    """

    def __init__(
        self,
        storage: Storage,
        path: str,
        source: Directory | None,
        options: Options,
        next_number: int,
        mode: int = 0o600,
    ) -> None:
        self._storage = storage
        self._path = path
        self._mode = mode
        self._is_new = self._prepare(source)
        self._is_committed = False
        self._lock: File | None = None
        try:
            self.directory = storage.directory(path, mode)
        except BaseException:
            self._remove_directory()
            raise
        try:
            self._settle_in(source)
        except BaseException:
            self._take_back()
            raise
        self.counter = Counter(next_number)
        tables = Tables(self.directory, options)
        limits = Limits.of(options)
        self.workshop = Workshop(storage, self.directory, self.counter, tables, options, limits)

    def _prepare(self, source: Directory | None) -> bool:
        """Return whether the directory had to be made."""
        storage, path = self._storage, self._path
        if source is not None and storage.directory(parent_of(path), 0o600).identity() == source.identity():
            raise error(f"{path}: lies in the directory of the database itself")
        kind = storage.kind(path)
        if kind == "missing":
            storage.mkdir(path, directory_mode(self._mode))  # rule 4
            return True
        if kind != "directory" or storage.directory(path, 0o600).listdir():  # rule 2
            raise error(f"{path}: exists, and is no empty directory")
        return False

    def _settle_in(self, source: Directory | None) -> None:
        self._lock = take_lock(self._storage, self.directory)
        if self.directory.listdir() != [LOCK]:
            raise error(f"{self._path}: somebody else writes into it")
        if source is not None:
            self.directory.take_mode(source, itself=self._is_new)

    def commit(self, state: Manifest) -> None:
        """Make it the database of this state, whatever its numbers say.

        Raises:
            error: it could not be done; nothing is left.
        """
        state = state._replace(min_wal=self.counter.next_number)
        try:
            Installer(self.directory, self.counter, state).install(state, lambda: None)
            synced(lambda: self._storage.sync_parent(self._path))
        except FailedError as exc:  # of the copy, which nobody writes to; its source has not failed
            raise error(exc.errno, str(exc.strerror), exc.filename) from exc
        self._is_committed = True

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *_: object) -> None:
        self.workshop.tables.close()
        if self._is_committed:
            self._let_go()
        else:
            self._take_back()

    def _take_back(self) -> None:  # rule 3
        try:
            if self._lock is not None:
                empty(self.directory)
        except error:
            pass  # what is left has no manifest, or the one of the whole copy
        self._let_go()
        self._remove_directory()

    def _remove_directory(self) -> None:
        if self._is_new:
            try:
                self._storage.rmdir(self._path)
            except error:
                pass

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
        self.directory.close()
