"""Dictionaries: what they save on disk, and what they cost, for values of several kinds.

    python -m benchmarks.dictionaries [ENTRIES]

Fills a database with ENTRIES, 60,000 if not given, one put per call in random order, with dictionaries and
without in turn; compacts it, reads it back by key and as a whole.  Prints bytes an entry on disk without
dictionaries, and everything with them as a ratio to that: of the bytes, before and after `compact()`, and of
the time for filling, compacting, 10,000 gets past the cache and a scan, the best of three runs of each, in
seconds of the processor, and the longest put by the clock.  Then
what a choice takes, and what it takes to pass blocks from table to table as they are or compressed again.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lsmdbm
from lsmdbm._base.chunk import Chunk
from lsmdbm._format import dictionaries, envelope
from lsmdbm._format.block import encode_body

RUNS = 3
GETS = 10_000
FIRST = ("Anna", "Bert", "Carla", "Dieter", "Eva", "Franz", "Greta", "Hans", "Ida", "Jan", "Lena", "Max")
LAST = ("Schmidt", "Meyer", "Novak", "Rossi", "Garcia", "Smith", "Jones", "Lee", "Chen", "Kumar", "Silva")
CITIES = ("Berlin", "Paris", "Rome", "Madrid", "Lisbon", "Vienna", "Prague", "Oslo", "Dublin", "Athens")
TAGS = ("urgent", "archived", "draft", "public", "private", "internal", "shared", "alpha", "beta")
KINDS = ("login", "logout", "click", "view", "purchase", "refund", "search", "signup")
SECTIONS = ("news", "sport", "culture", "shop", "wiki")

Entry = tuple[bytes, bytes]


def document(rng: random.Random, number: int) -> bytes:
    """Return a JSON document of about 260 bytes."""
    first, last = rng.choice(FIRST), rng.choice(LAST)
    month, day = rng.randrange(1, 13), rng.randrange(1, 29)
    clock = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"
    fields = {
        "id": number,
        "type": rng.choice(KINDS),
        "user": {
            "name": f"{first} {last}",
            "email": f"{first.lower()}.{last.lower()}{rng.randrange(1000)}@example.com",
            "city": rng.choice(CITIES),
            "active": rng.random() < 0.8,
        },
        "created_at": f"2024-{month:02}-{day:02}T{clock}Z",
        "tags": rng.sample(TAGS, rng.randrange(4)),
        "score": round(rng.random() * 100, 2),
        "session": f"{rng.getrandbits(128):032x}" if rng.random() < 0.5 else None,
        "count": rng.randrange(10_000),
    }
    return json.dumps(fields).encode()


def random_key(rng: random.Random, number: int) -> bytes:
    return b"%016x" % rng.getrandbits(64)


def url(rng: random.Random, number: int) -> bytes:
    page = f"{rng.choice(SECTIONS)}/{rng.randrange(1990, 2025)}/{rng.randrange(1, 13):02}/article-{number}"
    return f"https://www.example.org/{page}.html".encode()


def half(rng: random.Random, number: int) -> bytes:
    """Return 100 bytes that compress by half."""
    return rng.randbytes(50) * 2


KINDS_OF_ENTRIES: dict[str, tuple[Callable[[random.Random, int], bytes], ...]] = {
    "JSON documents, random keys": (random_key, document),
    "JSON documents, numbered keys": (lambda rng, number: b"user:%010d" % number, document),
    "JSON documents under URLs": (url, document),
    "URLs, 8-byte values": (url, lambda rng, number: rng.randbytes(8)),
    "100 bytes, half of them random": (random_key, half),
    "8-byte values": (random_key, lambda rng, number: rng.randbytes(8)),
}


def entries_of(kind: str, count: int) -> list[Entry]:
    rng = random.Random(kind)
    key, value = KINDS_OF_ENTRIES[kind]
    entries = [(key(rng, number), value(rng, number)) for number in range(count)]
    rng.shuffle(entries)
    return entries


def table_bytes(path: Path) -> int:
    return sum(table.stat().st_size for table in path.glob("*.sst"))


def measure(entries: list[Entry], has_dictionaries: bool) -> dict[str, float]:
    """Return bytes and seconds of one database of these entries, and the longest put."""
    found: dict[str, float] = {}
    cpu, clock = time.process_time, time.perf_counter
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "db"
        with lsmdbm.open(path, "n", dictionaries=has_dictionaries, memtable_bytes=4 << 20) as db:
            longest, start, before = 0.0, cpu(), clock()
            for key, value in entries:
                db[key] = value
                now = clock()
                longest, before = max(longest, now - before), now
            found["fill"], found["longest put"] = cpu() - start, longest
            db.flush()
            found["bytes before"] = table_bytes(path)
            start = cpu()
            db.compact()
            found["compact"] = cpu() - start
            found["bytes after"] = table_bytes(path)
        with lsmdbm.open(path, "r", cache_bytes=0) as db:
            start = cpu()
            for key, _ in entries[:GETS]:
                db[key]
            found["get"] = cpu() - start
            start = cpu()
            for _ in db.items():
                pass
            found["scan"] = cpu() - start
    return found


def best(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: min(run[name] for run in runs) for name in runs[0]}


def compare(kind: str, count: int) -> None:
    entries = entries_of(kind, count)
    runs: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for _ in range(RUNS):
        for has_dictionaries in (False, True):
            runs[has_dictionaries].append(measure(entries, has_dictionaries))
    plain, other = best(runs[False]), best(runs[True])
    names = ("bytes before", "bytes after", "fill", "compact", "get", "scan", "longest put")
    ratios = " | ".join(f"{other[name] / plain[name]:.2f}" for name in names)
    print(f"| {kind} | {plain['bytes after'] / count:.1f} | {ratios} |", flush=True)


def each(function: Callable[[], object], times: int) -> float:
    """Return the milliseconds of one call, the best of so many."""
    found = []
    for _ in range(times):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return min(found) * 1000


def cost_of(kind: str) -> None:
    """Print what choosing takes, and what compressing a body again takes, which may go over as it is."""
    entries = sorted(entries_of(kind, 20_000))
    per_block = 4096 // sum(map(len, entries[0])) + 1
    starts = range(0, len(entries) - per_block, len(entries) // 48)
    chunks: list[Chunk] = [
        (
            [key for key, _ in entries[low : low + per_block]],
            [value for _, value in entries[low : low + per_block]],
        )
        for low in starts
    ]
    chosen = dictionaries.choose(chunks, 1, 1 << 22)
    fresh = each(lambda: dictionaries.choose(chunks, 1, 1 << 22), 20)
    print(f"{kind}: {len(chosen)} bytes of dictionary, a choice takes {fresh:.2f} ms")
    if chosen:
        kept = each(lambda: dictionaries.choose(chunks, 1, 1 << 22, chosen), 20)
        raw = encode_body(chunks[0][1], ())
        body = envelope.compress(raw, 1, b"")
        again = each(lambda: envelope.recompress(body, len(raw), b"", 1, chosen), 500)
        print(f"  one that is kept: {kept:.2f} ms; a body compressed again: {again * 1000:.1f} us")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    print(f"{count:,} entries of each kind; with dictionaries as a ratio to without, best of {RUNS}\n")
    print("| entries | bytes each | filled | compacted | fill | compact | get | scan | longest put |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind in KINDS_OF_ENTRIES:
        compare(kind, count)
    print()
    for kind in ("JSON documents, random keys", "100 bytes, half of them random"):
        cost_of(kind)


if __name__ == "__main__":
    main()
