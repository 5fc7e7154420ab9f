"""Transactions read one moment and their own writes, and commit together or not at all."""

import errno
import gc
import itertools
import random
import weakref

import pytest

import lsmdbm
from lsmdbm._engine import validation
from lsmdbm.database import open_on
from support.battery import everything_about, expected_about, walk
from support.crash_storage import CrashStorage
from support.layers import KEYS, PATH, SHAPES, TINY, shaped
from support.threads import in_threads

pytestmark = pytest.mark.usefixtures("no_syncs")

FRUIT = {b"apple": b"red", b"banana": b"yellow", b"cherry": b"dark red", b"damson": b"blue"}


@pytest.fixture
def fruit(db):
    db.update(FRUIT)
    return db


# -- what a transaction reads -----------------------------------------------------------------------


def test_a_transaction_is_a_mapping_like_any_other(db, seed):
    rng = random.Random(f"{seed} transaction as mapping")
    with db.transaction() as tx:
        written = walk(tx, rng, KEYS[:20], [b"", b"one", b"two"], steps=150)
        assert 0 == len(db)
    assert written == dict(db.items())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_transaction_reads_its_own_writes_over_its_moment(shape, seed):
    rng = random.Random(f"{seed} own writes {shape}")
    with shaped(shape, rng) as (db, kept):
        model, tx, before = kept.copy(), db.transaction(), kept.range()
        points = []
        for step in range(25):
            for key in rng.sample(KEYS, rng.randrange(12)):
                if rng.random() < 0.4:
                    assert model.get(key) == tx.pop(key, None)
                    model.delete(key)
                else:
                    tx[key] = b"%d" % step
                    model.put(key, b"%d" % step)
            if rng.random() < 0.3:
                points.append((tx.savepoint(), model.copy()))
            if points and rng.random() < 0.2:
                place = rng.randrange(len(points))
                points[place][0].rollback()
                model = points[place][1].copy()
                del points[place + 1 :]
            low, high = sorted(rng.sample(KEYS, 2))
            reverse = rng.random() < 0.5
            part = tx.range(low, high, reverse=reverse)
            assert expected_about(model.range(low, high, reverse=reverse)) == everything_about(part)
            some = rng.sample(KEYS, 9)
            assert {key: model.get(key) for key in some if key in model} == tx.get_many(some)
            assert (len(model), model.first(), model.last()) == (len(tx), tx.first(), tx.last())
            assert [model.get(key) for key in some] == [tx.get(key) for key in some]
            if step == 12:
                db.flush()
                db.compact()
        assert expected_about(model.range()) == everything_about(tx)
        assert before == [*db.items()]
        tx.commit()
        assert model.range() == [*db.items()]


def test_an_iteration_sees_the_transaction_as_it_was_at_its_begin(fruit):
    tx = fruit.transaction()
    tx[b"elder"] = b"black"
    iterator = iter(tx.items())
    assert (b"apple", b"red") == next(iterator)
    tx.clear()
    tx[b"fig"] = b"green"
    assert [*sorted(FRUIT.items())[1:], (b"elder", b"black")] == [*iterator]
    assert [b"fig"] == [*tx]


def test_prefixes_and_deleted_ranges(fruit):
    with fruit.transaction() as tx:
        tx[b"avocado"] = b"green"
        assert [b"apple", b"avocado"] == [*tx.range(prefix="a")]
        tx.delete_range("b", "d")
        tx.delete_range("x", "b")
        assert [b"apple", b"avocado", b"damson"] == [*tx]
        tx.delete_range(prefix="a")
    assert [b"damson"] == [*fruit]


def test_a_range_of_a_transaction_is_deleted_in_it_alone_before_the_commit(path):
    with lsmdbm.open(path, "c") as db:
        db.update({key: b"old" for key in (b"a", b"b", b"c", b"d")})
        with db.transaction() as tx:
            tx[b"bb"] = b"new"
            tx.range(b"b", b"d").delete()
            tx[b"c"] = b"again"
            assert [b"a", b"c", b"d"] == [*tx]
            assert [b"a", b"b", b"c", b"d"] == [*db]

        assert {b"a": b"old", b"c": b"again", b"d": b"old"} == dict(db)


# -- conflicts --------------------------------------------------------------------------------------

TABLE = {  # what is read or written; then what others may change, and what they may not
    "get": (lambda tx: tx.get("banana"), "banana", "apple"),
    "a missing key": (lambda tx: "bilberry" in tx, "bilberry", "banana"),
    "the empty key": (lambda tx: tx.get(""), "", "a"),
    "get_many": (lambda tx: tx.get_many(["banana", "x"]), "x", "cherry"),
    "a blind write": (lambda tx: tx.update(banana="1"), "banana", "bilberry"),
    "a written key read": (lambda tx: (tx.update(elder="1"), tx["elder"]), "elder", "banana"),
    "setdefault": (lambda tx: tx.setdefault("banana", "1"), "banana", "apple"),
    "pop": (lambda tx: tx.pop("fig", None), "fig", "banana"),
    "popitem": (lambda tx: tx.popitem(), "aardvark", "banana"),
    "popitem, value": (lambda tx: tx.popitem(), "apple", "apple\0"),
    "first": (lambda tx: tx.first(), "apple", "banana"),
    "last": (lambda tx: tx.last(), "elder", "cherry"),
    "last, value": (lambda tx: tx.range(stop="c").last(), "banana", "apple"),
    "firstkey": (lambda tx: tx.firstkey(), "a", "banana"),
    "nextkey": (lambda tx: tx.nextkey("banana"), "bilberry", "banana"),
    "prevkey": (lambda tx: tx.prevkey("banana"), "avocado", "banana"),
    "truth": (lambda tx: bool(tx), "a", "apple"),
    "length": (lambda tx: len(tx), "x", "apple"),
    "length of a range": (lambda tx: len(tx.range("b", "c")), "bz", "c"),
    "an empty range": (lambda tx: [*tx.range("x", "y")], "x", "y"),
    "a whole scan": (lambda tx: [*tx.items()], "zebra", None),
    "values": (lambda tx: [*tx.range(stop="c").values()], "banana", "cherry"),
    "keys alone": (lambda tx: [*tx.range(stop="c")], "az", "banana"),
    "a scan cut off": (lambda tx: [*itertools.islice(tx.items(), 2)], "banana", "bananas"),
    "a scan cut off inside": (lambda tx: [*itertools.islice(tx.items(), 2)], "b", "c"),
    "reverse, cut off": (lambda tx: [*itertools.islice(reversed(tx.items()), 2)], "cherry", "c"),
    "reverse, beyond the end": (lambda tx: [*itertools.islice(tx.range(reverse=True), 1)], "z", "cherry"),
    "a scan not begun": (lambda tx: (iter(tx), tx.get("x")), "x", "apple"),
    "clear": (lambda tx: tx.clear(), "x", None),
    "delete_range": (lambda tx: tx.delete_range("a", "c"), "az", "cherry"),
    "read, then taken back": (lambda tx: _taken_back(tx), "banana", "cherry"),
}


def _taken_back(tx):
    point = tx.savepoint()
    tx["cherry"] = tx["banana"]
    point.rollback()


def nothing(db):
    pass


def flush(db):
    db.flush()


def compact(db):
    db["zz"] = "x"
    del db["zz"]
    db.compact()


def scan(db):
    """Seal and fold."""
    next(iter(db), None)


def write_much(db):
    db.update((f"~{number}", "x") for number in range(validation.ROUNDS * 1000))
    db.delete_range("~")


LATER = [nothing, flush, compact, scan, write_much]


def committed(tx, own="own"):
    tx[own] = "1"
    try:
        tx.commit()
    except lsmdbm.ConflictError:
        return False
    return True


@pytest.mark.parametrize("later", LATER, ids=lambda later: later.__name__)
@pytest.mark.parametrize("case", TABLE)
def test_what_was_read_or_written_must_be_unchanged_and_nothing_else(fruit, case, later):
    look, seen, unseen = TABLE[case]
    for key, expected in ((seen, False), (unseen, True)):
        if key is None:
            continue
        for removes in (False, True):
            if removes and (key not in fruit or (case == "keys alone" and expected)):
                continue
            if removes and case in ("length", "truth"):
                continue  # of which only the key counts
            with fruit.snapshot() as before:
                tx = fruit.transaction()
                look(tx)
                if removes:
                    del fruit[key]
                else:
                    fruit[key] = "changed"
                later(fruit)
                assert expected == committed(tx), (key, removes)
                fruit.clear()
                fruit.update(before)


@pytest.mark.parametrize("later", LATER[:-1], ids=lambda later: later.__name__)
@pytest.mark.parametrize("case", TABLE)
def test_what_is_written_again_as_it_was_is_no_conflict(fruit, case, later):
    tx = fruit.transaction()
    TABLE[case][0](tx)
    fruit.update(FRUIT)
    fruit["aa"] = "for a while"
    del fruit["aa"]
    later(fruit)
    assert committed(tx)


@pytest.mark.parametrize("later", LATER[:-1], ids=lambda later: later.__name__)
def test_deleting_everything_changes_what_was_there(fruit, later):
    present, absent, empty = (fruit.transaction() for _ in range(3))
    present.get("apple")
    assert "x" not in absent
    assert [] == [*empty.range("x")]
    fruit.clear()
    later(fruit)
    assert (False, True, True) == (committed(present), committed(absent), committed(empty, "other"))


def test_the_empty_key_is_in_conflict_like_any_other(db):
    """After a flush or a clear() its change went unnoticed: the key that was found was taken for none."""
    for later in (flush, lambda db: db.clear(), lambda db: db.delete_range(stop="a"), nothing):
        db[""] = "1"
        tx = db.transaction()
        tx[""] = tx[""] + b"1"
        db[""] = "2"
        later(db)
        assert not committed(tx)


def test_a_range_deletion_changes_what_lies_in_it(fruit):
    for look, expected in (
        (lambda tx: tx.get("banana"), False),
        (lambda tx: [*tx.range("b", "c")], False),
        (lambda tx: tx.get("bilberry"), True),
        (lambda tx: [*tx.range("bb", "c")], True),
        (lambda tx: [*tx.range("c").items()], True),
    ):
        fruit.update(FRUIT)
        fruit.pop("own", None)
        tx = fruit.transaction()
        look(tx)
        fruit.delete_range("b", "c")
        assert expected == committed(tx)


def test_a_conflict_names_a_key_and_writes_nothing(fruit):
    tx = fruit.transaction()
    tx["apple"] = tx["banana"] + b"!"
    fruit["banana"] = "green"
    with pytest.raises(lsmdbm.ConflictError, match="b'banana' was changed after the transaction had begun"):
        tx.commit()
    assert {**FRUIT, b"banana": b"green"} == dict(fruit.items())
    with pytest.raises(lsmdbm.ClosedError, match="its commit has failed"):
        tx.get("apple")


def test_the_first_of_two_to_commit_wins(fruit):
    first, second = fruit.transaction(), fruit.transaction()
    for tx in (first, second):
        tx["apple"] = tx["apple"] + b"!"
    second.commit()
    with pytest.raises(lsmdbm.ConflictError):
        first.commit()
    assert b"red!" == fruit["apple"]


def test_who_only_reads_is_never_in_conflict(fruit):
    with fruit.transaction() as tx:
        assert sorted(FRUIT.items()) == [*tx.items()]
        fruit.clear()
        assert b"red" == tx["apple"]


def test_write_skew_is_a_conflict(fruit):
    """Two that each read what the other writes: under snapshot isolation both would commit."""
    one, other = fruit.transaction(), fruit.transaction()
    one["apple"] = other["banana"]
    other["banana"] = one["apple"]
    one["cherry"] = one["banana"]
    other["damson"] = other["apple"]
    one.commit()
    with pytest.raises(lsmdbm.ConflictError):
        other.commit()


# -- how a transaction ends -------------------------------------------------------------------------


def test_a_block_commits_unless_it_is_left_by_an_exception(fruit):
    with fruit.transaction() as tx:
        tx["apple"] = "green"
    with pytest.raises(ZeroDivisionError), fruit.transaction() as tx:
        tx["apple"] = "blue"
        raise ZeroDivisionError
    assert b"green" == fruit["apple"]


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (lambda db, tx: tx.commit(), "The transaction has already been committed"),
        (lambda db, tx: tx.rollback(), "The transaction has already been rolled back"),
        (lambda db, tx: db.close(), "DBM object has already been closed"),
    ],
)
def test_a_transaction_that_is_over_says_so(fruit, end, text):
    tx = fruit.transaction()
    point, part, iterator = tx.savepoint(), tx.range("b"), iter(tx)
    next(iterator)
    end(fruit, tx)
    for use in (
        lambda: tx["apple"],
        lambda: tx.update(apple="x"),
        lambda: tx.pop("apple"),
        lambda: tx.popitem(),
        lambda: len(tx),
        lambda: [*tx],
        lambda: tx.clear(),
        lambda: part.first(),
        lambda: next(iterator),
        lambda: tx.commit(),
        lambda: tx.savepoint(),
        lambda: point.rollback(),
        lambda: point.release(),
        lambda: tx.__enter__(),
    ):
        with pytest.raises(lsmdbm.ClosedError, match=text):
            use()
    tx.rollback()


def test_a_block_may_end_its_transaction_itself(fruit):
    with fruit.transaction() as tx:
        tx["apple"] = "green"
        tx.rollback()
    with fruit.transaction() as tx:
        tx["banana"] = "green"
        tx.commit()
    assert (b"red", b"green") == (fruit["apple"], fruit["banana"])


def test_a_forgotten_transaction_is_rolled_back_and_let_go_at_once(fruit):
    gc.disable()
    try:
        tx = fruit.transaction()
        tx["apple"], _ = "green", (tx.savepoint(), next(iter(tx)), len(tx))
        assert 1 == fruit.stats().snapshots
        gone = weakref.ref(tx)
        del tx, _
        assert (None, 0) == (gone(), fruit.stats().snapshots)
    finally:
        gc.enable()
    assert b"red" == fruit["apple"]


def test_a_read_only_handle_has_no_transactions(fruit):
    with lsmdbm.open(fruit.path, "r") as reader, pytest.raises(lsmdbm.ReadOnlyError):
        reader.transaction()
    fruit.close()
    with pytest.raises(lsmdbm.ClosedError):
        fruit.transaction()
    with lsmdbm.open(fruit.path, "r") as reader, pytest.raises(lsmdbm.ReadOnlyError):
        reader.run(len)


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (TypeError, lambda tx: tx.get(1)),
        (TypeError, lambda tx: tx.update(a=1)),
        (TypeError, lambda tx: tx.setdefault("x", None)),
        (ValueError, lambda tx: tx.update({b"k" * 65537: b""})),
        (KeyError, lambda tx: tx["x"]),
        (KeyError, lambda tx: tx.pop("x")),
        (KeyError, lambda tx: tx.__delitem__("x")),
        (KeyError, lambda tx: [tx.popitem() for _ in range(5)]),
    ],
)
def test_misuse_is_told_at_once_and_leaves_the_transaction_open(fruit, kind, use):
    with fruit.transaction() as tx:
        with pytest.raises(kind):
            use(tx)
        tx["x"] = "y"
    assert b"y" == fruit["x"]


# -- savepoints -------------------------------------------------------------------------------------


def test_savepoints_nest_and_take_back_what_came_after_them(db):
    with db.transaction() as tx:
        tx["a"] = "1"
        with tx.savepoint():
            tx["b"] = "1"
            with pytest.raises(ZeroDivisionError), tx.savepoint():
                tx["b"], tx["c"] = "2", "2"
                del tx["a"]
                raise ZeroDivisionError
            assert {b"a": b"1", b"b": b"1"} == tx
            tx["d"] = "1"
        outer = tx.savepoint()
        tx.clear()
        inner = tx.savepoint()
        tx["e"] = "1"
        outer.rollback()
        with pytest.raises(lsmdbm.ClosedError, match="The savepoint is over"):
            inner.rollback()
        tx["f"] = "1"
        outer.rollback()
        outer.release()
        with pytest.raises(lsmdbm.ClosedError, match="The savepoint is over"):
            outer.rollback()
        tx["g"] = "1"
    assert [b"a", b"b", b"d", b"g"] == [*db]


def test_what_was_taken_back_is_not_written_and_no_conflict(fruit):
    with fruit.transaction() as tx:
        point = tx.savepoint()
        tx["apple"] = "green"
        point.rollback()
        tx["banana"] = "green"
        fruit["apple"] = "brown"
    assert (b"brown", b"green") == (fruit["apple"], fruit["banana"])


def test_a_long_walk_over_what_was_deleted_is_forgotten_with_it(db):
    db.update((b"%03d" % number, b"") for number in range(200))
    with db.transaction() as tx:
        point = tx.savepoint()
        for number in range(150):
            assert b"%03d" % number == tx.popitem()[0]
        assert b"150" == tx.firstkey()
        tx[b"077"] = b"again"
        assert b"077" == tx.firstkey()
        point.rollback()
        assert b"000" == tx.firstkey()


# -- run() ------------------------------------------------------------------------------------------


def test_run_tries_again_until_there_is_no_conflict():
    storage = CrashStorage()
    with open_on(storage, PATH, "c", 0o666, {}) as db:
        tries = []

        def function(tx):
            tries.append(storage.monotonic())
            seen = tx.get("x", b"0")
            if len(tries) < 5:
                db["x"] = str(len(tries))
            tx["y"] = seen
            return seen

        assert b"4" == db.run(function)
        assert (b"4", 5) == (db["y"], len(tries))
        assert 5 == len(set(tries))  # a wait between any two

        tries.clear()
        with pytest.raises(lsmdbm.ConflictError, match="b'x'"):
            db.run(function, attempts=3)
        assert 3 == len(tries)
        with pytest.raises(ValueError, match="at least 1"):
            db.run(function, attempts=0)


def test_run_rolls_back_if_the_function_fails(fruit):
    def function(tx):
        del tx["apple"]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fruit.run(function)
    assert (b"red", 0) == (fruit["apple"], fruit.stats().snapshots)


def test_many_threads_count_without_losing_any(db):
    def count(_):
        for _ in range(20):
            db.run(lambda tx: tx.update(sum=str(int(tx.get("sum", b"0")) + 1)), attempts=1000)

    in_threads(count, range(6))
    assert b"120" == db["sum"]


# -- crashes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["before", "partial", "after"])
def test_a_commit_that_is_cut_off_is_whole_or_not_there(kind):
    """Interrupted, and killed where it was interrupted."""
    cut = 0
    for call in range(1000):
        storage = CrashStorage()
        db = open_on(storage, PATH, "c", 0o666, {**TINY, "memtable_bytes": 64})
        db.update((key, b"0") for key in KEYS[:20])
        before = dict(db.items())
        tx = db.transaction()
        tx.update((key, b"1") for key in KEYS[10:30])
        del tx[KEYS[0]]
        after = dict(tx)
        storage.fault(storage.count + call, errno.EINTR, kind)
        try:
            tx.commit()
        except KeyboardInterrupt:
            cut += 1
        else:
            storage.heal()
            db.close()
            break
        killed = storage.crash("kill")
        storage.heal()
        assert dict(db.items()) in (before, after)
        with pytest.raises(lsmdbm.ClosedError):
            tx.get("x")
        db.close()
        with open_on(killed, PATH, "r", 0o666, {}) as reader:
            assert dict(reader.items()) in (before, after)
    assert cut > 0
