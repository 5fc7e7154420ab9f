"""Delegate: compactions given to a worker process.  Input files in, output files out, by worker.py.

Rules
  1. Nothing depends on it: what cannot be delegated, or is not done, is done here and now.
  2. One compaction at a time; the process starts with the first one that is worth it, and stays.
  3. The numbers of the outputs are taken from our counter beforehand, and never used again.
  4. An output counts when it is what the plan asks for, and can be opened.
  5. A worker whose outputs are not wanted any more, or are wrong, is ended first.  Only then are they
     unlinked, and by us: it writes nothing behind our back, and unlinks nothing at all.

Thread safety: under the lock of the store, but for `expect_end`.  Spec: docs/durability.md, Worker process.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from lsmdbm._base.errors import error
from lsmdbm._base.paths import absolute
from lsmdbm._engine.jobs import ENTRY_BYTES, NO_NEWS, Steps, Workshop, compact
from lsmdbm._engine.names import TABLE, file_name, numbers
from lsmdbm._engine.plan import Plan
from lsmdbm._engine.version import Version
from lsmdbm._format.coding import Malformed
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.messages import Failure, Frames, Order, Outputs, encode

if TYPE_CHECKING:  # subprocess and what it imports are for those alone who start one
    from lsmdbm._base.process import Process

WORKER = "lsmdbm._engine.worker"
WORTH_BYTES = 4 << 20  # of blocks: to start the process costs about as much as to merge 3 MiB
MAX_LOSSES = 3  # one after the other; then the process is more trouble than help
SPARE_NUMBERS = 8
LONGEST_WAIT = 60.0  # seconds without any news, while a writer waits for some
LOOK_SECONDS = 1.0  # between two looks whether the process is there at all


class Delegate:
    """Who has compactions done by another process.

    Args:
        workshop: what jobs work with.

    Attributes:
        waits: whether the steps of a compaction wait for news of it.
        done: how many compactions the process has done.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._path = absolute(workshop.directory.path)  # of now: the program may change its directory
        self._process: Process | None = None
        self._frames = Frames()
        self._losses = 0
        self._is_over = False
        self.waits = True
        self.done = 0

    def takes(self, total_bytes: int) -> bool:
        """Return whether a compaction of so many bytes is worth another process."""
        return total_bytes >= WORTH_BYTES and self._losses < MAX_LOSSES and not self._is_over

    def compact(self, plan: Plan, version: Version) -> Steps:
        """Merge the tables of a plan; see jobs."""
        process = self._started()
        if process is not None:
            outputs = yield from self._have_done(process, plan, version)
            if outputs is not None:
                return outputs
        return (yield from compact(plan, version, self._workshop))  # rule 1

    def _started(self) -> Process | None:
        if self._process is not None and not self._process.is_alive():
            self.end()
        if self._process is None and not self._is_over:
            self._frames = Frames()
            self._process = self._workshop.storage.start_process(WORKER)
            if self._process is None:
                self._losses += 1
        return self._process

    def _have_done(
        self, process: Process, plan: Plan, version: Version
    ) -> Generator[int, None, list[TableMeta] | None]:
        """Return the outputs; None if there are none, for reasons that are the worker's own."""
        count = sum(max(meta.file_bytes, ENTRY_BYTES * meta.entries) for meta in plan.inputs)
        taken = self._workshop.counter.reserve(SPARE_NUMBERS + 2 * count // self._workshop.limits.table_bytes)
        try:
            process.send(encode(self._order(plan, version, taken)))
            answer = yield from self._answer(process)
            if isinstance(answer, Outputs) and self._are_right(plan, answer.tables, taken):
                self.done += 1
                self._losses = 0
                return list(answer.tables)
            self._losses += 1
            self._give_up(taken)
        except BaseException:
            self._give_up(taken)
            raise
        exc = answer.exception() if isinstance(answer, Failure) else None
        if exc is not None:
            raise exc
        return None

    def _order(self, plan: Plan, version: Version, taken: range) -> Order:
        options, directory = self._workshop.options, self._workshop.directory
        return Order(
            self._path,
            directory.identity(),
            (taken.start, taken.stop),
            options.memtable_bytes,
            options.max_open_files,
            options.shape(),
            plan.level,
            plan.runs,
            tuple(
                version.overlapping(deeper, *plan.bounds)
                for deeper in range(plan.level + 1, len(version.levels))
            ),
        )

    def _answer(self, process: Process) -> Generator[int, None, Outputs | Failure | None]:
        """Return what came of the order; None if the worker is gone, says nothing, or what nobody says."""
        clock = self._workshop.storage.monotonic
        since = clock()
        while True:
            data = process.receive(LOOK_SECONDS if self.waits else 0)
            if data is None:
                return None
            done = 0
            try:
                for message in self._frames.feed(data):
                    if isinstance(message, (Outputs, Failure)):
                        return message
                    if not isinstance(message, Order):
                        done += message.done_bytes
            except Malformed:
                return None
            if done:
                yield done
                since = clock()
            elif not self.waits:
                yield NO_NEWS
                since = clock()
            elif clock() - since >= LONGEST_WAIT:
                return None

    def _are_right(self, plan: Plan, metas: tuple[TableMeta, ...], taken: range) -> bool:  # rule 4
        if any(_mistakes(plan, metas, taken)):
            return False
        try:
            for meta in metas:
                self._workshop.tables.reader(meta)
        except error:
            return False
        return True

    def _give_up(self, taken: range) -> None:  # rule 5
        self.end()
        directory = self._workshop.directory
        try:
            for number in numbers(directory.listdir(), TABLE):
                if number in taken:
                    self._workshop.tables.readers.discard(number)
                    directory.unlink(file_name(number, TABLE))
        except error:
            pass  # a table without a manifest counts for nothing; the next opening collects it

    def end(self) -> None:
        """End the process; in the child of a fork, let go of it."""
        process = self._process
        if process is not None:
            process.end()
            self._process = None  # only now: interrupted, it is ended again

    def expect_end(self) -> None:
        """End the process and start no other one; what is under way is done here.  In any thread."""
        self._is_over = True
        process = self._process
        if process is not None:
            process.kill()


def _mistakes(plan: Plan, metas: tuple[TableMeta, ...], taken: range) -> Iterator[bool]:
    """Yield, for each thing that tables made by a plan cannot be, whether they are that."""
    smallest, largest = plan.bounds
    yield len({meta.number for meta in metas}) != len(metas)
    yield sum(meta.entries for meta in metas) > sum(meta.entries for meta in plan.inputs)
    yield any(one.largest >= other.smallest for one, other in pairwise(metas))
    for meta in metas:
        yield meta.number not in taken or not smallest <= meta.smallest <= meta.largest <= largest
