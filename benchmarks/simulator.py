"""What the policies of compaction cost as a database grows, without writing any data.

    python -m benchmarks.simulator                              up to 10^8 entries, in a minute or two
    python -m benchmarks.simulator --entries 1000000000 --markdown docs/growth.md
    python -m benchmarks.simulator --policies leveled --growth 8 --level0-tables 4

The policies are the real ones, lsmdbm's own pure functions, and so are the versions they look at; tables are
their metadata alone.  A table holds its entries spread evenly between its bounds; how many a merge leaves
of tables that overlap is the expected number of distinct keys.  Compactions advance as the library paces
them, so that level 0 grows while a large one is under way.

Streams: "random", new keys in random order; "sequential", new keys in ascending order; "overwrite", keys at
random out of a tenth as many, so that each is written ten times.

Figures: tables asked by a get is how many tables have the key within their bounds, of which filters let
one in a hundred pass in vain; "runs" is how many sources a scan merges.  Space is bytes on disk per byte of
the newest entries alone, both without and with the outputs of the compaction under way.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path

from lsmdbm._base.options import Options
from lsmdbm._engine.picker import pace, pick
from lsmdbm._engine.plan import Limits, Plan, occupied
from lsmdbm._engine.version import Version, sorted_runs
from lsmdbm._format.manifest import TableMeta

SPACE = 1 << 62  # keys are numbers below it
LOG_BYTES, RAW_BYTES, FILE_BYTES = 136, 120, 64  # an entry of 16 + 100 bytes that compress by half
FALSE_POSITIVES = 0.012  # of a filter of 12 bits per key
STREAMS = ("random", "sequential", "overwrite")
SAMPLES = 300  # moments of a run that are looked at,
PROBES = 16  # and keys that are asked for at each
FIFO_SHARE = 0.25  # of all that is written: the bound of "fifo"


def key(number: int) -> bytes:
    """Return the key of a number."""
    return number.to_bytes(8, "big")


@dataclass
class Piece:
    """Entries spread evenly between two numbers, both in."""

    low: int
    high: int
    entries: float


@dataclass
class Figures:
    """What one run has shown."""

    policy: str
    stream: str
    entries: int
    writes: float = 0.0  # into tables, per entry
    space: float = 0.0
    space_peak: float = 0.0
    asked: float = 0.0  # tables by a get, on average
    asked_most: float = 0.0
    blocks: float = 0.0  # read by a get of a key that is there, nothing cached
    runs: float = 0.0
    pace_most: float = 0.0  # bytes of compaction that one written byte owed at most
    tables: int = 0
    seconds: float = 0.0


@dataclass
class Job:
    """A compaction under way; bytes are those of blocks before compression."""

    plan: Plan
    total_bytes: int
    left_bytes: float


@dataclass
class Tree:
    """A version, and what it takes to go on from it.

    Args:
        universe: how many keys there are in all; None if no key comes twice.
    """

    limits: Limits
    memtable_bytes: int
    universe: int | None
    version: Version = field(default_factory=Version)
    number: int = 0
    written: float = 0.0  # entries, into tables
    job: Job | None = None
    pace_most: float = 0.0

    def table(self, piece: Piece) -> TableMeta:
        """Return a new table."""
        self.number += 1
        entries = max(1, round(piece.entries))
        return TableMeta(
            number=self.number,
            file_bytes=FILE_BYTES * entries,
            footer_crc=0,
            entries=entries,
            tombstones=0,
            raw_bytes=RAW_BYTES * entries,
            first_seq=self.number,
            last_seq=self.number,
            smallest=key(piece.low),
            largest=key(piece.high),
        )

    def flush(self, piece: Piece) -> None:
        """Flush a memtable, and compact as much as the writes into it have paid for."""
        self.version = self.version.replace((), {0: [self.table(piece)]})
        self.written += piece.entries
        paid = float(self.memtable_bytes)
        while paid > 0 and (job := self.job or self.begin()) is not None:
            each = pace(self.version, self.limits, job.total_bytes)
            self.pace_most = max(self.pace_most, each)
            work = min(paid * each, job.left_bytes)
            job.left_bytes -= work
            paid -= work / each
            if job.left_bytes <= 0:
                self.finish(job.plan)

    def begin(self) -> Job | None:
        """Begin what the policy asks for, if it asks for anything."""
        while (plan := pick(self.version, self.limits)) is not None:
            outputs = plan.ready_outputs
            if outputs is None:
                total = sum(meta.raw_bytes for meta in plan.inputs)
                self.job = Job(plan, total, float(total))
                return self.job
            self.version = self.version.replace(plan.inputs, {plan.level: outputs}, is_drop=plan.is_drop)
        return None

    def finish(self, plan: Plan) -> None:
        """Put the outputs of the compaction under way into the version."""
        pieces = list(cut(merged(plan.runs, self.universe), self.limits.table_bytes / FILE_BYTES))
        self.written += sum(piece.entries for piece in pieces)
        last = max(meta.last_seq for meta in plan.inputs)
        tables = [self.table(piece)._replace(last_seq=last) for piece in pieces]
        self.version = self.version.replace(plan.inputs, {plan.level: tables})
        self.job = None

    def probes(self, rng: random.Random) -> Iterator[bytes]:
        """Yield keys from where keys are."""
        metas = list(self.version)
        for meta in rng.choices(metas, [meta.entries for meta in metas], k=PROBES):
            low, stop = ends(meta)
            yield key(rng.randrange(low, stop))

    def asked(self, probe: bytes) -> int:
        """Return how many tables have a key within their bounds."""
        levels = range(len(self.version.levels))
        return sum(len(self.version.overlapping(level, probe, probe)) for level in levels)

    def distinct(self) -> float:
        """Return how many keys all tables hold together."""
        if self.universe is None:
            return float(sum(meta.entries for meta in self.version))
        return sum(piece.entries for piece in merged(runs_of(self.version), self.universe))


def runs_of(version: Version) -> list[tuple[TableMeta, ...]]:
    """Return the sorted runs of a version, newest first."""
    return sorted_runs(version.level(0)) + [version.level(level) for level in occupied(version)]


def merged(runs: Sequence[Sequence[TableMeta]], universe: int | None) -> Iterator[Piece]:
    """Yield what runs hold together, in the order of keys, by the expected number of distinct keys."""
    edges = sorted({edge for run in runs for meta in run for edge in ends(meta)})
    spans = [[(*ends(meta), meta.entries) for meta in run] for run in runs]
    places = [0] * len(runs)
    for low, stop in zip(edges, edges[1:], strict=False):
        counts = []
        for index, run in enumerate(spans):
            place = places[index]
            while place < len(run) and run[place][1] <= low:
                place += 1
            places[index] = place
            if place < len(run) and run[place][0] <= low:
                start, end, entries = run[place]
                counts.append(entries * (stop - low) / (end - start))
        if counts:
            yield Piece(low, stop - 1, together(counts, universe, (stop - low) / SPACE))


def ends(meta: TableMeta) -> tuple[int, int]:
    """Return where a table begins, and where it has ended."""
    return int.from_bytes(meta.smallest, "big"), int.from_bytes(meta.largest, "big") + 1


def together(counts: Sequence[float], universe: int | None, share: float) -> float:
    """Return the expected number of distinct keys of several sets of random ones out of a share of all."""
    if universe is None or len(counts) == 1:
        return reduce(add, counts)  # sum() rounds otherwise from Python 3.12 on, and cuts another tree
    keys = universe * share
    return keys * (1 - math.prod(max(0.0, 1 - count / keys) for count in counts))


def cut(pieces: Iterable[Piece], entries: float) -> Iterator[Piece]:
    """Join pieces into tables of so many entries."""
    table: Piece | None = None
    for piece in pieces:
        while piece.entries > 0:
            room = entries - (table.entries if table is not None else 0.0)
            share = min(1.0, room / piece.entries)
            width = piece.high - piece.low + 1
            high = piece.high if share == 1.0 else min(piece.high, piece.low + max(1, int(width * share)) - 1)
            taken = Piece(piece.low, high, piece.entries * share)
            table = taken if table is None else Piece(table.low, high, table.entries + taken.entries)
            if table.entries >= 0.999 * entries:
                yield table
                table = None
            if high >= piece.high:
                break
            piece = Piece(high + 1, piece.high, piece.entries - taken.entries)
    if table is not None:
        yield table


def flushes(stream: str, entries: int, each: int, universe: int | None) -> Iterator[Piece]:
    """Yield what each flush writes."""
    done = 0
    while done < entries:
        count = min(each, entries - done)
        low, high = 0, SPACE - 1
        if stream == "sequential":
            low, high = SPACE * done // entries, SPACE * (done + count) // entries - 1
        distinct = float(count) if universe is None else -universe * math.expm1(-count / universe)
        yield Piece(low, high, distinct)
        done += count


def simulate(policy: str, stream: str, entries: int, limits: Limits, memtable_bytes: int) -> Figures:
    """Return the figures of one policy under one stream."""
    begun = time.monotonic()
    rng = random.Random(1)
    universe = max(1, entries // 10) if stream == "overwrite" else None
    bound = max(1, int(FIFO_SHARE * entries * FILE_BYTES)) if policy == "fifo" else None
    limits = limits._replace(compaction=policy, max_bytes=bound)
    tree = Tree(limits, memtable_bytes, universe)
    found = Figures(policy, stream, entries)
    each = memtable_bytes // LOG_BYTES
    total = -(-entries // each)
    samples = sorted({*(total * place // SAMPLES for place in range(SAMPLES // 3, SAMPLES + 1))})
    asked: list[float] = []
    runs: list[int] = []
    spaces: list[tuple[float, float]] = []
    for number, piece in enumerate(flushes(stream, entries, each, universe), 1):
        tree.flush(piece)
        place = bisect_left(samples, number)
        if place == len(samples) or samples[place] != number:
            continue
        asked.append(sum(tree.asked(probe) for probe in tree.probes(rng)) / PROBES)
        runs.append(len(runs_of(tree.version)))
        if policy != "fifo" and len(spaces) < SAMPLES // 3 * (place + 1) / len(samples):
            size = sum(meta.entries for meta in tree.version)
            distinct = tree.distinct()
            job = tree.job
            half_done = (job.total_bytes - job.left_bytes) / RAW_BYTES if job is not None else 0.0
            spaces.append((size / distinct, (size + half_done) / distinct))
    found.writes = tree.written / entries
    if spaces:
        found.space = sum(space for space, _ in spaces) / len(spaces)
        found.space_peak = max(peak for _, peak in spaces)
    found.asked, found.asked_most = sum(asked) / len(asked), max(asked)
    found.runs = sum(runs) / len(runs)
    found.blocks = 1 + FALSE_POSITIVES * (found.asked - 1) / 2  # half of the others are asked before
    found.pace_most = tree.pace_most
    found.tables = len(tree.version)
    found.seconds = time.monotonic() - begun
    return found


HEAD = (
    *("stream", "policy", "entries", "writes", "space", "space, peak", "tables asked", "most"),
    *("blocks read", "runs", "most paid", "tables"),
)


def row(found: Figures) -> str:
    """Return a line of the table."""
    cells = [
        *(found.stream, found.policy, f"10^{math.log10(found.entries):.3g}", f"{found.writes:.1f}"),
        f"{found.space:.2f}" if found.space else "",
        f"{found.space_peak:.2f}" if found.space_peak else "",
        *(f"{found.asked:.1f}", f"{found.asked_most:.0f}", f"{found.blocks:.2f}", f"{found.runs:.1f}"),
        *(f"{found.pace_most:.0f}", f"{found.tables:,}"),
    ]
    return f"| {' | '.join(cells)} |"


def markdown(command: str, rows: Sequence[Figures]) -> str:
    """Return the page."""
    lines = [
        f"Made by `{command}`.",
        "",
        "writes: how often an entry goes into a table, the flush included. tables asked: by a get, on"
        " average and at most. blocks read: by a get of a key that is there, nothing cached. most paid: bytes"
        " of compaction that one written byte owed at most.",
        "",
        f"| {' | '.join(HEAD)} |",
        "|" + " --- |" * len(HEAD),
        *map(row, rows),
        "",
    ]
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("python -m benchmarks.simulator", description=__doc__.partition("\n")[0])
    top.add_argument("--entries", type=int, default=10**8, help="of the largest run; default 10^8")
    top.add_argument("--smallest", type=int, default=10**6, help="of the smallest run; default 10^6")
    top.add_argument("--policies", nargs="+", default=["leveled", "tiered", "fifo"])
    top.add_argument("--streams", nargs="+", default=list(STREAMS), choices=STREAMS)
    top.add_argument("--memtable-bytes", type=int, default=Options().memtable_bytes)
    top.add_argument("--level0-tables", type=int, help="instead of the library's own")
    top.add_argument("--level1-memtables", type=int, help="size of level 1; instead of the library's own")
    top.add_argument("--growth", type=int, help="from level to level; instead of the library's own")
    top.add_argument("--markdown", type=Path, help="write the table to this file, too")
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    chosen = parser().parse_args(arguments)
    limits = Limits.of(Options(memtable_bytes=chosen.memtable_bytes))
    if chosen.level0_tables:
        limits = limits._replace(level0_tables=chosen.level0_tables)
    if chosen.level1_memtables:
        limits = limits._replace(level1_bytes=chosen.level1_memtables * chosen.memtable_bytes)
    if chosen.growth:
        limits = limits._replace(growth=chosen.growth)
    print(f"| {' | '.join(HEAD)} |")
    rows = []
    for stream in chosen.streams:
        for policy in chosen.policies:
            entries = chosen.smallest
            while entries <= chosen.entries:
                rows.append(simulate(policy, stream, entries, limits, chosen.memtable_bytes))
                print(row(rows[-1]), f"{rows[-1].seconds:.0f} s", flush=True)
                entries *= 10
    if chosen.markdown is not None:
        given = " ".join(sys.argv[1:] if arguments is None else arguments)
        chosen.markdown.write_text(markdown(f"python -m benchmarks.simulator {given}".strip(), rows), "ascii")


if __name__ == "__main__":
    main()
