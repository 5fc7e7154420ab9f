"""Decoded mappings and ranges: what is read, what is decoded, and when.  What users see: behaviour/."""

import copy
import pickle
from types import SimpleNamespace

import pytest

from lsmdbm._base.errors import ClosedError, CorruptionError
from lsmdbm.coding import Coding
from lsmdbm.database import open_on
from lsmdbm.decoded import DecodedMapping
from lsmdbm.decoded_range import DecodedRange
from support.crash_storage import CrashStorage

VALUE = b"V" * 1000


class Mapping(DecodedMapping):
    """The common part of Text and Shelf, with nothing added."""


class Values:
    """A coding of values that notes what it decodes, and may be told to do something first."""

    def __init__(self, key_encoding="utf-8"):
        self.decoded = []
        self.hook = None
        self.coding = Coding(key_encoding, str.encode, self._decode)

    def _decode(self, data):
        self.decoded.append(data)
        if self.hook is not None:
            hook, self.hook = self.hook, None
            hook()
        return data.decode()


@pytest.fixture
def values():
    return Values()


@pytest.fixture
def db():
    with open_on(CrashStorage(), "/db", "c", 0o666, {}) as database:
        yield database


@pytest.fixture
def abc(db, values):
    """A mapping of three entries."""
    mapping = Mapping(db, values.coding)
    mapping.update({"a": "1", "b": "2", "c": "3"})
    return mapping


# -- codings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "key", "stored"),
    [("utf-8", "", b""), ("utf-8", "caf\u00e9", b"caf\xc3\xa9"), ("latin-1", "caf\u00e9", b"caf\xe9")],
)
def test_keys_are_encoded_and_decoded_alike(encoding, key, stored):
    coding = Coding(encoding, str.encode, bytes.decode)

    assert stored == coding.encode_key(key)
    assert key == coding.decode_key(stored)
    assert (key, "value") == coding.decode_item(stored, b"value")


@pytest.mark.parametrize("wrong", [b"a", bytearray(b"a"), 1, None, ("a",)], ids=repr)
def test_what_is_no_str_is_no_key_and_no_bound(values, wrong):
    with pytest.raises(TypeError, match=f"^key must be str, not {type(wrong).__name__}$"):
        values.coding.encode_key(wrong)
    for name in ("start", "stop", "prefix") if wrong is not None else ():
        with pytest.raises(TypeError, match=f"^{name} must be str, not {type(wrong).__name__}$"):
            values.coding.bounds(**{"start": None, "stop": None, "prefix": None, name: wrong})


def test_bounds_that_are_not_given_stay_so(values):
    bounds = {"start": b"", "stop": None, "prefix": b"\xc3\xa9"}

    assert bounds == values.coding.bounds("", None, "\u00e9")


@pytest.mark.parametrize(
    ("key", "named"),
    [(b"\xff", r"b'\xff'"), (b"ab\x80", r"b'ab\x80'"), (b"x" * 200 + b"\xff", repr(b"x" * 80) + "...")],
)
def test_a_stored_key_that_cannot_be_decoded_is_named(values, key, named):
    with pytest.raises(UnicodeDecodeError) as caught:
        values.coding.decode_key(key)

    assert key == caught.value.object
    assert str(caught.value).endswith(f"; the key is {named}")


# -- what is read and decoded -----------------------------------------------------------------------


@pytest.fixture
def without_values(values):
    """A mapping of 300 entries, every value of which is damaged on disk."""
    storage = CrashStorage()
    with open_on(storage, "/db", "c", 0o666, {"compression": None, "block_bytes": 4000}) as db:
        db.update((b"%04d" % number, VALUE) for number in range(300))
        db.flush()
    for name, data in storage.contents("/db").items():
        if name.endswith(".sst"):
            storage.plant(f"/db/{name}", data.replace(VALUE, b"W" * len(VALUE)))
    with open_on(storage, "/db", "r", 0o666, {}) as db:
        yield Mapping(db, values.coding)


def test_who_asks_for_keys_reads_no_value_and_decodes_none(without_values, values):
    mapping, keys = without_values, [f"{number:04}" for number in range(300)]
    part = mapping.range(keys[10], keys[20])

    assert keys == [*mapping] == [*mapping.keys()] == [*mapping.range()] == [*mapping.range().keys()]
    assert keys[::-1] == [*reversed(mapping)] == [*mapping.range(reverse=True)]
    assert keys[::-1] == [*reversed(mapping.keys())]
    assert keys[10:20] == [*part]
    assert (300, 300, 10, 10) == (len(mapping), len(mapping.keys()), len(part), len(part.keys()))
    assert (True, True) == (bool(mapping), bool(part))
    assert [] == values.decoded


@pytest.mark.parametrize(
    "read",
    [
        lambda mapping: [*mapping.values()],
        lambda mapping: [*mapping.items()],
        lambda mapping: mapping["0000"],
        lambda mapping: mapping.range().first(),
        lambda mapping: mapping.range().last(),
    ],
)
def test_values_that_are_asked_for_are_read(without_values, read):
    with pytest.raises(CorruptionError):
        read(without_values)


def test_making_a_range_reads_nothing(abc, monkeypatch):
    is_open = SimpleNamespace(view=SimpleNamespace(active={}))
    monkeypatch.setattr(abc._db, "_store", is_open)  # and no way to read
    part = abc.range("a", prefix="b").range(reverse=True)

    assert isinstance(part, DecodedRange)
    assert "<DecodedRange over <Range start=b'b', stop=b'c', reverse=True>>" == repr(part)


def test_each_look_decodes_one_value(abc, values):
    values.decoded.clear()
    looks = {
        "getitem": lambda: abc["a"],
        "get": lambda: abc.get("a"),
        "get of a range": lambda: abc.range().get("a"),
        "getitem of a range": lambda: abc.range()["a"],
        "first": lambda: abc.range().first(),
        "pop": lambda: abc.pop("a"),
        "popitem": lambda: abc.popitem(),
        "setdefault": lambda: abc.setdefault("c", "4"),
    }
    for name, look in looks.items():
        look()
        assert 1 == len(values.decoded), name
        values.decoded.clear()
    for look in (
        lambda: "c" in abc,
        lambda: "c" in abc.range(),
        lambda: abc.get("x"),
        lambda: abc.pop("x", 1),
    ):
        look()
    assert [] == values.decoded


# -- errors of a decoder ----------------------------------------------------------------------------


@pytest.fixture
def damaged(db, abc):
    """A mapping with a key and a value in its middle that cannot be decoded."""
    db[b"b\xff"] = "key"
    db["bb"] = b"\xff"
    return abc


def steps(iterator):
    """Return what each step of an iterator gives; the type of the error for one that raises."""
    found = []
    while len(found) < 10:
        try:
            found.append(next(iterator))
        except StopIteration:
            return found
        except Exception as exc:
            found.append(type(exc))
    return found


def test_an_iteration_goes_on_behind_what_cannot_be_decoded(damaged):
    """An iterator that came to its end there would make the rest of the entries disappear."""
    bad = UnicodeDecodeError

    assert ["a", "b", "bb", bad, "c"] == steps(iter(damaged))
    assert ["c", bad, "bb", "b", "a"] == steps(reversed(damaged))
    assert ["1", "2", bad, "key", "3"] == steps(iter(damaged.values()))
    assert [("a", "1"), ("b", "2"), bad, bad, ("c", "3")] == steps(iter(damaged.items()))


@pytest.mark.parametrize(
    "take",
    [lambda mapping: mapping.pop("bb"), lambda mapping: mapping.pop("bb", None), DecodedMapping.popitem],
)
def test_what_cannot_be_decoded_is_not_deleted(damaged, db, take):
    del db["a"], db["b"]
    with pytest.raises(UnicodeDecodeError):
        take(damaged)
    assert b"\xff" == db["bb"]


def test_a_key_error_of_a_decoder_is_no_missing_key(abc, values):
    def fail():
        raise KeyError("decoder")

    for look in (
        lambda: abc.get("a"),
        lambda: abc.range().get("a"),
        lambda: abc.pop("a", None),
        lambda: abc.setdefault("a", "x"),
    ):
        values.hook = fail
        with pytest.raises(KeyError, match="decoder"):
            look()


# -- two at once ------------------------------------------------------------------------------------


def test_an_entry_that_somebody_else_takes_meanwhile_is_taken_once(abc, values, db):
    values.hook = lambda: db.pop("a")
    assert "default" == abc.pop("a", "default")
    values.hook = lambda: db.pop("b")
    with pytest.raises(KeyError, match="'b'"):
        abc.pop("b")

    db.update(a="1", b="2")
    values.hook = lambda: db.pop("a")
    assert ("b", "2") == abc.popitem()
    assert [b"c"] == db.keys()


def test_the_value_that_is_returned_is_the_one_that_was_deleted(abc, values, db):
    values.hook = lambda: db.update(a="new")
    assert "new" == abc.pop("a")
    values.hook = lambda: db.update(b="new")
    assert ("b", "new") == abc.popitem()


def test_setdefault_returns_what_somebody_else_has_set_meanwhile(db):
    def encode(value):
        db["a"] = "theirs"
        return value.encode()

    mapping = Mapping(db, Coding("utf-8", encode, bytes.decode))

    assert "theirs" == mapping.setdefault("a", "ours") == mapping["a"]


# -- closing, comparing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "iterate",
    [iter, reversed, lambda m: iter(m.keys()), lambda m: iter(m.values()), lambda m: reversed(m.items())],
)
@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("of", [lambda mapping: mapping, lambda mapping: mapping.range()])
def test_closing_stops_an_iterator_at_its_next_step(abc, db, iterate, steps, of):
    iterator = iterate(of(abc))
    for _ in range(steps):
        next(iterator)
    db.close()

    with pytest.raises(ClosedError):
        next(iterator)


def test_str_and_bytes_are_never_equal_but_for_nothing_at_all(abc, db):
    everything = (abc, abc.range(), dict(abc))
    for ours in everything:
        for same in everything:
            assert ours == same
        for other in (db, db.range(), dict(db)):
            assert ours != other
            assert other != ours
    assert abc != dict(abc, c="4")
    assert abc != dict(abc, d="4")

    db.clear()
    for ours in (abc, abc.range(), {}):
        for other in (db, db.range(), {}):
            assert ours == other
            assert other == ours


def test_a_decoded_mapping_is_no_key_and_cannot_be_pickled(abc):
    for mapping in (abc, abc.range()):
        with pytest.raises(TypeError, match="unhashable"):
            hash(mapping)
    with pytest.raises(TypeError, match="pass its path"):
        pickle.dumps(abc)
    with pytest.raises(TypeError, match="pass its path"):
        copy.copy(abc)
