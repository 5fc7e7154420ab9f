"""T12: SIGKILL at random moments and at every call of the storage; what was acknowledged is there.

A writer tells over a pipe what has returned, and is killed.  Then the files hold the content after the last
step that was acknowledged, or after the one that was under way; at durability "none" after any step since it
was opened.  A step may be a batch or a transaction of many changes: it is there whole or not at all.
"""

import itertools
import json
import os
import random
import shutil
import signal
import time

import pytest

import lsmdbm
from support import kills
from support.budgets import Budget
from support.child import Child

LEVELS = ("process", "interval", "full", "none")
LONGEST = 0.06  # seconds until the kill
KILLS_A_DATABASE = 100
STEPS = 40  # of a writer that dies by its own hand
KILLS = {"small": 16, "default": 120, "crash": 10_000, "long": 500_000}
CALLS = {"small": 24, "default": 140, "crash": 8_000, "long": 100_000}
OPTIONS = {"memtable_bytes": 4096, "block_bytes": 128, "cache_bytes": 4096, "sync_interval": 0.002}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A process that has imported everything, and forks."""
    with Child(tmp_path_factory.mktemp("server")) as child:
        yield child


class Writer:
    """One database, written to by processes that die one after the other.

    Args:
        case: names the steps.
        log_io: how they write the log; the one that checks the files does not open them for writing.
    """

    def __init__(self, server, path, case, log_io="pwrite"):
        self.server = server
        self.path = path
        self.log_io = log_io
        self.seed = random.Random(case).randrange(1 << 32)
        self.content = {}
        self.done = 0
        self.returned = 0
        self.calls = None

    def start(self, level, count=1 << 30, fatal=(None, "before"), role="write"):
        """Begin to write; return the number of the process."""
        self.level = level
        self.returned = self.done
        options = {**OPTIONS, "durability": level, "log_io": self.log_io}
        self.server.start("run", "kills:fork", role, self.path, self.seed, self.done, count, options, fatal)
        return int(self.server.line().removeprefix("pid "))

    def wait(self):
        """Listen until it is dead; return the signal it died of, 0 if it came to its end."""
        while not (line := self.server.line()).startswith("{"):
            if line.startswith("calls "):
                self.calls = int(line.removeprefix("calls "))
            else:
                self.returned = int(line)
        status = json.loads(line)["result"]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
        return os.WTERMSIG(status)

    def check(self, where, *, is_over=False):
        """Check what the files hold, and go on from there."""
        try:
            with lsmdbm.open(self.path, "r", **OPTIONS) as db:
                found = dict(db)
                assert len(found) == len(db), where
        except lsmdbm.NotFoundError:
            assert self.returned == 0, where  # killed before it was born
            return
        lowest = self.done if self.level == "none" and not is_over else self.returned
        highest = self.returned + (not is_over)
        for number, content in kills.states(self.seed, self.content, self.done, highest):
            if number >= lowest and content == found:
                self.content, self.done = found, number
                return
        pytest.fail(f"{where}: not the content after {lowest} to {highest} steps")


def places(tmp_path):
    for number in itertools.count():
        path = tmp_path / f"db{number}"
        yield os.fspath(path)
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=["pwrite", "mmap"])
def place(request):
    """How the log is written, and a directory where that can be."""
    name = "mappable" if request.param == "mmap" else "tmp_path"
    return request.param, request.getfixturevalue(name)


def kill_again_and_again(server, paths, reach, log_io):
    """Kill the writers of one database after the other at random moments."""
    for case in reach:
        rng = random.Random(case)
        writer = Writer(server, next(paths), case, log_io)
        for number in range(KILLS_A_DATABASE):
            level = rng.choice(LEVELS)
            pid = writer.start(level)
            time.sleep(rng.random() * LONGEST)  # which moment it is, is the point
            os.kill(pid, signal.SIGKILL)
            assert signal.SIGKILL == writer.wait()
            reach.count()
            reach.count(f"at {level}")
            reach.count("steps", writer.returned - writer.done)
            writer.check(f"{case}, kill {number}, at {level}")
            if reach.is_over():
                break


def test_a_writer_killed_at_any_moment_keeps_what_it_promised(place, server):
    log_io, directory = place
    with Budget("T12", part=f"kill, {log_io}", share=0.5, unit="kills", **KILLS) as reach:
        kill_again_and_again(server, places(directory), reach, log_io)


def points(calls, limit, rng):
    """So many calls to die at, each before, in the middle or after, evenly spread; or all of them."""
    every = [(call, place) for call in range(calls) for place in kills.PLACES]
    stride = max(1, len(every) // limit)
    return every[rng.randrange(stride) :: stride]


def die_at_every_call(server, paths, reach, level, log_io="pwrite", role="write"):
    """Have one writer after the other die at a call of the storage, or in a store into a mapping."""
    for case in reach:
        whole = Writer(server, next(paths), case, log_io)
        whole.start(level, STEPS)
        assert 0 == whole.wait()
        whole.check(f"{case}, whole", is_over=True)
        limit = (reach.goal - reach.reached) if reach.goal else 1 << 30
        for call, place in points(whole.calls, limit, random.Random(case)):
            where = f"{case} at {level}, {place} call {call}"
            writer = Writer(server, next(paths), case, log_io)
            writer.start(level, STEPS, (call, place), role)
            is_over = writer.wait() == 0  # salts are random, and with them the number of calls
            writer.check(where, is_over=is_over)
            reach.count(number=not is_over)
            writer.start(level, 3)  # and the next one goes on
            assert 0 == writer.wait()
            writer.check(f"{where}, and on", is_over=True)


@pytest.mark.parametrize("level", LEVELS)
def test_a_writer_killed_at_any_call_of_the_storage_keeps_what_it_promised(place, server, level):
    log_io, directory = place
    share = 0.5 / len(LEVELS)
    with Budget("T12", part=f"calls, {level}, {log_io}", share=share, unit="kills", **CALLS) as reach:
        die_at_every_call(server, places(directory), reach, level, log_io)


def test_changes_of_one_step_that_are_written_one_by_one_are_noticed(tmp_path, server):
    """The planted fault."""
    reach = Budget("T12", part="planted", small=60, default=60, crash=60, long=60)
    with pytest.raises(pytest.fail.Exception, match="not the content"):
        die_at_every_call(server, places(tmp_path), reach, "process", role="write_apart")


def test_a_writer_that_acknowledges_too_early_is_noticed(tmp_path, server):
    """The planted fault."""
    reach = Budget("T12", part="planted", small=60, default=60, crash=60, long=60)
    with pytest.raises(pytest.fail.Exception, match="not the content"):
        die_at_every_call(server, places(tmp_path), reach, "process", role="write_early")
