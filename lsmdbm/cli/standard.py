"""Standard: the output of this process.

Thread safety: one thread at a time.
"""

from __future__ import annotations

import io
import os
import sys

from lsmdbm.cli.outcome import Refused
from lsmdbm.cli.output import Output


def standard_output() -> Output:
    """Return stdout and stderr: with colours, where rich is installed and they are terminals."""
    if sys.stdout is None:  # the caller has closed it
        raise Refused("stdout is closed")
    _buffer_stdout()
    stderr = open(os.devnull, "w") if sys.stderr is None else sys.stderr  # noqa: SIM115 - as long as we live
    is_terminal = sys.stdout.isatty()
    shows_progress = stderr.isatty() and os.environ.get("TERM") != "dumb"
    kind = _kind() if is_terminal or shows_progress else Output
    return kind(
        sys.stdout.buffer,
        stderr,
        is_terminal=is_terminal,
        is_ascii=is_terminal and sys.stdout.encoding.lower().replace("-", "") != "utf8",
        shows_progress=shows_progress,
    )


def _buffer_stdout() -> None:
    """See to it that a write to stdout is whole: with PYTHONUNBUFFERED a part of it may be left out."""
    raw = sys.stdout.buffer
    if isinstance(raw, io.RawIOBase):
        text = sys.stdout
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), text.encoding, text.errors)


def _kind() -> type[Output]:
    try:
        from lsmdbm.cli.fancy import FancyOutput
    except ImportError:
        return Output
    return FancyOutput
