"""Text views and shelves: transactions, batches and deleted ranges of decoded values, whole or not at all."""

import json
import pickle
import random

import pytest

import lsmdbm
from support.battery import everything_about, expected_about, walk
from support.layers import TINY

pytestmark = pytest.mark.usefixtures("no_syncs")

KEYS = ["", "a", "ab", "b", "caf\u00e9", "d", "\uffff", "\U0001f600"]
VALUES = [None, 1, "text", [1, [2]], {"a": {"b": []}}]
FRUIT = {"apple": ["red"], "banana": ["yellow"], "cherry": ["dark", "red"], "damson": ["blue"]}
FACES = ["text", "shelf", "shelf with writeback"]


def opened(kind, path, flag="c", **options):
    """Return a face of a database, and what has to be closed."""
    if kind == "text":
        db = lsmdbm.open(path, flag, **options)
        return db.text(json), db
    shelf = lsmdbm.open_shelf(path, flag, writeback=kind != "shelf", **options)
    return shelf, shelf


@pytest.fixture(params=FACES)
def face(request, path):
    view, owner = opened(request.param, path, **TINY)
    with owner:
        yield view


@pytest.fixture
def fruit(face):
    face.update(FRUIT)
    return face


@pytest.fixture
def kept(path):
    """A shelf with writeback whose cache has objects that were changed in place, and never stored."""
    with lsmdbm.open_shelf(path, writeback=True) as shelf:
        shelf.update(FRUIT)
        shelf.sync()
        for key in FRUIT:
            shelf[key].append("ripe")
        yield shelf


# -- transactions -----------------------------------------------------------------------------------


def test_a_transaction_is_a_mapping_like_any_other(face, seed):
    rng = random.Random(f"{seed} decoded transaction")
    with face.transaction() as tx:
        written = walk(tx, rng, KEYS, VALUES, steps=120)
        assert 0 == len(face)
    assert written == dict(face)


def test_a_transaction_is_seen_whole_or_not_at_all(fruit):
    with fruit.transaction() as tx:
        tx["apple"], tx["elder"] = ["green"], ["black"]
        del tx["banana"]
        tx.delete_range("c", "d")
        assert ["apple", "damson", "elder"] == [*tx]
        assert FRUIT == dict(fruit)
    assert {"apple": ["green"], "damson": ["blue"], "elder": ["black"]} == dict(fruit)

    with pytest.raises(ZeroDivisionError), fruit.transaction() as tx:
        tx.clear()
        raise ZeroDivisionError
    tx.rollback()
    assert 3 == len(fruit)


def test_who_reads_what_another_changes_is_in_conflict(fruit):
    tx = fruit.transaction()
    tx["sum"] = len(tx["apple"])
    fruit["apple"] = ["green"]
    with pytest.raises(lsmdbm.ConflictError, match="b'apple'"):
        tx.commit()
    with pytest.raises(lsmdbm.ClosedError, match="its commit has failed"):
        tx.get("apple")
    assert "sum" not in fruit
    assert ["green"] == fruit["apple"]


def test_run_tries_again_until_there_is_no_conflict(fruit):
    tries = []

    def function(tx):
        assert isinstance(tx, lsmdbm.DecodedTransaction)
        tries.append(tx["apple"])
        if len(tries) < 3:
            fruit["apple"] = [len(tries)]
        tx["seen"] = tx["apple"]
        return len(tries)

    assert 3 == fruit.run(function)
    assert [["red"], [1], [2]] == tries
    assert [2] == fruit["seen"]
    with pytest.raises(lsmdbm.ConflictError):
        fruit.run(
            lambda tx: tx.update(b=tx.get("b"), a=fruit.update(b=tries.append(0) or len(tries))), attempts=2
        )


def test_a_savepoint_takes_back_what_came_after_it(fruit):
    with fruit.transaction() as tx:
        tx["apple"] = ["green"]
        with pytest.raises(ZeroDivisionError), tx.savepoint():
            tx["apple"] = ["blue"]
            raise ZeroDivisionError
        point = tx.savepoint()
        tx.clear()
        point.rollback()
    assert {**FRUIT, "apple": ["green"]} == dict(fruit)


def test_the_text_of_a_transaction_is_that_transaction(db):
    db.update(a=b"1", b=b"2")
    with db.transaction() as tx:
        text, people = tx.text("utf-8"), tx.text(json)
        text["c"] = "caf\u00e9"
        people["d"] = {"age": 30}
        assert (b"caf\xc3\xa9", b'{"age": 30}', 1) == (tx["c"], tx["d"], people["a"])
        assert {"a": "1", "b": "2", "c": "caf\u00e9", "d": '{"age": 30}'} == dict(text)
        assert {"a": b"1"} == dict(tx.text().range(stop="b"))
        text.delete_range("a", "c")
        assert [b"c", b"d"] == [*tx]
    assert [b"c", b"d"] == [*db]
    for look in (lambda: text["c"], lambda: text.commit(), lambda: text.__enter__(), lambda: tx.text()):
        with pytest.raises(lsmdbm.ClosedError, match="committed"):
            look()
    with db.transaction() as tx:
        text = tx.text()
        text["e"] = b"5"
        text.rollback()
    assert "e" not in db


# -- batches ----------------------------------------------------------------------------------------


def test_a_batch_is_written_when_its_block_is_left_or_never(fruit):
    with fruit.batch() as batch:
        assert isinstance(batch, lsmdbm.DecodedBatch)
        batch["apple"] = ["green"]
        batch.put("elder", ["black"])
        batch.update({"fig": ["green"]}, grape=["blue"])
        del batch["banana"]
        batch.delete("missing")
        assert 6 == len(batch)
        assert FRUIT == dict(fruit)
    changed = {**FRUIT, "apple": ["green"], "elder": ["black"], "fig": ["green"], "grape": ["blue"]}
    del changed["banana"]
    assert changed == dict(fruit)

    with pytest.raises(ZeroDivisionError), fruit.batch() as batch:
        batch["apple"] = ["blue"]
        raise ZeroDivisionError
    with fruit.batch() as batch:
        batch["apple"] = ["blue"]
        batch.discard()
    assert changed == dict(fruit)


def test_a_range_deleted_in_a_batch_spares_what_comes_later(fruit):
    with fruit.batch() as batch:
        batch["bilberry"] = ["gone"]
        batch.delete_range("b", "d")
        batch["cherry"] = ["later"]
        batch.delete_range(prefix="dam")
    assert {"apple": ["red"], "cherry": ["later"]} == dict(fruit)


def test_what_cannot_be_stored_is_told_when_it_is_given_to_a_batch(face):
    with face.batch() as batch:
        for wrong in (b"a", 1, None):
            for give in (
                lambda wrong=wrong: batch.put(wrong, 1),
                lambda wrong=wrong: batch.delete(wrong),
                lambda wrong=wrong: batch.update({wrong: 1}),
            ):
                with pytest.raises(TypeError, match=f"key must be str, not {type(wrong).__name__}"):
                    give()
        with pytest.raises(TypeError, match="start must be str"):
            batch.delete_range(b"a")
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            batch["a"] = lambda: None
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            batch.update([("b", 1), ("c", lambda: None)])
    assert {"b": 1} == dict(face)
    for late in (
        lambda: batch.put(1, 1),
        lambda: batch.delete(1),
        lambda: batch.update({1: 1}),
        batch.discard,
    ):
        with pytest.raises(RuntimeError, match="its block has been left"):
            late()


def test_the_text_of_a_batch_is_that_batch(db):
    with db.batch() as batch:
        batch.text(json)["a"] = [1]
        batch["b"] = "2"
        batch.text("latin-1")["c"] = "\xe9"
        assert 3 == len(batch.text())
    assert {b"a": b"[1]", b"b": b"2", b"c": b"\xe9"} == dict(db)
    with db.batch().text() as batch:
        batch["a"] = b"block"
    assert b"block" == db["a"]
    with pytest.raises(LookupError):
        db.batch().text("no-such-encoding")


# -- snapshots --------------------------------------------------------------------------------------


def test_the_text_of_a_snapshot_is_that_moment(db):
    db.update(a="[1]", b="[2]", c="[3]")
    with db.snapshot() as snapshot:
        text = snapshot.text(json)
        db.clear()
        items = [("a", [1]), ("b", [2]), ("c", [3])]
        assert expected_about(items) == everything_about(text)
        assert isinstance(text, lsmdbm.DecodedSnapshot)
        assert {"c": [3]} == text.get_many(["c", "x"])
        assert ("a", "c", "b", "b") == (text.firstkey(), text.lastkey(), text.nextkey("a"), text.prevkey("c"))
        assert (None, None) == (text.nextkey("c"), text.prevkey("a"))
        with pytest.raises(TypeError, match="key must be str"):
            text.nextkey(b"a")
        with pytest.raises(lsmdbm.ReadOnlyError):
            text.range("a").delete()
        text.close()
        for look in (lambda: snapshot["a"], lambda: text["a"], lambda: text.nextkey(1), snapshot.text):
            with pytest.raises(lsmdbm.ClosedError, match="snapshot"):
                look()


def test_keys_have_neighbours_in_every_face(fruit):
    with fruit.transaction() as tx:
        for each in (fruit, tx, fruit.snapshot()):
            assert ("apple", "damson") == (each.firstkey(), each.lastkey())
            assert ("cherry", "banana") == (each.nextkey("banana"), each.prevkey("c"))
            assert (None, None) == (each.nextkey("damson"), each.prevkey("apple"))


# -- ranges that are deleted ------------------------------------------------------------------------


def test_a_range_of_a_face_is_deleted_with_all_that_is_in_it(fruit):
    fruit.range("b", "c").delete()
    assert ["apple", "cherry", "damson"] == [*fruit]
    fruit.range("a").range(prefix="c", reverse=True).delete()
    assert ["apple", "damson"] == [*fruit]
    fruit.delete_range("x", "b")
    fruit.delete_range(stop="apple")
    assert ["apple", "damson"] == [*fruit]
    fruit.delete_range(prefix="dam")
    assert ["apple"] == [*fruit]
    fruit.delete_range()
    assert ([], 0) == ([*fruit], len(fruit))


def test_what_cannot_be_decoded_can_be_deleted(db):
    db.update({"a": "{", "b": "1"})
    text = db.text(json)
    text.range("a", "b").delete()
    assert {"b": 1} == dict(text)
    db["c"] = "{"
    text.delete_range("c")
    assert {"b": 1} == dict(text)


@pytest.mark.parametrize("kind", FACES)
def test_a_face_for_reading_only_refuses_to_change_anything(path, kind):
    face, owner = opened(kind, path)
    face.update(FRUIT)
    owner.close()
    face, owner = opened(kind, path, "r")
    with owner:
        for change in (
            lambda: face.batch(),
            lambda: face.transaction(),
            lambda: face.run(len),
            lambda: face.delete_range("a"),
            lambda: face.delete_range(1),
            lambda: face.range("a").delete(),
        ):
            with pytest.raises(lsmdbm.ReadOnlyError):
                change()
    closed = lsmdbm.ClosedError if kind == "text" else ValueError
    for change in (face.batch, face.transaction, lambda: face.run(len), lambda: face.delete_range(1)):
        with pytest.raises(closed):
            change()


def test_nothing_of_a_handle_can_be_pickled(face):
    with face.transaction() as tx, face.batch() as batch:
        for each in (tx, batch):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(each)
        assert repr(tx).startswith("<DecodedTransaction over <lsmdbm.Transaction on ")
        assert repr(batch).startswith("<DecodedBatch over <lsmdbm.WriteBatch for ")


# -- shelves with writeback -------------------------------------------------------------------------


def by_batch(shelf):
    with shelf.batch() as batch:
        batch["apple"] = ["green"]
        batch.delete_range("b", "c")


def by_transaction(shelf):
    with shelf.transaction() as tx:
        tx["apple"] = ["green"]
        tx.delete_range("b", "c")


def by_run(shelf):
    shelf.run(lambda tx: (tx.update(apple=["green"]), tx.pop("banana")))


def by_itself(shelf):
    shelf["apple"] = ["green"]
    shelf.delete_range("b", "c")


def by_range(shelf):
    shelf["apple"] = ["green"]
    shelf.range("b", "d").range(stop="c").delete()


@pytest.mark.parametrize("change", [by_batch, by_transaction, by_run, by_itself, by_range])
def test_what_was_changed_otherwise_does_not_come_back_from_the_cache(path, kept, change):
    """The cache comes first, and is stored again: an older object there would undo the change."""
    change(kept)

    expected = {"apple": ["green"], "cherry": ["dark", "red", "ripe"], "damson": ["blue", "ripe"]}
    assert expected == dict(kept)
    assert [*expected.items()] == [*kept.range().items()]
    kept.close()
    with lsmdbm.open_shelf(path) as shelf:
        assert expected == dict(shelf)


def test_what_is_not_written_leaves_the_cache_as_it_is(kept):
    for give_up in (kept.batch, kept.transaction):
        with pytest.raises(ZeroDivisionError), give_up() as changes:
            changes["apple"] = ["green"]
            changes.delete_range("b")
            raise ZeroDivisionError
    tx = kept.transaction()
    tx["apple"] = tx["banana"]
    kept["banana"] = ["other"]
    with pytest.raises(lsmdbm.ConflictError):
        tx.commit()
    assert ["red", "ripe"] == kept["apple"]
    assert ["dark", "red", "ripe"] == kept["cherry"]


def test_a_transaction_of_a_shelf_reads_what_is_stored(kept):
    with kept.transaction() as tx:
        assert ["red"] == tx["apple"]
        assert tx["apple"] is not tx["apple"]
        kept.sync()
    with kept.transaction() as tx:
        assert ["red", "ripe"] == tx["apple"]
