"""Worker: the process that does what delegate.py asks for.  Reads tables and writes new ones, no more.

Rules
  1. It takes no lock, chooses no number, installs nothing and unlinks nothing: when its parent is gone, what
     it has left here may bear the name of a file of the next writer.
  2. It works in the very directory that is meant, or not at all.
  3. What it has opened for a job it lets go of with the job.
  4. It ends when its parent does, at the latest after the step under way.

Thread safety: none.  Spec: docs/durability.md, Worker process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from lsmdbm._base.errors import error
from lsmdbm._base.options import Options
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._base.process import Pipe, pipe_to_parent
from lsmdbm._base.storage import Directory, File, Storage
from lsmdbm._engine.jobs import Steps, Workshop, compact
from lsmdbm._engine.names import Counter
from lsmdbm._engine.plan import Limits, Plan
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.version import Version
from lsmdbm._format.messages import Failure, Frames, Message, Order, Outputs, Progress, encode

PROGRESS_BYTES = 64 << 10
IDLE_SECONDS = 5.0  # between two looks whether the parent is there
MODE = 0o666  # of new files, as far as there is no LOCK, which has the right one


@dataclass(slots=True)
class _Additive:
    """A directory in which nothing can be removed."""  # rule 1

    directory: Directory

    @property
    def path(self) -> str:
        return self.directory.path

    def create(self, name: str) -> File:
        return self.directory.create(name)

    def open(self, name: str) -> File:
        return self.directory.open(name)

    def unlink(self, name: str) -> None:
        """Leave it to the parent."""


class Worker:
    """Does one order after the other.

    Args:
        pipe: where they come from.
        storage: the files they are about.
    """

    def __init__(self, pipe: Pipe, storage: Storage) -> None:
        self._pipe = pipe
        self._storage = storage
        self._frames = Frames()
        self._directory: Directory | None = None
        self._steps: Steps | None = None
        self._done = 0

    def serve(self) -> None:
        """Work until the parent is gone."""  # rule 4
        while self.turn():
            pass

    def turn(self) -> bool:
        """Hear what is asked for, and do one step; return whether the parent is there."""
        data = self._pipe.receive(0 if self._steps is not None else IDLE_SECONDS)
        for message in self._frames.feed(data or b""):
            if isinstance(message, Order):
                self._begin(message)
        if self._steps is not None:
            self._step(self._steps)
        return data is not None

    def _begin(self, order: Order) -> None:
        try:
            self._steps = self._job(order)
        except Exception as exc:
            self._answer(Failure.of(exc))

    def _job(self, order: Order) -> Steps:
        directory = self._directory = self._storage.directory(order.path, MODE)
        if directory.identity() != order.identity:  # rule 2
            raise error(f"{order.path}: another directory than the one that is meant")
        additive = cast(Directory, _Additive(directory))
        options = Options.choose(
            {
                **order.shape,
                "memtable_bytes": order.memtable_bytes,
                "max_open_files": order.max_open_files,
                "cache_bytes": 0,
            }
        )
        tables = Tables(additive, options)
        counter = Counter(order.numbers[0], tables.make_room, order.numbers[1])
        workshop = Workshop(self._storage, additive, counter, tables, options, Limits.of(options))
        version = Version(((),) * (order.level + 1) + order.below)
        return compact(Plan(order.level, order.runs), version, workshop)

    def _step(self, steps: Steps) -> None:
        try:
            self._done += next(steps)
        except StopIteration as end:
            self._answer(Outputs(tuple(end.value)))
        except Exception as exc:
            self._answer(Failure.of(exc))
        else:
            if self._done >= PROGRESS_BYTES and not self._pipe.is_clogged:
                self._pipe.send(encode(Progress(self._done)))
                self._done = 0

    def _answer(self, message: Message) -> None:
        self._steps = None  # rule 3
        self._done = 0
        if self._directory is not None:
            self._directory.close()
            self._directory = None
        self._pipe.send(encode(message))


def main() -> None:
    """Be a worker of the process that started this one."""
    Worker(pipe_to_parent(), OsStorage()).serve()
