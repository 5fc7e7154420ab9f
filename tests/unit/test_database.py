"""What of a handle shows only from inside.  What users see: tests/behaviour/."""

import pytest

from lsmdbm import handle
from lsmdbm._base.errors import ClosedError, NotFoundError
from lsmdbm._base.options import Options
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage


@pytest.fixture
def storage():
    return CrashStorage()


def open_with(storage, flag, **options):
    return open_on(storage, "/db", flag, 0o666, options)


@pytest.mark.parametrize(
    ("flag", "options", "durability"),
    [
        ("c", {}, Options().durability),
        ("cf", {}, "process"),
        ("cs", {}, "full"),
        ("cfs", {}, "full"),
        ("cs", {"durability": "none"}, "none"),
    ],
)
def test_suffixes_choose_a_durability_unless_one_is_named(storage, flag, options, durability):
    with open_with(storage, flag, **options) as db:
        assert durability == db._store.options.durability


def test_the_empty_path_is_no_path_on_any_storage(storage):
    with pytest.raises(NotFoundError):
        open_on(storage, "", "c", 0o666, {})
    assert [] == storage.calls


def test_handles_on_one_path_share_one_store_until_the_last_is_closed(storage):
    first = open_with(storage, "c")
    second, reader = open_with(storage, "w"), open_with(storage, "r")
    assert first._store is second._store is reader._store

    first.close()
    second["a"] = "1"
    second.close()
    assert b"1" == reader["a"]
    assert not reader._store.is_closed

    store = reader._store
    reader.close()
    assert store.is_closed


@pytest.mark.parametrize("flag", "wr")
def test_a_read_that_close_overtakes_says_closed(storage, flag):
    """It had got hold of the view; the table it came to then could not be opened any more."""
    with open_with(storage, "c") as db:
        db["a"] = "1"
        db.flush()
    db = open_with(storage, flag)
    view = db._store.view
    db.close()

    with pytest.raises(ClosedError):
        view.get(b"a")
    with pytest.raises(ClosedError):
        next(view.chunks())


@pytest.mark.parametrize(
    ("entries", "value_bytes", "records"),
    [(0, 1, 0), (1, 1, 1), (1000, 1, 1), (1001, 1, 2), (3000, 1, 3), (20, 64 << 10, 5), (1, 1 << 20, 1)],
)
def test_update_gathers_so_many_entries_or_bytes_into_a_record(
    storage, monkeypatch, entries, value_bytes, records
):
    batches = []
    with open_with(storage, "c") as db:
        write = db._store.batch
        monkeypatch.setattr(
            db._store, "batch", lambda keys, values: (batches.append(len(keys)), write(keys, values))
        )
        db.update((b"%08d" % number, bytes(value_bytes)) for number in range(entries))

    assert (records, entries) == (len([count for count in batches if count]), sum(batches))


def test_what_stands_in_for_a_closed_store_refuses_everything_but_to_be_looked_at():
    for name in ("get", "put", "anything"):
        with pytest.raises(ClosedError):
            getattr(handle._CLOSED, name)
    assert not hasattr(handle._CLOSED, "__wrapped__")


def test_repr_says_where_and_in_what_state(storage):
    db = open_with(storage, "c")
    assert "<lsmdbm.Database '/db', open>" == repr(db)
    db.close()
    assert "<lsmdbm.Database '/db', closed>" == repr(db)
    with open_with(storage, "r") as db:
        assert "<lsmdbm.Database '/db', read-only>" == repr(db)
