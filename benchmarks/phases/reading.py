"""Phases that read, after reopening: gets of several kinds, scans, seeks."""

from __future__ import annotations

import os
import random
from bisect import bisect_left

from benchmarks.adapters import Adapter
from benchmarks.data import LUMP, Lump
from benchmarks.figures import Zipfian
from benchmarks.phases.job import Figures, Job, WrongAnswer, clock, per_operation
from benchmarks.phases.writing import object_lumps

COLD_READS = 1000
NEXT = 10  # entries after a seek
COMPARED = 10_000  # of a scan


def wanted(job: Job) -> list[Lump] | list[tuple[list[bytes], list[None]]]:
    """Return the keys to get and what they must give, by the option `which`: some, hot or missing."""
    which = job.options.get("which", "some")
    count = min(job.reads, COLD_READS) if job.options.get("cold") else job.reads
    if which == "missing":
        absent = [job.data.absent(number) for number in range(count)]
        parts = [absent[low : low + LUMP] for low in range(0, count, LUMP)]
        return [(part, [None] * len(part)) for part in parts]
    if which == "hot":
        popular = Zipfian(job.data.entries, random.Random(f"{job.data.seed} hot"))
        return [*job.data.lumps([popular.scrambled() for _ in range(count)])]
    return [*job.data.lumps(job.data.sample(count, "read"))]


def read(job: Job) -> Figures:
    """Get in random order, with the caches of a store that was just opened.

    Options:
        which: some, hot (zipfian) or missing.
        warm: get the same keys once before, untimed.
        cold: first let the operating system forget the files, and get only a few.
    """
    lumps = wanted(job)
    if job.options.get("cold"):
        forget(job.directory)
    with job.open() as store:
        get = store.get

        def work(keys: list[bytes], _: object) -> list[bytes | None]:
            return [get(key) for key in keys]

        if job.options.get("warm"):
            job.timed(lumps, work, check=True)
        before = store.counters().get("blocks_read")
        figures = job.timed(lumps, work, check=True)
        if before is not None:
            read_since = store.counters()["blocks_read"] - before
            figures["blocks"] = read_since / figures["operations"]
    return figures


def forget(directory: str) -> None:
    """Ask the operating system to drop the files below a directory from its cache, where it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return
    for place, _, names in os.walk(directory):
        for name in names:
            descriptor = os.open(os.path.join(place, name), os.O_RDWR)
            try:
                os.fsync(descriptor)  # what is not on disk yet cannot be dropped
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def scan(job: Job) -> Figures:
    """Go through every entry, `backwards` or not."""
    with job.open() as store:
        count = 0
        entries = store.scan_back if job.options.get("backwards") else store.scan
        begin = clock()
        for _key, _value in entries():
            count += 1
        seconds = clock() - begin
        if count != job.data.entries:
            raise WrongAnswer(f"{job.adapter.name}: {count} of {job.data.entries} entries")
        if count <= COMPARED:
            compare(job, store)
    return per_operation(seconds, count)


def compare(job: Job, store: Adapter) -> None:
    """Compare every entry of a scan, and the order if the peer has one."""
    backwards = bool(job.options.get("backwards"))
    found = [*(store.scan_back() if backwards else store.scan())]
    expected = {job.data.key(number): job.data.value(number) for number in range(job.data.entries)}
    in_order = sorted(expected, reverse=backwards)
    if expected != dict(found) or (job.adapter.is_ordered and in_order != [key for key, _ in found]):
        raise WrongAnswer(f"{job.adapter.name}: a scan is not what was put")


def seek(job: Job) -> Figures:
    """Find the first entry from a random key on, and read the next ten."""
    keys = [job.data.absent(number) for number in range(job.reads)]
    ordered = sorted(map(job.data.key, range(job.data.entries))) if job.data.entries <= COMPARED else []
    with job.open() as store:
        find = store.seek

        def work(keys: list[bytes], _: object) -> list[list[bytes]]:
            return [[key for key, _ in find(start, NEXT)] for start in keys]

        lumps = [keys[low : low + LUMP] for low in range(0, len(keys), LUMP)]
        return job.timed(((lump, following(ordered, lump)) for lump in lumps), work, check=bool(ordered))


def following(ordered: list[bytes], starts: list[bytes]) -> list[list[bytes]]:
    """Return the ten keys from each start on."""
    places = [bisect_left(ordered, start) for start in starts]
    return [ordered[place : place + NEXT] for place in places]


def read_objects(job: Job) -> Figures:
    """Get dicts the way a shelf does, in the order they were put."""
    with job.open() as store:
        get = store.get_object
        return job.timed(object_lumps(job), lambda keys, _: [get(key) for key in keys], check=True)
