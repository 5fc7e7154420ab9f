"""The figures of one load: fill, reopen, read, scan, compact, and what it took in bytes and memory.

    python benchmarks/million.py                        10^6 entries of 16 + 100 bytes, random order
    python benchmarks/million.py -n 100000 --json       fewer, as JSON

The values compress by about half.  Every entry that is read is compared.  Times are wall clock and
depend on the machine; compare them within one run, or with a peer measured in the same minute.  The
memory includes some 15 MiB of this script's own.
"""

import argparse
import json
import random
import resource
import shutil
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import lsmdbm

KEY_BYTES, VALUE_BYTES = 16, 100
READS = 100_000


class Load:
    """The same entries again and again, from a seed."""

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed

    def every_key(self) -> Iterator[bytes]:
        rng = random.Random(self.seed)
        for _ in range(self.count):
            yield rng.randbytes(KEY_BYTES)

    def value(self, key: bytes) -> bytes:
        half = (key * (VALUE_BYTES // 2 // KEY_BYTES + 1))[: VALUE_BYTES // 2]
        return half + random.Random(key).randbytes(VALUE_BYTES - len(half))


def microseconds(work: Callable[[], int]) -> float:
    """Return what one of the operations that `work` does takes on average."""
    begin = time.perf_counter()
    done = work()
    return (time.perf_counter() - begin) / done * 1e6


def fill(db: lsmdbm.Database, load: Load) -> dict[str, float]:
    """One put per call; the latency of each."""
    clock = time.perf_counter
    took = array("d")
    keys = load.every_key()
    while entries := [(key, load.value(key)) for key in islice(keys, 10_000)]:
        for key, value in entries:
            begin = clock()
            db[key] = value
            took.append(clock() - begin)
    total = sum(took)
    took = array("d", sorted(took))
    spots = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    result = {f"put {name}, us": took[int((len(took) - 1) * spot)] * 1e6 for name, spot in spots.items()}
    return {"put, us": total / len(took) * 1e6, **result}


def read(db: lsmdbm.Database, load: Load, keys: list[bytes]) -> int:
    for key in keys:
        if db[key] != load.value(key):
            sys.exit(f"wrong value for {key!r}")
    return len(keys)


def read_only(db: lsmdbm.Database, keys: list[bytes]) -> int:
    for key in keys:
        db.get(key)
    return len(keys)


def scan(db: lsmdbm.Database) -> int:
    return sum(1 for _ in db.items())


def check_order(db: lsmdbm.Database, load: Load) -> None:
    """Compare the whole content, in order, with what was loaded."""
    expected = sorted(set(load.every_key()))
    for want, (key, value) in zip(expected, db.items(), strict=True):
        if want != key or value != load.value(key):
            sys.exit(f"wrong entry at {key!r}")


def run(path: Path, load: Load) -> dict[str, float]:
    rng = random.Random(load.seed + 1)
    some = list(islice(load.every_key(), 0, None, max(1, load.count // READS)))
    rng.shuffle(some)
    absent = [rng.randbytes(KEY_BYTES) for _ in some]
    figures: dict[str, float] = {}
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with lsmdbm.open(path, "n") as db:
        figures |= fill(db, load)
        figures["write amplification"] = db.stats().write_amplification or 0.0
    begin = time.perf_counter()
    db = lsmdbm.open(path, "w")
    figures["reopen, ms"] = (time.perf_counter() - begin) * 1e3
    with db:
        read(db, load, some[:1000])
        figures["get, us"] = microseconds(lambda: read_only(db, some))
        figures["get of an absent key, us"] = microseconds(lambda: read_only(db, absent))
        figures["scan, us an entry"] = microseconds(lambda: scan(db))
        figures["compact, us an entry"] = microseconds(lambda: db.compact() or load.count)
        figures["get, compacted, us"] = microseconds(lambda: read_only(db, some))
        before = db.stats()
        figures["get of an absent key, compacted, us"] = microseconds(lambda: read_only(db, absent))
        after = db.stats()
        misses = after.filter_false_positives - before.filter_false_positives
        figures["blocks read per absent key"] = misses / len(absent)
        figures["scan, compacted, us an entry"] = microseconds(lambda: scan(db))
        figures["bytes on disk an entry"] = after.file_bytes / load.count
        figures["memory above the start, MiB"] = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
        ) / 1024
        check_order(db, load)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-n", type=int, default=1_000_000, help="entries (default: one million)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="lsmdbm-bench-")
    try:
        figures = run(Path(directory) / "db", Load(options.n, options.seed))
    finally:
        shutil.rmtree(directory)
    if options.json:
        print(json.dumps({"entries": options.n, "python": sys.version.split()[0], **figures}, indent=1))
        return
    print(f"{options.n:,} entries of {KEY_BYTES} + {VALUE_BYTES} bytes, CPython {sys.version.split()[0]}")
    for name, figure in figures.items():
        print(f"{name:>38} {figure:12.3f}")


if __name__ == "__main__":
    main()
