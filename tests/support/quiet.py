"""What a database leaves behind in this process and on disk: descriptors, locks, and what a stranger reads.

Thread safety: pure functions, but for `is_unlocked`, which takes the lock for a moment.
"""

from __future__ import annotations

import os

from lsmdbm import Database
from lsmdbm._base.options import Options
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._engine import sharing
from lsmdbm._engine.names import LOCK
from lsmdbm._engine.reader import Reader

HAS_PROC = os.path.isdir("/proc/self/fd")


def descriptors(path: str) -> list[str]:
    """Return what this process has open below a path; nothing where there is no /proc."""
    found = []
    for descriptor in os.listdir("/proc/self/fd") if HAS_PROC else ():
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:  # the one that listed the directory
            continue
        if target == path or target.startswith(path + os.sep):
            found.append(target)
    return found


def held_locks(db: Database) -> list[str]:
    """Return which locks of the engine this very thread still holds, and give them back."""
    store = db._store
    locks = {
        "store": getattr(getattr(store, "_writer", None), "lock", None),
        "reader": getattr(store, "_lock", None),
        "sync": getattr(getattr(store, "_durability", None), "lock", None),
        "registry": sharing._registry_lock,
    }
    held = [name for name, lock in locks.items() if lock is not None and lock._is_owned()]
    for name in held:
        while locks[name]._is_owned():
            locks[name].release()
    return held


def is_unlocked(path: str) -> bool:
    """Return whether another process could take the writer lock now."""
    directory = OsStorage().directory(path, 0o666)
    lock = directory.lock(LOCK, b"")
    if lock is not None:
        lock.close()
    directory.close()
    return lock is not None


def on_disk(path: str) -> dict[bytes, bytes]:
    """Return what another process would read now, even if this one has the database open."""
    storage = OsStorage()
    reader = Reader(storage, storage.directory(path, 0o666), Options.choose({}))
    try:
        found: dict[bytes, bytes] = {}
        for keys, values in reader.chunks(None, None):
            found.update(zip(keys, values, strict=True))  # type: ignore[arg-type]  # a read gives no None
        return found
    finally:
        reader.close()


def is_gone(pid: int) -> bool:
    """Return whether there is no such process, not even a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
