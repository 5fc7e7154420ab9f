"""A log that a killed opening left unsynced, below a log whose writes were promised to be durable."""

import random

import pytest

from lsmdbm.database import open_on
from support.crash_storage import CrashStorage
from support.disk import POWER_LOSSES


def killed_after_one_put(log_io):
    """A machine on which a process at the default durability put `before` and was killed."""
    storage = CrashStorage()
    with open_on(storage, "/db", "c", 0o666, {"log_io": log_io}) as db:
        db["before"] = "killed"
        return storage.crash("kill")


def contents_after(storage, mode, rng):
    with open_on(storage.freeze().crash(mode, rng), "/db", "r", 0o666, {}) as db:
        return dict(db)


@pytest.mark.parametrize("mode", POWER_LOSSES)
@pytest.mark.parametrize("level", ["full", "interval"])
@pytest.mark.parametrize("log_io", ["pwrite", "mmap"])
def test_synced_writes_above_a_suspect_log_survive_power_loss(level, mode, log_io, seed):
    """A sync of the new log promised for the old one too, and the power took both: nothing, or corruption."""
    storage = killed_after_one_put(log_io)
    with open_on(storage, "/db", "w", 0o666, {"durability": level, "log_io": log_io}) as db:
        db["after"] = "synced"
        if level == "interval":
            storage.advance(2.0)
            db["later"] = "synced"
        expected = dict(db)

        for number in range(20):
            rng = random.Random(f"{seed} {level} {mode} {number}")
            assert expected == contents_after(storage, mode, rng)
