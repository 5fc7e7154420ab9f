"""One test for each promise of docs/durability.md, under the number it has there.

Each crashes at every call that changes something, or at a share of them, and knows for itself what must be
left; the suites beside this file look at far more, for less obvious reasons.
"""

import random

import pytest

from lsmdbm._base.errors import CorruptionError, NotFoundError
from lsmdbm._engine import appender
from lsmdbm._engine.appender import BUFFER_BYTES
from lsmdbm.database import open_on
from support.crash_storage import CrashStorage
from support.disk import POWER_LOSSES
from support.workload import CHANGES, LOG_IOS, PATH, TINY

ROUNDS = {"small": 1, "default": 2, "crash": 30, "long": 300}
MOMENTS = {"small": 12, "default": 40}  # of a round; the larger budgets take all
KEYS = [b"key%d" % number for number in range(12)]


@pytest.fixture(autouse=True)
def short_logs(monkeypatch):
    monkeypatch.setattr(appender, "MAX_LOG_BYTES", 600)


@pytest.fixture
def rngs(seed, budget, request, monkeypatch):
    """Return a random.Random for each round."""
    monkeypatch.setattr(Writer, "most", MOMENTS.get(budget, 10**9))
    return [random.Random(f"{seed} {request.node.name} {number}") for number in range(ROUNDS[budget])]


class Writer:
    """Writes at random, and knows what there was after each write.

    Attributes:
        states: from the empty one on.
        returned: how many writes have returned.
        moments: (image, writes begun, writes returned, clock) before each call that changes something.
        most: how many of them `done` returns.
    """

    most = 0

    def __init__(self, level, rng, size=30, **options):
        self.storage = CrashStorage(rng.random())
        self.rng = rng
        self.size = size
        self.states = [{}]
        self.times = [0.0]
        self.sizes = [0]
        self.returned = 0
        self.moments = []
        options = {**TINY, "durability": level, "log_io": rng.choice(LOG_IOS), **options}
        self.db = open_on(self.storage, PATH, "c", 0o666, options)
        self.storage.on_call = self.look

    def look(self, index, operation, path):
        if operation in CHANGES:
            self.moment()

    def moment(self):
        begun = len(self.states) - 1
        self.moments.append((self.storage.freeze(), begun, self.returned, self.storage.clock))

    def write(self, count=1):
        for _ in range(count):
            state = dict(self.states[-1])
            key = self.rng.choice(KEYS)
            self.times.append(self.storage.clock)
            self.sizes.append(0)
            if key in state and self.rng.random() < 0.3:
                del state[key]
                self.states.append(state)
                del self.db[key]
            else:
                state[key] = b"%d" % self.rng.randrange(1 << 40) * self.rng.randint(1, self.size)
                self.sizes[-1] = len(state[key])
                self.states.append(state)
                self.db[key] = state[key]
            self.returned += 1
            self.moment()

    def done(self):
        self.moment()
        self.storage.on_call = None
        self.db.close()
        return self.rng.sample(self.moments, min(self.most, len(self.moments)))

    def index_of(self, storage, oldest, newest):
        """Return which of the states is left, the newest of them if it could be several."""
        found = contents(storage)
        matching = [index for index in range(oldest, newest + 1) if self.states[index] == found]
        assert matching, f"{found} is none of {self.states[oldest : newest + 1]}"
        return matching[-1]


def contents(storage):
    with open_on(storage, PATH, "r", 0o666, {}) as db:
        return dict(db.items())


def losses(image, rng, count=2):
    """Yield what some losses of power leave."""
    yield image.crash("strict")
    for mode in rng.sample([*POWER_LOSSES], count):
        yield image.crash(mode, rng)


def at_level(level, rng):
    writer = Writer(level, rng)
    writer.write(30)
    return writer, writer.done()


# P1, P2


def test_none_killed_keeps_a_prefix(rngs):
    for rng in rngs:
        writer = Writer("none", rng, 700)
        writer.write(60)
        for image, begun, returned, _ in writer.done():
            index = writer.index_of(image.crash("kill"), 0, begun)
            lost = sum(
                len(value) for state in writer.states[index + 1 : returned] for value in state.values()
            )
            assert index >= returned - 1 or lost <= BUFFER_BYTES * len(KEYS)


def test_none_power_loss_keeps_a_prefix(rngs):
    for rng in rngs:
        writer, moments = at_level("none", rng)
        for image, begun, _, _ in moments:
            for storage in losses(image, rng):
                writer.index_of(storage, 0, begun)


# P3, P4


def test_process_killed_keeps_all(rngs):
    for rng in rngs:
        writer, moments = at_level("process", rng)
        for image, begun, returned, _ in moments:
            writer.index_of(image.crash("kill"), returned, begun)


def test_process_power_loss_keeps_a_prefix(rngs):
    for rng in rngs:
        writer, moments = at_level("process", rng)
        for image, begun, _, _ in moments:
            for storage in losses(image, rng):
                writer.index_of(storage, 0, begun)


# P5, P6


def at_intervals(rng):
    writer = Writer("interval", rng, sync_interval=2.0)
    for _ in range(30):
        writer.storage.advance(rng.random())
        writer.write()
    return writer, writer.done()


def test_interval_killed_keeps_all(rngs):
    for rng in rngs:
        writer, moments = at_intervals(rng)
        for image, begun, returned, _ in moments:
            writer.index_of(image.crash("kill"), returned, begun)


def test_interval_power_loss_loses_at_most_t(rngs):
    """Of the writes that had returned when the last one did, none that was 2 s older than that."""
    for rng in rngs:
        writer, moments = at_intervals(rng)
        for image, begun, returned, _ in moments:
            last = writer.times[returned]
            kept = max(
                index for index in range(returned + 1) if writer.times[index] <= last - 2.0 or index == 0
            )
            for storage in losses(image, rng):
                writer.index_of(storage, kept, begun)


# P7, P8


def test_full_killed_keeps_all(rngs):
    for rng in rngs:
        writer, moments = at_level("full", rng)
        for image, begun, returned, _ in moments:
            writer.index_of(image.crash("kill"), returned, begun)


def test_full_power_loss_keeps_all(rngs):
    for rng in rngs:
        writer, moments = at_level("full", rng)
        for image, begun, returned, _ in moments:
            for storage in losses(image, rng):
                writer.index_of(storage, returned, begun)


# P9 to P12


def after_sync(level, rng):
    """Yield the moments behind a sync, and how many writes that covered."""
    writer = Writer(level, rng)
    for _ in range(4):
        writer.write(rng.randint(0, 8))
        writer.db.sync()
        writer.moments.clear()
        covered = writer.returned
        writer.write(rng.randint(0, 3))
        writer.moment()
        yield from ((writer, covered, *moment) for moment in writer.moments)
    writer.done()


def after_close(level, rng):
    writer = Writer(level, rng)
    writer.write(rng.randint(1, 20))
    writer.db.close()
    return writer, writer.storage.freeze()


@pytest.mark.parametrize("level", ["none", "process", "interval", "full"])
def test_sync_or_close_then_killed_keeps_all(rngs, level):
    for rng in rngs:
        for writer, covered, image, begun, _, _ in after_sync(level, rng):
            writer.index_of(image.crash("kill"), covered, begun)
        if level != "none":
            writer, image = after_close(level, rng)
            assert writer.states[-1] == contents(image.crash("kill"))


@pytest.mark.parametrize("level", ["none", "process", "interval", "full"])
def test_sync_then_power_loss_keeps_all(rngs, level):
    for rng in rngs:
        for writer, covered, image, begun, _, _ in after_sync(level, rng):
            for storage in losses(image, rng):
                writer.index_of(storage, covered, begun)


@pytest.mark.parametrize("level", ["process", "interval", "full"])
def test_close_then_power_loss_keeps_all(rngs, level):
    for rng in rngs:
        for _ in range(5):
            writer, image = after_close(level, rng)
            for storage in losses(image, rng, 4):
                assert writer.states[-1] == contents(storage)


def test_close_at_none_then_killed_keeps_all(rngs):
    for rng in rngs:
        for _ in range(5):
            writer, image = after_close("none", rng)
            assert writer.states[-1] == contents(image.crash("kill"))


# P13


@pytest.mark.parametrize("work", ["flush", "compact", "open", "open after a crash"])
def test_cut_off_maintenance_changes_nothing(rngs, work):
    for rng in rngs:
        writer = Writer("process", rng)
        for _ in range(3):
            writer.write(10)
            writer.db.flush()
        writer.write(10)
        writer.db.sync()
        expected = writer.states[-1]
        if work in ("flush", "compact"):
            writer.moments.clear()
            getattr(writer.db, work)()
            moments = writer.done()
        else:
            storage = writer.storage if work == "open" else writer.storage.crash("kill")
            writer.done()
            writer.moments.clear()
            writer.storage = storage
            storage.on_call = writer.look
            with open_on(storage, PATH, "c", 0o666, TINY) as db:
                db.sync()
            storage.on_call = None
            moments = [*writer.moments, (storage.freeze(), 0, 0, 0.0)]
        assert moments
        for image, *_ in moments:
            for storage in (image.crash("kill"), *losses(image, rng)):
                assert expected == contents(storage)


# P14, P15


def test_batch_is_all_or_nothing(rngs):
    for rng in rngs:
        writer = Writer(rng.choice(("none", "process", "interval", "full")), rng)
        for number in range(12):
            writer.db.update({b"%d %d" % (number, part): bytes(rng.randint(0, 90)) for part in range(6)})
        for image, *_ in writer.done():
            for storage in (image.crash("kill"), *losses(image, rng)):
                found = contents(storage)
                counts = {sum(key.startswith(b"%d " % number) for key in found) for number in range(12)}
                assert counts <= {0, 6}


def test_survivors_are_a_prefix(rngs):
    """Every write has a key of its own, so that a hole shows; and every second one deletes the one before."""
    for rng in rngs:
        writer = Writer(rng.choice(("none", "process", "interval", "full")), rng)
        for number in range(40):
            writer.states.append({b"%d" % (number - number % 2): b"x"} if number % 2 == 0 else {})
            if number % 2:
                del writer.db[b"%d" % (number - 1)]
            else:
                writer.db[b"%d" % number] = b"x"
        for image, begun, _, _ in writer.done():
            for storage in (image.crash("kill"), *losses(image, rng)):
                writer.index_of(storage, 0, begun)


# P16


def test_damage_is_named_or_harmless(rngs):
    """A flipped bit anywhere in a database that was closed: the same content, or where it is damaged."""
    for rng in rngs:
        writer = Writer("process", rng)
        writer.write(20)
        writer.db.flush()
        writer.write(10)
        writer.done()
        files = writer.storage.contents(PATH)
        for name in sorted(files):
            for place in rng.sample(range(len(files[name])), min(60, len(files[name]))):
                data = bytearray(files[name])
                data[place] ^= 1 << rng.randrange(8)
                storage = CrashStorage()
                for other, content in files.items():
                    storage.plant(f"{PATH}/{other}", bytes(data) if other == name else content)
                try:
                    found = contents(storage)
                except CorruptionError as exc:
                    assert name.partition(".")[0].lstrip("0") in str(exc)
                else:
                    assert writer.states[-1] == found


# P17


def test_live_copy_is_prefix_or_error(rngs):
    """File after file, with writes in between; files that come or go meanwhile are not copied."""
    copies = 0
    for rng in rngs:
        writer = Writer("process", rng)
        writer.storage.on_call = None
        for number in range(15):
            writer.write(rng.randint(1, 10))
            copy = CrashStorage()
            names = sorted(writer.storage.contents(PATH))
            rng.shuffle(names)
            for name in names:
                content = writer.storage.contents(PATH).get(name)
                if content is not None:
                    copy.plant(f"{PATH}/{name}", content)
                writer.write(rng.randint(0, number))  # nothing in the first copy
            try:
                writer.index_of(copy, 0, writer.returned)
            except (CorruptionError, NotFoundError):
                continue
            copies += 1
        writer.done()

    assert copies


# P18


def test_reader_sees_a_prefix(rngs):
    """Opened between any two calls of the writer; it stays where it is until `refresh`."""
    for rng in rngs:
        writer = Writer("process", rng)
        elsewhere = CrashStorage()  # another process: the same disk, and another registry
        elsewhere.disk, elsewhere.mutex = writer.storage.disk, writer.storage.mutex
        readers = []

        def look(index, operation, path, writer=writer, elsewhere=elsewhere, readers=readers, rng=rng):
            if rng.random() < 0.1 and len(readers) < 12:
                db = open_on(elsewhere, PATH, "r", 0o666, {})
                readers.append((db, dict(db.items())))
                index = writer.states.index(readers[-1][1], max(0, writer.returned))
                assert index <= len(writer.states) - 1
            elif readers:
                db, seen = rng.choice(readers)
                assert seen == dict(db.items())

        writer.storage.on_call = look
        writer.write(60)
        writer.storage.on_call = None
        assert readers
        for db, seen in readers:
            assert seen == dict(db.items())
            db._store.refresh()
            assert writer.states[-1] == dict(db.items())
            db.close()
        writer.done()


# P19


@pytest.mark.parametrize("work", ["flush", "compact"])
@pytest.mark.parametrize("level", ["none", "process", "interval", "full"])
def test_flush_or_compact_keeps_all_there_was(rngs, level, work):
    for rng in rngs:
        writer = Writer(level, rng)
        for _ in range(3):
            writer.write(rng.randint(1, 20))
            getattr(writer.db, work)()
            image = writer.storage.freeze()
            for storage in (image.crash("kill"), *losses(image, rng)):
                assert writer.states[-1] == contents(storage)
        writer.done()
