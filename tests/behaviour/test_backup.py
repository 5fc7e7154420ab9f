"""backup() makes a whole database of one moment, whoever writes meanwhile, or nothing."""

import errno
import os
import random
import stat
import threading

import pytest

import lsmdbm
from lsmdbm._base.errors import ClosedError, CorruptionError, LockedError, NotFoundError, error
from lsmdbm._base.os_storage import OsDirectory
from lsmdbm._engine import backup as module
from lsmdbm.database import open_on
from lsmdbm.maintenance import verify_on
from support.crash_storage import CrashDirectory
from support.layers import SHAPES, shaped
from support.ruins import COPY, FILLS, PATH, TINY, build, flip


@pytest.fixture
def ruin(seed):
    return build("everywhere", random.Random(f"{seed} ruin"))


@pytest.fixture
def without_links(monkeypatch):
    """A file system on which tables have to be copied."""

    def refuse(self, name, target):
        raise error(errno.EXDEV, "Invalid cross-device link", name)

    for owner in (OsDirectory, CrashDirectory):
        monkeypatch.setattr(owner, "link", refuse)


@pytest.fixture(params=["linked", "copied"])
def way(request):
    """How tables get into the backup."""
    if request.param == "copied":
        request.getfixturevalue("without_links")
    return request.param


def whole(storage, path):
    """What a database holds; it must verify, and consist of nothing but tables and one manifest."""
    found = verify_on(storage, path)
    assert (found.problems, found.notes, found.unreferenced, found.foreign) == ((), (), (), ())
    names = sorted(storage.contents(path))
    assert {"LOCK"} == {name for name in names if not name.endswith(("sst", "man"))}
    assert 1 == sum(name.endswith("man") for name in names)
    with open_on(storage, path, "r", 0o666, {}) as db:
        found = dict(db.items())
        assert len(found) == len(db)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_a_backup_holds_what_the_database_held_whatever_its_shape(seed, shape, way):
    with shaped(shape, random.Random(f"{seed} {shape}")) as (db, model):
        db.backup(COPY)
        expected = dict(db.items())
        db.clear()

        assert expected == whole(db._lease.storage, COPY)
        assert len(expected) == len(model)


@pytest.mark.parametrize("flag", ["r", "w"])
@pytest.mark.parametrize("shape", FILLS)
def test_it_is_made_from_any_handle_and_changes_no_file(seed, shape, flag, way):
    ruin = build(shape, random.Random(f"{seed} {shape}"))
    storage = ruin.storage()
    with open_on(storage, PATH, flag, 0o666, {}) as db:
        db.backup(COPY)
    after = storage.contents(PATH)

    assert ruin.state == whole(storage, COPY)
    assert {**ruin.files, "LOCK": b""} == {**after, "LOCK": b""}


def test_it_remembers_the_options_of_the_database_and_its_identity(ruin):
    storage = ruin.storage()
    with open_on(storage, PATH, "r", 0o666, {}) as db:
        db.backup(COPY)
        uuid = db._store.manifest.uuid
    with open_on(storage, COPY, "w", 0o666, {}) as copy:
        assert TINY["block_bytes"] == copy._store.options.block_bytes
        assert uuid == copy._store.manifest.uuid


def test_the_copy_is_written_on_without_the_original_noticing(tmp_path, way):
    with lsmdbm.open(tmp_path / "db", "n", **TINY) as db:
        db.update({b"%03d" % number: b"old" * 9 for number in range(300)})
        db.flush()
        db["in memory"] = "too"
        expected = dict(db.items())
        db.backup(tmp_path / "copy")
        with lsmdbm.open(tmp_path / "copy", "w", **TINY) as copy:
            assert len(expected) == len(copy)
            copy.update({b"%03d" % number: b"new" for number in range(0, 300, 2)})
            copy.compact()
            assert copy.verify().ok
            assert expected == dict(db.items())
        db.clear()
        db.compact()

    with lsmdbm.open(tmp_path / "copy") as copy:
        assert [b"new", b"old" * 9] == [copy["000"], copy["001"]]
    assert lsmdbm.verify(tmp_path / "copy").ok


def test_tables_are_linked_where_that_can_be_done(tmp_path):
    with lsmdbm.open(tmp_path / "db", "n") as db:
        db["a"] = "b"
        db.flush()
        db.backup(tmp_path / "copy")
    table = next((tmp_path / "db").glob("*.sst"))

    assert os.path.samefile(table, tmp_path / "copy" / table.name)


def test_tables_are_copied_where_the_system_has_no_links(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "link")
    with lsmdbm.open(tmp_path / "db", "n") as db:
        db["a"] = "b"
        db.flush()
        db.backup(tmp_path / "copy")
    table = next((tmp_path / "db").glob("*.sst"))

    assert not os.path.samefile(table, tmp_path / "copy" / table.name)
    with lsmdbm.open(tmp_path / "copy") as copy:
        assert ({b"a": b"b"}, True) == (dict(copy), copy.verify().ok)


def test_permission_bits_are_those_of_the_database(tmp_path, way):
    old = os.umask(0o077)
    try:
        with lsmdbm.open(tmp_path / "db", "n", 0o600) as db:
            db["a"] = "b"
            db.flush()
            db["c"] = "d"
            (tmp_path / "db").chmod(0o750)
            for path in (tmp_path / "db").iterdir():
                path.chmod(0o640)
            db.backup(tmp_path / "copy")
    finally:
        os.umask(old)

    assert 0o750 == stat.S_IMODE((tmp_path / "copy").stat().st_mode)
    assert {0o640} == {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "copy").iterdir()}


def backed_up(path, copy):
    with lsmdbm.open(path) as db:
        db.backup(copy)


@pytest.mark.parametrize("copy_of", [backed_up, lsmdbm.repair])
def test_a_copy_of_a_database_that_nobody_may_write_can_be_written_by_its_owner(tmp_path, copy_of):
    path = tmp_path / "db"
    with lsmdbm.open(path, "n") as db:
        db["a"] = "b"
    for each in (*path.iterdir(), path):
        each.chmod(0o555 if each is path else 0o444)
    try:
        copy_of(path, tmp_path / "copy")
    finally:
        path.chmod(0o755)

    assert 0o755 == stat.S_IMODE((tmp_path / "copy").stat().st_mode)
    assert {0o644} == {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "copy").iterdir()}
    with lsmdbm.open(tmp_path / "copy", "w") as copy:
        copy["c"] = "d"


def test_an_empty_directory_is_taken_and_keeps_its_own_bits(tmp_path):
    (tmp_path / "copy").mkdir(0o711)
    with lsmdbm.open(tmp_path / "db", "n") as db:
        db["a"] = "b"
        db.backup(tmp_path / "copy")

    assert 0o711 == stat.S_IMODE((tmp_path / "copy").stat().st_mode)
    with lsmdbm.open(tmp_path / "copy") as copy:
        assert b"b" == copy["a"]


def test_an_empty_database_has_an_empty_backup(tmp_path):
    with lsmdbm.open(tmp_path / "db", "n") as db:
        db.backup(tmp_path / "copy")
    with lsmdbm.open(tmp_path / "copy") as copy:
        assert 0 == len(copy)


def test_the_numbers_of_an_emptied_database_do_not_keep_its_backup_from_opening(tmp_path):
    with lsmdbm.open(tmp_path / "db", "n") as db:
        for _ in range(10):
            db["a"] = "b"
            db.flush()
        db.clear()
        db.flush()
        db.backup(tmp_path / "copy")
    with lsmdbm.open(tmp_path / "copy", "w") as copy:
        assert 0 == len(copy)
        copy["a"] = "c"
    with lsmdbm.open(tmp_path / "copy") as copy:
        assert b"c" == copy["a"]


def test_what_durability_none_holds_back_is_in_the_backup(tmp_path):
    with lsmdbm.open(tmp_path / "db", "n", durability="none") as db:
        db["a"] = "in the buffer"
        db.backup(tmp_path / "copy")
        with lsmdbm.open(tmp_path / "copy") as copy:
            assert b"in the buffer" == copy["a"]


# What is refused


@pytest.mark.parametrize("there", ["file", "full", "db", "db/inside"])
def test_a_destination_that_holds_something_is_refused_before_anything_is_written(tmp_path, there):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with lsmdbm.open(tmp_path / "db", "n") as db:
        db["a"] = "b"
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(error, match="exists, and is no empty directory|lies in the directory"):
            db.backup(tmp_path / there)
        assert before == sorted(tmp_path.rglob("*"))
        db["c"] = "d"


def test_bad_paths_and_closed_handles_are_refused(tmp_path):
    db = lsmdbm.open(tmp_path / "db", "n")
    with pytest.raises(NotFoundError):
        db.backup(tmp_path / "no" / "parent")
    with pytest.raises(NotFoundError):
        db.backup("")
    with pytest.raises(TypeError):
        db.backup(3)
    db.close()
    with pytest.raises(ClosedError):
        db.backup(tmp_path / "copy")

    assert not (tmp_path / "copy").exists()


def test_a_destination_that_somebody_else_fills_is_left_to_them(ruin):
    storage = ruin.storage()
    storage.mkdir(COPY, 0o777)
    lock = storage.directory(COPY, 0o666).lock("LOCK", b"pid 1\n")
    storage.directory(COPY, 0o666).unlink("LOCK")  # as if made between two looks at it
    del lock
    with open_on(storage, PATH, "r", 0o666, {}) as db:

        def begin(index, operation, path):
            if operation == "lock" and path == f"{COPY}/LOCK":
                storage.on_call = None
                begin.lock = storage.directory(COPY, 0o666).lock("LOCK", b"pid 1\n")

        storage.on_call = begin
        with pytest.raises(LockedError, match="pid 1"):
            db.backup(COPY)
    assert {"LOCK": b"pid 1\n"} == storage.contents(COPY)


# Damage


@pytest.mark.usefixtures("without_links")
def test_a_damaged_table_is_not_copied(ruin):
    for name in ruin.names("sst"):
        for offset in (3, 40, len(ruin.files[name]) - 30):
            storage = ruin.storage({name: flip(ruin.files[name], 8 * offset)})
            with open_on(storage, PATH, "r", 0o666, {}) as db, pytest.raises(CorruptionError) as caught:
                db.backup(COPY)
            assert f"{PATH}/{name}" == caught.value.path
            assert "missing" == storage.kind(COPY)


@pytest.mark.usefixtures("without_links")
def test_a_copy_that_went_wrong_is_noticed(ruin, monkeypatch):
    """The original is whole: what was written is read back."""

    def miscopy(source, target):
        data = source.pread(source.size(), 0)
        target.pwrite(flip(data, 8 * 40), 0)

    monkeypatch.setattr(module, "_copy", miscopy)
    storage = ruin.storage()
    with open_on(storage, PATH, "r", 0o666, {}) as db, pytest.raises(CorruptionError) as caught:
        db.backup(COPY)

    assert caught.value.path.startswith(COPY)
    assert "missing" == storage.kind(COPY)


# Beside writers


def test_it_holds_one_moment_while_a_thread_writes_and_compacts(tmp_path, way):
    """Each write moves one unit from one key to another: the sum tells of a torn moment."""
    keys = [b"%d" % number for number in range(20)]
    stop, began = threading.Event(), threading.Event()
    with lsmdbm.open(tmp_path / "db", "n", memtable_bytes=3000, block_bytes=200) as db:
        db.update({key: b"100" for key in keys})

        def write():
            rng = random.Random(1)
            while not stop.is_set():
                one, other = rng.sample(keys, 2)
                db.update({one: b"%d" % (int(db[one]) - 1), other: b"%d" % (int(db[other]) + 1)})
                began.set()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            began.wait()
            for number in range(8):
                db.backup(tmp_path / f"copy {number}")
        finally:
            stop.set()
            thread.join()
    for number in range(8):
        assert lsmdbm.verify(tmp_path / f"copy {number}").ok
        with lsmdbm.open(tmp_path / f"copy {number}") as copy:
            assert 2000 == sum(map(int, copy.values()))


def test_no_lock_of_the_engine_is_held_while_tables_are_brought(ruin, way):
    """Writes, flushes and compactions go on between any two calls of a backup."""
    storage = ruin.storage()
    with open_on(storage, PATH, "w", 0o666, {**TINY, "background": "manual"}) as db:
        expected = dict(db.items())
        written = []

        def write(index, operation, path):
            if path.startswith(COPY) and operation in ("create", "link", "fsync", "pwrite"):
                storage.on_call = None
                thread = threading.Thread(target=lambda: (db.update({"key00": f"{index}"}), db.compact()))
                thread.start()
                thread.join(60)
                assert not thread.is_alive()
                written.append(index)
                storage.on_call = write

        storage.on_call = write
        db.backup(COPY)
        storage.on_call = None
        assert len(written) > 4
        assert b"%d" % written[-1] == db["key00"]

    assert expected == whole(storage, COPY)


def test_a_reader_backs_up_tables_that_a_writer_has_unlinked(ruin):
    storage = ruin.storage()
    with open_on(storage, PATH, "r", 0o666, {}) as reader:
        with open_on(storage, PATH, "w", 0o666, TINY) as db:
            db.clear()
            db.compact()
        assert not set(ruin.names("sst")) & set(storage.contents(PATH))
        reader.backup(COPY)

    assert ruin.state == whole(storage, COPY)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_any_call_may_fail_and_then_nothing_is_left_and_the_database_works_on(ruin, way, code):
    failed = 0
    for place in range(10_000):
        storage = ruin.storage()
        with open_on(storage, PATH, "w", 0o666, {**TINY, "background": "manual"}) as db:
            start = storage.count
            storage.fault(start + place, code)
            try:
                db.backup(COPY)
                raised = None
            except error as exc:
                raised = exc
            is_over = not storage.hits
            storage.heal()
            if raised is None:
                assert ruin.state == whole(storage, COPY)  # a link that failed became a copy
            else:
                assert not isinstance(raised, lsmdbm.FailedError)
                assert "missing" == storage.kind(COPY), storage.hits
                failed += 1
            db["key00"] = "works on"
            db.sync()
        if is_over:
            break
    assert failed > 15
