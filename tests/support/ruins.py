"""Small databases with every kind of file, and every kind of damage to one of them.

    ruin = build("everywhere", rng)         files of a database, and what was ever written
    ruin.storage({"000007.sst": None})      a disk with them, some changed or, with None, missing

Thread safety: none.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lsmdbm._engine.names import parse
from lsmdbm._format import log_reader
from lsmdbm._format.records import HEADER_BYTES, LogHeader
from lsmdbm.database import Database, open_on
from support.crash_storage import CrashStorage

PATH, COPY = "/db", "/copy"
TINY: dict[str, Any] = {"memtable_bytes": 1024, "block_bytes": 64, "cache_bytes": 4096}
KEYS = [b"key%02d" % number for number in range(40)]


@dataclass
class Ruin:
    """The files of a database, whole, and what is known of it."""

    files: dict[str, bytes]
    state: dict[bytes, bytes]  # what it holds
    ever: dict[bytes, set[bytes]] = field(default_factory=dict)  # every value a key ever had

    def storage(self, changes: Mapping[str, bytes | None] | None = None) -> CrashStorage:
        """Return a disk with the files, some of them changed, or missing."""
        storage = CrashStorage("ruin")
        for name, data in {**self.files, **(changes or {})}.items():
            if data is not None:
                storage.plant(f"{PATH}/{name}", data)
        return storage

    def names(self, kind: str) -> list[str]:
        """Return the names of all files of one kind, ascending."""
        return sorted(name for name in self.files if (found := parse(name)) and found[1] == kind)


class Writer:
    """Writes to a database, and keeps a model of it and every value that was written."""

    def __init__(self, db: Database, ruin: Ruin, rng: random.Random) -> None:
        self.db, self.ruin, self.rng = db, ruin, rng

    def put(self, key: bytes) -> None:
        value = b"%d." % self.rng.randrange(1 << 30) * self.rng.choice((1, 1, 4))
        self.db[key] = value
        self.ruin.state[key] = value
        self.ruin.ever.setdefault(key, set()).add(value)

    def delete(self, key: bytes) -> None:
        self.db.pop(key, None)
        self.ruin.state.pop(key, None)

    def some(self, count: int, deletes: float = 0.3) -> None:
        for key in self.rng.choices(KEYS, k=count):
            if self.rng.random() < deletes:
                self.delete(key)
            else:
                self.put(key)


def _in_the_log(writer: Writer) -> None:
    writer.some(20)
    writer.db.sync()
    writer.some(10)


def _in_tables(writer: Writer) -> None:
    for key in KEYS:
        writer.put(key)
    writer.db.compact()
    for count in (20, 10):
        writer.some(count)
        writer.db.flush()


def _everywhere(writer: Writer) -> None:
    _in_tables(writer)
    _in_the_log(writer)


FILLS = {"in_the_log": _in_the_log, "in_tables": _in_tables, "everywhere": _everywhere}


def build(shape: str, rng: random.Random, **options: Any) -> Ruin:
    """Return a database of a shape, closed.  Where it has logs, they are a chain of two."""
    storage, ruin = CrashStorage(f"{rng.random()}"), Ruin({}, {})
    given = {**TINY, "background": "manual", **options}
    with open_on(storage, PATH, "c", 0o666, given) as db:
        FILLS[shape](Writer(db, ruin, rng))
    if shape != "in_tables":
        with open_on(storage, PATH, "w", 0o666, given) as db:
            Writer(db, ruin, rng).some(5)
    ruin.files = storage.contents(PATH)
    return ruin


def damages(data: bytes, rng: random.Random) -> Iterator[tuple[str, bytes | None]]:
    """Yield what can become of the bytes of one file, by name; None for no file at all."""
    yield "missing", None
    yield "empty", b""
    yield "zeroed", bytes(len(data))
    yield "cut", data[: rng.randrange(len(data))]
    yield "longer", data + rng.randbytes(20)
    yield "noise", rng.randbytes(len(data))
    low = rng.randrange(len(data))
    high = min(len(data), low + rng.choice((1, 16, 200)))
    yield "overwritten", data[:low] + rng.randbytes(high - low) + data[high:]
    yield "flipped", flip(data, rng.randrange(8 * len(data)))


def flip(data: bytes, bit: int) -> bytes:
    """Return bytes with one bit wrong."""
    damaged = bytearray(data)
    damaged[bit >> 3] ^= 1 << (bit & 7)
    return bytes(damaged)


def leaves_no_trace(ruin: Ruin, name: str, data: bytes | None) -> bool:
    """Whether nothing tells of a damage: the newest log is gone, or was cut between two records."""
    if name != max(ruin.names("wal"), default=""):
        return False
    whole = ruin.files[name]
    ends = [HEADER_BYTES, *(record.end for record in log_reader.in_order(whole, LogHeader.decode(whole)))]
    return data is None or (whole.startswith(data) and len(data) in ends)


def contents(storage: CrashStorage, path: str) -> dict[bytes, bytes]:
    """Return all that a database holds."""
    with open_on(storage, path, "r", 0o666, {}) as db:
        return dict(db.items())
