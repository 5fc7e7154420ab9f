"""Who follows the changes of a database that crashes never holds what the database does not.

At any moment a follower may have looked, in another process, at what the writer had written by then.  After
the crash it either goes on to what the database holds, or it is told that what it has seen was lost.
"""

import pytest

from lsmdbm._base.errors import CorruptionError
from lsmdbm._engine import appender, keeping
from support.budgets import Budget
from support.followers import IN_THE_LOG, sweep
from support.sites import Site, removed
from support.workload import OPERATIONS

FIGURES = {"small": 150, "default": 600, "crash": 30_000, "long": 1_000_000}


@pytest.fixture(autouse=True)
def short_logs(monkeypatch):
    """Let there be many logs, and let each count as what it is."""
    monkeypatch.setattr(appender, "MAX_LOG_BYTES", 300)
    monkeypatch.setattr(keeping, "LEAST_BYTES", 1)


def part(name, share):
    return Budget("followers", **FIGURES, part=name, share=share)


def test_a_kill_takes_nothing_back_that_a_follower_has_seen():
    with part("kills", 0.3) as reach:
        for outcome in sweep(reach, IN_THE_LOG, 1 << 30):
            if outcome.mode == "kill":
                reach.count("kills")
                assert not outcome.is_taken_back, outcome
                assert (False, False) == (outcome.was_lost, outcome.is_lost), outcome

    assert reach.counts["kills"] > 0


@pytest.mark.parametrize("level", ["process", "interval", "full"])
def test_after_a_loss_of_power_whoever_has_not_seen_what_was_lost_goes_on(level):
    """What is in tables is in the logs that are kept, too; a level says what may be lost, and of both."""
    with part(level, 0.1) as reach:
        for outcome in sweep(reach, IN_THE_LOG, 1 << 30, (level,)):
            expected = outcome.is_taken_back
            assert (expected, expected) == (outcome.was_lost, outcome.is_lost), outcome
            assert not outcome.is_taken_back or outcome.in_flight or level != "full", outcome

    assert reach.counts["followed"] > 0


def test_what_the_power_took_back_is_told_however_much_was_written_since():
    with part("any level", 0.2) as reach:
        for outcome in sweep(reach, IN_THE_LOG, 1 << 30):
            if outcome.is_taken_back:
                reach.count("taken back")
                assert (True, True) == (outcome.was_lost, outcome.is_lost), outcome

    assert reach.counts["followed"] > 0


def test_with_few_logs_kept_and_all_kinds_of_writes_a_follower_is_right_or_told():
    with part("few logs", 0.2) as reach:
        for _ in sweep(reach, list(OPERATIONS), 700):
            pass

    assert reach.counts["followed"] > 0


PLANTED = [
    Site("the salt", "_engine.feed", "_is_of", "(link.number, link.header.salt)", "(place.log, place.salt)"),
    Site("the position ahead", "_engine.feed", "Feed._needed", "place.seq > self.next_seq", "False"),
]


@pytest.mark.parametrize("site", PLANTED, ids=lambda site: site.name)
def test_a_position_that_is_believed_without_a_look_is_found(site):
    """The planted fault: without the check a follower goes on from a write that was taken back."""
    reach = Budget("planted", small=20_000, default=20_000, crash=20_000, long=20_000)
    with removed(site), pytest.raises((AssertionError, IndexError, CorruptionError)):
        for outcome in sweep(reach, IN_THE_LOG, 1 << 30, ("process",)):  # which loses more than "full"
            expected = outcome.is_taken_back
            assert (expected, expected) == (outcome.was_lost, outcome.is_lost), outcome
