"""Crash in backup(), repair() and destroy(): each leaves all of it or nothing that opens.

At each call the machine crashes in every mode.  Then a backup or repair is no database or the whole one, its
source is as it was; and what was to be destroyed is the whole database or nothing that opens.
"""

import random

import pytest

from lsmdbm._base.errors import CorruptionError, NotFoundError, error
from lsmdbm._engine import removal
from lsmdbm.database import open_on
from lsmdbm.maintenance import repair_on, verify_on
from support.crash_storage import MODES, CrashDirectory, CrashFile
from support.ruins import COPY, FILLS, PATH, TINY, build, contents

TRIES = {"small": 0, "default": 1, "crash": 100, "long": 2000}  # in each mode that rolls dice, at each call


class Moments:
    """Images of a disk, one before each call of what is watched, and one after the last."""

    def __init__(self, storage, work):
        self.images = []
        self.returned = None
        storage.on_call = lambda index, operation, path: self.images.append(
            (f"before {index}: {operation} {path}", storage.freeze())
        )
        work()
        storage.on_call = None
        self.returned = storage.freeze()

    def crashes(self, seed, tries):
        """Yield (where, whether the call had returned, the storage that is left)."""
        for where, image in [*self.images, ("after it had returned", self.returned)]:
            for mode in MODES if image.pending() else ("kill", "strict"):
                for number in range(tries if mode not in ("kill", "strict") else 1):
                    name = f"{seed} {where}, {mode}, {number}"
                    yield name, image is self.returned, image.crash(mode, random.Random(name))


def is_no_database(exc):
    """Whether an error says that nothing of ours is there, or something whose end is missing.

    A loss of power may leave what other files held: then a table that was begun looks like somebody else's.
    """
    return isinstance(exc, (NotFoundError, CorruptionError)) or "the directory holds other files" in str(exc)


def state_of(storage, path):
    """What opens at a path, for reading and for writing; None if nothing does."""
    try:
        found = contents(storage, path)
    except error as exc:
        assert is_no_database(exc)
        found = None
    try:
        with open_on(storage, path, "c", 0o666, TINY) as db:
            assert (found or {}) == dict(db.items())
    except NotFoundError:
        assert storage.kind(path) == "missing"
    except error as exc:
        assert is_no_database(exc)
        assert found is None
    return found


def backed_up(seed, tries, shape="everywhere"):
    """Crash anywhere in a backup; return how many states were looked at."""
    ruin = build(shape, random.Random(f"{seed} {shape}"))
    storage = ruin.storage()
    count = 0
    with open_on(storage, PATH, "w", 0o666, {**TINY, "background": "manual"}) as db:
        moments = Moments(storage, lambda: db.backup(COPY))
    for where, is_done, crashed in moments.crashes(seed, tries):
        count += 1
        files = {name: data for name, data in crashed.contents(PATH).items() if name != "LOCK"}
        assert files == {name: data for name, data in ruin.files.items() if name != "LOCK"}, where
        try:
            verified = verify_on(crashed, COPY).ok
        except error as exc:
            assert is_no_database(exc)
            verified = None
        found = state_of(crashed, COPY)
        assert found in ((ruin.state,) if is_done else (None, ruin.state)), where
        assert (found is not None) == bool(verified), where
    return count


def repaired(seed, tries):
    ruin = build("everywhere", random.Random(f"{seed} repaired"))
    storage = ruin.storage({ruin.names("man")[0]: None})
    moments = Moments(storage, lambda: repair_on(storage, PATH, COPY))
    count = 0
    for where, is_done, crashed in moments.crashes(seed, tries):
        count += 1
        found = state_of(crashed, COPY)
        assert found in ((ruin.state,) if is_done else (None, ruin.state)), where
        assert storage.contents(PATH) == crashed.contents(PATH), where
    return count


def destroyed(seed, tries, shape="everywhere"):
    """Crash anywhere while a database is destroyed; an older manifest lies beside the newest."""
    ruin = build(shape, random.Random(f"{seed} {shape}"))
    storage = ruin.storage()
    with open_on(storage, PATH, "w", 0o666, {**TINY, "background": "manual"}) as db:
        before = dict(storage.contents(PATH))
        db["key00"] = "newest"
        db.flush()
        db["key01"] = "in the log"
    for name, data in before.items():  # an install was cut off: all that the older state needs is still there
        storage.plant(f"{PATH}/{name}", data)
    state = {**ruin.state, b"key00": b"newest", b"key01": b"in the log"}
    moments = Moments(storage, lambda: removal.destroy(storage, PATH))
    assert "missing" == storage.kind(PATH)
    count = 0
    for where, is_done, crashed in moments.crashes(seed, tries):
        count += 1
        if is_done:
            assert "missing" == crashed.kind(PATH), where
            continue
        again = crashed.crash("kill")
        assert state_of(crashed, PATH) in (None, state), where
        try:  # a second try ends it, whatever the first one left
            assert [] == removal.destroy(again, PATH), where
        except NotFoundError:
            assert again.kind(PATH) == "missing" or set(again.contents(PATH)) <= {"LOCK"}, where
        else:
            assert "missing" == again.kind(PATH), where
    return count


@pytest.mark.parametrize("shape", FILLS)
def test_a_backup_is_nothing_or_whole_wherever_it_is_cut_off(seed, budget, shape):
    print(f"seed {seed}: {backed_up(seed, TRIES[budget], shape)} states")


@pytest.mark.parametrize("shape", FILLS)
def test_a_backup_by_copies_is_nothing_or_whole_too(seed, budget, shape, monkeypatch):
    def refuse(self, name, target):
        raise error(18, "Invalid cross-device link", name)

    monkeypatch.setattr(CrashDirectory, "link", refuse)
    print(f"seed {seed}: {backed_up(seed, TRIES[budget], shape)} states")


def test_a_repair_is_nothing_or_whole_wherever_it_is_cut_off(seed, budget):
    print(f"seed {seed}: {repaired(seed, TRIES[budget])} states")


@pytest.mark.parametrize("shape", FILLS)
def test_what_is_being_destroyed_is_whole_or_does_not_open(seed, budget, shape):
    print(f"seed {seed}: {destroyed(seed, TRIES[budget], shape)} states")


def newest_first(directory):
    """Remove the manifests in the wrong order, and never sync in between."""
    names = sorted(filter(removal.parse, directory.listdir()), key=lambda name: name[-3:] != "man")
    for name in sorted(names, key=lambda name: (name[-3:] != "man", -int(name[:6]))):
        directory.unlink(name)
    directory.unlink("LOCK")


def logs_first(directory):
    """Remove logs, then tables, then manifests."""
    for name in sorted(filter(removal.parse, directory.listdir()), key=lambda name: name[-3:], reverse=True):
        directory.unlink(name)
    directory.unlink("LOCK")


def no_sync(self):
    """Do nothing, and say that it worked."""


@pytest.mark.parametrize(
    ("work", "owner", "name", "broken"),
    [
        (backed_up, CrashDirectory, "sync", no_sync),
        (backed_up, CrashFile, "fsync", no_sync),
        (repaired, CrashFile, "fsync", no_sync),
        (repaired, CrashDirectory, "sync", no_sync),
        (destroyed, removal, "empty", newest_first),
        (destroyed, removal, "empty", logs_first),
        (destroyed, CrashDirectory, "sync", no_sync),
    ],
)
def test_a_planted_fault_is_found(seed, monkeypatch, work, owner, name, broken):
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises((AssertionError, error)):
        work(seed, 2)
