"""Tests of the tests: each sync, checksum, truncation and step of an order is taken out, and a suite notices.

SITES names the steps.  A sync, a truncation or a comparison of checksums that is in the engine and not in
SITES fails a test here, so that a new one gets its name, and its catch, on the day it is written.
"""

import errno
import gc
import random
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest

import lsmdbm
from lsmdbm._base.errors import CorruptionError, NotFoundError, error
from lsmdbm._engine import appender, writer
from lsmdbm._engine.mapped import DISK_FULL
from lsmdbm.database import open_on
from support import sites
from support.budgets import Budget
from support.crash_storage import CrashStorage
from support.faults import Trial, faults, is_of_a_flush_at_close
from support.followers import IN_THE_LOG, crashes_of
from support.sites import Site, removed
from support.sweep import STEPS, Sweep, finished
from support.workload import PATH, Session, recover

PACKAGE = Path(lsmdbm.__file__).parent
TESTS = Path(__file__).parents[1]
SETTINGS = TESTS.parent / "pyproject.toml"
SAMPLE = {"small": 1, "default": 3}  # sites; the larger budgets take all
SAMPLE_BEYOND = {"small": 2}  # of those that no crash needs
LIMIT = 20_000  # states, faults or flips within which a suite has to notice


NO = "False"
SYNC = "synced(self._directory.sync)"


# The suites


def crashes(case, reach, worth=None):
    """T3: a random workload, crashed at its points."""
    Sweep(reach, worth=worth).workload(case)


def crashes_in_a_row(case, reach):
    """T4: killed, then the power goes at some point of what follows; or the other way round."""
    rng = random.Random(case)
    session = finished(Session(CrashStorage(case), rng, odds=0.05), rng.choice((3, 10, STEPS)))
    Sweep(Budget("T3", small=1, default=1, crash=1, long=1), reach).points(session, case)


def young(case, reach):
    """T4: killed while it was created, or soon after; then the power goes."""
    rng = random.Random(case)
    session = finished(Session(CrashStorage(case), rng), rng.choice(((), ("put",), ("sync",))))
    sweep = Sweep(
        Budget("T3", small=1, default=1, crash=1, long=1), reach, lambda point, mode: mode == "kill"
    )
    sweep.points(session, case)


def after_gaps(case, reach):
    """T4: the power took a log, or the end of one, but not the next; then every call of the next write."""
    rng = random.Random(case)
    session = finished(
        Session(CrashStorage(case), rng, level="process", odds=0.3), ("put", "flush") + ("put",) * 8
    )
    for point in session.points:
        mode = rng.choice(("reorder", "omit", "dir-prefix"))
        crashed = recover(point, mode, rng)
        recovered = crashed.db._store._writer.recovered
        has_gap = recovered is not None and recovered.has_gap
        finished(crashed, ("put", "put"))
        if has_gap:
            Sweep(reach).points(crashed, f"{case} after {point.what}, {mode}, and a gap")


def every_second(case, reach):
    """T3 with a sync every second, and most seconds without a write."""
    rng = random.Random(case)
    session = Session(CrashStorage(case), rng, level="interval", odds=0.3)
    Sweep(reach).points(finished(session, ("put", "wait", "put", "wait", "delete", "put", "wait") * 3), case)


def before_manifests(case, reach):
    """T3 at the points behind a call for a manifest."""
    crashes(case, reach, lambda point, mode: point.what.endswith(".man"))


def failing(case, reach, wanted=lambda fault, site: True):
    """T5: a trial whose calls fail."""
    trial = Trial(case)
    trial.run()
    every = [
        fault
        for index, site in trial.sites.items()
        for fault in faults(index, site.operation)
        if wanted(fault, site)
    ]
    rng = random.Random(case)
    for fault in rng.sample(every, min(60, len(every))):
        reach.count()
        trial.run(fault)
        heard = trial.is_noticed or fault.kind in ("late", "short") or fault.errno in DISK_FULL
        site = trial.struck[0]
        assert heard or is_of_a_flush_at_close(site) or not site.operation.endswith("sync"), fault


def failing_syncs(case, reach):
    """T5, but only syncs fail."""
    failing(case, reach, lambda fault, site: site.operation in ("fdatasync", "fsync", "sync"))


def late_syncs(case, reach):
    """T5, but only syncs of directories fail, and only the next one tells."""
    failing(case, reach, lambda fault, site: site.operation == "sync" and fault.kind == "late")


def interrupted_syncs(case, reach):
    """T5, but only syncs of logs fail, and at once a signal interrupts."""
    failing(case, reach, lambda fault, site: site.operation == "fdatasync" and fault.errno == errno.EINTR)


def full_disks(case, reach):
    """T5, but only writes fail, once, for want of space; what was half written is cut off again."""
    failing(
        case,
        reach,
        lambda fault, site: (
            site.operation == "pwrite" and fault.errno == errno.ENOSPC and not fault.is_sticky
        ),
    )


def followers(case, reach):
    """Who follows is not told that changes are lost, unless it had seen some of them."""
    for outcome in crashes_of(case, reach, IN_THE_LOG, 1 << 30, ("full",)):
        assert outcome.was_lost == outcome.is_taken_back, outcome


def written(seed, rng, others=0):
    """Return a database with all kinds of files, closed, and what it holds."""
    storage = CrashStorage(seed)
    session = Session(storage, rng, level="process", odds=0.0)
    session.run(rng.choice((10, 25, 60)))
    for _ in range(rng.choice((2, 12, 30))):
        session.step("put")
    session.check()
    session.close()
    session.abandon()
    return storage, session.state


def damage(case, reach):
    """T7: what is damaged in a closed database is named, or harmless."""
    rng = random.Random(case)
    storage, expected = written(case, rng)
    sibling, _ = written(f"{case} sibling", random.Random(case))  # the same numbers, and other salts
    files, foreign = storage.contents(PATH), sibling.contents(PATH)
    names = sorted(name for name in files if name != "LOCK" and files[name])
    newest_log = max((name for name in names if name.endswith(".wal")), default="")
    for _ in range(150):
        name = rng.choice(names)
        kind = rng.choice(("flip", "flip in front") if name == newest_log else DAMAGES)
        data = damaged(kind, name, files, foreign, rng)
        if data in (files[name], b""):
            continue
        reach.count()
        broken = CrashStorage(case)
        for each, content in ({**files, name: data}).items():
            if content is not None:
                broken.plant(f"{PATH}/{each}", content)
        check_damaged(broken, kind, name, expected)


DAMAGES = ("flip", "flip", "flip in front", "flip behind", "zeros", "cut", "foreign", "twice", "gone")


def damaged(kind, name, files, foreign, rng):
    """Return what becomes of a file, None if it is gone; what it was, if there is no such damage to it."""
    data = bytearray(files[name])
    if kind.startswith("flip"):
        low = max(0, len(data) - 100) if kind == "flip behind" else 0
        high = min(60, len(data)) if kind == "flip in front" else len(data)
        data[rng.randrange(low, high)] ^= 1 << rng.randrange(8)
    elif kind == "zeros":
        start = rng.randrange(len(data))
        stop = min(len(data), start + rng.choice((1, 8, 64, 512)))
        data[start:stop] = bytes(stop - start)
    elif kind == "cut":
        del data[rng.randrange(1, len(data)) :]
    elif kind == "foreign" and not name.endswith(".wal"):  # a whole log of the same chain is a log
        return foreign.get(name, files[name])
    elif kind == "twice":
        return files[rng.choice(sorted(each for each in files if each[-4:] == name[-4:]))]
    elif kind == "gone":
        return None
    return bytes(data)


def check_damaged(storage, kind, name, expected):
    """Open a database with one damaged file: it holds the same, or says so."""
    if kind in ("cut", "gone") and name.endswith(".sst"):  # seen at once, before anything is read
        with pytest.raises(CorruptionError):
            open_on(storage, PATH, "w", 0o666, {}).close()
    try:
        found = contents(storage, verify=False)
    except (CorruptionError, NotFoundError):
        found = None
    assert found in (None, expected), f"{kind}, {name}"
    if name.endswith(".wal") or (kind, name[-4:]) == ("foreign", ".man"):
        return
    with pytest.raises(error):  # whatever it is, a check finds it
        contents(storage, verify=True)


def contents(storage, *, verify):
    """Return what a database holds; a table is damaged only once it is read."""
    with open_on(storage, PATH, "r", 0o666, {"verify_on_open": verify}) as db:
        return dict(db.items())


def rot_after_crashes(case, reach):
    """T3 and T7: the power goes, and what was written last of the newest manifest has rotted."""
    rng = random.Random(case)
    session = finished(Session(CrashStorage(case), rng, odds=0.3), STEPS)
    for point in session.points:
        storage = point.crash("alone" if rng.random() < 0.5 else "dir-prefix", rng)
        manifests = (
            sorted(name for name in storage.contents(PATH) if name.endswith(".man")) if point.is_born else []
        )
        if not manifests:
            continue
        reach.count()
        newest = f"{PATH}/{manifests[-1]}"
        data = bytearray(storage.contents(PATH)[manifests[-1]])
        if not data:
            continue
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        storage.plant(newest, bytes(data))
        try:
            found = contents(storage, verify=False)
        except CorruptionError:
            continue
        except NotFoundError:  # there was nothing but this manifest: it is not born
            found = {}
        oldest, latest = point.states("strict")
        assert found in point.history.states[oldest : latest + 1], f"{case} after {point.what}"


WAL, INSTALL, RECOVERY = "_engine.wal", "_engine.install", "_engine.recovery"
WRITER, DURABILITY, APPENDER = "_engine.writer", "_engine.durability", "_engine.appender"
RECORDS, FOOTER, MAPPED = "_format.records", "_format.footer", "_engine.mapped"
SYNC_PARENT = "synced(lambda: {}storage.sync_parent({}directory.path))"
INSTALLED = "self._installer.install(state, follow)"
MUST_FLUSH = "self.is_suspect or self.has_gap or ends_early or is_long"
SUSPECT = "numbers(names, MANIFEST)[0] < manifest.number"
HEADER_CRC = "U32.unpack_from(data, _HEADER.size)[0] != crc32(data[:_HEADER.size])"

SYNC_SITES = {
    Site("bytes of logs", WAL, "Target.sync", "synced(file.fdatasync)"): crashes,
    Site("names of logs", WAL, "Target.sync", "synced(self.directory.sync)"): crashes,
    Site(
        "a sync takes older logs", WAL, "Wal.target", "not log.is_durable and log.file is not None", NO
    ): crashes,
    Site("bytes of tables: (1)", "_engine.jobs", "_Outputs._finish_table", "file.fsync()"): crashes,
    Site("names of tables: (2)", INSTALL, "Installer.install", SYNC): before_manifests,
    Site("bytes of manifests: (3)", INSTALL, "Installer._write", "synced(file.fsync)"): before_manifests,
    Site("the commit point: (4)", INSTALL, "Installer.install", SYNC, place=1): late_syncs,
    Site("and told twice: (6)", INSTALL, "Installer.forget_older", SYNC): late_syncs,
    Site(
        "older manifests do not come back: (6)", INSTALL, "Installer.forget_older", SYNC, place=1
    ): rot_after_crashes,
    Site("the new directory", "_engine.sharing", "_start_empty", SYNC_PARENT.format("", "")): crashes,
    Site("or else later", WRITER, "Writer._begin", SYNC_PARENT.format("self._", "self._")): young,
    Site("sync()", DURABILITY, "Durability.sync_logs", "target.sync()"): crashes,
    Site("close()", DURABILITY, "Durability.end_log", "target.sync()"): crashes,
    Site("logs that are kept", WAL, "Wal.sync_flushed", "synced(file.fdatasync)"): followers,
    Site("full", DURABILITY, "Durability._follow_up", "self.sync_written", "None"): crashes,
    Site("interval", DURABILITY, "Durability._sync_if_due", "self.sync_written(seq)"): every_second,
    Site(
        *("a failed sync is final", INSTALL, "synced"),
        "raise FailedError(exc.errno, f'sync failed: {exc.strerror}', exc.filename) from exc",
    ): failing_syncs,
    Site(
        "one without a result", WAL, "Wal.target", "self._in_sync = target if files else None"
    ): interrupted_syncs,
}
SUSPECT_SITES = {
    Site(
        *("unsynced logs of others", WAL, "Wal.has_suspects"),
        *("any((not log.is_durable and log.file is None for log in self.older))", NO),
    ): crashes_in_a_row,
    Site("flushed by sync()", WRITER, "Writer.prepare_sync", "self.tree.flush_now()"): crashes_in_a_row,
    Site("flushed by close()", DURABILITY, "Durability.end_log", "tree.flush_now()"): crashes_in_a_row,
    Site(
        "manifests that others left", RECOVERY, "replay", f"is_first or {SUSPECT}", "is_first"
    ): crashes_in_a_row,
    Site("the first manifest", RECOVERY, "replay", f"is_first or {SUSPECT}", SUSPECT): young,
    Site(
        *("suspect manifests are replaced", RECOVERY, "Recovered.must_flush"),
        *(MUST_FLUSH, MUST_FLUSH.replace("self.is_suspect or ", "")),
    ): crashes_in_a_row,
    Site(
        *("gaps are closed", RECOVERY, "Recovered.must_flush"),
        *(MUST_FLUSH, MUST_FLUSH.replace("self.has_gap or ", "")),
    ): after_gaps,
}
ORDER_SITES = {
    Site(
        *("promises behind their sync", DURABILITY, "Durability.sync_logs", "target.sync()"),
        "wal.note_durable(target, mark=seq is None); target.sync()",
    ): crashes,
    Site(
        *("older manifests go behind the commit point", INSTALL, "Installer.install", SYNC),
        "[self._directory.unlink(file_name(n, MANIFEST))"
        f" for n in numbers(self._directory.listdir(), MANIFEST)[:-1]]; {SYNC}",
        place=1,
    ): before_manifests,
    Site(
        *("logs go behind the install", "_engine.tree", "Tree._install", INSTALLED),
        "unlink_all(self._workshop.directory,"
        f" [file_name(log.number, WAL) for log in self._wal.forget(last_seq)]); {INSTALLED}",
    ): crashes,
    Site(
        *("tables go behind the install", "_engine.tree", "Tree._install", INSTALLED),
        "unlink_all(self._workshop.directory,"
        " [file_name(meta.number, TABLE) for meta in before.tables() if meta.number not in kept]);"
        f" {INSTALLED}",
    ): crashes,
    Site(
        *("logs stay while they are needed", WAL, "Wal.min_wal"),
        *("min(needed, default=self.counter.next_number)", "self.counter.next_number"),
    ): crashes,
    Site("only flushed logs are forgotten", WAL, "Wal.flushed", "log.last_seq <= last_seq", "True"): crashes,
    Site("the buffer before a sync", WAL, "Wal.target", "self.drain()"): crashes,
    Site("the buffer before a rotation", APPENDER, "Appender.rotate", "self.drain()"): crashes,
    Site("the buffer before the end", DURABILITY, "Durability.end_log", "wal.drain()"): crashes,
    Site(
        "a log names the one before",
        APPENDER,
        "Appender.rotate",
        "self.prev = (log.number, log.end, log.last_seq)",
    ): crashes,
    Site("a full log is ended", APPENDER, "Appender._with_room", "self.rotate()"): crashes,
    Site(
        *("a record is made anew for the next log", APPENDER, "Appender._with_room"),
        *("records.moved(record, self._seed)", "record"),
    ): crashes,
    Site("room for a mark", MAPPED, "Mapper.map", "length - MARK_BYTES", "length"): crashes,
    Site(
        "n leaves no old log behind", "_engine.sharing", "_start_empty", "highest + 1", "0", place=1
    ): crashes,
}
RECOVERY_SITES = {
    Site(
        *("a log ends where the next one says", RECOVERY, "_Replay._replay"),
        *("data_end == stop and last_seq == following.header.prev_last_seq", "True"),
    ): crashes,
    Site("a promise behind the end", RECOVERY, "_Replay._judge", "durable > bad", NO): damage,
    Site("a promise in a later log", RECOVERY, "_Replay._judge", "self._has_promise(other)", NO): damage,
    Site(
        "a promise off the chain", RECOVERY, "_Replay._judge_unreached", "self._has_promise(file)", NO
    ): damage,
    Site(
        "a mark where a header was", RECOVERY, "log_header", "log_reader.find_mark(whole(), number)", NO
    ): damage,
    Site("tables have their length", RECOVERY, "missing_tables", "length != meta.file_bytes", NO): damage,
    Site("tables are there", RECOVERY, "recover", "missing_tables(directory, manifest)", "()"): damage,
    Site(
        "a mark behind a log that ended", WAL, "Wal.note_durable", "self._mark_ended(target.logs[-1])"
    ): damage,
    Site("half a record is cut off", APPENDER, "Appender._give_up", "file.truncate(offset)"): full_disks,
}
CHECKSUM_SITES = {
    Site("log header", RECORDS, "LogHeader.decode", HEADER_CRC, NO): damage,
    Site(
        *("record", RECORDS, "record_at"),
        *("crc32(memoryview(data)[start + U32.size:end], seed) != crc", NO),
    ): damage,
    Site(
        *("manifest", "_format.manifest", "_check"),
        *("crc != crc32(data[:-_TAIL.size + U64.size], _seed(number))", NO),
    ): damage,
    Site(
        *("block", "_format.envelope", "check"),
        *("crc32(stored, crc32(pack_place(offset), seed)) != RESIDUE", NO),
    ): damage,
    Site("footer", FOOTER, "Footer.decode", "crc32(fields) != footer_crc(data)", NO): damage,
    Site("table header", FOOTER, "decode_header", HEADER_CRC, NO): damage,
    Site(
        *("the footer that the manifest knows", "_format.table_parts", "TableParts._open_footer"),
        *("footer_crc(data) != self.meta.footer_crc", NO),
    ): damage,
}
SITES = {**SYNC_SITES, **SUSPECT_SITES, **ORDER_SITES, **RECOVERY_SITES, **CHECKSUM_SITES}

# What no crash leads to, or no damage of one file, and a test of one module holds.  This engine ends the log
# at each flush, so that none holds both what tables have and what they have not, but the format allows it.
# Whether a clear() that was replayed is installed soon is a matter of space.  Two logs that were exchanged,
# if nobody minded, would be followed in a circle.
UNIT_MAPPED = "unit/test_mapped.py"
COPIES, REMOVAL = "crash/test_copies_and_removal.py", "behaviour/test_destroy.py"
INGEST = "crash/test_ingest.py"
FINISHED = f"{INGEST}::test_a_finished_file_survives_power_loss"
BEYOND_CRASHES = {
    Site(
        *("what tables hold is not replayed", RECOVERY, "_Replay._replay"),
        *("last_seq > self._last_seq", "True"),
    ): "unit/test_recovery.py::test_records_that_tables_hold_are_skipped",
    Site(
        *("logs short of the tables are ended", RECOVERY, "Recovered.must_flush"),
        *(MUST_FLUSH, MUST_FLUSH.replace("ends_early or ", "")),
    ): "unit/test_recovery.py::test_a_log_torn_before_the_last_sequence_of_the_tables_puts_nothing_above",
    Site(
        *("a clear() that was replayed is installed", RECOVERY, "Recovered.is_unsettled"),
        *("self.must_flush or self.is_cleared", "self.must_flush"),
    ): "unit/test_store.py::test_a_clear_that_was_cut_off_gives_back_the_files_with_the_next_write",
    Site(
        *("a log has its own number", RECORDS, "LogHeader.decode", "number not in (None, header.number)", NO)
    ): "unit/test_recovery.py::test_a_copy_of_another_log_is_ignored",
    Site(
        *("a position", "_format.position", "Position.decode"),
        *("U32.unpack_from(data, _POSITION.size)[0] != crc32(data[:-U32.size])", NO),
    ): "unit/test_position.py",
    # Ingests have a sweep of their own
    Site(
        *("the state that reads found", "_engine.tree", "Tree.settle_ingest", "self.install_empty_memory()")
    ): INGEST,
    Site("before a write", WRITER, "Writer.prepare_write", "self.tree.settle_ingest()"): INGEST,
    Site("before the end", DURABILITY, "Durability.end_log", "tree.settle_ingest()"): INGEST,
    Site("before a sync", WRITER, "Writer.settle", "self.tree.is_unsettled", NO): INGEST,
    Site("bytes of a file", "_engine.building", "Building.finish", "self._file.fsync()"): FINISHED,
    Site("the name of a file", "_engine.building", "Building.finish", "self._directory.sync()"): FINISHED,
    Site(
        *("a log is mapped anew", MAPPED, "Mapper.map", "file.unmap(0)")
    ): f"{UNIT_MAPPED}::test_a_log_whose_mapping_was_interrupted_is_mapped_anew",
    Site(
        *("what was allocated in vain is given back", MAPPED, "Mapper.map", "file.truncate(0)")
    ): f"{UNIT_MAPPED}::test_a_full_disk_is_an_error_and_gets_back_what_there_was",
    Site(
        *("what was allocated ahead is given back", APPENDER, "Appender._unmap", "file.unmap(end)")
    ): "unit/test_wal.py::test_the_rest_of_a_mapped_log_is_given_back_at_its_end",
    # Copies and removal have a sweep of their own
    Site("bytes of a copy", "_engine.backup", "_copy", "target.fsync()"): COPIES,
    Site(
        *("the name of a copy", "_engine.destination", "Destination.commit"),
        "synced(lambda: self._storage.sync_parent(self._path))",
    ): COPIES,
    Site(
        *("blocks that are found by checksum", "_format.salvage", "_ends"),
        *("U32.unpack_from(data, end)[0] == crc", NO),
    ): "unit/test_salvage.py",
    Site(
        *("what a table says of itself", "_format.table_check", "problems_of"),
        *("said.meta(meta.number, meta.file_bytes, meta.footer_crc) != known", NO),
    ): "unit/test_table_reader.py",
    Site("the name of what was removed", "_engine.removal", "destroy", "storage.sync_parent(path)"): REMOVAL,
    Site("one manifest after the other", "_engine.removal", "empty", "directory.sync()"): REMOVAL,
    Site("what was removed stays away", "_engine.removal", "empty", "directory.sync()", place=1): REMOVAL,
    Site(
        *("of which table a block is", "_engine.remains", "_blocks_found"),
        *("found.footer_crc not in (None, meta.footer_crc)", NO),
    ): "behaviour/test_repair.py::test_a_table_that_is_another_one_is_lost_not_mixed_in",
}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for layer in ("_engine", "_format")
    for path in (PACKAGE / layer).glob("*.py")
    if path.name != "__init__.py"
)


@pytest.fixture(autouse=True)
def short_logs(monkeypatch):
    """Logs that end soon, and stay: what is closed would hold none else, and none of their marks mattered."""
    monkeypatch.setattr(appender, "MAX_LOG_BYTES", 300)
    monkeypatch.setattr(writer, "FLUSHED_AT_CLOSE", 1e-9)


def test_a_step_that_is_missing_is_noticed(seed, budget):
    """One after the other; in the small budgets some of them, others each time."""
    chosen = random.Random(seed).sample([*SITES], SAMPLE.get(budget, len(SITES)))
    missed = []
    for site in chosen:
        found = after(site)
        print(f"{site.name}: {found or 'not noticed'}")
        if not found:
            missed.append(site.name)
    print(f"T0: seed {seed}, {len(chosen)} of {len(SITES)} sites, {len(missed)} failures")

    assert [] == missed


def after(site):
    """Return what a suite finds when a step is missing, and after how many states; "" if it finds nothing."""
    suite = SITES[site]
    reach = Budget("T0", small=LIMIT, default=LIMIT, crash=LIMIT, long=LIMIT, part=suite.__name__)
    with removed(site):
        try:
            for case in reach:
                suite(case, reach)
        except (NameError, TypeError, AttributeError):  # the step is not missing: what stands there is wrong
            raise
        except (Exception, pytest.fail.Exception) as exc:  # whatever else it is, it was noticed
            return f"after {reach.reached} in {suite.__name__}: {type(exc.__cause__ or exc).__name__}"
    return ""


@pytest.mark.parametrize("suite", sorted({suite.__name__ for suite in SITES.values()}))
def test_nothing_is_noticed_while_no_step_is_missing(suite):
    figure = {"small": 3, "default": 50, "crash": 5000, "long": 100_000}
    with Budget("T0", **figure, part=suite) as reach:
        for case in reach:
            globals()[suite](case, reach)


def test_a_step_that_no_crash_needs_is_held_by_a_test_of_its_module(seed, budget, monkeypatch):
    """One after the other; in the small budget some of them, others each time."""
    monkeypatch.undo()  # long logs, as the tests expect them
    chosen = random.Random(seed).sample([*BEYOND_CRASHES], SAMPLE_BEYOND.get(budget, len(BEYOND_CRASHES)))
    missed = [site.name for site in chosen if not is_held(site)]
    print(f"T0: seed {seed}, {len(chosen)} of {len(BEYOND_CRASHES)} beyond crashes, {len(missed)} failures")

    assert [] == missed


def is_held(site):
    """Whether the test that is to notice a missing step does so."""
    with removed(site):
        return exit_code(TESTS / BEYOND_CRASHES[site]) == pytest.ExitCode.TESTS_FAILED


def exit_code(test):
    """Return how a run of some tests in this process ends; they may fail.

    What fails leaves its databases open.  It is expected to, and this run is not to be told of it: neither
    now, by a warning that leaves `pytest.main()` as an error, nor in the middle of the next test.
    """
    plugins = ("no:cacheprovider", "no:unraisableexception")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        options = ["-q", "-x", "--no-header", f"-c{SETTINGS}", *(f"-p{name}" for name in plugins)]
        code = pytest.main([*options, str(test)])
        forget_what_failed()
    return code


def forget_what_failed():
    """Free what only the frame of a failed test holds, as pytest does when the next test begins."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        vars(sys).pop(name, None)
    gc.collect()


LEAVES_ONE_OPEN = """
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage


def test_that_fails():
    cycle = [open_on(CrashStorage(), "/db", "c", 0o666, {})]
    cycle.append(cycle)
    assert 1 == len(cycle)
"""


def test_a_test_that_is_to_fail_may_leave_a_database_open(tmp_path):
    """The warning of it left `pytest.main()`, or came in a later test."""
    (tmp_path / "test_planted.py").write_text(LEAVES_ONE_OPEN, "ascii")
    unraisable, hook = [], sys.unraisablehook
    sys.unraisablehook = unraisable.append
    try:
        code = exit_code(tmp_path / "test_planted.py")
        forget_what_failed()
    finally:
        sys.unraisablehook = hook

    assert (pytest.ExitCode.TESTS_FAILED, []) == (code, unraisable)


@pytest.mark.parametrize("site", [*SITES, *BEYOND_CRASHES], ids=lambda site: site.name)
def test_a_site_is_where_it_says(site):
    assert sites.changed_code(site) != sites.function(site).__code__


@pytest.mark.parametrize("module", MODULES)
def test_every_sync_truncation_and_checksum_is_a_site(module):
    """What fails here needs an entry in SITES, with the suite that notices when it is missing."""
    assert {} == unnamed(module, [*SITES, *BEYOND_CRASHES])


def unnamed(module, known):
    """Return the steps of a module that no site covers, as many as there are too many."""
    covered = Counter()
    for site in known:
        if site.module == module and not site.instead.endswith(f"; {site.text}") and "; " not in site.instead:
            covered.update((site.function, step) for step in sites.steps_in(site.text))
    return dict(sites.steps(module) - covered)


def test_a_step_without_a_site_is_found():
    known = [site for site in (*SITES, *BEYOND_CRASHES) if site.name != "the commit point: (4)"]

    assert {("Installer.install", "self._directory.sync"): 1} == unnamed(INSTALL, known)
