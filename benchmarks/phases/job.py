"""A job: one phase of one peer, in the process that does nothing else.

Rules
  1. The clock runs while the peer works and stands while entries are made and answers are compared.
  2. Every answer is compared.  A wrong one ends the phase: a fast wrong store has no figures.
  3. A phase that takes longer than its limit is cut; its figures are of what it did, and say so.

Thread safety: none.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.adapters import Adapter
from benchmarks.data import Data

Figures = dict[str, float]
clock = time.perf_counter


class WrongAnswer(Exception):
    """A peer did not answer what was put."""


@dataclass
class Job:
    """What a phase is given.

    Attributes:
        directory: of the peer's own; holds what the workload starts from.
        data: the entries.
        reads: how many operations, where it is not one for each entry.
        limit: seconds that may be timed.
        options: of the workload.
    """

    adapter: type[Adapter]
    directory: str
    data: Data
    reads: int
    limit: float
    options: dict[str, Any]

    def open(self, durable: bool = False) -> Adapter:
        return self.adapter(self.directory, durable)

    def timed(
        self, lumps: Iterable[tuple[Any, Any]], work: Callable[[Any, Any], object], check: bool = False
    ) -> Figures:
        """Work through the lumps; with `check`, work must return the second half of a lump.

        Returns:
            us, microseconds per operation; operations; and cut, 1, if the limit was reached (rule 3).
        """
        seconds, operations = 0.0, 0
        for first, second in lumps:
            begin = clock()
            answer = work(first, second)
            seconds += clock() - begin
            operations += len(first)
            if check and answer != second:
                raise WrongAnswer(f"{self.adapter.name}: {answer!r:.200} where {second!r:.200} was put")
            if seconds > self.limit:
                return {**per_operation(seconds, operations), "cut": 1}
        return per_operation(seconds, operations)


def per_operation(seconds: float, operations: int) -> Figures:
    return {"us": seconds / operations * 1e6, "operations": operations}


def written_bytes() -> int | None:
    """Return the bytes this process has handed to write calls, or dirtied if that is more; Linux only."""
    try:
        with open("/proc/self/io", encoding="ascii") as file:
            figures = dict(line.split(": ") for line in file.read().splitlines())
    except OSError:
        return None
    return max(int(figures["wchar"]), int(figures["write_bytes"]))


class Memory:
    """How far the resident memory of this process has risen since this object was made."""

    def __init__(self) -> None:
        try:
            with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
                file.write("5")  # Linux: let the peak begin anew
        except OSError:
            pass
        self._start = resident("VmRSS:")

    def peak_mib(self) -> float:
        return max(0.0, resident("VmHWM:") - self._start)  # Linux counts pages in batches: it may read low


def resident(name: str) -> float:
    """Return a line of /proc/self/status in MiB; elsewhere the largest resident memory so far."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            [kib] = [line.split()[1] for line in file if line.startswith(name)]
        return int(kib) / 1024
    except OSError:
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
