"""Crash anywhere: a database under random operations, cut off at its calls, comes back as it must.

What comes back is one of the states that the operations went through, between the last that was promised
to stay and the last that was issued.  Then it is written on, closed, opened and compared, because some
damage bites only later; and crashed again, in the middle of that, up to six times in a row.
"""

import dataclasses
import random
from collections import Counter

import pytest

from lsmdbm._base.errors import error
from lsmdbm._engine import sharing, wal
from lsmdbm._engine.install import Installer, synced
from lsmdbm._engine.wal import Target, Wal
from support.crash_storage import CrashDirectory, CrashFile, CrashStorage, Killed
from support.workload import LEVELS, MODES, Session, recover

STATES = {"small": 400, "default": 4000, "crash": 300_000, "long": 10_000_000}
CUT_WRITES = {"small": 8, "default": 40, "crash": 3000, "long": 100_000}
DEPTH = 6  # crashes in a row
STEPS = 60  # of a workload

EVERYTHING = (
    *(
        "put",
        "put",
        "batch",
        "flush",
        "put",
        "delete",
        "put",
        "compact",
        "reopen",
        "put",
        "put",
        "sync",
        "put",
    ),
    *("flush", "clear", "put", "batch", "reopen", "sync", "put", "begin anew", "put", "reopen", "delete"),
)


@pytest.fixture(autouse=True)
def short_logs(monkeypatch):
    """Let logs be rotated every few writes, so that there are chains of them."""
    monkeypatch.setattr(wal, "MAX_LOG_BYTES", 300)


class Sweep:
    """Looks at crashes, and counts what it looked at.

    Args:
        limit: how many states to look at.
        worth: which points and modes to begin with; None for all.
    """

    def __init__(self, limit, worth=None):
        self.limit = limit
        self.worth = worth or (lambda point, mode: True)
        self.counts = Counter()

    def is_over(self):
        return self.counts["states"] >= self.limit

    def workloads(self, seed):
        """Look at random workloads until it is over."""
        number = 0
        while not self.is_over():
            name = f"{seed} {number}"
            rng = random.Random(name)
            session = Session(CrashStorage(name), rng, odds=0.15)
            session.run(STEPS)
            session.check()
            session.close()
            session.abandon()
            self.points(session, name)
            number += 1
        self.counts["workloads"] += number

    def points(self, session, name):
        """Crash at each point of a session in every mode."""
        for point in session.points:
            self.point(point, f"{name} after {point.what}", session.steps)

    def point(self, point, name, steps=()):
        """Crash at one point in every mode."""
        for mode in point.modes():
            if not self.is_over() and self.worth(point, mode):
                self.look(point, mode, random.Random(f"{name} {mode}"), f"{name}, {mode}", 1, steps)

    def look(self, point, mode, rng, trail, depth, steps=()):
        """Crash, compare, go on, compare, and crash again in the middle of that.

        Raises:
            AssertionError: with the way that led there.
        """
        self.counts["states"] += 1
        self.counts[f"{depth} in a row"] += 1
        session = None
        try:
            session = recover(point, mode, rng)
            session.run(rng.choice((0, 1, 3, 20)))
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
        if depth < DEPTH and session.points and rng.random() < 0.5:
            again = rng.choice(session.points[: rng.choice((12, None))])  # often in the first write
            mode = rng.choice(again.modes())
            trail = f"{trail}, then {', '.join(session.steps)}, after {again.what}, {mode}"
            self.look(again, mode, rng, trail, depth + 1, steps)

    def reached(self, seed):
        return f"seed {seed}: " + ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))


def test_what_comes_back_after_a_crash_is_a_state_that_was_promised(seed, budget):
    sweep = Sweep(STATES[budget])
    sweep.workloads(seed)
    print(sweep.reached(seed))

    assert sweep.counts["states"] >= STATES[budget]
    assert sweep.counts["3 in a row"] > 0


@pytest.mark.parametrize("level", LEVELS)
def test_every_call_of_every_operation_may_be_the_last(seed, budget, level):
    """The same operations each time, and no call left out."""
    sweep = Sweep(10**9 if budget in ("crash", "long") else STATES[budget] // 8)
    rng = random.Random(f"{seed} {level}")
    session = Session(CrashStorage(seed), rng, level=level)
    for step in EVERYTHING:
        session.step(step)
    session.check()
    session.close()
    session.abandon()
    rng.shuffle(session.points)  # the limit cuts off others each time
    sweep.points(session, f"{seed} {level}")
    print(f"{level}: {len(session.points)} points; {sweep.reached(seed)}")

    assert len(session.points) > 90


def test_a_process_killed_in_the_middle_of_a_write_leaves_what_was_promised(seed, budget):
    """Half of the bytes are there; then the power may go as well."""
    sweep = Sweep(10**9)
    number = 0
    while sweep.counts["cut writes"] < CUT_WRITES[budget]:
        name = f"{seed} cut {number}"
        number += 1
        whole = worked(name)
        created = len(whole.points[0].history.states) and whole.storage.calls.index(("sync_parent", "/"))
        places = [at for at, call in enumerate(whole.storage.calls) if call[0] == "pwrite" and at > created]
        for at in random.Random(name).sample(places, 4):
            cut = worked(name, at)
            sweep.point(
                cut.point(f"half of {at}: {whole.storage.calls[at][1]}"), f"{name} at {at}", cut.steps
            )
            cut.abandon()
            sweep.counts["cut writes"] += 1
    print(sweep.reached(seed))


def worked(name, cut=None):
    """Return the session of a workload; killed in the middle of a call if that is given."""
    storage = CrashStorage(name)
    if cut is not None:
        storage.fault(cut, None, "partial")
    session = Session(storage, random.Random(name))
    try:
        session.run(STEPS)
        session.close()
    except Killed:
        return session
    session.abandon()
    return session


# What the sweep must find


def no_sync(self):
    """Do nothing, and say that it worked."""


def install_without_step_2(self, state, move_over):
    number = self._write(state)
    synced(self._directory.sync)
    self.current = dataclasses.replace(state, number=number, next_number=self._counter.next_number)
    move_over()
    self.forget_older()


def sync_the_last_log_alone(self):
    target_sync(Target(self.files[-1:], [], 0, 0, 0, self.directory))


def trusting(directory):
    found = sharing_recover(directory)
    if found is not None:
        found.is_suspect = False
    return found


sharing_recover = sharing.recover
target_sync = Target.sync
FAULTS = {  # what is broken, where and by what, and which crashes show it if few do
    "names are never synced": (CrashDirectory, "sync", no_sync, None),
    "logs are never synced": (CrashFile, "fdatasync", no_sync, None),
    "tables and manifests are never synced": (CrashFile, "fsync", no_sync, None),
    "names of tables are not synced before their manifest": (
        *(Installer, "install", install_without_step_2),
        lambda point, mode: point.what.endswith(".man"),
    ),
    "older logs are left out of a sync": (Target, "sync", sync_the_last_log_alone, None),
    "suspect logs are trusted": (Wal, "has_suspects", lambda self: False, None),
    "manifests that were read back are trusted": (
        *(sharing, "recover", trusting),
        lambda point, mode: mode == "kill" and point.what.endswith(".man"),
    ),
    "the buffer is dropped at close": (Wal, "drain", no_sync, None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(seed, monkeypatch, fault):
    owner, name, broken, worth = FAULTS[fault]
    monkeypatch.setattr(owner, name, broken)
    sweep = Sweep(20_000, worth)
    with pytest.raises((AssertionError, error)) as caught:
        sweep.workloads(f"{seed} {fault}")

    cause = caught.value.__cause__ or caught.value
    print(f"found after {sweep.counts['states']} states: {cause!r:.60}")


def test_all_kinds_of_crash_are_tried():
    assert {"kill", "strict", "dir-prefix", "reorder", "torn", "tail", "trash", "omit", "alone"} == set(MODES)
