"""A Python process of its own, and how a test talks to it.

    with Child(tmp_path) as child:
        child("open", path, "w")            runs that role there, and returns what it returns
        child.start("load", path, 1000)     begins a role that reports line by line
        child.lines()                       what it has reported, to the end
    child("run", "storms:storm", ...)   runs that function of a module of support
        child.die()                         SIGKILL

A call is one line of JSON to the child, an answer one line back: `{"result": ...}`, or `{"error": [class,
text]}`, which is raised here as `ChildError`.  Bytes travel as latin-1 text.

Thread safety: none.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lsmdbm
from support import entries


class ChildError(Exception):
    """What a role raised in the child: the name of the class, and the text."""


class Child:
    """One process, which imports the same lsmdbm as this one does.

    Args:
        directory: where it works; not the root of the project, which would hide an installed package.
        prefix: a command that runs it.
    """

    def __init__(self, directory: str | os.PathLike[str], *prefix: str) -> None:
        places = (Path(__file__).parents[1], Path(lsmdbm.__file__).parents[1])
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "support.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        )
        self.pid = self._process.pid

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, role: str, *arguments: Any) -> None:
        """Have the child begin something."""
        stdin = self._process.stdin
        if stdin is None:
            raise ValueError("no pipe")
        stdin.write(json.dumps([role, *arguments]).encode() + b"\n")
        stdin.flush()

    def line(self) -> str:
        """Return the next line the child writes; without its end if it died in it, "" if it is dead."""
        stdout = self._process.stdout
        if stdout is None:
            raise ValueError("no pipe")
        return stdout.readline().decode()

    def lines(self) -> Iterator[str]:
        """Yield the whole lines that the child writes until it dies."""
        while (line := self.line()).endswith("\n"):
            yield line[:-1]

    def answer(self) -> Any:
        """Wait for the result of the last `start`."""
        line = self.line()
        if not line:
            raise ChildError("EOFError", "the child has died")
        answer = json.loads(line)
        if "error" in answer:
            raise ChildError(*answer["error"])
        return answer["result"]

    def __call__(self, role: str, *arguments: Any) -> Any:
        """Have the child do something, and return the result."""
        self.start(role, *arguments)
        return self.answer()

    def die(self) -> None:
        """Send it SIGKILL; what it has written can still be read."""
        self._process.kill()
        self._process.wait()

    def kill(self) -> int:
        """Kill it, if it is not dead yet, and return its exit status."""
        self._process.kill()
        return self.wait()

    def wait(self) -> int:
        """Wait until it has died by itself, and return its exit status."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
        return self._process.wait()


# What follows runs in the child

_open: list[lsmdbm.Database] = []


def report(text: str) -> None:
    """Write one line at once, without any buffer."""
    os.write(1, text.encode() + b"\n")


def open_database(path: str, flag: str, options: dict[str, Any] | None = None) -> None:
    """Open a database, which the roles below work on."""
    _open.append(lsmdbm.open(path, flag, **(options or {})))


def put(pairs: dict[str, str]) -> None:
    """Put entries one by one."""
    for key, value in pairs.items():
        _open[-1][key.encode("latin-1")] = value.encode("latin-1")


def items() -> list[list[str]]:
    """Return all entries."""
    return [[key.decode("latin-1"), value.decode("latin-1")] for key, value in _open[-1].items()]


def call(method: str, *arguments: Any) -> None:
    """Call a method of the database."""
    getattr(_open[-1], method)(*arguments)


def load(path: str, count: int, value_bytes: int, options: dict[str, Any]) -> None:
    """Put the keys 0, 1, ...; report each that returned; die, without a word to anybody, behind the last."""
    db = lsmdbm.open(path, "c", **options)
    for number in range(count):
        db[f"{number:08d}"] = f"{number:08d}" * (value_bytes // 8)
        report(str(number))
    os._exit(9)


def load_entries(path: str, seed: int, done: int) -> None:
    """Put the first `done` of `entries.keys_of(seed)`; report the number, and die."""
    db = lsmdbm.open(path, "c")
    for key in entries.keys_of(seed, done):
        db[key] = entries.value_of(key)
    report(str(done))
    os._exit(9)


def run(function: str, *arguments: Any) -> Any:
    """Run `module:function` of support, and return what it returns."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(f"support.{module}"), name)(*arguments)


def fork_and(method: str, *arguments: Any) -> list[str]:
    """Fork, and return what the database says to the child: the class and text of its error."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            getattr(_open[-1], method)(*arguments)
            text = "no error\n"
        except BaseException as exc:
            text = f"{type(exc).__name__}\n{exc}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return text.split("\n", 1)


ROLES = {
    "open": open_database,
    "put": put,
    "items": items,
    "call": call,
    "load": load,
    "load entries": load_entries,
    "run": run,
    "fork and": fork_and,
}


def main() -> None:
    """Do what stdin says, line by line."""
    for line in sys.stdin:
        role, *arguments = json.loads(line)
        try:
            answer = {"result": ROLES[role](*arguments)}
        except Exception as exc:
            answer = {"error": [type(exc).__name__, str(exc)]}
        report(json.dumps(answer))


if __name__ == "__main__":
    main()
