"""Verbs that look into a database: stats, tree.

Rules
  1. Keys are shown where a verb is about keys, cut short and escaped; values never.

Thread safety: one thread at a time.  Spec: docs/cli.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import groupby

from lsmdbm._engine import anatomy
from lsmdbm._engine.anatomy import LiveTable
from lsmdbm._engine.figures import Stats
from lsmdbm.cli.drawing import LEAST, MOST, WIDTH, bar, scale, strip
from lsmdbm.cli.files import live_tables, meta_document
from lsmdbm.cli.metrics import openmetrics
from lsmdbm.cli.opening import reading
from lsmdbm.cli.outcome import FINE, FOUND, USAGE, Refused
from lsmdbm.cli.output import Cell, Column, Output, Row, many, share, size, times

BESIDE = 64  # columns of a terminal that the figures of a level take
DERIVED = ("tables", "runs", "file_bytes", "raw_bytes", "compression_ratio", "write_amplification")
LEVEL_STYLES = ("yellow", "green", "blue", "magenta", "cyan")  # by level, then again


def stats(output: Output, *, db: str, as_json: bool, as_openmetrics: bool) -> int:
    """Write the figures of a database as it is."""
    if as_json and as_openmetrics:
        raise Refused("--json and --openmetrics do not go together", USAGE)
    with reading(db) as database:
        found = database.stats()
    if as_openmetrics:
        for line in openmetrics(found, output.path(db) if output.is_terminal else db):
            output.say(line)
    elif as_json:
        derived = {name: getattr(found, name) for name in DERIVED}
        output.json({"path": db, **dataclasses.asdict(found), **derived})
    else:
        output.facts(output.path(db), _figures(found))
    return FINE


def _figures(found: Stats) -> Iterator[tuple[str, object]]:
    """Yield what a database looks like; what it has done, a handle that was opened just now does not know."""
    total = sum(level.entries for level in found.levels)
    deleted = sum(level.tombstones for level in found.levels)
    yield "entries in tables", f"{total:,}" + (f", {deleted:,} of them deletions" if deleted else "")
    logged = f", {size(found.memtable_bytes)}" if found.memtable_entries else ""
    yield "entries in logs", f"{found.memtable_entries:,}{logged}"
    runs = f" in {many(found.runs, 'sorted run')}, {size(found.file_bytes)}" if found.tables else ""
    yield "tables", f"{found.tables:,}{runs}"
    for level in found.levels:
        if level.tables:
            entries = many(level.entries, "entry", "entries")
            what = f"{many(level.tables, 'table')}, {entries}, {size(level.file_bytes)}"
            yield f"  level {level.level}", what
    if found.tables:
        yield "before compression", f"{size(found.raw_bytes)}, {times(found.compression_ratio)} times as much"
    yield "logs", f"{found.log_files:,}"


# -- tree ---------------------------------------------------------------------------------------------


def tree(output: Output, *, db: str, lists_tables: bool, as_json: bool) -> int:
    """Draw the levels of a database: tables, key ranges, sizes, filters."""
    with reading(db) as database:
        found = database.stats()
        tables = list(anatomy.tree(database._store.pin()))
    if as_json:
        output.json(
            {"path": db, **_tree_figures(found, tables), "tables": list(map(_table_document, tables))}
        )
        return FINE
    name = output.path(db)
    if tables:
        output.say(f"{name}: {many(len(tables), 'table')}, {size(found.file_bytes)}", "bold")
        output.table(*_levels(tables, output.width))
    else:
        output.say(f"{name}: no tables", "bold")
    output.facts("", list(_tree_facts(found, tables)))
    if lists_tables and tables:
        output.say()
        output.table(*live_tables(tables, output))
    troubled = [table for table in tables if table.trouble is not None]
    for table in troubled:
        output.say(output.said(table.trouble), "red")
    return FOUND if troubled else FINE


def _tree_figures(found: Stats, tables: Sequence[LiveTable]) -> dict[str, object]:
    # Those of the last run, the oldest: newer ones may hide what they hold.
    last = [table for table in tables if (table.level, table.run) == (tables[-1].level, tables[-1].run)]
    last_bytes = sum(table.meta.file_bytes for table in last)
    return {
        "file_bytes": found.file_bytes,
        "raw_bytes": found.raw_bytes,
        "compression_ratio": found.compression_ratio,
        "read_amplification": found.runs,
        "space_amplification": found.file_bytes / last_bytes if last_bytes else None,
        "memtable_entries": found.memtable_entries,
        "memtable_bytes": found.memtable_bytes,
        "log_files": found.log_files,
        "filter_passes": _passes(tables),
    }


def _tree_facts(found: Stats, tables: Sequence[LiveTable]) -> Iterator[tuple[str, object]]:
    figures = _tree_figures(found, tables)
    entries = many(found.memtable_entries, "entry", "entries")
    logged = f", with {entries}, {size(found.memtable_bytes)}" if found.log_files else ""
    yield "logs", f"{found.log_files:,}{logged}"
    if not tables:
        return
    yield "compression", f"{times(found.compression_ratio)}: {size(found.raw_bytes)} of blocks"
    yield "read amplification", f"{found.runs}: so many tables a get asks at most"
    space = figures["space_amplification"]
    yield "space amplification", f"{times(space)}: all tables by those of the last run"  # type: ignore[arg-type]  # a float, or None
    passes = _passes(tables)
    if passes is not None:
        yield (
            "filters",
            f"{share(passes, 2)} of {anatomy.PROBES:,} absent keys pass, {share(1 - passes, 2)} cost no read",
        )


def _passes(tables: Sequence[LiveTable]) -> float | None:
    """Return the mean over the tables that have a filter, weighed by their entries."""
    weighed = [(table.passes, table.meta.entries) for table in tables if table.passes is not None]
    total = sum(entries for _, entries in weighed)
    return sum(passes * entries for passes, entries in weighed) / total if total else None


def _levels(tables: Sequence[LiveTable], room: int | None) -> tuple[list[Column], list[Row]]:
    columns = [
        *(Column("level", True), Column("tables", True), Column("entries", True), Column("deleted", True)),
        *(
            Column("size", True),
            Column("", style="cyan"),
            Column("passes", True),
            Column("keys, first to last"),
        ),
    ]
    bounds = scale(table.meta for table in tables)
    width = WIDTH if room is None else max(LEAST, min(MOST, room - BESIDE))
    runs = [list(run) for _, run in groupby(tables, lambda table: (table.level, table.run))]
    sizes = [sum(table.meta.file_bytes for table in run) for run in runs]
    rows: list[Row] = []
    for run, file_bytes in zip(runs, sizes, strict=True):
        style = LEVEL_STYLES[run[0].level % len(LEVEL_STYLES)]
        metas = [table.meta for table in run]
        rows.append(
            [
                *(
                    Cell(str(run[0].level), style),
                    f"{len(run):,}",
                    f"{sum(meta.entries for meta in metas):,}",
                ),
                *(f"{sum(meta.tombstones for meta in metas):,}", size(file_bytes)),
                *(bar(file_bytes, max(sizes)), share(_passes(run)), Cell(strip(metas, bounds, width), style)),
            ]
        )
    return columns, rows


def _table_document(table: LiveTable) -> dict[str, object]:
    return {
        "level": table.level,
        "run": table.run,
        **meta_document(table.meta),
        "blocks": table.blocks,
        "filter_bytes": table.filter_bytes,
        "filter_passes": table.passes,
        "trouble": table.trouble,
    }
