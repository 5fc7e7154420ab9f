"""The tree: seal, flush, compact, install and collect, through a log and a recovered state of its own."""

import errno
import random

import pytest

from lsmdbm._base.errors import ClosedError, error
from lsmdbm._base.options import Options
from lsmdbm._engine import tree
from lsmdbm._engine.count import census
from lsmdbm._engine.jobs import Workshop
from lsmdbm._engine.names import MANIFEST, TABLE, WAL, Counter, file_name
from lsmdbm._engine.plan import Limits, Plan
from lsmdbm._engine.recovery import recover
from lsmdbm._engine.tables import Tables
from lsmdbm._engine.tree import STALL_MEMTABLES, Tree
from lsmdbm._engine.wal import Wal
from support.crash_storage import CrashStorage
from support.engine import MODE, PATH, close, current, entries, names, open_store

LIMIT = 1024


class Machine:
    """A tree over /db, its log, and what a store does to write one entry."""

    def __init__(self, **options):
        self.storage = CrashStorage()
        close(self.storage, open_store(self.storage))
        directory = self.storage.directory(PATH, MODE)
        recovered = recover(directory)
        chosen = Options(memtable_bytes=LIMIT, block_bytes=64, compression=None, **options)
        counter = Counter(recovered.next_number)
        tables = Tables(directory, chosen)
        self.wal = Wal(directory, self.storage, counter, recovered.next_seq)
        workshop = Workshop(self.storage, directory, counter, tables, chosen, Limits.of(chosen))
        self.tree = Tree(workshop, self.wal, recovered)

    def put(self, key, value=b"v"):
        length = self.wal.put(key, value) if value is not None else self.wal.delete(key)
        active = self.tree.view.active
        active.deletes = active.deletes or value is None
        active.entries[key] = value
        active.charge += length
        self.wal.advance(length, 1)

    def flush(self):
        if self.tree.start_flush():
            self.tree.background.work(self.tree.background.flushing)

    def keys(self):
        return [key for keys, _ in self.tree.seal().chunks(keys_only=True) for key in keys]


@pytest.fixture
def machine():
    return Machine()


def test_seal_moves_what_is_active_and_leaves_the_old_view_as_it_was(machine):
    machine.put(b"a")
    before = machine.tree.view
    sealed = machine.tree.seal()

    assert sealed is machine.tree.view
    assert ({}, [{b"a": b"v"}]) == (sealed.active.entries, [each.entries for each in sealed.sealed])
    assert (1, 1, 2) == (sealed.sealed[0].first_seq, sealed.sealed[0].last_seq, sealed.active.first_seq)
    assert ({b"a": b"v"}, ()) == (before.active.entries, before.sealed)


def test_seal_of_nothing_is_the_same_view(machine):
    assert machine.tree.view is machine.tree.seal()


def test_seals_do_not_fold_what_is_being_flushed(machine):
    machine.put(b"a")
    assert machine.tree.start_flush()
    flushing = machine.tree.view.sealed
    for key in (b"b", b"c", b"d"):
        machine.put(key)
        machine.tree.seal()

    assert flushing == machine.tree.view.sealed[-1:]
    assert [b"a", b"b", b"c", b"d"] == machine.keys()


def test_flush_installs_the_tables_and_forgets_the_logs(machine):
    machine.put(b"a")
    machine.put(b"b")
    machine.flush()
    manifest = current(machine.storage)

    assert (2, [], [1, 0]) == (
        manifest.last_seq,
        names(machine.storage, WAL),
        [len(names(machine.storage, TABLE)), machine.tree.unflushed_bytes()],
    )
    assert ((), 1) == (machine.tree.view.sealed, len(machine.tree.view.version.level(0)))
    assert [b"a", b"b"] == machine.keys()


def test_unflushed_bytes_leave_out_what_is_being_flushed(machine):
    machine.put(b"a", b"x" * 100)
    assert 100 < machine.tree.unflushed_bytes() < 150
    machine.tree.start_flush()

    assert 0 == machine.tree.unflushed_bytes()


def test_a_second_flush_ends_the_first(machine):
    machine.put(b"a")
    machine.tree.start_flush()
    machine.put(b"b")
    machine.tree.start_flush()

    assert 1 == len(machine.tree.view.version.level(0))
    assert [b"b"] == [key for each in machine.tree.background.flushing.memtables for key in each.entries]


def test_start_flush_of_nothing_says_so(machine):
    assert not machine.tree.start_flush()
    assert machine.tree.background.flushing is None


def test_flush_now_installs_even_without_anything_to_write(machine):
    before = current(machine.storage).number
    machine.tree.flush_now()

    assert before < current(machine.storage).number
    assert 1 == len(names(machine.storage, MANIFEST))


def test_pay_starts_a_flush_when_memory_is_full(machine):
    machine.put(b"a", b"x" * (LIMIT - 100))
    machine.tree.pay(LIMIT - 100)
    assert (0, None) == (len(machine.tree.view.version), machine.tree.background.flushing)
    machine.put(b"b", b"x" * 100)
    for _ in range(3):  # a step each: the rest of the flush is paid for by what is written next
        machine.tree.pay(LIMIT)

    assert (1, 0) == (len(machine.tree.view.version.level(0)), machine.tree.unflushed_bytes())


def test_a_flush_that_is_due_before_the_last_one_is_done_is_a_stall(machine):
    machine.put(b"a", b"x" * LIMIT)
    machine.tree.pay(0)
    machine.put(b"b", b"x" * LIMIT)
    assert 0 == machine.tree.stats(None, 0).stalls
    machine.tree.pay(0)

    stats = machine.tree.stats(None, 0)
    assert (1, 1) == (stats.stalls, stats.flushes)
    assert stats.stall_seconds <= stats.slice_seconds


def test_pay_does_nothing_but_rotate_when_background_is_manual(monkeypatch):
    machine = Machine(background="manual")
    machine.put(b"a", b"x" * 4 * LIMIT)
    machine.tree.pay(4 * LIMIT)
    assert (0, 1) == (len(machine.tree.view.version), len(names(machine.storage, WAL)))

    monkeypatch.setattr("lsmdbm._engine.appender.MAX_LOG_BYTES", LIMIT)
    machine.tree.pay(1)
    machine.put(b"b")
    assert 2 == len(names(machine.storage, WAL))


def test_compaction_of_everything_leaves_one_level_and_no_input(machine):
    for key in (b"a", b"b", b"c"):
        machine.put(key)
        machine.flush()
    machine.put(b"b", None)
    machine.flush()
    assert machine.tree.start_compaction()
    machine.tree.background.work(machine.tree.background.compacting)

    assert [0, 1] == [len(level) for level in machine.tree.view.version.levels]
    assert 1 == len(names(machine.storage, TABLE))
    assert [b"a", b"c"] == machine.keys()
    assert not machine.tree.start_compaction()


def test_an_input_is_kept_for_the_view_that_reads_it(machine):
    machine.put(b"a")
    machine.flush()
    machine.put(b"a", b"new")
    machine.flush()
    pinned = machine.tree.seal()
    machine.tree.start_compaction()
    machine.tree.background.work(machine.tree.background.compacting)
    assert 3 == len(names(machine.storage, TABLE))
    assert b"new" == pinned.get(b"a")

    del pinned
    machine.tree.flush_now()
    assert 1 == len(names(machine.storage, TABLE))


def test_installing_a_flush_twice_loses_nothing(machine):
    machine.put(b"a")
    machine.tree.start_flush()
    job = machine.tree.background.flushing
    machine.tree.background.work(job)
    machine.put(b"b")
    machine.tree.seal()
    view = machine.tree.view
    machine.tree._install_flush(
        job.memtables, job.outputs
    )  # as after an interruption behind the commit point

    assert view is machine.tree.view
    assert [b"a", b"b"] == machine.keys()


def test_installing_a_compaction_twice_changes_nothing(machine):
    for _ in range(2):
        machine.put(b"a")
        machine.flush()
    machine.tree.start_compaction()
    job = machine.tree.background.compacting
    machine.tree.background.work(job)
    view = machine.tree.view
    machine.tree._install_compaction(job.plan, job.outputs)

    assert view is machine.tree.view


def test_forget_everything_hides_tables_and_memory(machine):
    machine.put(b"a")
    machine.flush()
    machine.put(b"b")
    machine.tree.forget_everything()

    assert [] == machine.keys()
    assert 0 == machine.tree.view.table_keys
    assert machine.tree.has_much_on_disk()


def test_a_small_database_has_not_much_on_disk(machine):
    assert not machine.tree.has_much_on_disk()
    machine.put(b"a")
    assert not machine.tree.has_much_on_disk()
    machine.put(b"a", b"x" * LIMIT)
    assert machine.tree.has_much_on_disk()


def test_tree_is_stalled_once_flushes_fail_and_memory_is_full(machine):
    machine.tree.background.note(error(errno.ENOSPC, "full"))
    machine.put(b"a", b"x" * (STALL_MEMTABLES * LIMIT - 200))
    assert not machine.tree.is_stalled()
    machine.put(b"b", b"x" * 200)

    assert machine.tree.is_stalled()


def test_a_file_that_cannot_be_unlinked_fails_nothing(machine):
    machine.put(b"a")
    machine.tree.start_flush()
    job = machine.tree.background.flushing
    log = names(machine.storage, WAL)
    machine.storage.on_call = refuse_unlinking(machine.storage, log[0])
    machine.tree.background.work(job)

    assert log == names(machine.storage, WAL)
    assert [b"a"] == machine.keys()
    machine.storage.on_call = None
    machine.tree.collect_garbage()
    assert [] == names(machine.storage, WAL)


def refuse_unlinking(storage, name):
    def on_call(index, operation, path):
        if operation == "unlink" and path.endswith(name):
            storage.fault(index, errno.EIO)

    return on_call


def test_collect_garbage_unlinks_all_of_ours_that_nothing_needs_and_nothing_else(machine):
    machine.put(b"a")
    machine.flush()
    machine.put(b"b")
    needed = names(machine.storage)
    for name in ("000900.sst", "000901.wal", "000001.man", "notes.txt"):
        machine.storage.plant(f"{PATH}/{name}", b"x")
    machine.wal.rotate()
    machine.tree.collect_garbage()

    assert sorted([*needed, "notes.txt"]) == names(machine.storage)


def test_after_letting_go_every_read_says_closed(machine):
    machine.tree.let_go()

    with pytest.raises(ClosedError, match="already been closed"):
        machine.tree.view.get(b"a")


def test_stats_count_what_was_written(machine):
    machine.put(b"a")
    machine.flush()
    stats = machine.tree.stats(None, 0)

    assert (1, 0, 0, 1) == (stats.flushes, stats.compactions, stats.moves, stats.tables)
    assert machine.wal.written_bytes == stats.written_bytes > 0
    assert stats.file_bytes == stats.flushed_bytes > 0
    assert "gone" == machine.tree.stats(error("gone"), 0).trouble


# What comes between an install and the view's moving over


class Interrupt(BaseException):
    pass


def interrupt_once(installer, monkeypatch):
    """Let the next install end behind its commit point, before the view moves over."""

    def install(state, move_over):
        monkeypatch.setattr(installer, "install", whole)

        def interrupted():
            raise Interrupt

        whole(state, interrupted)

    whole = installer.install
    monkeypatch.setattr(installer, "install", install)


def live_files(machine):
    """What the newest manifest names, and whether all of it is there."""
    manifest = current(machine.storage)
    tables = [file_name(meta.number, TABLE) for level in manifest.levels for meta in level]
    return manifest, set(tables) <= set(names(machine.storage, TABLE))


def reopened(machine):
    store = open_store(machine.storage.crash("kill", random.Random(0)))
    return entries(store)


@pytest.mark.parametrize("first", ["compaction", "flush"])
def test_an_install_after_an_interrupted_one_loses_nothing(machine, monkeypatch, first):
    """The manifest of the interrupted install named its outputs and the newest write in them.  The next one,
    of another job, took the tables from the view and the sequence from that manifest, and unlinked what
    only that manifest named, though the interrupted job would be installed again."""
    for key in (b"a", b"b"):
        machine.put(key, b"old")
        machine.flush()
    machine.put(b"c")
    machine.tree.start_flush()
    machine.tree.start_compaction()
    background = machine.tree.background
    jobs = [background.flushing, background.compacting]
    interrupt_once(machine.tree._installer, monkeypatch)
    for job in jobs if first == "flush" else reversed(jobs):
        try:
            background.work(job)
        except Interrupt:
            pass
        manifest, are_there = live_files(machine)
        assert are_there
        assert {b"a": b"old", b"b": b"old", b"c": b"v"} == reopened(machine)
    for job in jobs:
        if job in (background.flushing, background.compacting):
            background.work(job)

    assert live_files(machine)[1]
    assert [b"a", b"b", b"c"] == machine.keys()
    assert {b"a": b"old", b"b": b"old", b"c": b"v"} == reopened(machine)


def test_count_is_not_changed_twice_by_an_install_that_is_repeated(machine, monkeypatch):
    machine.put(b"a")
    view = machine.tree.seal()
    machine.tree.learn_count(view, *census(view))
    machine.tree.start_flush()
    job = machine.tree.background.flushing
    interrupt_once(machine.tree._installer, monkeypatch)
    with pytest.raises(Interrupt):
        machine.tree.background.work(job)
    machine.tree.background.work(job)

    assert (1, 1) == (machine.tree.view.table_keys, current(machine.storage).live_count)


# The count


def counted(machine):
    view = machine.tree.pin()
    found = census(view)
    machine.tree.learn_count(view, *found)
    return found[1]


def test_census_that_a_flush_overtook_is_not_believed(machine):
    machine.put(b"a")
    view = machine.tree.pin()
    machine.flush()
    machine.tree.learn_count(view, *census(view))

    assert None is machine.tree.view.table_keys
    assert 1 == counted(machine)


def test_census_that_a_drop_overtook_is_not_believed(machine):
    """Nor what it found out about memtables: below them there is less now."""
    machine.put(b"a")
    machine.flush()
    machine.put(b"a", b"again")
    view = machine.tree.pin()
    machine.tree._install_compaction(Plan(0, (view.version.level(0),), is_drop=True), [])
    found = census(view)
    machine.tree.learn_count(view, *found)

    assert (1, 1) == found
    assert None is machine.tree.view.table_keys
    assert 1 == counted(machine) == len(machine.keys())
    assert 0 == machine.tree.view.table_keys


def test_memtables_that_a_drop_finds_in_a_flush_are_flushed_all_the_same(machine):
    machine.put(b"a")
    machine.flush()
    machine.put(b"b")
    assert 2 == counted(machine)
    machine.tree.start_flush()
    dropped = machine.tree.view.version.level(0)
    machine.tree._install_compaction(Plan(0, (dropped,), is_drop=True), [])
    machine.tree.background.work(machine.tree.background.flushing)

    assert () == machine.tree.view.sealed
    assert [b"b"] == machine.keys()
    assert (1, None) == (counted(machine), current(machine.storage).live_count)


def test_flush_keeps_the_count_of_a_tree_that_is_asked_for_it(machine):
    for number in range(64):
        machine.put(b"%d" % number)
    machine.flush()
    assert 64 == counted(machine)
    machine.put(b"0", None)
    machine.put(b"new")
    machine.put(b"1")
    machine.flush()

    assert (64, 64) == (machine.tree.view.table_keys, current(machine.storage).live_count)


def test_count_is_remembered_where_it_was_dear(machine, monkeypatch):
    for number in range(8):
        machine.put(b"%d" % number)
    machine.flush()
    machine.tree.remember_count()
    assert None is current(machine.storage).live_count  # nobody has counted
    assert 8 == counted(machine)
    machine.tree.remember_count()
    assert None is current(machine.storage).live_count  # as quick as an install
    monkeypatch.setattr(tree, "WORTH_REMEMBERING", 8)
    before = current(machine.storage)
    machine.tree.remember_count()
    after = current(machine.storage)
    machine.tree.remember_count()

    assert (before.levels, before.last_seq, 8) == (after.levels, after.last_seq, after.live_count)
    assert after == current(machine.storage)
