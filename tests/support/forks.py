"""Forks under load: threads write on one handle, the main thread forks, and the child does what it likes.

    counts = forks(path, seed, 20, "process")      in a process of its own: some children end like a program

Rules
  1. A child that finds what it must ends with status 0, or by the exec; anything else is a failure.
  2. A child that hangs is killed by its own alarm.
  3. Each thread writes keys of its own and knows their values: the parent's content is exact.

Thread safety: one run at a time in a process.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lsmdbm
from lsmdbm._engine import sharing
from support.layers import TINY

THREADS = 4
PATIENCE = 60  # seconds, until a child that hangs is killed
USES: dict[str, Callable[[lsmdbm.Database], Any]] = {
    "get": lambda db: db.get(b"key"),
    "put": lambda db: db.__setitem__(b"key", b"value"),
    "delete": lambda db: db.pop(b"key", None),
    "update": lambda db: db.update({b"key": b"value"}),
    "clear": lambda db: db.clear(),
    "count": len,
    "iterate": lambda db: list(db.items()),
    "first": lambda db: db.firstkey(),
    "sync": lambda db: db.sync(),
    "flush": lambda db: db.flush(),
    "compact": lambda db: db.compact(),
    "stats": lambda db: db.stats(),
    "changes": lambda db: db.changes(),
    "position": lambda db: db.position(),
}


def uses_that_did_not_raise(db: lsmdbm.Database) -> list[str]:
    """Return the uses of a handle that were not answered by ClosedError."""
    wrong = []
    for name, use in USES.items():
        try:
            use(db)
        except lsmdbm.ClosedError as exc:
            if "fork" not in str(exc):
                wrong.append(f"{name}: {exc}")
        except BaseException as exc:
            wrong.append(f"{name}: {exc!r}")
        else:
            wrong.append(name)
    return wrong


def _use(db: lsmdbm.Database, path: str) -> None:
    signal.alarm(PATIENCE)
    wrong = uses_that_did_not_raise(db)
    db.close()
    if wrong:
        os.write(2, f"{wrong}\n".encode())
    os._exit(bool(wrong))


def _read(db: lsmdbm.Database, path: str) -> None:
    try:
        db.get(b"key")
    except lsmdbm.ClosedError:
        os._exit(0)
    os._exit(1)


def _exit(db: lsmdbm.Database, path: str) -> None:
    os._exit(0)


def _end(db: lsmdbm.Database, path: str) -> None:
    _leave_the_pipes()
    sys.exit(0)  # with all that the end of a program does


def _raise(db: lsmdbm.Database, path: str) -> None:
    _leave_the_pipes()
    raise LookupError("up to the main loop of the child, which finds that there is nothing more to do")


def _exec(db: lsmdbm.Database, path: str) -> None:
    os.execv("/bin/true", ["true"])


def _open_again(db: lsmdbm.Database, path: str) -> None:
    """Read what is on disk through a handle of its own; the lock is the parent's."""
    with lsmdbm.open(path, "r") as own:
        list(own.items())
    try:
        lsmdbm.open(path, "w", timeout=0).close()
    except lsmdbm.LockedError:
        os._exit(0)
    os._exit(1)


def _collect(db: lsmdbm.Database, path: str) -> None:
    """Let finalizers meet the dead engine."""
    db.__del__()
    gc.collect()
    os._exit(0)


FATES = [_use, _read, _exit, _end, _raise, _exec, _open_again, _collect]


def _leave_the_pipes() -> None:
    """Have nothing to do any more with those who talk to the parent."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)


def _in_a_multiprocessing_child(db: lsmdbm.Database) -> int:
    process = multiprocessing.get_context("fork").Process(target=_use, args=(db, ""))
    process.start()
    process.join()
    return -1 if process.exitcode is None else process.exitcode


class Load:
    """Threads that write, each its own keys, until the block ends; `written` is then what they wrote."""

    def __init__(self, db: lsmdbm.Database, seed: str) -> None:
        self.written: dict[bytes, bytes] = {}
        self.failures: list[BaseException] = []
        self._db = db
        self._seed = seed
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(THREADS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int) -> None:
        rng = random.Random(f"{self._seed} {number}")
        own: dict[bytes, bytes] = {}
        try:
            while not self._is_over.is_set():
                key, value = b"%d-%03d" % (number, rng.randrange(200)), rng.randbytes(rng.randrange(60))
                chance = rng.random()
                if chance < 0.2:
                    if self._db.pop(key, None) != own.pop(key, None):
                        raise AssertionError(f"pop of {key!r}")
                elif chance < 0.25:
                    list(self._db.range(prefix=b"%d-" % number).items())
                else:
                    self._db[key] = own[key] = value
                if self._db.get(key) != own.get(key):
                    raise AssertionError(f"get of {key!r}")
        except BaseException as exc:
            self.failures.append(exc)
        self.written.update(own)


def forks(
    path: str, seed: str, count: int, durability: str, fates: Sequence[Callable[..., Any]] = ()
) -> dict[str, int]:
    """Fork so many children; raise AssertionError if one failed, or if the parent's data is not exact."""
    warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: a fork of a process with threads
    fates = fates or [*FATES, _in_a_multiprocessing_child]
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    options = {
        "durability": durability,
        "sync_interval": 0.01,
        "log_io": rng.choice(("pwrite", "auto")),
        **TINY,
    }
    db = lsmdbm.open(path, "c", **options)
    iterator = iter(db.items())
    before = dict(db)
    with Load(db, seed) as load:
        for number in range(count):
            fate = rng.choice(fates)
            if fate is _in_a_multiprocessing_child:
                status = fate(db)
            else:
                pid = os.fork()
                if pid == 0:
                    signal.alarm(PATIENCE)
                    try:
                        fate(db, path)
                    except LookupError:
                        raise
                    except Exception as exc:
                        os.write(2, f"{exc!r}\n".encode())
                        os._exit(2)
                status = os.waitpid(pid, 0)[1]
            if status:
                raise AssertionError(f"{seed}, fork {number}: {fate.__name__} ended with {status}")
            counts[fate.__name__.strip("_")] += 1
    if load.failures:
        raise load.failures[0]
    expected = {key: value for key, value in before.items() if key[:1] not in b"0123"} | load.written
    content = dict(db)
    if content != expected or len(db) != len(expected):
        raise AssertionError(f"{seed}: {len(content)} entries, {len(expected)} written")
    del iterator
    db.close()
    with lsmdbm.open(path, "r") as again:
        if dict(again) != expected:
            raise AssertionError(f"{seed}: not what was written, on disk")
    return counts


def _began(path: str) -> dict[str, Iterator[Any]]:
    """Return iterations under way over some thousand entries, in tables and in memory."""
    db = lsmdbm.open(path, "c", log_keep_bytes=1 << 20, **TINY)
    start = db.position()
    entries = {b"%04d" % number: b"v" * 20 for number in range(3000)}
    db.update(entries)
    db.flush()
    db.update(entries)
    iterations: dict[str, Iterator[Any]] = {
        "keys": iter(db),
        "values": iter(db.values()),
        "items of a range, backwards": iter(db.range(b"1", reverse=True).items()),
        "a text view": iter(db.text().items()),
        "a snapshot": iter(db.snapshot()),
        "a transaction": iter(db.transaction()),
        "changes": db.changes(start),
        "a reader": iter(lsmdbm.open(path, "r").items()),
    }
    for iteration in iterations.values():
        next(iteration)
    iterations["one without a step"] = iter(db.items())
    return iterations


def iterations_that_went_on(path: str) -> list[str]:
    """Fork in the middle of iterations; return those that gave anything but ClosedError in the child."""
    iterations = _began(path)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(PATIENCE)
        os.write(writing, "\n".join(_told_nothing_of_a_fork(iterations)).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        wrong = pipe.read().splitlines()
    status = os.waitpid(pid, 0)[1]
    if status:
        raise AssertionError(f"the child ended with {status}")
    for name, iteration in iterations.items():
        if not [*iteration]:
            wrong.append(f"{name}: at its end in the parent")
    return wrong


def _told_nothing_of_a_fork(iterations: dict[str, Iterator[Any]]) -> list[str]:
    wrong = []
    for name, iteration in iterations.items():
        try:
            wrong.append(f"{name}: {next(iteration)!r}")
        except BaseException as exc:
            if not isinstance(exc, lsmdbm.ClosedError) or "fork" not in str(exc):
                wrong.append(f"{name}: {exc!r}")
    return wrong


def rows_that_came_after_a_fork(path: str) -> int:
    """Return how many of 3,000 rows a cursor gives in the child; AssertionError if there it does not fail."""
    from lsmdbm import dbapi

    cursor = dbapi.connect(path).cursor()
    cursor.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
    cursor.executemany("INSERT INTO t VALUES (?, ?)", [(number, "text") for number in range(3000)])
    cursor.connection.commit()
    cursor.execute("SELECT * FROM t")
    cursor.fetchone()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(PATIENCE)
        count = 0
        try:
            for _ in cursor:
                count += 1
        except dbapi.Error as exc:
            os.write(writing, f"{count} {'fork' in str(exc)}".encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    if not text.endswith("True"):
        raise AssertionError(f"not told of the fork: {text!r}")
    if len(cursor.fetchall()) != 2999:
        raise AssertionError("rows are missing in the parent")
    return int(text.split()[0])


def without_hooks(path: str) -> None:
    """Do what `forks` does with an engine that lives on in the child."""
    sharing.Store.die = lambda self: None  # type: ignore[method-assign]
    forks(path, "planted", 1, "process", [_read])
