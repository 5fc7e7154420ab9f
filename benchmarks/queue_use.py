"""A queue: append at the end, take from the front.  Is an operation dearer at the end than at the beginning?

    python benchmarks/queue_use.py [ENTRIES]

Appends ENTRIES, 100,000 if not given, to a new database, then takes all of them by `popitem()`; then keeps a
queue of 1,000 while as many go through it.  Prints microseconds an operation for each tenth of the way, and
the last tenth as a multiple of the first.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable

import lsmdbm

TENTHS = 10


def timed(name: str, count: int, operation: Callable[[int], object]) -> None:
    """Call an operation for 0 .. count - 1; print what a tenth costs."""
    costs = []
    for tenth in range(TENTHS):
        numbers = range(count * tenth // TENTHS, count * (tenth + 1) // TENTHS)
        start = time.perf_counter()
        for number in numbers:
            operation(number)
        costs.append((time.perf_counter() - start) / len(numbers) * 1e6)
    row = " ".join(f"{cost:6.1f}" for cost in costs)
    print(f"{name:14} {row}   last / first: {costs[-1] / costs[0]:.2f}", flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"{count:,} entries, microseconds an operation, by tenths of the way")
    with tempfile.TemporaryDirectory() as place, lsmdbm.open(os.path.join(place, "queue"), "n") as db:
        value = bytes(100)

        def append(number: int) -> None:
            db[b"%016d" % number] = value

        def take(number: int) -> None:
            key, _ = db.popitem()
            if b"%016d" % number != key:
                raise SystemExit(f"{key!r} came out of turn")

        def both(number: int) -> None:
            append(number + 1000)
            take(number)

        timed("append", count, append)
        timed("popitem", count, take)
        for number in range(1000):
            append(number)
        timed("append, popitem", count, both)


if __name__ == "__main__":
    main()
