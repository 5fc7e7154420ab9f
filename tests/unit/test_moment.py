"""A moment of a store: what it counts once, and how it ends with its store."""

import errno

import pytest

from lsmdbm._base.errors import ClosedError, FailedError
from lsmdbm._engine import moment as moments
from lsmdbm._engine.moment import Moment, still_open
from lsmdbm._engine.view import AFTER_FORK
from support.crash_storage import CrashStorage
from support.engine import close, entries, names, open_reader, open_store


@pytest.fixture
def storage():
    return CrashStorage()


@pytest.fixture(params=["writer", "reader"])
def store(request, storage):
    """A writer or a reader of 40 entries in a table and one in memory."""
    store = open_store(storage)
    for number in range(40):
        store.put(b"%03d" % number, bytes(20))
    store.flush()
    store.put(b"new", b"value")
    if request.param == "reader":
        close(storage, store)
        store = open_reader(storage)
    yield store
    close(storage, store)


READS = {
    "get": lambda moment: moment.get(b"000"),
    "get from memory": lambda moment: moment.get(b"new"),
    "get_many": lambda moment: moment.get_many([b"000"]),
    "chunks": lambda moment: moment.chunks(None, None),
    "first": lambda moment: moment.first(None, None),
    "length": lambda moment: moment.length(),
    "check_open": lambda moment: moment.check_open(),
}


def ended(moment):
    """What each read of a moment says of its end."""
    found = {}
    for name, read in READS.items():
        with pytest.raises(ClosedError) as caught:
            read(moment)
        found[name] = str(caught.value)
    return found


def test_a_moment_counts_once(store, monkeypatch):
    calls = []
    census = moments.census
    monkeypatch.setattr(moments, "census", lambda view: calls.append(view) or census(view))
    moment = store.snapshot()

    assert [41, 41, 41] == [moment.length() for _ in range(3)]
    assert [moment.view] == calls


def test_a_moment_ends_with_its_store(store):
    moment = store.snapshot()
    moment.length()
    store.close()

    assert dict.fromkeys(READS, str(ClosedError())) == ended(moment)


def test_a_moment_is_dead_in_the_child_of_a_fork(store):
    moment = store.snapshot()
    store.die()

    assert dict.fromkeys(READS, AFTER_FORK) == ended(moment)


def test_the_first_reason_for_an_end_is_the_one_that_is_told(store):
    moment = store.snapshot()
    moment.close("over")
    moment.close("over again")
    store.close()

    assert dict.fromkeys(READS, "over") == ended(moment)


def test_a_moment_that_is_given_up_inside_a_write_leaves_its_files_to_the_next_install(storage):
    """A finalizer or signal handler may come between any two steps of the thread that writes."""
    store = open_store(storage)
    store.put(b"a", b"1")
    store.flush()
    moment, table = store.snapshot(), names(storage, "sst")
    store.clear()
    with store._writer.lock:
        moment.close()
    assert table == names(storage, "sst")

    store.put(b"b", b"2")
    store.flush()
    assert set() == set(table) & set(names(storage))
    close(storage, store)


def test_a_store_that_has_failed_unlinks_nothing_for_a_moment(storage):
    store = open_store(storage)
    store.put(b"a", b"1")
    store.flush()
    moment, table = store.snapshot(), names(storage, "sst")
    store.clear()
    store.put(b"b", b"2")
    storage.fault(storage.count, errno.EIO)
    with pytest.raises(FailedError):
        store.put(b"c", b"3")
    storage.heal()
    moment.close()

    assert table == names(storage, "sst")
    with pytest.raises(FailedError):
        close(storage, store)


def test_moments_that_are_open_are_counted(storage):
    store = open_store(storage)
    assert {} == entries(store)
    kept = [Moment(store.pin()) for _ in range(3)]
    kept[1].close()
    assert 2 == still_open(kept)
    close(storage, store)
