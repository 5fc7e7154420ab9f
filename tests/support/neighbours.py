"""Processes that share a database with others: a writer that counts, readers that check it, contenders.

The writer's steps are numbered; step n puts n under the key `n % KEYS`.  So the content tells which steps
are in it, and it is a prefix if and only if it is `content(n)` for its largest value n.

Thread safety: none.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
from typing import Any

import lsmdbm
from support.layers import TINY

KEYS = 50
OPTIONS: dict[str, Any] = {**TINY, "memtable_bytes": 2048}


def content(count: int) -> dict[bytes, bytes]:
    """Return what a database holds after so many steps."""
    last = range(max(0, count - KEYS), count)
    return {b"%03d" % (number % KEYS): b"%d" % number for number in last}


def steps_in(found: dict[bytes, bytes]) -> int:
    """Return how many steps a content holds; raise if it is not the content after any number of them."""
    count = 1 + max(map(int, found.values()), default=-1)
    if found != content(count):
        raise AssertionError(f"no prefix: {len(found)} entries, {count} steps")
    return count


def report(text: str) -> None:
    """Write one line at once, without any buffer."""
    os.write(1, text.encode() + b"\n")


def count_up(path: str, seed: int) -> None:
    """Go on with the steps until killed, flushing and compacting now and then; report every tenth."""
    rng = random.Random(seed)
    with lsmdbm.open(path, "c", log_io=rng.choice(("pwrite", "auto")), **OPTIONS) as db:
        number = steps_in(dict(db))
        while True:
            db[b"%03d" % (number % KEYS)] = b"%d" % number
            number += 1
            chance = rng.random()
            if chance < 0.01:
                db.compact()
            elif chance < 0.03:
                db.flush()
            if number % 10 == 0:
                report(str(number))


def read(path: str, count: int, least: int) -> int:
    """Open the database for reading so many times, look, refresh, and look again; return the last step seen.

    What is seen is a prefix, the same until the next refresh, and never falls behind what was seen before,
    nor behind `least`.
    """
    seen = least
    for _ in range(count):
        with lsmdbm.open(path, "r", **OPTIONS) as db:
            for is_fresh in (True, False, True, False):
                if is_fresh:
                    db.refresh()
                found = dict(db)
                now = steps_in(found)
                if now < seen or (not is_fresh and now != seen) or len(db) != len(found):
                    raise AssertionError(f"{now} steps after {seen}")
                seen = now
                number = seen - 1
                if seen and db.get(b"%03d" % (number % KEYS)) != b"%d" % number:
                    raise AssertionError(f"step {number} is not there")
    return seen


_held: list[lsmdbm.Database] = []


def contend(path: str, mark: str) -> str:
    """Try to get the writer lock at once; on success write, and hold it.  Return "won" or "lost"."""
    try:
        db = lsmdbm.open(path, "c", timeout=0, **OPTIONS)
    except lsmdbm.LockedError:
        return "lost"
    db[mark] = mark
    _held.append(db)
    return "won"


def release() -> None:
    """Close what `contend` has opened."""
    _held.pop().close()


def put_and_sync(key: str, value: str) -> None:
    """Write to the database that `contend` has opened, and sync."""
    _held[-1][key] = value
    _held[-1].sync()


def look_where_nothing_can_be_written(path: str) -> list[Any]:
    """Mount the directory read-only over itself, in a name space of mounts of this process alone.

    Returns the entries that a reader sees, and the error that a writer gets; nothing if it cannot be mounted.
    """
    for arguments in (["--bind", path, path], ["-o", "remount,ro,bind", path]):
        if subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode:
            return []
    with lsmdbm.open(path, "r", **OPTIONS) as db:
        seen = steps_in(dict(db))
        db.refresh()
        seen = min(seen, steps_in(dict(db)))
    refusals = []
    for flag in "wcn":
        try:
            lsmdbm.open(path, flag, timeout=0, **OPTIONS).close()
        except lsmdbm.error as exc:
            refusals.append(errno.errorcode[exc.errno])
    return [seen, refusals]
