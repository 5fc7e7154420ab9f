"""The verb bench: how fast this machine fills, reads and scans a database; through the public interface.

Rules
  1. Keys and values are random, from a seed: half of each value compresses.  The order of keys is random.
  2. What is measured is named with its unit.  One run says little: other work on the machine counts.

Thread safety: one thread at a time.  The benchmarks against other stores are in benchmarks/.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lsmdbm.cli.outcome import FINE, USAGE, Refused
from lsmdbm.cli.output import Column, Output, Report, size
from lsmdbm.database import Database, open

STEP = 1000  # operations between two reports
SEED = 2024


@dataclass(frozen=True)
class Measure:
    """One thing that was measured."""

    name: str
    operations: int
    seconds: float
    data_bytes: int  # of keys and values

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds if self.seconds else 0.0


def bench(output: Output, *, entries: int, value_bytes: int, directory: str | None, as_json: bool) -> int:
    """Fill, read and scan a temporary database."""
    if entries < 1 or value_bytes < 0:
        raise Refused("--entries must be 1 or more, --value-bytes 0 or more", USAGE)
    with tempfile.TemporaryDirectory(prefix="lsmdbm-bench-", dir=directory) as home:
        path = Path(home) / "db"
        measures = []
        for name, operations, work in _works(path, entries, value_bytes):
            with output.progress(name, "entries") as report:
                began = time.perf_counter()
                data_bytes = work(report)
                measures.append(Measure(name, operations, time.perf_counter() - began, data_bytes))
        with open(path) as db:
            stats = db.stats()
    file_bytes = stats.file_bytes
    if as_json:
        figures = [{**vars(measure), "operations_per_second": measure.rate} for measure in measures]
        output.json(
            {"entries": entries, "value_bytes": value_bytes, "file_bytes": file_bytes, "measures": figures}
        )
        return FINE
    numbers = ("operations", "seconds", "operations/s", "us each", "MB/s")
    output.table(
        [Column("measure"), *(Column(name, True) for name in numbers)],
        [
            [
                *(measure.name, f"{measure.operations:,}", f"{measure.seconds:.2f}", f"{measure.rate:,.0f}"),
                *(f"{1e6 * measure.seconds / measure.operations:.2f}", _megabytes(measure)),
            ]
            for measure in measures
        ],
    )
    output.say(f"{size(file_bytes)} on disk for {size(measures[0].data_bytes)} of keys and values")
    return FINE


def _megabytes(measure: Measure) -> str:
    return f"{measure.data_bytes / measure.seconds / 1e6:.1f}" if measure.seconds else "-"


Work = Callable[["Report | None"], int]


def _works(path: Path, count: int, value_bytes: int) -> Iterator[tuple[str, int, Work]]:
    """Yield what is measured, in order: name, number of operations, and the work, which returns bytes."""
    reads = min(count, 20_000)

    def timed(step: Callable[[Database], Iterator[int]], flag: str) -> Work:
        def work(report: Report | None) -> int:
            with open(path, flag) as db:
                return _followed(step(db), count, report)

        return work

    yield "put, one by one", count, timed(lambda db: _put(db, count, value_bytes), "n")
    yield "flush and compact", count, timed(_settle, "w")
    yield "get, at random", reads, timed(lambda db: _get(db, _keys(count, reads), True), "r")
    yield "get, of absent keys", reads, timed(lambda db: _get(db, _keys(count, reads, b"no"), False), "r")
    yield "scan, of everything", count, timed(_scan, "r")


def _followed(steps: Iterator[int], total: int, report: Report | None) -> int:
    data_bytes = 0
    for done, size_of_one in enumerate(steps, 1):
        data_bytes += size_of_one
        if report is not None and not done % STEP:
            report(done, total)
    return data_bytes


def _keys(count: int, picked: int, end: bytes = b"") -> list[bytes]:
    order = random.Random(SEED)
    return [b"%016x" % (order.randrange(count) * 0x9E3779B97F4A7C15 % (1 << 64)) + end for _ in range(picked)]


def _put(db: Database, count: int, value_bytes: int) -> Iterator[int]:
    noise = random.Random(SEED).randbytes(value_bytes + (1 << 16))
    half = value_bytes // 2
    for number in range(count):
        key = b"%016x" % (number * 0x9E3779B97F4A7C15 % (1 << 64))
        start = number * 61 % (1 << 16)
        value = noise[start : start + value_bytes - half] + b"v" * half
        db[key] = value
        yield len(key) + value_bytes


def _settle(db: Database) -> Iterator[int]:
    db.compact()
    yield db.stats().file_bytes


def _scan(db: Database) -> Iterator[int]:
    return (len(key) + len(value) for key, value in db.items())


def _get(db: Database, keys: list[bytes], is_there: bool) -> Iterator[int]:
    get = db.get
    for key in keys:
        value = get(key)
        if (value is not None) is not is_there:
            raise Refused(f"bench: {key!r} is {'missing' if is_there else 'there'}: this is a bug")
        yield len(key) + len(value or b"")
