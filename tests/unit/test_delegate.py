"""Compactions given to a worker: the same tables, whatever becomes of the worker.

The worker is a Hand: it lives in this process, on the disk in memory.
"""

import errno
import random

import pytest

from lsmdbm._base.errors import ClosedError, CorruptionError, error
from lsmdbm._engine.delegate import LONGEST_WAIT, MAX_LOSSES, WORTH_BYTES, Delegate
from lsmdbm._engine.jobs import NO_NEWS, compact
from lsmdbm._engine.names import TABLE, file_name, numbers
from lsmdbm._format.messages import Failure, Frames, Outputs, Progress, encode
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage
from support.hands import Hand, hired
from support.stage import Stage, run

FIRST = 1000


class Bench:
    """Some tables in level 0, the plan that merges them into level 2, and a delegate."""

    def __init__(self, seed=0, layers=4, keys=400, block_bytes=256):
        rng = random.Random(seed)
        self.stage = Stage(
            compression=None, memtable_bytes=4000, block_bytes=block_bytes, background="process"
        )
        self.stage.add(3, {b"0100": b"low", b"0500": b"high"})  # below which deletions are kept
        for _ in range(layers):
            self.stage.add(
                0,
                {
                    b"%04d" % key: None if rng.random() < 0.2 else rng.randbytes(rng.randrange(60))
                    for key in rng.sample(range(2 * keys), keys)
                },
            )
        self.storage, self.version = self.stage.storage, self.stage.version
        self.plan = self.stage.merge_of(2, *[(meta,) for meta in self.version.level(0)])
        self.before = self.tables()
        self.stage.numbers.next_number = FIRST
        self.delegate = Delegate(self.stage.shop)

    def tables(self):
        return set(numbers(list(self.storage.contents("/")), TABLE))

    def steps(self):
        return self.delegate.compact(self.plan, self.version)

    def content(self, metas):
        return self.stage.entries(metas)

    def expected(self):
        return self.content(run(compact(self.plan, self.version, self.stage.shop))[0])


@pytest.fixture
def bench():
    return Bench()


def forged(*answers):
    """Hands that say what they are told to say, to any order; then nothing."""

    class Forger(Hand):
        said = list(answers)

        def receive(self, timeout):
            if self.said and isinstance(self.said[0], (bytes, type(None))):
                return self.said.pop(0)
            if self.said:
                return encode(self.said.pop(0))
            return b""

    return Forger


def test_the_outputs_are_those_of_a_compaction_here(seed, budget):
    for number in range(4 if budget == "small" else 20):
        name = f"{seed} {number}"
        rng = random.Random(name)
        bench = Bench(
            name, rng.choice((1, 2, 5)), rng.choice((1, 50, 900)), block_bytes=rng.choice((64, 1000))
        )
        with hired() as hands:
            outputs, worth = run(bench.steps())

        assert bench.expected() == bench.content(outputs), name
        assert (1, 1) == (len(hands), bench.delegate.done)
        assert all(meta.number in range(FIRST, bench.stage.numbers.next_number) for meta in outputs)
        assert NO_NEWS not in worth
        assert not hands[0].is_ended


def test_one_worker_does_one_compaction_after_the_other(bench):
    with hired() as hands:
        first, second = run(bench.steps())[0], run(bench.steps())[0]

    assert bench.content(first) == bench.content(second)
    assert not {meta.number for meta in first} & {meta.number for meta in second}
    assert (1, 2) == (len(hands), bench.delegate.done)


def test_who_does_not_wait_is_told_that_there_is_no_news(bench):
    with hired():
        bench.delegate.waits = False
        steps = bench.steps()
        first = next(steps)
        outputs, worth = run(steps)

    assert NO_NEWS == first
    assert 10 < worth.count(NO_NEWS)
    assert bench.expected() == bench.content(outputs)


def test_progress_is_told_in_bytes_of_input(monkeypatch):
    monkeypatch.setattr("lsmdbm._engine.worker.PROGRESS_BYTES", 500)
    bench = Bench(keys=900)
    with hired():
        worth = run(bench.steps())[1]
    total = sum(meta.raw_bytes for meta in bench.plan.inputs)

    assert 10 < len(worth)
    assert total / 2 < sum(worth) <= 1.3 * total


@pytest.mark.parametrize("lives", [0, 1, 2, 5, 9])
def test_a_worker_that_dies_is_replaced_by_the_work_itself(bench, lives):
    with hired(lives) as hands:
        outputs, _ = run(bench.steps())

    assert bench.expected() == bench.content(outputs)
    assert 0 == bench.delegate.done
    assert hands[0].is_ended
    reserved = range(FIRST, min(meta.number for meta in outputs))
    assert not bench.tables() & set(reserved)  # nothing of it is left


def test_the_next_compaction_has_a_new_worker_and_the_fourth_none(bench):
    with hired(2) as hands:
        for number in range(1, MAX_LOSSES + 1):
            assert bench.delegate.takes(WORTH_BYTES)
            run(bench.steps())
            assert number == len(hands)

    assert not bench.delegate.takes(WORTH_BYTES)


def test_a_success_makes_up_for_losses(bench):
    for _ in range(2 * MAX_LOSSES):
        with hired(2):
            run(bench.steps())
        with hired():
            run(bench.steps())
        bench.delegate.end()

    assert bench.delegate.takes(WORTH_BYTES)


def test_an_idle_worker_that_died_is_replaced(bench):
    with hired() as hands:
        run(bench.steps())
        hands[0].kill()
        run(bench.steps())

    assert (2, 2) == (len(hands), bench.delegate.done)


def test_where_there_are_no_processes_the_work_is_done_here(bench):
    outputs, _ = run(bench.steps())

    assert bench.expected() == bench.content(outputs)
    assert 0 == bench.delegate.done


def test_small_compactions_are_not_worth_it(bench):
    assert [False, True] == [bench.delegate.takes(total) for total in (WORTH_BYTES - 1, WORTH_BYTES)]


@pytest.mark.parametrize("steps_before", [1, 5, 9])
@pytest.mark.parametrize("how", [lambda steps: steps.close(), lambda steps: steps.throw(KeyboardInterrupt)])
def test_a_compaction_that_is_dropped_ends_its_worker_then_unlinks(bench, steps_before, how):
    with hired() as hands:
        bench.delegate.waits = False
        steps = bench.steps()
        for _ in range(steps_before):
            next(steps)
        unlinked = []
        bench.storage.on_call = lambda index, operation, path: unlinked.append((operation, hands[0].is_ended))
        try:
            how(steps)
        except KeyboardInterrupt:
            pass
        bench.storage.on_call = None

    assert bench.before == bench.tables()
    assert {("listdir", True), ("unlink", True)} >= set(unlinked) > set()
    assert bench.delegate.takes(WORTH_BYTES)  # which was no fault of the worker


def test_damage_that_the_worker_finds_is_corruption(bench):
    path = file_name(bench.plan.inputs[1].number, TABLE)
    bench.stage.directory.open(path)._node.now[200] ^= 1
    with hired(), pytest.raises(CorruptionError, match="checksum") as caught:
        run(bench.steps())

    assert f"/{path}" == caught.value.path.replace("//", "/")
    assert bench.before == bench.tables()


def test_a_full_disk_that_the_worker_meets_is_an_error(bench):
    def full(index, operation, path):
        if operation == "pwrite":
            bench.storage.on_call = None  # there is room for a second try
            raise error(errno.ENOSPC, "full", path)

    bench.storage.on_call = full
    with hired(), pytest.raises(error, match="full") as caught:
        run(bench.steps())

    assert errno.ENOSPC == caught.value.errno
    assert bench.before == bench.tables()


def test_another_directory_at_the_path_is_not_written_to(bench):
    with hired():
        bench.delegate._path = "/other"
        bench.storage.mkdir("/other", 0o777)
        outputs, _ = run(bench.steps())

    assert bench.expected() == bench.content(outputs)
    assert {} == bench.storage.contents("/other")
    assert 0 == bench.delegate.done


LIES = {  # what becomes of true outputs
    "a table of the inputs": lambda bench, outputs: (bench.plan.inputs[0],),
    "too many entries": lambda bench, outputs: (outputs[0]._replace(entries=1 << 30), *outputs[1:]),
    "tables that overlap": lambda bench, outputs: (
        outputs[0],
        outputs[1]._replace(smallest=outputs[0].smallest),
    ),
    "a table twice": lambda bench, outputs: (outputs[0], outputs[0]),
    "keys of nobody": lambda bench, outputs: (outputs[0]._replace(smallest=b""), *outputs[1:]),
    "a table that is not there": lambda bench, outputs: (outputs[0]._replace(number=FIRST + 7), *outputs[1:]),
    "another table": lambda bench, outputs: (outputs[0]._replace(footer_crc=0), *outputs[1:]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_worker_that_lies_is_ended_and_the_work_done_here(bench, monkeypatch, lie):
    told = []

    class Liar(Hand):
        def receive(self, timeout):
            told.append(self)
            found = Frames().feed(super().receive(timeout))
            return b"".join(
                encode(Outputs(LIES[lie](bench, each.tables)) if isinstance(each, Outputs) else each)
                for each in found
            )

    monkeypatch.setattr(CrashStorage, "workers", Liar)
    outputs, _ = run(bench.steps())

    assert bench.expected() == bench.content(outputs)
    assert told[0].is_ended
    assert 0 == bench.delegate.done


@pytest.mark.parametrize(
    "said", [(b"\1\0\0\0\x63",), (Progress(5), Failure(0, "no")), (Progress(5), None)], ids=str
)
def test_a_worker_that_is_no_use_is_ended_and_the_work_done_here(bench, monkeypatch, said):
    hands = []

    def hire(storage):
        hands.append(forged(*said)(storage))
        return hands[-1]

    monkeypatch.setattr(CrashStorage, "workers", staticmethod(hire))
    outputs, _ = run(bench.steps())

    assert bench.expected() == bench.content(outputs)
    assert hands[0].is_ended
    assert 0 == bench.delegate.done


def test_nobody_waits_for_ever(bench, monkeypatch):
    class Silent(forged()):
        def receive(self, timeout):
            bench.storage.advance(timeout)
            return b""

    monkeypatch.setattr(CrashStorage, "workers", Silent)
    outputs, _ = run(bench.steps())

    assert LONGEST_WAIT <= bench.storage.clock < 2 * LONGEST_WAIT
    assert bench.expected() == bench.content(outputs)


def test_at_the_end_of_the_program_the_work_goes_on_here(bench):
    with hired() as hands:
        bench.delegate.waits = False
        steps = bench.steps()
        next(steps)
        bench.delegate.expect_end()
        bench.delegate.waits = True
        outputs, _ = run(steps)
        run(bench.steps())

    assert bench.expected() == bench.content(outputs)
    assert (1, True) == (len(hands), hands[0].is_ended)
    assert not bench.delegate.takes(WORTH_BYTES)


def test_the_child_of_a_fork_unlinks_nothing(bench):
    with hired():
        bench.delegate.waits = False
        steps = bench.steps()
        for _ in range(9):
            next(steps)
        present = bench.tables()
        bench.delegate.end()  # as die() does
        bench.stage.directory.close()
        steps.close()

    assert present > bench.before
    assert present == set(numbers(list(bench.storage.contents("/")), TABLE))


def test_the_worker_unlinks_nothing_even_if_it_fails(bench, monkeypatch):
    """What has the name of its output may by then belong to the next writer."""
    calls = []
    with hired() as hands:
        bench.delegate.waits = False
        steps = bench.steps()
        for _ in range(9):
            next(steps)
        bench.storage.on_call = lambda index, operation, path: calls.append(operation)
        hands[0]._worker._steps.close()
        bench.storage.on_call = None
        present = bench.tables()
        steps.close()

    assert "unlink" not in calls
    assert present > bench.before


def test_a_database_that_is_closed_to_reads_takes_no_outputs(bench, monkeypatch):
    def closed(meta):
        raise ClosedError

    with hired():
        monkeypatch.setattr(bench.stage.tables, "reader", closed)
        with pytest.raises(ClosedError):  # from the work that is done here instead
            run(bench.steps())

    assert 0 == bench.delegate.done


def test_a_store_that_expects_the_end_has_no_worker_and_goes_on():
    storage = CrashStorage()
    options = {"background": "process", "memtable_bytes": 1000}
    with hired() as hands, open_on(storage, "/db", "c", 0o666, options) as db:
        for number in range(2):
            db.update({b"%03d" % key: b"%d" % number for key in range(100)})
            db.compact()
            db._store.expect_end()

        assert (1, True) == (len(hands), hands[0].is_ended)
        assert {b"1"} == set(db.values())
