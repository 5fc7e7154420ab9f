"""The bars: what lsmdbm has to reach beside its peers, at 10^6 entries.

Thread safety: pure functions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.adapters import OURS
from benchmarks.figures import ratio
from benchmarks.results import Results
from benchmarks.workloads import GROWTH

GROWTH_FROM = 100_000


@dataclass(frozen=True)
class Bar:
    """Our figure must be at most `most`: times the peer's, if there is a peer.

    Attributes:
        other: the peer's workload, if that is not ours.
        ours: which variant of lsmdbm.
        unit: of the figure, for the table.
    """

    workload: str
    figure: str
    most: float
    peer: str = ""
    other: str = ""
    ours: str = OURS
    unit: str = "us"


@dataclass(frozen=True)
class Outcome:
    bar: Bar
    ours: float | None
    peer: float | None
    reached: float | None  # what is compared with `most`; None if it was not measured

    @property
    def is_met(self) -> bool | None:
        return None if self.reached is None else self.reached <= self.bar.most


BARS = [
    Bar("fillrandom", "us", 2.0, "plyvel"),
    Bar("fillrandom", "us", 1.5, "plyvel", ours="lsmdbm-process"),
    Bar("fillrandom", "us", 0.4, "dbm.gnu"),
    Bar("fillrandom", "us", 0.05, "dbm.sqlite3"),
    Bar("fillupdate", "us", 1.3, "plyvel", "fillrandom"),
    Bar("fillseq", "us", 1.2, "plyvel"),
    Bar("overwrite", "us", 2.0, "plyvel"),
    Bar("readrandom.compacted", "us", 0.7, "plyvel"),
    Bar("readrandom.compacted", "us", 0.7, "rocksdict"),
    Bar("readrandom.compacted", "us", 2.2, "lmdb"),
    Bar("readrandom", "us", 1.3, "plyvel"),
    Bar("readmissing", "us", 2.0, "plyvel"),
    Bar("readmissing", "us", 0.7, "rocksdict"),
    Bar("readmissing.compacted", "us", 2.0, "plyvel"),
    Bar("readmissing.compacted", "us", 0.7, "rocksdict"),
    Bar("readmissing", "blocks", 0.015, unit="blocks a get"),
    Bar("readmissing.compacted", "blocks", 0.015, unit="blocks a get"),
    Bar("readseq", "us", 0.8, "plyvel"),
    Bar("readseq", "us", 1.6, "lmdb"),
    Bar("compact", "bytes", 0.75, "plyvel", unit="bytes an entry"),
    Bar("compact", "bytes", 0.55, "dbm.gnu", unit="bytes an entry"),
    Bar("compact", "bytes", 0.5, "dbm.sqlite3", unit="bytes an entry"),
    Bar("putlatency", "p99.9", 2000),
    Bar("putlatency", "max", 60_000),
    Bar("putbusy", "put_times", 3.0, ours="lsmdbm-mmap", unit="times alone"),
    Bar("open10", "ms", 1.0, unit="ms"),
    Bar("openput10", "above_bare_ms", 1.0, unit="ms above the bare syncs"),
    Bar("import", "ms", 40, unit="ms"),
    Bar("memory", "mib", 160, unit="MiB"),
    Bar("growth", "put", 2.5, unit="times the cost at 10^5"),
]


def outcomes(results: Results) -> list[Outcome]:
    """Compare every bar with what was measured."""
    return [outcome(results, bar) for bar in BARS]


def outcome(results: Results, bar: Bar) -> Outcome:
    ours = own(results, bar)
    if not bar.peer:
        return Outcome(bar, ours, None, ours)
    peer = results.figure(bar.other or bar.workload, bar.peer, bar.figure)
    return Outcome(bar, ours, peer, ratio(ours, peer))


def own(results: Results, bar: Bar) -> float | None:
    if bar.workload == "growth":
        return growth_factor(results)
    if bar.figure == "above_bare_ms":
        took, bare = (results.figure(bar.workload, bar.ours, name) for name in ("ms", "bare_ms"))
        return None if took is None or bare is None else max(0.0, took - bare)
    return results.figure(bar.workload, bar.ours, bar.figure)


def sizes(results: Results) -> list[int]:
    """Return the numbers of entries whose growth was measured, ascending."""
    found = (re.fullmatch(rf"{re.escape(GROWTH)}(\d+)", name) for name in results.workloads())
    return sorted(int(match[1]) for match in found if match)


def growth_factor(results: Results) -> float | None:
    """Return what a put costs at the largest size as a multiple of one at 10^5."""
    measured = sizes(results)
    if GROWTH_FROM not in measured or measured[-1] == GROWTH_FROM:
        return None
    first, last = (results.figure(f"{GROWTH}{size}", OURS, "us") for size in (GROWTH_FROM, measured[-1]))
    return ratio(last, first)
