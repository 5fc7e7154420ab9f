"""What of a shelf shows only from inside.  What users see: behaviour/test_shelf.py."""

import importlib.util
import pickle
import shelve as stdlib

import pytest

from lsmdbm import shelve
from lsmdbm._base import chunk
from lsmdbm._base.errors import FailedError
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage


@pytest.fixture
def storage():
    return CrashStorage()


@pytest.fixture
def db(storage):
    with open_on(storage, "/db", "c", 0o666, {}) as database:
        yield database


@pytest.fixture
def shelf(db):
    """A shelf with writeback."""
    with shelve.Shelf(db, writeback=True) as opened:
        yield opened


@pytest.fixture
def batches(db, monkeypatch):
    """The keys of each batch that reaches the store, in order."""
    seen = []
    write = db._store.batch
    monkeypatch.setattr(
        db._store, "batch", lambda keys, values: (seen.append(sorted(keys)), write(keys, values))[1]
    )
    return seen


def test_sync_writes_all_that_was_touched_in_one_batch(shelf, batches):
    shelf.update((f"{number:04}", []) for number in range(2500))
    assert [1000, 1000, 500] == [len(keys) for keys in batches if keys]
    batches.clear()
    for value in shelf.values():
        value.append(1)

    shelf.sync()
    assert [[b"%04d" % number for number in range(2500)]] == batches
    assert {} == shelf.cache

    batches.clear()
    shelf.sync()
    shelf["0001"].append(2)
    shelf.sync()
    assert [[b"0001"]] == batches


def test_what_does_not_fit_into_one_record_goes_into_several(shelf, batches, monkeypatch):
    monkeypatch.setattr(shelve, "SYNC_BYTES", 5000)
    shelf.update((f"{number}", "v" * 1000) for number in range(9))
    batches.clear()

    shelf.sync()

    assert [5, 4] == [len(keys) for keys in batches]
    assert {} == shelf.cache


class Lambda:
    """An object that can be pickled until it is spoiled."""

    def __init__(self):
        self.attribute = None

    def spoil(self):
        self.attribute = lambda: None
        return self


def test_what_can_no_longer_be_serialized_keeps_no_other_from_being_written(shelf, db, batches):
    shelf.update(a=[1], b=Lambda(), c=[3], d=Lambda())
    shelf["a"].append(2)
    bad = shelf["b"].spoil()
    shelf["d"].spoil()
    shelf["c"].append(4)
    batches.clear()

    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        shelf.sync()
    assert [[b"a", b"c"]] == batches
    assert ([1, 2], [3, 4]) == (pickle.loads(db["a"]), pickle.loads(db["c"]))
    assert ["b", "d"] == [*shelf.cache]
    assert bad is shelf["b"]

    bad.attribute = "mended"
    del shelf["d"]
    shelf.sync()
    assert "mended" == shelf["b"].attribute


def test_a_batch_that_fails_leaves_the_cache_as_it_was(shelf, db, monkeypatch):
    shelf["a"] = [1]
    shelf["a"].append(2)

    def fail(keys, values):
        raise FailedError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(db._store, "batch", fail)
        with pytest.raises(FailedError):
            shelf.sync()
    assert {"a": [1, 2]} == shelf.cache
    shelf.sync()
    assert [1, 2] == pickle.loads(db["a"])


def test_a_value_that_grew_too_large_is_an_error_of_its_own(shelf, db, monkeypatch):
    shelf.update(a="small", b="small")
    shelf.cache["a"] = "large" * 20
    monkeypatch.setattr(chunk, "MAX_VALUE_BYTES", 50)

    with pytest.raises(ValueError, match="the limit is 50"):
        shelf.sync()
    assert (["a"], "small") == ([*shelf.cache], pickle.loads(db["b"]))


def test_what_cannot_be_serialized_never_enters_the_cache(shelf):
    for refused in (
        lambda: shelf.__setitem__("a", lambda: None),
        lambda: shelf.setdefault("a", lambda: None),
        lambda: shelf.update(a=lambda: None),
    ):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            refused()
    assert ({}, []) == (shelf.cache, [*shelf])


def test_iterations_and_lookups_build_no_list_of_the_keys(shelf, db, monkeypatch):
    shelf.update((str(number), number) for number in range(20))
    monkeypatch.setattr(type(db), "keys", None)
    monkeypatch.setattr(type(db), "iterkeys", None)

    assert sorted(map(str, range(20))) == [*shelf] == [*shelf.keys()] == [*reversed(shelf)][::-1]
    assert ("0", 0) == next(iter(shelf.items())) == shelf.popitem()
    assert (19, 1, None) == (len(shelf), shelf.pop("1"), shelf.get("1"))
    assert [2, 3] == [*shelf.range("2", "4").values()][:1] + [shelf["3"]]
    shelf.clear()
    assert not shelf


def test_each_look_reads_once(storage, monkeypatch):
    with open_on(storage, "/db", "c", 0o666, {}) as db, shelve.Shelf(db) as shelf:
        shelf.update(a=1, b=2)
        reads, get = [], db._store.get
        monkeypatch.setattr(db._store, "get", lambda key: (reads.append(key), get(key))[1])
        for look in (
            lambda: shelf["a"],
            lambda: shelf.get("a"),
            lambda: shelf.get("x", 1),
            lambda: "a" in shelf,
            lambda: shelf.setdefault("a", 1),
            lambda: shelf.pop("x", None),
        ):
            look()
            assert 1 == len(reads)
            reads.clear()


def test_a_shelf_that_is_dropped_closes_its_database_and_says_nothing(db, capfd):
    shelf = shelve.Shelf(db, writeback=True)
    shelf["a"] = []
    shelf["a"].append(1)
    del shelf

    assert "closed" in repr(db)
    assert ("", "") == capfd.readouterr()


def test_a_shelf_whose_database_is_gone_is_dropped_in_silence(db, capfd):
    shelf = shelve.Shelf(db, writeback=True)
    shelf["a"] = []
    db.close()
    del shelf

    assert ("", "") == capfd.readouterr()


def test_a_shelf_that_was_never_made_is_dropped_in_silence(capfd):
    shelve.Shelf.__new__(shelve.Shelf)

    assert ("", "") == capfd.readouterr()


@pytest.mark.parametrize("given", [{"serializer": pickle.dumps}, {"deserializer": pickle.loads}])
def test_one_half_of_a_serialization_is_an_error_before_anything_is_opened(storage, db, given):
    with pytest.raises(shelve.ShelveError, match="go together"):
        shelve.Shelf(db, **given)
    with pytest.raises(getattr(stdlib, "ShelveError", ValueError)):
        shelve.open_shelf("/no/such/parent", **given)
    assert "open" in repr(db)


def test_the_stdlibs_error_catches_ours_where_it_has_one(monkeypatch):
    """As from Python 3.15 on."""
    monkeypatch.setattr(stdlib, "ShelveError", type("ShelveError", (Exception,), {}), raising=False)
    spec = importlib.util.spec_from_file_location("shelve_of_later", shelve.__file__)
    later = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(later)

    assert issubclass(later.ShelveError, stdlib.ShelveError)


@pytest.mark.parametrize("wrong", [{}, None, "path", stdlib.Shelf({})], ids=repr)
def test_a_shelf_stands_on_a_database(wrong):
    with pytest.raises(TypeError, match=f"not on {type(wrong).__name__}"):
        shelve.Shelf(wrong)


def test_open_shelf_closes_the_database_if_there_will_be_no_shelf(tmp_path, monkeypatch):
    opened = []
    open_database = shelve.open_database
    monkeypatch.setattr(
        shelve, "open_database", lambda *args: opened.append(open_database(*args)) or opened[0]
    )
    monkeypatch.setattr(shelve.Shelf, "__init__", None)

    with pytest.raises(TypeError):
        shelve.open_shelf(tmp_path / "db")
    assert "closed" in repr(opened[0])
