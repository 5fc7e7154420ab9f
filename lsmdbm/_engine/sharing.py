"""Sharing: from a path to a store.  Handles of one process on one directory share one writer.

Rules
  1. A writer is known by device and inode of its directory; it is closed with its last handle.  It keeps
     what the most demanding one of them was promised.
  2. Flag "r" joins a writer of this process if there is one, so that it sees what that one holds back,
     and else reads by itself, without any lock.
  3. Creating is finished by whoever comes next: a directory without tables, logs and a valid manifest
     is a database that is not born yet.
  4. In the child of a fork every store is dead.
  5. When the program ends, no store waits any more for a thread that cannot go on.
  6. A finalizer waits neither for the registry nor for a store.  What it leaves is seen to by whoever is
     done with the registry.

Thread safety: every function may be called from any thread.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple

from lsmdbm._base.ending import EndingLock, Lock, on_exit
from lsmdbm._base.errors import LockedError, NotFoundError, error
from lsmdbm._base.forking import on_fork
from lsmdbm._base.leftovers import clear_up, drop_all, leave, taken
from lsmdbm._base.options import Options
from lsmdbm._base.paths import parent_of
from lsmdbm._base.storage import Directory, File, Storage, directory_mode
from lsmdbm._engine.install import Installer, new_state, synced
from lsmdbm._engine.mapped import refuse_unmapped
from lsmdbm._engine.names import LOCK, Counter, lock_holder, lock_label, parse
from lsmdbm._engine.reader import Reader
from lsmdbm._engine.recognition import is_foreign
from lsmdbm._engine.recovery import Recovered, recover
from lsmdbm._engine.store import Store

FIRST_WAIT, LONGEST_WAIT = 0.001, 0.05  # seconds between two tries to get the writer lock


class Lease:
    """One handle's share of a store.  Given back by `release`, at the latest when nobody refers to it."""

    __slots__ = ("__weakref__", "_key", "store")

    def __init__(self, key: Key, store: Store | Reader) -> None:
        self._key = key
        self.store = store

    @property
    def storage(self) -> Storage:
        """Where the store is."""
        return self._key[0]

    def release(self) -> None:
        """Give it back; the last lease of a store closes it.  Interrupted, it can be called again.

        Raises:
            FailedError: writes that had returned may be lost.
        """
        if isinstance(self.store, Reader):
            self.store.close()
            return
        try:
            with _registry_lock:
                self._give_back(self.store.close)
        finally:
            clear_up()  # rule 6

    def release_unless_busy(self) -> bool:
        """Do what `release` does without waiting; False if somebody, this thread too, was in the way."""
        if isinstance(self.store, Reader):
            return self.store.close_unless_busy()
        with taken(_registry_lock) as is_free:
            return is_free and self._give_back(self.store.close_unless_busy) is not False

    def _give_back(self, close: Callable[[], bool | None]) -> bool | None:
        """Close the store if nobody else has it; return what that returns."""
        shared = _registry.get(self._key)
        if shared is None or shared.store is not self.store:
            return close()  # goes on where an earlier call was interrupted
        shared.leases.discard(self)
        return None if shared.leases else _close(self._key, shared, close)

    def __del__(self) -> None:
        try:
            leave(self.release_unless_busy)
        except Exception:  # a finalizer has nobody to tell
            pass


class _Shared(NamedTuple):
    store: Store
    leases: weakref.WeakSet[Lease]


Key = tuple[Storage, tuple[int, int]]
_registry: dict[Key, _Shared] = {}
_registry_lock: Lock = threading.RLock()
_alive: weakref.WeakSet[Store | Reader] = weakref.WeakSet()


def acquire(storage: Storage, path: str, flag: str, mode: int, given: dict[str, object]) -> Lease:
    """Return a lease of the store for a handle.

    Args:
        flag: one of "r", "w", "c", "n".
        mode: permission bits of new files.
        given: the options the caller named.

    Raises:
        NotFoundError: there is no database, and the flag does not create one.
        LockedError: another process kept the writer lock for `timeout` seconds.
        error: what is at the path is not ours, or logs must not be mapped there.
    """
    options = Options.choose(given, {} if flag == "n" else None)
    if options.log_io == "mmap" and flag != "r":
        _refuse_unmapped(storage, path, mode)
    _prepare_path(storage, path, flag, mode, given)
    deadline = storage.monotonic() + options.timeout
    wait = FIRST_WAIT
    while True:
        directory = storage.directory(path, mode)
        try:
            lease, holder = _try(storage, directory, flag, given)
        except BaseException:
            directory.close()
            raise
        finally:
            clear_up()  # rule 6
        if lease is not None:
            return lease
        directory.close()
        if storage.monotonic() + wait > deadline:
            raise LockedError.at(path, holder)
        storage.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


def _try(
    storage: Storage, directory: Directory, flag: str, given: dict[str, object]
) -> tuple[Lease | None, str]:
    """Return a lease; or None, and who has the lock."""
    key = (storage, directory.identity())
    with _registry_lock:
        lease = _join(key, flag, given)
        if lease is not None:
            directory.close()
            return lease, ""
        if flag == "r":
            reader = _open_reader(storage, directory, given)
            _alive.add(reader)
            return Lease(key, reader), ""
        _refuse_foreign(directory, flag)
        lock = directory.lock(LOCK, lock_label(storage))
        if lock is None:
            return None, lock_holder(directory)
        try:
            store = _open_writer(storage, directory, lock, flag, given)
        except BaseException:
            lock.close()
            raise
        _alive.add(store)
        lease = Lease(key, store)  # before the registry knows the store: if what follows is interrupted, the
        _registry[key] = _Shared(store, weakref.WeakSet([lease]))  # lease goes, and the store is closed
        return lease, ""


def _join(key: Key, flag: str, given: dict[str, object]) -> Lease | None:
    """Return a lease of the writer this process has, None if it has none."""
    shared = _registry.get(key)
    if shared is None:
        return None
    lease = Lease(key, shared.store)
    shared.leases.add(lease)  # from here on nobody else's going closes the store
    if shared.store.is_closed:
        _close(key, shared, shared.store.close)  # a close() was interrupted
        return None
    if flag != "r":
        shared.store.strengthen(Options.choose(given))  # rule 1
    if flag == "n":
        shared.store.clear()
    return lease


def _close(key: Key, shared: _Shared, close: Callable[[], bool | None]) -> bool | None:
    try:
        return close()
    finally:
        if shared.store.is_released and _registry.get(key) is shared:
            del _registry[key]


def _refuse_unmapped(storage: Storage, path: str, mode: int) -> None:
    """Raise before anything is made, if logs must not be mapped where the database is or will be."""
    directory = storage.directory(path if storage.kind(path) == "directory" else parent_of(path), mode)
    try:
        refuse_unmapped(directory)
    finally:
        directory.close()


def _prepare_path(storage: Storage, path: str, flag: str, mode: int, given: dict[str, object]) -> None:
    """See to it that there is a directory."""
    kind = storage.kind(path) if path else "missing"
    if kind == "file" and flag == "n":
        storage.unlink(path)
        kind = "missing"
    if kind == "missing":
        if flag in "rw" or not path:
            raise NotFoundError.at(path)
        Options.choose(given, {})  # before anything is made: a new database remembers none of them
        try:
            storage.mkdir(path, directory_mode(mode))
        except error:
            if storage.kind(path) != "directory":  # somebody else may have been faster
                raise
    elif kind != "directory":
        raise error(f"{path}: not a database: it is no directory")


def _refuse_foreign(directory: Directory, flag: str) -> None:
    """Raise before anything is written into a directory that is not ours."""
    names = _own_names(directory)
    if flag == "w" and not names:
        raise NotFoundError.at(directory.path)


def _own_names(directory: Directory) -> list[str]:
    """Return the names of our files in a directory that is ours; others may be among them."""
    names = directory.listdir()
    if is_foreign(directory, names):
        raise error(f"{directory.path}: not a database: the directory holds other files")
    return [name for name in names if parse(name)]


def _open_reader(storage: Storage, directory: Directory, given: dict[str, object]) -> Reader:
    if not _own_names(directory):
        raise NotFoundError.at(directory.path)
    options = Options.choose(given)
    reader = Reader(storage, directory, options)
    if options.verify_on_open:
        reader.view.check_tables()
    return reader


def _open_writer(
    storage: Storage, directory: Directory, lock: File, flag: str, given: dict[str, object]
) -> Store:
    if flag == "n":
        recovered = _start_empty(storage, directory, given)
    else:
        found = recover(directory)
        if found is None and flag == "w":
            raise NotFoundError.at(directory.path)
        recovered = found or _start_empty(storage, directory, given)
    options = Options.choose(given, recovered.manifest.shape)
    store = Store(storage, directory, lock, options, recovered)
    if flag == "n":
        store.collect_garbage()
    if options.verify_on_open:
        store.view.check_tables()
    return store


def _start_empty(storage: Storage, directory: Directory, given: dict[str, object]) -> Recovered:
    """Install an empty manifest.  Whatever the directory held is garbage from then on."""
    highest = max((found[0] for name in directory.listdir() if (found := parse(name))), default=0)
    counter = Counter(highest + 1)
    blank = new_state(storage, Options.choose(given, {}))._replace(min_wal=highest + 1)
    installer = Installer(directory, counter, blank)
    installer.install(blank, lambda: None)
    synced(lambda: storage.sync_parent(directory.path))
    recovered = recover(directory)
    if recovered is None:
        raise error(f"{directory.path}: the new manifest cannot be read back")
    recovered.is_suspect = False  # synced just now
    return recovered


def _after_fork() -> None:  # rule 4
    global _registry_lock
    _registry_lock = threading.RLock()
    _registry.clear()
    for store in list(_alive):
        store.die()
    _alive.clear()
    drop_all()


def _at_exit() -> None:  # rule 5
    global _registry_lock
    clear_up()
    _registry_lock = EndingLock(_registry_lock)
    for store in list(_alive):
        if isinstance(store, Store):
            store.expect_end()


on_fork(_after_fork)
on_exit(_at_exit)
