"""Verbs that say what single files say: table, log, manifest.

Rules
  1. Keys are shown where a verb is about keys, cut short and escaped; values never.

Thread safety: one thread at a time.  Spec: docs/cli.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lsmdbm._base.os_storage import OsStorage
from lsmdbm._engine import anatomy
from lsmdbm._engine.anatomy import LiveTable
from lsmdbm._format.manifest import Manifest, TableMeta
from lsmdbm._format.records import Change, Record
from lsmdbm._format.table_check import problems_of
from lsmdbm._format.table_reader import TableReader
from lsmdbm.cli.formats import field
from lsmdbm.cli.outcome import FINE, FOUND
from lsmdbm.cli.output import Column, Output, Row, share, size, times

_STORAGE = OsStorage()


def table(
    output: Output, *, file: str, lists_blocks: bool, lists_keys: bool, checks: bool, as_json: bool
) -> int:
    """Say what a table says of itself."""
    found = anatomy.table(_STORAGE, file)
    problems = list(map(str, found.problems))
    if checks and found.reader is not None:
        problems += [str(problem) for problem in problems_of(found.reader)]
    facts = dict(_table_facts(found, output))
    if as_json:
        meta = meta_document(found.meta) if found.meta is not None else None
        output.json({"path": file, **facts, "meta": meta, "problems": problems})
    else:
        if found.meta is not None:
            facts["smallest key"] = output.shown(found.meta.smallest)
            facts["largest key"] = output.shown(found.meta.largest)
        output.facts(output.path(file), facts.items())
    if lists_blocks and found.reader is not None and not as_json:
        output.say()
        output.table(*_blocks(found.reader, output))
    if lists_keys and found.reader is not None and not as_json:
        output.say()
        for keys, values in found.reader.chunks(keys_only=True):
            for key, value in zip(keys, values, strict=True):
                output.say(("- " if value is None else "+ ") + output.escaped(key))
    return _told(output, problems, as_json)


def _told(output: Output, problems: Sequence[str], as_json: bool) -> int:
    if not as_json:
        for problem in problems:
            output.say(f"problem: {output.said(problem)}", "red")
    return FOUND if problems else FINE


def _table_facts(found: anatomy.Table, output: Output) -> Iterator[tuple[str, object]]:
    yield "number", found.number
    yield "bytes", found.file_bytes
    if found.meta is not None and found.origin is not None:
        meta, origin = found.meta, found.origin
        yield "entries", meta.entries
        yield "deletions", meta.tombstones
        yield "bytes of blocks before compression", meta.raw_bytes
        yield "sequences", f"{origin.first_seq} to {origin.last_seq}"
        yield "written for level", origin.level
        yield "compacted from", ", ".join(map(str, origin.inputs)) or None
    if found.reader is not None:
        yield "blocks", found.reader.block_count
        yield "bytes of dictionary", len(found.reader.dictionary) or None
    if found.footer is not None:
        yield "bytes of filter", found.footer.filter.stored
        yield "bytes of index", found.footer.index.head_stored + found.footer.index.body_stored
        yield "bytes of metadata", found.footer.metadata.stored
        yield "features", f"{found.footer.features:#x}"


def _blocks(reader: TableReader, output: Output) -> tuple[list[Column], Iterator[Row]]:
    columns = [
        *(Column("block", True), Column("offset", True), Column("bytes", True), Column("of keys", True)),
        *(Column("raw", True), Column("no key above")),
    ]

    def rows() -> Iterator[Row]:
        for index, separator in enumerate(reader.separators()):
            handle = reader.handle(index)
            yield [
                *(str(index), str(handle.offset), str(handle.end - handle.offset), str(handle.head_stored)),
                *(str(handle.head_raw + handle.body_raw), output.shown(separator)),
            ]

    return columns, rows()


def log(output: Output, *, file: str, lists_records: bool, as_json: bool) -> int:
    """Say what a log says."""
    found, steps = anatomy.log(_STORAGE, file)
    if lists_records and not as_json:
        _list_records(output, steps)
    else:
        for _ in steps:
            pass
    problems = list(map(str, found.problems))
    if as_json:
        figures = {
            name: getattr(found, name) for name in ("file_bytes", "records", "operations", "marks", "kinds")
        }
        header = found.header._asdict() if found.header is not None else None
        ends = {
            "last_seq": found.last_seq,
            "durable": found.durable,
            "end": found.end,
            "is_whole": found.zeros,
        }
        output.json({"path": file, "header": header, **figures, **ends, "problems": problems})
    else:
        output.facts(output.path(file), _log_facts(found))
    return _told(output, problems, as_json)


def _log_facts(found: anatomy.Log) -> Iterator[tuple[str, object]]:
    header = found.header
    yield "bytes", found.file_bytes
    if header is None:
        return
    yield "number", header.number
    yield "goes on from", f"log {header.prev}, at {header.prev_end}" if header.prev else "no log"
    last = found.last_seq
    yield (
        "sequences",
        f"{header.first_seq} to {last}" if last is not None and last >= header.first_seq else "none",
    )
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.items())
    yield "records", f"{found.records:,}" + (f": {kinds}" if kinds else "")
    yield "operations", f"{found.operations:,}"
    yield "marks of a sync", f"{found.marks:,}"
    yield "known to survive power loss", f"the first {found.durable:,} bytes" if found.durable else "nothing"
    rest = found.file_bytes - found.end
    if rest:
        what = "room that was allocated ahead" if found.zeros else "that are no record"
        yield "ends at", f"{found.end}; behind it {rest:,} bytes {what}"


def _list_records(output: Output, steps: Iterator[tuple[Record, str, Change | None]]) -> None:
    columns = [
        *(Column("offset", True), Column("bytes", True), Column("seq", True), Column("count", True)),
        *(Column("kind"), Column("keys")),
    ]

    def rows() -> Iterator[Row]:
        for record, kind, change in steps:
            yield [
                *(str(record.offset), str(record.end - record.offset), str(record.seq), str(record.count)),
                *(kind, "" if change is None else _keys(change, output)),
            ]

    output.table(columns, rows())
    output.say()


def _keys(change: Change, output: Output) -> str:
    ranges = [f"{output.shown(start, 16)} .. {output.shown(stop, 16)}" for start, stop in change.ranges[:2]]
    keys = [
        ("-" if value is None else "+") + output.shown(key, 24)
        for key, value in zip(change.keys[:3], change.values[:3], strict=True)
    ]
    more = len(change.keys) - len(keys) + len(change.ranges) - len(ranges)
    return ", ".join([*ranges, *keys, *([f"and {more:,} more"] if more else [])])


def manifest(output: Output, *, file: str, as_json: bool) -> int:
    """Say what a manifest says."""
    found = anatomy.manifest(_STORAGE, file)
    if as_json:
        output.json(_manifest_document(found, file))
        return FINE
    tables = sum(map(len, found.levels))
    output.facts(
        output.path(file),
        [
            *(("number", found.number), ("uuid", found.uuid.hex())),
            *(("next number", found.next_number), ("last sequence in tables", found.last_seq)),
            *(("first log needed", found.min_wal), ("keys in tables", found.live_count)),
            *((name.replace("_", " "), value) for name, value in found.shape.items()),
            ("tables", f"{tables:,}"),
        ],
    )
    if tables:
        output.say()
        live = [LiveTable(level, 0, meta) for level, metas in enumerate(found.levels) for meta in metas]
        columns, rows = live_tables(live, output)
        wanted = [
            index for index, column in enumerate(columns) if column.name not in ("blocks", "filter", "passes")
        ]
        output.table([columns[index] for index in wanted], [[row[index] for index in wanted] for row in rows])
    return FINE


def _manifest_document(found: Manifest, file: str) -> dict[str, object]:
    names = ("number", "next_number", "last_seq", "min_wal", "live_count")
    levels = [list(map(meta_document, metas)) for metas in found.levels]
    figures = {name: getattr(found, name) for name in names}
    return {"path": file, "uuid": found.uuid.hex(), **figures, "shape": dict(found.shape), "levels": levels}


# -- tables, as a manifest has them -----------------------------------------------------------------


def live_tables(tables: Sequence[LiveTable], output: Output) -> tuple[list[Column], list[Row]]:
    """Return tables as columns and rows, a row for each."""
    columns = [
        *(Column("level", True), Column("table", True), Column("entries", True), Column("deleted", True)),
        *(Column("size", True), Column("ratio", True), Column("blocks", True), Column("filter", True)),
        *(Column("passes", True), Column("smallest key"), Column("largest key")),
    ]
    rows: list[Row] = []
    for table in tables:
        meta = table.meta
        bits = "-" if not table.filter_bytes else f"{8 * table.filter_bytes / meta.entries:.1f} bits"
        rows.append(
            [
                *(str(table.level), str(meta.number), f"{meta.entries:,}", f"{meta.tombstones:,}"),
                *(size(meta.file_bytes), times(meta.raw_bytes / meta.file_bytes)),
                *("-" if table.blocks is None else f"{table.blocks:,}", bits, share(table.passes)),
                *(output.shown(meta.smallest, 24), output.shown(meta.largest, 24)),
            ]
        )
    return columns, rows


def meta_document(meta: TableMeta) -> dict[str, object]:
    """Return what a manifest says of a table, as JSON has it."""
    figures = meta._asdict()
    holes = [{**field("start", start), **field("stop", stop)} for start, stop in figures.pop("holes")]
    for name in ("smallest", "largest"):
        figures.update(field(name, figures.pop(name)))
    return {**figures, "holes": holes}
