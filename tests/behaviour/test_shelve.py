"""A shelf over a database, the stdlib's and ours: objects in, objects out."""

import datetime
import pickle
import shelve

import pytest

import lsmdbm
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage

try:
    from test import mapping_tests
except ImportError:  # distributions keep the tests of Python in a package of their own
    mapping_tests = None

pytestmark = pytest.mark.usefixtures("no_syncs")

OBJECTS = {
    "": None,
    "number": 12345678901234567890,
    "text": "caf\u00e9 \U0001f600",
    "bytes": b"\x00\xff" * 100,
    "nested": {"list": [1, 2.5, (3, None)], "set": frozenset({1, 2})},
    "time": datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc),
    "class": datetime.date,
    "large": list(range(20_000)),
    "caf\u00e9": "key of two bytes",
}
PROTOCOLS = [None, *range(pickle.HIGHEST_PROTOCOL + 1)]


SHELVES = {"stdlib": shelve.Shelf, "ours": lsmdbm.shelve.Shelf}


@pytest.fixture(params=SHELVES)
def open_shelf(request):
    """Open a shelf of either kind."""
    return lambda path, flag="c", **arguments: SHELVES[request.param](lsmdbm.open(path, flag), **arguments)


if mapping_tests is not None:

    class TestProtocol(mapping_tests.BasicTestMappingProtocol):
        """CPython's own idea of a mapping."""

        arguments = {}

        def _reference(self):
            return {"key1": "value1", "key2": 2, "key3": (1, 2, 3)}

        def _empty_mapping(self):
            shelf = lsmdbm.shelve.Shelf(open_on(CrashStorage(), "/db", "c", 0o666, {}), **self.arguments)
            self.addCleanup(shelf.close)
            return shelf

    class TestWriteback(TestProtocol):
        arguments = {"writeback": True}

    class TestEncodedKeys(TestProtocol):
        arguments = {"keyencoding": "utf-16", "protocol": 2}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_survive_with_every_pickle_protocol(open_shelf, path, protocol):
    with open_shelf(path, protocol=protocol) as shelf:
        shelf.update(OBJECTS)
        assert OBJECTS == dict(shelf)
    with open_shelf(path, "r", protocol=protocol) as shelf:
        assert OBJECTS == dict(shelf)
        assert sorted(OBJECTS, key=str.encode) == list(shelf)
        assert len(OBJECTS) == len(shelf)


@pytest.mark.parametrize("written", PROTOCOLS)
def test_what_one_protocol_wrote_every_other_reads(open_shelf, path, written):
    with open_shelf(path, protocol=written) as shelf:
        shelf["nested"] = OBJECTS["nested"]
    for protocol in PROTOCOLS:
        with open_shelf(path, protocol=protocol) as shelf:
            assert OBJECTS["nested"] == shelf["nested"]


def test_writeback_keeps_what_was_changed_in_place(open_shelf, path):
    with open_shelf(path, writeback=True) as shelf:
        shelf["list"] = [1]
        shelf["list"].append(2)
        shelf.sync()
        shelf["list"].append(3)
        shelf["other"] = {}
        shelf["other"]["key"] = "value"
    with open_shelf(path) as shelf:
        assert {"list": [1, 2, 3], "other": {"key": "value"}} == dict(shelf)
        shelf["list"].append(4)
        assert [1, 2, 3] == shelf["list"]


def test_a_shelf_is_a_mapping(open_shelf, path):
    with open_shelf(path) as shelf:
        shelf.update(a=1, b=2, c=3)
        assert (1, None, 7) == (shelf["a"], shelf.get("x"), shelf.get("x", 7))
        assert "a" in shelf
        assert "x" not in shelf
        with pytest.raises(KeyError):
            shelf["x"]
        with pytest.raises(KeyError):
            del shelf["x"]
        del shelf["a"]
        assert (2, 9) == (shelf.pop("b"), shelf.setdefault("d", 9))
        assert ("c", 3) == shelf.popitem()
        assert [("d", 9)] == list(shelf.items())
        shelf.clear()
        assert (0, []) == (len(shelf), list(shelf))
    with open_shelf(path) as shelf:
        assert {} == dict(shelf)


def test_a_shelf_can_be_deleted_from_while_it_is_iterated_over(open_shelf, path):
    with open_shelf(path) as shelf:
        shelf.update((str(number), number) for number in range(100))
        for key in shelf:
            del shelf[key]
        assert 0 == len(shelf)


@pytest.mark.parametrize("kind", SHELVES)
def test_a_closed_shelf_has_closed_its_database(kind, path):
    db = lsmdbm.open(path, "c")
    shelf = SHELVES[kind](db)
    shelf["a"] = 1
    shelf.close()
    shelf.close()

    with pytest.raises(ValueError, match="closed shelf"):
        shelf["a"]
    with pytest.raises(lsmdbm.ClosedError):
        db["a"]


def test_a_read_only_shelf_reads_and_refuses_to_write(open_shelf, path):
    with open_shelf(path) as shelf:
        shelf["a"] = 1
    with open_shelf(path, "r") as shelf:
        assert 1 == shelf["a"]
        with pytest.raises(lsmdbm.ReadOnlyError):
            shelf["a"] = 2
        shelf.sync()


def test_keys_may_have_another_encoding(open_shelf, path):
    with open_shelf(path, keyencoding="latin-1") as shelf:
        shelf["caf\u00e9"] = 1
        assert ["caf\u00e9"] == list(shelf)
    with lsmdbm.open(path) as db:
        assert [b"caf\xe9"] == db.keys()
