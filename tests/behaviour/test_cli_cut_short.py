"""load, import and export that end early: what is left, and what the line on stderr says of it."""

import dbm.dumb
import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm import migration
from lsmdbm.cli import formats
from support.commands import FRONTS, call, command, environment

NOTHING = "; nothing is imported\n"
FULL = 200_000  # bytes that a file may have: whoever writes more gets an error, as on a full disk


@pytest.fixture(params=FRONTS)
def lsm(request):
    """Call the command, through each front end."""
    return lambda *arguments, stdin=b"": call(*arguments, stdin=stdin, front=request.param)


@pytest.fixture
def old(path):
    """A database of another module, with more in it than a file may have."""
    with dbm.dumb.open(f"{path}-old", "c") as db:
        for number in range(400):
            db[b"%04d" % number] = os.urandom(1000)
    return f"{path}-old"


@pytest.fixture
def lines():
    return [b'{"key": "%04d", "value": "%s"}\n' % (n, os.urandom(500).hex().encode()) for n in range(400)]


def cut_short(monkeypatch, module, name, *, after):
    """Have Ctrl-C come when a generator function has yielded so many."""
    whole = getattr(module, name)

    def interrupted(*given):
        for done, entry in enumerate(whole(*given)):
            if done == after:
                signal.raise_signal(signal.SIGINT)
            yield entry

    monkeypatch.setattr(module, name, interrupted)


def on_a_full_disk(*words):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, FULL))  # noqa: E731
    return subprocess.run(
        [command(), *words], env=environment(), capture_output=True, text=True, preexec_fn=limit
    )


def damage(path):
    """Damage the last block of a database."""
    with lsmdbm.open(path, "w") as db:
        db.compact()
    table = max(Path(path).glob("*.sst"))
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(data)


# load keeps what it has written


def test_a_load_that_is_interrupted_says_how_far_it_came(lsm, path, lines, monkeypatch):
    with monkeypatch.context() as patch:
        cut_short(patch, formats, "entries", after=70)
        found = lsm("load", path, stdin=b"".join(lines))

    said = "lsmdbm: interrupted; up to 70 entries are written, and may be loaded again\n"
    assert (130, said) == (found.code, found.err)
    assert lsmdbm.verify(path).ok
    with lsmdbm.open(path) as db:
        assert 70 == len(db)
    assert (0, "400 entries loaded\n") == (
        (again := lsm("load", path, stdin=b"".join(lines))).code,
        again.err,
    )


def test_a_load_that_has_not_begun_has_nothing_to_say(lsm, path, lines, monkeypatch):
    cut_short(monkeypatch, formats, "entries", after=0)
    found = lsm("load", path, stdin=b"".join(lines))

    assert (130, "lsmdbm: interrupted\n") == (found.code, found.err)


def test_a_load_onto_a_full_disk_keeps_what_there_was_room_for(path, lines, tmp_path):
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"".join(lines * 5))
    done = on_a_full_disk("load", path, file)

    assert 3 == done.returncode
    assert ": File too large; up to " in done.stderr
    assert done.stderr.endswith(" entries are written, and may be loaded again\n")
    assert 1 == done.stderr.count("\n")
    assert lsmdbm.verify(path).ok


@pytest.mark.parametrize("left", [0, 20])
def test_a_load_from_a_pipe_that_ends_early_takes_what_came(lsm, path, lines, left):
    """A pipe does not tell who has died: what ends between two lines is a whole file."""
    found = lsm("load", path, stdin=b"".join(lines[:50]) + lines[50][:left])

    assert (3 if left else 0) == found.code
    assert found.err.startswith("lsmdbm: stdin: line 51: no JSON: " if left else "50 entries loaded")
    with lsmdbm.open(path) as db:
        assert 50 == len(db)


# import is whole, or not at all


def test_an_import_that_is_interrupted_leaves_nothing(lsm, old, path, monkeypatch):
    with monkeypatch.context() as patch:
        cut_short(patch, migration, "_entries", after=70)
        found = lsm("import", old, path)

    assert (130, "lsmdbm: interrupted" + NOTHING) == (found.code, found.err)
    assert not os.path.lexists(path)
    assert (0, "400 entries imported\n") == ((again := lsm("import", old, path)).code, again.err)


def test_an_import_of_a_key_that_is_too_long_leaves_nothing(lsm, old, path):
    with dbm.dumb.open(old, "w") as db:
        db[b"k" * 70_000] = b""
    found = lsm("import", old, path)

    assert 3 == found.code
    assert found.err.startswith("lsmdbm: entry 401, key b'kkk")
    assert found.err.endswith(NOTHING)
    assert not os.path.lexists(path)


def test_an_import_of_a_damaged_source_leaves_nothing(lsm, old, path):
    assert 0 == lsm("import", old, f"{path}-source").code
    damage(f"{path}-source")
    found = lsm("import", f"{path}-source", path)

    assert 3 == found.code
    assert "checksum" in found.err
    assert found.err.endswith("; lsmdbm repair saves what can be read" + NOTHING)
    assert not os.path.lexists(path)


def test_an_import_of_a_source_that_makes_no_sense_leaves_nothing(lsm, old, path):
    Path(f"{old}.dir").write_text("'nonsense")
    found = lsm("import", old, path)

    assert (3, True) == (found.code, found.err.endswith(NOTHING))
    assert not os.path.lexists(path)


def test_an_import_onto_a_full_disk_leaves_nothing(old, path):
    done = on_a_full_disk("import", old, path)

    assert 3 == done.returncode
    assert done.stderr.endswith(": File too large" + NOTHING)
    assert not os.path.lexists(path)


def test_an_import_onto_something_says_nothing_of_what_was_not_begun(lsm, old, path):
    lsmdbm.open(path, "c").close()
    found = lsm("import", old, path)

    assert (3, f"lsmdbm: {path}: exists, and is no empty directory\n") == (found.code, found.err)
    assert lsmdbm.is_database(path)


# export leaves a part, and says so


def test_an_export_that_is_interrupted_says_that_a_part_is_there(lsm, old, path, monkeypatch):
    assert 0 == lsm("import", old, path).code
    with monkeypatch.context() as patch:
        cut_short(patch, migration.Tally, "over", after=70)
        found = lsm("export", path, f"{path}-back", "--backend", "dbm.dumb")

    part = f"{path}-back holds a part: remove its files before the next try\n"
    assert (130, "lsmdbm: interrupted; " + part) == (found.code, found.err)
    with dbm.dumb.open(f"{path}-back") as back:
        assert 70 == len(back)
    again = lsm("export", path, f"{path}-back", "--backend", "dbm.dumb")
    assert (3, True) == (
        again.code,
        again.err.endswith(": is there already; export_dbm() makes a new database\n"),
    )


def test_an_export_onto_a_full_disk_says_that_a_part_is_there(lsm, old, path):
    assert 0 == lsm("import", old, path).code
    done = on_a_full_disk("export", path, f"{path}-back", "--backend", "dbm.dumb")

    part = f"{path}-back holds a part: remove its files before the next try\n"
    assert (3, True) == (done.returncode, done.stderr.endswith("File too large; " + part))


def test_where_it_came_from_can_be_traced(lsm, old, path, monkeypatch):
    monkeypatch.setenv("LSMDBM_TRACEBACK", "1")
    Path(f"{old}.dir").write_text("'nonsense")

    assert "SyntaxError" in lsm("import", old, path).err.partition("Traceback")[2]
