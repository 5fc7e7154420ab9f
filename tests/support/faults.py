"""A database whose storage fails at one call, or from one call on; and what must hold in spite of it.

    trial = Trial("T5 2718-0")          a scenario, a durability and a list of operations, by the name
    trial.run()                         without a fault: trial.calls, trial.sites
    trial.run(Fault(17, errno.EIO, "after", is_sticky=False))

Rules
  1. An operation that raised took effect or not.  `possible` are the states that memory may be in; a read
     tells which.  `issued` are all since the database was created, `possible` the last of them.
  2. A process may come back to a state from `killed` on, a machine that lost power from `powerless` on:
     indexes of `issued`.
  3. After a fault the engine works as if nothing had been, or has failed: then reads go on and every write
     raises FailedError.  Opened again, on a storage that is well, it holds a state it may hold, takes
     writes, and keeps them when the power goes.
  4. A sync that fails one sync late had said success before.  What that promised, nobody keeps: after a loss
     of power any earlier state may come back, or CorruptionError.

Thread safety: none.
"""

from __future__ import annotations

import errno
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from lsmdbm._base.errors import (
    CorruptionError,
    FailedError,
    HistoryLostError,
    LockedError,
    NotFoundError,
    error,
)
from lsmdbm._base.options import Options
from lsmdbm._engine.reader import Reader
from lsmdbm._engine.recognition import is_ours
from lsmdbm._format.records import HEADER_BYTES
from lsmdbm.database import Database, open_on
from support.crash_storage import SYNCS, CrashStorage
from support.engine import entries
from support.followers import applied
from support.workload import KEYS, LEVELS, LOG_IOS, PATH, TINY, Point, Session, State, build

SCENARIOS = ("fresh", "killed", "power lost", "other file", "locked", "read")
OPERATIONS = ("put", "put", "batch", "delete", "put", "look", "take", "put", "add", "count", "sync", "put")
OPERATIONS += ("flush", "put", "large", "get", "compact", "put", "wait", "clear", "put", "reopen", "put")
OPERATIONS += ("ingest", "put", "follow", "put", "follow", "beside")
PROBE = b"probe"
SMALL = {**TINY, "block_bytes": 256}


class Site(NamedTuple):
    """A line of lsmdbm that asks the storage for something."""

    module: str
    line: int
    operation: str
    callers: tuple[str, ...] = ()  # names of functions of lsmdbm, innermost first


class Fault(NamedTuple):
    """How one call fails; see `CrashStorage.fault`."""

    index: int
    errno: int
    kind: str
    is_sticky: bool


def faults(index: int, operation: str) -> Iterator[Fault]:
    """Yield every way in which a call of this kind may fail."""
    if operation == "store":  # which cannot; but a signal may come
        yield Fault(index, errno.EINTR, "after", is_sticky=False)
        return
    kinds = [("before", errno.EIO)]
    if operation in ("create", "mkdir", "pwrite", "truncate", "map", "unmap", "lock"):
        kinds += [("before", errno.ENOSPC), ("before", errno.EDQUOT)]
    if operation in ("create", "open", "directory", "lock", "listdir", "peek"):
        kinds.append(("before", errno.EMFILE))
    if operation == "map":
        kinds += [("before", errno.EOPNOTSUPP), ("before", errno.EMFILE), ("partial", errno.ENOSPC)]
    if operation == "pwrite":
        kinds += [("short", errno.EIO), ("partial", errno.EIO), ("partial", errno.ENOSPC)]
    if operation in SYNCS:
        kinds += [(kind, errno.EIO) for kind in ("clean", "late", "reverted", "partial")]
        kinds.append(("clean", errno.ENOSPC))
        kinds.append(("clean", errno.EINTR))
    kinds += [("after", errno.EIO), ("after", errno.EINTR)]
    for kind, code in kinds:
        for is_sticky in (False, True):
            yield Fault(index, code, kind, is_sticky)


def is_of_a_flush_at_close(site: Site) -> bool:
    """Return whether a call was made by a close() that flushes.

    What that cannot write or sync the log has; where the log is not durable, close() says so.
    """
    return {"close", "in_background", "flush_now"} <= set(site.callers)


def site_of_call(operation: str) -> Site:
    """Return where in lsmdbm the call of the storage comes from that is being made."""
    callers = []
    site = Site("", 0, operation)
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not Trial.run.__code__:  # below is the test, deep in pytest
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if module.startswith("lsmdbm."):
            callers.append(name)
            if not site.module and module != "lsmdbm._base.storage" and name not in ("synced", "<lambda>"):
                site = site._replace(module=module, line=frame.f_lineno)
        frame = frame.f_back
    return site._replace(callers=tuple(callers))


class Trial:
    """One scenario, which can be run again and again, with or without a fault.

    Attributes:
        sites: where the calls of the last run came from, by index; with faults, those that were struck, and
            if `follows` all later ones too.
        struck: the sites that the faults of the last run hit.
        is_noticed: whether the last run told of a fault: it raised, or `stats()` had it.
    """

    def __init__(self, name: str, scenario: str | None = None, level: str | None = None) -> None:
        rng = random.Random(name)
        self.name = name
        self.scenario = scenario or rng.choice(SCENARIOS)
        self.level = level or rng.choice(LEVELS)
        self.steps = rng.sample(OPERATIONS, len(OPERATIONS))
        self.start: Point | None = None
        self.mode = "kill"
        if self.scenario in ("killed", "power lost"):
            session = Session(CrashStorage(f"{name} before"), random.Random(f"{name} before"), odds=0.3)
            session.run(40)
            self.start = rng.choice([point for point in session.points if point.is_born])
            if self.scenario == "power lost":
                self.mode = rng.choice(("strict", "torn", "reorder"))
            session.abandon()
        self.log_io = rng.choice((*LOG_IOS, "auto"))
        self.keep_bytes = rng.choice((0, 300, 1 << 20))
        self.sites: dict[int, Site] = {}
        self.follows = False

    def run(self, *faults: Fault) -> None:
        """Go through everything, with these faults in order, and check that rule 3 holds.

        Raises:
            AssertionError: with what was done.
        """
        self.rng = random.Random(self.name)
        self.log: list[str] = []
        self.db: Database | None = None
        self.closing: Database | None = None
        self.was_interrupted = False
        self.has_failed = False
        self.is_noticed = False
        self.is_closed_well = True
        self.has_opened = False
        self.has_written = False
        self.is_lied_to = any(fault.kind == "late" for fault in faults)
        self.is_reverted = any(fault.kind == "reverted" for fault in faults)
        self.position: bytes | None = None
        self.seen: list[State] = []  # where `position` is, if that is known
        self.sites = {}
        self.struck: list[Site] = []
        self.faults = faults
        self.targets = {fault.index for fault in faults}
        self._prepare()
        try:
            self._go()
        except Exception as exc:
            raise AssertionError(
                f"{self.name}, {self.scenario}, {self.level}, {faults} at {self.struck}: {self.log}"
            ) from exc
        finally:
            self.storage.heal()
            self.storage.on_call = None
            for db in (self.db, self.closing):
                if db is not None:
                    with suppress(FailedError):
                        db.close()

    def _prepare(self) -> None:
        if self.start is None:
            self.storage = CrashStorage(self.name)
            self.issued: list[State] = [{}]
            self.killed = self.powerless = 0
        else:
            self.storage = self.start.crash(self.mode, random.Random(self.name))
            oldest, newest = self.start.states(self.mode)
            self.issued = self.start.history.states[oldest : newest + 1]
            self.killed = 0
            self.powerless = 0
            if self.mode == "kill":
                self.issued = self.start.history.states[self.start.powerless : newest + 1]
                self.killed = oldest - self.start.powerless
            self.is_closed_well = False
        self.possible = self.issued[self.killed :]
        if self.scenario == "other file":
            self.storage.plant(PATH, b"not ours")
        if self.scenario == "locked":
            self.storage.mkdir(PATH, 0o777)
            self.holder = self.storage.directory(PATH, 0o666).lock("LOCK", b"pid 1\n")
        if self.scenario == "read":
            with open_on(self.storage, PATH, "c", 0o666, dict(SMALL)) as db:
                for number in range(40):
                    db[KEYS[number % len(KEYS)]] = b"%d" % number * 20
                db.compact()
                db[KEYS[0]] = b"last"
                self.possible = self.issued = [dict(db)]

    def _go(self) -> None:
        storage = self.storage
        self.first = storage.count
        storage.on_call = self._note
        for fault in self.faults:
            storage.fault(self.first + fault.index, fault.errno, fault.kind, sticky=fault.is_sticky)
        if self.scenario == "locked":
            self._attempt("wait for the lock", self._wait_for_lock)
            self.holder.close()
        if self.scenario == "read":
            self._attempt("recognise", lambda: is_ours(self.storage, PATH))
            self._attempt("read", self._read)
            self._attempt("read and check", lambda: self._read(verify_on_open=True))
        for step in self.steps:
            self.step(step)
        self.step("reopen")
        self.step("put")
        self.step("look")
        self._look_for_trouble()
        storage.on_call = None
        storage.heal()
        self.check()

    def _note(self, index: int, operation: str, path: str) -> None:
        index -= self.first
        is_struck = index in self.targets
        if is_struck or not self.faults or (self.struck and self.follows):
            self.sites[index] = site_of_call(operation)
        if is_struck:
            self.struck.append(self.sites[index])

    # What is done

    def _attempt(self, what: str, work: Callable[[], object]) -> bool:
        """Do something that may fail because of the fault; return whether it did not."""
        self.log.append(what)
        try:
            work()
        except CorruptionError:
            raise
        except (error, KeyboardInterrupt) as exc:
            assert self.storage.hits, "no fault yet"
            self.log.append(f"{type(exc).__name__}: {exc}")
            self.is_noticed = True
            self.was_interrupted = isinstance(exc, KeyboardInterrupt)
            self.has_failed = self.has_failed or isinstance(exc, FailedError)
            return False
        return True

    def step(self, name: str) -> None:
        """Do one operation, opening the database first if need be."""
        if self.db is None and not self.open():
            return
        getattr(self, f"_{name}")()
        self._look_for_trouble()

    def open(self, flag: str = "") -> bool:
        """Open the database; return whether it is open."""
        if not self._go_on_closing():
            return False
        flag = flag or ("n" if self.scenario == "other file" and not self.has_opened else "c")
        options = {**SMALL, "durability": self.level, "log_io": self.log_io, "timeout": 0.1}
        options["log_keep_bytes"] = self.keep_bytes
        opened: list[Database] = []
        if flag == "n":
            self._began([{}])
        done = self._attempt(
            f"open {flag}", lambda: opened.append(open_on(self.storage, PATH, flag, 0o666, options))
        )
        if not done:
            return False
        self.db = opened[0]
        self.has_opened = True
        self.has_failed = False
        self.has_written = False
        if flag == "n":
            self._ended([{}])
            self.promise(power=True)
        if not self.is_closed_well:
            self.possible = self._survivors()
            self.is_closed_well = True
        self._look()
        return True

    def _survivors(self) -> list[State]:
        """Return what may be there though closing did not come to its end."""
        return self.issued[self.powerless if self.is_reverted else self.killed :]

    def _began(self, states: list[State]) -> None:
        """An operation begins that leads to one of these states, or takes no effect."""
        self.issued.extend(states)
        self.possible.extend(states)

    def _ended(self, states: list[State]) -> None:
        """It came back."""
        self.possible = list(states)

    def promise(self, *, power: bool) -> None:
        """Take note that what memory holds survives a kill, and loss of power too if so."""
        self.issued.extend(self.possible)
        self.killed = len(self.issued) - len(self.possible)
        if power:
            self.powerless = self.killed

    def _write(self, what: str, work: Callable[[], object], change: Callable[[State], State]) -> bool:
        was_failed = self.has_failed
        before = list(self.possible)
        after = [change(state) for state in before]
        self._began(after)
        if self._attempt(what, work):
            assert not was_failed, "a write after a failure came back"
            self._ended(after)
            self.has_written = True
            if self.level != "none":
                self.promise(power=self.level == "full")
            return True
        if was_failed:
            self._ended(before)  # it was refused
        elif any(fault.errno == errno.ENOSPC and not fault.is_sticky for fault in self.faults):
            self._check_cut()
            self._look()
        else:
            self._look()
        return False

    def _check_cut(self) -> None:
        """A full disk, once: what there was room for of a record is given back."""
        log = self._open_db._store._wal
        if log.number and not log.buffered and not self.has_failed:
            length = len(self.storage.contents(PATH)[f"{log.number:06d}.wal"])
            expected = getattr(log._file, "mapped_bytes", None) or log.position[0]
            assert length == (0 if log.position[0] == HEADER_BYTES else expected), "half a record is left"

    def _put(self) -> None:
        db = self._open_db
        key, value = self.rng.choice(KEYS), b"%d" % self.rng.randrange(1 << 40) * self.rng.choice((1, 2, 20))
        self._write("put", lambda: db.__setitem__(key, value), lambda state: {**state, key: value})

    def _large(self) -> None:
        db = self._open_db
        changes = {key: self.rng.randbytes(90) for key in KEYS[::2]}
        self._write("large", lambda: db.update(changes), lambda state: {**state, **changes})

    def _batch(self) -> None:
        db = self._open_db
        changes = {key: self.rng.choice((None, b"%d" % self.rng.randrange(1 << 40))) for key in KEYS[:5]}

        def change(state: State) -> State:
            return {key: value for key, value in {**state, **changes}.items() if value is not None}

        self._write("batch", lambda: db._store.batch([*changes], [*changes.values()]), change)

    def _ingest(self) -> None:
        db = self._open_db
        built: list[tuple[State, list[str]]] = []
        if not self._attempt("build", lambda: built.append(self._build())):
            return
        ((changes, paths),) = built
        if self._write("ingest", lambda: db.ingest(paths), lambda state: {**state, **changes}):
            self.promise(power=True)

    def _build(self) -> tuple[State, list[str]]:
        return build(self.storage, self.rng, lambda: self.rng.randbytes(self.rng.choice((5, 90))))

    def _delete(self) -> None:
        db = self._open_db
        key = self.rng.choice(KEYS)
        if not all(key in state for state in self.possible):
            return
        self._write(
            "delete",
            lambda: db.__delitem__(key),
            lambda state: {other: value for other, value in state.items() if other != key},
        )

    def _take(self) -> None:
        db = self._open_db
        if not all(self.possible):
            return
        self._write("take", db.popitem, lambda state: {key: state[key] for key in sorted(state)[1:]})

    def _add(self) -> None:
        db = self._open_db
        key = self.rng.choice(KEYS)
        if any(key in state for state in self.possible):
            return
        self._write("add", lambda: db.setdefault(key, b"added"), lambda state: {**state, key: b"added"})

    def _clear(self) -> None:
        self._write("clear", self._open_db.clear, lambda state: {})

    def _flush(self) -> None:
        if not self._attempt("flush", self._open_db.flush):
            self._look()

    def _compact(self) -> None:
        if not self._attempt("compact", self._open_db.compact):
            self._look()

    def _sync(self) -> None:
        if self._attempt("sync", self._open_db.sync):
            self.promise(power=True)

    def _wait(self) -> None:
        self.storage.advance(2.0)

    def _look(self) -> None:
        """Read everything: that tells which of the possible states it is."""
        found: list[State] = []
        if self._attempt("look", lambda: found.append(dict(self._open_db.items()))):
            assert found[0] in self.possible, mismatch(found[0], self.possible)
            self.possible = found
            self.issued.extend(found)

    def _count(self) -> None:
        found: list[object] = []
        db = self._open_db
        if self._attempt("count", lambda: found.extend((len(db), list(db)))):
            assert found in [[len(state), sorted(state)] for state in self.possible]

    def _get(self) -> None:
        found: list[object] = []
        key = self.rng.choice(KEYS)
        if self._attempt("get", lambda: found.append(self._open_db.get(key))):
            assert found[0] in [state.get(key) for state in self.possible]

    def _follow(self) -> None:
        """Take what was changed since the last time, unless that is told to be lost."""
        db, seen = self._open_db, self.seen

        def follow() -> None:
            try:
                changes = list(db.changes(self.position))
            except HistoryLostError:
                changes, seen[:] = [], []
            self.position = db.position()
            found = dict(db.items())
            for change in changes:
                seen[:] = [applied(state, change) for state in seen]
            assert not seen or found in seen, mismatch(found, seen)
            seen[:] = [found]

        self._attempt("follow", follow)

    def _beside(self) -> None:
        """Read as another process does, and go on there."""
        storage, options = self.storage, Options(cache_bytes=0)
        readers: list[Reader] = []
        if not self._attempt(
            "read beside",
            lambda: readers.append(Reader(storage, storage.directory(PATH, 0o666), options)),
        ):
            return
        (reader,) = readers
        self._put()
        if self._attempt("refresh beside", reader.refresh) and self.level != "none":
            found: State = {}
            if self._attempt("look beside", lambda: found.update(entries(reader))):
                survivors = self._survivors()
                assert found in survivors, mismatch(found, survivors)
        reader.close()

    def _reopen(self) -> None:
        self.close()
        self.open()

    def close(self) -> None:
        """Close the database."""
        self.closing, self.db = self._open_db, None
        self._go_on_closing()

    def _go_on_closing(self) -> bool:
        """Close what was not closed yet; return whether that is over, though perhaps with an error."""
        db = self.closing
        if db is None:
            return True
        self.was_interrupted = False
        if self._attempt("close", db.close) and not self.has_failed:
            self.promise(power=self.level != "none" and self.has_written)
        elif self.was_interrupted:
            return False  # it can be called again
        else:
            self.is_closed_well = False
        self.closing = None
        return True

    @property
    def is_name_in_doubt(self) -> bool:
        """Whether a sync of the parent failed: no later one covers the name of the directory then."""
        return any(
            operation == "sync_parent" and any(fault.kind not in ("before", "after") for fault in self.faults)
            for _, operation, _ in self.storage.hits
        )

    @property
    def _open_db(self) -> Database:
        if self.db is None:
            raise LookupError("it is closed")
        return self.db

    def _look_for_trouble(self) -> None:
        if self.db is not None and self.db.stats().trouble is not None:
            self.is_noticed = True

    def _wait_for_lock(self) -> None:
        with suppress(LockedError):
            open_on(self.storage, PATH, "c", 0o666, {"timeout": 0.01})

    def _read(self, **options: Any) -> None:
        with open_on(self.storage, PATH, "r", 0o666, {"cache_bytes": 0, **options}) as db:
            assert dict(db.items()) in self.possible
            assert list(db) in [sorted(state) for state in self.possible]

    # What must hold afterwards

    def check(self) -> None:
        """The storage is well again: see what became of the engine, and of what it was given."""
        self.log.append("the storage is well")
        self._go_on_closing()
        if self.db is not None:
            self._look()
            self._power_loss()
            try:
                self._use()
            except FailedError as exc:
                assert self.has_failed or self.storage.hits, exc
                self._refused(exc)
        for _ in range(2):
            self.log.append("open again")
            flag = "n" if self.scenario == "other file" and not self.has_opened else "c"
            db = self.db = open_on(self.storage, PATH, flag, 0o666, {**SMALL, "verify_on_open": True})
            self.has_opened = True
            found = dict(db.items())
            survivors = self.possible if self.is_closed_well else self._survivors()
            assert found in survivors, mismatch(found, survivors)
            self.possible = [found]
            try:
                self._use()
                break
            except FailedError as exc:
                assert self.is_lied_to, exc  # of which this handle is told only now
                self._refused(exc)

    def _use(self) -> None:
        """Everything works, and what a sync covered survives the loss of power."""
        db = self._open_db
        (state,) = self.possible
        self.log.append("use")
        state = {**state, PROBE: b"1"}
        self.issued.append(state)
        db[PROBE] = b"1"
        self.possible = [state]
        assert state == dict(db.items())
        db.sync()
        self.promise(power=True)
        self._power_loss()
        db.flush()
        db.compact()
        db.update({PROBE: b"2", b"other": b"3"})
        del db[PROBE]
        state = {**state, b"other": b"3"}
        del state[PROBE]
        self.issued.append(state)
        self.possible = [state]
        assert state == dict(db.items())
        assert db.stats().trouble is None
        db.sync()
        self.promise(power=True)
        self._power_loss()
        self.log.append("close")
        db.close()
        self.db = None
        self.is_closed_well = True

    def _refused(self, exc: FailedError) -> None:
        """It has failed: reads go on, writes do not."""
        self.log.append(f"it has failed: {exc}")
        self.is_closed_well = False
        db, self.db = self._open_db, None
        found = dict(db.items())
        assert found in self.issued[-4:], mismatch(found, self.issued[-4:])
        assert [found.get(key) for key in KEYS] == [db.get(key) for key in KEYS]
        for write in (
            lambda: db.__setitem__(b"more", b"1"),
            lambda: db._store.batch([b"more"], [b"2"]),
            db.clear,
            db.flush,
            db.compact,
            db.sync,
            *([db.popitem] if found else []),
        ):
            try:
                write()
            except FailedError:
                continue
            raise AssertionError("a write after a failure came back")
        assert found == dict(db.items())
        try:
            db.close()
        except FailedError:
            pass

    def _power_loss(self) -> None:
        """What is left if the power goes now."""
        mode = self.rng.choice(("strict", "reorder"))
        try:
            with open_on(self.storage.crash(mode, self.rng), PATH, "r", 0o666, {}) as db:
                found = dict(db.items())
        except NotFoundError:
            found = {}
        except error:
            if self.is_lied_to or self.is_name_in_doubt or not self.has_opened:
                return
            raise
        floor = 0 if self.is_lied_to or self.is_name_in_doubt else self.powerless
        allowed = self.issued[floor:]
        assert found in allowed, f"{mode}: {mismatch(found, allowed)}"


def mismatch(found: State, allowed: list[State]) -> str:
    """Return a text short enough to be read."""

    def short(state: State) -> str:
        return " ".join(f"{key.decode()}={value[:6].hex()}" for key, value in sorted(state.items()))

    return f"found {short(found)}; allowed " + "; or ".join(map(short, allowed))
