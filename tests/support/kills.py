"""A writer that dies: from a fork server, by SIGKILL from outside or by its own hand at a storage call.

    child.start("run", "kills:fork", "write", path, seed, done, count, options, fatal)
    child.line()        "pid 4711"
    child.lines()       "1", "2", ...: how many steps have returned; at the end the answer, its wait status

The steps follow from a seed and their number, so that who kills the writer knows the content after each.

Rules
  1. A step changes the content by one record of the log at most, and so does a transaction of many changes:
     it is there or it is not.
  2. A step is acknowledged when its call has returned, by one write of a line to a pipe.
  3. `Seam` counts every call of the storage, a directory or a file, but those of clock and randomness.

Thread safety: none.
"""

from __future__ import annotations

import os
import random
import signal
import traceback
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any

from lsmdbm._base.os_file import OsFile
from lsmdbm._base.os_storage import OsDirectory, OsStorage
from lsmdbm._engine.writer import Writer
from lsmdbm.database import Database, open_on

KEYS = [b"%03d" % number for number in range(40)]
CHANCES = {
    "put": 30.0,
    "batch": 15.0,
    "transaction": 25.0,
    "pop": 10.0,
    "popitem": 5.0,
    "delete": 5.0,
    "clear": 0.5,
    "sync": 2.0,
    "flush": 1.0,
    "compact": 1.0,
    "scan": 3.0,
}
MOVES = ("copy", "move", "move", "delete")  # of a transaction
PLACES = ("before", "half", "after")  # of a call; half of a write, before any other call
UNCOUNTED = ("pid", "monotonic", "sleep", "urandom")
Content = dict[bytes, bytes]
Step = tuple[str, Any]


def step(seed: int, number: int) -> Step:
    """Return a step: what to do, and with what."""
    rng = random.Random(seed * 1_000_003 + number)
    name = rng.choices(
        [*CHANCES],
        [*CHANCES.values()],
    )[0]
    longest = 300_000 if rng.random() < 0.003 else 2000 if rng.random() < 0.05 else 60
    if name == "batch":  # far smaller than what update() writes as one record
        return name, {key: rng.randbytes(rng.randrange(1 + longest // 10)) for key in rng.sample(KEYS, 5)}
    if name == "transaction":
        return name, [(rng.choice(KEYS), rng.choice(MOVES), rng.choice(KEYS)) for _ in range(8)]
    if name == "delete":
        return name, sorted(rng.sample(KEYS[:10], 2))
    return name, (rng.choice(KEYS), rng.randbytes(rng.randrange(longest)))


def take(db: Database, todo: Step) -> None:
    """Do a step."""
    name, given = todo
    if name == "put":
        db[given[0]] = given[1]
    elif name == "batch":
        db.update(given)
    elif name == "pop":
        db.pop(given[0], None)
    elif name == "popitem":
        if db:
            db.popitem()
    elif name == "scan":
        list(db.items())
    elif name == "delete":
        db.delete_range(*given)
    elif name == "transaction":
        with db.transaction() as tx:
            move_all(tx, given)
            point = tx.savepoint()
            tx.clear()
            point.rollback()
    else:
        getattr(db, name)()


def move_all(entries: MutableMapping[bytes, bytes], moves: list[tuple[bytes, str, bytes]]) -> None:
    """Do what a transaction does: each move depends on what is there, and on the moves before."""
    for source, move, target in moves:
        if move == "delete":
            entries.pop(source, None)
        elif move == "copy":
            entries[target] = entries.get(source, b"")[-50:] + b"."
        elif source in entries:  # moved from one key to another: in between it is nowhere
            entries[target] = entries.pop(source)[-50:]


def follow(content: Content, todo: Step) -> None:
    """Do to a dict what the step does to a database."""
    name, given = todo
    if name == "put":
        content[given[0]] = given[1]
    elif name == "batch":
        content.update(given)
    elif name == "pop":
        content.pop(given[0], None)
    elif name == "popitem" and content:
        del content[min(content)]
    elif name == "clear":
        content.clear()
    elif name == "transaction":
        move_all(content, given)
    elif name == "delete":
        for key in [key for key in content if given[0] <= key < given[1]]:
            del content[key]


def states(seed: int, content: Content, done: int, last: int) -> Iterator[tuple[int, Content]]:
    """Yield the content after each number of steps from `done` to `last`; it is one dict, which changes."""
    content = dict(content)
    yield done, content
    for number in range(done, last):
        follow(content, step(seed, number))
        yield number + 1, content


class Seam:
    """A storage that kills its process at one call.

    Args:
        number: of the call, from 0; None for no call.
        place: one of PLACES.
    """

    def __init__(self, number: int | None, place: str) -> None:
        self.calls = 0
        self._number = number
        self._place = place
        self.storage: Any = _Wrapped(OsStorage(), self)

    def call(self, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Make a call, or die of it."""
        is_fatal = self.calls == self._number
        self.calls += 1
        if is_fatal and self._place != "after":
            if self._place == "half" and method.__name__ == "pwrite":
                data, offset = arguments
                method(data[: len(data) // 2], offset)
            die()
        result = method(*arguments)
        if is_fatal:
            die()
        return result


class _Wrapped:
    """A storage, a directory or a file, every call of which goes through the seam."""

    def __init__(self, target: Any, seam: Seam) -> None:
        self._target = target
        self._seam = seam

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value) or name in UNCOUNTED:
            return value

        def call(*arguments: Any) -> Any:
            bare = tuple(each._target if isinstance(each, _Wrapped) else each for each in arguments)
            result = self._seam.call(value, bare)
            return _Wrapped(result, self._seam) if isinstance(result, (OsDirectory, OsFile)) else result

        return call


def die() -> None:
    """Send SIGKILL to this process."""
    os.kill(os.getpid(), signal.SIGKILL)


# What follows runs in the process that dies, but for `fork`


def report(text: str) -> None:
    """Write one line at once, without any buffer."""
    os.write(1, text.encode() + b"\n")


def fork(function: str, *arguments: Any) -> int:
    """Run a function of this module in a forked process, and return its wait status."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            report(f"pid {os.getpid()}")
            globals()[function](*arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def write(
    path: str, seed: int, done: int, count: int, options: dict[str, Any], fatal: tuple[int | None, str]
) -> None:
    """Open, take so many steps from number `done` on, each acknowledged, and close; report the calls."""
    seam = Seam(*fatal)
    storage = OsStorage() if fatal[0] is None and count > 1000 else seam.storage
    with open_on(storage, path, "c", 0o666, options) as db:
        for number in range(done, done + count):
            take(db, step(seed, number))
            report(str(number + 1))
    report(f"calls {seam.calls}")


def write_early(
    path: str, seed: int, done: int, count: int, options: dict[str, Any], fatal: tuple[int | None, str]
) -> None:
    """Do what `write` does, but acknowledge each step before it is taken."""
    with open_on(Seam(*fatal).storage, path, "c", 0o666, options) as db:
        for number in range(done, done + count):
            report(str(number + 1))
            take(db, step(seed, number))


def write_apart(
    path: str, seed: int, done: int, count: int, options: dict[str, Any], fatal: tuple[int | None, str]
) -> None:
    """Do what `write` does, but commit each change of a transaction by itself."""
    batch = Writer.batch

    def apart(writer: Writer, keys: Sequence[bytes], values: Sequence[bytes | None], *ranges: Any) -> None:
        for each in zip(keys, values, strict=True) if not ranges else ():
            batch(writer, [each[0]], [each[1]])
        if ranges:
            batch(writer, keys, values, *ranges)

    Writer.batch = apart  # type: ignore[method-assign]
    write(path, seed, done, count, options, fatal)
