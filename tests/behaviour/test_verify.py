"""verify() finds whatever is wrong, raises no alarm where nothing is, and changes nothing."""

import os
import random
import threading
import tracemalloc

import pytest

import lsmdbm
from lsmdbm._base.errors import ClosedError, NotFoundError, error
from lsmdbm._engine import check
from lsmdbm._format.table_reader import TableReader
from lsmdbm.database import open_on
from lsmdbm.maintenance import verify_on
from support.crash_storage import READS
from support.ruins import FILLS, PATH, TINY, build, contents, damages, flip, leaves_no_trace

FLIPS = {"small": 150, "default": 700, "crash": 20_000, "long": 1_000_000}
ROUNDS = {"small": 1, "default": 3, "crash": 50, "long": 5000}


def report(storage):
    """What verify() says; None if it says that there is no database."""
    before = storage.contents(PATH)
    calls = storage.count
    try:
        found = verify_on(storage, PATH)
    except NotFoundError:
        found = None
    assert before == storage.contents(PATH)
    assert {operation for operation, _ in storage.calls[calls:]} <= READS
    return found


def findings(found):
    return () if found is None else (*found.problems, *found.notes)


@pytest.fixture
def ruin(seed):
    return build("everywhere", random.Random(f"{seed} ruin"))


# A database that is whole


@pytest.mark.parametrize("shape", FILLS)
@pytest.mark.parametrize("compression", ["zstd", None])
def test_a_whole_database_has_no_problems_and_everything_was_read(seed, shape, compression):
    ruin = build(shape, random.Random(f"{seed} {shape}"), compression=compression)
    found = report(ruin.storage())

    assert (found.problems, found.notes, found.foreign, found.unreferenced) == ((), (), (), ())
    assert found
    assert found.ok
    assert found.path == PATH
    assert found.files == len(ruin.files) - 1  # LOCK
    assert found.bytes == sum(len(data) for name, data in ruin.files.items() if name != "LOCK")
    assert (found.blocks > 0, found.records > 0) == (shape != "in_the_log", shape != "in_tables")
    assert found.entries >= len(ruin.state)


def test_counts_are_exact(tmp_path):
    with lsmdbm.open(tmp_path / "db", "n", block_bytes=1) as db:
        db.update({b"%d" % number: b"" for number in range(5)})
        db.flush()
        db["a"] = db["b"] = ""
        del db["a"]
    found = lsmdbm.verify(tmp_path / "db")

    assert (3, 5, 5 + 3) == (found.files, found.blocks, found.entries)
    assert found.records == 3 + 1  # and the mark of close()


def test_a_new_database_without_any_entry_is_whole(tmp_path):
    lsmdbm.open(tmp_path / "db", "n").close()

    assert lsmdbm.verify(tmp_path / "db").ok


def test_progress_ends_at_the_total(ruin):
    seen = []
    found = verify_on(ruin.storage(), PATH, lambda done, total: seen.append((done, total)))

    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {found.bytes}
    assert seen[-1] == (found.bytes, found.bytes)
    assert len(seen) == 1 + len(ruin.names("sst"))


# Where there is nothing to verify


def test_no_database_is_not_found(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "only a lock").mkdir()
    (tmp_path / "only a lock" / "LOCK").touch()
    for name in ("missing", "empty", "only a lock", "missing/below"):
        with pytest.raises(NotFoundError):
            lsmdbm.verify(tmp_path / name)
    with pytest.raises(NotFoundError):
        lsmdbm.verify("")


def test_what_is_not_ours_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "000005.sst").touch()
    (tmp_path / "other" / "CURRENT").touch()
    for name in ("file", "other"):
        with pytest.raises(error, match="not a database"):
            lsmdbm.verify(tmp_path / name)
    with pytest.raises(TypeError):
        lsmdbm.verify(3)


def test_a_newer_format_is_an_error_not_damage(ruin, monkeypatch):
    monkeypatch.setattr("lsmdbm._format.manifest.FORMAT_VERSION", 0)
    with pytest.raises(error, match="database of format 1"):
        verify_on(ruin.storage(), PATH)


# Damage


class Flips:
    """Flips bits, and looks whether verify() notices."""

    def __init__(self, seed, budget):
        self.rng = random.Random(f"{seed} flips")
        self.left = FLIPS[budget]
        self.unpromised = 0

    def sweep(self):
        """Flip one bit in each stretch of every file, of databases of every shape, synced last or not."""
        share = self.left // (2 * len(FILLS))
        for shape in FILLS:
            for synced in (True, False):
                ruin = build(shape, self.rng, durability="process" if synced else "none")
                bits = 8 * sum(map(len, ruin.files.values()))
                for name, data in ruin.files.items():
                    if name == "LOCK":  # a label for messages
                        continue
                    step = max(1, bits // share)
                    for bit in range(self.rng.randrange(min(step, 8 * len(data))), 8 * len(data), step):
                        self.look(ruin, name, flip(data, bit), bit >> 3)

    def look(self, ruin, name, data, offset):
        storage = ruin.storage({name: data})
        found = report(storage)
        self.left -= 1
        where = f"{name}, offset {offset}"
        if found is None:
            assert not ruin.state, where
            return
        if found.problems:
            assert any(problem.path in (f"{PATH}/{name}", PATH) for problem in found.problems), where
            return
        # Not promised: a torn end, which says so, and what is left is a prefix that opens.
        assert name in ruin.names("wal"), where
        assert [f"{PATH}/{name}"] == [note.path for note in found.notes], where
        assert found.notes[0].offset <= offset, where
        contents(storage, PATH)
        self.unpromised += 1


def test_any_flipped_bit_is_a_problem_or_a_torn_end_that_is_noted(seed, budget):
    flips = Flips(seed, budget)
    flips.sweep()
    print(f"seed {seed}: {FLIPS[budget] - flips.left} flips, {flips.unpromised} of them not promised")

    assert flips.left < FLIPS[budget] // 2
    assert flips.unpromised > 0


@pytest.mark.parametrize("fault", ["header is not looked at", "logs are not looked at", "blocks are skipped"])
def test_a_planted_fault_in_verify_is_found(seed, monkeypatch, fault):
    if fault == "header is not looked at":
        monkeypatch.setattr("lsmdbm._format.table_check.decode_header", lambda data: _header_of(data))
    elif fault == "logs are not looked at":
        monkeypatch.setattr(check, "_check_logs", lambda *args: None)
    else:
        monkeypatch.setattr(TableReader, "block_count", property(lambda self: len(self._separators) - 1))
    with pytest.raises(AssertionError):
        Flips(seed, "default").sweep()


def _header_of(data):
    return int.from_bytes(data[8:16], "little"), int.from_bytes(data[16:24], "little")


def test_every_damage_to_every_file_is_found(seed, budget):
    """But where the newest log is gone, or cut between two records: nothing tells that there was more."""
    rng = random.Random(f"{seed} damages")
    count = 0
    for shape in list(FILLS) * ROUNDS[budget]:
        ruin = build(shape, rng)
        for name in set(ruin.files) - {"LOCK"}:
            for kind, data in damages(ruin.files[name], rng):
                count += 1
                if data == ruin.files[name]:
                    continue
                found = report(ruin.storage({name: data}))
                where = f"{shape} {name} {kind}"
                assert findings(found) or found is None or leaves_no_trace(ruin, name, data), where
                assert found is not None or not ruin.state or name in ruin.names("man"), where
    print(f"seed {seed}: {count} damaged databases")


def test_all_damaged_places_are_listed_not_only_the_first(ruin):
    tables = ruin.names("sst")
    changes = {name: flip(ruin.files[name], 8 * 40) for name in tables[:2]}
    changes[tables[2]] = None
    changes[ruin.names("wal")[0]] = flip(ruin.files[ruin.names("wal")[0]], 8 * 100)
    found = report(ruin.storage(changes))

    assert {f"{PATH}/{name}" for name in changes} == {problem.path for problem in found.problems}
    assert not found
    for problem in found.problems:
        assert str(problem).startswith(problem.path)
        assert problem.what in str(problem)


def test_a_read_that_fails_is_a_problem_of_that_file_and_the_rest_is_looked_at(ruin):
    storage = ruin.storage()
    calls = storage.count
    whole = verify_on(storage, PATH)
    reads = [path for operation, path in storage.calls[calls:] if operation == "pread"]
    table = f"{PATH}/{ruin.names('sst')[0]}"
    storage = ruin.storage()

    def fail(index, operation, path):
        if operation == "pread" and path == table:
            raise error(5, "Input/output error", path)

    storage.on_call = fail
    found = verify_on(storage, PATH)

    assert table in reads
    assert [(table, -1, "Input/output error")] == [(p.path, p.offset, p.what) for p in found.problems]
    assert found.files == whole.files - 1


def test_foreign_and_unreferenced_files_are_listed_and_no_problem(ruin):
    storage = ruin.storage()
    for name in ("000001.wal", "000002.sst", "000003.man", "notes.txt", "7.sst"):
        storage.plant(f"{PATH}/{name}", b"x")
    found = report(storage)

    assert found.ok
    assert ("000001.wal", "000002.sst", "000003.man") == found.unreferenced
    assert ("7.sst", "notes.txt") == found.foreign


def test_a_manifest_that_was_cut_off_is_noted_and_a_rotten_one_is_a_problem(ruin):
    manifest = ruin.names("man")[0]
    storage = ruin.storage({"000099.man": ruin.files[manifest][:-1]})
    found = report(storage)
    assert found.ok
    assert [f"{PATH}/000099.man"] == [note.path for note in found.notes]

    storage.erase(f"{PATH}/{ruin.names('sst')[0]}")  # as only an install that has committed does
    assert f"{PATH}/000099.man" in {problem.path for problem in report(storage).problems}


def test_a_link_in_place_of_a_table_is_a_problem(tmp_path):
    with lsmdbm.open(tmp_path / "db", "n") as db:
        db["a"] = "b"
        db.flush()
    table = next((tmp_path / "db").glob("*.sst"))
    table.rename(tmp_path / "elsewhere")
    table.symlink_to(tmp_path / "elsewhere")

    assert str(table) in {problem.path for problem in lsmdbm.verify(tmp_path / "db").problems}


# Beside a writer


def test_a_live_handle_verifies_itself_while_it_is_written_to(ruin):
    storage = ruin.storage()
    with open_on(storage, PATH, "w", 0o666, TINY) as db:

        def write(done, total):
            db.update({b"key%02d" % number: os.urandom(30) for number in range(40)})
            db.compact()

        for _ in range(3):
            found = db.verify(progress=write)
            assert found.ok, found.problems
            assert found.blocks > 0


def test_a_live_handle_reads_from_disk_what_it_has_cached(ruin):
    storage = ruin.storage()
    with open_on(storage, PATH, "w", 0o666, {**TINY, "cache_bytes": 1 << 20}) as db:
        assert ruin.state == dict(db.items())
        assert db.verify().ok
        for name in ruin.names("sst"):
            storage.plant(f"{PATH}/{name}", flip(ruin.files[name], 8 * (len(ruin.files[name]) - 40)))
        found = db.verify()

        assert {f"{PATH}/{name}" for name in ruin.names("sst")} == {p.path for p in found.problems}
        assert ruin.state == dict(db.items())


def test_a_reader_verifies_the_moment_that_it_sees(ruin):
    storage = ruin.storage()
    with open_on(storage, PATH, "r", 0o666, {}) as reader:
        with open_on(storage, PATH, "w", 0o666, TINY) as db:
            db.clear()
            db["a"] = "b"
            db.compact()
        found = reader.verify()

        assert found.ok, found.problems
        assert found.blocks > 1


def test_verify_of_a_path_lets_writers_replace_tables_meanwhile(ruin):
    storage = ruin.storage()
    with open_on(storage, PATH, "w", 0o666, {**TINY, "background": "manual"}) as db:
        once = []

        def write(done, total):
            if not once:
                once.append(done)
                db["key00"] = "new"
                db.compact()  # unlinks every table that verify() has not come to yet

        found = verify_on(storage, PATH, write)
        assert found.ok, found.problems
        assert found.files < len(ruin.files) - 1
        assert verify_on(storage, PATH).ok


@pytest.mark.parametrize("nth", [1, 2])
def test_verify_of_a_path_lets_writers_replace_a_manifest_before_it_is_opened(ruin, nth):
    """Listed, and gone when it was to be read, it was a NotFoundError, or a problem of a replaced table."""
    storage = ruin.storage()
    with open_on(storage, PATH, "w", 0o666, {**TINY, "background": "manual"}) as db:
        seen = []

        def look(index, operation, path):
            if operation == "open" and path.endswith(".man") and len(seen) < nth:
                seen.append(path)
                if len(seen) == nth:
                    db["key00"] = "new"
                    db.compact()

        def begin(done, total):
            if nth == 2 and len(seen) == 1:  # the next manifest is looked at because this table is gone
                table = max(name for name in storage.contents(PATH) if name.endswith(".sst"))
                storage.on_call = None
                db["key01"] = "new"
                db.compact()
                assert table not in storage.contents(PATH)
                storage.on_call = look

        storage.on_call = look
        found = verify_on(storage, PATH, begin)

        assert found.ok, found.problems
        assert nth == len(seen)


def test_a_manifest_that_cannot_be_read_is_a_problem(ruin):
    manifest = f"{PATH}/{ruin.names('man')[0]}"
    storage = ruin.storage()

    def fail(index, operation, path):
        if operation == "open" and path == manifest:
            raise error(5, "Input/output error", path)

    storage.on_call = fail

    assert [(manifest, "Input/output error")] == [(p.path, p.what) for p in verify_on(storage, PATH).problems]


def test_a_table_that_vanishes_and_is_still_needed_is_a_problem(ruin):
    storage = ruin.storage()
    name = ruin.names("sst")[0]

    def erase(done, total):
        if name in storage.contents(PATH):
            storage.erase(f"{PATH}/{name}")

    found = verify_on(storage, PATH, erase)
    assert [f"{PATH}/{name}"] == [problem.path for problem in found.problems]


def test_verify_beside_a_thread_that_writes_raises_no_alarm(tmp_path):
    stop = threading.Event()
    with lsmdbm.open(tmp_path / "db", "n", memtable_bytes=2000, block_bytes=200) as db:
        db["0"] = "0"

        def write():
            number = 0
            while not stop.is_set():
                db[b"%d" % (number % 500)] = b"%d" % number
                number += 1

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(5):
                assert db.verify().problems == ()
                assert lsmdbm.verify(tmp_path / "db").problems == ()
        finally:
            stop.set()
            thread.join()


def test_a_closed_handle_does_not_verify(ruin):
    storage = ruin.storage()
    db = open_on(storage, PATH, "w", 0o666, TINY)
    other = open_on(storage, PATH, "w", 0o666, TINY)
    with pytest.raises(ClosedError):
        db.verify(progress=lambda done, total: db.close())
    with pytest.raises(ClosedError):
        other.verify(progress=lambda done, total: other.close())
    with pytest.raises(ClosedError):
        db.verify()


def test_what_progress_raises_ends_it_and_leaves_nothing_open(tmp_path):
    with lsmdbm.open(tmp_path / "db", "n") as db:
        db["a"] = "b"
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lsmdbm.verify(tmp_path / "db", progress=stop)
    if descriptors:
        assert descriptors == len(os.listdir("/proc/self/fd"))


def test_memory_is_that_of_one_table_at_a_time(tmp_path):
    with lsmdbm.open(tmp_path / "db", "n", memtable_bytes=25_000) as db:
        db.update((b"%06d" % number, os.urandom(100)) for number in range(5000))
        db.compact()
        assert db.stats().tables > 10
    tracemalloc.start()
    try:
        found = lsmdbm.verify(tmp_path / "db")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert found.bytes > 500_000
    assert peak < found.bytes / 4
