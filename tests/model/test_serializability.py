"""Transactions that committed did what they would have done one after the other, in that order.

Several are open at a time, on one small database that flushes and compacts all the while.  Each notes what it
asked and what it was answered.  Those that commit are replayed, alone, on a dict: every answer, and the end,
must be the same.  One that wrote nothing is replayed at the moment of its begin.
"""

import itertools
import random
import threading

import pytest

import lsmdbm
from lsmdbm._engine import validation, writer
from lsmdbm.database import open_on
from support.budgets import Budget
from support.crash_storage import CrashStorage
from support.layers import PATH
from support.model import Model
from support.threads import in_threads

FIGURES = {"small": 500, "default": 5000, "crash": 100_000, "long": 1_000_000}
SCHEDULES = 200  # transactions on one database
KEYS = [b"%02d" % number for number in range(24)]
OPTIONS = {"memtable_bytes": 512, "block_bytes": 64, "cache_bytes": 4096}


def drawn(rng):
    """Return a step of a transaction: a name, and arguments."""
    key, (low, high) = rng.choice(KEYS), sorted(rng.sample(KEYS, 2))
    return rng.choice(
        [
            ("get", key),
            ("get", key),
            ("put", key, b"%d" % rng.randrange(100)),
            ("put", key, b"%d" % rng.randrange(100)),
            ("copy", key, rng.choice(KEYS)),
            ("pop", key),
            ("scan", low, high, rng.random() < 0.5, rng.randrange(1, 6)),
            ("keys", low, high, rng.random() < 0.5, rng.randrange(1, 6)),
            ("first", low, high, rng.random() < 0.5),
            ("length", low, high),
            ("taken back", key, rng.choice(KEYS)),
            *([("all",), ("popitem",), ("delete_range", low, high)] if rng.random() < 0.2 else []),
        ]
    )


def on_transaction(tx, step):
    """Do a step; return what is answered."""
    name, *args = step
    if name == "get":
        return tx.get(*args)
    if name == "put":
        tx[args[0]] = args[1]
    elif name == "copy":
        tx[args[1]] = tx.get(args[0], b"none")
    elif name == "pop":
        return tx.pop(args[0], None)
    elif name == "scan":
        return [*itertools.islice(tx.range(*args[:2], reverse=args[2]).items(), args[3])]
    elif name == "keys":
        return [*itertools.islice(tx.range(*args[:2], reverse=args[2]), args[3])]
    elif name == "first":
        return tx.range(*args[:2], reverse=args[2]).first()
    elif name == "length":
        return len(tx.range(*args))
    elif name == "all":
        return [*tx.items()], len(tx)
    elif name == "popitem":
        return tx.popitem() if tx else None
    elif name == "delete_range":
        tx.delete_range(*args)
    else:
        point = tx.savepoint()
        seen = tx.get(args[0])
        tx[args[1]] = b"gone"
        point.rollback()
        return seen
    return None


def on_model(model, step):
    """Do the same to a dict."""
    name, *args = step
    if name in ("get", "taken back"):
        return model.get(args[0])
    if name == "put":
        model.put(*args)
    elif name == "copy":
        model.put(args[1], b"none" if model.get(args[0]) is None else model.get(args[0]))
    elif name == "pop":
        found = model.get(args[0])
        model.delete(args[0])
        return found
    elif name == "scan":
        return model.range(*args[:2], reverse=args[2])[: args[3]]
    elif name == "keys":
        return [key for key, _ in model.range(*args[:2], reverse=args[2])][: args[3]]
    elif name == "first":
        return next(iter(model.range(*args[:2], reverse=args[2])), None)
    elif name == "length":
        return len(model.range(*args))
    elif name == "all":
        return model.range(), len(model)
    elif name == "popitem":
        found = model.first()
        if found is not None:
            model.delete(found[0])
        return found
    elif name == "delete_range":
        model.delete_range(*args)
    return None


class Open:
    """A transaction under way, and what it was answered."""

    def __init__(self, db, moment):
        self.tx = db.transaction()
        self.moment = moment  # commits before its begin
        self.steps = []

    def do(self, step):
        self.steps.append((step, on_transaction(self.tx, step)))

    def changes(self):
        return self.tx._draft.changes()


def replayed(history, model):
    """Replay (moment of begin, steps, wrote) in the order of their commits; raise where an answer differs."""
    states = [model.copy()]
    for moment, steps, wrote in history:
        state = states[-1].copy() if wrote else states[moment].copy()
        for step, answer in steps:
            expected = on_model(state, step)
            assert expected == answer, (step, expected, answer)
        states.append(state if wrote else states[-1])
    return states[-1]


def interleaved(rng, count, reach):
    """Run transactions, several at a time in one thread, in an order that follows from `rng`."""
    with open_on(CrashStorage(), PATH, "c", 0o666, OPTIONS) as db:
        model = Model({key: b"first" for key in KEYS if rng.random() < 0.7})
        db.update(model.entries)
        opened, history, begun = [], [], 0
        while begun < count or opened:
            if begun < count and len(opened) < 5 and rng.random() < 0.3:
                opened.append(Open(db, len(history)))
                begun += 1
            elif opened:
                each = rng.choice(opened)
                if rng.random() > 0.25:
                    each.do(drawn(rng))
                    continue
                opened.remove(each)
                wrote = bool(each.changes())
                reach.count()
                try:
                    each.tx.commit()
                except lsmdbm.ConflictError:
                    reach.count("conflicts")
                else:
                    history.append((each.moment, each.steps, wrote))
            if rng.random() < 0.02:
                rng.choice([db.flush, db.compact])()
            elif rng.random() < 0.02:
                single = ("put", rng.choice(KEYS), b"single")
                db[single[1]] = single[2]
                history.append((len(history), [(single, None)], True))
        assert replayed(history, model).entries == dict(db.items())


def test_interleaved_transactions_are_serializable():
    with Budget("TX", **FIGURES, unit="transactions", share=0.8) as reach:
        for case in reach:
            interleaved(random.Random(case), SCHEDULES, reach)
        assert 0.05 * reach.reached < reach.counts["conflicts"] < 0.95 * reach.reached


@pytest.mark.parametrize(
    "fault",
    [
        lambda footprint, then, now: None,
        lambda footprint, then, now: _conflict(type(footprint)(footprint.keys, []), then, now),
        lambda footprint, then, now: _conflict(type(footprint)(set(), footprint.walked), then, now),
    ],
    ids=["not at all", "no ranges", "no keys"],
)
def test_validation_that_is_switched_off_is_noticed(monkeypatch, fault):
    monkeypatch.setattr(validation, "conflict", fault)
    with pytest.raises(AssertionError), Budget("TX", **FIGURES, part="faults", unit="transactions") as reach:
        for number in range(20):
            interleaved(random.Random(f"{reach.seed} {number}"), SCHEDULES, reach)


_conflict = validation.conflict


class Threads:
    """Transactions from several threads; the order of the commits is noted where they are written."""

    def __init__(self, db, monkeypatch):
        self.db = db
        self.model = Model(dict(db.items()))
        self.order = []  # the threads, as they committed; not by ident, which another one takes over
        batch = writer.Writer.batch

        def noting(engine, keys, values):
            batch(engine, keys, values)  # under the lock of the store
            self.order.append(threading.current_thread())

        monkeypatch.setattr(writer.Writer, "batch", noting)
        self.done = {}
        self.conflicts = 0

    def work(self, rng, count):
        mine = self.done[threading.current_thread()] = []
        for number in range(count):
            tx = self.db.transaction()
            steps = []
            for _ in range(rng.randrange(1, 8)):
                step = drawn(rng)
                steps.append((step, on_transaction(tx, step)))
            step = ("put", b"mine %d" % rng.randrange(3), b"%d" % number)
            steps.append((step, on_transaction(tx, step)))
            try:
                tx.commit()
            except lsmdbm.ConflictError:
                self.conflicts += 1
            else:
                mine.append(steps)

    def check(self):
        state = self.model.copy()
        rest = {thread: iter(each) for thread, each in self.done.items()}
        for thread in self.order:
            for step, answer in next(rest[thread]):
                assert on_model(state, step) == answer, step
        assert [] == [*itertools.chain(*rest.values())]
        assert state.entries == dict(self.db.items())


def test_transactions_of_many_threads_are_serializable(monkeypatch):
    with Budget("TX", **FIGURES, part="threads", unit="transactions", share=0.2) as reach:
        for case in reach:
            rng = random.Random(case)
            with monkeypatch.context() as patch, open_on(CrashStorage(), PATH, "c", 0o666, OPTIONS) as db:
                db.update((key, b"first") for key in KEYS if rng.random() < 0.7)
                threads = Threads(db, patch)
                in_threads(
                    lambda seed, threads=threads: threads.work(random.Random(seed), 25),
                    [rng.random() for _ in range(4)],
                )
                threads.check()
                reach.count(number=100)
                reach.count("conflicts", threads.conflicts)
