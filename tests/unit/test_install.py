"""The install: its steps in their order, cut off or failing at each of them, and done again."""

import errno
import random

import pytest

from lsmdbm._base.errors import FailedError, error
from lsmdbm._base.options import Options
from lsmdbm._engine import install
from lsmdbm._engine.install import Installer, synced
from lsmdbm._engine.names import MANIFEST, Counter
from lsmdbm._engine.recovery import recover
from lsmdbm._format.manifest import Manifest
from support.crash_storage import MODES, CrashStorage, Killed
from support.engine import PATH, calls_since, current, names, new_directory

BLANK = Manifest(bytes(16), 0, 0, last_seq=0, min_wal=1, live_count=0, shape=Options().shape())
OLD = BLANK._replace(last_seq=10)
NEW = BLANK._replace(last_seq=20, live_count=None)
STEPS = [  # of the install of NEW over OLD
    "sync db",  # (2)
    "create 000002.man",  # (3)
    "pwrite 000002.man",
    "fsync 000002.man",
    "sync db",  # (4)
    "move over",  # (5)
    "listdir db",  # (6)
    "sync db",
    "unlink 000001.man",
    "sync db",
]
CALLS = len(STEPS) - 1
COMMIT = 4  # the call that is the commit point


class Machine:
    """A storage on which OLD is installed, and the installer to go on with."""

    def __init__(self):
        self.storage = CrashStorage()
        directory = new_directory(self.storage)
        self.installer = Installer(directory, Counter(1), BLANK)
        self.installer.install(OLD, lambda: None)
        self.moves = []
        self.start = self.storage.count

    def install(self, state=NEW):
        self.installer.install(state, lambda: self.moves.append(self.storage.count - self.start))

    def calls(self):
        return calls_since(self.storage, self.start)

    def found(self, mode="kill", seed=0):
        """Return the last sequence of the state that a recovery would find."""
        storage = self.storage.crash(mode, random.Random(seed))
        return recover(storage.directory(PATH, 0o666)).manifest.last_seq


@pytest.fixture
def machine():
    return Machine()


def test_steps_have_their_order(machine):
    machine.install()
    calls = machine.calls()
    calls.insert(machine.moves[0], "move over")

    assert STEPS == calls


def test_the_state_that_is_installed_is_the_one_given_under_its_own_number(machine):
    machine.install()

    assert NEW._replace(number=2, next_number=3) == current(machine.storage)
    assert current(machine.storage) == machine.installer.current


def test_all_is_durable_when_it_returns_and_nothing_older_comes_back(machine):
    machine.install()
    assert ["000002.man"] == names(machine.storage)

    for mode in MODES:
        for seed in range(20):
            crashed = machine.storage.crash(mode, random.Random(seed))
            assert ["000002.man"] == names(crashed)
            assert 20 == current(crashed).last_seq


def test_readers_move_over_behind_the_commit_point(machine):
    """And before anything older goes."""
    seen = []
    machine.installer.install(NEW, lambda: seen.append((machine.found("strict"), names(machine.storage))))

    assert [(20, ["000001.man", "000002.man"])] == seen


@pytest.mark.parametrize("at", range(CALLS))
@pytest.mark.parametrize("kind", ["before", "after", "partial"])
def test_cut_off_anywhere_it_leaves_the_old_state_or_the_new_one(machine, at, kind):
    machine.storage.fault(machine.start + at, None, kind)
    with pytest.raises(Killed):
        machine.install()

    for mode in MODES:
        for seed in range(10):
            allowed = {20} if at > COMMIT or (at, kind) == (COMMIT, "after") else {10, 20}
            assert machine.found(mode, seed) in allowed
    if at == COMMIT - 1 and kind == "before":
        assert 10 == machine.found("strict")


@pytest.mark.parametrize("at", range(CALLS))
@pytest.mark.parametrize("kind", ["before", "after", "partial"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_an_error_anywhere_is_told_and_what_is_no_sync_can_be_done_again(machine, at, kind, code):
    machine.storage.fault(machine.start + at, code, kind)
    with pytest.raises(error) as caught:
        machine.install()

    assert code == caught.value.errno
    is_sync = STEPS[at + (at > COMMIT)].startswith(("sync", "fsync"))
    assert is_sync == isinstance(caught.value, FailedError)
    assert (at > COMMIT) == bool(machine.moves)
    assert (20 if at > COMMIT else 10) == machine.installer.current.last_seq
    if is_sync:
        return
    number = machine.installer._counter.next_number
    machine.install()
    assert [f"{number:06d}.man"] == names(machine.storage)
    for mode in MODES:
        assert 20 == machine.found(mode)


def test_full_disk_leaves_the_old_state_in_every_crash(machine):
    machine.storage.fault(machine.start + 2, errno.ENOSPC, "partial")
    with pytest.raises(error, match="No space"):
        machine.install()

    assert ["000001.man", "000002.man"] == names(machine.storage)
    for mode in MODES:
        assert 10 == machine.found(mode)


def test_manifest_is_written_whole_by_short_writes(machine):
    for at in (2, 3, 4):
        machine.storage.fault(machine.start + at, None, "short")
    machine.install()

    assert 20 == machine.found("strict")


FAILING = [(at, kind) for at in (0, 3, 4, 6, 8) for kind in ("before", "clean", "reverted")]
LATE = [(at, "late") for at in (0, 4, 6)]  # the kernel tells the error at the next sync of the directory


@pytest.mark.parametrize(("at", "kind"), FAILING + LATE)
def test_a_failed_sync_is_final(machine, at, kind):
    machine.storage.fault(machine.start + at, errno.EIO, kind)
    with pytest.raises(FailedError, match="sync failed: Input/output error") as caught:
        machine.install()

    assert errno.EIO == caught.value.errno
    assert str(caught.value.filename).startswith(PATH)
    assert isinstance(caught.value.__cause__, error)


def test_a_commit_that_fails_late_is_seen_by_the_next_opening(machine):
    """The older manifests are still there: what the newest one says may not be durable."""
    machine.storage.fault(machine.start + COMMIT, errno.EIO, "late")
    with pytest.raises(FailedError):
        machine.install()

    assert recover(machine.storage.directory(PATH, 0o666)).is_suspect


def test_all_older_manifests_go_those_that_were_cut_off_too(machine):
    for at in (2, 7):
        machine.storage.fault(machine.storage.count + at, errno.ENOSPC, "partial")
        with pytest.raises(error, match="No space"):
            machine.install()
    assert ["000001.man", "000002.man", "000003.man"] == names(machine.storage)
    machine.install()

    assert ["000004.man"] == names(machine.storage)


def test_older_manifests_that_cannot_be_unlinked_go_with_the_next_install(machine):
    machine.storage.fault(machine.start + 7, errno.EIO)
    with pytest.raises(error, match="Input/output"):
        machine.install()
    assert ["000001.man", "000002.man"] == names(machine.storage)
    assert (20, [5]) == (machine.installer.current.last_seq, machine.moves)
    machine.installer.forget_older()

    assert ["000002.man"] == names(machine.storage)
    assert ["000002.man"] == names(machine.storage.crash("strict"))


def test_without_older_manifests_nothing_is_synced_for_them(machine):
    machine.installer.forget_older()

    assert ["listdir db"] == machine.calls()


def test_files_of_other_kinds_and_higher_manifests_are_left_alone(machine):
    kept = ["000000.sst", "000000.wal", "000009.man", "LOCK", "notes.txt"]
    for name in kept:
        machine.storage.plant(f"{PATH}/{name}", b"")
    machine.install()

    assert [*kept[:2], "000002.man", *kept[2:]] == names(machine.storage)


def test_a_number_that_is_taken_is_left_out(machine):
    machine.storage.plant(f"{PATH}/000002.man", b"not ours")
    machine.install()

    assert ["000003.man"] == names(machine.storage, MANIFEST)
    assert 4 == current(machine.storage).next_number


def test_a_move_over_that_raises_ends_it_behind_the_commit_point(machine):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine.installer.install(NEW, interrupted)
    assert 20 == machine.found("strict")

    machine.install()
    assert ["000003.man"] == names(machine.storage)


def test_synced_passes_on_what_is_no_error_of_the_system():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synced(interrupted)
    synced(lambda: None)


def test_a_manifest_too_large_for_readers_is_not_left_behind(machine, monkeypatch):
    """It would be taken for one that was cut off, and the state it holds would be lost."""
    monkeypatch.setattr(install, "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(error, match="manifest of 104 bytes: the limit is 100"):
        machine.install()

    assert ["000001.man"] == names(machine.storage)
    assert [] == machine.moves
    assert 10 == machine.found()
    monkeypatch.undo()
    machine.install()
    assert 20 == machine.found()
