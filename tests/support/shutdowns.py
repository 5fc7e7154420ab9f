"""Programs that end with a database open: `python -m support.shutdowns NAME PATH DURABILITY`.

Each puts the keys 0, 1, ... and reports every put that has returned; what happens at its end is its point.
`at_end` says of each whether the handle is closed on the way, and with which status it ends.

Thread safety: none.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import random
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import lsmdbm
from lsmdbm._base import os_file
from support import endless
from support.layers import TINY

COUNT = 120
KEEP: dict[str, Any] = {}  # until the interpreter takes its modules apart


def put(db: lsmdbm.Database, first: int = 0, count: int = COUNT) -> None:
    """Put so many keys from a number on, each reported when it has returned."""
    for number in range(first, first + count):
        db[b"%06d" % number] = b"%d" % number
        os.write(1, b"%d\n" % number)


def put_for_ever(db: lsmdbm.Database, first: int, started: threading.Event) -> None:
    """Put until the process ends."""
    try:
        for number in range(first, 1 << 60):
            put(db, number, 1)
            if number == first + 50:
                started.set()
    except lsmdbm.ClosedError:
        pass


def in_threads(db: lsmdbm.Database, count: int, *, daemon: bool) -> None:
    """Have threads put, and go on when all do."""
    events = [threading.Event() for _ in range(count)]
    for place, event in enumerate(events):
        threading.Thread(target=put_for_ever, args=(db, (place + 1) * 100_000, event), daemon=daemon).start()
    for event in events:
        event.wait()


def unclosed(db: lsmdbm.Database) -> None:
    """A global that is never closed."""
    KEEP["db"] = db


def in_a_cycle(db: lsmdbm.Database) -> None:
    """A handle in a reference cycle."""
    cycle: list[Any] = [db]
    cycle.append(cycle)


def dropped(db: lsmdbm.Database) -> None:
    """A handle that nobody refers to."""


def reader_unclosed(db: lsmdbm.Database) -> None:
    """A reader beside the writer, neither of them closed."""
    KEEP["both"] = (db, lsmdbm.open(db.path, "r"))


def closed_by_atexit(db: lsmdbm.Database) -> None:
    """The tidy way."""
    atexit.register(db.close)


def written_to_by_atexit(db: lsmdbm.Database) -> None:
    """A last word from atexit, and no close."""
    atexit.register(put, db, COUNT, 5)


def daemon_thread(db: lsmdbm.Database) -> None:
    """Daemon threads that write while the interpreter goes down."""
    in_threads(db, 2, daemon=True)
    KEEP["db"] = db


def daemon_thread_and_close(db: lsmdbm.Database) -> None:
    """The same, with a close at exit under their hands."""
    in_threads(db, 2, daemon=True)
    atexit.register(db.close)


def thread_that_outlives_main(db: lsmdbm.Database) -> None:
    """A thread that Python waits for."""
    threading.Thread(target=put, args=(db, COUNT, 200)).start()


def iterator_open(db: lsmdbm.Database) -> None:
    """An iterator in the middle of its way."""
    iterator = iter(db.items())
    next(iterator)
    KEEP["iterators"] = (iterator, reversed(db), db)


def generator_open(db: lsmdbm.Database) -> None:
    """A generator of the user's, suspended in a `with`, which the interpreter may close late."""

    def values() -> Any:
        with db:
            yield from db.values()

    KEEP["generator"] = values()
    next(KEEP["generator"])


def in_an_older_module(db: lsmdbm.Database) -> None:
    """Held by a module that outlives ours, as programs do that import us late: ours are emptied first."""
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "lsmdbm"}
    holder = sys.modules["holder"] = types.ModuleType("holder")
    vars(holder).update(db=db, ours=[*ours.values()])
    for name, module in ours.items():
        del sys.modules[name]
        sys.modules[name] = module  # behind it
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(holder))  # held by C, where no collection sees it


def closed_beside_a_stopped_thread(db: lsmdbm.Database) -> None:
    """A late close, while a daemon thread was stopped in the middle of a sync: nothing can be waited for."""

    class Late:
        def __del__(self) -> None:
            try:
                db.close()
            except lsmdbm.FailedError:
                os.write(2, b"  refused\n")

    os_file._data_sync = endless.sync
    threading.Thread(target=endless.put_and_sync, args=(db,), daemon=True).start()
    endless.is_syncing.wait()
    KEEP["late"] = Late()


def finalizer_that_writes(db: lsmdbm.Database) -> None:
    """An object whose `__del__` writes when the interpreter takes its modules apart."""

    class Late:
        def __del__(self) -> None:
            try:
                put(db, COUNT, 1)
            finally:
                db.close()

    KEEP["late"] = Late()


def job_under_way(db: lsmdbm.Database) -> None:
    """A flush and a compaction that are not over."""
    put(db, COUNT, 400)
    KEEP["db"] = db


def system_exit(db: lsmdbm.Database) -> None:
    """sys.exit with a status."""
    KEEP["db"] = db
    sys.exit(3)


def os_exit(db: lsmdbm.Database) -> None:
    """No cleaning up at all."""
    os._exit(3)


def terminated(db: lsmdbm.Database) -> None:
    """SIGTERM, which ends a Python program without a word."""
    in_threads(db, 2, daemon=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def terminated_politely(db: lsmdbm.Database) -> None:
    """SIGTERM with a handler that leaves by sys.exit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    in_threads(db, 2, daemon=True)
    KEEP["db"] = db
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


ENDS: dict[str, tuple[Callable[[lsmdbm.Database], None], int]] = {
    function.__name__: (function, status)
    for function, status in (
        (unclosed, 0),
        (in_a_cycle, 0),
        (dropped, 0),
        (reader_unclosed, 0),
        (closed_by_atexit, 0),
        (written_to_by_atexit, 0),
        (daemon_thread, 0),
        (daemon_thread_and_close, 0),
        (thread_that_outlives_main, 0),
        (iterator_open, 0),
        (generator_open, 0),
        (in_an_older_module, 0),
        (closed_beside_a_stopped_thread, 0),
        (finalizer_that_writes, 0),
        (job_under_way, 0),
        (system_exit, 3),
        (os_exit, 3),
        (terminated, -signal.SIGTERM),
        (terminated_politely, 3),
    )
}


def main(name: str, path: str, durability: str) -> None:
    """Write, and come to the end of that name."""
    log_io = random.Random(f"{os.environ.get('LSMDBM_SEED')} {name} {durability}").choice(("pwrite", "auto"))
    db = lsmdbm.open(path, "c", durability=durability, sync_interval=0.01, log_io=log_io, **TINY)
    put(db)
    ENDS[name][0](db)


if __name__ == "__main__":
    main(*sys.argv[1:])
