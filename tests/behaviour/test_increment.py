"""Counters: increment() adds to a number that is stored as text, in one atomic step."""

import random
import sys
import threading

import pytest

import lsmdbm
from lsmdbm._base.chunk import MAX_KEY_BYTES

pytestmark = pytest.mark.usefixtures("no_syncs")


def test_a_counter_begins_at_zero_and_is_decimal_text(db, path):
    assert [1, 11, 8, -2] == [db.increment("key", delta) for delta in (1, 10, -3, -10)]
    assert (b"-2", 0, b"0") == (db[b"key"], db.increment(b"key", 2), db["key"])
    db.close()
    with lsmdbm.open(path, "w") as again:
        assert 1 == again.increment("key")


@pytest.mark.parametrize("value", ["0", "-0", "007", "-12", "9" * 400])
def test_what_int_writes_is_a_number_wherever_it_comes_from(db, value):
    db["key"] = value
    db.flush()
    assert int(value) + 5 == db.increment("key", 5)
    assert b"%d" % (int(value) + 5) == db["key"]


@pytest.mark.parametrize(
    "value", ["", "-", "+1", " 1", "1\n", "1_0", "0x1", "1.0", "one", "\u0663", "--1", b"\xff", b"\0" * 200]
)
def test_what_is_no_number_is_refused_and_stays(db, value):
    db["key"] = value
    before, written = db["key"], db.stats().written_bytes
    with pytest.raises(ValueError, match="^the value is no decimal integer: b'"):
        db.increment("key")
    assert (before, written) == (db["key"], db.stats().written_bytes)


@pytest.mark.parametrize("delta", [1.0, "1", None, b"1"])
def test_a_delta_that_is_no_integer_is_a_type_error_and_nothing_is_written(db, delta):
    with pytest.raises(TypeError):
        db.increment("key", delta)
    assert {} == db


def test_a_sum_that_has_no_text_is_refused_and_nothing_is_written(db):
    """Python turns no integer of more than so many digits into text."""
    limit = sys.get_int_max_str_digits()
    db["key"] = "9" * limit
    with pytest.raises(ValueError, match="digits"):
        db.increment("key")
    assert b"9" * limit == db["key"]


def test_a_key_over_the_limit_is_refused(db):
    with pytest.raises(ValueError, match="the limit is"):
        db.increment(b"k" * (MAX_KEY_BYTES + 1))


def test_many_threads_lose_no_step(db):
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda: [db.increment("key", 2) for _ in range(200)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert b"1600" == db["key"]


def test_a_step_after_a_deletion_begins_at_zero(db, seed):
    rng, model = random.Random(f"{seed} counters"), {}
    for _ in range(300):
        key, delta = rng.choice([b"a", b"b", b"c"]), rng.randrange(-5, 9)
        if rng.random() < 0.1:
            db.pop(key, None)
            model.pop(key, None)
        elif rng.random() < 0.05:
            db.flush()
        else:
            model[key] = model.get(key, 0) + delta
            assert model[key] == db.increment(key, delta)
    assert {key: b"%d" % number for key, number in model.items()} == db


# -- in a transaction -------------------------------------------------------------------------------


def test_a_transaction_counts_over_its_own_writes_and_shows_it_when_it_commits(db):
    db["key"] = "40"
    with db.transaction() as tx:
        assert [41, 42, 1, -4] == [
            tx.increment("key"),
            tx.increment(b"key"),
            tx.increment("new"),
            tx.increment("new", -5),
        ]
        point = tx.savepoint()
        assert 52 == tx.increment("key", 10)
        point.rollback()
        del tx["new"]
        assert 7 == tx.increment("new", 7)
        assert {b"key": b"40"} == db
    assert {b"key": b"42", b"new": b"7"} == db


@pytest.mark.parametrize("value", ["", "+1", "1.0", "one", b"\xff"])
def test_in_a_transaction_what_is_no_number_is_refused_and_stays(db, value):
    db["key"] = value
    before = dict(db)
    with db.transaction() as tx:
        with pytest.raises(ValueError, match="^the value is no decimal integer: b'"):
            tx.increment("key")
        with pytest.raises(TypeError):
            tx.increment("key", 1.0)
        with pytest.raises(ValueError, match="the limit is"):
            tx.increment(b"k" * (MAX_KEY_BYTES + 1))
        assert before == tx
    assert before == db


def test_a_number_that_a_transaction_has_counted_must_not_have_been_changed(db):
    for change, is_conflict in ((lambda: db.increment("key"), True), (lambda: db.increment("other"), False)):
        tx = db.transaction()
        tx.increment("key")
        change()
        if is_conflict:
            with pytest.raises(lsmdbm.ConflictError, match="b'key'"):
                tx.commit()
            with pytest.raises(lsmdbm.ClosedError):
                tx.increment(1)
        else:
            tx.commit()
    assert {b"key": b"2", b"other": b"1"} == db


def test_a_number_that_was_read_stays_read_when_the_sum_is_taken_back(db):
    with pytest.raises(lsmdbm.ConflictError, match="b'key'"), db.transaction() as tx:
        point = tx.savepoint()
        tx["other"] = str(tx.increment("key"))
        point.rollback()
        tx["other"] = "1"
        db.increment("key")
