"""Background work without threads: who advances flushes and compactions, and how fast.

Rules
  1. At most one flush and one compaction are under way; both advance at every turn.
  2. Writers pay in proportion to what they write.  A flush is paced to end when the next memtable is half
     full, a compaction as the picker says, which looks at what the whole tree owes: so debt is bounded, and
     no write waits for a whole flush.  What a compaction does beyond what is owed, because its steps are
     large, later turns owe less.
  3. What fails is dropped with its outputs, remembered as `trouble`, and tried again after a pause.  It
     never fails the write that advanced it.
  4. A compaction that another process does is not waited for, unless level 0 is twice as long as it
     should be.  From then on writers wait for what they owe (rule 2).
  5. A job whose outputs are complete stays until they are installed, however often that is interrupted:
     a manifest that names them may have reached the disk.

Thread safety: under the lock of the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lsmdbm._base.errors import FailedError, error
from lsmdbm._base.forking import importing
from lsmdbm._engine.count import Survey
from lsmdbm._engine.jobs import NO_NEWS, Steps, Workshop, after, compact, flush
from lsmdbm._engine.memtable import Memtable
from lsmdbm._engine.picker import pace, pick, pick_everything, pressure
from lsmdbm._engine.plan import Limits, Plan
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import TableMeta

if TYPE_CHECKING:
    from lsmdbm._engine.delegate import Delegate

PATIENCE = 2.0  # by how much level 0 may exceed its measure before anybody waits for another process
PAUSES = (0.0, 0.1, 1.0, 10.0)  # seconds before a job is tried again, after no, one, two and more failures


class Job:
    """A flush or a compaction under way."""

    __slots__ = (
        "ahead_bytes",
        "done_bytes",
        "is_delegated",
        "memtables",
        "outputs",
        "plan",
        "steps",
        "total_bytes",
    )

    def __init__(
        self,
        steps: Steps,
        total_bytes: int,
        memtables: tuple[Memtable, ...] = (),
        plan: Plan | None = None,
        is_delegated: bool = False,
    ) -> None:
        self.steps = steps
        self.total_bytes = total_bytes
        self.memtables = memtables  # of a flush, newest first
        self.plan = plan  # of a compaction
        self.is_delegated = is_delegated
        self.done_bytes = 0
        self.ahead_bytes = 0  # of a compaction: what steps did beyond what was owed
        self.outputs: list[TableMeta] | None = None  # once they are complete


class Background:
    """Runs jobs.

    Args:
        workshop: what jobs work with.
        version: returns the current Version.
        flushed: installs the tables of a flush.
        compacted: installs the tables of a compaction or a move.
    """

    def __init__(
        self,
        workshop: Workshop,
        version: Callable[[], Version],
        flushed: Callable[[tuple[Memtable, ...], list[TableMeta]], None],
        compacted: Callable[[Plan, list[TableMeta]], None],
    ) -> None:
        self._workshop = workshop
        self._version = version
        self._flushed = flushed
        self._compacted = compacted
        self._is_due = True  # whether picking may find something
        self._failures = 0
        self._retry_at = 0.0
        self._delegate = _delegate(workshop) if workshop.options.background == "process" else None
        self.flushing: Job | None = None
        self.compacting: Job | None = None
        self.trouble: error | None = None
        self.stalls = 0
        self.seconds = (0.0, 0.0)  # that writers spent in slices, and stalls in them; replaced in one step

    @property
    def unfinished(self) -> set[int]:
        """The numbers of the tables that are complete, and may be named by a manifest, but not installed."""
        outputs = [job.outputs or () for job in (self.flushing, self.compacting) if job is not None]
        return {meta.number for metas in outputs for meta in metas}

    def start_flush(self, memtables: tuple[Memtable, ...], survey: Survey | None = None) -> None:
        """Begin to flush sealed memtables, given newest first, after a survey.  None may be under way."""
        total = sum(memtable.charge for memtable in memtables)
        steps = flush(memtables, self._workshop)
        if survey is not None:
            total += survey.worth_bytes
            steps = after(survey.steps, steps)
        self.flushing = Job(steps, total, memtables=memtables)

    def start_compaction_of_everything(self) -> bool:
        """Drop the compaction under way and begin one that leaves a single level; False if there is one."""
        self._drop(self.compacting)
        self._begin_next(pick_everything)
        return self.compacting is not None

    def drop_tables(self, plan: Plan) -> None:
        """Carry out a plan that drops tables, in place of the compaction under way, which may read them."""
        self._drop(self.compacting)
        self._compacted(plan, [])
        self._is_due = True

    def _begin(self, plan: Plan) -> None:
        total = sum(meta.raw_bytes for meta in plan.inputs)
        delegate, version = self._delegate, self._version()
        is_delegated = delegate is not None and delegate.takes(total)
        if delegate is not None and is_delegated:
            steps = delegate.compact(plan, version)
        else:
            steps = compact(plan, version, self._workshop)
        self.compacting = Job(steps, total, plan=plan, is_delegated=is_delegated)

    def reconsider(self) -> None:
        """Say that tables have come otherwise than by a job: a compaction may be due."""
        self._is_due = True

    def _plan_next(self) -> None:
        """Begin the most urgent compaction."""
        if self._is_due and self.compacting is None:
            self._begin_next(pick)
            self._is_due = self.compacting is not None

    def _begin_next(self, choose: Callable[[Version, Limits], Plan | None]) -> None:
        """Begin what a policy asks for.  Moves and drops, which write no table, are done on the way."""
        while self.compacting is None:
            plan = choose(self._version(), self._workshop.limits)
            if plan is None:
                return
            outputs = plan.ready_outputs
            if outputs is None:
                self._begin(plan)
            else:
                self._compacted(plan, outputs)

    def advance(self, written_bytes: int, room_bytes: int) -> None:
        """Work off what so many written bytes owe (rule 2).  Raises nothing but FailedError.

        Args:
            written_bytes: since the last call.
            room_bytes: what the active memtable still takes.
        """
        if self._failures and self._workshop.storage.monotonic() < self._retry_at:
            return
        if self.flushing is None and self.compacting is None and not self._is_due:
            return
        since = self._workshop.storage.monotonic()
        is_stall = False
        try:
            if self.flushing is not None:
                runway = room_bytes - self._workshop.options.memtable_bytes // 2
                left = self.flushing.total_bytes - self.flushing.done_bytes
                self.work(self.flushing, int(left * min(1.0, written_bytes / max(1, runway))))
            self._plan_next()
            if self.compacting is not None:
                waits = self._pressure() >= PATIENCE
                is_stall = waits and self.compacting.is_delegated
                self._work_off(self.compacting, written_bytes, waits)
        except FailedError:
            raise
        except error as exc:
            self.note(exc)
        finally:
            self._count(since, is_stall)

    def _work_off(self, job: Job, written_bytes: int, waits: bool) -> None:
        """Advance a compaction by what so many written bytes owe, less what it is ahead."""
        owed = int(written_bytes * pace(self._version(), self._workshop.limits, job.total_bytes))
        owed -= job.ahead_bytes
        if owed > 0 or job.is_delegated:
            before = job.done_bytes
            self.work(job, max(0, owed), waits=waits)
            owed -= job.done_bytes - before
        job.ahead_bytes = max(0, -owed)

    def wait_for_flush(self) -> None:
        """End the flush under way, if there is one, before a write goes on: the next one is due already."""
        if self.flushing is not None:
            since = self._workshop.storage.monotonic()
            try:
                self.work(self.flushing)
            finally:
                self._count(since, True)

    def _count(self, since: float, is_stall: bool) -> None:
        """Count the time that a write has spent here."""
        spent = self._workshop.storage.monotonic() - since
        slices, stalls = self.seconds
        self.seconds = slices + spent, stalls + (spent if is_stall else 0.0)
        self.stalls += is_stall

    def work_off_small(self, limit_bytes: int) -> None:
        """Do the compactions that are due, to their end, as long as they read no more than this."""
        self._plan_next()
        while self.compacting is not None and self.compacting.total_bytes <= limit_bytes:
            self.work(self.compacting)
            self._plan_next()

    def _pressure(self) -> float:
        return pressure(self._version(), self._workshop.limits)

    def work(self, job: Job, budget_bytes: int | None = None, *, waits: bool = True) -> None:
        """Advance a job by so many bytes, at least by one step; to its end without a budget.

        Args:
            waits: for another process too, if that one does the job.

        Raises:
            error: it failed and was dropped.
        """
        goal = None if budget_bytes is None else job.done_bytes + budget_bytes
        if self._delegate is not None:
            self._delegate.waits = waits
        try:
            while job.outputs is None:
                done = next(job.steps)
                if done == NO_NEWS:
                    return
                job.done_bytes += done
                if goal is not None and job.done_bytes >= goal:
                    return
        except StopIteration as end:
            job.outputs = end.value
        except BaseException:
            self._drop(job)
            raise
        if job.outputs is None:  # an interruption between return and assignment lost them: do it all again
            self._drop(job)
        else:
            self._install(job, job.outputs)

    def _install(self, job: Job, outputs: list[TableMeta]) -> None:
        if job.plan is None:
            self._flushed(job.memtables, outputs)
        else:
            self._compacted(job.plan, outputs)
        self._forget(job)
        self._is_due = True
        self._failures = 0
        self.trouble = None

    def _forget(self, job: Job) -> None:
        if self.flushing is job:
            self.flushing = None
        if self.compacting is job:
            self.compacting = None

    def _drop(self, job: Job | None) -> None:
        if job is not None:
            self._forget(job)
            job.steps.close()  # which unlinks what it has written, unless it is complete (rule 5)

    def note(self, exc: error) -> None:
        """Remember what went wrong, and wait before trying again."""
        exc.__context__ = None  # its traceback, and that of exc, would keep open the file of a table that was
        self.trouble = exc.with_traceback(None)  # unlinked, and so its space on a full disk
        self._failures += 1
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._retry_at = self._workshop.storage.monotonic() + pause

    def drop_all(self) -> None:
        """Drop what is under way: before closing or clearing, or because its files may lose their names."""
        self._drop(self.flushing)
        self._drop(self.compacting)
        self._is_due = True

    @property
    def delegated(self) -> int:
        """How many compactions another process has done."""
        return 0 if self._delegate is None else self._delegate.done

    def end(self) -> None:
        """End the other process, if there is one; in the child of a fork, let go of it."""
        if self._delegate is not None:
            self._delegate.end()

    def expect_end(self) -> None:
        """End the other process, whatever is under way, and start no other one.  Needs no lock."""
        if self._delegate is not None:
            self._delegate.expect_end()


def _delegate(workshop: Workshop) -> Delegate:
    with importing:  # not before: some 4 % of `import lsmdbm`, and seldom asked for
        from lsmdbm._engine.delegate import Delegate

    return Delegate(workshop)
