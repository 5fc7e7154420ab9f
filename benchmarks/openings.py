"""Opening for every operation, as dogpile.cache, Beaker and sorl-thumbnail do: what the 1,000th cycle costs.

    python benchmarks/openings.py [CYCLES]

A database of 10 entries; CYCLES times, 1,000 if not given: open for reading, get, close; then open for
writing, put, close.  Prints the median of each tenth of the way in milliseconds, how many files there are
afterwards, and what one fdatasync of a file and one fsync of a directory cost: no durable write is faster.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import lsmdbm

TENTHS = 10


def timed(name: str, cycles: int, cycle: Callable[[], object]) -> None:
    took = []
    for _ in range(cycles):
        start = time.perf_counter()
        cycle()
        took.append((time.perf_counter() - start) * 1e3)
    each = cycles // TENTHS
    row = " ".join(
        f"{statistics.median(took[part * each : (part + 1) * each]):6.3f}" for part in range(TENTHS)
    )
    print(f"{name:16} {row}", flush=True)


def main() -> None:
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "small")
        with lsmdbm.open(path, "n") as db:
            db.update((f"key{number}", "v" * 20) for number in range(10))

        def read() -> None:
            with lsmdbm.open(path) as db:
                db["key3"]

        def write() -> None:
            with lsmdbm.open(path, "w") as db:
                db["key3"] = "w" * 20

        descriptor = os.open(os.path.join(place, "bare"), os.O_RDWR | os.O_CREAT)
        directory = os.open(place, os.O_RDONLY)

        def sync() -> None:
            os.pwrite(descriptor, b"x" * 100, 0)
            os.fdatasync(descriptor)
            os.fsync(directory)

        print(f"{cycles:,} cycles, median milliseconds by tenths of the way")
        timed("read", cycles, read)
        timed("write", cycles, write)
        timed("read again", cycles, read)
        timed("two bare syncs", cycles, sync)
        print(f"{len(os.listdir(path))} files")


if __name__ == "__main__":
    main()
