"""Phases that write: fill, delete, compact."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.adapters.base import disk_bytes
from benchmarks.data import LUMP
from benchmarks.figures import percentiles
from benchmarks.phases.job import Figures, Job, Memory, WrongAnswer, clock, per_operation, written_bytes

SYNCED = 1000  # puts that are each synced


def putting(put: Callable[[Any, Any], object]) -> Callable[[Any, Any], None]:
    """Return a function that puts a lump, one put per call."""

    def work(keys: list[bytes], values: list[bytes]) -> None:
        for key, value in zip(keys, values):  # noqa: B905 - a lump has as many of each
            put(key, value)

    return work


def fill(job: Job) -> Figures:
    """Put every entry, one put per call or so many per `update`.

    Options:
        per_update: entries per call of `update`; 0 for one put per call.
        version: of the values; 1 or more overwrites, in another order.
        compact: compact before the bytes on disk are counted; not timed.
    """
    size, version = job.options.get("per_update", 0), job.options.get("version", 0)
    numbers = job.data.shuffled("overwrite") if version else range(job.data.entries)
    lumps = job.data.lumps(numbers, version, **({"size": size} if size else {}))
    with job.open() as store:
        update = store.update
        work = putting(store.put) if not size else lambda keys, values: update([*zip(keys, values)])  # noqa: B905
        figures = job.timed(lumps, work)
        if job.options.get("compact"):
            store.compact()
        begin = clock()
    figures["close_ms"] = (clock() - begin) * 1e3
    return {**figures, "bytes": disk_bytes(job.directory) / figures["operations"]}


def fill_durably(job: Job) -> Figures:
    """Put some entries, each synced before its put returns, from `threads` at a time."""
    threads = job.options["threads"]
    count = min(SYNCED, job.data.entries)
    shares = [range(first, count, threads) for first in range(threads)]
    with job.open(durable=True) as store:
        if threads == 1:
            return job.timed(job.data.lumps(shares[0], size=10), putting(store.put))
        lumps = [[*job.data.lumps(share, size=10)] for share in shares]
        with ThreadPoolExecutor(threads) as pool:
            begin = clock()
            done = [*pool.map(lambda mine: job.timed(mine, putting(store.put)), lumps)]
            seconds = clock() - begin
    cut = {"cut": 1.0} if any("cut" in figures for figures in done) else {}
    return {**per_operation(seconds, int(sum(figures["operations"] for figures in done))), **cut}


def fill_by_the_clock(job: Job) -> Figures:
    """Put every entry and time each put: the tail under sustained fill."""
    took = array("d")

    def work(keys: list[bytes], values: list[bytes]) -> None:
        for key, value in zip(keys, values):  # noqa: B905
            begin = clock()
            put(key, value)
            took.append(clock() - begin)

    with job.open() as store:
        put = store.put
        figures = job.timed(job.data.lumps(range(job.data.entries)), work)
    return {**figures, **percentiles(took)}


def grow(job: Job) -> Figures:
    """Fill, and say what that took: bytes written and kept per byte put, and memory above the start.

    Options:
        after: also scan and compact, for their memory.
    """
    memory, written = Memory(), written_bytes()
    with job.open() as store:
        figures = job.timed(job.data.lumps(range(job.data.entries), stream=True), putting(store.put))
        figures["fill_mib"] = figures["mib"] = memory.peak_mib()
        if job.options.get("after"):
            deque(store.scan(), maxlen=0)
            figures["scan_mib"] = memory.peak_mib()
            store.compact()
            figures["mib"] = memory.peak_mib()
    put = job.data.raw_bytes() * figures["operations"]
    if written is not None:
        figures["write_amplification"] = ((written_bytes() or 0) - written) / put
    return {**figures, "space_amplification": disk_bytes(job.directory) / put}


def delete(job: Job) -> Figures:
    """Delete some entries in random order."""
    numbers = job.data.sample(job.reads, "delete")
    with job.open() as store:
        remove = store.delete

        def work(keys: list[bytes], _: object) -> None:
            for key in keys:
                remove(key)

        figures = job.timed(job.data.lumps(numbers), work)
        gone = numbers[: min(100, int(figures["operations"]))]
        if left := [number for number in gone if store.get(job.data.key(number)) is not None]:
            raise WrongAnswer(f"{job.adapter.name}: {left} are still there")
    return figures


def compact(job: Job) -> Figures:
    """Compact all; what a peer that does not compact has on disk is its figure all the same."""
    figures: Figures = {}
    with job.open() as store:
        if job.adapter.compacts:
            begin = clock()
            store.compact()
            figures["us"] = (clock() - begin) / job.data.entries * 1e6
    return {**figures, "bytes": disk_bytes(job.directory) / job.data.entries}


def fill_objects(job: Job) -> Figures:
    """Put dicts the way a shelf does."""
    with job.open() as store:
        put = putting(store.put_object)
        figures = job.timed(object_lumps(job), put)
        store.compact()
    return {**figures, "bytes": disk_bytes(job.directory) / figures["operations"]}


def object_lumps(job: Job) -> list[tuple[list[str], list[object]]]:
    numbers = [*range(job.data.entries)]
    parts = [numbers[low : low + LUMP] for low in range(0, len(numbers), LUMP)]
    return [([f"user{n:010}" for n in part], [job.data.document(n) for n in part]) for part in parts]
