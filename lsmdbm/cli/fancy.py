"""Fancy: an Output with the tables, colours and progress bars of rich, for terminals.

Thread safety: one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from lsmdbm.cli.output import Cell, Column, Output, Row, Show

HEAD, NAME = "bold", "cyan"
WIDEST = 10_000  # columns of a table that no terminal has to hold


class FancyOutput(Output):
    """What a terminal can show.  What goes down a pipe stays as plain as it is: then stderr alone is one."""

    @cached_property
    def console(self) -> Console:
        """Where it is shown: stdout, unless somebody sets another one."""
        return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)

    @property
    def width(self) -> int | None:
        """How many columns the console has."""
        return self.console.width if self.is_terminal else None

    def say(self, text: str = "", style: str = "") -> None:
        """Write a line in a style."""
        if not self.is_terminal:
            super().say(text)
        else:
            self._stdout.flush()  # entries that stand before it
            self.console.print(Text(text, style))

    def facts(self, title: str, facts: Iterable[tuple[str, object]]) -> None:
        """Write names and what they are, as a grid."""
        if not self.is_terminal:
            super().facts(title, facts)
            return
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style=NAME, no_wrap=True)
        grid.add_column(overflow="fold")
        for name, fact in facts:
            if fact is not None:
                grid.add_row(Text("  " + name), Text(str(fact)))
        self.say(title, HEAD)
        self.console.print(grid)

    def table(self, columns: Sequence[Column], rows: Iterable[Row]) -> None:
        """Write a table in colours."""
        if not self.is_terminal:
            super().table(columns, rows)
            return
        table = Table(box=None, header_style=HEAD, pad_edge=False)
        for column in columns:
            table.add_column(
                column.name,
                justify="right" if column.is_number else "left",
                style=column.style,
                overflow="fold",
                no_wrap=not column.folds,
            )
        for row in rows:
            table.add_row(*map(_text, row))
        if not any(column.folds for column in columns):  # what is too wide the terminal wraps, rich would cut
            boundless = self.console.options.update(max_width=WIDEST)
            table.width = self.console.measure(table, options=boundless).maximum
        self.console.print(table)

    @contextmanager
    def _picture(self, what: str) -> Iterator[Show]:
        """Give a function that shows progress, with a bar."""
        columns = BarColumn(bar_width=20), TextColumn("{task.description}", markup=False)
        console = Console(file=self._stderr)
        with Progress(*columns, console=console, transient=True, auto_refresh=False) as bars:
            task = bars.add_task(what, total=None)

            def show(done: int, total: int | None, line: str) -> None:
                bars.update(task, completed=done, total=total, description=line)
                bars.refresh()

            yield show


def _text(cell: str | Cell) -> Text:
    return Text(cell) if isinstance(cell, str) else Text(cell.text, cell.style)
