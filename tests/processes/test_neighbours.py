"""T9: readers beside a writer that compacts, races for the lock, directories changed under a live handle."""

import os
import random
import shutil
import subprocess
import sys
from contextlib import ExitStack

import pytest

import lsmdbm
from support import neighbours
from support.budgets import Budget
from support.child import Child
from support.neighbours import OPTIONS, content, steps_in

READERS = 3
OPENS_A_TURN = 5
OPENS = {"small": 30, "default": 150, "crash": 1200, "long": 100_000}
RACES = {"small": 10, "default": 50, "crash": 600, "long": 10_000}


class Company:
    """Processes of one test; who was killed is replaced."""

    def __init__(self, directory, count):
        self.directory = directory
        self._stack = ExitStack()
        self.members = [self._new() for _ in range(count)]

    def _new(self):
        return self._stack.enter_context(Child(self.directory))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._stack.__exit__(*exc)

    def replace(self, member):
        """Kill one, and put another in its place."""
        member.kill()
        self.members[self.members.index(member)] = self._new()


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    """A writer and readers, or contenders."""
    with Company(tmp_path_factory.mktemp("company"), READERS + 1) as processes:
        yield processes


@pytest.fixture
def child(company):
    return company.members[0]


def start_counting(child, path, seed):
    child.start("run", "neighbours:count_up", path, seed)
    assert child.line().strip().isdigit()


def test_readers_beside_a_compacting_writer_see_prefixes_whoever_is_killed(path, company):
    with Budget("T9", part="readers", unit="opens", **OPENS) as reach:
        for case in reach:
            rng = random.Random(case)
            shutil.rmtree(path, ignore_errors=True)
            start_counting(company.members[0], path, rng.randrange(1 << 32))
            seen = [1] * READERS
            while not reach.is_over():
                readers = company.members[1:]
                for place, reader in enumerate(readers):
                    reader.start("run", "neighbours:read", path, OPENS_A_TURN, seen[place])
                victim = rng.randrange(3 * len(company.members))  # or nobody
                for place, reader in enumerate(readers):
                    if victim == place + 1:
                        company.replace(reader)
                        reach.count("readers killed")
                    else:
                        seen[place] = reader.answer()
                        reach.count(number=OPENS_A_TURN)
                if victim == 0:
                    writer = company.members[0]
                    writer.die()
                    told = [int(line) for line in writer.lines()]
                    with lsmdbm.open(path, "r", **OPTIONS) as db:
                        assert steps_in(dict(db)) >= max([*told, *seen]), case
                    company.replace(writer)
                    start_counting(company.members[0], path, rng.randrange(1 << 32))
                    reach.count("writers killed")
            company.replace(company.members[0])


def test_a_reader_that_sees_no_prefix_is_noticed(path):
    """The planted fault."""
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        db.update(content(70))
    assert 70 == neighbours.read(path, 1, 70)
    with pytest.raises(AssertionError, match="70 steps after 71"):
        neighbours.read(path, 1, 71)
    with lsmdbm.open(path, "w", **OPTIONS) as db:
        db.popitem()
    with pytest.raises(AssertionError, match="no prefix: 49 entries, 70 steps"):
        neighbours.read(path, 1, 0)


def test_of_those_who_race_for_the_lock_one_wins(tmp_path, company):
    """Of an existing database, and of one that all want to create; the winner closes, or is killed."""
    with Budget("T9", part="races", unit="races", **RACES) as reach:
        for case in reach:
            rng = random.Random(case)
            path, expected = os.fspath(tmp_path / case.replace(" ", "-")), {}
            for number in range(10):
                for member in company.members:
                    member.start("run", "neighbours:contend", path, str(number))
                outcomes = [member.answer() for member in company.members]
                assert 1 == outcomes.count("won"), case
                expected[b"%d" % number] = b"%d" % number
                winner = company.members[outcomes.index("won")]
                with pytest.raises(lsmdbm.LockedError, match=f"pid {winner.pid}"):
                    lsmdbm.open(path, "w", timeout=0)
                with lsmdbm.open(path, "r") as db:
                    assert expected == dict(db), case
                if rng.random() < 0.1:
                    company.replace(winner)
                    reach.count("winners killed")
                else:
                    winner("run", "neighbours:release")
                reach.count()
                if reach.is_over():
                    break


# -- the lock, or the directory, changed under a live handle ------------------------------------------


def replace_lock(path):
    os.unlink(os.path.join(path, "LOCK"))
    with open(os.path.join(path, "LOCK"), "wb"):
        pass


def remove_lock(path):
    os.unlink(os.path.join(path, "LOCK"))


@pytest.mark.parametrize("change", [replace_lock, remove_lock])
def test_a_writer_whose_lock_was_replaced_gives_way_to_the_next_one(path, child, change):
    """One writer only: what the first one writes from then on is refused, or at the latest its sync is."""
    with pytest.raises(lsmdbm.error), lsmdbm.open(path, "c") as db:
        db["before"] = "1"
        db.sync()
        change(path)
        assert "won" == child("run", "neighbours:contend", path, "second")
        db["after"] = "1"
        db.sync()
    child("run", "neighbours:put_and_sync", "more", "1")
    child("run", "neighbours:release")
    with lsmdbm.open(path, "r") as db:
        found = dict(db)
        found.pop(b"after", None)
        assert {b"before": b"1", b"second": b"second", b"more": b"1"} == found


@pytest.mark.parametrize("call", ["sync", "flush", "compact", "close"])
def test_a_writer_whose_directory_was_removed_says_so(path, call):
    """Or somebody believes in a sync of files that nobody can open any more."""
    db = lsmdbm.open(path, "c")
    db["before"] = "1"
    shutil.rmtree(path)
    try:
        with pytest.raises(lsmdbm.error):
            getattr(db, call)()
    finally:
        try:
            db.close()
        except lsmdbm.error:
            pass


def test_a_writer_follows_its_directory_when_that_is_renamed(path):
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        db.update(content(500))
    moved = path + "-moved"
    with lsmdbm.open(path, "w", **OPTIONS) as db:
        os.rename(path, moved)
        os.mkdir(path)
        db.update(content(700))
        db.sync()
        db.compact()
        db.update(content(701))
        assert 701 == steps_in(dict(db))
    assert [] == os.listdir(path)
    with lsmdbm.open(moved, "r", **OPTIONS) as db:
        assert 701 == steps_in(dict(db))


def test_a_reader_follows_its_directory_when_that_is_renamed_and_survives_its_removal(path):
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        db.update(content(500))
        db.compact()
    moved = path + "-moved"
    with lsmdbm.open(path, "r", **OPTIONS) as db:
        os.rename(path, moved)
        db.refresh()
        assert 500 == steps_in(dict(db))
        shutil.rmtree(moved)
        with pytest.raises(lsmdbm.NotFoundError):
            db.refresh()
        assert 500 == steps_in(dict(db))


# -- reading changes nothing --------------------------------------------------------------------------


def state_of(path):
    """Names, bytes and times of everything in a directory, and of the directory."""
    found = {".": os.stat(path).st_mtime_ns}
    for entry in os.scandir(path):
        status = entry.stat()
        with open(entry.path, "rb") as file:
            found[entry.name] = (file.read(), status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return found


@pytest.mark.parametrize(
    "leftover", ["nothing", "a torn log", "an orphan table", "an unsynced log", "no lock"]
)
def test_readers_change_no_byte_and_no_name(path, company, leftover):
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        db.update(content(600))
        db.compact()
        db.update(content(700))
    if leftover == "an orphan table":
        with open(os.path.join(path, "009999.sst"), "wb") as file:
            file.write(b"half a table")
    elif leftover == "no lock":
        os.unlink(os.path.join(path, "LOCK"))
    elif leftover != "nothing":
        writer = company.members[0]
        writer("open", path, "w")
        writer("put", {"000": "700"})
        company.replace(writer)
        log = max(name for name in os.listdir(path) if name.endswith(".wal"))
        if leftover == "a torn log":
            with open(os.path.join(path, log), "ab") as file:
                file.write(b"half a record")
    before = state_of(path)

    with lsmdbm.open(path, "r", **OPTIONS) as db:
        assert steps_in(dict(db)) >= 700
        db.refresh()
        assert 50 == len(db) == len([*reversed(db)])
        db.sync()
        assert before == state_of(path)
    assert before == state_of(path)


def test_a_read_only_file_system_can_be_read(tmp_path, path):
    """Even by root, whom permissions do not bind."""
    probe = ["unshare", "-m", sys.executable, "-c", ""]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no name spaces of mounts for this user here")
    with lsmdbm.open(path, "c", **OPTIONS) as db:
        db.update(content(700))
    before = state_of(path)

    with Child(tmp_path, "unshare", "-m") as child:
        answer = child("run", "neighbours:look_where_nothing_can_be_written", path)
    if not answer:
        pytest.skip("no mounts for this user here")
    assert [700, ["EROFS"] * 3] == answer
    assert before == state_of(path)
