"""Small databases with every kind of file in them, closed and crashed, and what each of them must hold.

    for specimen in specimens():
        storage = specimen.storage()            a CrashStorage with its files in /db
        specimen.states[-1]                     (last sequence, what is in it)
        specimen.floor(damaged_files)           the oldest state that these files may show

Rules
  1. The fixed ones are the same whatever LSMDBM_SEED is: tests/golden keeps them as files.
  2. What a log promises is taken from the bytes that are still as they were, by comparing: no decoder has
     to be right about damaged ones.

Thread safety: none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from unittest import mock

from lsmdbm._engine.names import MANIFEST, WAL, file_name, numbers
from lsmdbm._format import dictionaries, log_reader, records
from lsmdbm._format import manifest as manifests
from lsmdbm._format.records import HEADER_BYTES, LogHeader, Record
from lsmdbm.database import Database, open_on
from support.crash_storage import CrashStorage, Killed

PATH = "/db"
Files = dict[str, bytes]
State = dict[bytes, bytes]


@dataclass(frozen=True)
class Specimen:
    """One database, as files.

    Attributes:
        files: by name; LOCK is not among them.
        states: what it held after each write, with the sequence of its last operation; the last is what
            these files say.
        stale: files that were there once, as they were last.
        earlier: what the files that are there held before.
    """

    name: str
    files: Files
    states: list[tuple[int, State]]
    stale: Files = field(default_factory=dict)
    earlier: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def content(self) -> State:
        """What is in the database."""
        return self.states[-1][1]

    @property
    def manifest(self) -> manifests.Manifest:
        """The manifest that counts."""
        for number in reversed(numbers(list(self.files), MANIFEST)):
            try:
                return manifests.decode(self.files[file_name(number, MANIFEST)], number)
            except manifests.Malformed:  # an install that was cut off
                pass
        raise LookupError("no manifest")

    def logs(self) -> dict[str, tuple[LogHeader, list[Record]]]:
        """Return header and records of every log that has any, by name."""
        found = {}
        for number in numbers(list(self.files), WAL):
            name = file_name(number, WAL)
            try:
                header = LogHeader.decode(self.files[name])
            except records.Malformed:
                continue
            found[name] = header, list(log_reader.in_order(self.files[name], header))
        return found

    def storage(self, files: Mapping[str, bytes] | None = None) -> CrashStorage:
        """Return a disk with these files, its own ones if none are given."""
        storage = CrashStorage(self.name)
        storage.plant(f"{PATH}/LOCK", b"pid 1\n")
        for name, data in (self.files if files is None else files).items():
            storage.plant(f"{PATH}/{name}", data)
        return storage

    def floor(self, files: Mapping[str, bytes]) -> int:
        """Return the last sequence that is promised by what is left of the files."""
        seq = self.manifest.last_seq
        for name, (header, found) in self.logs().items():
            whole, data = self.files[name], files.get(name, b"")
            has_header = data[:HEADER_BYTES] == whole[:HEADER_BYTES]
            for record in found:
                is_intact = data[record.offset : record.end] == whole[record.offset : record.end]
                if record.durable and is_intact and (has_header or records.is_mark(record)):
                    covered = [r.last_seq for r in found if r.end <= record.durable]
                    seq = max(seq, header.first_seq - 1, *covered)
        return seq

    def allowed(self, files: Mapping[str, bytes]) -> list[State]:
        """Return the states that these files may show, where they do not show that they are damaged."""
        floor = self.floor(files)
        return [state for seq, state in self.states if seq >= floor]


class _Maker:
    """Runs a script on a database, and keeps what it held at every moment."""

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self.options = {"memtable_bytes": 1 << 20, "block_bytes": 64, "background": "manual", **options}
        self.storage = CrashStorage(name)
        self.rng = random.Random(name)
        self.states: list[tuple[int, State]] = [(0, {})]
        self.seen: dict[str, list[bytes]] = {}
        self.db: Database = self._open()

    def _open(self) -> Database:
        return open_on(self.storage, PATH, "c", 0o666, self.options)

    def _issue(self, state: State, count: int) -> None:
        self.states.append((self.states[-1][0] + count, state))

    @property
    def state(self) -> State:
        return self.states[-1][1]

    def put(self, key: bytes, value: bytes | None = None) -> None:
        value = b"%s %d" % (key[:8] * 3, self.rng.randrange(1000)) if value is None else value
        self._issue({**self.state, key: value}, 1)
        self.db[key] = value

    def delete(self, key: bytes) -> None:
        self._issue({k: v for k, v in self.state.items() if k != key}, 1)
        del self.db[key]

    def batch(self, changes: dict[bytes, bytes | None]) -> None:
        state = {**self.state, **changes}
        self._issue({key: value for key, value in state.items() if value is not None}, len(changes))
        self.db._store.batch(list(changes), list(changes.values()))

    def clear(self) -> None:
        self._issue({}, 1)
        self.db.clear()

    def look(self) -> None:
        """Keep what the files hold now."""
        for name, data in self.storage.contents(PATH).items():
            if data not in self.seen.setdefault(name, []):
                self.seen[name].append(data)

    def reopen(self) -> None:
        self.close()
        self.db = self._open()

    def flush(self) -> None:
        self.look()
        self.db.flush()
        self.look()

    def compact(self) -> None:
        self.look()
        self.db.compact()
        self.look()

    def close(self) -> None:
        self.look()
        self.db.close()
        self.look()

    def die(self, at: Callable[[str, str], bool], kind: str, doing: Callable[[], None]) -> None:
        """Do something, and be killed at the first call that is wanted."""

        def strike(index: int, operation: str, path: str) -> None:
            if at(operation, path.rpartition("/")[2]):
                self.storage.on_call = None
                self.storage.fault(index, None, kind)

        self.storage.on_call = strike
        try:
            doing()
        except Killed:
            return
        raise LookupError("there was no such call")

    def specimen(self) -> Specimen:
        """Return what is there; the database may be open, or dead."""
        files = self.storage.contents(PATH)
        self.storage.dead = False
        self.storage.heal()
        self.db.close()
        stale = {name: found[-1] for name, found in self.seen.items() if name not in files}
        earlier = [(name, data) for name in files for data in self.seen.get(name, ()) if data != files[name]]
        del files["LOCK"]
        return Specimen(self.name, files, self.states, stale, [e for e in earlier if e[0] != "LOCK"])


def _levels() -> Specimen:
    """Blocks and tables in two levels, then logs in a chain, with marks; closed."""
    maker = _Maker("levels", compression=None)
    for number in range(14):
        maker.put(b"key%02d" % number)
    maker.compact()
    maker.batch({b"key03": None, b"key05": b"five", b"key20": b""})
    maker.flush()
    maker.delete(b"key04")
    maker.put(b"", b"nothing")
    maker.flush()
    maker.put(b"key01", b"one")
    maker.db.sync()
    maker.put(b"key02", b"two")
    maker.reopen()
    maker.batch({b"key01": None, b"a": b"\0\n\xff", b"b": b"B" * 40})
    maker.reopen()
    maker.put(b"key09", b"nine")
    maker.close()
    return maker.specimen()


def _compressed() -> Specimen:
    """Blocks, index and metadata as zstd frames, two tables, one log; closed."""
    maker = _Maker("compressed", block_bytes=700, bloom_bits_per_key=3)
    for number in range(40):
        maker.put(b"a key that is long %03d" % number, b"the same value over and over " * 2)
    maker.compact()
    for number in range(8):
        maker.delete(b"a key that is long %03d" % (2 * number))
    maker.put(b"large", b"0123456789" * 200)
    maker.flush()
    maker.put(b"in the log", b"value")
    maker.close()
    return maker.specimen()


def _dictionary() -> Specimen:
    """Two tables, one flushed and one compacted, whose blocks are compressed with dictionaries; closed."""
    maker = _Maker("dictionary", block_bytes=300)
    document = b'{"id": %d, "kind": "%s", "owner": {"name": "%s", "active": true}, "score": %d}'
    with mock.patch.object(dictionaries, "LEAST_TABLE_BYTES", 1):
        for first in (0, 100):
            for number in range(first, first + 100):
                fields = (
                    maker.rng.choice((b"order", b"offer")),
                    maker.rng.choice((b"anna", b"bert", b"carla")),
                )
                maker.put(b"document %04d" % number, document % (number, *fields, maker.rng.randrange(1000)))
            if first:
                maker.flush()
            else:
                maker.compact()
    maker.put(b"in the log", b"value")
    maker.close()
    return maker.specimen()


def _cleared() -> Specimen:
    """Tables that a record in the log voids: killed before the install that takes them away."""
    maker = _Maker("cleared", durability="full")
    for number in range(6):
        maker.put(b"old%d" % number)
    maker.flush()
    maker.put(b"between", b"1")
    maker.die(lambda call, name: call == "create" and name.endswith(MANIFEST), "before", maker.clear)
    return maker.specimen()


def _torn() -> Specimen:
    """A table and two logs, the second one synced once and then written on, to half a record; killed."""
    maker = _Maker("torn")
    for number in range(5):
        maker.put(b"t%d" % number)
    maker.flush()
    maker.put(b"t1", b"again")
    maker.batch({b"u1": b"1", b"u2": b"2", b"t2": None})
    maker.reopen()
    maker.put(b"t3", b"synced")
    maker.db.sync()
    maker.put(b"t4", b"not synced")
    maker.batch({b"u1": None, b"u3": b"3"})
    maker.delete(b"t0")
    maker.die(lambda call, name: call == "pwrite", "partial", lambda: maker.put(b"u4", b"half of it" * 3))
    maker.states.pop()
    return maker.specimen()


def _unsynced() -> Specimen:
    """No table, and a log that was never synced; killed."""
    maker = _Maker("unsynced")
    for number in range(5):
        maker.put(b"n%d" % number)
    maker.batch({b"n0": None, b"n1": b"", b"": b"e"})
    maker.delete(b"n2")
    return maker.specimen()


def _cut_off() -> Specimen:
    """An install of which half a manifest is there, beside the old one, new tables and the logs; killed."""
    maker = _Maker("cut off", durability="full")
    for number in range(6):
        maker.put(b"c%d" % number)
    maker.flush()
    maker.put(b"c1", b"again")
    maker.delete(b"c2")
    maker.die(lambda call, name: call == "pwrite" and name.endswith(MANIFEST), "partial", maker.flush)
    return maker.specimen()


def at_random(name: str) -> Specimen:
    """Return a database of a few random writes, closed or killed."""
    rng = random.Random(name)
    maker = _Maker(
        name,
        compression=rng.choice((None, "zstd")),
        block_bytes=rng.choice((16, 64, 300)),
        bloom_bits_per_key=rng.choice((0, 4, 12)),
        durability=rng.choice(("process", "process", "full")),
    )
    steps = {"put": 30, "delete": 8, "batch": 8, "clear": 1, "flush": 3, "compact": 1, "sync": 3, "reopen": 3}
    for step in rng.choices(list(steps), list(steps.values()), k=rng.randrange(5, 30)):
        key = b"%c%d" % (rng.choice(b"abc"), rng.randrange(9))
        if step == "put":
            maker.put(key, rng.choice((None, b"", b"v" * rng.randrange(60), rng.randbytes(9))))
        elif step == "delete" and maker.state:
            maker.delete(rng.choice(sorted(maker.state)))
        elif step == "batch":
            maker.batch({b"%d" % rng.randrange(30): rng.choice((None, b"%d" % n)) for n in range(5)})
        elif step == "sync":
            maker.db.sync()
        elif step in ("clear", "flush", "compact", "reopen"):
            getattr(maker, step)()
    if rng.random() < 0.5:
        maker.close()
    return maker.specimen()


def _gap() -> Specimen:
    """Two logs, the first of which lost its records with the power: the second counts for nothing."""
    maker = _Maker("gap")
    maker.put(b"g1", b"lost with the power")
    maker.db._store._wal.rotate()
    maker.put(b"g2", b"lost with it")
    specimen = maker.specimen()
    first = file_name(numbers(list(specimen.files), WAL)[0], WAL)
    files = {**specimen.files, first: specimen.files[first][:HEADER_BYTES]}
    return Specimen("gap", files, specimen.states[:1])


def _unborn() -> Specimen:
    """A creation cut off in its manifest."""
    maker = _Maker("unborn")
    files = maker.specimen().files
    return Specimen("unborn", {name: data[:50] for name, data in files.items()}, [(0, {})])


def _odd() -> Specimen:
    """Empty keys and values, keys of 64 KiB, a large value; in tables and in the log."""
    maker = _Maker("odd", block_bytes=4096)
    for is_flushed in (True, False):
        maker.put(b"", b"")
        maker.put(b"\0", b"\0")
        maker.put(b"\xff" * 65536, b"under the largest key of all")
        maker.put(b"large", maker.rng.randbytes(20_000))
        maker.batch({b"e%d" % number: b"" for number in range(5)})
        if is_flushed:
            maker.flush()
    maker.close()
    return maker.specimen()


def _empty() -> Specimen:
    """Nothing: created and closed."""
    maker = _Maker("empty")
    maker.close()
    return maker.specimen()


MAKERS = (_levels, _compressed, _dictionary, _cleared, _torn, _unsynced, _cut_off)
MORE = (_gap, _unborn, _odd, _empty)


@lru_cache(maxsize=1)
def specimens() -> tuple[Specimen, ...]:
    """Return the specimens of which every byte is worth a look."""
    return tuple(make() for make in MAKERS)


def all_specimens() -> tuple[Specimen, ...]:
    """Return those, and others that show one thing each."""
    return (*specimens(), *(make() for make in MORE))
