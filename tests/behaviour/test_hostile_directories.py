"""What else may lie in a directory: nothing is followed out of it, waited for, or written over.

Each test plants something under one of the names that are ours, beside a sound database or alone.  An open
that blocks would hang the test: FIFOs have no other end.
"""

import errno
import os
import socket
import stat

import pytest

import lsmdbm
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage

pytestmark = pytest.mark.usefixtures("no_syncs")

CONTENT = {b"key": b"value", b"other": b"2"}
SECRET = b"outside, and none of our business"
MAX = (1 << 63) - 1


@pytest.fixture
def outside(tmp_path):
    """A file outside of the directory."""
    path = tmp_path / "outside"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def database(tmp_path):
    """The path of a database with a table and a log."""
    path = tmp_path / "db"
    with lsmdbm.open(path, "c") as db:
        db[b"key"] = b"value"
        db.flush()
        db[b"other"] = b"2"
    return path


def of_kind(path, kind):
    return next(name for name in sorted(os.listdir(path)) if name.endswith(kind))


def symlink(path, outside):
    path.symlink_to(outside)


def dangling_symlink(path, outside):
    path.symlink_to(outside.with_name("nowhere"))


def symlink_to_itself(path, outside):
    path.symlink_to(path)


def symlink_to_a_directory(path, outside):
    path.symlink_to(outside.parent)


def fifo(path, outside):
    os.mkfifo(path)


def directory(path, outside):
    path.mkdir()
    (path / "inside").write_bytes(b"kept")


def unix_socket(path, outside):
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def device(path, outside):
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero: endless
    except OSError as exc:
        pytest.skip(f"devices cannot be made here: {exc}")


PLANTS = [symlink, dangling_symlink, symlink_to_itself, symlink_to_a_directory, fifo, directory, unix_socket]
PLANTS += [device]
each_plant = pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)


def snapshot(path, but=()):
    """Names and kinds below a path, and the bytes of plain files."""
    found = {}
    for name in sorted({*os.listdir(path)}.difference(but)):
        status = os.lstat(path / name)
        is_file = stat.S_ISREG(status.st_mode)
        found[name] = stat.S_IFMT(status.st_mode), (path / name).read_bytes() if is_file else b""
    return found


@each_plant
@pytest.mark.parametrize("flag", "rwc")
@pytest.mark.parametrize("kind", [".wal", ".sst", ".man", "LOCK"])
def test_in_the_place_of_a_file_it_is_refused(database, outside, plant, flag, kind):
    path = database / of_kind(database, kind)
    path.unlink()
    plant(path, outside)
    label = () if kind == "LOCK" else ("LOCK",)
    before = snapshot(database, label)
    if kind == "LOCK" and flag == "r":
        with lsmdbm.open(database, flag) as db:  # readers take no lock
            assert CONTENT == dict(db)
    else:
        with pytest.raises(lsmdbm.error), lsmdbm.open(database, flag) as db:
            dict(db)
    assert before == snapshot(database, label)
    assert SECRET == outside.read_bytes()
    assert not outside.with_name("nowhere").exists()


@each_plant
@pytest.mark.parametrize("kind", [".wal", ".sst", ".man"])
def test_in_the_place_of_a_file_it_is_found_by_a_check_and_gone_around_by_a_repair(
    database, outside, plant, kind, tmp_path
):
    path = database / of_kind(database, kind)
    path.unlink()
    plant(path, outside)
    before = snapshot(database)

    assert {str(path)} == {problem.path for problem in lsmdbm.verify(database).problems}
    report = lsmdbm.repair(database, tmp_path / "new")
    assert [str(path)] == [loss.path for loss in report.losses]
    with lsmdbm.open(tmp_path / "new") as db:
        lost = {".wal": [b"other"], ".sst": [b"key"], ".man": []}[kind]
        assert {key: value for key, value in CONTENT.items() if key not in lost} == dict(db)
    assert before == snapshot(database)
    assert SECRET == outside.read_bytes()


@pytest.mark.parametrize("plant", [fifo, unix_socket, device], ids=lambda plant: plant.__name__)
def test_in_the_place_of_a_database_it_is_refused_and_never_waited_for(tmp_path, outside, plant):
    """`whichdb()` went on to that of dbm, which opens a FIFO, and waited for whoever would write into it."""
    path = tmp_path / "db"
    plant(path, outside)

    assert (False, "") == (lsmdbm.is_database(path), lsmdbm.whichdb(path))
    uses = [lambda flag=flag: lsmdbm.open(path, flag) for flag in "rwcn"]
    uses += [lambda: lsmdbm.verify(path), lambda: lsmdbm.destroy(path)]
    uses += [lambda: lsmdbm.repair(path, tmp_path / "new")]
    for use in uses:
        with pytest.raises(lsmdbm.error, match="no directory"):
            use()
    assert ["db", "outside"] == sorted(os.listdir(tmp_path))


@each_plant
@pytest.mark.parametrize("name", ["000900.wal", "000900.sst", "000900.man"])
@pytest.mark.parametrize("flag", "rwcn")
def test_under_a_name_that_nothing_needs_it_is_refused_or_passed_over(database, outside, plant, name, flag):
    plant(database / name, outside)
    try:
        with lsmdbm.open(database, flag) as db:
            assert ({} if flag == "n" else CONTENT) == dict(db)
            if flag != "r":
                db[b"more"] = b"3"
                db.compact()
                assert b"3" == db[b"more"]
    except lsmdbm.error as exc:
        assert name[-3:] != "sst", "a table that no manifest names"
        assert name in str(exc)
    assert SECRET == outside.read_bytes()
    assert not outside.with_name("nowhere").exists()
    assert plant is not directory or b"kept" == (database / name / "inside").read_bytes()


@each_plant
@pytest.mark.parametrize("flag", "cn")
def test_where_a_new_file_would_be_made_nothing_is_written_through_it(tmp_path, outside, plant, flag):
    path = tmp_path / "db"
    path.mkdir()
    plant(path / "000001.man", outside)
    try:
        with lsmdbm.open(path, flag) as db:
            db[b"a"] = b"1"
    except lsmdbm.error:
        pass
    assert SECRET == outside.read_bytes()
    assert not outside.with_name("nowhere").exists()


@pytest.mark.parametrize(
    "files",
    [
        {"000001.man": b".TH 000001 1\n" * 20},
        {"000001.man": b"short", "notes.txt": b"kept"},
        {"000001.man": b"short", "000002.wal": b"music"},
        {"000001.man": bytes(200), "000002.man": b"chapter two\n" * 20},
    ],
)
def test_somebody_elses_manifest_is_left_alone(tmp_path, files):
    """It passed for a database that was not born: flag "c" unlinked it, and destroy() the whole directory."""
    path = tmp_path / "manuals"
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    before = snapshot(path)
    for flag in "rwcn":
        with pytest.raises(lsmdbm.error, match="not a database"):
            lsmdbm.open(path, flag)
    for use in (lsmdbm.verify, lsmdbm.destroy):
        with pytest.raises(lsmdbm.error, match="not a database"):
            use(path)
    assert before == snapshot(path)


@pytest.mark.parametrize("kind", [".wal", ".sst", ".man", "LOCK"])
def test_another_name_of_one_of_our_files_keeps_its_bytes(database, tmp_path, kind):
    """Hard links, as a backup or an attacker makes them: the file is read and unlinked, never written."""
    name, link = of_kind(database, kind), tmp_path / "link"
    if kind == "LOCK":
        (database / name).unlink()
        link.write_bytes(SECRET)
        os.link(link, database / name)
    else:
        os.link(database / name, link)
    before = link.read_bytes()
    with lsmdbm.open(database, "c") as db:
        assert CONTENT == dict(db)
        db.update({b"%d" % number: b"new" for number in range(100)})
        db.compact()
    assert before == link.read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        *(f"{MAX + 1}.wal", f"{MAX + 1}.man", f"{10**19}.sst", f"{10**30}.man", "0000000.man", "00001.man"),
        *("000900.man.tmp", "000900.wal~", "000900.SST", "\N{ARABIC-INDIC DIGIT ONE}00900.man", "CURRENT"),
    ],
)
def test_names_that_are_not_ours_are_never_touched(database, name):
    (database / name).write_bytes(SECRET)
    for flag in "rwcn":
        with lsmdbm.open(database, flag) as db:
            assert ({} if flag == "n" else CONTENT) == dict(db)
            if flag in "wc":
                db.compact()
    assert SECRET == (database / name).read_bytes()


@pytest.mark.parametrize("kind", ["wal", "sst", "man"])
@pytest.mark.parametrize("number", [MAX, MAX - 1, MAX - 2])
def test_the_last_numbers_lose_nothing(database, kind, number):
    """Files with numbers behind the last one were not found again, and the manifest before was unlinked."""
    (database / f"{number}.{kind}").write_bytes(b"")
    written = dict(CONTENT)
    for value in range(6):
        try:
            with lsmdbm.open(database, "w") as db:
                assert written == dict(db)
                db[b"new"] = b"%d" % value
                written[b"new"] = b"%d" % value
                db.flush()
        except lsmdbm.error as exc:
            assert "no file number is left" in str(exc)
        with lsmdbm.open(database, "r") as db:
            assert written == dict(db)


def test_a_file_of_a_tebibyte_is_refused_unread(database):
    """Sparse, it costs an attacker nothing."""
    for kind in (".wal", ".man", ".sst"):
        path = database / of_kind(database, kind)
        size = path.stat().st_size
        try:
            os.truncate(path, 1 << 40)
        except OSError as exc:
            pytest.skip(f"no sparse files here: {exc}")
        for flag in "rw":
            with pytest.raises(lsmdbm.CorruptionError):
                lsmdbm.open(database, flag)
        os.truncate(path, size)
    with lsmdbm.open(database, "r") as db:
        assert CONTENT == dict(db)


def in_memory():
    """A disk in memory with such a database."""
    storage = CrashStorage()
    with open_on(storage, "/db", "c", 0o666, {}) as db:
        db[b"key"] = b"value"
        db.flush()
        db[b"other"] = b"2"
    return storage


def test_a_long_listing_takes_no_more_calls(budget):
    """So many files of ours that nothing needs, and as many of others: none of them is opened."""
    count = {"small": 1000, "default": 10_000}.get(budget, 1_000_000)
    storage = in_memory()
    plain = storage.crash("kill")
    node, file = storage.disk.find(["db"]), storage.disk.new_file()
    names = {
        f"{number}.{kind}": file.number for number in range(10**9, 10**9 + count) for kind in ("sst", "x")
    }
    for listing in (node.base, node.now):
        listing.update(names)
    calls = []
    for disk in (plain, storage):
        start = disk.count
        with open_on(disk, "/db", "r", 0o666, {}) as db:
            assert CONTENT == dict(db)
        calls.append(disk.count - start)
    assert calls[0] == calls[1]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP])
@pytest.mark.parametrize("flag", "rwc")
def test_a_file_that_may_not_be_read_is_an_error_with_its_number(code, flag):
    """Files of somebody else, that is: at each call that opens one."""
    storage = in_memory()
    for number in range(100):
        disk = storage.crash("kill")
        opened = []

        def strike(index, operation, path, disk=disk, opened=opened, number=number):
            if operation == "open":
                opened.append(path)
                if len(opened) == number + 1:
                    disk.fault(index, code)

        disk.on_call = strike
        try:
            with open_on(disk, "/db", flag, 0o666, {}) as db:
                assert CONTENT == dict(db)
            break
        except lsmdbm.error as exc:
            assert (code, opened[-1]) == (exc.errno, exc.filename)
    assert 3 <= number < 100
