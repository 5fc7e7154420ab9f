"""Work with few descriptors, or none; run in a process of its own, which cannot get them back.

Thread safety: none.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from typing import Any

import lsmdbm
from support.layers import TINY


def work_with_few_descriptors(path: str, limit: int) -> list[int]:
    """Make more tables than there are descriptors; read, change, count, merge; return tables and entries."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    expected = {b"%05d" % number: b"%d" % number * 20 for number in range(1600)}
    with lsmdbm.open(path, "c", **TINY, compression=None) as db:
        db.update(expected)
        for key in [*expected][::7]:
            db[key] = expected[key] = b"changed"
        _compare(db, expected)
    with lsmdbm.open(path, "w", **TINY) as db:
        db.compact()
        tables = db.stats().tables
        _compare(db, expected)
        for key in [*expected][::7]:
            db[key] = expected[key] = b"changed again"
        _compare(db, expected)
    return [tables, len(expected)]


def _compare(db: lsmdbm.Database, expected: dict[bytes, bytes]) -> None:
    for found in (dict(db), dict(db.items()), dict(db.range(reverse=True).items())):
        if found != expected or len(db) != len(expected):
            raise AssertionError(f"{len(found)} entries")


def work_without_descriptors(path: str) -> dict[str, Any]:
    """Do everything while no descriptor is left; return the errors, and the keys that are there then."""
    with lsmdbm.open(path, "c", **TINY, max_open_files=1, background="manual") as db:
        for number in range(100):
            db[f"{number:03d}"] = "v" * 50
            if number % 10 == 0:
                db.flush()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        taken = []
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        errors = []
        calls: list[Callable[[], Any]] = [
            lambda: [db[f"{number:03d}"] for number in range(100)],
            lambda: list(db.items()),
            lambda: db.flush(),
            lambda: db.compact(),
            lambda: db.__setitem__("refused", "1"),  # into a new log, since the flush ended the old one
            lambda: lsmdbm.open(path + "-other", "c"),
            lambda: lsmdbm.open(path + "-other", "r"),
        ]
        for call in calls:
            try:
                call()
            except lsmdbm.error as exc:
                is_told = "64 is the limit" in str(exc) and "ulimit -n" in str(exc)
                errors.append(errno.errorcode.get(exc.errno or 0, "") if is_told else repr(exc))
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        db["later"] = "1"
        db.compact()
        return {"errors": errors, "keys": [key.decode() for key in db]}
