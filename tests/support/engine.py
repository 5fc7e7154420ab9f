"""What tests of lsmdbm/_engine share: a directory on a CrashStorage, a store in it, what its files say.

Thread safety: none.
"""

from __future__ import annotations

import posixpath
from typing import Any

from lsmdbm._base.storage import Storage
from lsmdbm._engine import sharing
from lsmdbm._engine.names import MANIFEST, WAL, parse
from lsmdbm._engine.reader import Reader
from lsmdbm._engine.sharing import Lease
from lsmdbm._engine.store import Store
from lsmdbm._format import log_reader, records
from lsmdbm._format import manifest as manifests
from lsmdbm._format.coding import Malformed
from lsmdbm._format.manifest import Manifest
from lsmdbm._format.records import LogHeader, Record
from support.crash_storage import CrashDirectory, CrashStorage

PATH = "/db"
MODE = 0o666
TINY: dict[str, Any] = {"memtable_bytes": 1024, "block_bytes": 64, "cache_bytes": 4096, "compression": None}


_leases: dict[int, list[Lease]] = {}  # by id of their store


def acquire(storage: Storage, path: str, flag: str, mode: int, options: dict[str, Any]) -> Store | Reader:
    """Return the store that a handle would be given; give it back with `release`."""
    lease = sharing.acquire(storage, path, flag, mode, options)
    _leases.setdefault(id(lease.store), []).append(lease)
    return lease.store


def release(store: Store | Reader) -> None:
    """Give back one share of a store; the last one closes it."""
    leases = _leases.get(id(store), [])
    if leases:
        leases.pop().release()
    else:
        store.close()


def new_directory(storage: CrashStorage) -> CrashDirectory:
    """Return the directory /db, empty and durable."""
    storage.mkdir(PATH, 0o777)
    storage.sync_parent(PATH)
    return storage.directory(PATH, MODE)


def open_store(storage: CrashStorage, flag: str = "c", **options: Any) -> Store:
    """Return the writer of /db, small enough for little data to fill it.  Close it with `close`."""
    store = acquire(storage, PATH, flag, MODE, {**TINY, **options})
    if not isinstance(store, Store):
        raise TypeError("that is a reader")
    return store


def open_reader(storage: CrashStorage, **options: Any) -> Reader:
    """Return a reader of /db; it must not be open for writing."""
    reader = acquire(storage, PATH, "r", MODE, options)
    if not isinstance(reader, Reader):
        raise TypeError("that is a writer")
    return reader


def close(storage: CrashStorage, *stores: Store | Reader) -> None:
    """Give handles back."""
    for store in stores:
        release(store)


def entries(store: Store | Reader) -> dict[bytes, bytes]:
    """Return all a store holds."""
    found: dict[bytes, bytes] = {}
    for keys, values in store.chunks(None, None):
        found.update((key, value) for key, value in zip(keys, values, strict=True) if value is not None)
    return found


def names(storage: CrashStorage, kind: str | None = None) -> list[str]:
    """Return the files of /db, ascending; those of one kind alone if it is given."""
    found = sorted(storage.contents(PATH))
    return (
        found if kind is None else [name for name in found if (parsed := parse(name)) and parsed[1] == kind]
    )


def log(storage: CrashStorage, number: int) -> tuple[LogHeader, list[Record]]:
    """Return header and records of one log."""
    data = storage.contents(PATH)[f"{number:06d}.{WAL}"]
    header = LogHeader.decode(data)
    return header, list(log_reader.in_order(data, header))


def writes(storage: CrashStorage, number: int) -> list[tuple[int, dict[bytes, bytes | None]]]:
    """Return (sequence, what it sets) of each data record of a log; a clear() is `{b"clear": None}`."""
    found = []
    for record in log(storage, number)[1]:
        if not records.is_mark(record):
            change = records.decode_change(record)
            entries = dict(zip(change.keys, change.values, strict=True))
            found.append((record.seq, {b"clear": None} if change.clears else entries))
    return found


def current(storage: CrashStorage) -> Manifest:
    """Return the highest manifest that verifies."""
    contents = storage.contents(PATH)
    for name in reversed(names(storage, MANIFEST)):
        try:
            return manifests.decode(contents[name], int(name.partition(".")[0]))
        except Malformed:
            pass
    raise LookupError("no manifest")


def calls_since(storage: CrashStorage, start: int) -> list[str]:
    """Return the calls from number `start` on, each as `operation name`."""
    return [f"{operation} {posixpath.basename(path)}" for operation, path in storage.calls[start:]]
