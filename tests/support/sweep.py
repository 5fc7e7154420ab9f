"""A sweep over crashes: each is looked at, and what comes back is written on, closed, opened and compared.

    with Budget("T3", ...) as reach:
        for case in reach:
            Sweep(reach).workload(case)     a random workload, crashed at its points in every mode

Rules
  1. A crash of a database that had none before counts as one state of `first`, a crash in the recovery from
     a crash, or behind it, as one of `again`.
  2. What is wrong raises AssertionError with the way that led there, and follows from the names alone.

Thread safety: none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from support.budgets import Budget
from support.crash_storage import CrashStorage
from support.workload import Point, Session, recover

DEPTH = 6  # crashes in a row
STEPS = 60  # of a workload


class Sweep:
    """Looks at crashes, and counts what it looked at.

    Args:
        first: how many crashes to look at.
        again: how many crashes behind those; None for none.
        worth: which points and modes to begin with; None for all.
    """

    def __init__(
        self,
        first: Budget,
        again: Budget | None = None,
        worth: Callable[[Point, str], bool] | None = None,
    ) -> None:
        self.first = first
        self.again = again
        self.worth = worth or (lambda point, mode: True)

    def is_over(self) -> bool:
        """Return whether as many were looked at as there should be: of those behind others, if asked for."""
        return (self.again or self.first).is_over()

    def workload(self, name: str) -> None:
        """Look at a random workload."""
        session = finished(Session(CrashStorage(name), random.Random(name), odds=0.15), STEPS)
        self.points(session, name)
        self.first.count("workloads")

    def points(self, session: Session, name: str) -> None:
        """Crash at each point of a session in every mode."""
        for point in session.points:
            self.point(point, f"{name} after {point.what}", session.steps)

    def point(self, point: Point, name: str, steps: Sequence[str] = ()) -> None:
        """Crash at one point in every mode."""
        for mode in point.modes():
            if not self.is_over() and self.worth(point, mode):
                self.look(point, mode, random.Random(f"{name} {mode}"), f"{name}, {mode}", steps)

    def look(
        self,
        point: Point,
        mode: str,
        rng: random.Random,
        trail: str,
        steps: Sequence[str] = (),
        depth: int = 1,
        more: Sequence[int] = (0, 1, 3, 20),
    ) -> None:
        """Crash, compare, go on, compare; and, if asked for, crash again in the middle of that.

        Args:
            trail: what led there, for the error.
            steps: of the session that crashed first, for the error.
            depth: how many crashes there were, with this one.
            more: by how many operations it may go on.

        Raises:
            AssertionError: with the way that led there.
        """
        again = self.again
        if depth == 1 or again is None:
            self.first.count()
        else:
            again.count()
            again.count(f"{depth} in a row")
        goes_on = again is not None and depth < DEPTH and (depth == 1 or rng.random() < 0.5)
        session: Session | None = None
        try:
            session = recover(point, mode, rng, odds=1.0 if goes_on else 0.0)
            session.run(rng.choice(more))
            session.check()
            session.close()
            session.open()
            session.check()
            session.close()
        except Exception as exc:
            later = session.steps if session is not None else ()
            raise AssertionError(f"{trail}, then {', '.join(later)}; before: {', '.join(steps)}") from exc
        finally:
            if session is not None:
                session.abandon()
        if goes_on and session is not None and session.points:
            point = rng.choice(session.points[: rng.choice((12, None))])  # often in the first write
            mode = rng.choice(point.modes())
            trail = f"{trail}, then {', '.join(session.steps)}, after {point.what}, {mode}"
            self.look(point, mode, rng, trail, steps, depth + 1)


def finished(session: Session, steps: int | Sequence[str]) -> Session:
    """Do so many random operations, or those named, close the session and return it."""
    if isinstance(steps, int):
        session.run(steps)
    else:
        for step in steps:
            session.step(step)
    session.check()
    session.close()
    session.abandon()
    return session
