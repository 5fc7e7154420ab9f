"""Crash anywhere: a database under random operations, cut off at its calls, comes back as it must.

What comes back is one of the states that the operations went through, between the last that was promised
to stay and the last that was issued.  Then it is written on, closed, opened and compared, because some
damage bites only later; and crashed again, in the middle of that, up to six times in a row.
"""

import itertools
import random

import pytest

from lsmdbm._engine import appender
from support.budgets import Budget
from support.crash_storage import CrashStorage, Killed
from support.sweep import STEPS, Sweep, finished
from support.workload import LEVELS, MODES, Session, recover

T3 = {"small": 400, "default": 2000, "crash": 310_000, "long": 10_000_000}
T4 = {"small": 100, "default": 800, "crash": 100_000, "long": 3_000_000}


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
    *("ingest", "put", "ingest", "reopen", "put", "ingest"),
)


@pytest.fixture(autouse=True)
def short_logs(monkeypatch):
    """Let logs be rotated every few writes, so that there are chains of them."""
    monkeypatch.setattr(appender, "MAX_LOG_BYTES", 300)


def part(suite, name, share, **options):
    """Return the budget of a part of suite T3 or T4; at least one whole suite there has to be."""
    return Budget(suite, **{"T3": T3, "T4": T4}[suite], part=name, share=share, **options)


def test_what_comes_back_after_a_crash_is_a_state_that_was_promised():
    with part("T3", "workloads", 0.5) as reach:
        sweep = Sweep(reach)
        for case in reach:
            sweep.workload(case)


def test_what_comes_back_after_crashes_in_a_row_is_a_state_that_was_promised():
    """Recovery only reads; so the second crash is in the first write, in its installs, or later."""
    with part("T4", "chains", 0.7) as again:
        sweep = Sweep(part("T3", "beginnings", 0.0), again)
        for case in again:
            sweep.workload(case)

    assert again.counts["3 in a row"] > 0


def test_every_call_after_a_crash_may_be_the_last():
    """Each step of recovery, of the first write and of its installs, and none left out."""
    with part("T4", "every call", 0.3) as again:
        for case in again:
            rng = random.Random(case)
            session = finished(Session(CrashStorage(case), rng, odds=0.05), STEPS)
            for point in rng.sample(session.points, min(3, len(session.points))):
                mode = rng.choice(point.modes())
                sweep = Sweep(again)
                crashed = recover(point, mode, rng, odds=1.0)
                finished(
                    crashed,
                    rng.choice((("put",), ("sync",), ("delete", "sync"), ("flush",), ("begin anew",))),
                )
                sweep.points(crashed, f"{case} after {point.what}, {mode}, then {', '.join(crashed.steps)}")


@pytest.mark.parametrize("level", LEVELS)
def test_every_call_of_every_operation_may_be_the_last(seed, budget, level):
    """The same operations each time, and no call left out."""
    rng = random.Random(f"{seed} {level}")
    session = finished(Session(CrashStorage(seed), rng, level=level), EVERYTHING)
    rng.shuffle(session.points)  # the limit cuts off others each time
    with part("T3", f"every call at {level}", 0.05) as reach:
        Sweep(reach).points(session, f"{seed} {level}")
    print(f"{level}: {len(session.points)} points")

    assert len(session.points) > 90


PAIR_STEPS = (
    *["put", "batch", "put", "delete", "flush", "put", "compact", "clear", "put"] * 2,
    "put",
    "batch",
)
API = ("put", "delete", "batch", "clear", "flush", "compact", "sync", "reopen", "begin anew", "ingest")


def test_every_call_of_every_short_workload_may_be_the_last(seed, budget):
    """All workloads of up to three operations; in the small budgets as many as there is time for."""
    workloads = [steps for count in (1, 2, 3) for steps in itertools.product(API, repeat=count)]
    random.Random(seed).shuffle(workloads)
    with part("T3", "short workloads", 0.2) as reach:
        for number, steps in enumerate(workloads):
            if reach.is_over() and budget in ("small", "default"):
                break
            name = f"{seed} {' '.join(steps)}"
            level = LEVELS[(seed + number) % len(LEVELS)]
            session = Session(CrashStorage(name), random.Random(name), level=level)
            finished(session, steps)
            sweep = Sweep(reach)
            for point in session.points:
                for mode in point.modes():
                    rng = random.Random(f"{name} {point.what} {mode}")
                    sweep.look(
                        point, mode, rng, f"{name}, {level}, after {point.what}, {mode}", more=(0, 1, 3)
                    )
            reach.count("workloads")


def test_any_call_may_be_lost_though_a_later_one_was_kept(seed):
    """Each single call, and each pair of a lost and a later, kept one, with the others there or gone."""
    with part("T3", "pairs", 0.1) as reach:
        for case in reach:
            rng = random.Random(case)
            session = Session(CrashStorage(case), rng, level=rng.choice(LEVELS))
            finished(session, PAIR_STEPS)
            choices = [
                (point, lost) for point in fullest(session.points) for lost in losses(point.image.pending())
            ]
            rng.shuffle(choices)  # the limit cuts off others each time
            for point, lost in choices:
                if reach.is_over():
                    break
                name = f"{case} after {point.what} without {sorted(lost)}"
                Sweep(reach).look(
                    point._replace(lost=frozenset(lost)),
                    "without",
                    random.Random(name),
                    name,
                    session.steps,
                    more=(0, 1, 3),
                )


def fullest(points):
    """Return the points behind which something becomes durable, and the last one: what each pair meets in."""
    pending = [set(point.image.pending()) for point in points]
    later = [*pending[1:], set()]
    return [point for point, now, then in zip(points, pending, later, strict=True) if now and not now <= then]


def losses(pending):
    """Yield what may be lost of these calls: one; all but one; and all from one on, but for a later one."""
    for place, lost in enumerate(pending):
        yield {lost}
        yield set(pending) - {lost}
        for kept in pending[place + 1 :]:
            yield {lost} | {call for call in pending if call > kept}
            yield set(pending[place:]) - {kept}


def test_a_process_killed_in_the_middle_of_a_write_leaves_what_was_promised():
    """Half of the bytes are there; then the power may go as well."""
    with part("T3", "cut writes", 0.05) as reach:
        sweep = Sweep(reach)
        for name in reach:
            whole = worked(name)
            born = whole.storage.calls.index(("sync_parent", "/"))
            places = [
                at
                for at, call in enumerate(whole.storage.calls)
                if call[0] in ("pwrite", "store") and at > born
            ]
            for at in random.Random(name).sample(places, 4):
                cut = worked(name, at)
                sweep.point(
                    cut.point(f"half of {at}: {whole.storage.calls[at][1]}"), f"{name} at {at}", cut.steps
                )
                cut.abandon()
                reach.count("cut writes")


def worked(name, cut=None):
    """Return the session of a workload; killed in the middle of a call if that is given."""
    storage = CrashStorage(name)
    if cut is not None:
        storage.fault(cut, None, "partial")
    session = Session(storage, random.Random(name), odds=0.0)
    try:
        session.run(STEPS)
        session.close()
    except Killed:
        return session
    session.abandon()
    return session


def test_all_kinds_of_crash_are_tried():
    assert {"kill", "strict", "dir-prefix", "reorder", "torn", "tail", "trash", "omit", "alone"} == set(MODES)
