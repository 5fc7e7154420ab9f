"""Verbs of care: verify, repair, backup, compact, destroy, import, export, whichdb.

Thread safety: one thread at a time.  Spec: docs/cli.md.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lsmdbm._engine.check import Report
from lsmdbm.cli.formats import field
from lsmdbm.cli.opening import finding, reading, writing
from lsmdbm.cli.outcome import FINE, FOUND, USAGE, Refused, leaving
from lsmdbm.cli.output import Output, many, size
from lsmdbm.maintenance import destroy as destroy_database
from lsmdbm.maintenance import repair as repair_database
from lsmdbm.maintenance import verify as verify_database
from lsmdbm.migration import SUFFIXES, export_dbm, import_dbm
from lsmdbm.registration import is_database
from lsmdbm.registration import whichdb as kind_of

LOOK_SECONDS = 0.2  # between two looks at how far a job is that does not tell


def verify(output: Output, *, db: str, as_json: bool) -> int:
    """Check every byte that something rests on."""
    with finding(db), output.progress("checking") as report:
        found = verify_database(db, progress=report)
    if as_json:
        output.json({"ok": found.ok, **dataclasses.asdict(found)})
    else:
        _tell(output, found)
    return FINE if found.ok else FOUND


def _tell(output: Output, found: Report) -> None:
    for problem in found.problems:
        output.say(f"problem: {output.said(problem)}", "red")
    for note in found.notes:
        output.say(f"note: {output.said(note)}", "yellow")
    for names, what in ((found.unreferenced, "needed by nothing"), (found.foreign, "not ours")):
        if names:
            output.say(f"{what}: {', '.join(output.shown(os.fsencode(name), 80) for name in names)}")
    checked = ", ".join(
        [
            *(many(found.files, "file"), many(found.blocks, "block"), many(found.records, "log record")),
            *(many(found.entries, "entry", "entries"), size(found.bytes)),
        ]
    )
    if found.ok:
        output.say(f"no problem found: {checked}", "green")
    else:
        output.say(f"{many(len(found.problems), 'problem')}: {checked}", "bold red")


def repair(output: Output, *, db: str, destination: str, as_json: bool) -> int:
    """Save what can be read of a damaged database into a new one."""
    with finding(db), output.progress("saving") as report:
        found = repair_database(db, destination, progress=report)
    if as_json:
        losses = [
            {
                **{"path": loss.path, "offset": loss.offset, "what": loss.what},
                **({} if loss.low is None else field("low", loss.low)),
                **({} if loss.high is None else field("high", loss.high)),
            }
            for loss in found.losses
        ]
        output.json({"ok": found.ok, **dataclasses.asdict(found), "losses": losses})
        return FINE if found.ok else FOUND
    for loss in found.losses:
        output.say(f"lost: {output.said(loss)}", "red")
        if loss.low is not None and loss.high is not None:
            output.say(f"  keys from {output.shown(loss.low)} to {output.shown(loss.high)}")
    for doubt in found.doubts:
        output.say(f"doubt: {output.said(doubt)}", "yellow")
    what = (
        "nothing is lost"
        if found.ok
        else f"{many(len(found.losses), 'loss', 'losses')}, {many(len(found.doubts), 'doubt')}"
    )
    output.say(f"{many(found.entries, 'entry', 'entries')} saved: {what}", "bold")
    return FINE if found.ok else FOUND


def backup(output: Output, *, db: str, destination: str) -> int:
    """Make a second database of this moment."""
    with reading(db) as database:
        total = database.stats().file_bytes
        with _watched(output, "copying", lambda: _table_bytes(destination), total):
            database.backup(destination)
        found = database.stats()
        logged = many(found.memtable_entries, "entry", "entries")
        more = f", and {logged} of logs" if found.memtable_entries else ""
        output.note(f"{size(found.file_bytes)} of tables{more} backed up")
    return FINE


def compact(output: Output, *, db: str, timeout: float) -> int:
    """Merge all tables into one level."""
    with writing(db, timeout=timeout) as database:
        database.flush()  # what compact() begins with: now all that it will read is in tables
        found = database.stats()
        before, earlier = found.file_bytes, found.compaction_read_bytes
        with _watched(output, "compacting", lambda: database.stats().compaction_read_bytes - earlier, before):
            database.compact()
        output.note(f"{size(before)} before, {size(database.stats().file_bytes)} after")
    return FINE


@contextmanager
def _watched(output: Output, what: str, done: Callable[[], int], total: int) -> Iterator[None]:
    """Show how far a job is that does not tell, by what `done` says of it now and then."""
    with output.progress(what) as report:
        if report is None:
            yield
            return
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(LOOK_SECONDS):
                report(done(), total)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
        report(done(), total)


def _table_bytes(directory: str) -> int:
    done = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(".sst"):
                    done += entry.stat().st_size
    except OSError:  # gone in between, or not there yet
        pass
    return done


def destroy(output: Output, *, db: str, yes: bool) -> int:
    """Remove a database."""
    if not yes and is_database(db):
        output.confirm(f"Remove the database {output.path(db)}, and all that is in it?")
    with finding(db):
        left = destroy_database(db)
    if left:
        names = ", ".join(output.shown(os.fsencode(name), 80) for name in left)
        output.note(f"left, because it is not ours: {names}")
    return FINE


def import_(output: Output, *, source: str, db: str) -> int:
    """Copy all entries of another dbm into a new database."""
    words = lambda: "" if is_database(db) else "nothing is imported"  # noqa: E731 - whole, or not at all
    with leaving(words), finding(source), output.progress("importing", "entries") as report:
        done = import_dbm(source, db, progress=report)
    output.note(f"{many(done, 'entry', 'entries')} imported")
    return FINE


def export(output: Output, *, db: str, destination: str, backend: str | None) -> int:
    """Copy all entries into a new database of another dbm."""
    was_there = _is_anything_at(destination)

    def part() -> str:
        if was_there or not _is_anything_at(destination):
            return ""
        return f"{output.path(destination)} holds a part: remove its files before the next try"

    try:
        with leaving(part), finding(db), output.progress("exporting", "entries") as report:
            done = export_dbm(db, destination, backend=backend, progress=report)
    except ImportError as exc:  # a Python need not have all of them
        raise Refused(f"{backend}: {exc}", USAGE) from None
    output.note(f"{many(done, 'entry', 'entries')} exported")
    return FINE


def _is_anything_at(path: str) -> bool:
    return any(os.path.lexists(path + suffix) for suffix in SUFFIXES)


def whichdb(output: Output, *, files: list[str]) -> int:
    """Say which dbm module databases belong to."""
    kinds = [kind_of(file) for file in files]
    for file, kind in zip(files, kinds, strict=True):
        is_unknown = kind is not None or os.path.lexists(file)  # None is also what may not be read
        what = kind or ("of no kind that is known" if is_unknown else "nothing there")
        name = "" if len(files) == 1 else f"{output.path(file)}\t"
        output.say(name + what)
    return FINE if all(kinds) else FOUND
