"""Phases that open: for one get, for one put, and the import."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable

from benchmarks.figures import drift
from benchmarks.phases.job import Figures, Job, WrongAnswer, clock

CYCLES, CYCLE_SECONDS = 200, 5.0
IMPORTS = 5
BARE_BYTES = 100


def cycles(job: Job, cycle: Callable[[int], object]) -> Figures:
    """Return the median of many cycles, and what the last tenth cost as a multiple of the first."""
    took: list[float] = []
    count, limit = job.options.get("cycles", CYCLES), min(job.limit, CYCLE_SECONDS)
    while len(took) < count and sum(took) < limit:
        begin = clock()
        cycle(len(took))
        took.append(clock() - begin)
    return {"ms": statistics.median(took) * 1e3, "drift": drift(took), "operations": len(took)}


def open_and_get(job: Job) -> Figures:
    """Open, get, close, as caches do that open for every operation."""
    key, value = job.data.key(0), job.data.value(0)

    def cycle(_: int) -> None:
        with job.open() as store:
            if store.get(key) != value:
                raise WrongAnswer(f"{job.adapter.name}: {key!r} is not what was put")

    return cycles(job, cycle)


def open_and_put(job: Job) -> Figures:
    """Open, put, close; and what the syncs of one file and one directory cost here at the same time."""
    key = job.data.key(0)

    def cycle(number: int) -> None:
        with job.open() as store:
            store.put(key, b"%020d" % number)

    figures = cycles(job, cycle)
    with job.open() as store:
        if store.get(key) != b"%020d" % (figures["operations"] - 1):
            raise WrongAnswer(f"{job.adapter.name}: the last put is not there")
    return {**figures, "bare_ms": bare_syncs(job)}


def bare_syncs(job: Job) -> float:
    """Return what one fdatasync of a file and one fsync of a directory take, in milliseconds."""
    file = os.open(os.path.join(job.directory, "bare"), os.O_RDWR | os.O_CREAT)
    directory = os.open(job.directory, os.O_RDONLY)
    sync_data = getattr(os, "fdatasync", os.fsync)

    def cycle(_: int) -> None:
        os.pwrite(file, bytes(BARE_BYTES), 0)
        sync_data(file)
        os.fsync(directory)

    try:
        return cycles(job, cycle)["ms"]
    finally:
        os.close(directory)
        os.close(file)


def load(job: Job) -> Figures:
    """Import the module of a peer, and all that it opens with, in a process that has imported nothing yet."""
    work = f"import {job.adapter.module}; {job.adapter.first_use}"
    code = f"import time; begin = time.perf_counter(); {work}; print(time.perf_counter() - begin)"
    caching = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def once() -> float:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=caching)
        return float(done.stdout)

    took = [once()]  # the first may have to compile
    while len(took) <= IMPORTS and sum(took) < job.limit:
        took.append(once())
    return {"ms": statistics.median(took[1:] or took) * 1e3, "operations": len(took)}
