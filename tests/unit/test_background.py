"""Background work: who advances which job by how much, and what becomes of one that fails.

Flush, compaction and picker are scripts here, so that each step is known.
"""

import errno
from types import SimpleNamespace

import pytest

from lsmdbm._base.errors import CorruptionError, FailedError, error
from lsmdbm._base.options import Options
from lsmdbm._engine import background as background_module
from lsmdbm._engine.background import PATIENCE, PAUSES, Background
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.picker import MOST_PACE
from lsmdbm._engine.plan import Limits, Plan
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import TableMeta
from support.crash_storage import CrashStorage

MEMTABLE_BYTES = 1000
RUNWAY_BYTES = 4 * MEMTABLE_BYTES
FULL = error(errno.ENOSPC, "No space left on device", "/db/000009.sst")


def table(number, raw_bytes=100):
    return TableMeta(number, raw_bytes, 0, 1, 0, raw_bytes, 1, 1, b"a", b"b")


def plan(*numbers, is_move=False, raw_bytes=100):
    return Plan(1, tuple((table(number, raw_bytes),) for number in numbers), is_move)


def memtable(charge):
    found = Memtable(1)
    found.charge = charge
    return found


class Stage:
    """A Background, the scripts it works off, and the log of what happens.

    Attributes:
        scripts: for each job that will begin: the bytes of its steps, or what a step raises.
        plans: what the picker will say, one after the other; then None.
        log: (event, what) in order.
        install_fails: what installing raises, one after the other; None if it does not.
    """

    def __init__(self, monkeypatch):
        self.storage = CrashStorage()
        self.scripts, self.plans, self.log, self.install_fails = [], [], [], []
        self.version = Version()
        workshop = SimpleNamespace(
            storage=self.storage,
            options=Options(memtable_bytes=MEMTABLE_BYTES),
            limits=Limits(MEMTABLE_BYTES, 4, 8 * MEMTABLE_BYTES, runway_bytes=RUNWAY_BYTES),
        )
        monkeypatch.setattr(background_module, "flush", lambda memtables, _: self._steps("flush"))
        monkeypatch.setattr(background_module, "compact", lambda *_: self._steps("compact"))
        monkeypatch.setattr(background_module, "pick", self._pick)
        monkeypatch.setattr(background_module, "pick_everything", self._pick)
        self.background = Background(workshop, lambda: self.version, self._flushed, self._compacted)

    def _steps(self, name):
        return self._run(name, self.scripts.pop(0))

    def _run(self, name, script):
        try:
            for step in script:
                if isinstance(step, BaseException):
                    raise step
                self.log.append((name, step))
                yield step
        except BaseException:
            self.log.append((name, "abandoned"))
            raise
        return [table(50)]

    def _pick(self, version, *_):
        found = self.plans.pop(0) if self.plans else None
        self.log.append(("pick", found is not None))
        return found

    def _flushed(self, memtables, metas):
        self._installed("flush", metas)

    def _compacted(self, plan, metas):
        self._installed("drop" if plan.is_drop else "move" if plan.is_move else "compact", metas)

    def _installed(self, name, metas):
        self.log.append((f"install {name}", [meta.number for meta in metas]))
        failure = self.install_fails.pop(0) if self.install_fails else None
        if failure is not None:
            raise failure

    def flush(self, *script, charge=MEMTABLE_BYTES):
        self.scripts.append(script)
        self.background.start_flush((memtable(charge),))
        return self.background.flushing

    def compact(self, *script, raw_bytes=100):
        self.scripts.append(script)
        self.plans.append(plan(1, 2, raw_bytes=raw_bytes))

    def advance(self, written=100, room=MEMTABLE_BYTES):
        """Do one turn; return what happened."""
        return self.after(lambda: self.background.advance(written, room))

    def after(self, call):
        before = len(self.log)
        call()
        return self.log[before:]


@pytest.fixture
def stage(monkeypatch):
    return Stage(monkeypatch)


# How fast


def test_a_flush_is_done_when_the_next_memtable_is_half_full(stage):
    stage.flush(*[10] * 100)
    room, turns = MEMTABLE_BYTES, 0
    while stage.background.flushing is not None:
        stage.advance(50, room)
        room -= 50
        turns += 1

    assert 0.4 * MEMTABLE_BYTES <= room <= 0.6 * MEMTABLE_BYTES
    done = [what for event, what in stage.log if event == "flush"]
    assert 100 == len(done)
    assert turns >= 8  # no turn does it all


def test_a_turn_does_at_least_one_step_and_no_more_than_is_owed(stage):
    stage.flush(*[10] * 100)

    assert [("flush", 10)] == stage.advance(0)[:1]
    assert [("flush", 10)] * 20 == [event for event in stage.advance(100) if event[0] == "flush"]


def test_a_flush_without_runway_is_worked_off_at_once_and_installed_at_the_next_turn(stage):
    stage.flush(*[10] * 100)
    events = stage.advance(100, MEMTABLE_BYTES // 2)

    assert 100 == events.count(("flush", 10))
    assert ("install flush", [50]) == stage.advance(0, 0)[0]
    assert stage.background.flushing is None


def takes_time(stage, seconds):
    """Have every installation take so long."""
    install = stage._installed

    def installed(*what):
        stage.storage.sleep(seconds)
        install(*what)

    stage._installed = installed


def test_time_spent_in_turns_is_counted_and_is_no_stall(stage):
    takes_time(stage, 2.0)
    stage.flush(10)
    stage.advance(MEMTABLE_BYTES)
    stage.advance(MEMTABLE_BYTES)

    assert (2.0, 0.0) == stage.background.seconds
    assert 0 == stage.background.stalls


def test_a_write_that_waits_for_a_whole_flush_is_a_stall(stage):
    takes_time(stage, 2.0)
    stage.background.wait_for_flush()
    assert (0, (0.0, 0.0)) == (stage.background.stalls, stage.background.seconds)

    stage.flush(*[10] * 100)
    stage.background.wait_for_flush()

    assert stage.background.flushing is None
    assert (1, (2.0, 2.0)) == (stage.background.stalls, stage.background.seconds)


def test_a_wait_that_fails_is_counted_too(stage):
    stage.flush(10, FULL)
    with pytest.raises(error):
        stage.background.wait_for_flush()

    assert 1 == stage.background.stalls


@pytest.mark.parametrize(("is_delegated", "is_long", "stalls"), [(1, 1, 1), (1, 0, 0), (0, 1, 0)])
def test_a_turn_that_waits_for_the_other_process_is_a_stall(
    stage, monkeypatch, is_delegated, is_long, stalls
):
    monkeypatch.setattr(background_module, "pressure", lambda *_: PATIENCE if is_long else PATIENCE / 2)
    stage.compact(*[10] * 100)
    stage.advance(0)
    stage.background.compacting.is_delegated = bool(is_delegated)
    stage.advance(0)

    assert stalls == stage.background.stalls


def test_a_compaction_is_paid_byte_for_byte(stage):
    stage.compact(*[10] * 100, raw_bytes=500)
    stage.advance(100)

    assert 10 == stage.log.count(("compact", 10))


def test_what_writes_no_table_is_installed_on_the_way(stage):
    drop = Plan(0, ((table(3),),), is_drop=True)
    stage.plans += [plan(1, is_move=True), drop]
    stage.compact(*[10] * 100)
    events = stage.advance(100)

    assert [("install move", [1]), ("install drop", [])] == [what for what in events if "install" in what[0]]
    assert [("pick", True)] * 3 == [what for what in events if what[0] == "pick"]
    assert ("compact", 10) in events


def test_a_large_compaction_is_done_within_its_runway(stage):
    total = int(MOST_PACE) * RUNWAY_BYTES
    stage.compact(*[100] * (total // 100), raw_bytes=total // 2)
    written = 0
    stage.advance(100)
    while stage.background.compacting is not None:
        stage.advance(100)
        written += 100

    assert written <= RUNWAY_BYTES


def test_what_a_step_did_beyond_what_was_owed_the_next_turns_do_not_do(stage):
    stage.compact(*[350] * 4)
    done = [len([event for event in stage.advance(100) if event[0] == "compact"]) for _ in range(12)]

    assert [1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0] == done


def test_a_very_large_compaction_costs_no_write_more_than_the_most(stage):
    stage.compact(*[10] * 1000, raw_bytes=1000 * RUNWAY_BYTES)
    stage.advance(100)

    assert MOST_PACE * 100 / 10 == stage.log.count(("compact", 10))


def test_a_long_level_0_makes_compactions_faster(stage):
    stage.version = Version(
        (tuple(table(number) for number in range(1, 13)),)
    )  # three times what it should have
    stage.compact(*[10] * 100)
    stage.advance(100)

    assert 30 == stage.log.count(("compact", 10))


def test_flush_and_compaction_advance_in_the_same_turn(stage):
    stage.flush(*[10] * 100)
    stage.compact(*[10] * 100)
    events = stage.advance(100)

    assert {"flush", "pick", "compact"} == {event for event, _ in events}
    assert stage.background.flushing is not None
    assert stage.background.compacting is not None


def test_a_job_without_a_budget_is_seen_through(stage):
    job = stage.flush(10, 10, 10)
    events = stage.after(lambda: stage.background.work(job))

    assert [("flush", 10)] * 3 + [("install flush", [50])] == events
    assert [table(50)] == job.outputs
    assert stage.background.flushing is None


def test_a_budget_ends_between_two_steps(stage):
    job = stage.flush(10, 10, 10)
    for expected in ([("flush", 10)], [("flush", 10)], [("flush", 10)], [("install flush", [50])]):
        assert expected == stage.after(lambda: stage.background.work(job, 5))


# What comes next


def test_moves_are_done_on_the_way_to_the_next_compaction(stage):
    stage.plans = [plan(1, is_move=True), plan(2, 3, is_move=True)]
    stage.compact(10)
    events = stage.advance(1)

    assert [("pick", True), ("install move", [1]), ("pick", True), ("install move", [2, 3])] == events[:4]
    assert [("pick", True), ("compact", 10)] == events[4:]


def test_nothing_is_picked_again_until_something_was_installed(stage):
    assert [("pick", False)] == stage.advance()
    assert [] == stage.advance()
    stage.flush(10)
    assert [("flush", 10)] == stage.advance(1)

    assert [("install flush", [50]), ("pick", False)] == stage.advance()


def test_nothing_is_picked_while_a_compaction_is_under_way(stage):
    stage.compact(1, 1, 1)
    stage.advance(1)
    stage.plans.append(plan(7, is_move=True))

    assert [("compact", 1)] == stage.advance(1)


def test_small_compactions_are_done_to_their_end_and_a_large_one_is_begun(stage):
    stage.compact(10, 10, raw_bytes=50)
    stage.compact(10, 10, raw_bytes=50)
    stage.compact(10, 10, raw_bytes=51)
    stage.after(lambda: stage.background.work_off_small(100))

    assert [[50], [50]] == [what for event, what in stage.log if event == "install compact"]
    assert 102 == stage.background.compacting.total_bytes
    assert 4 == stage.log.count(("compact", 10))


def test_nothing_due_is_nothing_to_work_off(stage):
    assert [("pick", False)] == stage.after(lambda: stage.background.work_off_small(100))


def test_compacting_everything_drops_what_is_under_way(stage):
    stage.compact(10, 10)
    stage.advance(1)
    stage.compact(20)

    assert stage.background.start_compaction_of_everything()
    assert ("compact", "abandoned") in stage.log
    assert [("compact", 20), ("install compact", [50])] == stage.after(
        lambda: stage.background.work(stage.background.compacting)
    )
    assert not stage.background.start_compaction_of_everything()
    assert stage.background.compacting is None


def test_all_can_be_dropped(stage):
    stage.flush(10, 10)
    stage.compact(10, 10)
    stage.advance(1)
    events = stage.after(stage.background.drop_all)
    stage.background.drop_all()

    assert [("flush", "abandoned"), ("compact", "abandoned")] == events
    assert (None, None) == (stage.background.flushing, stage.background.compacting)
    assert [("pick", False)] == stage.advance()  # what was dropped may be due again


# What fails


def test_a_job_that_fails_is_dropped_and_remembered_and_fails_no_write(stage):
    stage.flush(10, FULL)
    stage.advance(1)

    assert [("flush", "abandoned")] == stage.advance(1)
    assert (None, FULL) == (stage.background.flushing, stage.background.trouble)


def test_damage_stops_a_compaction_and_keeps_its_inputs(stage):
    damage = CorruptionError("/db/000001.sst", 17, "checksum does not match")
    stage.compact(damage)
    events = stage.advance()

    assert [("pick", True), ("compact", "abandoned")] == events
    assert damage == stage.background.trouble
    assert stage.background.compacting is None


def test_without_a_budget_the_failure_is_told(stage):
    job = stage.flush(FULL)
    with pytest.raises(error, match="No space"):
        stage.background.work(job)

    assert stage.background.flushing is None


def test_what_failed_is_tried_again_after_longer_and_longer_pauses(stage):
    for pause in (*PAUSES[1:], PAUSES[-1], PAUSES[-1]):
        stage.compact(FULL)
        assert [("pick", True), ("compact", "abandoned")] == stage.advance()
        stage.storage.advance(0.99 * pause)
        assert [] == stage.advance()
        stage.storage.advance(0.02 * pause)
    stage.compact(1)
    stage.advance(1)
    stage.advance(1)
    assert stage.background.trouble is None

    stage.compact(FULL)
    stage.advance()
    stage.storage.advance(1.01 * PAUSES[1])  # after a success they begin anew
    assert [("pick", False)] == stage.advance()


def test_a_failed_flush_holds_up_the_compaction_until_its_pause_is_over(stage):
    stage.flush(FULL)
    stage.compact(10, 10)
    assert [("flush", "abandoned")] == stage.advance()
    assert [] == stage.advance()
    stage.storage.advance(PAUSES[1])

    assert [("pick", True), ("compact", 10)] == stage.advance(1)


def test_a_failed_sync_comes_out_of_the_turn(stage):
    stage.flush(10, FailedError(errno.EIO, "sync failed", "/db"))
    stage.advance(1)
    with pytest.raises(FailedError):
        stage.advance(1)

    assert stage.background.flushing is None


def test_an_interrupted_step_ends_the_job(stage):
    job = stage.flush(10, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        stage.background.work(job)

    assert ("flush", "abandoned") == stage.log[-1]
    assert stage.background.flushing is None


def test_outputs_that_could_not_be_installed_stay_until_they_are(stage):
    job = stage.flush(10)
    stage.install_fails = [FULL, FULL]
    stage.advance(1)
    for trouble in (FULL, FULL, None):
        assert [("install flush", [50])] == stage.advance()[:1]
        assert trouble == stage.background.trouble
        assert (job if trouble else None) is stage.background.flushing
        stage.storage.advance(PAUSES[-1])

    assert 1 == stage.log.count(("flush", 10))


def test_complete_outputs_are_not_unlinked_by_dropping_their_job(stage):
    """A manifest that names them may have reached the disk."""
    stage.flush(10)
    stage.install_fails = [FULL]
    stage.advance(1)
    stage.advance()
    stage.background.drop_all()

    assert ("flush", "abandoned") not in stage.log


def test_a_move_that_cannot_be_installed_is_picked_again(stage):
    stage.plans = [plan(1, is_move=True), plan(1, is_move=True)]
    stage.install_fails = [FULL]
    stage.advance()
    assert FULL == stage.background.trouble
    stage.storage.advance(PAUSES[1])

    assert [("pick", True), ("install move", [1]), ("pick", False)] == stage.advance()


def test_a_job_whose_result_was_lost_is_done_again(stage):
    """An interruption came between the return of its last step and the assignment of what it returned."""
    job = stage.flush(10)
    list(job.steps)
    events = stage.after(lambda: stage.background.work(job))

    assert [] == events
    assert stage.background.flushing is None
