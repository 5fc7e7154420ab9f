"""Bulk building: what a database of entries in random order costs, in seconds of processor time.

    python -m benchmarks.bulk [ENTRIES]

Makes a database of ENTRIES entries of 16 + 100 bytes, a million if not given, in each of the WAYS, making the
entries included.  Prints the median of RUNS runs that alternate: of this process, of its workers, and of both
as a multiple of what `update()` takes.  Time on the wall is left out: on a busy machine it says nothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from statistics import median

import lsmdbm
from benchmarks.data import Data
from lsmdbm.bulk import bulk_load

RUNS = 3
WORKERS = 2


Entries = Iterator[tuple[bytes, bytes]]


def updated(path: str, entries: Entries) -> None:
    """Write all by `update()`."""
    with lsmdbm.open(path, "n") as db:
        db.update(entries)
        db.sync()


def compacted(path: str, entries: Entries) -> None:
    """Do so, and compact."""
    with lsmdbm.open(path, "n") as db:
        db.update(entries)
        db.compact()


def by_threads(path: str, entries: Entries) -> None:
    """Load with threads."""
    with ThreadPoolExecutor(WORKERS) as pool:
        bulk_load(path, entries, pool)


def by_processes(path: str, entries: Entries) -> None:
    """Load with processes."""
    with ProcessPoolExecutor(WORKERS) as pool:
        bulk_load(path, entries, pool)


WAYS: dict[str, Callable[[str, Entries], object]] = {
    "`update()`, then `sync()`": updated,
    "`update()`, then `compact()`": compacted,
    "`bulk_load()`": bulk_load,
    f"`bulk_load()` with `ThreadPoolExecutor({WORKERS})`": by_threads,
    f"`bulk_load()` with `ProcessPoolExecutor({WORKERS})`": by_processes,
}


def seconds() -> tuple[float, float]:
    """Return the processor time of this process, and of its children that have ended."""
    times = os.times()
    return times.user + times.system, times.children_user + times.children_system


def measure(count: int) -> dict[str, tuple[float, float]]:
    """Return for each way the medians of what this process and its workers took."""
    data = Data("random", count, 1)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as root:
        for _ in range(RUNS):
            for name, way in WAYS.items():
                path = os.path.join(root, "db")
                own, workers = seconds()
                way(path, ((data.key(number), data.value(number)) for number in range(count)))
                after = seconds()
                taken[name].append((after[0] - own, after[1] - workers))
                with lsmdbm.open(path) as db:
                    if len(db) != count:
                        raise SystemExit(f"{name}: {len(db)} of {count} entries are there")
                lsmdbm.destroy(path)
    return {
        name: (median(own for own, _ in runs), median(workers for _, workers in runs))
        for name, runs in taken.items()
    }


def main() -> None:
    """Run the command."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    found = measure(count)
    base = sum(next(iter(found.values())))
    print(f"{count:,} entries, medians of {RUNS} runs, seconds of processor time\n")
    print(
        "| | the process that calls | its workers | in all, against `update()` |\n| --- | --- | --- | --- |"
    )
    for name, (own, workers) in found.items():
        print(
            f"| {name} | {own:.1f} | {f'{workers:.1f}' if workers else ''} | {(own + workers) / base:.2f} |"
        )


if __name__ == "__main__":
    main()
