"""Database is a MutableMapping, and what dbm adds to it."""

import gc
import os
import random
from collections.abc import MutableMapping

import pytest

import lsmdbm
from lsmdbm._engine.view import View
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage
from support.layers import KEYS, SHAPES, TINY, seal, shaped, write
from support.model import Model

pytestmark = pytest.mark.usefixtures("no_syncs")


@pytest.fixture
def abc(db):
    """A database with three entries."""
    db.update({"a": "1", "b": "2", "c": "3"})
    return db


def test_a_database_is_a_mutable_mapping(db):
    assert isinstance(db, MutableMapping)
    assert isinstance(db.range(), lsmdbm.Range)


# -- what goes in and what comes out ----------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["a\u00e9", b"a\xc3\xa9", bytearray(b"a\xc3\xa9"), memoryview(b"a\xc3\xa9")], ids=repr
)
@pytest.mark.parametrize("value", ["\u20ac", b"\xe2\x82\xac", bytearray(b"\xe2\x82\xac")], ids=repr)
def test_results_are_bytes_whatever_was_given(db, key, value):
    db[key] = value
    db["b"] = b""

    stored = [(b"a\xc3\xa9", b"\xe2\x82\xac"), (b"b", b"")]
    assert stored == list(db.items())
    assert stored[0][1] == db[key] == db.get(key) == db.setdefault(key, "other")
    assert key in db
    results = [db[key], db.pop(key), db.firstkey(), *db, *db.keys(), *db.values(), *db.popitem()]
    assert {bytes} == {type(result) for result in results}


@pytest.mark.parametrize("shape", SHAPES)
def test_many_keys_at_once_are_what_single_gets_find(shape, seed):
    rng = random.Random(f"{seed} {shape} many")
    with shaped(shape, rng) as (db, model):
        keys = rng.sample([*KEYS, b"", b"missing", b"\xff" * 9], len(KEYS) + 3)
        expected = [(key, value) for key in keys if (value := db.get(key)) is not None]

        assert 0 < len(expected) < len(keys)
        assert expected == list(db.get_many(keys + keys).items())


def test_many_keys_keep_the_type_they_were_asked_by(abc):
    assert {"a": b"1", b"b": b"2"} == abc.get_many(iter(["a", "missing", b"b"]))
    assert {} == abc.get_many([])
    with pytest.raises(TypeError, match="key must be str or bytes-like, not int"):
        abc.get_many(["a", 1])


def test_many_keys_are_of_one_moment(db, monkeypatch):
    """What is written while tables are read is not seen, though another key of the same call is in memory."""
    db.update({"in table": "1", "in both": "1"})
    db.flush()
    db["in both"] = "2"
    look = View.get_many

    def write_before(self, keys, recent):
        db.update({"in table": "3", "in both": "3"})
        return look(self, keys, recent)

    monkeypatch.setattr(View, "get_many", write_before)
    assert {"in table": b"1", "in both": b"2"} == db.get_many(["in table", "in both"])


def test_what_changes_after_it_was_stored_does_not_change_what_is_stored(db):
    key, value = bytearray(b"key"), bytearray(b"value")
    db[key] = value
    db.update([(memoryview(b"other"), memoryview(value))])
    key[:], value[:] = b"kex", b"vvvvv"

    assert {b"key": b"value", b"other": b"value"} == dict(db)


def test_empty_keys_and_values_are_distinct_from_absent(db):
    assert "" not in db
    db["a"] = ""
    assert (b"", None) == (db["a"], db.get(""))

    db[""] = "x"
    assert ([b"", b"a"], b"x", b"") == (db.keys(), db[b""], db.firstkey())
    del db[""]
    with pytest.raises(KeyError):
        db[""]
    assert [b"a"] == db.keys()


@pytest.mark.parametrize("length", [1, 63, 64, 255, 256, 65_535, 65_536])
def test_keys_and_values_of_every_length_class_come_back(path, length):
    key, value = b"k" * length, bytes(range(256)) * (length // 128 + 1)
    with lsmdbm.open(path, "c") as db:
        db.update([(key, value), (key[:-1] + b"a", b"")])
        for write_out in (lambda: None, db.flush, db.compact):
            write_out()
            assert value == db[key]
            assert [(key[:-1] + b"a", b""), (key, value)] == list(db.items())
    with lsmdbm.open(path) as db:
        assert value == db[key]


def test_a_large_value_comes_back(path):
    value = random.Random(1).randbytes(5 << 20)
    with lsmdbm.open(path, "c", memtable_bytes=1 << 20) as db:
        db["large"] = value
        db["small"] = "x"
        assert value == db["large"]
        db.flush()
        assert value == db["large"]
    with lsmdbm.open(path) as db:
        assert [(b"large", value), (b"small", b"x")] == list(db.items())


@pytest.mark.parametrize("memtable_bytes", [256, 1024, 8192])
def test_what_was_overwritten_or_deleted_stays_so_on_its_way_through_the_levels(memtable_bytes, seed, budget):
    rng, model = random.Random(f"{seed} levels {memtable_bytes}"), Model()
    options = {**TINY, "memtable_bytes": memtable_bytes}
    with open_on(CrashStorage(), "/db", "c", 0o666, options) as db:
        for step in range(20 if budget == "small" else 60):
            write(db, model, rng, rng.choice([3, 30, len(KEYS)]), deletes=rng.choice([0.1, 0.5, 0.9]))
            if step % 4 == 3:
                assert model.range() == [*db.items()]
                assert [model.get(key) for key in KEYS] == [db.get(key) for key in KEYS]
                assert len(model) == len(db)


# -- single keys ------------------------------------------------------------------------------------


class Key(str):
    __slots__ = ("__dict__",)


def test_a_missing_key_is_a_key_error_with_the_callers_own_object(abc):
    for missing in (Key("missing"), bytearray(b"missing")):
        for look in (abc.__getitem__, abc.__delitem__, abc.pop, abc.range().__getitem__):
            with pytest.raises(KeyError) as caught:
                look(missing)
            assert missing is caught.value.args[0]
    assert 3 == len(abc)


def test_get_and_pop_hand_back_the_very_default(abc):
    for default in (object(), None, [], b"", "text"):
        assert default is abc.get("missing", default)
        assert default is abc.pop("missing", default)
        assert default is abc.range().get("missing", default)
    assert None is abc.get("missing")


def test_setdefault_stores_and_returns_bytes(abc):
    assert b"1" == abc.setdefault("a", "other")
    assert b"1" == abc.setdefault("a", None)
    assert b"4" == abc.setdefault("d", "4") == abc["d"]
    assert b"" == abc.setdefault("e") == abc["e"]
    with pytest.raises(TypeError, match="value must be str or bytes-like, not NoneType"):
        abc.setdefault("f", None)
    assert [b"a", b"b", b"c", b"d", b"e"] == abc.keys()


def test_pop_deletes_and_returns(abc):
    assert b"2" == abc.pop("b")
    assert {b"a": b"1", b"c": b"3"} == dict(abc)
    with pytest.raises(KeyError):
        abc.pop("b")


def test_popitem_takes_the_smallest_first_until_there_is_none(abc):
    assert [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")] == [abc.popitem() for _ in range(3)]
    with pytest.raises(KeyError, match="empty"):
        abc.popitem()


def test_a_write_of_a_key_that_was_deleted_brings_it_back(abc):
    del abc["a"]
    abc["a"] = "again"

    assert (b"again", 3) == (abc["a"], len(abc))


# -- many keys --------------------------------------------------------------------------------------


class WithKeys:
    """What dict.update takes besides mappings."""

    def keys(self):
        return ["x", "y"]

    def __getitem__(self, key):
        return key * 2


def test_update_takes_all_that_dict_does(db):
    db.update({"a": "1"})
    db.update([("b", "2"), ("a", "3")])
    db.update((("c", "4"), ("c", "5")), d="6", other="7", self="8")
    db.update(WithKeys())
    db.update(iter([("z", "9")]))
    db.update()
    db.update({}, e="10")

    expected = {"a": "3", "b": "2", "c": "5", "d": "6", "other": "7", "self": "8"}
    expected |= {"x": "xx", "y": "yy", "z": "9", "e": "10"}
    assert {key.encode(): value.encode() for key, value in sorted(expected.items())} == dict(db)


def test_update_takes_databases_and_ranges_itself_included(abc, tmp_path):
    with lsmdbm.open(tmp_path / "other", "c") as other:
        other.update(abc)
        assert abc == other
        other.update((key + key, value) for key, value in other.items())
        other.update(other.range("b"))
    with lsmdbm.open(tmp_path / "other") as other:
        assert [b"a", b"aa", b"b", b"bb", b"c", b"cc"] == other.keys()


@pytest.mark.parametrize("wrong", [None, 42, [1], [("a", "1", "2")], [("a",)], "ab c"], ids=repr)
def test_update_refuses_what_is_no_pairs(db, wrong):
    with pytest.raises((TypeError, ValueError)):
        db.update(wrong)


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 2500])
@pytest.mark.parametrize("fault", [("key", 1), (1, "value"), "raise"])
def test_an_update_that_fails_keeps_exactly_what_came_before(db, count, fault):
    def pairs():
        for number in range(count):
            yield b"%05d" % number, b"v"
        if fault == "raise":
            raise RuntimeError("no more")
        yield fault
        yield b"after", b"v"

    with pytest.raises((TypeError, RuntimeError)):
        db.update(pairs())
    assert [b"%05d" % number for number in range(count)] == db.keys()


def test_update_may_read_what_it_is_writing_to(db):
    db["0"] = "first"

    def chain():
        for number in range(1, 50):
            yield str(number), db["0"] + b"%d" % len(db)

    db.update(chain())

    assert 50 == len(db)
    assert b"first1" == db["1"]  # a batch shows as a whole or not at all


def test_clear_leaves_nothing_here_and_after_reopening(path):
    with lsmdbm.open(path, "c", memtable_bytes=1024) as db:
        for _ in range(2):
            db.update((str(number), "value" * 10) for number in range(500))
            db.clear()
            assert (0, [], False, None) == (len(db), db.keys(), bool(db), db.firstkey())
            assert None is db.get("7")
        db["after"] = "1"
        db.flush()
        assert {b"after": b"1"} == dict(db)
    with lsmdbm.open(path) as db:
        assert {b"after": b"1"} == dict(db)


@pytest.mark.parametrize("is_flushed", [False, True])
def test_clear_is_remembered_by_the_log(path, is_flushed):
    with lsmdbm.open(path, "c", background="manual") as db:
        db.update(a="1", b="2")
        if is_flushed:
            db.flush()
        db.clear()
        db["c"] = "3"
    for flag in "rwr":
        with lsmdbm.open(path, flag) as db:
            assert ([b"c"], 1, None) == (db.keys(), len(db), db.get("a"))
            if flag == "w":
                del db["c"]
                db["c"] = "3"


def test_clear_costs_the_same_however_much_there_is(path):
    costs = []
    for count in (10, 5000):
        with lsmdbm.open(path, "n", background="manual") as db:
            db.update((b"%05d" % number, b"v") for number in range(count))
            db.flush()
            before = db.stats().written_bytes
            db.clear()
            costs.append(db.stats().written_bytes - before)
    assert costs[0] == costs[1]


# -- len, bool, == ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_length_is_exact_after_every_kind_of_write(shape, seed):
    with shaped(shape, random.Random(f"{seed} length")) as (db, model):
        rng = random.Random(f"{seed} writes")
        assert len(model) == len(db)
        for step in range(150):
            key = rng.choice([b"key%03d" % rng.randrange(600), b"new%03d" % rng.randrange(50)])
            if rng.random() < 0.5:
                db[key] = b"value"
                model.put(key, b"value")
            else:
                db.pop(key, None)
                model.delete(key)
            if rng.random() < 0.2:
                seal(db)
            if rng.random() < 0.1:
                assert len(model) == len(db)
            if step % 50 == 49:
                db.flush()
        assert len(model) == len(db) == len(db.keys())


def test_length_costs_no_scan_when_little_was_written(path, monkeypatch):
    with lsmdbm.open(path, "c") as db:
        db.update((b"%05d" % number, b"v") for number in range(5000))
        db.flush()
        assert 5000 == len(db)
        monkeypatch.setattr("lsmdbm._engine.view.View.chunks", None)  # no way to scan
        for number in range(100):
            db[b"%05d" % (4950 + number)] = b"w"
            del db[b"%05d" % number]
            assert 5000 - number - 1 + max(0, number - 49) == len(db)


def test_the_length_is_remembered_by_a_closed_database(path, monkeypatch):
    with lsmdbm.open(path, "c") as db:
        db.update((b"%05d" % number, b"v") for number in range(100))
        assert 100 == len(db)
        db.flush()
    with lsmdbm.open(path) as db:
        monkeypatch.setattr("lsmdbm._engine.view.View.chunks", None)
        assert 100 == len(db)


@pytest.mark.parametrize("shape", SHAPES)
def test_truth_is_whether_there_is_anything(shape, seed):
    with shaped(shape, random.Random(f"{seed} truth")) as (db, model):
        assert True is bool(db)
        for key in model.keys():  # noqa: SIM118 - no dict
            del db[key]
        assert False is bool(db)
        assert (None, None, []) == (db.firstkey(), db.lastkey(), [*db])
        db["a"] = ""
        assert True is bool(db)


def test_equality_is_of_contents(abc, tmp_path):
    same = {b"a": b"1", b"b": b"2", b"c": b"3"}
    with lsmdbm.open(tmp_path / "other", "c") as other:
        other.update(same)
        assert abc == abc  # noqa: PLR0124 - itself
        assert abc == same
        assert same == abc
        assert abc == other
        assert abc == other.range()
        assert abc != {"a": "1", "b": "2", "c": "3"}
        other["c"] = "4"
        assert abc != other
        other["c"] = "3"
        other["d"] = "4"
        assert abc != other
    assert abc != [*same.items()]
    with pytest.raises(TypeError, match="unhashable"):
        hash(abc)


def test_a_database_equals_itself_even_when_closed(path):
    db = lsmdbm.open(path, "c")
    db.close()

    assert db == db  # noqa: PLR0124 - identity comes first


# -- keys, values, items ----------------------------------------------------------------------------


def test_keys_is_a_real_sorted_list(abc):
    keys = abc.keys()

    assert list is type(keys)
    assert [b"a", b"b", b"c"] == keys
    keys.clear()
    assert 3 == len(abc)


def test_deleting_in_a_loop_over_keys_empties_the_database(abc):
    for key in abc.keys():  # noqa: SIM118 - the list is what makes this right
        del abc[key]
    assert [] == abc.keys()


def test_views_are_sized_and_can_be_iterated_again(abc):
    items, values = abc.items(), abc.values()

    for _ in range(2):
        assert [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")] == [*items]
        assert [b"1", b"2", b"3"] == [*values]
    assert [b"3", b"2", b"1"] == [*reversed(values)]
    assert (3, 3) == (len(items), len(values))
    abc["d"] = "4"
    assert (4, 4) == (len(items), len(values))
    assert (b"d", b"4") in items
    assert (b"d", b"5") not in items
    assert b"4" in values
    assert b"5" not in values


def test_iteration_ascends_by_bytes_and_reversed_descends(db, seed):
    rng = random.Random(f"{seed} order")
    keys = {rng.randbytes(rng.randrange(4)) for _ in range(500)}
    db.update((key, b"") for key in keys)

    assert sorted(keys) == [*db] == db.keys() == [*db.iterkeys()]
    assert sorted(keys, reverse=True) == [*reversed(db)]


# -- dbm --------------------------------------------------------------------------------------------


def test_the_keys_can_be_walked_both_ways(abc):
    assert [b"a", b"b", b"c", None] == walk(abc.firstkey(), abc.nextkey)
    assert [b"c", b"b", b"a", None] == walk(abc.lastkey(), abc.prevkey)


def walk(key, step):
    """Return the first keys of a walk, as far as None."""
    seen = [key]
    while seen[-1] is not None and len(seen) < 10:
        seen.append(step(seen[-1]))
    return seen


@pytest.mark.parametrize(
    ("key", "following", "previous"),
    [
        ("", b"a", None),
        ("a", b"b", None),
        ("aa", b"b", b"a"),
        ("b", b"c", b"a"),
        ("b\x00", b"c", b"b"),
        ("c", None, b"b"),
        ("d", None, b"c"),
        (b"\xff" * 10, None, b"c"),
        (b"a" * (1 << 17), b"b", b"a"),
    ],
)
def test_steps_start_anywhere(abc, key, following, previous):
    assert (following, previous) == (abc.nextkey(key), abc.prevkey(key))


def test_a_walk_survives_deletion_and_sees_the_empty_key(abc):
    abc[""] = "0"
    key = abc.firstkey()
    seen = []
    while key is not None and len(seen) < 10:
        seen.append(key)
        del abc[key]
        key = abc.nextkey(key)

    assert [b"", b"a", b"b", b"c"] == seen
    assert (None, None) == (abc.firstkey(), abc.lastkey())


def directory_bytes(path):
    return sum(entry.stat().st_size for entry in os.scandir(path))


def test_reorganize_gives_space_back_and_changes_nothing_else(path, seed):
    rng = random.Random(f"{seed} reorganize")
    with lsmdbm.open(path, "c") as db:
        for number in range(6):
            db[str(number)] = rng.choice([b"a", b"b"]) * rng.randrange(300_000, 1_100_000) + rng.randbytes(
                2000
            )
        for number in range(3):
            del db[str(number)]
        before = directory_bytes(path)
        iterator, expected = iter(db.items()), dict(db.items())
        first = next(iterator)
        db.reorganize()
        assert expected == dict(db) == {first[0]: first[1], **dict(iterator)}
    assert directory_bytes(path) < before
    with lsmdbm.open(path) as db:
        assert expected == dict(db)


def test_sync_and_close_are_enough_for_another_handle(path):
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
        db.sync()
    db.close()
    with lsmdbm.open(path) as db:
        assert b"1" == db["a"]


def test_a_handle_that_is_closed_by_with_may_be_entered_but_is_closed(path):
    with lsmdbm.open(path, "c") as db:
        pass
    with db as same, pytest.raises(lsmdbm.ClosedError):
        same["a"]


# -- a queue ----------------------------------------------------------------------------------------


class Counted:
    """Counts the entries that reads in order come across, deleted ones included."""

    def __init__(self, monkeypatch):
        self.entries = 0
        merged = View.merged
        monkeypatch.setattr(
            View, "merged", lambda view, *bounds, **how: self._count(merged(view, *bounds, **how))
        )

    def _count(self, chunks):
        for keys, values in chunks:
            self.entries += len(keys)
            yield keys, values


TAKES = {
    "popitem": lambda db: db.popitem()[0],
    "firstkey": lambda db: [key := db.firstkey(), db.pop(key)][0],
    "bool and popitem": lambda db: db.popitem()[0] if db else None,
    "iter": lambda db: [key := next(iter(db)), db.pop(key)][0],
    "items": lambda db: [key := next(iter(db.items()))[0], db.pop(key)][0],
    "popitem and iter": lambda db: [next(iter(db)), db.popitem()[0]][0],
    "first of range": lambda db: [key := db.range().first()[0], db.pop(key)][0],
}


@pytest.mark.parametrize("take", TAKES)
def test_a_queue_stays_linear(take, monkeypatch):
    """Taken entries leave tombstones in front of the live ones; each take must not walk over them again."""
    counted = Counted(monkeypatch)
    with open_on(CrashStorage(), "/db", "c", 0o666, {}) as db:
        for number in range(200):
            db[b"%08d" % number] = b"v"
        for number in range(3000):
            db[b"%08d" % (number + 200)] = b"v"
            assert b"%08d" % number == TAKES[take](db)
        assert 200 == len(db)
    assert counted.entries < 100 * 3000


def test_a_stack_stays_linear(monkeypatch):
    counted = Counted(monkeypatch)
    with open_on(CrashStorage(), "/db", "c", 0o666, {}) as db:
        db.update((b"%08d" % number, b"v") for number in range(3000))
        for number in reversed(range(3000)):
            db[b"%08d" % (number + 1)] = b"v"
            for _ in range(2):
                top = db.lastkey()
                del db[top]
        assert 0 == len(db)
    assert counted.entries < 200 * 3000


def test_several_queues_in_one_database_stay_linear(monkeypatch):
    counted = Counted(monkeypatch)
    with open_on(CrashStorage(), "/db", "c", 0o666, {}) as db:
        for number in range(3000):
            queue = b"q%d:" % (number % 5)
            db[queue + b"%08d" % number] = b"v"
            if number >= 500:
                key, _ = db.range(prefix=queue).first()
                assert queue + b"%08d" % (number - 500) == key
                del db[key]
        assert 500 == len(db)
    assert counted.entries < 100 * 3000


def test_urgent_entries_in_front_of_a_queue_keep_it_linear(monkeypatch):
    counted = Counted(monkeypatch)
    with open_on(CrashStorage(), "/db", "c", 0o666, {}) as db:
        for number in range(3000):
            db[b"%08d" % number] = b"v"
        for number in range(3000):
            assert b"%08d" % number == db.popitem()[0]
            db[b"%08d" % (number // 2)] = b"urgent"
            assert b"urgent" == db.popitem()[1]
    assert counted.entries < 200 * 3000


@pytest.mark.parametrize("write", ["put", "update", "setdefault"])
@pytest.mark.parametrize("key", ["", "0", "4", "5", "55"])
def test_what_is_put_in_front_of_a_queue_comes_first(db, write, key):
    db.update((str(number), "v") for number in range(10))
    for _ in range(5):
        db.popitem()
    if write == "put":
        db[key] = "new"
    elif write == "update":
        db.update({"7": "v", key: "new", "6": "v"})
    else:
        db.setdefault(key, "new")

    keys = sorted({*(b"%d" % number for number in range(5, 10)), key.encode()})
    assert keys == db.keys() == [*reversed(db)][::-1] == [*db.range(stop="z")]
    assert (keys[0], True, keys[0]) == (db.firstkey(), bool(db), db.popitem()[0])
    for key in keys[1:4]:
        del db[db.firstkey()]
        assert key not in db
    assert keys[4:] == db.keys()
    db.clear()
    assert (False, None, []) == (bool(db), db.firstkey(), db.keys())
    db[key] = "new"
    assert (True, key, [key]) == (bool(db), db.firstkey(), db.keys())


def test_handles_do_not_keep_what_was_read_alive(path):
    with lsmdbm.open(path, "c") as db:
        db.update((str(number), "v") for number in range(100))
        for _ in range(10):
            [*db.items()]
            next(iter(db))
        gc.collect()
        assert 1 == db.stats().memtables
