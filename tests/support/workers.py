"""Databases with a worker that has enough to do.

Thread safety: none.
"""

from __future__ import annotations

import random
from typing import Any, cast

import lsmdbm
from lsmdbm._base.process import Process
from lsmdbm._engine import delegate
from lsmdbm._engine.background import Job

OPTIONS: dict[str, Any] = {"background": "process", "memtable_bytes": 32 << 10, "compression": None}


def fill(db: lsmdbm.Database, rng: random.Random, count: int, prefix: bytes = b"") -> dict[bytes, bytes]:
    """Put so many entries; return them."""
    entries = {prefix + b"%012d" % rng.randrange(10**12): rng.randbytes(80) for _ in range(count)}
    for key, value in entries.items():
        db[key] = value
    return entries


def process_of(db: lsmdbm.Database) -> Process | None:
    """Return the worker, None if there is none now."""
    found = db._store._tree.background._delegate
    return None if found is None else found._process


def begin_compaction(db: lsmdbm.Database) -> Job:
    """Have everything compacted, and go on as soon as that is asked for."""
    db.flush()
    background = db._store._tree.background
    background.start_compaction_of_everything()
    job = cast(Job, background.compacting)
    background.work(job, 1, waits=False)
    return job


def stop_in_the_middle(path: str) -> tuple[int, int]:
    """Begin a compaction, and stop when the worker has told of progress; return its number, and len()."""
    delegate.WORTH_BYTES = 1
    db = KEPT[path] = lsmdbm.open(path, "c", **OPTIONS)
    fill(db, random.Random(1), 3000)
    job = begin_compaction(db)
    db._store._tree.background.work(job, 1)
    process = cast(Process, process_of(db))
    return process.pid, len(db)


KEPT: dict[str, lsmdbm.Database] = {}
