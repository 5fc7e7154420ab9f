"""Databases with forged files, one after the other: reads, writes, and what must never happen meanwhile.

    Fuzz().run(case, count)     raises Unsafe, with the files, at the first that is not safe
    main(case, count)           does so within a limit of memory, and of time for each; prints what it saw

Safe is: everything works, or raises `lsmdbm.error`; no other exception; no loop without an end; no memory
beyond 64 MiB and four times the files; no file, process or socket but through the storage; and what a
database that works was given is there when it is opened again.

Thread safety: none.
"""

from __future__ import annotations

import faulthandler
import json
import random
import signal
import sys
import traceback
import tracemalloc
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from lsmdbm._base.errors import error
from lsmdbm.database import Database
from support import exam, forgery
from support.crash_storage import CrashStorage
from support.specimens import Files, at_random, specimens

MEASURED = 20  # one of so many databases has its memory traced, which takes time
MEMORY_BYTES, MEMORY_FACTOR = 64 << 20, 4
SLACK_BYTES = 16 << 20  # by which an allocator may be off
CALLS = 20_000  # of the storage: far more than any of these small databases needs
SECONDS = 20  # of the processor, for one database
WATCHED = (
    "open",
    "os.",
    "subprocess.",
    "socket.",
    "exec",
    "compile",
    "import",
    "pickle.",
    "ctypes.",
    "shutil.",
)
OPTIONS = {"cache_bytes": 1 << 20, "memtable_bytes": 1 << 16}


ARMED = False  # whether `main` looks at a database now


class Unsafe(AssertionError):
    """A forged database did what none may do."""

    def __init__(self, what: str, files: Files) -> None:
        super().__init__(what)
        self.files = files


class TooLong(BaseException):
    """A forged database is in a loop, or at something that takes far too long."""


def exhaust(iterable: Iterable[object]) -> None:
    deque(iterable, maxlen=0)


def use(db: Database) -> None:
    """Read everything in every way, whatever comes of it."""
    exhaust(db.items())
    exhaust(reversed(db.items()))
    exhaust(db)
    len(db)
    bool(db)
    db.stats()
    for key in exam.ABSENT:
        db.get(key)
        exhaust(db.range(key, key + b"k"))
        db.nextkey(key)
        db.prevkey(key)
    for key in list(islice(db, 20)):
        db.get(key)


class Fuzz:
    """Looks at forged databases.

    Attributes:
        counts: what came of them.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.events: list[str] = []
        self.is_listening = False

    def audit(self, event: str, arguments: object) -> None:
        """Take note of what the interpreter does; for `sys.addaudithook`."""
        if self.is_listening and event.startswith(WATCHED):
            self.events.append(f"{event} {arguments!r:.200}")

    def run(self, case: str, count: int) -> None:
        """Look at so many databases."""
        first = random.Random(case).randrange(MEASURED)
        bases = [*specimens(), at_random(case)]
        for number in range(count):
            chosen = random.Random(f"{case} {number}")
            base, other = chosen.choice(bases), chosen.choice(bases)
            files = forgery.forged(chosen, base.files, other.files)
            self.look(f"{case} {number}", files, number % MEASURED == first)

    def look(self, what: str, files: Files, is_measured: bool) -> None:
        """Read and write one database.

        Raises:
            Unsafe: with the files.
        """
        self.events.clear()
        self.is_listening = True
        try:
            with self._measuring(files) if is_measured else self._nothing():
                self._read(files, random.Random(what))
                self._write(files, random.Random(what))
        except (Exception, TooLong) as exc:
            raise Unsafe(f"{what}: {type(exc).__name__}: {exc}", files) from exc
        finally:
            self.is_listening = False
        if self.events:
            raise Unsafe(f"{what}: {self.events[:5]}", files)
        self.counts["databases"] += 1

    @contextmanager
    def _nothing(self) -> Iterator[None]:
        yield

    @contextmanager
    def _measuring(self, files: Files) -> Iterator[None]:
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            yield
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        limit = MEMORY_BYTES + MEMORY_FACTOR * sum(map(len, files.values()))
        if peak > limit:
            raise MemoryError(f"{peak} bytes, of {limit}")
        self.counts["measured"] += 1

    def _disk(self, files: Files) -> CrashStorage:
        storage = CrashStorage("fuzz")
        for name, data in files.items():
            storage.plant(f"/db/{name}", data)
        storage.on_call = self._count_calls
        return storage

    @staticmethod
    def _count_calls(index: int, operation: str, path: str) -> None:
        if index > CALLS:
            raise TooLong(f"{index} calls of the storage, now {operation} {path}")

    def _read(self, files: Files, rng: random.Random) -> None:
        try:
            with exam.opened(self._disk(files), "r", **OPTIONS, verify_on_open=rng.random() < 0.2) as db:
                use(db)
        except error as exc:
            self.counts[f"read: {type(exc).__name__}"] += 1
        else:
            self.counts["read: works"] += 1

    def _write(self, files: Files, rng: random.Random) -> None:
        storage = self._disk(files)
        try:
            with exam.opened(storage, rng.choice("cw"), **OPTIONS) as db:
                exam.write_on(db, rng)
                if rng.random() < 0.3:
                    use(db)
        except error as exc:
            self.counts[f"write: {type(exc).__name__}"] += 1
            return
        self.counts["write: works"] += 1
        with exam.opened(storage, "r", **OPTIONS) as db:  # it said that it took them
            for key, value in exam.WRITTEN.items():
                if db.get(key) != value:
                    raise AssertionError(f"what was written to {key!r} is not there")


def _limit_memory(files: Files | None) -> None:
    """Let an allocation fail that goes beyond what these files allow; with None lift the limit."""
    if sys.platform != "linux":
        return
    import resource

    limit = resource.RLIM_INFINITY
    if files is not None:
        with open("/proc/self/statm", encoding="ascii") as file:
            limit = int(file.read().split()[0]) * resource.getpagesize()
        limit += MEMORY_BYTES + SLACK_BYTES + MEMORY_FACTOR * sum(map(len, files.values()))
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def _limit_time() -> None:
    """Have the process killed if it never comes back from C, where no signal handler runs."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (600, 600))


def _too_long(number: int, frame: object) -> None:
    raise TooLong(f"{SECONDS} seconds")


def main(case: str, count: int) -> None:
    """Look at databases in this process; print the counts, or the one that is not safe, as JSON."""
    faulthandler.enable()
    fuzz = Fuzz()
    fuzz.run(f"{case} to load all there is", 20)
    fuzz.counts.clear()
    _limit_time()
    sys.addaudithook(fuzz.audit)
    signal.signal(signal.SIGVTALRM, _too_long)
    look = fuzz.look

    def timed(what: str, files: Files, is_measured: bool) -> None:
        global ARMED
        _limit_memory(files)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        ARMED = True
        try:
            look(what, files, is_measured)
        finally:
            ARMED = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            _limit_memory(None)

    fuzz.look = timed  # type: ignore[method-assign]
    try:
        fuzz.run(case, count)
    except Unsafe as exc:
        files = {name: data.hex() for name, data in exc.files.items()}
        json.dump({"unsafe": str(exc), "files": files}, sys.stdout)
        traceback.print_exception(exc)
        return
    json.dump({"counts": fuzz.counts}, sys.stdout)
