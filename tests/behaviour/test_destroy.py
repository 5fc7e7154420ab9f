"""destroy() removes a database and nothing else."""

import os
import random
import subprocess
import sys

import pytest

import lsmdbm
from lsmdbm._base.errors import ClosedError, LockedError, NotFoundError, error
from lsmdbm._engine import removal
from lsmdbm.database import open_on
from support.crash_storage import MODES
from support.engine import calls_since
from support.ruins import PATH, build


@pytest.fixture
def path(tmp_path):
    """A database with a table and a log."""
    with lsmdbm.open(tmp_path / "db", "n") as db:
        db["a"] = "b"
        db.flush()
        db["c"] = "d"
    return tmp_path / "db"


def test_a_database_goes_with_its_directory(path):
    assert [] == lsmdbm.destroy(path)
    assert [] == list(path.parent.iterdir())
    with pytest.raises(NotFoundError):
        lsmdbm.open(path)
    with pytest.raises(NotFoundError):
        lsmdbm.destroy(path)


def test_any_path_will_do_and_its_place_can_be_taken_again(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    assert [] == lsmdbm.destroy(b"db/")
    with lsmdbm.open("db", "c") as db:
        assert 0 == len(db)
    assert [] == lsmdbm.destroy("./db")


def test_what_is_not_ours_stays_and_is_named(path):
    (path / "notes.txt").write_text("mine")
    (path / "7.sst").touch()
    (path / "below").mkdir()
    (path / "below" / "000001.sst").touch()

    assert ["7.sst", "below", "notes.txt"] == lsmdbm.destroy(path)
    assert ["7.sst", "below", "notes.txt"] == sorted(os.listdir(path))
    assert "mine" == (path / "notes.txt").read_text()
    assert ["000001.sst"] == os.listdir(path / "below")
    with pytest.raises(NotFoundError):
        lsmdbm.destroy(path)
    with pytest.raises(error):
        lsmdbm.open(path, "c")


def test_names_like_ours_do_not_make_it_ours(tmp_path):
    """A directory of tables that RocksDB had written was removed."""
    (tmp_path / "000008.sst").write_bytes(b"of a RocksDB")
    (tmp_path / "000009.sst").touch()

    with pytest.raises(error, match="not a database"):
        lsmdbm.destroy(tmp_path)
    with pytest.raises(error, match="not a database"):
        lsmdbm.verify(tmp_path)
    assert ["000008.sst", "000009.sst"] == sorted(os.listdir(tmp_path))


def test_leftovers_of_ours_go_too(path):
    for name in ("000001.wal", "000090.man", "000091.sst", "9000000000000000000.sst"):
        (path / name).touch()

    assert [] == lsmdbm.destroy(path)
    assert not path.exists()


def test_a_damaged_database_goes_like_any_other(seed):
    rng = random.Random(f"{seed} destroyed")
    for name, data in (("man", b"LSMMrot"), ("man", None), ("sst", b""), ("wal", b"rot")):
        ruin = build("everywhere", rng)
        storage = ruin.storage({ruin.names(name)[0]: data})

        assert [] == removal.destroy(storage, PATH)
        assert "missing" == storage.kind(PATH)


# What is refused


def test_a_database_that_is_open_in_this_process_is_refused(path):
    with lsmdbm.open(path, "w") as db:
        with pytest.raises(error, match="open in this process") as caught:
            lsmdbm.destroy(path)
        assert not isinstance(caught.value, LockedError)
        assert [b"a", b"c"] == list(db)
    assert [] == lsmdbm.destroy(path)


def test_a_database_that_another_process_writes_is_locked(path):
    code = "import lsmdbm, sys\nwith lsmdbm.open(sys.argv[1], 'w'): print('open', flush=True), input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=path.parent, **pipes)
    try:
        assert b"open\n" == child.stdout.readline()
        before = sorted(path.iterdir())
        with pytest.raises(LockedError, match=f"pid {child.pid}"):
            lsmdbm.destroy(path)
        assert before == sorted(path.iterdir())
    finally:
        child.communicate(b"\n")
    assert 0 == child.returncode
    assert [] == lsmdbm.destroy(path)


def test_a_reader_keeps_what_it_sees(path):
    with lsmdbm.open(path) as db:
        assert [] == lsmdbm.destroy(path)
        assert {b"a": b"b", b"c": b"d"} == dict(db.items())
    with pytest.raises(ClosedError):
        db["a"]


def test_a_link_to_a_database_is_refused(path):
    link = path.parent / "link"
    link.symlink_to(path)
    for spelling in (link, f"{link}/"):
        with pytest.raises(error, match="symbolic link"):
            lsmdbm.destroy(spelling)
    (path.parent / "dangling").symlink_to("nowhere")
    with pytest.raises(error, match="symbolic link"):
        lsmdbm.destroy(path.parent / "dangling")
    with lsmdbm.open(link) as db:
        assert b"b" == db["a"]


@pytest.mark.parametrize(
    "names",
    [
        ["notes.txt"],
        ["CURRENT", "LOCK", "MANIFEST-000004", "000005.sst"],  # as RocksDB has them
        ["000003.man", "000005.sst", "notes.txt"],  # a manifest by its name alone
    ],
)
def test_a_directory_that_is_not_ours_is_refused_and_left_alone(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("theirs")
    with pytest.raises(error):
        lsmdbm.destroy(tmp_path)

    assert names == [name for name in names if (tmp_path / name).read_text() == "theirs"]
    assert len(names) == len(os.listdir(tmp_path))


def test_where_there_is_no_database_nothing_is_found(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "lock").mkdir()
    (tmp_path / "lock" / "LOCK").touch()
    for name in ("missing", "empty", "lock", ""):
        with pytest.raises(NotFoundError):
            lsmdbm.destroy(tmp_path / name if name else "")
    assert (tmp_path / "empty").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(error, match="no directory"):
        lsmdbm.destroy(tmp_path / "file")
    with pytest.raises(TypeError):
        lsmdbm.destroy(None)


def test_a_file_that_cannot_be_removed_is_an_error_and_the_others_go(path):
    (path / "000099.sst").mkdir()
    with pytest.raises(error, match="000099.sst"):
        lsmdbm.destroy(path)

    assert ["000099.sst"] == os.listdir(path)
    with pytest.raises(error):
        lsmdbm.open(path)


def test_nothing_is_removed_before_the_lock_is_taken(seed):
    ruin = build("everywhere", random.Random(f"{seed} locked"))
    storage = ruin.storage()
    with open_on(storage, PATH, "w", 0o666, {}), pytest.raises(error):
        removal.destroy(storage, PATH)

    assert set(ruin.files) == set(storage.contents(PATH))


def test_every_failing_call_is_told_and_a_second_try_ends_it(seed):
    ruin = build("everywhere", random.Random(f"{seed} failing"))
    failed = 0
    for place in range(1000):
        storage = ruin.storage()
        storage.fault(storage.count + place, 5)
        try:
            left = removal.destroy(storage, PATH)
        except error:
            failed += 1
        else:
            assert [] == left
        is_over = not storage.hits
        storage.heal()
        if storage.kind(PATH) != "missing":
            try:
                removal.destroy(storage, PATH)
            except NotFoundError:  # only the lock was left, or nothing
                assert set(storage.contents(PATH)) <= {"LOCK"}
        if is_over:
            break
    assert failed > 15


# What a crash brings back


def test_what_was_destroyed_does_not_come_back(seed):
    storage = build("everywhere", random.Random(f"{seed} gone")).storage()
    removal.destroy(storage, PATH)

    for mode in MODES:
        assert "missing" == storage.crash(mode, random.Random(seed)).kind(PATH), mode


def test_what_was_destroyed_beside_files_of_others_does_not_come_back(seed):
    storage = build("everywhere", random.Random(f"{seed} gone")).storage()
    storage.plant(f"{PATH}/notes", b"theirs")
    assert ["notes"] == removal.destroy(storage, PATH)

    for mode in MODES:
        assert ["notes"] == [*storage.crash(mode, random.Random(seed)).contents(PATH)], mode


def test_each_manifest_is_gone_for_good_before_the_next_one_goes(seed):
    """A newer one that went first would leave an older state that opens."""
    ruin = build("everywhere", random.Random(f"{seed} order"))
    (newest,) = ruin.names("man")
    storage = ruin.storage({"000001.man": b"older", "000002.man": b"old"})
    start = storage.count
    removal.destroy(storage, PATH)

    calls = [call for call in calls_since(storage, start) if call.endswith(".man") or call == "sync db"]
    calls = [call for call in calls if not call.startswith("peek")]
    removals = [f"unlink {name}" for name in ("000001.man", "000002.man", newest)]
    assert [step for removal in removals for step in (removal, "sync db")] == calls[:6]
