"""SIGKILL while a cache is filled past its bound: what is found was written last, or nothing is."""

import os
import random

import pytest

from lsmdbm.cache import Cache
from support.budgets import Budget
from support.child import Child
from support.fillings import fill, step

OPTIONS = {"max_bytes": 1 << 20}
ROLE = f"fillings:{fill.__name__}"
RECENT = 20  # steps whose entries no bound throws away


def last_words(seed, count):
    """Return what each key was given last by so many steps: None if it was deleted."""
    return dict(step(seed, number) for number in range(1, count + 1))


def wrongs(found, words):
    return [key for key, value in found.items() if words.get(key) != value]


def test_last_word_of_each_key_or_none(path, tmp_path, seed):
    with Budget("CACHEKILLS", small=1, default=4, crash=20, long=200, unit="kills") as reach:
        for case in reach:
            rng, place = random.Random(case), f"{path}{case}"
            number = rng.randrange(1 << 20)
            with Child(tmp_path) as child:
                child.start("run", ROLE, place, number, OPTIONS)
                for _ in range(rng.randrange(50, 400)):
                    acknowledged = int(child.line())
                child.die()  # wherever it is by now
                acknowledged = max([acknowledged, *map(int, child.lines())])
            with Cache(place, **OPTIONS) as cache:
                found = dict(cache.items())
                cache["one more"] = 1
            size = sum(entry.stat().st_size for entry in os.scandir(place))
            words = last_words(number, acknowledged)
            more = words | last_words(number, acknowledged + 1)  # which may have come to the disk
            recent = dict(
                step(number, each) for each in range(max(1, acknowledged - RECENT), acknowledged + 1)
            )

            assert [] == wrongs(found, words) or [] == wrongs(found, more), f"seed {number}"
            assert {key for key in recent if words[key] is not None} <= {
                *found,
                step(number, acknowledged + 1)[0],
            }
            assert size <= OPTIONS["max_bytes"]


@pytest.mark.parametrize("value", ["10", "12"])
def test_an_older_word_would_be_found(value):
    words = {1: "11", 2: None}

    assert [] == wrongs({1: "11"}, words)
    assert [2] == wrongs({2: "10"}, words)
    assert [1] == wrongs({1: value}, words)
