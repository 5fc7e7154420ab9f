"""Exceptions from another thread at random moments: SIGINT, and what `PyThreadState_SetAsyncExc` raises.

    counts = storm(path, seed, 1000, "signal")    in a process of its own, where SIGINT can harm nobody else
    counts = storm(path, seed, 1000, "async")     in any thread

One thread works on a database; each of its operations is met by one exception, wherever that finds it.
Then no lock is held, and the content is the one before or the one after the operation: the one after if the
operation had returned.  Now and then a stranger reads the files.

Rules
  1. The exception comes only between the moment the worker lets go of `go` and the moment it has had it.
  2. A finalizer that the exception meets swallows it: then the worker goes on at once.
  3. The thread of a database at "interval" is started beforehand.  What `PyThreadState_SetAsyncExc` sends to
     a thread that is starting another one may reach the newborn, which in CPython for a moment has the number
     of its parent: it dies of it, and leaves the parent waiting in `Thread.start` for ever.

Thread safety: one storm at a time in a process.
"""

from __future__ import annotations

import ctypes
import faulthandler
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import lsmdbm
from support.interruptions import interruption
from support.layers import TINY
from support.quiet import held_locks, on_disk

Content = dict[bytes, bytes]
KEYS = [b"%04d" % number for number in range(24)]
LONGEST = 0.001  # seconds until the exception, of which a put takes a hundredth
LOOK_EVERY = 25
PATIENCE = 300  # seconds, until a process that hangs says where, and ends


def operation(
    db: lsmdbm.Database, rng: random.Random, old: Content
) -> tuple[Callable[[], Any], list[Content]]:
    """Return a random call, and what it may leave: the states it goes through, the last one at its end."""
    key, value = rng.choice(KEYS), rng.randbytes(rng.randrange(60))
    pairs = [(each, rng.randbytes(rng.randrange(60))) for each in rng.sample(KEYS, 4)]
    without = {each: held for each, held in old.items() if each != key}
    first = min(old, default=None)
    put = [{**old, key: value}]
    still = [old]
    choices: list[tuple[Callable[[], Any], list[Content]]] = [
        (lambda: db.__setitem__(key, value), put),
        (lambda: db.__setitem__(key, value), put),
        (lambda: db.pop(key, None), [without]),
        (lambda: db.setdefault(key, value), [{key: value, **old}]),
        (
            lambda: db.popitem() if old else None,
            [{each: held for each, held in old.items() if each != first}],
        ),
        (lambda: db.update(pairs), [{**old, **dict(pairs[:count])} for count in range(1, 5)]),
        (lambda: db.update(pairs), [{**old, **dict(pairs[:count])} for count in range(1, 5)]),
        (lambda: db.flush(), still),
        (lambda: db.compact(), still),
        (lambda: db.sync(), still),
        (lambda: list(db.items()), still),
        (lambda: list(reversed(db)), still),
        (lambda: len(db), still),
    ]
    if rng.random() < 0.02:
        return db.clear, [{}]
    return rng.choice(choices)


class Thrower:
    """The thread that raises in another one."""

    def __init__(self, kind: str, seed: str) -> None:
        self.go = (
            threading.Lock()
        )  # whose release() is one step: in the middle of a Semaphore's it could come
        self.go.acquire()
        self.goal = self.sent = 0  # exceptions
        self.had = 0  # signals that the other thread has handled
        self._kind = kind
        self._rng = random.Random(f"{seed} moments")
        self._target = threading.get_ident()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Thrower:
        if self._kind == "signal":
            self._before = signal.signal(signal.SIGINT, self._handle)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self.go.release()
        self._thread.join()
        if self._kind == "signal":
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, *_: object) -> None:
        self.had += 1
        raise interruption(self.goal)

    def _run(self) -> None:
        while True:
            self.go.acquire()
            if self._is_over:
                return
            time.sleep(self._rng.random() ** 3 * LONGEST)
            if self._kind == "signal":
                signal.pthread_kill(self._target, signal.SIGINT)
            else:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._target), ctypes.py_object(type(interruption(self.goal)))
                )
            self.sent += 1

    def wait(self) -> None:
        """Let it come, if it has not come yet."""
        while self.sent < self.goal:
            pass
        while self._kind == "signal" and self.had < self.goal:
            pass
        for _ in range(10):  # it is raised at a jump back
            pass


def storm(path: str, seed: str, count: int, kind: str, durability: str) -> dict[str, int]:
    """Run so many operations, each met by one exception; raise AssertionError if one did harm."""
    if kind == "signal":
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # rule 2
    try:
        log_io = random.Random(f"{seed} log").choice(("pwrite", "auto"))
        with lsmdbm.open(path, "c", durability=durability, sync_interval=0, log_io=log_io, **TINY) as db:
            db[KEYS[0]] = b"first"  # rule 3
            with Thrower(kind, seed) as thrower:
                counts, content = _in_the_storm(db, thrower, path, f"{kind} storm {seed}", count)
    finally:
        sys.setswitchinterval(before)
        sys.unraisablehook = hook
        if kind == "signal":
            faulthandler.cancel_dump_traceback_later()
    with lsmdbm.open(path, "r") as db:
        if dict(db) != content:
            raise AssertionError(f"{kind} storm {seed}: lost at the end")
    return counts


def _in_the_storm(
    db: lsmdbm.Database, thrower: Thrower, path: str, name: str, count: int
) -> tuple[Counter[str], Content]:
    """Return where the exceptions met the operations, and the content at the end."""
    rng = random.Random(name)
    counts: Counter[str] = Counter()
    content = dict(db)
    for number in range(count):
        call, after = operation(db, rng, content)
        is_done = is_met = False
        thrower.goal += 1
        try:
            thrower.go.release()
            call()
            is_done = True
            thrower.wait()
        except KeyboardInterrupt:
            is_met = True
        counts["swallowed" if not is_met else "behind the call" if is_done else "in the call"] += 1
        where = f"{name}, operation {number}"
        held = held_locks(db)
        if held:
            raise AssertionError(f"{where}: {held} held")
        found = dict(db)
        if found not in (after[-1:] if is_done else [content, *after]) or len(found) != len(db):
            raise AssertionError(f"{where}: {len(db)} entries, {found}")
        content = found
        if number % LOOK_EVERY == 0:
            db.sync()
            if on_disk(path) != content:
                raise AssertionError(f"{where}: the files say something else")
    return counts, content
