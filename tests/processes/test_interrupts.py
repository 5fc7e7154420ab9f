"""T6: an exception from outside at every opcode of every operation, be it Ctrl-C or another thread.

After each, nothing is locked, memory says what a stranger reads from disk, the content is the one before or
the one after the operation, the handle works on, and so does the next one.
"""

import gc
import itertools
import os
import random
import shutil
import threading
from contextlib import suppress

import pytest

import lsmdbm
from lsmdbm._engine import appender
from lsmdbm._engine.dead import DeadRanges
from lsmdbm._engine.store import Store
from lsmdbm._engine.writer import Writer
from lsmdbm.bulk import TableWriter
from support.budgets import Budget
from support.child import Child
from support.layers import TINY
from support.opcodes import at_opcode
from support.quiet import descriptors, held_locks, is_unlocked, on_disk
from support.storms import storm

pytestmark = [
    pytest.mark.usefixtures("no_syncs"),
    # An exception that meets a finalizer has nobody to be raised in, and a handle may be lost with its call.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

OPTIONS = {**TINY, "compression": None}


OLD = {b"%04d" % number: b"w" * 40 for number in range(12)}
BUILT = {b"0001": b"built", b"0008": b"built", b"new": b"built"}


def changed(change):
    return lambda old: {key: value for key, value in {**old, **change}.items() if value is not None}


def prefixes(pairs):
    """The states that update() may leave: the pairs are written in batches, as they come."""
    return [changed(dict(pairs[:count])) for count in range(len(pairs) + 1)]


def write_together(db):
    with db.batch() as batch:
        batch["0001"], batch["x"] = "1", "2"
        del batch["0005"]


def delete_and_write_together(db):
    with db.batch() as batch:
        batch.delete_range("0002", "0006")
        batch["0003"] = "again"


def read_twice(db):
    with db.snapshot() as snapshot:
        return len(snapshot), [*snapshot.items()], snapshot.get("0007")


def commit_together(db):
    with db.transaction() as tx:
        tx["0001"], tx["x"] = tx["0007"], "2"
        del tx["0005"]


def commit_a_deleted_range(db):
    with db.transaction() as tx:
        tx.delete_range("0002", "0006")
        tx["0003"] = "again"


def commit_what_was_not_taken_back(db):
    with db.transaction() as tx:
        tx["0001"] = "1"
        with suppress(ZeroDivisionError), tx.savepoint():
            tx["0001"] = tx["0002"] = "2"
            tx.popitem()
            raise ZeroDivisionError
        point = tx.savepoint()
        tx.clear()
        point.rollback()


def count_in_a_transaction(db):
    return db.run(lambda tx: tx.increment("new", 5))


def write_texts_together(db):
    with db.text("utf-8").batch() as batch:
        batch["0001"], batch["x"] = "1", "2"
        batch.delete_range("0002", "0006")


class Operation:
    """A call, and what it may leave besides the content before it."""

    def __init__(self, call, *after):
        self.call = call
        self.after = after


OPERATIONS = {
    "put": Operation(lambda db: db.__setitem__("0001", "new"), changed({b"0001": b"new"})),
    "delete": Operation(lambda db: db.__delitem__("0001"), changed({b"0001": None})),
    "setdefault": Operation(lambda db: db.setdefault("new", "new"), changed({b"new": b"new"})),
    "pop": Operation(lambda db: db.pop("0007"), changed({b"0007": None})),
    "popitem": Operation(lambda db: db.popitem(), changed({b"0000": None})),
    "increment": Operation(lambda db: db.increment("new", 5), changed({b"new": b"5"})),
    "update": Operation(
        lambda db: db.update([("x", "1"), ("0002", "2"), ("0009", "3")]),
        *prefixes([(b"x", b"1"), (b"0002", b"2"), (b"0009", b"3")]),
    ),
    "batch": Operation(write_together, changed({b"0001": b"1", b"x": b"2", b"0005": None})),
    "delete range": Operation(
        lambda db: db.delete_range("0002", "0006"),
        changed({b"%04d" % number: None for number in range(2, 6)}),
    ),
    "batch with a range": Operation(
        delete_and_write_together, changed({b"0002": None, b"0003": b"again", b"0004": None, b"0005": None})
    ),
    "batch of text": Operation(
        write_texts_together,
        changed({b"0001": b"1", b"x": b"2", **{b"%04d" % number: None for number in range(2, 6)}}),
    ),
    "transaction": Operation(commit_together, changed({b"0001": OLD[b"0007"], b"x": b"2", b"0005": None})),
    "transaction with a range": Operation(
        commit_a_deleted_range, changed({b"0002": None, b"0003": b"again", b"0004": None, b"0005": None})
    ),
    "transaction with savepoints": Operation(commit_what_was_not_taken_back, changed({b"0001": b"1"})),
    "transaction of run": Operation(count_in_a_transaction, changed({b"new": b"5"})),
    "clear": Operation(lambda db: db.clear(), lambda old: {}),
    "ingest": Operation(lambda db: db.ingest([built_beside(db.path)]), changed(BUILT)),
    "flush": Operation(lambda db: db.flush()),
    "compact": Operation(lambda db: db.compact()),
    "sync": Operation(lambda db: db.sync()),
    "items": Operation(lambda db: list(db.items())),
    "values of a range": Operation(lambda db: list(db.range("0003", "0008").values())),
    "keys backwards": Operation(lambda db: list(reversed(db))),
    "snapshot": Operation(read_twice),
    "count": Operation(len),
    "get": Operation(lambda db: db.get("0007")),
    "stats": Operation(lambda db: db.stats()),
}
DURABILITIES = ("none", "process", "interval", "full")
CALLS = [(name, level) for name in OPERATIONS for level in DURABILITIES]
OPCODES = {"small": 64, "default": 300, "crash": 100_000, "long": 1_000_000}
MOMENTS = {"small": 160, "default": 800, "crash": 20_000, "long": 200_000}


@pytest.fixture
def log_io(seed, request, monkeypatch):
    """How the log is written: in half of the tests into mappings, where that can be, of two records each."""
    found = random.Random(f"{seed} {request.node.name}").choice(("pwrite", "auto"))
    if found == "auto":
        monkeypatch.setattr(appender, "MAX_LOG_BYTES", 300)
    return found


def built_beside(path):
    """A file to ingest, which is made once."""
    file = os.path.join(os.path.dirname(path), "built")
    if not os.path.exists(file):
        with TableWriter(file) as writer:
            writer.extend(BUILT)
    return file


def opened(path, durability="process", log_io="pwrite"):
    """A database with a table, a log and a memtable, and a file beside it."""
    built_beside(path)
    with lsmdbm.open(path, "c", log_io=log_io, **OPTIONS) as db:
        db.update((key, b"v" * 40) for key in OLD)
        db.flush()
    db = lsmdbm.open(path, "w", durability=durability, log_io=log_io, **OPTIONS)
    for key, value in OLD.items():
        db[key] = value
    return db


def check_memory(db, allowed, where):
    """Return the content; raise if a lock is held, or it is none of those allowed."""
    assert [] == held_locks(db), where
    found = dict(db)
    assert found in allowed, where
    assert len(found) == len(db), where
    return found


def check_all(path, db, allowed, where):
    """Check memory, write, and compare with disk; close, and open again."""
    expected = check_memory(db, allowed, where)
    db["later"] = "value"
    expected[b"later"] = b"value"
    check_memory(db, [expected], where)
    db.sync()
    assert expected == on_disk(path), where
    db.close()
    check_closed(path, [expected], where)


def check_closed(path, allowed, where):
    """Check that another process could write, and what it would find."""
    assert is_unlocked(path), where
    with lsmdbm.open(path, "w", **OPTIONS) as db:
        check_memory(db, allowed, where)


def may_lose_a_descriptor(interruption):
    """Whether it came between a system call that made or closed a descriptor and whoever keeps it.

    No Python program can do better there.  It is never the lock that is lost: that is taken only once an
    object owns the descriptor.
    """
    return interruption.is_swallowed or interruption.where[0].startswith("os_")


def points(count, limit, rng):
    """So many opcodes, evenly spread, or all of them."""
    stride = max(1, count // limit)
    return range(rng.randrange(stride), count, stride)


def directories(tmp_path):
    """Paths without end: what one point leaves open does not count at the next."""
    for number in itertools.count():
        path = tmp_path / f"db{number}"
        yield os.fspath(path)
        shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize(("name", "durability"), CALLS)
def test_a_call_interrupted_at_any_opcode_took_effect_wholly_or_not_at_all(
    tmp_path, name, durability, log_io
):
    operation = OPERATIONS[name]
    allowed = [OLD, *(after(OLD) for after in operation.after)]
    paths = directories(tmp_path)
    with Budget("T6", part=f"{name}, {durability}", share=1 / len(CALLS), unit="opcodes", **OPCODES) as reach:
        rng = random.Random(f"{reach.label} {reach.seed}")
        with opened(next(paths), durability, log_io) as whole:
            count = at_opcode(1 << 60, lambda: operation.call(whole)).opcodes
        for number in points(count, reach.goal or count, rng):
            path = next(paths)
            db = opened(path, durability, log_io)
            interruption = at_opcode(number, lambda db=db: operation.call(db))
            where = f"{name} at {durability}, {log_io}, opcode {number}, {interruption.where}"
            assert interruption.raised is None or isinstance(interruption.raised, KeyboardInterrupt), where
            check_all(path, db, allowed, where)
            del db
            if interruption.where is not None and descriptors(path):
                gc.collect()
                assert may_lose_a_descriptor(interruption) or [] == descriptors(path), where
            reach.count()
            reach.count("swallowed", interruption.is_swallowed)


def interrupt_all_over(tmp_path, call, allowed, log_io="pwrite", numbers=None):
    """Interrupt a call at every third opcode, or at these, until a check fails."""
    paths = directories(tmp_path)
    for number in numbers or itertools.count(step=3):
        path = next(paths)
        db = opened(path, log_io=log_io)
        interruption = at_opcode(number, lambda db=db: call(db))
        check_all(path, db, allowed, f"opcode {number}, {interruption.where}")
        if interruption.where is None:
            return


def test_a_store_that_does_not_heal_is_noticed(tmp_path, monkeypatch):
    """The planted fault."""
    monkeypatch.setattr(Writer, "_heal", lambda self: None)
    operation = OPERATIONS["put"]
    with pytest.raises(AssertionError, match="appender.py|writer.py"):
        interrupt_all_over(tmp_path, operation.call, [OLD, operation.after[0](OLD)])


def test_a_put_that_begins_a_mapped_log_can_be_interrupted_at_any_opcode(mappable, monkeypatch, seed, budget):
    """It ends one log, cuts it, creates and maps another; the puts behind it have to find one."""
    monkeypatch.setattr(appender, "MAX_LOG_BYTES", 300)
    operation = OPERATIONS["put"]
    stride = {"small": 41, "default": 13}.get(budget, 1)
    numbers = itertools.count(seed % stride, stride)
    interrupt_all_over(mappable, operation.call, [OLD, operation.after[0](OLD)], "mmap", numbers)


def test_a_lock_that_stays_taken_is_noticed(tmp_path, monkeypatch):
    """The planted fault: without `with`."""

    def flush(self):
        self._writer.lock.acquire()
        self._tree.flush_now()
        self._writer.lock.release()

    monkeypatch.setattr(Store, "flush", flush)
    with pytest.raises(AssertionError, match="held|store"):
        interrupt_all_over(tmp_path, OPERATIONS["flush"].call, [OLD])


# -- transactions, and walks over what was deleted --------------------------------------------------


def begun(db):
    """A transaction with a savepoint, behind which so many entries went that it remembers where they were."""
    tx = db.transaction()
    tx.update((b"-%03d" % number, b"before") for number in range(40))
    kept = dict(tx)
    point = tx.savepoint()
    while tx.firstkey() != b"0003":
        tx.popitem()
    tx["0004"] = "after"
    return tx, point, kept


@pytest.fixture
def crowded(path):
    """A database of 60 entries, of which 45 at the front were deleted, and one who looked knows that."""
    with lsmdbm.open(path, "c", memtable_bytes=1 << 20) as db:
        db.update((b"%04d" % number, b"v") for number in range(60))
        for number in range(45):
            del db[b"%04d" % number]
        db["9999"] = "last"
        assert b"0045" == db.firstkey()
        yield db


def every(budget, seed):
    """How far apart the opcodes are at which one of these is interrupted, and where that begins."""
    stride = {"small": 41, "default": 17}.get(budget, 1)
    return itertools.count(seed % stride, stride)


def test_a_rollback_to_a_savepoint_interrupted_at_any_opcode_can_be_made_again(path, budget, seed):
    """It let the old changes in before it forgot where nothing had been: the front was missing."""
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        db.update(OLD)
        for number in every(budget, seed):
            tx, point, kept = begun(db)
            changed = dict(tx)
            interruption = at_opcode(number, point.rollback)
            where = f"opcode {number}, {interruption.where}"
            assert dict(tx) in (changed, kept), where
            assert min(tx) == tx.firstkey() == tx.first()[0], where
            point.rollback()
            assert (kept, min(kept)) == (dict(tx), tx.firstkey()), where
            tx["y"] = "behind it"
            tx.commit()
            assert {**kept, b"y": b"behind it"} == dict(db), where
            db.clear()
            db.update(OLD)
            if interruption.where is None:
                break


WALKS = {
    "first": lambda each: each.first(),
    "last": lambda each: each.range(stop="0100").last(),
    "in the middle": lambda each: each.range("0001", "0044").first(),
    "walk": lambda each: next(iter(each.range("0001")), None),
    "put": lambda each: each.__setitem__("0020", "again"),
    "popitem": lambda each: each.popitem(),
}


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("kind", ["database", "snapshot", "transaction"])
def test_a_walk_over_deletions_interrupted_at_any_opcode_hides_nothing(crowded, kind, walk, budget, seed):
    """What is known to hold no entry was in three lists, of which one could be changed and others not."""
    if kind == "snapshot" and walk in ("put", "popitem"):
        return
    entries = {b"%04d" % number: b"v" for number in range(45, 60)} | {b"9999": b"last"}
    for number in every(budget, seed):
        each = crowded if kind == "database" else getattr(crowded, kind)()
        if kind == "database":
            each._store._writer.dead = DeadRanges()
        each.range("0010", "0030").first()  # which is remembered, and to be joined to others
        interruption = at_opcode(number, lambda each=each: WALKS[walk](each))
        where = f"opcode {number}, {interruption.where}"
        interruption.result = None
        allowed = [entries]
        if walk == "put":
            allowed.append({**entries, b"0020": b"again"})
        if walk == "popitem":
            allowed.append({key: value for key, value in entries.items() if key != b"0045"})
        for _ in range(2):
            found = dict(each)  # first: what an interrupted write has logged shows with a read in order
            assert found in allowed, where
            assert found == {key: each[key] for key in (b"0020", *entries) if key in each}, where
            assert (min(found), max(found)) == (each.firstkey(), each.lastkey()), where
            assert ([*found.items()][0], [*found.items()][-1]) == (each.first(), each.last()), where
            if kind != "snapshot":
                each["0005"] = each["0031"] = "new"
                assert b"0005" == each.firstkey(), where
                assert (b"0031", b"new") == each.range("0021", "0040").first(), where
                del each["0005"], each["0031"]
        if kind == "database":
            crowded.update(entries)
            crowded.pop("0020", None)
        else:
            del each
        if interruption.where is None:
            break


# -- opening and closing ----------------------------------------------------------------------------


OPENINGS = {"small": 64, "default": 160, "crash": 40_000, "long": 1_000_000}


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_close_interrupted_at_any_opcode_can_be_made_again(tmp_path, durability, log_io):
    paths = directories(tmp_path)
    with Budget("T6", part=f"close, {durability}", share=0.125, unit="opcodes", **OPENINGS) as reach:
        rng = random.Random(f"{reach.label} {reach.seed}")
        count = at_opcode(1 << 60, opened(next(paths), durability, log_io).close).opcodes
        for number in points(count, reach.goal or count, rng):
            path = next(paths)
            db = opened(path, durability, log_io)
            interruption = at_opcode(number, db.close)
            where = f"close at {durability}, {log_io}, opcode {number}, {interruption.where}"
            db.close()
            check_closed(path, [OLD], where)
            reach.count()


@pytest.mark.parametrize("flag", "rwcn")
def test_an_open_interrupted_at_any_opcode_holds_nothing(tmp_path, flag):
    """At the latest when nobody refers to the handle, which may have been made already."""
    paths = directories(tmp_path)
    with Budget("T6", part=f"open, {flag}", share=0.125, unit="opcodes", **OPENINGS) as reach:
        rng = random.Random(f"{reach.label} {reach.seed}")
        opened(path := next(paths)).close()
        whole = at_opcode(1 << 60, lambda: lsmdbm.open(path, flag, **OPTIONS))
        whole.result.close()
        handing_over = range(max(0, whole.opcodes - 20), whole.opcodes)
        for number in (*handing_over, *points(whole.opcodes, reach.goal or whole.opcodes, rng)):
            path = next(paths)
            opened(path).close()
            interruption = at_opcode(number, lambda path=path: lsmdbm.open(path, flag, **OPTIONS))
            where = f"open {flag}, opcode {number}, {interruption.where}"
            interruption.result = None
            check_closed(path, [OLD, {}] if flag == "n" else [OLD], where)
            reach.count()


# -- random moments ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def child(tmp_path_factory):
    """A process whose SIGINT harms nobody else."""
    with Child(tmp_path_factory.mktemp("child")) as process:
        yield process


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_storm_of_sigint_does_no_harm(path, child, durability):
    with Budget("T6", part=f"SIGINT, {durability}", share=0.25, unit="signals", **MOMENTS) as reach:
        for case in reach:
            count = min(1000, (reach.goal or 1000) - reach.reached)
            for what, number in child("run", "storms:storm", path, case, count, "signal", durability).items():
                reach.count(what, number)
                reach.count(number=number)


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_storm_of_exceptions_from_another_thread_does_no_harm(path, durability):
    with Budget("T6", part=f"async, {durability}", share=0.125, unit="exceptions", **MOMENTS) as reach:
        for case in reach:
            counts, failures = [], []

            def work(case=case, counts=counts, failures=failures):
                count = min(1000, (reach.goal or 1000) - reach.reached)
                try:
                    counts.append(storm(path, case, count, "async", durability))
                except BaseException as exc:
                    failures.append(exc)

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            assert [] == failures
            for what, number in counts[0].items():
                reach.count(what, number)
                reach.count(number=number)
