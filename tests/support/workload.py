"""A database on a CrashStorage that is written at random, and what a crash may leave of it.

    session = Session(storage, rng)     opens "/db", creating it
    session.run(60)                     operations of every kind, closing and opening included
    session.close()
    session.points                      one Point per call that changed something
    recover(point, "torn", rng)         crash there, open, compare: a Session that goes on from what was left

MODES are those of CrashStorage, and two more losses of power: "omit", which undoes one call that was not
synced and keeps the others, and "alone", which keeps one and undoes the others.  Mode "without" undoes the
calls that the Point names.

Rules
  1. A History is the list of states, one per operation issued.  What a crash leaves must be one of them,
     whole: not older than the floor of that kind of crash, not newer than the last operation issued.
  2. The floors are the promises: a killed process keeps what had returned, power loss what had been synced,
     each by the durability of the opening.
  3. What survived a kill is not durable for that: the floor of the next power loss stays where it was.  What
     survived a power loss is.

Thread safety: none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lsmdbm._base.errors import NotFoundError
from lsmdbm.bulk import TableWriter
from lsmdbm.database import Database, open_on
from support import crash_storage
from support.crash_storage import STORES, UNLINKS, WRITES, CrashStorage, Image

PATH = "/db"
KEYS = [b"key%02d" % number for number in range(24)]
MODES = (*crash_storage.MODES, "omit", "alone")
POLICIES: list[dict[str, Any]] = [
    *({"compaction": "leveled", "log_keep_bytes": 0}, {"compaction": "tiered", "log_keep_bytes": 300}),
    {"compaction": "fifo", "max_bytes": 1 << 40},  # which nothing reaches: every write is accounted for
    {},  # as remembered
]
LEVELS = ("none", "process", "interval", "full")
LOG_IOS = ("pwrite", "mmap")
TINY: dict[str, Any] = {
    "memtable_bytes": 1024,
    "block_bytes": 64,
    "cache_bytes": 1 << 20,
    "compression": None,
}
CHANGES = WRITES | STORES | UNLINKS | {"fdatasync", "fsync", "sync", "sync_parent"}
OPERATIONS = {
    "put": 40,
    "delete": 10,
    "batch": 10,
    "clear": 1,
    "delete range": 5,
    "flush": 3,
    "compact": 1,
    "sync": 4,
}
OPERATIONS |= {"look": 4, "wait": 3, "reopen": 3, "begin anew": 1, "ingest": 2}

State = dict[bytes, bytes]


@dataclass
class History:
    """The states of a database, and how far back each kind of crash may take it."""

    states: list[State] = field(default_factory=lambda: [{}])
    killed: int = 0  # index of the oldest state that a kill may leave
    powerless: int = 0  # the same for a loss of power

    @property
    def newest(self) -> int:
        """Index of the last state issued."""
        return len(self.states) - 1

    def issue(self, state: State) -> None:
        """Enter what an operation that begins now will lead to."""
        self.states.append(state)

    def promise(self, *, power: bool) -> None:
        """Take note that everything issued survives a kill, and loss of power too if so."""
        self.killed = self.newest
        if power:
            self.powerless = self.newest

    def after(self, mode: str, index: int) -> History:
        """Return the history of a database that came back from a crash with one of the states."""
        powerless = min(self.powerless, index) if mode == "kill" else index
        return History(self.states[: index + 1], index, powerless)


class Point(NamedTuple):
    """A moment at which the machine could have crashed."""

    image: Image
    history: History
    newest: int  # the last state issued then
    killed: int
    powerless: int
    is_born: bool  # whether there must be a database: creating it had returned, or something in it is durable
    what: str
    lost: frozenset[int] = frozenset()  # in mode "without"

    def states(self, mode: str) -> tuple[int, int]:
        """Return the indexes of the oldest and the newest state that this crash may leave."""
        return self.killed if mode == "kill" else self.powerless, self.newest

    def crash(self, mode: str, rng: random.Random) -> CrashStorage:
        """Return what this crash leaves."""
        if mode == "without":
            return self.image.crash_without(self.lost)
        if mode not in ("omit", "alone"):
            return self.image.crash(mode, rng)
        pending = self.image.pending()
        chosen = set(rng.sample(pending, min(1, len(pending))))
        return self.image.crash_without(chosen if mode == "omit" else set(pending) - chosen)

    def modes(self) -> tuple[str, ...]:
        """Return the modes that may leave different things."""
        return MODES if self.image.pending() else ("kill", "strict")


class Session:
    """One database under random operations.

    Args:
        storage: where it is.
        rng: decides everything.
        history: what it holds already.
        odds: the share of calls of which `points` has a Point.
        level: the durability of all openings; drawn for each if None.
        lasts: whether there must be a database as soon as it is open.
        options: of all openings, over those that are drawn.
    """

    def __init__(
        self,
        storage: CrashStorage,
        rng: random.Random,
        history: History | None = None,
        *,
        odds: float = 1.0,
        level: str | None = None,
        lasts: bool = True,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.storage = storage
        self._options = options or {}
        self.history = history or History()
        self.rng = rng
        self.points: list[Point] = []
        self.steps: list[str] = []
        self._odds = odds
        self._level = level
        self._lasts = lasts
        self._is_born = False
        self._before = "nothing"
        if odds:
            storage.on_call = self._look
        self.open("c", level)

    def point(self, what: str) -> Point:
        """Return what can be lost and must not be lost now."""
        history = self.history
        is_born = self._is_born or history.powerless > 0
        floors = history.newest, history.killed, history.powerless
        return Point(self.storage.freeze(), history, *floors, is_born, what)

    def _look(self, index: int, operation: str, path: str) -> None:
        if self._before and self.rng.random() < self._odds:
            self.points.append(self.point(f"{index - 1}: {self._before}"))
        self._before = f"{operation} {path}" if operation in CHANGES else ""

    def open(self, flag: str = "c", level: str | None = None) -> None:
        """Open the database again; at any durability if none is given, and with any log."""
        self.level = level or self.rng.choice(LEVELS)
        self._has_written = False
        self._unsynced_since: float | None = None
        if flag == "n":
            self.history.issue({})
        log_io = self.rng.choice(LOG_IOS)
        options = {**TINY, "durability": self.level, "log_io": log_io, **self.rng.choice(POLICIES)}
        options |= self._options
        self.steps.append(f"open {flag} {self.level} {log_io}")
        self.db: Database = open_on(self.storage, PATH, flag, 0o666, options)
        self._is_born = self._is_born or self._lasts
        if flag == "n":
            self.history.promise(power=True)

    def close(self) -> None:
        """Close the database: it keeps what its durability says."""
        self.steps.append("close")
        self.db.close()
        self.history.promise(power=self.level != "none" and self._has_written)
        self._look(self.storage.count, "", "")

    def abandon(self) -> None:
        """Give up a database whose process is dead, or is not looked at any more."""
        self.storage.on_call = None
        self.storage.dead = False
        self.storage.heal()
        self.db.close()

    def run(self, count: int) -> None:
        """Do so many operations."""
        for name in self.rng.choices(list(OPERATIONS), list(OPERATIONS.values()), k=count):
            self.step(name)

    def step(self, name: str) -> None:
        """Do one operation."""
        rng, db = self.rng, self.db
        self.steps.append(name)
        if name == "put":
            key, value = rng.choice(KEYS), self._value()
            self._write({key: value})
            db[key] = value
            self._wrote()
        elif name == "delete":
            key = rng.choice(KEYS)
            if key in self.state:
                self._write({key: None})
                del db[key]
                self._wrote()
        elif name == "batch":
            ranges = [rng.sample(KEYS, 2)] if rng.random() < 0.3 else []
            changes = {key: rng.choice((None, self._value())) for key in rng.sample(KEYS, rng.randint(1, 6))}
            self._write({**self._deleted(*ranges), **changes})
            with db.batch() as batch:
                for start, stop in ranges:
                    batch.delete_range(start, stop)
                for key, value in changes.items():
                    if value is None:
                        del batch[key]
                    else:
                        batch[key] = value
            self._wrote()
        elif name == "delete range":
            start, stop = sorted(rng.sample(KEYS, 2)) if rng.random() < 0.2 else (rng.choice(KEYS), None)
            stop = stop or KEYS[min(len(KEYS) - 1, KEYS.index(start) + rng.randrange(5))]
            self._write(self._deleted((start, stop)))
            db.delete_range(start, stop)
            if start < stop:  # else nothing was written, and nothing synced that was due
                self._wrote()
        elif name == "ingest":
            changes, paths = build(self.storage, rng, self._value)
            self._write(changes)
            db.ingest(paths)
            self._has_written = True
            self.history.promise(power=True)
        elif name == "clear":
            self.history.issue({})
            db.clear()
            self._wrote()
        elif name == "sync":
            db.sync()
            self._unsynced_since = None
            self.history.promise(power=True)
        elif name == "look":
            self.check()
        elif name == "wait":
            self.storage.advance(rng.choice((0.02, 0.06, 0.5, 1.1)))
        elif name in ("reopen", "begin anew"):
            self.close()
            self.open("c" if name == "reopen" else "n", self._level)
        else:
            getattr(db, name)()

    @property
    def state(self) -> State:
        """What the database must hold now."""
        return self.history.states[-1]

    def _value(self) -> bytes:
        number = self.rng.randrange(1 << 40)  # so that a value tells which state it belongs to
        return b"%d." % number * self.rng.choice((1, 1, 2, 5, 30))

    def _write(self, changes: dict[bytes, bytes | None]) -> None:
        state = {**self.state, **changes}
        self.history.issue({key: value for key, value in state.items() if value is not None})

    def _deleted(self, *ranges: Sequence[bytes]) -> dict[bytes, bytes | None]:
        return {key: None for key in self.state for start, stop in ranges if start <= key < stop}

    def _wrote(self) -> None:
        self._has_written = True
        if self.level == "none":
            return
        now = self.storage.monotonic()
        since = now if self._unsynced_since is None else self._unsynced_since
        is_due = self.level == "interval" and now - since >= 1.0
        self._unsynced_since = None if is_due else since
        self.history.promise(power=is_due or self.level == "full")

    def check(self) -> None:
        """Compare the database with its state, now and then by every way to read it."""
        db, state = self.db, self.state
        assert state == dict(db.items()), self.steps
        if self.rng.random() < 0.7:
            return
        assert len(state) == len(db), self.steps
        assert sorted(state, reverse=True) == list(reversed(db)), self.steps
        assert [state.get(key) for key in KEYS] == [db.get(key) for key in KEYS], self.steps
        assert db.stats().trouble is None, self.steps


def build(storage: CrashStorage, rng: random.Random, value: Callable[[], bytes]) -> tuple[State, list[str]]:
    """Build one or two tables beside the database; return what they hold, and their paths."""
    changes: State = {}
    paths = []
    for _ in range(rng.choice((1, 1, 2))):
        path = f"/built {rng.randrange(1 << 60)}"
        entries = {key: value() for key in sorted(rng.sample(KEYS, rng.randint(1, 6)))}
        with TableWriter.on(storage, path, block_bytes=64) as writer:
            writer.extend(entries)
        changes |= entries
        paths.append(path)
    return changes, paths


def recover(
    point: Point,
    mode: str,
    rng: random.Random,
    odds: float = 1.0,
    *,
    level: str | None = None,
    options: dict[str, Any] | None = None,
) -> Session:
    """Crash, open what is left, and return the session that goes on from it.

    Args:
        odds: of the session; `level` and `options`, too.

    Raises:
        AssertionError: it is none of the states that it may be.
    """
    storage = point.crash(mode, rng)
    oldest, newest = point.states(mode)
    states = point.history.states[: newest + 1]
    if rng.random() < 0.3:
        seen = read(storage)
        assert seen in states[oldest:] or (seen is None and not point.is_born), point.what
    history = History(states, oldest, point.powerless if mode == "kill" else oldest)
    session = Session(storage, rng, history, odds=odds, level=level, lasts=point.is_born, options=options)
    try:
        found = dict(session.db.items())
        matching = [index for index in range(oldest, newest + 1) if states[index] == found]
        assert matching, (
            f"{point.what}: found {found}, none of states {oldest} to {newest}: {states[oldest:]}"
        )
    except BaseException:
        session.abandon()
        raise
    session.history = history.after(mode, matching[-1])
    return session


def read(storage: CrashStorage) -> State | None:
    """Return what flag "r" sees, None if there is no database."""
    try:
        db = open_on(storage, PATH, "r", 0o666, {})
    except NotFoundError:
        return None
    with db:
        return dict(db.items())
