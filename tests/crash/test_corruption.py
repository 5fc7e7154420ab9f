"""Damage anywhere in any file is named, or does no harm.

What a damaged database shows is exactly what it held; or CorruptionError, with the file and the place; or,
where nothing that is left of the files promises more, an exact prefix of the writes.  The last is what rot
behind the last promise of a log looks like: a torn tail.
"""

import random
import struct
from contextlib import contextmanager
from itertools import product

import pytest

from lsmdbm._base.errors import CorruptionError, NotFoundError
from lsmdbm._format import footer, log_reader, manifest, records, table_reader
from support import exam
from support.budgets import Budget
from support.specimens import PATH, at_random, specimens

FLIPS = {"small": 200, "default": 1000, "crash": 200_000, "long": 5_000_000}
OTHERS = {"small": 100, "default": 500, "crash": 24_000, "long": 500_000}
OPTIONS = {"memtable_bytes": 1 << 20, "cache_bytes": 1 << 20}
WITH_LIVE_TABLES = ("levels", "compressed")  # in the others no table, or not each, is needed
REMOVED = None


class Patient:
    """A specimen whose files are damaged, one after the other.

    Args:
        specimen: what it is when it is well.
        reach: counts how it went.
    """

    def __init__(self, specimen, reach):
        self.specimen = specimen
        self.reach = reach
        self.storage = specimen.storage()
        self.keys = {key for _, state in specimen.states for key in state}

    def files(self, damage):
        """The files with some of them replaced, or removed."""
        return {n: data for n, data in {**self.specimen.files, **damage}.items() if data is not REMOVED}

    @contextmanager
    def damaged(self, damage):
        for name, data in damage.items():
            if data is REMOVED:
                self.storage.erase(f"{PATH}/{name}")
            else:
                self.storage.plant(f"{PATH}/{name}", data)
        try:
            yield
        finally:
            for name in damage:
                if name in self.specimen.files:
                    self.storage.plant(f"{PATH}/{name}", self.specimen.files[name])
                else:
                    self.storage.erase(f"{PATH}/{name}")
            self.storage.calls.clear()

    def read(self, damage, what, **options):
        """Read it with this damage, and judge what was seen."""
        with self.damaged(damage):
            try:
                seen = exam.read_all(self.storage, self.keys, **{**OPTIONS, **options})
            except Exception as exc:
                seen = exc
            return self.judge(seen, self.files(damage), what)

    def judge(self, seen, files, what):
        """Return what was seen if it may be seen.

        Raises:
            AssertionError: it may not.
        """
        if isinstance(seen, CorruptionError):
            assert seen.path == PATH or seen.path.startswith(f"{PATH}/0"), f"{what}: {seen}"
            assert -1 <= seen.offset <= max(map(len, [*files.values(), *self.specimen.files.values()])), what
            self.reach.count("named")
        elif isinstance(seen, NotFoundError) and all(name.endswith(".man") for name in files):
            self.reach.count("unborn")  # without tables and logs nothing tells it from a creation cut off
            seen = {}
            assert {} in self.specimen.allowed(files) or not files, (
                f"{self.specimen.name}, {what}: all is gone"
            )
        elif isinstance(seen, Exception):
            raise AssertionError(f"{self.specimen.name}, {what}: {seen!r}") from seen
        elif seen == self.specimen.content:
            self.reach.count("harmless")
        else:
            allowed = self.specimen.allowed(files)
            assert seen in allowed, f"{self.specimen.name}, {what}: wrong data: {seen}"
            self.reach.count("prefixes")
        return seen

    def write_on(self, damage, rng, what):
        """Open a copy with this damage for writing, write, close, and read what is there then."""
        files = self.files(damage)
        storage = self.specimen.storage(files)
        seen = None
        try:
            with exam.opened(storage, "c", **OPTIONS) as db:
                seen = self.judge(exam.read(db, self.keys), files, what)
                exam.write_on(db, rng)
        except CorruptionError as exc:
            self.judge(exc, files, what)
        try:
            after = exam.read_all(storage, self.keys, **OPTIONS)
        except CorruptionError as exc:
            self.judge(exc, {**files, **storage.contents(PATH)}, f"{what}, written on")
        else:
            states = self.specimen.allowed(files) if seen is None else [seen]
            written = [{**state, **exam.WRITTEN} for state in states]
            assert after in (written if seen is not None else states + written), f"{what}, written on"
        self.reach.count("written on")


def flip(data, bit):
    damaged = bytearray(data)
    damaged[bit >> 3] ^= 1 << (bit & 7)
    return bytes(damaged)


def flips(reach, rng, specimen, stride):
    """Flip every stride-th bit of every file."""
    patient = Patient(specimen, reach)
    for name, data in specimen.files.items():
        for bit in range(rng.randrange(stride), 8 * len(data), stride):
            damage, what = {name: flip(data, bit)}, f"bit {bit} of {name}"
            seen = patient.read(damage, what, cache_bytes=rng.choice((0, 1 << 20)))
            if specimen.name in WITH_LIVE_TABLES and name.endswith(".sst") and rng.random() < 0.05:
                found = patient.read(damage, what, verify_on_open=True)
                assert isinstance(found, CorruptionError), f"{what}: not found by verify_on_open"
            if rng.random() < 0.02:
                patient.write_on(damage, rng, f"{what}, seen {seen!r:.40}")
            reach.count()
            if reach.is_over():
                return


def test_every_flipped_bit_is_named_or_harmless():
    fixed = specimens()
    bits = sum(8 * len(data) for specimen in fixed for data in specimen.files.values())
    with Budget("T7", **FLIPS, unit="flips") as reach:
        # By the clock, all of them coarsely first: the last ones have what the first ones lack.
        strides = [max(1, -(-bits // reach.goal))] if reach.goal else [1009, 101, 11, 1]
        rng = random.Random(f"{reach.seed} strides")
        for stride, specimen in product(strides, fixed):
            flips(reach, rng, specimen, stride)
        if not reach.is_over():
            for case in reach:
                flips(reach, random.Random(case), at_random(case), 1)

    assert reach.counts["named"] > reach.reached / 2
    assert reach.counts["prefixes"] > 0
    assert reach.counts["harmless"] > 0


# -- larger damage ----------------------------------------------------------------------------------


def zeros(rng, specimen, name, data):
    low = rng.randrange(len(data))
    high = min(len(data), low + rng.choice((1, 4, 64, 512)))
    return {name: data[:low] + bytes(high - low) + data[high:]}


def noise(rng, specimen, name, data):
    low = rng.randrange(len(data))
    high = min(len(data), low + rng.choice((1, 4, 64, 512)))
    return {name: data[:low] + rng.randbytes(high - low) + data[high:]}


def cut(rng, specimen, name, data):
    return {name: data[: rng.randrange(len(data))]}


def emptied(rng, specimen, name, data):
    return {name: b""}


def longer(rng, specimen, name, data):
    return {name: data + rng.choice((bytes(100), rng.randbytes(100), data[-60:], data))}


def a_piece_missing(rng, specimen, name, data):
    low = rng.randrange(len(data))
    return {name: data[:low] + data[low + rng.choice((1, 8, 64)) :]}


def a_piece_twice(rng, specimen, name, data):
    low, length = rng.randrange(len(data)), rng.choice((8, 24, 64, 80))
    return {name: data[: low + length] + data[low:]}


def pieces_swapped(rng, specimen, name, data):
    length = rng.choice((4, 16, 64))
    low, high = sorted(rng.sample(range(0, max(2 * length, len(data))), 2))
    one, two = data[low : low + length], data[high : high + length]
    if low + length > high or len(two) < length:
        return {name: data[::-1]}
    return {name: data[:low] + two + data[low + length : high] + one + data[high + length :]}


def records_swapped(rng, specimen, name, data):
    found = specimen.logs().get(name)
    if found is None or len(found[1]) < 2:
        return {}
    one, two = sorted(rng.sample(found[1], 2), key=lambda record: record.offset)
    return {
        name: data[: one.offset]
        + data[two.offset : two.end]
        + data[one.end : two.offset]
        + data[one.offset : one.end]
        + data[two.end :]
    }


def a_record_of_another_log(rng, specimen, name, data):
    others = [(other, record) for other, (_, found) in specimen.logs().items() for record in found]
    if name not in specimen.logs() or not others:
        return {}
    other, record = rng.choice(others)
    return {name: data + specimen.files[other][record.offset : record.end]}


def files_swapped(rng, specimen, name, data):
    kind = name[-4:]
    other = rng.choice([other for other in specimen.files if other.endswith(kind)])
    return {name: specimen.files[other], other: data} if not name.endswith(".wal") or other != name else {}


def under_another_name(rng, specimen, name, data):
    number = rng.choice((1, int(name[:6]) + 1, int(name[:6]) + 100, 10**18))
    copy = f"{number:06d}{name[-4:]}"
    return {copy: data} if copy not in specimen.files else {}


def removed(rng, specimen, name, data):
    return {name: REMOVED}


def a_stale_file(rng, specimen, name, data):
    return dict([rng.choice(list(specimen.stale.items()))]) if specimen.stale else {}


def an_earlier_content(rng, specimen, name, data):
    return dict([rng.choice(specimen.earlier)]) if specimen.earlier else {}


def a_file_of_another_database(rng, specimen, name, data):
    kind = name[-4:]
    others = [
        other
        for each in specimens()
        if each.name != specimen.name
        for number, other in each.files.items()
        if number.endswith(kind)
    ]
    return {name: rng.choice(others)} if kind != ".wal" else {}


def two_at_once(rng, specimen, name, data):
    one = rng.choice(DAMAGES[:8])(rng, specimen, name, data)
    other = rng.choice(list(specimen.files))
    return {**one, **rng.choice(DAMAGES[:8])(rng, specimen, other, specimen.files[other])}


DAMAGES = [
    *(zeros, noise, cut, emptied, longer, a_piece_missing, a_piece_twice, pieces_swapped),
    *(records_swapped, a_record_of_another_log, files_swapped, under_another_name, removed, a_stale_file),
    *(an_earlier_content, a_file_of_another_database, two_at_once),
]


def test_larger_damage_and_stale_files_are_named_or_harmless():
    with Budget("T7", **OTHERS, part="others", unit="damages") as reach:
        for case in reach:
            rng = random.Random(case)
            specimen = rng.choice([*specimens(), at_random(case)])
            patient = Patient(specimen, reach)
            for _ in range(40):
                name = rng.choice(list(specimen.files))
                kind = rng.choice(DAMAGES)
                damage = kind(rng, specimen, name, specimen.files[name])
                what = f"{case}: {kind.__name__} of {name}"
                patient.read(damage, what, cache_bytes=rng.choice((0, 1 << 20)))
                if rng.random() < 0.1:
                    patient.write_on(damage, rng, what)
                reach.count(kind.__name__)
                reach.count()

    assert all(reach.counts[kind.__name__] for kind in DAMAGES) or reach.reached < 500


# -- what the sweeps must find ----------------------------------------------------------------------


class Right:
    """The checksum that is expected."""

    __hash__ = None

    def __eq__(self, other):
        return True


def unchecked(stored, seed, offset):
    return stored[:-4]


def record_unchecked(data, offset, seed):
    if offset + records.RECORD_BYTES > len(data):
        return None
    _, length, seq, count, durable = records.RECORD.unpack_from(data, offset)
    end = offset + records.RECORD_BYTES + length
    if end > len(data) or not length:
        return None
    return records.Record(offset, end, seq, count, durable, data[offset + records.RECORD_BYTES : end])


def no_promises(data, header, start):
    return iter(())


def manifest_unchecked(data, number):
    if len(data) < 100:
        raise manifest.Malformed("too short")


FAULTS = {  # what is left out: where it is, and what comes in its place
    "the checksum of envelopes": (table_reader.envelope, "check", unchecked),
    "the checksum of records": (records, "record_at", record_unchecked),
    "the promises behind damage": (log_reader, "promises", no_promises),
    "the search for a mark when a header is damaged": (log_reader, "find_mark", lambda data, number: False),
    "the checksum of manifests": (manifest, "_check", manifest_unchecked),
    "the checksum of footers": (footer, "crc32", lambda data, seed=0: Right()),
}


# A wrong result, or what damaged bytes do to code that relies on a check
NOTICED = (AssertionError, ArithmeticError, LookupError, TypeError, ValueError, struct.error)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_check_left_out_is_found(monkeypatch, fault, seed):
    owner, name, broken = FAULTS[fault]
    whole = specimens()
    monkeypatch.setattr(owner, name, broken)
    rng = random.Random(f"{seed} {fault}")
    with pytest.raises(NOTICED), Budget("T7", **FLIPS, part="faults", unit="flips") as reach:
        reach.goal = 60_000
        for stride in (37, 7, 1):
            for specimen in whole:
                flips(reach, rng, specimen, stride)
