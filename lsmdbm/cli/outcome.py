"""Outcome: exit codes, and what a verb says when it cannot do what it was asked.

Rules
  1. Whatever goes wrong is one line on stderr, and an exit code.  LSMDBM_TRACEBACK=1 shows where it was.
  2. Whoever closes the pipe that we write to has seen enough: no word, and the code a shell gives for it.

Thread safety: one thread at a time.  Spec: docs/cli.md, Exit codes.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lsmdbm._base.errors import CorruptionError, LockedError
from lsmdbm.cli.escapes import line

FINE, FOUND, USAGE, FAILED, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 3, 130, 141  # 128 and a signal, as shells do


class Refused(Exception):
    """A verb cannot do what it was asked; `text` is the line that says why, `code` how it exits."""

    def __init__(self, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


def guarded(work: Callable[[], int | None]) -> int:
    """Call a verb, and return the exit code; errors become a line on stderr (rule 1)."""
    try:
        code = work() or FINE
        flush()
        return code
    except Refused as exc:
        if exc.__cause__ is not None:
            trace()
        return complain(exc.text, exc.code)
    except KeyboardInterrupt:
        return complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # rule 2
        let_go_of_stdout()
        return CLOSED_PIPE
    except Exception as exc:
        trace()
        return complain(reason(exc), FAILED)


@contextmanager
def leaving(words: Callable[[], str]) -> Iterator[None]:
    """Say, with whatever ends the work early, what is left of it; nothing more if there are no words."""
    try:
        yield
    except (Refused, BrokenPipeError):
        raise
    except (Exception, KeyboardInterrupt) as exc:
        rest = words()
        if not rest:
            raise
        if isinstance(exc, KeyboardInterrupt):
            raise Refused(f"interrupted; {rest}", INTERRUPTED) from None
        raise Refused(f"{reason(exc)}; {rest}", FAILED) from exc


def trace() -> None:
    """Show where an error came from, if somebody wants to know (rule 1)."""
    if os.environ.get("LSMDBM_TRACEBACK"):
        traceback.print_exc()


def complain(text: str, code: int) -> int:
    """Say in one line on stderr what is wrong, behind what is on stdout; return the code."""
    try:
        flush()
    except (OSError, ValueError):
        let_go_of_stdout()
    try:
        print(f"lsmdbm: {line(text)}", file=sys.stderr, flush=True)  # nowhere, if it is closed
    except (OSError, ValueError):  # there is nobody to tell
        pass
    return code


def flush() -> None:
    """Have what was written to stdout arrive, or raise why it does not."""
    if sys.stdout is not None:  # None where the caller has closed it
        sys.stdout.flush()


def reason(exc: Exception) -> str:
    """Return what an exception says, with the file first where there is one."""
    if isinstance(exc, LockedError) and exc.strerror is not None:
        return f"{os.fsdecode(exc.filename)}: {exc.strerror.partition(': ')[2]}"  # behind the words of EAGAIN
    if isinstance(exc, OSError) and exc.strerror is not None:
        return f"{os.fsdecode(exc.filename)}: {exc.strerror}" if exc.filename else exc.strerror
    if isinstance(exc, CorruptionError):
        return f"{exc}; lsmdbm repair saves what can be read"
    if isinstance(exc, (OSError, ValueError, TypeError, ImportError)) and str(exc):
        return str(exc)
    return f"{type(exc).__name__}: {exc}"


def let_go_of_stdout() -> None:
    """Have what is still buffered for a pipe that is closed go nowhere, or the interpreter would complain."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    except (OSError, ValueError):  # it is none of the operating system
        pass
