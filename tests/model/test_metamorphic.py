"""One list of operations, many configurations: every operation gives the same, whatever the options are.

Between the operations a configuration flushes, compacts, closes and opens again, is killed, lets time pass;
where, follows from the number of the operation, so that a list that is cut down meets the same.  What each
operation must give is what the model gives.  A failure is reduced before it is shown.
"""

import itertools
import random
from typing import Any, NamedTuple

import pytest

from lsmdbm._engine import mapped, tree, view
from lsmdbm._engine.memtable import Memtable
from lsmdbm._format import table_reader
from lsmdbm.database import open_on
from support.budgets import Budget
from support.crash_storage import CrashStorage
from support.hands import hired
from support.model import Model
from support.workload import POLICIES

PATH = "/db"
FIGURES = {"small": 3000, "default": 12_000, "crash": 2_240_000, "long": 100_000_000}
LENGTHS = {"small": 500, "default": 2000, "crash": 7000, "long": 10_000}
CONFIGURATIONS = {"small": 3, "default": 3, "crash": 8, "long": 8}

WEIGHTS = {
    **{"put": 40, "delete": 8, "pop": 4, "popitem": 2, "setdefault": 4, "update": 4, "clear": 0.3},
    **{"batch": 4, "snapshot": 1, "delete range": 1},
    **{"get": 15, "range": 4, "edges": 3, "neighbours": 4, "length": 2, "everything": 0.3, "meanwhile": 1},
}
EVENTS = ("flush", "compact", "reopen", "kill", "sync", "wait")


@pytest.fixture(autouse=True, scope="module")
def small_mapped_logs():
    """Logs that are mapped are rotated every few writes at first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "FIRST_LOG_BYTES", 256)
        yield


@pytest.fixture(autouse=True, scope="module")
def hands():
    """Compactions of background="process" are done by somebody else."""
    with hired():
        yield


class Operation(NamedTuple):
    number: int
    what: str
    key: bytes
    value: Any


class Configuration(NamedTuple):
    """Options, and how often something happens between two operations."""

    name: str
    options: dict[str, Any]
    odds: float


def configuration(name: str) -> Configuration:
    rng = random.Random(name)
    options = {
        "memtable_bytes": rng.choice((1, 300, 2000, 20_000, 1 << 23)),
        "block_bytes": rng.choice((1, 64, 1000, 4096)),
        "cache_bytes": rng.choice((0, 600, 1 << 20)),
        "max_open_files": rng.choice((1, 3, 256)),
        "compression": rng.choice(("zstd", None)),
        "dictionaries": rng.random() < 0.5,
        "bloom_bits_per_key": rng.choice((0, 1, 12)),
        **rng.choice(POLICIES),
        "background": rng.choice(("inline", "process", "manual")),
        "durability": rng.choice(("none", "process", "interval", "full")),
        "log_io": rng.choice(("pwrite", "mmap", "auto")),
        "log_keep_bytes": rng.choice((0, 1, 1 << 18)),
    }
    return Configuration(name, options, rng.choice((0.0, 0.002, 0.02)))


def operations(rng: random.Random, count: int) -> list[Operation]:
    """Return random operations on few keys, so that they meet."""
    spread = rng.choice((10, 60, 400))
    made = []
    for number, what in enumerate(rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)):
        key = (
            b"%03d" % rng.randrange(spread) if rng.random() < 0.98 else rng.choice((b"", b"\0", b"\xff" * 9))
        )
        value: Any = b"%d " % number * rng.choice((0, 1, 3, 20))
        if what in ("update", "batch", "snapshot"):
            value = [(b"%03d" % rng.randrange(spread), b"%d" % number) for _ in range(rng.choice((0, 3, 40)))]
        elif what == "delete range":
            value = rng.choice((None, key + b"\0", b"%03d" % rng.randrange(spread), key[:2] + b"\xff", b""))
        elif what in ("range", "meanwhile"):
            stop = rng.choice((None, b"%03d" % rng.randrange(spread)))
            value = rng.choice((key, None)), stop, rng.random() < 0.5
        if what in ("batch", "snapshot"):
            value = [(each, rng.choice((None, data))) for each, data in value]
        made.append(Operation(number, what, key, value))
    return made


def key_error(call):
    try:
        return call()
    except KeyError:
        return KeyError


def write_together(db, pairs):
    with db.batch() as batch:
        for key, value in pairs:
            if value is None:
                del batch[key]
            else:
                batch[key] = value


def of_database(db, operation):
    """Do one operation; return what it gives."""
    _, what, key, value = operation
    if what == "put":
        db[key] = value
    elif what == "delete":
        return key_error(lambda: db.__delitem__(key))
    elif what == "pop":
        return db.pop(key, b"default")
    elif what == "popitem":
        return key_error(db.popitem)
    elif what == "setdefault":
        return db.setdefault(key, value)
    elif what == "update":
        db.update(value)
    elif what == "delete range":
        db.delete_range(key, value)
    elif what == "batch":
        write_together(db, value)
    elif what == "snapshot":  # it goes on saying what was so
        with db.snapshot() as snapshot:
            write_together(db, value)
            return list(snapshot.items()), len(snapshot), snapshot.get(key), snapshot.last()
    elif what == "clear":
        db.clear()
    elif what == "get":
        return db.get(key), key in db
    elif what == "range":
        start, stop, reverse = value
        return list(itertools.islice(db.range(start, stop, reverse=reverse).items(), 30))
    elif what == "edges":
        return db.firstkey(), db.lastkey(), bool(db)
    elif what == "neighbours":
        return db.nextkey(key), db.prevkey(key)
    elif what == "length":
        return len(db)
    elif what == "everything":
        return list(db.items()), db.keys()
    elif what == "meanwhile":  # an iterator goes on reading the state of its begin
        start, stop, reverse = value
        pairs = iter(db.range(start, stop, reverse=reverse).items())
        found = list(itertools.islice(pairs, 3))
        db[key] = b"meanwhile"
        return found + list(pairs)
    return None


def of_model(model, operation):
    """Do one operation to the model; return what it gives."""
    _, what, key, value = operation
    if what == "put":
        model.put(key, value)
    elif what == "delete":
        return None if model.delete(key) else KeyError
    elif what == "pop":
        found = model.get(key)
        model.delete(key)
        return b"default" if found is None else found
    elif what == "popitem":
        found = model.first()
        if found is None:
            return KeyError
        model.delete(found[0])
        return found
    elif what == "setdefault":
        if key not in model:
            model.put(key, value)
        return model.get(key)
    elif what == "delete range":
        model.delete_range(key, value)
    elif what in ("update", "batch"):
        model.update(value)
    elif what == "snapshot":
        before = model.range(), len(model), model.get(key), model.last()
        model.update(value)
        return before
    elif what == "clear":
        model.clear()
    elif what == "get":
        return model.get(key), key in model
    elif what == "range":
        start, stop, reverse = value
        return model.range(start, stop, reverse=reverse)[:30]
    elif what == "edges":
        first, last = model.first(), model.last()
        return first and first[0], last and last[0], len(model) > 0
    elif what == "neighbours":
        keys = model.keys()
        above = next((each for each in keys if each > key), None)
        return above, next((each for each in reversed(keys) if each < key), None)
    elif what == "length":
        return len(model)
    elif what == "everything":
        return model.range(), model.keys()
    elif what == "meanwhile":
        start, stop, reverse = value
        found = model.range(start, stop, reverse=reverse)
        model.put(key, b"meanwhile")
        return found
    return None


class Run:
    """One database under one configuration."""

    def __init__(self, chosen):
        self.chosen = chosen
        self.storage = CrashStorage(chosen.name)
        self.db = self.opened()

    def opened(self):
        return open_on(self.storage, PATH, "c", 0o666, self.chosen.options)

    def happen(self, number):
        """Do what this configuration does before the operation of this number."""
        rng = random.Random(f"{self.chosen.name} {number}")
        if rng.random() >= self.chosen.odds:
            return
        event = rng.choice(EVENTS)
        if event == "wait":
            self.storage.advance(2.0)
        elif event == "reopen":
            self.db.close()
            self.db = self.opened()
        elif event == "kill":
            if self.chosen.options["durability"] == "none":
                self.db.sync()
            survivor = self.storage.crash("kill")
            self.db.close()
            self.storage = survivor
            self.db = self.opened()
        else:
            getattr(self.db, event)()

    def give(self, made):
        """Return what each operation gives, up to the first exception, which is given too."""
        try:
            for operation in made:
                self.happen(operation.number)
                yield of_database(self.db, operation)
            yield dict(self.db.items())
        except Exception as exc:
            yield exc
        finally:
            self.db.close()


def expected(made):
    model = Model()
    return [*(of_model(model, operation) for operation in made), dict(model.entries)]


def difference(made, chosen, wanted=None):
    """Return what is given and should not be, None if all is as it should be."""
    run = Run(chosen).give(made)
    try:
        for place, (right, found) in enumerate(zip(wanted or expected(made), run, strict=False)):
            if right != found:
                at = made[place] if place < len(made) else "the end"
                return f"{at}: {found!r:.300}, not {right!r:.300}"
    finally:
        run.close()
    return None


def reduced(made, chosen):
    """Return a list that still fails and of which no part can be left out: delta debugging."""
    parts = 2
    while len(made) > 1:
        size = -(-len(made) // parts)
        for low in range(0, len(made), size):
            fewer = made[:low] + made[low + size :]
            if difference(fewer, chosen) is not None:
                made, parts = fewer, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(made), 2 * parts)
    return made


def compared(case, length, count, reach):
    """Run one list under so many configurations.

    Raises:
        AssertionError: with the reduced list.
    """
    made = operations(random.Random(case), length)
    wanted = expected(made)
    for number in range(count):
        chosen = configuration(f"{case} {number}")
        if difference(made, chosen, wanted) is not None:
            fewest = reduced(made, chosen)
            lines = "\n".join(map(repr, fewest))
            raise AssertionError(f"{chosen}\n{lines}\n{difference(fewest, chosen)}")
        reach.count(number=length)
        reach.count("configurations")


def test_every_configuration_gives_the_same_history(budget):
    with Budget("T2b", **FIGURES, unit="operations") as reach:
        for case in reach:
            compared(case, LENGTHS[budget], CONFIGURATIONS[budget], reach)
            reach.count("lists")


# -- what the comparison must find ------------------------------------------------------------------


def folded_wrong(self, older):
    newest = memtable_fold(older, self) if len(self) > 5 else memtable_fold(self, older)
    newest.first_seq, newest.last_seq = older.first_seq, self.last_seq
    return newest


memtable_fold = Memtable.fold
FAULTS = {  # what is broken: where it is, and what comes in its place
    "tombstones are shown as nothing below them": (view, "visible", lambda chunks: chunks),
    "older memtables win": (Memtable, "fold", folded_wrong),
    "a clear is not applied": (tree.Tree, "forget_everything", lambda self: None),
    "the first block of a range is left out": (table_reader, "bisect_left", lambda keys, key, *_: len(keys)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_reduced(monkeypatch, fault, seed):
    owner, name, broken = FAULTS[fault]
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError) as caught, Budget("T2b", **FIGURES, part="faults") as reach:
        for number in range(100):
            compared(f"{seed} {fault} {number}", 600, 3, reach)
    found = str(caught.value).splitlines()
    print(f"{fault}: {len(found) - 2} operations, {found[-1]:.100}")

    assert len(found) < 200  # of 600; how many it takes to fill a table is up to the configuration
