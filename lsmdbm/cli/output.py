"""Output: what verbs write to - entries, tables, facts, a document, progress.

Rules
  1. Results go to stdout, all else to stderr.  Progress is shown only where stderr is a terminal.
  2. Text that comes in here may be shown: whoever takes it from a database has escaped it.
  3. What goes down a pipe is UTF-8, whatever the locale is.

Thread safety: one thread at a time.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TextIO

from lsmdbm.cli.escapes import escaped, shown
from lsmdbm.cli.formats import json_text
from lsmdbm.cli.outcome import USAGE, Refused

# What is done, and what there is in all, None if that is not known; and to show it, the line that says so.
Report = Callable[[int, "int | None"], None]
Show = Callable[[int, "int | None", str], None]

SECONDS_BETWEEN = 0.1  # two pictures of the progress
UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


@dataclass(frozen=True)
class Column:
    """How one column of a table looks."""

    name: str
    is_number: bool = False
    style: str = ""  # in the words of rich
    folds: bool = False  # may go on in the next line where a terminal is too narrow


@dataclass(frozen=True)
class Cell:
    """A text with a style of its own, in the words of rich."""

    text: str
    style: str = ""


Row = Sequence["str | Cell"]


def text_of(cell: str | Cell) -> str:
    """Return what a cell says."""
    return cell if isinstance(cell, str) else cell.text


def size(count: float) -> str:
    """Return a number of bytes as people say it.

    >>> size(999), size(18_600_000)
    ('999 B', '18.6 MB')
    """
    for unit, worth in UNITS:
        if count >= worth:
            return f"{count / worth:.1f} {unit}"
    return f"{count:.0f} B"


def many(count: int, noun: str, plural: str = "") -> str:
    """Return a number of things.

    >>> many(1, "table"), many(1200, "table"), many(0, "entry", "entries")
    ('1 table', '1,200 tables', '0 entries')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def share(part: float | None, digits: int = 1) -> str:
    """Return a part of 1 as a percentage; "-" if there is none."""
    return "-" if part is None else f"{100 * part:.{digits}f} %"


def times(factor: float | None) -> str:
    """Return a factor; "-" if there is none."""
    return "-" if factor is None else f"{factor:.2f}"


def duration(seconds: float) -> str:
    """Return a time as people say it.

    >>> duration(7.2), duration(200), duration(7300)
    ('7 s', '3:20 min', '2:01 h')
    """
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


class Meter:
    """Says how far something is, how fast it goes, and how long it takes.

    Args:
        what: is being done.
        unit: `"B"`, or a word for what is counted.
    """

    def __init__(self, what: str, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._unit = unit
        self._clock = clock
        self._began = clock()
        self._shown: float | None = None

    def is_due(self) -> bool:
        """Return whether it is time for a new picture, and take it for shown."""
        now = self._clock()
        if self._shown is not None and now - self._shown < SECONDS_BETWEEN:
            return False
        self._shown = now
        return True

    def text(self, done: int, total: int | None) -> str:
        """Return one line."""
        seconds = self._clock() - self._began
        rate = done / seconds if seconds > 0 else 0.0
        amount = self._amount(done)
        if total:
            amount += f" of {self._amount(total)}"
        if self._unit != "B":
            amount += f" {self._unit}"  # once: the time that is left has to fit in 80 columns
        parts = [f"{self._what}: {amount}"]
        if total:
            parts.append(f"{100 * min(done, total) // total} %")
        parts.append(f"{self._amount(rate)}/s")
        if total and rate and done < total:
            parts.append(f"{duration((total - done) / rate)} left")
        return ", ".join(parts)

    def _amount(self, count: float) -> str:
        return size(count) if self._unit == "B" else f"{count:,.0f}"


class Output:
    """Plain text.

    Args:
        stdout: of bytes: entries may be anything.
        stderr: for people.
        is_terminal: whether stdout is one: then nothing goes there unescaped.
        is_ascii: whether it can show no more than that.
        shows_progress: whether stderr is a terminal.
    """

    def __init__(
        self,
        stdout: BinaryIO,
        stderr: TextIO,
        *,
        is_terminal: bool = False,
        is_ascii: bool = False,
        shows_progress: bool = False,
    ) -> None:
        self.is_terminal = is_terminal
        self.is_ascii = is_ascii
        self._stdout = stdout
        self._stderr = stderr
        self._shows_progress = shows_progress
        self.write = stdout.write

    @property
    def width(self) -> int | None:
        """How many columns there are; None if that does not matter."""
        return shutil.get_terminal_size().columns if self.is_terminal else None

    def escaped(self, data: bytes) -> str:
        """Return bytes as text that may be shown here."""
        return escaped(data, is_ascii=self.is_ascii)

    def shown(self, data: bytes, limit: int = 40) -> str:
        """Return the beginning of some bytes as text that may be shown here."""
        return shown(data, limit, is_ascii=self.is_ascii)

    def path(self, path: str) -> str:
        """Return a path as text that may be shown here."""
        return self.escaped(os.fsencode(path))

    def said(self, what: object) -> str:
        """Return what the engine says of a file, which it names, as text that may be shown here."""
        return self.escaped(str(what).encode("utf-8", "surrogateescape"))

    def say(self, text: str = "", style: str = "") -> None:
        """Write a line."""
        self._stdout.write(text.encode("utf-8", "backslashreplace") + b"\n")

    def note(self, text: str) -> None:
        """Write a line for people to stderr: what was done."""
        print(text, file=self._stderr, flush=True)

    def json(self, document: object) -> None:
        """Write a JSON document."""
        self.say(json_text(document, indent=2))

    def facts(self, title: str, facts: Iterable[tuple[str, object]]) -> None:
        """Write names and what they are."""
        pairs = [(name, str(fact)) for name, fact in facts if fact is not None]
        width = max([len(name) for name, _ in pairs], default=0)
        self.say(title)
        for name, fact in pairs:
            self.say(f"  {name:{width}}  {fact}")

    def table(self, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """Write a table with aligned columns."""
        lines = [[column.name for column in columns], *([text_of(cell) for cell in row] for row in rows)]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        for line in lines:
            cells = [
                cell.rjust(width) if column.is_number else cell.ljust(width)
                for cell, width, column in zip(line, widths, columns, strict=True)
            ]
            self.say("  ".join(cells).rstrip())

    @contextmanager
    def progress(self, what: str, unit: str = "B") -> Iterator[Report | None]:
        """Give a function that shows how far something is; None where nobody would see it."""
        if not self._shows_progress:
            yield None
            return
        meter = Meter(what, unit)
        with self._picture(what) as show:

            def report(done: int, total: int | None) -> None:
                if meter.is_due():
                    show(done, total, meter.text(done, total))

            yield report

    @contextmanager
    def _picture(self, what: str) -> Iterator[Show]:
        """Give a function that shows progress in the place of what it showed last; in the end, nothing."""
        width = 0

        def show(done: int, total: int | None, line: str) -> None:
            nonlocal width
            room = self._room()
            self._stderr.write("\r" + line[:room].ljust(min(width, room)))
            self._stderr.flush()
            width = min(len(line), room)

        try:
            yield show
        finally:
            self._stderr.write("\r" + " " * min(width, self._room()) + "\r")
            self._stderr.flush()

    def _room(self) -> int:
        """Return how long a line on stderr may be: what goes on in a second row would stay there."""
        try:
            columns = os.get_terminal_size(self._stderr.fileno()).columns
        except (OSError, ValueError):
            columns = 0
        return (columns or 80) - 1

    def confirm(self, question: str) -> None:
        """Ask on the terminal; go on only after a yes.

        Raises:
            Refused: the answer is another one, or there is nobody to ask.
        """
        if not (sys.stdin.isatty() and self._stderr.isatty()):
            raise Refused(f"{question} Say --yes: there is no terminal to ask on", USAGE)
        self._stderr.write(f"{question} [y/N] ")
        self._stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Refused("nothing was done", 1)
