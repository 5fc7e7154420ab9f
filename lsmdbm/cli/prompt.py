"""Prompt: lines that somebody types, or that come down a pipe; shared by the verbs shell and sql.

Rules
  1. On a terminal, prompt_toolkit completes and remembers, where it is there; else lines come as they are.
  2. What was typed is remembered in a file of mode 0600; LSMDBM_HISTORY names another one, or, empty, none.
  3. Ctrl-C gives up a line, Ctrl-D ends it all.
  4. What comes down a pipe is UTF-8, whatever the locale is; bytes that are none stay what they are.

Thread safety: one thread at a time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lsmdbm.cli.opening import stdin_bytes
from lsmdbm.cli.output import Output

Complete = Callable[[str], Iterable[str]]  # the text before the cursor: what its last word may become


def lines(output: Output, prompt: str, history: str, complete: Complete) -> Iterator[str]:
    """Yield lines until they end.

    Args:
        history: name of the history, for its file.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        for data in stdin_bytes():
            yield data.decode("utf-8", "surrogateescape").rstrip()  # rule 4
        return
    read = _reader(output, prompt, history, complete)
    while True:
        try:
            line = read()
        except KeyboardInterrupt:  # rule 3
            output.note("")
            continue
        except EOFError:
            output.note("")
            return
        yield line


def _reader(output: Output, prompt: str, history: str, complete: Complete) -> Callable[[], str]:
    if output.is_terminal and os.environ.get("TERM") != "dumb":
        try:
            return _with_toolkit(prompt, history, complete)
        except ImportError:
            pass
    return lambda: input(prompt)


def _with_toolkit(prompt: str, history: str, complete: Complete) -> Callable[[], str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    class Words(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            text = document.text_before_cursor
            last = len(text) - len(text.rstrip()) or len(text.rsplit(None, 1)[-1]) if text else 0
            start = 0 if text[-1:].isspace() else -last
            for word in complete(text):
                yield Completion(word, start_position=start)

    path = history_file(history)
    kept: History = InMemoryHistory() if path is None else FileHistory(path)
    session: PromptSession[str] = PromptSession(
        prompt, history=kept, completer=Words(), complete_while_typing=False
    )
    return session.prompt


def history_file(name: str) -> str | None:
    """Return the file that remembers lines, made if it is not there; None if nothing is to be remembered."""
    named = os.environ.get("LSMDBM_HISTORY")
    if named is not None:
        path = Path(named)
        if not named:
            return None
    else:
        state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        path = Path(state) / "lsmdbm" / f"{name}_history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # rule 2
    except OSError:  # then nothing is remembered
        return None
    return str(path)
