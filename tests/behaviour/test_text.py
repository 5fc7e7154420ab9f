"""A database with str keys: a MutableMapping of text, of JSON, of whatever a codec makes of bytes."""

import json
import pickle
import random
import threading
from collections.abc import KeysView, MutableMapping

import pytest

import lsmdbm
from lsmdbm.database import open_on
from support.battery import everything_about, expected_about, selection, walk
from support.crash_storage import CrashStorage

try:
    from test import mapping_tests
except ImportError:  # distributions keep the tests of Python in a package of their own
    mapping_tests = None

pytestmark = pytest.mark.usefixtures("no_syncs")

# One of each length in UTF-8, the first and the last of each, and what lies beside the surrogates.
KEYS = ["", "\0", "a", "a\0", "ab", "b", "\x7f", "\x80", "\xe9", "\u07ff", "\u0800", "\ud7ff", "\ue000"]
KEYS += ["\uffff", "\U00010000", "\U0010ffff", "\U0010ffff\U0010ffff", "key"]
VALUES = {
    None: [b"", b"\xff", b"value"],
    "utf-8": ["", "caf\u00e9", "\U0001f600"],
    "utf-16": ["", "caf\u00e9", "\U0001f600"],
    json: [None, 1.5, "text", [1, [2]], {"a": {"b": []}}],
    pickle: [None, 1, (1, 2), {1, 2}, b"bytes"],
}
CODECS = pytest.mark.parametrize("codec", VALUES, ids=lambda codec: getattr(codec, "__name__", str(codec)))


@pytest.fixture
def text(db):
    """A view of a new database, values are str."""
    return db.text("utf-8")


@pytest.fixture
def abc(text):
    """A view with three entries."""
    text.update(a="1", b="2", c="3")
    return text


if mapping_tests is not None:

    class TestProtocol(mapping_tests.BasicTestMappingProtocol):
        """CPython's own idea of a mapping."""

        def _reference(self):
            return {"1": "2", "key1": "value1", "key2": [1, 2, 3]}

        def _empty_mapping(self):
            db = open_on(CrashStorage(), "/db", "c", 0o666, {})
            self.addCleanup(db.close)
            return db.text(json)


@CODECS
@pytest.mark.parametrize("memtable_bytes", [512, 1 << 20])
def test_a_text_view_does_what_a_dict_does(codec, memtable_bytes, seed, budget):
    rng = random.Random(f"{seed} text {memtable_bytes}")
    options = {"memtable_bytes": memtable_bytes, "block_bytes": 64}
    with open_on(CrashStorage(), "/db", "c", 0o666, options) as db:
        model = walk(db.text(codec), rng, KEYS, VALUES[codec], steps=40 if budget == "small" else 200)
        assert model == db.text(codec)
        assert sorted(key.encode() for key in model) == db.keys()


# -- what goes in and what comes out ----------------------------------------------------------------


def test_both_views_of_a_database_show_the_same_entries(db, text):
    text["caf\u00e9"] = "\u20ac"
    db["b"] = "2"

    assert {b"b": b"2", b"caf\xc3\xa9": b"\xe2\x82\xac"} == dict(db)
    assert {"b": "2", "caf\u00e9": "\u20ac"} == dict(text)
    assert {"b": b"2", "caf\u00e9": b"\xe2\x82\xac"} == dict(db.text())
    assert isinstance(text, lsmdbm.Text)
    assert isinstance(text, MutableMapping)
    assert isinstance(text.range(), lsmdbm.DecodedRange)


def test_many_keys_at_once_are_decoded(db):
    text = db.text(json)
    text.update({"a": [1], "b": None, "\u20ac": "x"})

    assert {"\u20ac": "x", "b": None} == text.get_many(["\u20ac", "missing", "b"])


def test_without_a_codec_values_are_bytes_as_in_the_database(db):
    raw = db.text()
    for value in ("caf\u00e9", b"caf\xc3\xa9", bytearray(b"caf\xc3\xa9"), memoryview(b"caf\xc3\xa9")):
        raw["a"] = value
        assert b"caf\xc3\xa9" == raw["a"]
        assert bytes is type(raw["a"])
        assert bytes is type(raw.setdefault("b", value))
        del raw["b"]
    with pytest.raises(TypeError, match="value must be str or bytes-like, not NoneType"):
        raw.setdefault("new")
    assert ["a"] == [*raw]


def test_what_json_gives_back_is_what_it_stored(db):
    people = db.text(json)
    people["ann"] = {"age": 30, "likes": ("tea",)}
    assert {"age": 30, "likes": ["tea"]} == people["ann"]
    assert ["x"] == people.setdefault("bob", ("x",))
    assert None is people.setdefault("carl")
    with pytest.raises(TypeError):
        people["dora"] = {1, 2}
    assert ["ann", "bob", "carl"] == [*people]
    assert b'{"age": 30, "likes": ["tea"]}' == db["ann"]


class Number:
    """A codec of int."""

    dumps = str
    loads = int


def test_a_codec_is_any_object_with_dumps_and_loads(db):
    numbers = db.text(Number)
    numbers.update(a=1, b=20)

    assert {"a": 1, "b": 20} == dict(numbers)
    assert b"20" == db["b"]


def test_a_codec_that_returns_no_data_is_a_type_error(db):
    class Wrong:
        dumps = staticmethod(lambda value: value)
        loads = bytes

    with pytest.raises(TypeError, match="value must be str or bytes-like, not int"):
        db.text(Wrong)["a"] = 1
    assert [] == db.keys()


@pytest.mark.parametrize("wrong", [b"utf-8", 1, object(), "no-such-encoding", "hex"], ids=repr)
def test_what_is_no_codec_is_refused_when_it_is_given(db, wrong):
    with pytest.raises((TypeError, LookupError)):
        db.text(wrong)


# -- keys -------------------------------------------------------------------------------------------

WITH_KEY = {
    "getitem": lambda text, key: text[key],
    "get": lambda text, key: text.get(key),
    "contains": lambda text, key: key in text,
    "contains of keys": lambda text, key: key in text.keys(),  # noqa: SIM118 - the view
    "nextkey": lambda text, key: text.nextkey(key),
    "prevkey": lambda text, key: text.prevkey(key),
    "getitem of a range": lambda text, key: text.range()[key],
    "get of a range": lambda text, key: text.range().get(key),
    "contains of a range": lambda text, key: key in text.range(),
    "setitem": lambda text, key: text.__setitem__(key, "1"),
    "delitem": lambda text, key: text.__delitem__(key),
    "pop": lambda text, key: text.pop(key),
    "pop with a default": lambda text, key: text.pop(key, None),
    "setdefault": lambda text, key: text.setdefault(key, "1"),
    "update": lambda text, key: text.update([(key, "1")]),
    "update from a mapping": lambda text, key: text.update({key: "1"}),
}


@pytest.mark.parametrize("operation", WITH_KEY)
@pytest.mark.parametrize("wrong", [b"a", 1, None, ("a",)], ids=repr)
def test_a_key_that_is_no_str_is_a_type_error(abc, operation, wrong):
    with pytest.raises(TypeError, match=f"^key must be str, not {type(wrong).__name__}$"):
        WITH_KEY[operation](abc, wrong)
    assert {"a": "1", "b": "2", "c": "3"} == dict(abc)


@pytest.mark.parametrize("operation", WITH_KEY)
def test_a_lone_surrogate_is_an_encoding_error(abc, operation):
    with pytest.raises(UnicodeEncodeError):
        WITH_KEY[operation](abc, "\ud800")
    assert {"a": "1", "b": "2", "c": "3"} == dict(abc)


class Key(str):
    __slots__ = ("__dict__",)


def test_a_missing_key_is_a_key_error_with_the_callers_own_object(abc):
    missing = Key("missing")
    for look in (
        abc.__getitem__,
        abc.__delitem__,
        abc.pop,
        abc.range().__getitem__,
        abc.range("x").__getitem__,
    ):
        with pytest.raises(KeyError) as caught:
            look(missing)
        assert missing is caught.value.args[0]


def test_get_and_pop_hand_back_the_very_default(abc):
    for default in (object(), None, [], "text"):
        assert default is abc.get("missing", default)
        assert default is abc.pop("missing", default)
        assert default is abc.range().get("missing", default)


def test_a_stored_key_that_is_no_utf_8_is_named_where_it_is_met(abc, db):
    db[b"b\xff"] = "x"

    for look in (
        lambda: [*abc],
        lambda: [*reversed(abc)],
        lambda: [*abc.items()],
        lambda: abc.nextkey("b"),
        lambda: abc.range("b", "c", reverse=True).first(),
    ):
        with pytest.raises(UnicodeDecodeError, match=r"the key is b'b\\xff'"):
            look()
    assert (4, "3", "c", ["1", "2", "x", "3"]) == (len(abc), abc["c"], abc.lastkey(), [*abc.values()])
    del db["a"], db["b"]
    with pytest.raises(UnicodeDecodeError, match=r"the key is b'b\\xff'"):
        abc.popitem()
    assert b"x" == db[b"b\xff"]


def test_the_keys_are_a_view_that_can_be_deleted_under(abc):
    keys = abc.keys()
    assert isinstance(keys, KeysView)
    assert {"a", "b"} == keys & {"a", "b", "x"}
    for key in keys:
        del abc[key]
    assert (0, []) == (len(keys), [*keys])


def test_the_keys_can_be_walked_both_ways(abc):
    assert ("a", "b", "c", None) == (abc.firstkey(), abc.nextkey("a"), abc.nextkey("bb"), abc.nextkey("c"))
    assert ("c", "b", "a", None) == (abc.lastkey(), abc.prevkey("c"), abc.prevkey("aa"), abc.prevkey("a"))
    abc.clear()
    assert (None, None) == (abc.firstkey(), abc.lastkey())


# -- order and ranges -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_flushed", [False, True])
def test_order_is_that_of_code_points_in_every_range(db, is_flushed, budget):
    """Python compares str by code points; UTF-8 keeps that order, and a prefix stays a prefix."""
    text = db.text("utf-8")
    model = {key: f"value of {key}" for key in KEYS}
    text.update(model)
    if is_flushed:
        db.flush()
    assert sorted(KEYS) == [*text]

    bounds = [None, *KEYS]
    if budget == "small":
        bounds = [None, *KEYS[::3], KEYS[-2]]
    for start in bounds:
        for stop in bounds:
            part = text.range(start, stop)
            assert selection(model, start, stop, None, False) == [*part.items()]
            assert selection(model, start, stop, None, True) == [*reversed(part.items())]
    for prefix in bounds:
        items = selection(model, None, None, prefix, False)
        assert expected_about(items) == everything_about(text.range(prefix=prefix))
        assert expected_about(items[::-1]) == everything_about(text.range(prefix=prefix, reverse=True))
        assert expected_about(items) == everything_about(text.range().range(prefix=prefix))


def test_a_range_holds_its_own_keys_alone(abc):
    part = abc.range("b", "c")

    assert (None, "2", None) == (part.get("a"), part.get("b"), part.get("c"))
    assert (False, True) == ("a" in part, "b" in part)
    with pytest.raises(TypeError, match="^stop must be str, not bytes$"):
        abc.range(stop=b"c")
    with pytest.raises(TypeError, match="^prefix must be str, not int$"):
        part.range(prefix=1)
    with pytest.raises(TypeError):
        part["b"] = "x"


def test_an_iteration_sees_the_moment_it_began(abc):
    items = iter(abc.items())
    abc["a"] = "new"
    abc["d"] = "4"
    del abc["b"]

    assert [("a", "1"), ("b", "2"), ("c", "3")] == [*items]
    assert [("a", "new"), ("c", "3"), ("d", "4")] == [*abc.items()]


# -- many, closed, read only ------------------------------------------------------------------------


def test_an_update_that_fails_keeps_what_came_before(text):
    def pairs():
        yield from ((f"{number:04}", "v") for number in range(1500))
        yield "wrong", 1

    with pytest.raises(TypeError, match="value must be str, not int"):
        text.update(pairs())
    assert 1500 == len(text)


def test_updates_are_batched_by_the_database(db, text, monkeypatch):
    batches, write = [], db._store.batch
    monkeypatch.setattr(
        db._store, "batch", lambda keys, values: (batches.append(len(keys)), write(keys, values))
    )
    text.update((f"{number:04}", "v") for number in range(2500))

    assert [1000, 1000, 500] == [count for count in batches if count]


EVERYTHING = {
    **{name: lambda text, operation=operation: operation(text, "a") for name, operation in WITH_KEY.items()},
    "len": len,
    "bool": bool,
    "iter": iter,
    "reversed": reversed,
    "keys": lambda text: text.keys(),
    "values": lambda text: text.values(),
    "items": lambda text: text.items(),
    "range": lambda text: text.range("a"),
    "firstkey": lambda text: text.firstkey(),
    "lastkey": lambda text: text.lastkey(),
    "popitem": lambda text: text.popitem(),
    "clear": lambda text: text.clear(),
    "update with nothing": lambda text: text.update(),
    "a wrong key": lambda text: text[1],
    "a wrong key to write": lambda text: text.update({1: 2}),
    "a wrong value": lambda text: text.__setitem__("a", 1),
}
WRITES = {
    "setitem": lambda text: text.__setitem__("a", "2"),
    "setitem of what is wrong": lambda text: text.__setitem__(1, 2),
    "delitem": lambda text: text.__delitem__("a"),
    "delitem of a missing key": lambda text: text.__delitem__("x"),
    "delitem of a wrong key": lambda text: text.__delitem__(1),
    "setdefault of a new key": lambda text: text.setdefault("x", "2"),
    "setdefault of a wrong value": lambda text: text.setdefault("x", 2),
    "pop": lambda text: text.pop("a"),
    "pop with a default": lambda text: text.pop("a", None),
    "pop of a missing key": lambda text: text.pop("x"),
    "pop of a wrong key": lambda text: text.pop(1),
    "popitem": lambda text: text.popitem(),
    "update": lambda text: text.update(a="2"),
    "update with what is wrong": lambda text: text.update({1: 2}),
    "clear": lambda text: text.clear(),
}


@pytest.mark.parametrize("operation", EVERYTHING)
def test_a_closed_database_is_closed_for_its_views(abc, db, operation):
    part = abc.range()
    db.close()

    with pytest.raises(lsmdbm.ClosedError):
        EVERYTHING[operation](abc)
    with pytest.raises(lsmdbm.ClosedError):
        db.text()
    for look in (lambda: [*part], lambda: "a" in part, lambda: part.first(), lambda: len(part)):
        with pytest.raises(lsmdbm.ClosedError):
            look()
    assert abc == abc  # noqa: PLR0124 - identity comes first


@pytest.mark.parametrize("operation", WRITES)
def test_a_read_only_view_refuses_to_write(abc, db, path, operation):
    with lsmdbm.open(path) as reader:
        text = reader.text("utf-8")
        with pytest.raises(lsmdbm.ReadOnlyError):
            WRITES[operation](text)
        assert ("1", "default") == (text.setdefault("a", "x"), text.pop("x", "default"))
    assert {"a": "1", "b": "2", "c": "3"} == dict(abc)


def test_a_view_says_where_it_is(text, path):
    assert f"<lsmdbm.Text over <lsmdbm.Database {path!r}, open>>" == repr(text)


def test_threads_that_empty_a_view_take_each_entry_once(text):
    text.update((f"{number:04}", str(number)) for number in range(400))
    taken = []

    def take():
        while True:
            try:
                taken.append(text.popitem())
            except KeyError:
                return

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(f"{number:04}", str(number)) for number in range(400)] == sorted(taken)
