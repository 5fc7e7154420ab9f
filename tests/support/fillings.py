"""A program that fills a cache until it is killed, by steps that follow from a seed and their number.

    child.start("run", "fillings:fill", path, seed, options)
    child.line()            "1", "2", ...: how many steps have returned

Rules
  1. A step is acknowledged when its call has returned, by one write of a line to a pipe.

Thread safety: none.
"""

from __future__ import annotations

import os
import random
from typing import Any

KEYS = 300


def step(seed: int, number: int) -> tuple[int, bytes | None]:
    """Return the key of a step, and the value it sets, None if it deletes the key."""
    rng = random.Random(seed * 1_000_003 + number)
    key = rng.randrange(KEYS)
    return key, None if rng.random() < 0.2 else b"%d " % number + rng.randbytes(6000)


def fill(path: str, seed: int, options: dict[str, Any]) -> None:
    """Do steps, from number 1 on, until somebody ends this process; reads in between keep some entries."""
    from lsmdbm.cache import Cache

    cache = Cache(path, **options)
    number = 0
    while True:
        number += 1
        key, value = step(seed, number)
        if value is None:
            cache.delete(key)
        else:
            cache[key] = value
        cache.get(number % 10)
        os.write(1, b"%d\n" % number)
