"""background="process": a real worker on a real disk, which nothing depends on, and which outlives nobody."""

import gc
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm._engine import delegate
from lsmdbm._engine.names import TABLE, numbers
from support import workers
from support.child import Child
from support.quiet import is_gone
from support.threads import in_threads
from support.workers import OPTIONS, begin_compaction, fill, process_of

pytestmark = pytest.mark.skipif(not hasattr(select, "poll"), reason="no poll here, and no worker")

PATIENCE = 60  # seconds


@pytest.fixture(autouse=True)
def every_compaction_is_worth_it(monkeypatch):
    monkeypatch.setattr(delegate, "WORTH_BYTES", 1)


@pytest.fixture
def db(path):
    with lsmdbm.open(path, "c", **OPTIONS) as database:
        yield database


def tables_on_disk(path):
    return set(numbers(os.listdir(path), TABLE))


def live_tables(db):
    return {meta.number for meta in db._store.view.version}


def test_the_content_is_that_of_inline(tmp_path, seed):
    content = {}
    for background in ("inline", "process"):
        with lsmdbm.open(tmp_path / background, "c", **{**OPTIONS, "background": background}) as db:
            rng = random.Random(seed)
            for number in range(3):
                fill(db, rng, 1500)
                for key in rng.sample(list(db), 500):
                    del db[key]
                if number:
                    db.compact()
            content[background] = dict(db.items())
            assert None is db.stats().trouble
            delegated = db.stats().delegated
            shape = [(level.entries, level.tombstones) for level in db.stats().levels]
        assert lsmdbm.verify(tmp_path / background).ok

    assert content["inline"] == content["process"]
    assert 0 < delegated
    assert [(0, 0), (len(content["process"]), 0)] == [shape[0], shape[-1]]


def test_a_worker_that_is_killed_in_the_middle_costs_nothing_but_time(db, path):
    model = fill(db, random.Random(1), 3000)
    for number in range(2):  # its successor too
        job = begin_compaction(db)
        process, before = process_of(db), db.stats()
        db._store._tree.background.work(job, 1)  # until it tells of progress
        os.kill(process.pid, signal.SIGKILL)
        db._store._tree.background.work(job)

        after = db.stats()
        assert model == dict(db.items())
        assert (before.compactions + 1, None) == (after.compactions, after.trouble)
        assert after.delegated <= before.delegated + 1  # it may have been done just before
        assert is_gone(process.pid)
        assert live_tables(db) == tables_on_disk(path)
        db[b"again"] = model[b"again"] = b"%d" % number
    db.compact()
    assert after.delegated < db.stats().delegated


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no event for the end of somebody else's child")
def test_a_worker_ends_when_its_parent_is_killed(path, tmp_path):
    with Child(tmp_path) as parent:
        pid, entries = parent("run", "workers:stop_in_the_middle", path)
        event = os.pidfd_open(pid)
        parent.die()
        poll = select.poll()
        poll.register(event, select.POLLIN)
        assert poll.poll(1000 * PATIENCE), "it lives on"
        os.close(event)
    with lsmdbm.open(path, "w", **OPTIONS) as db:
        assert entries == len(db) == len(dict(db))
        db[b"first write"] = b"collects the garbage"
        assert live_tables(db) == tables_on_disk(path)
    assert lsmdbm.verify(path).ok


def test_threads_share_a_worker(db):
    models = [{} for _ in range(4)]

    def work(number):
        rng = random.Random(number)
        for _ in range(2):
            models[number].update(fill(db, rng, 600, b"%d" % number))
            db.compact()

    in_threads(work, range(4))

    assert {key: value for model in models for key, value in model.items()} == dict(db.items())
    assert (True, None) == (db.stats().delegated > 0, db.stats().trouble)


SCRIPT = """
import os, random, sys
from lsmdbm._engine import delegate
from support.workers import OPTIONS, fill, process_of
import lsmdbm

print("main", flush=True)
delegate.WORTH_BYTES = 1
db = lsmdbm.open(sys.argv[1], "c", **OPTIONS)
fill(db, random.Random(1), 1500)
db.compact()
print(db.stats().delegated, process_of(db).pid, flush=True)
"""


@pytest.mark.parametrize("end", ["sys.exit(3)", "lsmdbm.kept = db", "os._exit(0)"])
def test_a_script_without_a_guard_runs_once_and_leaves_nothing_behind(tmp_path, path, end):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + end + "\n")
    places = (Path(workers.__file__).parents[1], Path(lsmdbm.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "default", script, path],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        timeout=PATIENCE,
        check=False,
    )
    first, second = done.stdout.split(b"\n", 1)
    delegated, pid = map(int, second.split())
    errors = [line for line in done.stderr.splitlines() if b"unclosed database" not in line]

    assert (b"main", 3 if "exit(3)" in end else 0) == (first, done.returncode), done.stderr
    assert 1 <= delegated
    assert [] == [line for line in errors if b"subprocess" in line or b"socket" in line or b"Error" in line]
    assert "os._exit" in end or is_gone(pid)


def test_closing_ends_it_in_the_middle(db, path):
    fill(db, random.Random(1), 3000)
    job = begin_compaction(db)
    db._store._tree.background.work(job, 1)
    process, live = process_of(db), live_tables(db)
    db.close()

    assert is_gone(process.pid)
    assert live == tables_on_disk(path)


def test_closing_ends_one_that_waits_for_work(db):
    fill(db, random.Random(1), 500)
    db.compact()
    process = process_of(db)
    db.close()

    assert is_gone(process.pid)


def test_a_clear_in_the_middle_voids_what_it_does(db, path):
    fill(db, random.Random(1), 3000)
    job = begin_compaction(db)
    db._store._tree.background.work(job, 1)
    process, before = process_of(db), db.stats().delegated
    db.clear()

    assert is_gone(process.pid) or db.stats().delegated > before  # it was faster
    assert set() == tables_on_disk(path)
    db[b"a"] = b"b"
    db.compact()
    assert {b"a": b"b"} == dict(db.items())


def test_garbage_that_is_collected_in_the_middle_costs_nothing_but_time(db, path):
    model = fill(db, random.Random(1), 3000)
    job = begin_compaction(db)
    db._store._tree.background.work(job, 1)
    db._store.collect_garbage()
    db._store._tree.background.work(job)

    assert model == dict(db.items())
    assert live_tables(db) == tables_on_disk(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_in_the_middle_does_not_touch_it(db, path):
    model = fill(db, random.Random(1), 3000)
    job = begin_compaction(db)
    db._store._tree.background.work(job, 1)
    process, before = process_of(db), db.stats().delegated
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                db[b"key"]
            except lsmdbm.ClosedError:
                os.write(writing, b"closed")
            db.close()
            del db, job
            gc.collect()
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with open(reading, "rb") as pipe:
        assert b"closed" == pipe.read()
    assert process.is_alive()
    db._store._tree.background.work(job)
    assert model == dict(db.items())
    assert db.stats().delegated > before  # by more than this job, if that left another one due
    assert live_tables(db) == tables_on_disk(path)


def test_damage_that_it_finds_becomes_trouble(db, path):
    rng = random.Random(1)
    fill(db, rng, 300)
    db.flush()
    table = Path(path) / f"{min(tables_on_disk(path)):06d}.sst"
    data = table.read_bytes()
    table.write_bytes(data[:100] + bytes((data[100] ^ 1,)) + data[101:])
    with pytest.raises(lsmdbm.CorruptionError, match="checksum") as caught:
        db.compact()
    assert os.fspath(table) == caught.value.path
    for _ in range(200):
        fill(db, rng, 100)
        if db.stats().trouble is not None:
            break
    assert "checksum" in db.stats().trouble
    assert table.name in os.listdir(path)
    assert 0 == db.stats().delegated


def test_it_starts_with_the_first_compaction_that_is_worth_it(db, monkeypatch):
    monkeypatch.setattr(delegate, "WORTH_BYTES", 4 << 20)
    fill(db, random.Random(1), 3000)
    db.compact()
    assert None is process_of(db)
    monkeypatch.setattr(delegate, "WORTH_BYTES", 1)
    db.compact()
    db[b"key"] = b"value"
    db.compact()
    assert process_of(db).is_alive()


def test_a_relative_path_may_lose_its_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with lsmdbm.open("db", "c", **OPTIONS) as db:
        monkeypatch.chdir("/")
        fill(db, random.Random(1), 1000)
        db.compact()
        assert 1 <= db.stats().delegated


def test_writers_wait_for_it_once_level_0_is_twice_as_long_as_it_should_be(db):
    rng = random.Random(1)
    fill(db, rng, 3000)
    background = db._store._tree.background
    background.work(begin_compaction(db), 1)
    process, heard = process_of(db), set()
    receive = process.receive

    def hear(timeout):
        """A worker that has nothing to say, unless somebody waits for it."""
        pressure = background._pressure()
        heard.add((pressure >= 2, timeout > 0))
        assert pressure < 3
        return receive(timeout) if timeout else b""

    process.receive = hear
    while len(heard) < 2:
        fill(db, rng, 100)

    assert {(False, False), (True, True)} == heard
