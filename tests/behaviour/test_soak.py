"""T13: everything, over and over: descriptors, threads, files and memory stay flat."""

import gc
import itertools
import os
import random
import shutil
import threading
import tracemalloc

import pytest

import lsmdbm
from lsmdbm._engine import sharing
from support.budgets import Budget
from support.layers import TINY
from support.quiet import descriptors

pytestmark = [
    pytest.mark.usefixtures("no_syncs"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # one handle a cycle is forgotten
]

CYCLES = {"small": 12, "default": 40, "crash": 3000, "long": 100_000}
BETWEEN = 2  # cycles between two measurements, each of which collects all garbage
WARM = 2  # measurements until caches, pools and interned things are there
MOST_LOWS = 64  # measurements that are remembered; then two of them become one
SLACK_BYTES = 48 << 10  # of traced memory, that one measurement may have above another
KEYS = 150


def cycle(path, rng, model):
    """Do everything once; the handle is left to nobody now and then."""
    flag = "n" if rng.random() < 0.1 else "c"
    if flag == "n":
        model.clear()
    level = rng.choice(["none", "process", "interval", "full"])
    db = lsmdbm.open(path, flag, durability=level, **TINY)
    second = lsmdbm.open(path, "w", **TINY)
    iterators = [iter(db.items()), reversed(second), iter(db.range(b"5").values())]
    for iterator in iterators:
        next(iterator, None)
    for _ in range(25):
        key, value = b"%03d" % rng.randrange(KEYS), rng.randbytes(rng.randrange(60))
        db[key] = model[key] = value
        gone = b"%03d" % rng.randrange(KEYS)
        assert model.pop(gone, None) == second.pop(gone, None)
    pairs = {b"%03d" % rng.randrange(KEYS): rng.randbytes(30) for _ in range(20)}
    db.update(pairs)
    model.update(pairs)
    if model:
        first = min(model)
        assert (first, model.pop(first)) == db.popitem()
    rng.choice([db.flush, db.compact, db.sync, db.stats])()
    assert len(model) == len(db)
    assert model == dict(second)
    for wrong in (lambda: db[5], lambda: db.__setitem__("k", None), lambda: db["missing"]):
        with pytest.raises((TypeError, KeyError)):
            wrong()
    with pytest.raises(lsmdbm.error):
        lsmdbm.open(path + "/nothing/here", "c")
    threads = [threading.Thread(target=db.get, args=(b"001",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.close()
    if rng.random() < 0.2:
        del iterators, iterator
        del db  # forgotten
    else:
        db.close()
    with lsmdbm.open(path, "r") as reader:
        assert model == dict(reader)
        assert len(model) == len(reader)


def measure(path):
    gc.collect()
    return {
        "descriptors": len(descriptors(path)),
        "threads": threading.active_count(),
        "registered": len(sharing._registry) + len(sharing._alive),
        "files": len(os.listdir(path)),
        "bytes": tracemalloc.get_traced_memory()[0],
    }


def soak(path, seed, counts, leak=lambda: None):
    """Measure now and then, and compare what comes later with what was before."""
    rng, model = random.Random(seed), {}
    tracemalloc.start()
    try:
        cycle(path, rng, model)
        others = measure(path)["registered"]  # of other tests
        found, lows = {"descriptors": set(), "threads": set(), "registered": set(), "files": set()}, []
        for number, _ in enumerate(counts):
            cycle(path, rng, model)
            if number % BETWEEN == 0:
                leak()
                now = measure(path)
                for what, seen in found.items():
                    seen.add(now[what])
                if number >= WARM * BETWEEN:
                    lows.append(now["bytes"])
                if len(lows) == MOST_LOWS:  # what is remembered here is traced memory too
                    lows = list(map(min, lows[::2], lows[1::2]))
    finally:
        tracemalloc.stop()
    assert {0} == found["descriptors"]
    assert 1 == len(found["threads"])
    assert {others} == found["registered"]
    assert max(found["files"]) < 80
    half = len(lows) // 2
    early = lows[
        half // 2 : half
    ]  # before, Structs of all the sizes that there are find their way into a cache
    assert min(lows[half:]) - min(early) < SLACK_BYTES


def test_descriptors_threads_files_and_memory_stay_flat(path):
    with Budget("T13", unit="cycles", **CYCLES) as reach:
        for case in reach:
            shutil.rmtree(path, ignore_errors=True)

            def counted():
                while not reach.is_over():
                    yield reach.count()

            soak(path, case, counted())


@pytest.mark.parametrize("kept", ["handles", "memory"])
def test_what_grows_is_noticed(path, seed, kept):
    """The planted faults."""
    grown = []

    def leak():
        grown.append(bytearray(40 << 10) if kept == "memory" else lsmdbm.open(path, "r"))

    try:
        with pytest.raises(AssertionError):
            soak(path, f"{seed} planted", itertools.repeat(None, 10 * BETWEEN), leak)
    finally:
        for each in grown:
            if kept == "handles":
                each.close()
