"""A handle may be used from any thread.

The order in which threads come is not ours to choose.  What is checked holds in every order.
"""

import random
import sys
import threading

import pytest

import lsmdbm
from lsmdbm._engine import validation
from lsmdbm._engine.store import Store
from lsmdbm.database import open_on
from support.budgets import Budget
from support.crash_storage import CrashStorage
from support.histories import History, NotLinearizable
from support.layers import TINY

pytestmark = pytest.mark.usefixtures("no_syncs")

THREADS = 4


@pytest.fixture(autouse=True)
def _switch_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(params=["all in memory", "tiny"])
def db(request):
    options = TINY if request.param == "tiny" else {}
    with open_on(CrashStorage(), "/db", "c", 0o666, options) as database:
        yield database


@pytest.fixture
def count(budget):
    """How often each thread does what it does."""
    return 100 if budget == "small" else 400


def run(*jobs):
    """Run each job in a thread of its own, all at once; raise what one of them raised."""
    failures = []
    start = threading.Barrier(len(jobs), timeout=60)

    def guarded(job):
        try:
            start.wait()
            job()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def for_each(job):
    """One job for each thread, given its number."""
    return [lambda number=number: job(number) for number in range(THREADS)]


def test_every_put_of_every_thread_is_there(db, count):
    def put(number):
        for step in range(count):
            key = b"%d-%05d" % (number, step)
            db[key] = key * 3
            assert key * 3 == db[key]

    run(*for_each(put))

    keys = sorted(b"%d-%05d" % (number, step) for number in range(THREADS) for step in range(count))
    assert [(key, key * 3) for key in keys] == list(db.items())
    assert len(keys) == len(db)


def test_an_iteration_beside_writers_sees_a_prefix_of_what_each_has_written(db, count):
    done = threading.Event()

    def write(number):
        for step in range(count):
            db[b"%d-%05d" % (number, step)] = b"%d" % step

    def writers():
        try:
            run(*for_each(write))
        finally:
            done.set()

    def read(reverse):
        is_last = False
        while not is_last:
            is_last = done.is_set()
            seen = [*(reversed(db.items()) if reverse else iter(db.items()))]
            if reverse:
                seen.reverse()
            for number in range(THREADS):
                own = [(key, value) for key, value in seen if key.startswith(b"%d-" % number)]
                assert [(b"%d-%05d" % (number, step), b"%d" % step) for step in range(len(own))] == own
            assert sorted(seen) == seen

    run(writers, lambda: read(False), lambda: read(True))
    assert THREADS * count == len(db)


def test_a_batch_is_seen_whole_or_not_at_all(db, count):
    done = threading.Event()

    def write():
        for step in range(count):
            db.update((f"key{number}", str(step)) for number in range(20))
        done.set()

    def read():
        while not done.is_set():
            assert 1 >= len({*db.values()})

    run(write, read, read)
    assert {b"%d" % (count - 1)} == {*db.values()}


def test_each_item_is_popped_by_one_thread(db, count):
    db.update((b"%05d" % number, b"%d" % number) for number in range(count))
    taken = [[] for _ in range(THREADS)]

    def take(number):
        while True:
            try:
                taken[number].append(db.popitem())
            except KeyError:
                return

    run(*for_each(take))

    assert [(b"%05d" % number, b"%d" % number) for number in range(count)] == sorted(sum(taken, []))
    assert all(own == sorted(own) for own in taken)
    assert not db


def test_pop_and_setdefault_have_one_winner_for_each_key(db, count):
    set_by, popped_by = [[] for _ in range(THREADS)], [[] for _ in range(THREADS)]
    together = threading.Barrier(THREADS, timeout=60)

    def contend(number):
        mine = b"%d" % number
        for step in range(count):
            together.wait()
            if mine == db.setdefault(b"%05d" % step, mine):
                set_by[number].append(step)

    def pop(number):
        for step in range(count):
            together.wait()
            if db.pop(b"%05d" % step, None) is not None:
                popped_by[number].append(step)

    run(*for_each(contend))
    assert list(range(count)) == sorted(sum(set_by, []))
    run(*for_each(pop))
    assert list(range(count)) == sorted(sum(popped_by, []))
    assert {} == dict(db)


def test_flush_compact_sync_and_count_may_come_from_any_thread(db, count, seed):
    def care(number):
        rng = random.Random(f"{seed} {number}")
        for _ in range(count // 20):
            rng.choice([db.flush, db.compact, db.sync, db.stats, lambda: len(db), lambda: bool(db)])()

    def write(number):
        rng = random.Random(f"{seed} writes {number}")
        own = {}
        for _ in range(count):
            key = b"%d-%03d" % (number, rng.randrange(100))
            if rng.random() < 0.3:
                assert own.pop(key, None) == db.pop(key, None)
            else:
                own[key] = rng.randbytes(rng.randrange(40))
                db[key] = own[key]
            probe = b"%d-%03d" % (number, rng.randrange(100))
            assert own.get(probe) == db.get(probe)
        contents[number] = own

    contents = {}
    run(*for_each(care), *for_each(write))

    expected = {key: value for own in contents.values() for key, value in own.items()}
    assert expected == dict(db)
    assert len(expected) == len(db)


@pytest.mark.parametrize("flag", ["w", "r"])
def test_all_threads_count_the_same(flag, count):
    """Two threads that counted at once could both add what the log holds to what the tables hold."""
    storage = CrashStorage()
    with open_on(storage, "/db", "c", 0o666, {}) as db:
        db.update((b"%05d" % number, b"v") for number in range(2000))
        assert 2000 == len(db)
        db.flush()
        db.update((b"new%05d" % number, b"v") for number in range(20))

    for _ in range(count // 4):
        with open_on(storage, "/db", flag, 0o666, {}) as db:
            lengths = []
            run(*for_each(lambda number, db=db, lengths=lengths: lengths.extend([len(db), len(db)])))
            assert {2020} == {*lengths}


@pytest.mark.parametrize("flag", ["w", "r"])
def test_who_uses_a_handle_while_another_thread_closes_it_gets_an_answer_or_closed_error(path, flag, count):
    with lsmdbm.open(path, "c", **TINY) as db:
        db.update((b"%05d" % number, b"v" * 50) for number in range(200))
        db.flush()

    for _ in range(10):
        db = lsmdbm.open(path, flag, **TINY)
        under_way = threading.Barrier(THREADS + 1, timeout=60)

        def use(number, db=db, under_way=under_way):
            for step in range(1 << 30):
                if step == 3:
                    under_way.wait()
                try:
                    answers = [db.get(b"%05d" % number), len(db), sum(1 for _ in db), next(iter(db.values()))]
                except lsmdbm.ClosedError:
                    return
                assert [b"v" * 50, 200, 200, b"v" * 50] == answers

        def close(db=db, under_way=under_way):
            under_way.wait()
            db.close()

        run(close, *for_each(use))
    with lsmdbm.open(path, "r") as db:
        assert 200 == len(db)


def test_handles_may_be_opened_and_closed_by_all_threads(path, count):
    def work(number):
        for step in range(count // 20):
            with lsmdbm.open(path, "c", durability="none", timeout=0) as db:
                db[f"{number}-{step}"] = "v"
                assert b"v" == db[f"{number}-{step}"]

    run(*for_each(work))
    with lsmdbm.open(path) as db:
        assert THREADS * (count // 20) == len(db)


# -- linearizable -------------------------------------------------------------------------------------

CALLS = {"small": 4000, "default": 24_000, "crash": 1_000_000, "long": 100_000_000}
CALLS_A_HISTORY = 2000
MANY = 8
SHARED = [b"key%d" % number for number in range(6)]
COUNTERS = [b"n0", b"n1"]
EVERY = [*SHARED, *COUNTERS]
KINDS = {  # of calls, and how often
    "put": 24,
    "get": 26,
    "pop": 6,
    "delete": 5,
    "setdefault": 6,
    "increment": 7,
    "count": 5,
    "move": 6,
    "batch": 5,
    "delete range": 2,
    "look": 4,
    "care": 2,
}
LEVELS = ("none", "process", "interval", "full")


def delete(db, key):
    """Delete a key; return something if it was there."""
    try:
        del db[key]
    except KeyError:
        return None
    return b"was there"


def write_together(db, rng, values):
    """Write a batch of puts and deletions, and maybe of a deleted range; return what it does to each key."""
    changes = {
        key: rng.choice([None, value]) for key, value in zip(rng.sample(SHARED, 3), values, strict=True)
    }
    low, high = sorted(rng.sample(SHARED, 2))
    deletes_range = rng.random() < 0.5
    with db.batch() as batch:
        if deletes_range:
            batch.delete_range(low, high)
        for key, value in changes.items():
            batch.delete(key) if value is None else batch.put(key, value)
    gone = {key: None for key in SHARED if deletes_range and low <= key < high}
    return [("put", key, value, None) for key, value in {**gone, **changes}.items()]


def delete_range(db, low, high):
    db.delete_range(low, high)
    return [("put", key, None, None) for key in SHARED if low <= key < high]


def move(db, source, target):
    """Move a value from one key to another in a transaction; return what that did to the two."""

    def moved(tx):
        value = tx.pop(source, None)
        if value is None:
            return [("get", source, None, None), ("get", target, None, tx.get(target))]
        tx[target] = value
        return [("pop", source, None, value), ("put", target, value, None)]

    return db.run(moved, attempts=1 << 30)


def count_up(db, key):
    """Add to a counter in a transaction, which may be in conflict with increments of others."""
    return db.run(lambda tx: [("increment", key, b"3", b"%d" % tx.increment(key, 3))], attempts=1 << 30)


def call_something(db, history, rng, key, counter, value):
    """Call what may be, and note it."""
    kind = rng.choices([*KINDS], [*KINDS.values()])[0]
    if kind == "put":
        history.call("put", key, value, db.__setitem__, key, value)
    elif kind == "get":
        history.call("get", key, None, db.get, key)
    elif kind == "pop":
        either = rng.choice([key, key, counter])
        history.call("pop", either, None, db.pop, either, None)
    elif kind == "delete":
        history.call("delete", key, None, delete, db, key)
    elif kind == "setdefault":
        history.call("setdefault", key, value, db.setdefault, key, value)
    elif kind == "increment":
        history.call("increment", counter, b"7", lambda: b"%d" % db.increment(counter, 7))
    elif kind == "count":
        history.together(lambda: count_up(db, counter))
    elif kind == "move":
        history.together(lambda: move(db, *rng.sample(SHARED, 2)))
    elif kind == "batch":
        history.together(lambda: write_together(db, rng, [value, value + b"a", value + b"b"]))
    elif kind == "delete range":
        history.together(lambda: delete_range(db, *sorted(rng.sample(SHARED, 2))))
    elif kind == "look":
        history.look(EVERY, rng.choice([lambda: dict(db.items()), lambda: db.get_many(EVERY)]))
    else:
        rng.choice([db.flush, db.sync, lambda: len(db), lambda: bool(db), db.stats, db.compact])()


def note_calls(db, case):
    """Have 8 threads call what they like, each value but once, and return the history."""
    history = History()

    def work(number):
        rng = random.Random(f"{case} {number}")
        for step in range(CALLS_A_HISTORY // MANY):
            value = b"%d.%d" % (number, step) * rng.randrange(1, 20)
            call_something(db, history, rng, rng.choice(SHARED), rng.choice(COUNTERS), value)

    run(*[lambda number=number: work(number) for number in range(MANY)])
    return history


@pytest.mark.parametrize("level", LEVELS)
def test_calls_of_many_threads_are_linearizable_for_each_key(tmp_path, level):
    with Budget("T11", part=f"threads, {level}", share=1 / len(LEVELS), unit="calls", **CALLS) as reach:
        for case in reach:
            path = tmp_path / case.replace(" ", "-")
            with lsmdbm.open(path, "c", durability=level, sync_interval=0.001, **TINY) as db:
                history = note_calls(db, case)
            history.check()
            reach.count(number=history.count())
            with lsmdbm.open(path, "r") as db:  # one more look, after all
                history.look(EVERY, dict(db).copy)
            history.check()


@pytest.mark.parametrize(
    ("kind", "name", "fault"),
    [
        (Store, "change", lambda self, key, change: (self.put(key, new := change(self.get(key))), new)[1]),
        (validation, "conflict", lambda footprint, then, now: None),
    ],
    ids=["an increment in two steps", "no validation"],
)
def test_an_update_that_is_lost_is_noticed(tmp_path, monkeypatch, seed, kind, name, fault):
    """The planted fault: of what two threads do at once, one is forgotten."""
    monkeypatch.setattr(kind, name, fault)
    with pytest.raises(NotLinearizable):
        for number in range(20):
            with lsmdbm.open(tmp_path / f"db{number}", "c", **TINY) as db:
                note_calls(db, f"{seed} lost {number}").check()


def test_a_store_that_reads_what_is_past_is_noticed(tmp_path, monkeypatch, seed):
    """The planted fault: a get that goes by the memtable before the last one."""
    get, last = Store.get, {}
    monkeypatch.setattr(
        Store, "get", lambda self, key: (last.get(key), last.update({key: get(self, key)}))[0]
    )
    with lsmdbm.open(tmp_path / "db", "c", **TINY) as db, pytest.raises(NotLinearizable):
        note_calls(db, f"{seed} planted").check()
