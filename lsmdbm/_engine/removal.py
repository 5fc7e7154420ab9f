"""Removal: a database taken away file by file, so that a crash leaves the whole of it or nothing that opens.

    (1) manifest after manifest, the oldest first, the directory synced after each
    (2) tables and logs, which no manifest names any more
    (3) LOCK, then the directory itself if nothing else is in it, and its parent synced

Rules
  1. The newest manifest goes last: with an older one it would open in an older state.
  2. Cut off in (1), it opens as it was; behind it, not at all: tables or logs without a manifest are
     corruption, and a directory with neither is a database that was never born.
  3. What is not ours is not touched, and then the directory stays.

Thread safety: under the writer lock.  Spec: docs/operations.md, Destroy.
"""

from __future__ import annotations

from lsmdbm._base.errors import LockedError, NotFoundError, error
from lsmdbm._base.storage import Directory, File, Storage
from lsmdbm._engine.names import LOCK, MANIFEST, file_name, lock_holder, lock_label, numbers, parse
from lsmdbm._engine.recognition import is_foreign
from lsmdbm._format import manifest as manifests


def take_lock(storage: Storage, directory: Directory) -> File:
    """Take the writer lock without waiting.

    Raises:
        LockedError: somebody else has it.
        error: this process has it.
    """
    label = lock_label(storage)
    lock = directory.lock(LOCK, label)
    if lock is not None:
        return lock
    if directory.peek(LOCK) == label:
        raise error(f"{directory.path}: the database is open in this process")
    raise LockedError.at(directory.path, lock_holder(directory))


def destroy(storage: Storage, path: str) -> list[str]:
    """Remove the database at `path`, and return the names that were left because they are not ours.

    Raises:
        NotFoundError: there is no database.
        LockedError: another process has it open for writing.
        error: the path is a link or no directory, or the directory is not ours; this process has the
            database open for writing; a file could not be removed.
    """
    kind = storage.kind(path) if path else "missing"
    if kind == "missing" and not storage.is_link(path):
        raise NotFoundError.at(path)
    if storage.is_link(path):
        raise error(f"{path}: a symbolic link: give the directory that it leads to")
    if kind != "directory":
        raise error(f"{path}: not a database: it is no directory")
    directory = storage.directory(path, 0o600)
    try:
        _refuse_foreign(directory)
        lock = take_lock(storage, directory)
        try:
            empty(directory)
            left = directory.listdir()
            if not left:
                storage.rmdir(path)
                storage.sync_parent(path)
        finally:
            lock.close()
    finally:
        directory.close()
    return sorted(left)


def _refuse_foreign(directory: Directory) -> None:
    """Raise unless the directory holds files of ours, and if others too, a manifest that begins like one."""
    names = directory.listdir()
    ours = [name for name in names if parse(name)]
    if not ours:
        raise NotFoundError.at(directory.path)
    if set(names) <= {LOCK, *ours} and not is_foreign(directory, names):
        return
    candidates = [file_name(number, MANIFEST) for number in numbers(ours, MANIFEST)]
    if not any(directory.peek(name).startswith(manifests.MAGIC) for name in candidates):
        raise error(f"{directory.path}: not a database: the directory holds other files")


def empty(directory: Directory) -> None:
    """Remove all files of ours from a directory.  Requires its lock.

    Raises:
        error: the first thing that could not be done; what can be removed is, if no manifest is left.
    """
    names = directory.listdir()
    for number in numbers(names, MANIFEST):  # rule 1
        directory.unlink(file_name(number, MANIFEST))
        directory.sync()
    failure: error | None = None
    for name in (*(name for name in names if parse(name)), LOCK):
        try:
            directory.unlink(name)
        except error as exc:
            failure = failure or exc
    directory.sync()
    if failure is not None:
        raise failure
