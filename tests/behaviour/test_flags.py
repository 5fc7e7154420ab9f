"""Flags, paths and modes: what `open` does to whatever it finds at a path."""

import errno
import os
import stat
import sys

import pytest

import lsmdbm

pytestmark = pytest.mark.usefixtures("no_syncs")

POSIX = os.name == "posix"


def create_nothing(path):
    pass


def create_database(path):
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"


def create_empty_directory(path):
    os.mkdir(path)


def create_empty_file(path):
    with open(path, "wb"):
        pass


def create_file(path):
    with open(path, "wb") as file:
        file.write(b"some text")


def create_other_directory(path):
    os.mkdir(path)
    create_file(os.path.join(path, "notes.txt"))


def create_unborn(path):
    """What a crash leaves behind that came between the lock and the first manifest."""
    os.mkdir(path)
    create_empty_file(os.path.join(path, "LOCK"))


def create_broken_symlink(path):
    os.symlink(path + " is not there", path)


def create_symlink_to_database(path):
    create_database(path + " target")
    os.symlink(path + " target", path)


ONE, EMPTY = {b"a": b"1"}, {}
NOT_FOUND, FOREIGN = lsmdbm.NotFoundError, lsmdbm.error
TABLE = {  # content for flags r, w, c, n; or the error
    create_nothing: (NOT_FOUND, NOT_FOUND, EMPTY, EMPTY),
    create_database: (ONE, ONE, ONE, EMPTY),
    create_empty_directory: (NOT_FOUND, NOT_FOUND, EMPTY, EMPTY),
    create_empty_file: (FOREIGN, FOREIGN, FOREIGN, EMPTY),
    create_file: (FOREIGN, FOREIGN, FOREIGN, EMPTY),
    create_other_directory: (FOREIGN, FOREIGN, FOREIGN, FOREIGN),
    create_unborn: (NOT_FOUND, NOT_FOUND, EMPTY, EMPTY),
    create_symlink_to_database: (ONE, ONE, ONE, EMPTY),
}
CASES = [
    (create, flag, result) for create, row in TABLE.items() for flag, result in zip("rwcn", row, strict=True)
]


def state_of(path):
    """All that is at a path: nothing, the bytes of a file, or a directory by name, LOCK left out."""
    if os.path.isdir(path):
        return {name: state_of(os.path.join(path, name)) for name in os.listdir(path) if name != "LOCK"}
    if not os.path.lexists(path):
        return None
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize(("create", "flag", "result"), CASES, ids=[f"{c.__name__}-{f}" for c, f, _ in CASES])
def test_each_flag_with_each_thing_there_may_be(path, create, flag, result):
    create(path)
    before = state_of(path)
    names = os.path.isdir(path) and sorted(os.listdir(path))

    if isinstance(result, dict):
        with lsmdbm.open(path, flag) as db:
            assert result == dict(db)
            if flag != "r":
                db["b"] = "2"
        with lsmdbm.open(path) as db:
            assert (result if flag == "r" else {**result, b"b": b"2"}) == dict(db)
    else:
        with pytest.raises(result) as caught:
            lsmdbm.open(path, flag)
        assert result is type(caught.value)
        assert path in str(caught.value)
        assert before == state_of(path)
        assert names == (os.path.isdir(path) and sorted(os.listdir(path)))
        if result is NOT_FOUND:
            assert (errno.ENOENT, os.strerror(errno.ENOENT)) == (caught.value.errno, caught.value.strerror)
            assert path == caught.value.filename
            assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("flag", ["r", "rs", "w", "c"])
@pytest.mark.parametrize("is_flushed", [False, True])
def test_opening_and_reading_and_closing_writes_nothing(path, flag, is_flushed):
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
        if is_flushed:
            db.flush()
    before = state_of(path)

    with lsmdbm.open(path, flag) as db:
        assert (1, b"1", [b"a"]) == (len(db), db["a"], db.keys())
    assert before == state_of(path)


def test_reading_leaves_a_directory_without_a_lock_without_one(path):
    create_database(path)
    os.unlink(os.path.join(path, "LOCK"))
    before = sorted(os.listdir(path))

    with lsmdbm.open(path, "r") as db:
        assert ONE == dict(db)
    assert before == sorted(os.listdir(path))


@pytest.mark.skipif(not POSIX or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_read_only_directory_can_be_read(path):
    create_database(path)
    os.chmod(path, 0o555)
    try:
        with lsmdbm.open(path, "r") as db:
            assert ONE == dict(db)
        with pytest.raises(lsmdbm.error):
            lsmdbm.open(path, "n")
    finally:
        os.chmod(path, 0o755)


def test_n_keeps_the_directory_and_its_lock_and_what_is_not_ours(path):
    create_database(path)
    create_file(os.path.join(path, "notes.txt"))
    before = [os.stat(path).st_ino, os.stat(os.path.join(path, "LOCK")).st_ino]

    with lsmdbm.open(path, "n") as db:
        assert EMPTY == dict(db)
        db["b"] = "2"
    assert before == [os.stat(path).st_ino, os.stat(os.path.join(path, "LOCK")).st_ino]
    assert b"some text" == state_of(os.path.join(path, "notes.txt"))


def test_n_beside_another_handle_of_this_process_empties_both(path):
    with lsmdbm.open(path, "c") as db:
        db["a"] = "1"
        with lsmdbm.open(path, "n") as other:
            assert EMPTY == dict(other) == dict(db)
            other["b"] = "2"
        assert {b"b": b"2"} == dict(db)


def test_a_second_handle_sees_what_the_first_has_not_synced(path):
    with lsmdbm.open(path, "c", durability="none") as first, lsmdbm.open(path, "c") as second:
        first["a"] = "1"
        assert b"1" == second["a"]
        with lsmdbm.open(path, "r") as reader:
            assert b"1" == reader["a"]
            second["b"] = "2"
            assert b"2" == reader["b"]
            with pytest.raises(lsmdbm.ReadOnlyError):
                reader["c"] = "3"
        del second["a"]
        assert {b"b": b"2"} == dict(first)


def test_a_handle_by_another_name_is_a_handle_on_the_same_database(path, tmp_path):
    with lsmdbm.open(path, "c") as first, lsmdbm.open(tmp_path / "db" / ".." / "db", "w") as second:
        first["a"] = "1"
        assert b"1" == second["a"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize("flag", "rwcn")
def test_what_is_neither_file_nor_directory_is_refused_and_kept(path, flag):
    os.mkfifo(path)

    with pytest.raises(lsmdbm.error, match="not a database"):
        lsmdbm.open(path, flag)
    assert stat.S_ISFIFO(os.stat(path).st_mode)


@pytest.mark.parametrize("flag", "rwcn")
def test_a_symbolic_link_that_leads_nowhere_is_an_error_and_stays(path, flag):
    create_broken_symlink(path)

    with pytest.raises(lsmdbm.error):
        lsmdbm.open(path, flag)
    assert os.path.islink(path)
    assert not os.path.exists(path)


@pytest.mark.parametrize("flag", "rwcn")
def test_a_missing_parent_is_not_created(tmp_path, flag):
    path = os.fspath(tmp_path / "missing" / "db")

    with pytest.raises(lsmdbm.NotFoundError) as caught:
        lsmdbm.open(path, flag)
    assert path == caught.value.filename
    assert [] == os.listdir(tmp_path)


@pytest.mark.parametrize("flag", "rwcn")
def test_below_a_file_there_is_no_database(tmp_path, flag):
    create_file(tmp_path / "file")

    with pytest.raises(lsmdbm.error):
        lsmdbm.open(tmp_path / "file" / "db", flag)


@pytest.mark.parametrize("flag", "rwcn")
@pytest.mark.parametrize("empty", ["", b""])
def test_the_empty_path_is_not_found(flag, empty):
    with pytest.raises(lsmdbm.NotFoundError) as caught:
        lsmdbm.open(empty, flag)
    assert "" == caught.value.filename


@pytest.mark.parametrize("wrong", [None, 1, 1.5, ["db"], object()], ids=repr)
def test_what_is_no_path_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="expected str, bytes or os.PathLike object, not"):
        lsmdbm.open(wrong, "c")


@pytest.mark.parametrize("flag", "rwcn")
@pytest.mark.parametrize("wrong", ["a\0b", b"a\0b"])
def test_a_path_with_nul_is_a_value_error(flag, wrong):
    with pytest.raises(ValueError, match="null"):
        lsmdbm.open(wrong, flag)


class BytesPath:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return os.fsencode(self.path)


NAMES = [
    "db",
    "d b",
    "db.dbm",
    "\u00e9\u00df\u0142-\u65e5\u672c-\U0001f600",
    "-x",
    "~",
    "000001.man",
    "x" * 200,
]
NAMES += ["\udc80\udcff"] if sys.platform == "linux" else []  # bytes that are no UTF-8


@pytest.mark.parametrize(
    "convert", [str, os.fsencode, BytesPath, lambda path: __import__("pathlib").Path(path)]
)
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_every_kind_of_path_finds_the_same_database(tmp_path, convert, name):
    path = os.path.join(tmp_path, name)
    for flag in "rw":
        with pytest.raises(lsmdbm.NotFoundError) as caught:
            lsmdbm.open(convert(path), flag)
        assert path == caught.value.filename
    with lsmdbm.open(convert(path), "c") as db:
        assert path == db.path
        db["a"] = "1"
    with lsmdbm.open(path) as db:
        assert ONE == dict(db)
    assert [name] == os.listdir(tmp_path)


def test_a_handle_on_a_relative_path_survives_chdir(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    with lsmdbm.open("db", "c", memtable_bytes=1024) as db:
        monkeypatch.chdir(tmp_path / "two")
        db.update((str(number), "v" * 20) for number in range(500))
        db.flush()
        db.compact()
        db["a"] = "1"
        assert 501 == len(db.keys())
        with lsmdbm.open("db", "c") as other:
            assert EMPTY == dict(other)
    with lsmdbm.open(tmp_path / "one" / "db") as db:
        assert 501 == len(db)


def test_arguments_may_be_named_and_the_flag_defaults_to_reading(path):
    with lsmdbm.open(file=path, flag="c", mode=0o600) as db:
        db["a"] = "1"
    with lsmdbm.open(path) as db:
        with pytest.raises(lsmdbm.ReadOnlyError):
            db["a"] = "2"
        assert ONE == dict(db)


@pytest.mark.parametrize("flag", ["rf", "ws", "cu", "nm", "cfsum", "rw"])
def test_suffixes_are_taken(path, flag):
    create_database(path)

    with lsmdbm.open(path, flag) as db:
        assert (EMPTY if flag[0] == "n" else ONE) == dict(db)


@pytest.mark.parametrize("flag", ["", "x", "rx", "fc", "C", None, b"c", 0], ids=repr)
def test_what_is_no_flag_is_refused_whatever_is_there(path, flag):
    for create in (create_nothing, create_database):
        create(path)
        before = state_of(path)
        with pytest.raises(lsmdbm.FlagError) as caught:
            lsmdbm.open(path, flag)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, OSError)
        assert f"Flag must be one of 'r', 'w', 'c', or 'n', not {flag!r}" == str(caught.value)
        assert before == state_of(path)


# -- permission bits --------------------------------------------------------------------------------


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def modes_in(path):
    return {stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(path)}


@pytest.mark.skipif(not POSIX, reason="permission bits are a POSIX thing")
@pytest.mark.parametrize(
    ("mode", "mask", "file_bits", "directory_bits"),
    [
        (0o666, 0o022, 0o644, 0o755),
        (0o637, 0o002, 0o635, 0o735),
        (0o600, 0o077, 0o600, 0o700),
        (0o640, 0o000, 0o640, 0o750),
        (0o666, 0o027, 0o640, 0o750),
    ],
)
def test_files_and_directory_get_mode_less_umask(path, umask, mode, mask, file_bits, directory_bits):
    umask(mask)
    with lsmdbm.open(path, "c", mode) as db:
        db["a"] = "1"
        db.flush()
        db["b"] = "2"
        assert {file_bits} == modes_in(path)
    assert directory_bits == stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.skipif(not POSIX, reason="permission bits are a POSIX thing")
def test_later_files_get_the_bits_of_the_first_whatever_mode_and_umask_are_then(path, umask):
    with lsmdbm.open(path, "c", 0o660) as db:
        db["a"] = "1"
        umask(0o077)
        db.flush()
    with lsmdbm.open(path, "w", 0o666) as db:
        db["b"] = "2"
        db.compact()
    with lsmdbm.open(path, "n", 0o600) as db:
        db["c"] = "3"
        db.flush()

    assert {0o640} == modes_in(path)
