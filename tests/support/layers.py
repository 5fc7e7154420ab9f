"""Databases in every shape there is: entries in memory, in level 0, in deeper levels, and in all of them.

A shape is filled through the interface alone, and the model with it.

Thread safety: none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import lsmdbm
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage
from support.model import Model

Fill = Callable[[lsmdbm.Database, Model, random.Random], None]

PATH = "/db"
KEYS = [b"key%03d" % number for number in range(0, 600, 3)]
TINY: dict[str, Any] = {"memtable_bytes": 1024, "block_bytes": 64, "cache_bytes": 4096}


def write(
    db: lsmdbm.Database,
    model: Model,
    rng: random.Random,
    count: int,
    *,
    deletes: float = 0.3,
    value_bytes: int = 60,
) -> None:
    """Overwrite or delete `count` of KEYS."""
    for key in rng.sample(KEYS, count):
        if rng.random() < deletes and key in model:
            del db[key]
            model.delete(key)
        else:
            value = rng.randbytes(rng.randrange(value_bytes))
            db[key] = value
            model.put(key, value)


def seal(db: lsmdbm.Database) -> None:
    """Seal the active memtable: any iteration does."""
    next(iter(db), None)


def _in_memory(db: lsmdbm.Database, model: Model, rng: random.Random) -> None:
    write(db, model, rng, len(KEYS), deletes=0)
    write(db, model, rng, 100)


def _in_sealed_memtables(db: lsmdbm.Database, model: Model, rng: random.Random) -> None:
    write(db, model, rng, len(KEYS), deletes=0)
    for count in (80, 30, 10, 4, 1):  # each too small to be folded into the one before
        seal(db)
        write(db, model, rng, count)


def _in_level_0(db: lsmdbm.Database, model: Model, rng: random.Random) -> None:
    write(db, model, rng, len(KEYS), deletes=0)
    for count in (100, 50, 5):
        db.flush()
        write(db, model, rng, count)
    db.flush()


def _in_one_level(db: lsmdbm.Database, model: Model, rng: random.Random) -> None:
    write(db, model, rng, len(KEYS), deletes=0)
    write(db, model, rng, 50)
    db.compact()


def _deep(db: lsmdbm.Database, model: Model, rng: random.Random) -> None:
    for _ in range(8):
        write(db, model, rng, len(KEYS), deletes=0.1)
    while not db.stats().levels[1].tables:  # a compaction has just taken them all down
        write(db, model, rng, 20)


def _everywhere(db: lsmdbm.Database, model: Model, rng: random.Random) -> None:
    for count in (100, 40):
        write(db, model, rng, count)
        db.flush()
    for key in (*KEYS[:4], *KEYS[-4:]):  # tombstones at both ends
        db.pop(key, None)
        model.delete(key)
    for count in (40, 10, 1):
        write(db, model, rng, count)
        if count > 1:
            seal(db)


class Shape(NamedTuple):
    """How to fill a database, and what is then so of its tables by level and its memtables."""

    fill: Fill
    holds: Callable[[list[int], int], bool]
    below: Fill | None = None  # filled before, with background work


SHAPES = {
    "in_memory": Shape(_in_memory, lambda tables, memtables: not tables and memtables > 0),
    "in_sealed_memtables": Shape(
        _in_sealed_memtables, lambda tables, memtables: not tables and memtables > 3
    ),
    "in_level_0": Shape(_in_level_0, lambda tables, memtables: len(tables) == 1 and tables[0] > 3),
    "in_one_level": Shape(_in_one_level, lambda tables, memtables: not any(tables[:-1]) and tables[-1] > 3),
    "everywhere": Shape(
        _everywhere,
        # Of level 1 a compaction leaves but one table now and then.
        lambda tables, memtables: len(tables) > 2 and all(tables) and min(tables[0], memtables) > 1,
        below=_deep,
    ),
}


@contextmanager
def shaped(name: str, rng: random.Random) -> Iterator[tuple[lsmdbm.Database, Model]]:
    """Open a database of one shape in memory, with the model of what it holds."""
    shape, model, storage = SHAPES[name], Model(), CrashStorage()
    with open_on(storage, PATH, "c", 0o666, TINY) as db:
        if shape.below is not None:
            shape.below(db, model, rng)
    with open_on(storage, PATH, "w", 0o666, {**TINY, "background": "manual"}) as db:
        shape.fill(db, model, rng)
        check(db, shape)
        yield db, model


def check(db: lsmdbm.Database, shape: Shape) -> None:
    """Raise if the database is not of that shape: then the tests that use it show nothing."""
    stats = db.stats()
    tables = [level.tables for level in stats.levels]
    if not shape.holds(tables, stats.memtables):
        raise AssertionError(f"{tables} tables by level and {stats.memtables} memtables: not of this shape")
