"""Every verb on a database that is empty, large, damaged, locked by another process, or not there at all.

What comes of it: an exit code that is documented, one line for an error, no traceback, and nothing made or
changed by those who only read.
"""

import os
import random
import shutil
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm.cli.grammar import BY_NAME, VERBS
from support.child import Child
from support.commands import FRONTS, call

READS = {"get", "scan", "count", "dump", "export", "stats", "tree", "verify", "repair", "backup", "shell"}
WRITES = {"put", "del", "load", "compact", "destroy"}
OF_FILES = {"table": ".sst", "log": ".wal", "manifest": ".man"}
ELSEWHERE = {
    "import",
    "whichdb",
    "sql",
    "bench",
    "completion",
}  # no database of ours; or, sql, of another module


def arguments(verb, path, tmp_path):
    """A command line of a verb that means a database."""
    more = {
        "get": [b"key 1".decode()],
        "put": ["key 1", "value"],
        "del": ["key 1"],
        "load": [],
        "export": [tmp_path / "out", "--backend", "dbm.dumb"],
        "repair": [tmp_path / "out"],
        "backup": [tmp_path / "out"],
        "destroy": ["--yes"],
    }
    timeout = ["--timeout", "0"] if any(each.dest == "timeout" for each in BY_NAME[verb].parameters) else []
    if verb in OF_FILES:
        files = sorted(Path(path).glob(f"*{OF_FILES[verb]}"))
        return [verb, files[-1] if files else Path(path) / f"000001{OF_FILES[verb]}"]
    return [verb, path, *more.get(verb, []), *timeout]


def do(verb, path, tmp_path, front="argparse"):
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    stdin = b'{"key": "a", "value": "b"}\n' if verb == "load" else b"count\n" if verb == "shell" else b""
    found = call(*arguments(verb, path, tmp_path), stdin=stdin, front=front)
    assert "Traceback" not in found.err
    assert found.code in (0, 1, 2, 3)
    if found.code in (2, 3) and found.err:
        assert found.err.startswith("lsmdbm: ")
        assert 1 == found.err.count("\n")
    return found


def listing(path):
    """What is in a directory, but for LOCK, which readers do not touch and writers take."""
    if not os.path.isdir(path):
        return os.path.exists(path)
    return {file.name: file.read_bytes() for file in Path(path).iterdir() if file.name != "LOCK"}


def test_every_verb_has_its_place_here():
    assert {verb.name for verb in VERBS} == READS | WRITES | {*OF_FILES} | ELSEWHERE


fronts = pytest.mark.parametrize("front", FRONTS)
every = pytest.mark.parametrize("verb", sorted(READS | WRITES | {*OF_FILES}))


@pytest.fixture
def empty(path):
    lsmdbm.open(path, "c").close()
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A database of several levels, as it stands on disk."""
    path = tmp_path_factory.mktemp("large") / "db"
    rng = random.Random(7)
    with lsmdbm.open(path, "c", memtable_bytes=30_000) as db:
        db.update((b"key %d" % number, rng.randbytes(40)) for number in range(5000))
    with lsmdbm.open(path, "w") as db:
        db["key 1"] = "one"
    return path


@pytest.fixture
def copied(large, tmp_path):
    """A copy of the large one, to be written to, or damaged."""
    shutil.copytree(large, tmp_path / "db")
    return tmp_path / "db"


@fronts
@every
def test_verbs_on_an_empty_database(empty, tmp_path, verb, front):
    before = listing(empty)
    found = do(verb, empty, tmp_path, front)

    expected = {"get": 1, "del": 1, "table": 3, "log": 3}.get(verb, 0)
    assert expected == found.code, found.err
    if verb in READS:
        assert before == listing(empty)


@every
def test_verbs_on_a_large_database(copied, tmp_path, verb):
    before = listing(copied)
    found = do(verb, copied, tmp_path)

    assert 0 == found.code, found.err
    if verb in READS or verb in OF_FILES:
        assert before == listing(copied)
    lengths = {"scan": 5000, "dump": 5000, "count": 1, "get": 0, "shell": 1}
    if verb in lengths:
        assert lengths[verb] == found.out.count(b"\n")


@fronts
@every
def test_verbs_on_a_database_that_is_not_there(path, tmp_path, verb, front):
    found = do(verb, path, tmp_path, front)

    if verb == "load":  # which makes one
        assert (0, True) == (found.code, lsmdbm.is_database(path))
        return
    assert (3, b"") == (found.code, found.out)
    assert path in found.err
    hint = ": --create makes one" if verb == "put" else ""
    assert verb in OF_FILES or f"lsmdbm: {path}: there is no database{hint}\n" == found.err
    assert [] == os.listdir(tmp_path)


@every
@pytest.mark.parametrize("kind", [".man", ".sst", ".wal", "all"])
def test_verbs_on_a_damaged_database(copied, tmp_path, verb, kind):
    for file in Path(copied).iterdir():
        if kind in (file.suffix, "all") and file.name != "LOCK":
            data = bytearray(file.read_bytes())
            for place in range(30, len(data), 97):
                data[place] ^= 0xFF
            file.write_bytes(data)
    before = listing(copied)
    found = do(verb, copied, tmp_path)

    if (
        verb in ("verify", "repair") and kind != ".wal"
    ):  # a log whose header is gone looks like one never written
        assert found.code in (1, 3)
    if verb in ("scan", "dump", "count") and kind in (".man", ".sst", "all"):
        assert 3 == found.code
        assert str(copied) in found.err
        assert found.err.endswith("; lsmdbm repair saves what can be read\n")
    if verb in READS or verb in OF_FILES:
        assert before == listing(copied)


@pytest.fixture
def locked(copied, tmp_path):
    """The large database while another process writes to it."""
    with Child(tmp_path) as child:
        child("open", os.fspath(copied), "w")
        yield copied, child.pid


def test_verbs_on_a_locked_database(locked, tmp_path):
    path, pid = locked
    before = listing(path)
    for verb in sorted(READS | {*OF_FILES}):  # they wait for nobody
        assert 0 == do(verb, path, tmp_path).code, verb
    for verb in sorted(WRITES):
        found = do(verb, path, tmp_path)
        assert 3 == found.code, verb
        assert found.err.startswith(f"lsmdbm: {path}: "), found.err
        assert str(pid) in found.err or "open" in found.err
        assert "temporarily" not in found.err  # the words of EAGAIN, of which nobody is wiser
    assert before == listing(path)


@every
@pytest.mark.parametrize("kind", ["file", "directory", "empty directory"])
def test_verbs_on_what_is_no_database(path, tmp_path, verb, kind):
    if kind == "file":
        Path(path).write_text("mine")
    else:
        os.mkdir(path)
        if kind == "directory":
            Path(path, "mine").write_text("mine")
    before = listing(path)
    found = do(verb, path, tmp_path)

    if kind == "empty directory" and verb == "load":
        assert 0 == found.code
        return
    assert (3, b"") == (found.code, found.out)
    assert before == listing(path)
    if kind == "directory" and verb == "repair":
        assert f"lsmdbm: {path}: not a database: the directory holds other files\n" == found.err


@fronts
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_database_that_may_not_be_read_is_a_line(empty, front):
    os.chmod(empty, 0)
    try:
        assert (3, f"lsmdbm: {empty}: Permission denied\n") == (
            (found := call("scan", empty, front=front)).code,
            found.err,
        )
    finally:
        os.chmod(empty, 0o700)


@fronts
def test_what_may_be_read_is_found_out_by_reading(empty, front, monkeypatch):
    """click asked in advance, for a wrong usage, which nobody saw: root may read everything."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)

    assert (0, "0\n", "") == ((found := call("count", empty, front=front)).code, found.text, found.err)
