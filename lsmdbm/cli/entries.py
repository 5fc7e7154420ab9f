"""Verbs about entries: get, put, del, scan, count, dump, load.

Rules
  1. `scan` and `dump` read one moment, in bounded memory, whoever writes meanwhile.
  2. What `dump` writes, `load` reads back, byte for byte.

Thread safety: one thread at a time.  Spec: docs/cli.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from os import fstat
from stat import S_ISREG
from typing import BinaryIO

from lsmdbm.cli import formats
from lsmdbm.cli.opening import form_of, given, part_of, reading, stdin_bytes, writing
from lsmdbm.cli.outcome import FINE, FOUND, USAGE, Refused, leaving
from lsmdbm.cli.output import Output, Report, many
from lsmdbm.ranges import Range
from lsmdbm.tally import Tally, checked


def get(output: Output, *, db: str, key: str, form: str | None, is_hex: bool, is_repr: bool) -> int:
    """Write the value of a key: as it is into a pipe, escaped to a terminal."""
    name = given(key, form_of(is_hex, is_repr))
    with reading(db) as database:
        value = database.get(name)
    if value is None:
        raise Refused(f"{db}: no key {output.shown(name)}", FOUND)
    chosen = safe(output, form or "raw")
    output.write(formats.one(value, chosen, is_ascii=output.is_ascii))
    return FINE


def safe(output: Output, form: str) -> str:
    """Return a format, or that of text where bytes as they are would go to a terminal."""
    return "text" if form == "raw" and output.is_terminal else form


def put(
    output: Output,
    *,
    db: str,
    key: str,
    value: str,
    is_hex: bool,
    is_repr: bool,
    creates: bool,
    timeout: float,
) -> int:
    """Set a key."""
    form = form_of(is_hex, is_repr)
    name = given(key, form)
    data = stdin_bytes().read() if value == "-" else given(value, form)
    with writing(db, timeout=timeout, creates=creates) as database:
        database[name] = data
    return FINE


def delete(output: Output, *, db: str, keys: list[str], is_hex: bool, is_repr: bool, timeout: float) -> int:
    """Delete keys: those that are there."""
    form = form_of(is_hex, is_repr)
    names = [given(key, form) for key in keys]
    with writing(db, timeout=timeout) as database:
        missing = [name for name in names if database.pop(name, None) is None]
    if missing:
        raise Refused(f"{db}: no key {', '.join(map(output.shown, missing))}", FOUND)
    return FINE


def count(
    output: Output,
    *,
    db: str,
    start: str | None,
    stop: str | None,
    prefix: str | None,
    is_hex: bool,
    is_repr: bool,
) -> int:
    """Write how many keys there are."""
    with reading(db) as database:
        output.say(str(len(part_of(database, start, stop, prefix, form_of(is_hex, is_repr)))))
    return FINE


def scan(
    output: Output,
    *,
    db: str,
    start: str | None,
    stop: str | None,
    prefix: str | None,
    reverse: bool,
    limit: int | None,
    keys_only: bool,
    form: str,
    is_hex: bool,
    is_repr: bool,
) -> int:
    """Write entries in the order of their keys."""
    if limit is not None and limit < 0:
        raise Refused(f"--limit {limit}: must be 0 or more", USAGE)
    with reading(db) as database:
        part = part_of(database, start, stop, prefix, form_of(is_hex, is_repr), reverse=reverse)
        pairs: Iterator[tuple[bytes, bytes | None]]
        pairs = ((key, None) for key in part) if keys_only else iter(part.items())
        _write(output, part, islice(pairs, limit), form, limit=limit, keys_only=keys_only)
    return FINE


def _write(
    output: Output,
    part: Range,
    pairs: Iterable[tuple[bytes, bytes | None]],
    form: str,
    *,
    limit: int | None,
    keys_only: bool,
) -> None:
    line = formats.encoder(safe(output, form), is_ascii=output.is_ascii)
    write = output.write
    write(formats.header(form, keys_only=keys_only))
    if output.is_terminal:  # the entries are progress enough, and a bar would run into them
        for key, value in pairs:
            write(line(key, value))
        return
    with output.progress("reading", "entries") as report:
        if report is None:
            for key, value in pairs:
                write(line(key, value))
            return
        total = len(part) if limit is None else min(limit, len(part))
        for done, (key, value) in enumerate(pairs, 1):
            write(line(key, value))
            if not done % 1000:
                report(done, total)


def dump(
    output: Output,
    *,
    db: str,
    start: str | None,
    stop: str | None,
    prefix: str | None,
    form: str,
    is_hex: bool,
    is_repr: bool,
) -> int:
    """Write all entries so that `load` can read them."""
    with reading(db) as database:
        part = part_of(database, start, stop, prefix, form_of(is_hex, is_repr))
        _write(output, part, part.items(), form, limit=None, keys_only=False)
    return FINE


def load(output: Output, *, db: str, file: str | None, form: str | None, timeout: float) -> int:
    """Read entries from a file, or from stdin, and set them."""
    begun: list[Tally] = []
    with (
        leaving(lambda: _written(begun)),
        _source(file) as stream,
        writing(db, timeout=timeout, creates=True) as database,
        output.progress("loading", "B" if _length(stream) else "entries") as report,
    ):
        tally = Tally(_follow(stream, report), ())
        begun.append(tally)
        found = formats.entries(stream, form or _form_of_name(file))
        try:
            database.update(checked(tally.over(found), tally))
        except (ValueError, TypeError) as exc:
            what = f"{exc}; the entries before it are written"
            raise Refused(f"{file or 'stdin'}: {what}") from None
    output.note(f"{many(tally.done, 'entry', 'entries')} loaded")
    return FINE


def _written(begun: list[Tally]) -> str:
    """Return what a load that ends early has left; nothing to say before it has begun."""
    count = sum(tally.done for tally in begun)
    return f"up to {many(count, 'entry', 'entries')} are written, and may be loaded again" if count else ""


@contextmanager
def _source(file: str | None) -> Iterator[BinaryIO]:
    if file is None or file == "-":
        if sys.stdin is not None and sys.stdin.isatty():
            raise Refused("no FILE, and stdin is a terminal: pipe entries in, or name a file", USAGE)
        yield stdin_bytes()
        return
    with open(file, "rb") as stream:
        yield stream


def _form_of_name(file: str | None) -> str:
    return "csv" if file is not None and file.lower().endswith(".csv") else "jsonl"


def _length(stream: BinaryIO) -> int:
    """Return how long a file is; 0 if it is no file, or nobody knows."""
    try:
        status = fstat(stream.fileno())
    except (OSError, ValueError):
        return 0
    return status.st_size if S_ISREG(status.st_mode) else 0


def _follow(stream: BinaryIO, report: Report | None) -> Report | None:
    """Return what is told of entries as a report of the bytes read, where it is known how many there are."""
    total = _length(stream)
    if report is None or not total:
        return report
    return lambda done, _: report(stream.tell(), total)
