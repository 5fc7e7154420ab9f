"""Drawn versions, and the plan expected of each: the language of tests/picker/*.txt.

    == a title; the lines below belong to it, up to the next one
    # a comment
    limits level0=4 level1=100 growth=10       these are the defaults; bytes
    keys   abcdefghijklmnopqrstuvwxyz          the ruler: which key each column stands for
    L0     <9----->   <8-->                    a table from `<` to `>`, both in, and its number
    L0         <7*-->                          `*`: it holds tombstones
    L1     <4>   <5-->
    bytes  9=20 4=30                           every other table has 10
    pick   merge 9 + 8 + 7 + 4 5 into L1       runs newest first, the tables of a run in key order
    everything  move 8 into L2                 or `nothing`

Tables of level 0 stand newest first: line by line, in a line from left to right.  A deeper level has one
line, and levels without a line are empty.

Thread safety: none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lsmdbm._engine.plan import Limits, Plan
from lsmdbm._engine.version import Version
from lsmdbm._format.manifest import TableMeta
from support.stage import table_meta

QUESTIONS = ("pick", "everything")

_TABLE = re.compile(r"<(\d+)(\*?)-*>")
_WORD = re.compile(r"(\S+) *")
_SETTING = re.compile(r"(\w+)=(\d+)")


@dataclass
class Case:
    """One drawing."""

    title: str
    limits: Limits = field(default_factory=lambda: Limits(10, 4, 100, 10))
    version: Version = field(default_factory=Version)
    expected: dict[str, str] = field(default_factory=dict)  # by question


class Line(NamedTuple):
    """A line of a drawing."""

    number: int
    word: str
    text: str  # behind the word
    column: int  # where `text` begins

    def wrong(self, what: str) -> ValueError:
        """Return the error that names the line."""
        return ValueError(f"line {self.number}: {what}: {self.word} {self.text}")


def cases(text: str) -> list[Case]:
    """Return the cases in the text of a file.

    Raises:
        ValueError: a line makes no sense; the message has its number.
    """
    found: list[tuple[str, list[Line]]] = []
    for line in _lines(text):
        if line.word == "==":
            found.append((line.text, []))
        elif not found:
            raise line.wrong("no title above")
        else:
            found[-1][1].append(line)
    return [_case(title, lines) for title, lines in found]


def describe(plan: Plan | None) -> str:
    """Return a plan in the words of the language."""
    if plan is None:
        return "nothing"
    runs = " + ".join(" ".join(str(meta.number) for meta in run) for run in plan.runs)
    return f"{'move' if plan.is_move else 'merge'} {runs} into L{plan.level}"


def _lines(text: str) -> Iterator[Line]:
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].rstrip()
        word = _WORD.match(line)
        if word is not None:
            yield Line(number, word[1], line[word.end() :], word.end())
        elif line:
            raise ValueError(f"line {number}: begins with a space")


def _case(title: str, lines: list[Line]) -> Case:
    case = Case(title)
    ruler: dict[int, bytes] = {}
    levels: dict[int, list[TableMeta]] = {}
    sizes: dict[int, int] = {}
    for line in lines:
        if line.word == "limits":
            case.limits = _limits(line)
        elif line.word == "keys":
            ruler = {line.column + place: key.encode() for place, key in enumerate(line.text)}
        elif re.fullmatch(r"L\d+", line.word):
            level = int(line.word[1:])
            if level > 0 and level in levels:
                raise line.wrong("a second line for this level")
            levels.setdefault(level, []).extend(_tables(line, ruler))
        elif line.word == "bytes":
            sizes |= {int(name): size for name, size in _settings(line).items()}
        elif line.word in QUESTIONS:
            case.expected[line.word] = line.text
        else:
            raise line.wrong("unknown word")
    _check(title, levels, sizes, case)
    case.version = Version(
        tuple(
            tuple(meta._replace(file_bytes=sizes.get(meta.number, 10)) for meta in levels.get(level, ()))
            for level in range(max(levels, default=-1) + 1)
        )
    )
    return case


def _settings(line: Line) -> dict[str, int]:
    if _SETTING.sub("", line.text).strip():
        raise line.wrong("not name=number")
    return {name: int(value) for name, value in _SETTING.findall(line.text)}


def _limits(line: Line) -> Limits:
    given = {"level0": 4, "level1": 100, "growth": 10}
    settings = _settings(line)
    if not settings.keys() <= given.keys():
        raise line.wrong("unknown limit")
    given |= settings
    return Limits(10, given["level0"], given["level1"], given["growth"])


def _tables(line: Line, ruler: dict[int, bytes]) -> Iterator[TableMeta]:
    if _TABLE.sub("", line.text).strip():
        raise line.wrong("not a table")
    for drawn in _TABLE.finditer(line.text):
        first, last = line.column + drawn.start(), line.column + drawn.end() - 1
        if first not in ruler or last not in ruler:
            raise line.wrong("outside of the ruler")
        yield table_meta(int(drawn[1]), ruler[first], ruler[last], tombstones=len(drawn[2]))


def _check(title: str, levels: dict[int, list[TableMeta]], sizes: dict[int, int], case: Case) -> None:
    numbers = [meta.number for metas in levels.values() for meta in metas]
    if len(numbers) != len(set(numbers)):
        raise ValueError(f"{title}: a number twice")
    if not sizes.keys() <= set(numbers):
        raise ValueError(f"{title}: bytes of a table that is not there")
    if not case.expected:
        raise ValueError(f"{title}: nothing expected")
