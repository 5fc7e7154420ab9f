"""Opening: databases as verbs open them, and the part of one that is meant.

Rules
  1. What only reads opens with flag "r": it waits for nobody, creates nothing and sees one moment.

Thread safety: pure functions over files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from lsmdbm._base.errors import NotFoundError
from lsmdbm.cli.escapes import argument_bytes
from lsmdbm.cli.outcome import FAILED, USAGE, Refused
from lsmdbm.database import Database, open
from lsmdbm.ranges import Range


@contextmanager
def reading(path: str) -> Iterator[Database]:
    """Open a database to read it (rule 1)."""
    with finding(path):
        db = open(path, "r")
    with db:
        yield db


@contextmanager
def finding(path: str) -> Iterator[None]:
    """Say in our words that there is no database at a path."""
    try:
        yield
    except NotFoundError as exc:
        if exc.filename != path:  # something else that is not there
            raise
        raise Refused(f"{path}: there is no database", FAILED) from None


@contextmanager
def writing(path: str, *, timeout: float, creates: bool | None = None) -> Iterator[Database]:
    """Open a database to change it; what was written survives power loss when this ends.

    Args:
        timeout: seconds to wait for another process that writes.
        creates: whether --create was given, to make one if there is none; None if there is no such option.
    """
    try:
        db = open(path, "c" if creates else "w", timeout=timeout)
    except NotFoundError:
        hint = "there is no directory to make it in" if creates else "there is no database"
        hint += ": --create makes one" if creates is False else ""
        raise Refused(f"{path}: {hint}", FAILED) from None
    except ValueError as exc:  # the timeout, before anything is looked at
        raise Refused(str(exc), USAGE) from None
    with db:
        yield db


def form_of(is_hex: bool, is_repr: bool) -> str:
    """Return the form in which keys and values are given on the command line."""
    if is_hex and is_repr:
        raise Refused("--hex and --repr do not go together", USAGE)
    return "hex" if is_hex else "repr" if is_repr else "text"


def given(text: str, form: str) -> bytes:
    """Return a key or value of the command line as bytes."""
    try:
        return argument_bytes(text, form)
    except ValueError as exc:
        raise Refused(str(exc), USAGE) from None


def part_of(
    db: Database, start: str | None, stop: str | None, prefix: str | None, form: str, *, reverse: bool = False
) -> Range:
    """Return the range of a database that the parameters name."""
    low, high, head = (None if text is None else given(text, form) for text in (start, stop, prefix))
    return db.range(low, high, prefix=head, reverse=reverse)


def stdin_bytes() -> BinaryIO:
    """Return what is piped in, as bytes."""
    if sys.stdin is None:
        raise Refused("stdin is closed", USAGE)
    return sys.stdin.buffer
