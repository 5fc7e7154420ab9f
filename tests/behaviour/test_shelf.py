"""open_shelf(): what a shelf of ours does beyond the stdlib's, whose promises test_shelve.py holds it to."""

import copy
import json
import os
import pickle
import random
import shelve as stdlib
import subprocess
import sys

import pytest

import lsmdbm
from lsmdbm import shelve
from lsmdbm.database import open_on
from support.battery import everything_about, expected_about, selection, walk
from support.crash_storage import CrashStorage

pytestmark = pytest.mark.usefixtures("no_syncs")

KEYS = ["", "\0", "a", "a\0", "ab", "b", "\x7f", "\x80", "\xe9", "\xff", "\xff\xff", "key"]
VALUES = [None, 0, "text", (1, 2), [1, [2]], {"a": {1, 2}}]


def make(storage, **arguments):
    return shelve.Shelf(open_on(storage, "/db", "c", 0o666, {"memtable_bytes": 4096}), **arguments)


JSON = {"serializer": lambda value, protocol: json.dumps(value), "deserializer": json.loads}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("writeback", [False, True])
@pytest.mark.parametrize("syncs", [False, True])
def test_a_shelf_does_what_a_dict_does(encoding, writeback, syncs, seed, budget):
    rng = random.Random(f"{seed} shelf {encoding} {writeback} {syncs}")
    storage = CrashStorage()
    with make(storage, keyencoding=encoding, writeback=writeback) as shelf:
        model = walk(
            shelf,
            rng,
            KEYS,
            VALUES,
            steps=40 if budget == "small" else 150,
            after=(lambda: rng.random() < 0.2 and shelf.sync()) if syncs else None,
        )
    with make(storage, keyencoding=encoding) as shelf:
        assert model == shelf


def stored(value, store):
    store(value)
    return value


GETS = {  # how to get at a list that is in a mapping, or in a part of it; a new one if there is none
    "get": lambda mapping, part, key, new: part.get(key, new),
    "last of values": lambda mapping, part, key, new: [new, *(part[key] for key in sorted(part))][-1],
    "values": lambda mapping, part, key, new: max(part.values(), default=new),
    "items": lambda mapping, part, key, new: dict(part.items()).get(key, new),
    "setdefault": lambda mapping, part, key, new: mapping.setdefault(key, new),
    "setitem": lambda mapping, part, key, new: stored(new, lambda value: mapping.__setitem__(key, value)),
    "update": lambda mapping, part, key, new: stored(new, lambda value: mapping.update({key: value})),
}


@pytest.mark.parametrize("reads", ["shelf", "range"])
def test_with_writeback_what_is_changed_in_place_is_kept_however_it_was_got_at(seed, budget, reads):
    """A dict of lists beside a shelf of lists: what one side appends to, so does the other."""
    rng = random.Random(f"{seed} writeback {reads}")
    storage, model = CrashStorage(), {}
    shelf = make(storage, writeback=True)
    for number in range(150 if budget == "small" else 500):
        key, name = rng.choice(KEYS), rng.choice([*GETS])
        for mapping in (model, shelf):
            part = shelf.range() if mapping is shelf and reads == "range" else mapping
            GETS[name](mapping, part, key, [number]).append(-number)
        assert dict(sorted(model.items())) == dict(shelf.range().items()), name
        draw = rng.random()
        if draw < 0.1:
            assert model.pop(key, None) == shelf.pop(key, None)
            assert key not in shelf
            assert key not in shelf.cache
        elif draw < 0.15:
            shelf.sync()
        elif draw < 0.2:
            shelf.close()
            shelf = make(storage, writeback=True)
    shelf.close()
    with make(storage) as shelf:
        assert dict(sorted(model.items())) == dict(shelf.items())


# -- ranges -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("writeback", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16-be"])
def test_ranges_are_of_decoded_keys_and_values(encoding, writeback):
    """In UTF-16 the order of bytes is that of code points too, but for surrogates."""
    model = {key: [key] for key in KEYS}
    with make(CrashStorage(), keyencoding=encoding, writeback=writeback) as shelf:
        shelf.update(copy.deepcopy(model))
        for start in (None, *KEYS):
            for stop in (None, *KEYS):
                assert selection(model, start, stop, None, False) == [*shelf.range(start, stop).items()]
        for prefix in KEYS:
            items = selection(model, None, None, prefix, True)
            assert expected_about(items) == everything_about(shelf.range(prefix=prefix, reverse=True))


def test_with_writeback_a_range_hands_out_the_objects_of_the_shelf(path):
    with lsmdbm.open_shelf(path, writeback=True) as shelf:
        shelf.update(a=[1], b=[2], c=[3])
        shelf.sync()
        first, held = shelf.range().first()[1], shelf["b"]
        held.append("changed")

        assert first is shelf["a"] is shelf.range()["a"] is shelf.range("a").get("a")
        assert [first, held, shelf["c"]] == [*shelf.range().values()]
        assert all(value is shelf[key] for key, value in shelf.range(reverse=True).items())
        assert held is dict(shelf.items())["b"]
        assert ("c", [3]) == shelf.range().range("b").last()
        assert (None, None, False) == (
            shelf.range("c").get("a"),
            shelf.range("x").first(),
            "a" in shelf.range("b"),
        )
        with pytest.raises(KeyError, match="'a'"):
            shelf.range("b")["a"]


def test_what_is_deleted_under_an_iteration_does_not_come_back(path):
    """The iteration still knows the entry; put into the cache, the next sync would write it anew."""
    with lsmdbm.open_shelf(path, writeback=True) as shelf:
        shelf.update(a=[1], b=[2], c=[3])
        shelf.sync()
        items, values = iter(shelf.items()), iter(shelf.range().values())
        assert (("a", [1]), [1]) == (next(items), next(values))
        del shelf["b"]
        assert ([("c", [3])], [[3]]) == ([*items], [*values])
    with lsmdbm.open_shelf(path) as shelf:
        assert {"a": [1], "c": [3]} == dict(shelf)


def test_what_is_cleared_is_gone_from_the_cache_too(path):
    with lsmdbm.open_shelf(path, writeback=True) as shelf:
        shelf.update(a=[1], b=[2])
        shelf.clear()
        assert (None, [], False) == (shelf.get("a"), [*shelf], "b" in shelf)
    with lsmdbm.open_shelf(path) as shelf:
        assert {} == dict(shelf)


def test_without_writeback_each_value_is_a_copy(path):
    with lsmdbm.open_shelf(path) as shelf:
        shelf["a"] = given = [1]
        shelf["a"].append(2)
        shelf.range().first()[1].append(2)
        given.append(2)
        assert [1] == shelf["a"] == shelf.range()["a"]
        assert {} == shelf.cache


@pytest.mark.parametrize("wrong", [b"a", 1, None, ["a"]], ids=repr)
@pytest.mark.parametrize("writeback", [False, True])
def test_a_key_that_is_no_str_is_a_type_error(path, wrong, writeback):
    with lsmdbm.open_shelf(path, writeback=writeback) as shelf:
        shelf["a"] = 1
        for look in (
            lambda: shelf[wrong],
            lambda: shelf.get(wrong),
            lambda: wrong in shelf,
            lambda: shelf.pop(wrong),
            lambda: shelf.__setitem__(wrong, 1),
            lambda: shelf.__delitem__(wrong),
            lambda: shelf.setdefault(wrong, 1),
            lambda: shelf.update([(wrong, 1)]),
            lambda: shelf.range()[wrong],
        ):
            with pytest.raises(TypeError, match=f"^key must be str, not {type(wrong).__name__}$"):
                look()
        assert {"a": 1} == dict(shelf)


def test_a_missing_key_is_a_key_error_with_the_callers_own_object(path):
    class Key(str):
        __slots__ = ("__dict__",)

    missing = Key("missing")
    with lsmdbm.open_shelf(path) as shelf:
        for look in (shelf.__getitem__, shelf.__delitem__, shelf.pop, shelf.range().__getitem__):
            with pytest.raises(KeyError) as caught:
                look(missing)
            assert missing is caught.value.args[0]


# -- serializers ------------------------------------------------------------------------------------


def test_serializers_may_return_str_or_bytes(path):
    with lsmdbm.open_shelf(path, **JSON) as shelf:
        shelf["caf\u00e9"] = {"\u20ac": [1, None]}
        assert {"\u20ac": [1, None]} == shelf["caf\u00e9"]
    with lsmdbm.open(path, "w") as db:
        assert {"caf\u00e9": {"\u20ac": [1, None]}} == dict(db.text(json))
    seen = []
    arguments = {
        "serializer": lambda value, protocol: (seen.append(protocol), bytearray(value))[1],
        "deserializer": lambda data: (seen.append(type(data)), data.decode())[1],
    }
    with lsmdbm.open_shelf(path, "n", 3, **arguments) as shelf:
        shelf["a"] = b"1"
        assert "1" == shelf["a"]
    assert [3, bytes] == seen


def test_serializers_go_together(path):
    for given in ({"serializer": JSON["serializer"]}, {"deserializer": json.loads}):
        with pytest.raises(shelve.ShelveError, match="one was given without the other"):
            lsmdbm.open_shelf(path, **given)
    assert not os.path.exists(path)


def test_pickles_are_those_of_the_protocol(path):
    for protocol in [None, *range(pickle.HIGHEST_PROTOCOL + 1)]:
        with lsmdbm.open_shelf(path, "n", protocol) as shelf:
            shelf["a"] = [1, "text"]
        with lsmdbm.open(path) as db:
            assert (
                pickle.dumps([1, "text"], protocol or pickle.DEFAULT_PROTOCOL * (protocol is None)) == db["a"]
            )


# -- opening and closing ----------------------------------------------------------------------------


def test_open_shelf_creates_and_takes_the_options_of_open(path):
    with lsmdbm.open_shelf(path, memtable_bytes=1 << 16, mode=0o600) as shelf:
        shelf["a"] = 1
        assert 1 << 16 == shelf.dict._store.options.memtable_bytes
    assert 0o700 == os.stat(path).st_mode & 0o777
    with shelve.open(filename=path, flag="r", protocol=None, writeback=False) as shelf:
        assert {"a": 1} == dict(shelf)
        with pytest.raises(lsmdbm.ReadOnlyError):
            shelf["a"] = 2
    with pytest.raises(TypeError, match="nonsense"):
        lsmdbm.open_shelf(path, nonsense=1)
    with pytest.raises(lsmdbm.FlagError):
        lsmdbm.open_shelf(path, "x")
    with pytest.raises(lsmdbm.NotFoundError):
        lsmdbm.open_shelf(path + "2", "r")


def test_what_either_shelf_writes_the_other_reads(path):
    with stdlib.Shelf(lsmdbm.open(path, "c")) as shelf:
        shelf.update(a=[1], b={"x": 2})
    with lsmdbm.open_shelf(path) as shelf:
        assert {"a": [1], "b": {"x": 2}} == dict(shelf)
        shelf["c"] = 3
    with stdlib.Shelf(lsmdbm.open(path)) as shelf:
        assert {"a": [1], "b": {"x": 2}, "c": 3} == dict(shelf)


LOOKS = {
    "getitem": lambda shelf: shelf["a"],
    "get": lambda shelf: shelf.get("a"),
    "contains": lambda shelf: "a" in shelf,
    "setitem": lambda shelf: shelf.__setitem__("a", 1),
    "delitem": lambda shelf: shelf.__delitem__("a"),
    "pop": lambda shelf: shelf.pop("a", None),
    "popitem": lambda shelf: shelf.popitem(),
    "setdefault": lambda shelf: shelf.setdefault("a", 1),
    "update": lambda shelf: shelf.update(a=1),
    "clear": lambda shelf: shelf.clear(),
    "len": len,
    "bool": bool,
    "iter": iter,
    "reversed": reversed,
    "keys": lambda shelf: shelf.keys(),
    "values": lambda shelf: shelf.values(),
    "items": lambda shelf: shelf.items(),
    "range": lambda shelf: shelf.range(),
    "a wrong key": lambda shelf: shelf[1],
    "a wrong value": lambda shelf: shelf.__setitem__("a", lambda: None),
    "the dictionary": lambda shelf: shelf.dict["a"],
    "a method of the dictionary": lambda shelf: shelf.dict.stats(),
}


@pytest.mark.parametrize("writeback", [False, True])
def test_a_closed_shelf_says_so(path, writeback):
    db = lsmdbm.open(path, "c")
    shelf = shelve.Shelf(db, writeback=writeback)
    shelf.update(a=[1], b=[2])
    part, items = shelf.range(), iter(shelf.items())
    next(items)
    shelf.close()
    shelf.close()
    shelf.sync()

    for name, look in LOOKS.items():
        with pytest.raises(ValueError, match="^invalid operation on closed shelf$"):
            look(shelf)
        assert name
    for late in (lambda: next(items), lambda: [*part], lambda: db["a"]):
        with pytest.raises(lsmdbm.ClosedError):
            late()
    assert "<lsmdbm.shelve.Shelf over <closed>>" == repr(shelf)


class Spoiled(list):
    """Can be pickled as long as it is empty."""

    def __reduce__(self):
        if self:
            raise RuntimeError("spoiled")
        return Spoiled, ()


def test_a_shelf_that_cannot_be_synced_is_closed_all_the_same(path):
    with pytest.raises(RuntimeError, match="spoiled"), lsmdbm.open_shelf(path, writeback=True) as shelf:
        shelf.update(a=[1], b=Spoiled(), c=[3])
        for value in shelf.values():
            value.append("changed")
    assert {} == shelf.cache
    with lsmdbm.open(path, "w") as db:
        assert [[1, "changed"], [3, "changed"]] == [pickle.loads(db[key]) for key in "ac"]


def test_a_read_only_shelf_with_writeback_says_that_it_cannot_write_back(path):
    with lsmdbm.open_shelf(path) as shelf:
        shelf["a"] = [1]
    with lsmdbm.open_shelf(path, "r", writeback=True) as shelf:
        assert "a" in shelf
        assert ["a"] == [*shelf]
    with pytest.raises(lsmdbm.ReadOnlyError), lsmdbm.open_shelf(path, "r", writeback=True) as shelf:
        shelf["a"].append(2)
    with pytest.raises(ValueError, match="closed shelf"):
        shelf["a"]


def test_a_shelf_cannot_be_copied_or_pickled(path):
    """A copy would close the database of the original when it is dropped."""
    with lsmdbm.open_shelf(path) as shelf:
        for copies in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="pass its path"):
                copies(shelf)


def test_reorganize_writes_the_cache_back_and_gives_space_back(path):
    with lsmdbm.open_shelf(path, writeback=True) as shelf:
        shelf.update((str(number), os.urandom(20_000)) for number in range(50))
        for number in range(49):
            del shelf[str(number)]
        shelf["49"] = [1]
        shelf["49"].append(2)
        shelf.reorganize()
        assert {} == shelf.cache
        assert [1, 2] == shelf["49"]
    assert sum(entry.stat().st_size for entry in os.scandir(path)) < 100_000


def test_sync_makes_every_touched_entry_outlive_power_loss():
    storage = CrashStorage()
    with make(storage, writeback=True) as shelf:
        shelf.update((str(number), [number]) for number in range(20))
        for value in shelf.values():
            value.append("changed")
        shelf.sync()
        after = storage.crash()
    with make(after) as shelf:
        assert {str(number): [number, "changed"] for number in range(20)} == dict(shelf)


# -- names ------------------------------------------------------------------------------------------

PROGRAM = """
import sys
import lsmdbm
assert not {"pickle", "shelve", "lsmdbm.shelve"} & set(sys.modules), "loaded before it is needed"
assert {"shelve", "open_shelf"} <= set(dir(lsmdbm))
assert lsmdbm.open_shelf is lsmdbm.shelve.open_shelf
import pickle
assert pickle.loads(pickle.dumps(lsmdbm.open_shelf)) is lsmdbm.open_shelf
try:
    lsmdbm.no_such_name
except AttributeError as exc:
    assert "module 'lsmdbm' has no attribute 'no_such_name'" == str(exc)
else:
    raise AssertionError
"""


def test_shelves_are_loaded_when_they_are_asked_for():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True)

    assert (0, b"") == (done.returncode, done.stderr)


def test_the_module_stands_where_the_stdlibs_stood(path):
    """celery's beat takes any object with open(path, writeback=True)."""
    with shelve.open(path, writeback=True) as shelf:
        assert isinstance(shelf, stdlib.Shelf)
        entries = shelf.setdefault("entries", {})
        entries["task"] = 1
        shelf.sync()
        assert {"task": 1} == shelf["entries"]
    assert issubclass(shelve.Shelf, stdlib.Shelf)
    assert {"Shelf", "ShelveError", "open", "open_shelf"} == set(shelve.__all__)


@pytest.mark.parametrize("writeback", [False, True])
def test_many_objects_at_once_are_those_that_single_keys_give(writeback):
    with make(CrashStorage(), writeback=writeback) as shelf:
        shelf["list"] = [1]
        shelf["list"].append(2)

        assert {"list": [1, 2] if writeback else [1]} == shelf.get_many(["list", "missing"])
        with pytest.raises(TypeError, match="key must be str"):
            shelf.get_many([b"list"])
    with pytest.raises(ValueError, match="closed"):
        shelf.get_many(["list"])


def test_shelf_forgotten_in_the_middle_of_a_write_to_its_database_is_written_back_later(path):
    """It was refused there, as any call is, and what was changed in place was lost."""
    with lsmdbm.open_shelf(path) as shelf:
        shelf["key"] = ["old"]
    forgotten = [lsmdbm.open_shelf(path, writeback=True)]
    forgotten[0]["key"].append("new")

    def forget(value):
        forgotten.clear()
        return b"value"

    with lsmdbm.open(path, "w") as db:
        db._store.change(b"other", forget)
        assert pickle.dumps(["old"]) == db["key"]
    with lsmdbm.open_shelf(path, "r") as shelf:
        assert ["old", "new"] == shelf["key"]
