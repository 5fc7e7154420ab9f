"""import_dbm() and export_dbm(): every entry, or an error that names the one that stopped it."""

import dbm
import importlib
import os
import pathlib
import shelve
import struct
import sys
import tracemalloc
import types

import pytest

import lsmdbm
from lsmdbm import migration, tally
from lsmdbm._engine.removal import destroy
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage

pytestmark = pytest.mark.usefixtures("no_syncs")


def is_importable(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


KINDS = [name for name in ("dbm.sqlite3", "dbm.gnu", "dbm.ndbm", "dbm.dumb") if is_importable(name)]
STOCK = {name: importlib.import_module(name) for name in KINDS}
MISSING = "dbm.missing"

ENTRIES = {
    b"apple": b"red",
    b"": b"value of the empty key",
    b"caf\xc3\xa9": bytes(range(256)),
    b"\x00\xff\n'\"\\": b"\x00",
    b"k" * 500: b"v" * 5000,
    b"zero": b"",
}


@pytest.fixture
def old(tmp_path):
    """Where the source is."""
    return os.fspath(tmp_path / "old")


@pytest.fixture
def new(tmp_path):
    """Where the destination comes to be."""
    return os.fspath(tmp_path / "new")


def fill(kind, path, entries):
    with STOCK[kind].open(path, "c") as db:
        if kind == "dbm.sqlite3":
            db._cx.execute("PRAGMA synchronous = OFF")
        for key, value in dict(entries).items():
            db[key] = value


def numbered(count):
    return {b"key %06d" % number: b"value %d" % number for number in range(count)}


def content(path):
    with lsmdbm.open(path) as db:
        return dict(db)


def state_of(directory):
    """Every file below a directory with its bytes, but for what SQLite puts beside its file, and LOCK."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in pathlib.Path(directory).rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm", "LOCK"))
    }


class Interruption(Exception):
    pass


class Reports(list):
    """A progress function that remembers, and raises at the last of its reports."""

    def __init__(self, stop=sys.maxsize):
        self.stop = stop

    def __call__(self, done, total):
        self.append((done, total))
        if len(self) == self.stop:
            raise Interruption


@pytest.fixture
def every_ten(monkeypatch):
    """Let progress be reported every ten entries."""
    monkeypatch.setattr(tally, "PROGRESS_ENTRIES", 10)


EXPECTED_REPORTS = {
    0: [(0, 0)],
    1: [(1, 1)],
    9: [(9, 9)],
    10: [(10, 10)],
    11: [(10, 11), (11, 11)],
    20: [(10, 20), (20, 20)],
    25: [(10, 25), (20, 25), (25, 25)],
}

# -- import -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_of_every_kind_is_imported(old, new, kind):
    fill(kind, old, ENTRIES)

    assert len(ENTRIES) == lsmdbm.import_dbm(old, new)
    assert ENTRIES == content(new)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("convert", [os.fsencode, pathlib.Path])
def test_source_and_destination_are_any_kind_of_path(old, new, kind, convert):
    fill(kind, old, ENTRIES)

    assert len(ENTRIES) == lsmdbm.import_dbm(convert(old), convert(new))
    assert ENTRIES == content(new)


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_may_be_open_and_stays_open(old, new, kind):
    fill(kind, old, ENTRIES)
    db = STOCK[kind].open(old, "r")

    assert len(ENTRIES) == lsmdbm.import_dbm(db, new)
    assert b"red" == db[b"apple"]
    db.close()
    assert ENTRIES == content(new)


def test_a_source_may_be_any_mapping_of_str_or_bytes(new):
    assert 2 == lsmdbm.import_dbm({"caf\u00e9": "cr\u00e8me", b"a": bytearray(b"1")}, new)

    assert {b"a": b"1", "caf\u00e9".encode(): "cr\u00e8me".encode()} == content(new)


def test_a_source_may_be_a_database_of_ours_by_path_open_or_in_part(old, new):
    with lsmdbm.open(old, "c") as db:
        db.update(ENTRIES)
        assert len(ENTRIES) == lsmdbm.import_dbm(old, new)
        assert len(ENTRIES) == lsmdbm.import_dbm(db, new + "2")
        assert 2 == lsmdbm.import_dbm(db.range("b", "l"), new + "3")
    assert ENTRIES == content(new) == content(new + "2")
    assert sorted([b"caf\xc3\xa9", b"k" * 500]) == sorted(content(new + "3"))


@pytest.mark.usefixtures("every_ten")
def test_an_open_database_of_ours_is_imported_as_of_this_moment(old, new):
    with lsmdbm.open(old, "c") as db:
        db.update(numbered(25))
        assert 25 == lsmdbm.import_dbm(db, new, progress=lambda done, total: db.clear())
        assert {} == dict(db)
    assert numbered(25) == content(new)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_shelve_becomes_one_of_ours(old, new, kind):
    objects = {"list": [1, {"two": 3}], "caf\u00e9": None}
    with shelve.Shelf(STOCK[kind].open(old, "c")) as shelf:
        shelf.update(objects)

    assert 2 == lsmdbm.import_dbm(old, new)
    with shelve.Shelf(lsmdbm.open(new)) as shelf:
        assert objects == dict(shelf)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", EXPECTED_REPORTS)
@pytest.mark.usefixtures("every_ten")
def test_import_reports_every_so_many_entries_and_the_end(old, new, kind, count):
    fill(kind, old, numbered(count))
    reports = Reports()

    assert count == lsmdbm.import_dbm(old, new, progress=reports)
    assert EXPECTED_REPORTS[count] == reports
    assert numbered(count) == content(new)


class Unsized:
    """The least a mapping can be."""

    def __init__(self, entries):
        self.entries = entries

    def __iter__(self):
        return iter(self.entries)

    def __getitem__(self, key):
        return self.entries[key]


def test_reports_come_every_thousand_entries(new):
    reports = Reports()
    lsmdbm.import_dbm(numbered(2500), new, progress=reports)

    assert [(1000, 2500), (2000, 2500), (2500, 2500)] == reports


@pytest.mark.usefixtures("every_ten")
def test_the_total_is_none_where_the_source_does_not_say(new):
    reports = Reports()
    lsmdbm.import_dbm(Unsized(numbered(15)), new, progress=reports)

    assert [(10, None), (15, None)] == reports


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.usefixtures("every_ten")
def test_what_progress_raises_ends_the_import_and_leaves_the_source_as_it_was(old, new, kind, stop):
    entries = numbered(25)
    fill(kind, old, entries)
    before = state_of(os.path.dirname(old))

    with pytest.raises(Interruption):
        lsmdbm.import_dbm(old, new, progress=Reports(stop))
    after = state_of(os.path.dirname(old))
    assert before == {name: data for name, data in after.items() if not name.startswith("new/")}
    with STOCK[kind].open(old, "w") as db:  # nobody holds it
        assert 25 == len(db)
    if stop < 3:
        assert not os.path.lexists(new)
    else:  # the last report is of what is there
        assert entries == content(new)


@pytest.mark.parametrize("kind", KINDS)
def test_the_source_is_opened_for_reading(old, new, kind, monkeypatch):
    fill(kind, old, ENTRIES)
    flags, open_stock = set(), STOCK[kind].open

    def open_and_tell(path, flag="r"):  # whichdb() opens ndbm too
        flags.add(flag)
        return open_stock(path, flag)

    monkeypatch.setattr(STOCK[kind], "open", open_and_tell)
    before = state_of(os.path.dirname(old))
    lsmdbm.import_dbm(old, new)

    assert {"r"} == flags
    assert before.items() <= state_of(os.path.dirname(old)).items()


@pytest.mark.parametrize("exists", [False, True], ids=["absent", "empty directory"])
@pytest.mark.usefixtures("every_ten")
def test_an_import_that_is_interrupted_while_it_merges_leaves_what_was_there(old, new, exists, monkeypatch):
    """It left a database with some of the entries, which looked like any other, and no second import."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    if exists:
        os.mkdir(new)
    fill("dbm.dumb", old, {key: b"v" * 1000 for key in reversed(numbered(40))})
    with monkeypatch.context() as patch:
        patch.setattr("lsmdbm._engine.loading._Loader._merged", interrupt)
        with pytest.raises(KeyboardInterrupt):
            lsmdbm.import_dbm(old, new, memtable_bytes=1000)
    assert exists is os.path.lexists(new)
    assert not exists or [] == os.listdir(new)
    assert 40 == lsmdbm.import_dbm(old, new)
    assert [*numbered(40)] == [*content(new)]


@pytest.mark.usefixtures("every_ten")
def test_what_a_killed_import_leaves_is_no_database_and_destroy_removes_it(old, monkeypatch):
    storage, images = CrashStorage(), []
    monkeypatch.setattr(migration, "_STORAGE", storage)
    lsmdbm.import_dbm(
        *(numbered(25), "/new"), progress=lambda *_: images.append(storage.freeze()), memtable_bytes=100
    )
    *during, after = images

    assert 2 == len(during)
    for left in (image.crash(mode) for image in during for mode in ("kill", "strict")):
        with pytest.raises(lsmdbm.error):
            open_on(left, "/new", "r", 0o666, {})
        if left.kind("/new") != "missing":
            assert [] == destroy(left, "/new")
    with open_on(after.crash("strict"), "/new", "r", 0o666, {}) as db:
        assert numbered(25) == dict(db)


def write(path, data=b"some text"):
    with open(path, "wb") as file:
        file.write(data)


def make(path, *names):
    os.mkdir(path)
    for name in names:
        write(os.path.join(path, name))


def test_an_empty_directory_is_a_destination(old, new):
    fill("dbm.dumb", old, ENTRIES)
    make(new)

    assert len(ENTRIES) == lsmdbm.import_dbm(old, new)
    assert ENTRIES == content(new)


@pytest.mark.parametrize(
    "create",
    [
        lambda path: lsmdbm.import_dbm({"a": "1"}, path),
        lambda path: lsmdbm.open(path, "c").close(),
        write,
        lambda path: make(path, "notes.txt"),
    ],
    ids=["database", "empty database", "file", "other directory"],
)
def test_what_holds_something_is_no_destination_and_stays(old, new, create):
    fill("dbm.dumb", old, ENTRIES)
    create(new)
    before = state_of(os.path.dirname(new))

    with pytest.raises(lsmdbm.error):
        lsmdbm.import_dbm(old, new)
    assert before == state_of(os.path.dirname(new))


def test_a_destination_without_a_parent_is_not_found(old, new):
    fill("dbm.dumb", old, ENTRIES)

    with pytest.raises(lsmdbm.NotFoundError):
        lsmdbm.import_dbm(old, new + "/below")


@pytest.mark.parametrize(
    ("create", "expected", "text"),
    [
        (lambda path: None, lsmdbm.NotFoundError, "No such file"),
        (write, lsmdbm.error, "not a database that dbm knows"),
        (lambda path: write(path, b""), lsmdbm.error, "not a database that dbm knows"),
        (lambda path: make(path, "notes.txt"), lsmdbm.error, "not a database that dbm knows"),
    ],
    ids=["nothing", "file", "empty file", "directory"],
)
def test_what_dbm_does_not_know_is_no_source(old, new, create, expected, text):
    create(old)

    with pytest.raises(expected, match=text) as caught:
        lsmdbm.import_dbm(old, new)
    assert expected is type(caught.value)
    assert old in str(caught.value)
    assert not os.path.lexists(new)


@pytest.mark.parametrize("wrong", [None, 7, object()], ids=repr)
def test_what_is_neither_path_nor_mapping_is_a_type_error(new, wrong):
    for function in (lsmdbm.import_dbm, lsmdbm.export_dbm):
        with pytest.raises(TypeError, match="expected str, bytes or os.PathLike object, not"):
            function(wrong, new)
    assert not os.path.lexists(new)


@pytest.mark.skipif("dbm.gnu" in KINDS, reason="this Python has dbm.gnu")
def test_a_source_whose_module_is_missing_is_an_import_error(old, new):
    write(old, struct.pack("=l", 0x13579ACE) * 10)

    assert "dbm.gnu" == lsmdbm.whichdb(old)
    with pytest.raises(ImportError):
        lsmdbm.import_dbm(old, new)
    assert not os.path.lexists(new)


BAD = [  # what cannot be stored, and what the error says
    ({b"a": b"1", b"b" * 70_000: b"2"}, ValueError, r"^entry 2, key b'b+\.\.\.b+': key of 70000 bytes"),
    (
        {b"a": b"1", "list": [2]},
        TypeError,
        "^entry 2, key 'list': value must be str or bytes-like, not list$",
    ),
    ({7: b"1"}, TypeError, "^entry 1, key 7: key must be str or bytes-like, not int$"),
    ({"a": "1", "\ud800": "2"}, ValueError, "^entry 2, key '.+': .*surrogates"),
]


@pytest.mark.parametrize(("entries", "expected", "text"), BAD, ids=["long key", "value", "key", "surrogate"])
def test_an_entry_that_cannot_be_stored_is_named_and_nothing_is_left(new, entries, expected, text):
    with pytest.raises(expected, match=text):
        lsmdbm.import_dbm(entries, new)

    assert not os.path.lexists(new)


def test_keys_that_become_one_are_an_error_and_not_dropped(new):
    with pytest.raises(lsmdbm.error, match="holds 1 keys after 2 entries"):
        lsmdbm.import_dbm({"a": "1", b"a": "2"}, new)
    assert not os.path.lexists(new)


class Keyed:
    """What dbm.ndbm over Berkeley DB is like: no iteration, and a KeyError for an empty value."""

    def __init__(self, entries):
        self.entries = entries

    def keys(self):
        return [*self.entries]

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, key):
        if not self.entries[key]:
            raise KeyError(key)
        return self.entries[key]


def test_an_empty_value_of_berkeley_db_is_imported(new):
    assert 2 == lsmdbm.import_dbm(Keyed({b"a": b"", b"b": b"1"}), new)

    assert {b"a": b"", b"b": b"1"} == content(new)


def test_options_and_mode_are_passed_on_and_checked_first(old, new):
    fill("dbm.dumb", old, ENTRIES)
    with pytest.raises(TypeError, match="compresion"):
        lsmdbm.import_dbm(old, new, compresion=None)
    assert not os.path.lexists(new)
    lsmdbm.import_dbm(old, new, mode=0o600, compression=None)

    assert {0o600} == {entry.stat().st_mode & 0o777 for entry in os.scandir(new)}


def test_import_ignores_whether_lsmdbm_is_registered(old, new, monkeypatch):
    fill("dbm.dumb", old, ENTRIES)
    monkeypatch.setattr(dbm, "_defaultmod", dbm._defaultmod)
    lsmdbm.register(default=True)
    try:
        assert len(ENTRIES) == lsmdbm.import_dbm(old, new)
        assert len(ENTRIES) == lsmdbm.export_dbm(new, new + "2")
    finally:
        lsmdbm.unregister()
    assert KINDS[0] == dbm.whichdb(new + "2")


def peak_of(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


SMALL = {"memtable_bytes": 128 << 10, "cache_bytes": 128 << 10, "compression": None}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in ("dbm.sqlite3", "dbm.gnu")] + [None])
def test_values_are_streamed_in_both_directions(old, new, kind):
    """Of what a few megabytes of values would take, no more than the bound is held; keys are small here."""
    entries = {b"%06d" % number: b"" for number in range(4000)}

    class Large(dict):
        def __getitem__(self, key):
            return key * 200  # 4.8 MB in all

    if kind is None:
        source = Large(entries)
    else:
        source = old
        fill(kind, old, ((key, key * 200) for key in entries))

    peak = peak_of(lambda: lsmdbm.import_dbm(source, new, **SMALL))
    assert peak < 3 << 20
    sink = types.ModuleType("sink")
    sink.open = lambda path, flag: Sink()
    sys.modules["sink"] = sink
    try:
        peak = peak_of(lambda: lsmdbm.export_dbm(new, old + "2", backend="sink"))
        assert peak < 3 << 20
    finally:
        del sys.modules["sink"]


# -- export -----------------------------------------------------------------------------------------


class Sink:
    """A dbm that takes everything and keeps nothing."""

    def __init__(self):
        self.count = 0

    def __setitem__(self, key, value):
        self.count += 1

    def __len__(self):
        return self.count

    def close(self):
        pass


class Fussy(dict):
    """A dbm that refuses or mislays what is not to its liking."""

    is_synced = is_closed = False

    def __setitem__(self, key, value):
        if len(value) > 4000:
            raise OSError("item too large")
        if key != b"lost":
            super().__setitem__(key, value)

    def __getitem__(self, key):
        if not super().__getitem__(key):
            raise KeyError(key)
        return super().__getitem__(key)

    def sync(self):
        self.is_synced = True

    def close(self):
        self.is_closed = True


@pytest.fixture
def fussy(monkeypatch):
    """A backend module, and the database that it opens."""
    module = types.ModuleType("fussy")
    module.db = Fussy()
    module.open = lambda path, flag: module.db
    monkeypatch.setitem(sys.modules, "fussy", module)
    return module.db


def database(path, entries):
    with lsmdbm.open(path, "c") as db:
        db.update(entries)


def entries_of(path):
    with dbm.open(path) as db:
        return {key: db[key] for key in db.keys()}  # noqa: SIM118 - gnu and ndbm are no iterables


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_is_exported_and_comes_back(old, new, kind):
    entries = {key: value for key, value in ENTRIES.items() if value or kind != "dbm.ndbm"}
    database(old, entries)

    assert len(entries) == lsmdbm.export_dbm(old, new, backend=kind)
    assert kind == dbm.whichdb(new)
    assert entries == entries_of(new)
    assert len(entries) == lsmdbm.import_dbm(new, new + " again")
    assert entries == content(new + " again")


@pytest.mark.skipif("dbm.sqlite3" not in KINDS, reason="this Python has no dbm.sqlite3")
def test_export_to_sqlite_does_not_sync_every_entry(old, new, monkeypatch):
    opened, open_stock = [], STOCK["dbm.sqlite3"].open
    monkeypatch.setattr(
        STOCK["dbm.sqlite3"], "open", lambda *given: opened.append(open_stock(*given)) or opened[-1]
    )

    def progress(done, total):
        if done < total:
            levels.update(opened[0]._cx.execute("PRAGMA synchronous").fetchone())

    levels = set()
    database(old, ENTRIES)
    monkeypatch.setattr(tally, "PROGRESS_ENTRIES", 1)
    lsmdbm.export_dbm(old, new, backend="dbm.sqlite3", progress=progress)
    assert {1} == levels  # NORMAL


def test_export_takes_the_module_that_dbm_would_take(old, new):
    database(old, {"a": "1"})
    lsmdbm.export_dbm(old, new)

    dbm.open(new + "2", "n").close()
    assert KINDS[0] == dbm.whichdb(new) == dbm.whichdb(new + "2")


@pytest.mark.usefixtures("every_ten")
def test_an_open_database_or_a_range_is_exported_as_of_this_moment(old, new):
    with lsmdbm.open(old, "c") as db:
        db.update(numbered(15))
        reports = Reports()

        def progress(done, total):
            reports(done, total)
            db[b"key"] = b"later"

        assert 15 == lsmdbm.export_dbm(db, new, backend="dbm.dumb", progress=progress)
        assert 5 == lsmdbm.export_dbm(db.range(prefix="key 00001"), new + "2", backend="dbm.dumb")
        assert 16 == len(db)
    assert [(10, 15), (15, 15)] == reports
    assert numbered(15) == entries_of(new)
    assert 5 == len(entries_of(new + "2"))


@pytest.mark.parametrize("suffix", ["", ".db", ".pag", ".dir", ".dat", ".bak"])
@pytest.mark.parametrize("create", [write, make])
def test_export_replaces_nothing(old, new, suffix, create):
    database(old, ENTRIES)
    create(new + suffix)
    before = state_of(os.path.dirname(new)), os.listdir(os.path.dirname(new))

    with pytest.raises(lsmdbm.error, match="is there already"):
        lsmdbm.export_dbm(old, new, backend="dbm.dumb")
    assert before == (state_of(os.path.dirname(new)), os.listdir(os.path.dirname(new)))


def test_export_onto_itself_is_refused(old):
    database(old, ENTRIES)

    with pytest.raises(lsmdbm.error, match="is there already"):
        lsmdbm.export_dbm(old, old)
    assert ENTRIES == content(old)


@pytest.mark.parametrize("backend", [None, "dbm.dumb"])
def test_export_of_what_is_no_database_makes_nothing(old, new, backend):
    for source, expected in ((old, lsmdbm.NotFoundError), (os.path.dirname(old), lsmdbm.NotFoundError)):
        with pytest.raises(expected):
            lsmdbm.export_dbm(source, new, backend=backend)
    assert [] == os.listdir(os.path.dirname(new))


def test_export_to_a_module_that_is_missing_is_an_import_error(old, new):
    database(old, ENTRIES)

    with pytest.raises(ImportError):
        lsmdbm.export_dbm(old, new, backend=MISSING)
    assert ["old"] == os.listdir(os.path.dirname(new))


def test_export_syncs_and_closes(old, new, fussy):
    database(old, {"a": "1", "b": "2"})

    assert 2 == lsmdbm.export_dbm(old, new, backend="fussy")
    assert {b"a": b"1", b"b": b"2"} == fussy
    assert fussy.is_synced
    assert fussy.is_closed


def test_an_entry_the_module_refuses_is_named_with_its_position(old, new, fussy):
    database(old, {"a": "1", "b": "v" * 5000, "c": "2"})

    with pytest.raises(lsmdbm.error, match="^entry 2, key b'b': fussy: item too large$") as caught:
        lsmdbm.export_dbm(old, new, backend="fussy")
    assert "item too large" == str(caught.value.__cause__)
    assert {b"a": b"1"} == fussy
    assert fussy.is_closed


def test_an_empty_value_the_module_does_not_give_back_is_named(old, new, fussy):
    database(old, {"a": "1", "b": ""})

    with pytest.raises(lsmdbm.error, match="^entry 2, key b'b': fussy does not give it back$"):
        lsmdbm.export_dbm(old, new, backend="fussy")


def test_an_entry_the_module_loses_is_noticed(old, new, fussy):
    database(old, {"a": "1", "lost": "2"})

    with pytest.raises(lsmdbm.error, match="holds 1 keys after 2 entries"):
        lsmdbm.export_dbm(old, new, backend="fussy")


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.usefixtures("every_ten")
def test_what_progress_raises_ends_the_export_and_a_second_one_is_refused(old, new, stop):
    database(old, numbered(15))
    before = state_of(old)

    with pytest.raises(Interruption):
        lsmdbm.export_dbm(old, new, backend="dbm.dumb", progress=Reports(stop))
    assert before == state_of(old)
    assert numbered({1: 10, 2: 15}[stop]) == entries_of(new)
    with pytest.raises(lsmdbm.error, match="is there already"):
        lsmdbm.export_dbm(old, new)
