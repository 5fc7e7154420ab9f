"""The verb shell: a prompt for all verbs over one database.

Rules
  1. No database is held open between two lines: every verb sees the newest state, and no lock is kept.

Thread safety: one thread at a time.  Spec: docs/cli.md, Shell.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Iterator
from typing import Any

from lsmdbm.cli import offers, plain, prompt
from lsmdbm.cli.grammar import BY_NAME, DB, FILE, VERBS, Verb
from lsmdbm.cli.opening import reading
from lsmdbm.cli.outcome import CLOSED_PIPE, FINE, USAGE, Refused, guarded
from lsmdbm.cli.output import Output

WITHIN = [
    dataclasses.replace(verb, parameters=tuple(each for each in verb.parameters if each is not DB))
    for verb in VERBS
    if verb.name not in ("shell", "completion", "bench", "whichdb")
]
ENDS, HELPS = ("exit", "quit"), ("help", "?")


def shell(output: Output, *, db: str) -> int:
    """Do what is typed, until it ends; return the exit code of the last verb."""
    with reading(db):  # that there is one is told now
        pass
    if output.is_terminal:
        output.note("help lists the verbs, help VERB explains one; Ctrl-D ends")
    name = os.path.basename(os.path.abspath(db))
    code = FINE
    for line in prompt.lines(output, f"{name}> ", "shell", lambda text: offered(db, text)):
        words = _words(line)
        if words and words[0] in ENDS:
            break
        if words:
            code = guarded(lambda words=words: _do(output, db, words))  # type: ignore[misc]  # a default
        if code == CLOSED_PIPE:
            break
    return code


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError as exc:
        return ["", str(exc)]


def _do(output: Output, db: str, words: list[str]) -> int:
    if words[0] == "":
        raise Refused(words[1] if len(words) > 1 else "no verb", USAGE)
    if words[0] in HELPS:
        words = [*words[1:], "--help"]
    try:
        verb, values = plain.parsed(words, WITHIN, prog="")
    except SystemExit:  # help was shown
        return FINE
    return verb.call(output, _completed(verb, values, db))


def _completed(verb: Verb, values: dict[str, Any], db: str) -> dict[str, Any]:
    """Return the parameters of a verb with the database, and with files of it by their names."""
    if DB in verb.parameters:
        values["db"] = db
    if FILE in verb.parameters and not os.path.exists(values["file"]):
        values["file"] = os.path.join(db, values["file"])
    return values


def offered(db: str, text: str) -> Iterator[str]:
    """Yield what the last word before the cursor may become: verbs, options, keys, files."""
    words = text.split()
    last = "" if not words or text[-1].isspace() else words.pop()
    if not words:
        names = [*(verb.name for verb in WITHIN), *ENDS, "help"]
        yield from (name for name in names if name.startswith(last))
        return
    verb = BY_NAME.get(words[0])
    if verb is None:
        return
    if last.startswith("-"):
        options = (each.name for each in verb.parameters if each.is_option)
        yield from (name for name in options if name.startswith(last))
    elif FILE in verb.parameters:
        yield from offers.files(db, last)
    else:
        yield from map(shlex.quote, offers.keys(db, last))
