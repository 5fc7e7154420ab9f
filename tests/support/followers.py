"""Who follows a database by its changes, and what it must say then.

    follower = Follower(db)         a copy of a snapshot, and where to go on
    follower.follow(db)             what was written since; follower.state is what the database holds
    follower.beside(image)          the same, as a process beside the writer would see it at that moment
    for outcome in sweep(...)       crashes of random workloads, and what became of followers in them

Thread safety: none.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lsmdbm._base.errors import HistoryLostError
from lsmdbm._format.position import Position
from lsmdbm.changes import Change
from lsmdbm.database import Database, open_on
from support.budgets import Budget
from support.crash_storage import CrashStorage, Image
from support.workload import LEVELS, OPERATIONS, PATH, Point, Session, State, recover

STEPS = 40  # of a workload
IN_THE_LOG = [name for name in OPERATIONS if name not in ("ingest", "begin anew")]


def applied(state: State, change: Change) -> State:
    """Return what a change makes of a state."""
    found = {} if change.clears else dict(state)
    for start, stop in change.ranges:
        for key in [key for key in found if start <= key and (stop is None or key < stop)]:
            del found[key]
    for key, value in change.items:
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value
    return found


class Follower:
    """A replica in memory.

    Args:
        db: what it begins as a copy of.
    """

    def __init__(self, db: Database) -> None:
        with db.snapshot() as snapshot:
            self.state: State = dict(snapshot)
            self.position = snapshot.position()
        self.changes = 0

    @property
    def seq(self) -> int:
        """Sequence of the first write that it has not seen."""
        return Position.decode(self.position).seq

    def copy(self) -> Follower:
        """Return another one that has seen the same."""
        return copy.copy(self)

    def follow(self, db: Database) -> None:
        """Take what was written since.

        Raises:
            HistoryLostError: the state is what it was, or that before the loss.
        """
        for change in db.changes(self.position):
            if change.seq != self.seq:
                raise AssertionError(f"sequence {change.seq} after {self.seq - 1}")
            self.state = applied(self.state, change)
            self.position = change.next
            self.changes += 1

    def followed_or_lost(self, db: Database) -> bool:
        """Follow; return whether it was told that changes are lost."""
        try:
            self.follow(db)
        except HistoryLostError:
            return True
        return False

    def beside(self, image: Image) -> None:
        """Follow as a process beside the writer would do at a moment."""
        with open_on(image.crash("kill"), PATH, "r", 0o666, {}) as db:
            self.follow(db)
            if dict(db) != self.state:
                raise AssertionError(f"followed to {self.state}, read {dict(db)}")


def worked(name: str, level: str, names: Sequence[str], keep_bytes: int) -> list[tuple[Point, Follower]]:
    """Return the points of a session, and a follower that has looked now and then, as it was at each."""
    rng = random.Random(name)
    session = Session(CrashStorage(name), rng, level=level, odds=0.5, options={"log_keep_bytes": keep_bytes})
    follower = Follower(session.db)
    weights = [OPERATIONS[each] for each in names]
    for each in rng.choices(names, weights, k=STEPS):
        session.step(each)
    session.close()
    session.abandon()
    seen: list[tuple[Point, Follower]] = []
    for point in session.points:
        if not point.is_born:
            continue
        if rng.random() < 0.4:
            try:
                follower.beside(point.image)
            except HistoryLostError:
                if names == IN_THE_LOG:
                    raise
                return seen
        seen.append((point, follower.copy()))
    return seen


class Outcome(NamedTuple):
    """What became of a follower in one crash."""

    mode: str
    seen: int  # sequence of the first write that it had not seen
    came_back: int  # the same of the database, right after the crash
    was_lost: bool  # whether it was told so then,
    is_lost: bool  # and after more writes
    in_flight: bool  # whether a write had not returned yet
    what: str

    @property
    def is_taken_back(self) -> bool:
        """Whether something was lost that it had seen."""
        return self.seen > self.came_back


def crashed(
    point: Point,
    follower: Follower,
    mode: str,
    rng: random.Random,
    names: Sequence[str],
    what: str,
    **settings: Any,
) -> Outcome:
    """Crash, follow, write on and follow; whoever is not told that changes are lost has to have all."""
    session = recover(point, mode, rng, odds=0.0, **settings)
    try:
        came_back = Position.decode(session.db.position()).seq
        early = follower.copy()
        was_lost = early.followed_or_lost(session.db)
        assert was_lost or session.state == early.state, what
        for each in rng.choices(names, [OPERATIONS[name] for name in names], k=rng.choice((1, 5, 20))):
            session.step(each)
        late = follower.copy()
        is_lost = late.followed_or_lost(session.db)
        assert is_lost or session.state == late.state, what
        session.close()
    finally:
        session.abandon()
    in_flight = point.powerless < point.newest
    return Outcome(mode, follower.seq, came_back, was_lost, is_lost, in_flight, what)


def sweep(
    reach: Budget, names: Sequence[str], keep_bytes: int, levels: Sequence[str] = LEVELS
) -> Iterator[Outcome]:
    """Yield the outcomes of crashes of random workloads at random points, as many as there should be."""
    for case in reach:
        yield from crashes_of(case, reach, names, keep_bytes, levels)


def crashes_of(
    case: str, reach: Budget, names: Sequence[str], keep_bytes: int, levels: Sequence[str] = LEVELS
) -> Iterator[Outcome]:
    """Yield the outcomes of crashes of one workload."""
    level = levels[int(case.rpartition("-")[2]) % len(levels)]
    settings = {"level": level, "options": {"log_keep_bytes": keep_bytes}}
    rng = random.Random(f"{case} crashes")
    seen = worked(case, level, names, keep_bytes)
    for point, follower in rng.sample(seen, min(10, len(seen))):
        for mode in rng.sample(point.modes(), 2):
            what = f"{case}, {level}: {point.what}, {mode}"
            outcome = crashed(point, follower, mode, rng, names, what, **settings)
            reach.count()
            reach.count("told" if outcome.was_lost else "followed")
            yield outcome
