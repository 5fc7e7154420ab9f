"""What CPython's tests of other backends ask in words of those backends, asked of a database here.

`support.cpython_suite` leaves these out and says which test stands in for which.  The three about
`reorganize` come from Python 3.15.
"""

import os
import random
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

import lsmdbm

POSIX = os.name == "posix"
NOBODY = 65534
ENTRIES = {
    b"0": b"",
    b"a": b"Letters:",
    b"b": b"of",
    b"c": b"several",
    b"g": b"words",
    "\u00fc".encode(): b"!",
}


def fill(path, entries=ENTRIES, **options):
    """Make a database of some entries, half of them in a table and half in the log."""
    with lsmdbm.open(path, "n", **options) as db:
        for number, (key, value) in enumerate(entries.items()):
            db[key] = value
            if number == len(entries) // 2:
                db.flush()


def files_of(path):
    """Return the files in a directory and what they hold."""
    return {file.name: file.read_bytes() for file in Path(path).iterdir()}


# -- files ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not POSIX, reason="permission bits are a POSIX thing")
def test_files_are_created_with_the_mode_less_the_umask(path):
    before = os.umask(0o002)
    try:
        with lsmdbm.open(path, "c", 0o637) as db:
            db["key"] = "value"
            db.flush()
            db["other"] = "value"
    finally:
        os.umask(before)

    modes = {file.name: oct(stat.S_IMODE(file.stat().st_mode)) for file in Path(path).iterdir()}
    assert dict.fromkeys(modes, oct(0o635)) == modes
    assert {"LOCK", "man", "sst", "wal"} == {name.rpartition(".")[2] for name in modes}
    assert oct(0o735) == oct(stat.S_IMODE(os.stat(path).st_mode))


@pytest.mark.parametrize("convert", [str, os.fsencode, Path])
def test_a_name_beyond_ascii_is_found_again(directory, convert):
    name = "\u00e6\u0111\u0141\u03c6\u0416\u05d0\u0e01\u20ac"
    path = os.path.join(directory, name)
    with lsmdbm.open(convert(path), "c") as db:
        db[b"key"] = b"value"

    assert [name] == os.listdir(directory)
    with lsmdbm.open(path, "r") as db:
        assert [b"key"] == db.keys()
        assert b"key" in db
        assert b"value" == db[b"key"]


@pytest.fixture
def bound():
    """A directory of somebody whom permissions bind: root steps down to nobody while the test runs."""
    user = os.geteuid() if POSIX else None
    directory = tempfile.mkdtemp()  # not tmp_path, which lies below directories for their owner alone
    try:
        if user == 0:
            try:
                os.chown(directory, NOBODY, -1)
                os.seteuid(NOBODY)
                os.listdir(directory)
            except OSError as exc:
                pytest.skip(f"root cannot step down here: {exc}")
        yield directory
    finally:
        if user == 0:
            os.seteuid(user)
        shutil.rmtree(directory)


@pytest.mark.skipif(not POSIX, reason="permission bits are a POSIX thing")
def test_read_only_files_in_a_read_only_directory_can_be_read(bound):
    path = os.path.join(bound, "db")
    fill(path)
    for file in Path(path).iterdir():
        file.chmod(stat.S_IRUSR)
    os.chmod(path, stat.S_IRUSR | stat.S_IXUSR)
    before = files_of(path)
    try:
        with pytest.raises(PermissionError):  # or nothing below says anything
            Path(path, "probe").touch()

        with lsmdbm.open(path, "r") as db:
            assert sorted(ENTRIES) == db.keys()
            assert ENTRIES == dict(db)
        for flag in "wcn":
            with pytest.raises(lsmdbm.error):
                lsmdbm.open(path, flag)
        assert before == files_of(path)
    finally:
        os.chmod(path, stat.S_IRWXU)


# -- flags, closing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["x", "invalid", "rx", "", None], ids=repr)
def test_an_invalid_flag_is_a_value_error_and_an_os_error(path, flag):
    for kind in (ValueError, OSError):
        with pytest.raises(kind, match="Flag must be one of 'r', 'w', 'c', or 'n', not"):
            lsmdbm.open(path, flag)
    assert not os.path.exists(path)

    fill(path)
    lsmdbm.open(path, "rf").close()  # which dbm.dumb does not take


def test_a_with_block_closes_and_says_so_afterwards(path):
    with lsmdbm.open(path, "c") as db:
        db["gdbm context manager"] = "context manager"
    with lsmdbm.open(path, "r") as db:
        assert [b"gdbm context manager"] == db.keys()

    with pytest.raises(lsmdbm.error) as caught:
        db.keys()
    assert "DBM object has already been closed" == str(caught.value)


ITERATORS = {
    "iter": iter,
    "iterkeys": lambda db: db.iterkeys(),
    "reversed": reversed,
    "items": lambda db: iter(db.items()),
    "values": lambda db: iter(db.values()),
    "range": lambda db: iter(db.range("1")),
}


@pytest.mark.parametrize("iterator", ITERATORS)
@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("is_flushed", [False, True])
def test_an_iterator_ends_with_an_error_when_its_database_is_closed(path, iterator, steps, is_flushed):
    db = lsmdbm.open(path, "c")
    db["1"] = b"1"
    db["2"] = b"2"
    if is_flushed:
        db.flush()
    iteration = ITERATORS[iterator](db)
    for _ in range(steps):
        next(iteration)
    db.close()

    with pytest.raises(lsmdbm.ClosedError):
        next(iteration)


# -- keys and values --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, 42, 3.14], ids=repr)
def test_numbers_and_none_are_type_errors(path, wrong):
    with lsmdbm.open(path, "c") as db:
        with pytest.raises(TypeError):
            db[wrong] = "value"
        with pytest.raises(TypeError):
            db["key"] = wrong
        with pytest.raises(TypeError):
            db[wrong]
        with pytest.raises(TypeError):
            del db[wrong]
        assert [] == db.keys()

        db["string"] = b"bytes"
        db[b"bytes"] = "string"
        assert {b"string": b"bytes", b"bytes": b"string"} == dict(db)
        db["10"] = "value"
        db[b"10"] = "value"
        assert [b"10", b"bytes", b"string"] == db.keys()


def test_a_key_is_there_once_or_not_at_all(path):
    with lsmdbm.open(path, "c") as db, lsmdbm.open(path, "r") as reader:
        db["key"] = "value"
        db["key"] = "other"
        assert [(b"key", b"other")] == [*reader.items()]
        db["new"] = "value"
        del db[b"key"]
        assert [(b"new", b"value")] == [*reader.items()]
        del db[b"new"]
        assert ([], []) == ([*reader], [*reader.values()])


# -- damage -----------------------------------------------------------------------------------------

READS = {
    "getitem": lambda db: db["key"],
    "contains": lambda db: "key" in db,
    "iter": lambda db: next(iter(db)),
    "keys": lambda db: db.keys(),
    "len": len,
    "bool": bool,
}
WRITES = {"delitem": lambda db: db.__delitem__("key"), "popitem": lambda db: db.popitem()}


DAMAGES = {  # the newest file of a kind, and which byte of it is wrong: at that part of its length
    "man": 0.5,
    "sst": 0.5,
    "wal": 0.45,  # in the record; the mark behind it, which says that the log had been synced, is whole
}


def create_damaged(path, kind):
    """Make a database of one entry and damage it; return the damaged file."""
    with lsmdbm.open(path, "n") as db:
        db["key"] = "value"
        if kind != "wal":
            db.flush()
    file = max(Path(path).glob(f"*.{kind}"))
    data = bytearray(file.read_bytes())
    data[int(len(data) * DAMAGES[kind])] ^= 0xFF
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("flag", "rwc")
def test_a_damaged_database_answers_with_its_own_error(path, kind, flag):
    for operation in (READS if flag == "r" else READS | WRITES).values():
        file = create_damaged(path, kind)
        before = file.read_bytes()
        with pytest.raises(lsmdbm.CorruptionError) as caught, lsmdbm.open(path, flag) as db:
            operation(db)
        assert os.fspath(file) == caught.value.path
        assert before == file.read_bytes()  # what can be saved is still there


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_database_can_be_begun_anew(path, kind):
    create_damaged(path, kind)

    with lsmdbm.open(path, "n") as db:
        assert [] == db.keys()
        db["foo"] = "write"
        assert b"write" == db[b"foo"]
        assert b"foo" == next(iter(db))
        del db["foo"]
    with lsmdbm.open(path, "r") as db:
        assert {} == dict(db)


# -- reorganize -------------------------------------------------------------------------------------

LONG = {  # six values that compress, of 0.3 to 1.1 MB
    b"%d" % number: random.Random(number).randbytes(16 << 10) * (19 + 10 * number) for number in range(6)
}


def bytes_in(path):
    return sum(file.stat().st_size for file in Path(path).iterdir())


@pytest.mark.parametrize("is_flushed", [False, True])  # if not, the log alone is longer than any table
def test_reorganize_gives_back_what_was_deleted(path, is_flushed):
    with lsmdbm.open(path, "n") as db:
        db.update(LONG)
        if is_flushed:
            db.flush()
    full = bytes_in(path)

    with lsmdbm.open(path, "c") as db:
        for key in sorted(LONG)[::2]:
            del db[key]
        db.reorganize()
        assert sorted(LONG)[1::2] == db.keys()
    assert bytes_in(path) < full
    with lsmdbm.open(path, "r") as db:
        assert {key: LONG[key] for key in sorted(LONG)[1::2]} == dict(db)


def test_reorganize_changes_no_content_and_ends_no_iteration(path):
    fill(path)
    with lsmdbm.open(path, "c") as db:
        iteration = iter(db.items())
        seen = [next(iteration)]
        db.reorganize()
        assert ENTRIES == dict(db)
        assert sorted(ENTRIES.items()) == [*seen, *iteration]
    with lsmdbm.open(path, "r") as db:
        assert ENTRIES == dict(db)


def test_a_read_only_handle_neither_reorganizes_nor_clears(path):
    fill(path)
    before = files_of(path)
    with lsmdbm.open(path, "r") as db:
        with pytest.raises(lsmdbm.ReadOnlyError):
            db.reorganize()
        with pytest.raises(lsmdbm.ReadOnlyError):
            db.clear()
        assert ENTRIES == dict(db)
    assert before == files_of(path)
