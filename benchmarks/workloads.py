"""The table of what is run.

Rules
  1. A workload starts from nothing, or from the files that another one left: `start`.
  2. One that changes files works on a copy, unless it starts from nothing.
  3. `.compacted` after a name means: the same, after `compact()`.

Thread safety: frozen.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.adapters import Adapter
from benchmarks.data import Data
from benchmarks.phases import PHASES, Figures, Job


@dataclass(frozen=True)
class Workload:
    """One row of the results.

    Attributes:
        phase: name in PHASES.
        title: what is timed, for the tables.
        start: the workload whose files this one starts from.
        changes: whether it changes them.
        data: kind of the entries.
        entries: how many, where it is not the number that was asked for.
        needs: what a peer must be able to do, an attribute of Adapter.
        options: of the phase.
        is_setup: only there for others to start from; its figures are not shown.
    """

    name: str
    phase: str
    title: str
    start: str = ""
    changes: bool = False
    data: str = "random"
    entries: int = 0
    needs: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    is_setup: bool = False

    def run(self, adapter: type[Adapter], directory: str, settings: Settings) -> Figures:
        data = Data(self.data, self.entries or settings.entries, settings.seed)
        reads = min(settings.reads, data.entries)
        return PHASES[self.phase](Job(adapter, directory, data, reads, settings.limit, self.options))


@dataclass(frozen=True)
class Settings:
    """How much: entries, operations where it is not one for each entry, seconds that a phase may take."""

    entries: int = 100_000
    reads: int = 100_000
    seed: int = 1
    limit: float = 120.0


_READS = [
    Workload("readrandom", "read", "get in random order, just opened", "fillrandom"),
    Workload("readwarm", "read", "the same keys again", "fillrandom", options={"warm": True}),
    Workload("readmissing", "read", "get of an absent key", "fillrandom", options={"which": "missing"}),
    Workload("readhot", "read", "get, zipfian", "fillrandom", options={"which": "hot"}),
    Workload("readcold", "read", "get, nothing in memory", "fillrandom", options={"cold": True}),
    Workload("readseq", "scan", "items(), an entry", "fillrandom"),
    Workload(
        "readreverse",
        "scan",
        "the same backwards",
        "fillrandom",
        needs="is_ordered",
        options={"backwards": True},
    ),
    Workload("seekrandom", "seek", "seek and 10 next", "fillrandom", needs="is_ordered"),
]

_TABLE = [
    Workload("fillseq", "fill", "put, keys ascending", data="sequential"),
    Workload("fillrandom", "fill", "put, random order"),
    Workload("fillupdate", "fill", "update(), 10,000 entries a call", options={"per_update": 10_000}),
    Workload("fillbatch", "fill", "batches of 100", options={"per_update": 100}),
    Workload("fillsync", "fill_durably", "durable put", options={"threads": 1}),
    Workload(
        "fillsync8", "fill_durably", "durable put, 8 threads", needs="has_threads", options={"threads": 8}
    ),
    Workload("putlatency", "fill_by_the_clock", "put, the tail"),
    Workload("memory", "grow", "put; then scan, compact: memory", options={"after": True}),
    *_READS,
    Workload("compact", "compact", "compact(), an entry", "fillrandom", changes=True),
    *(replace(each, name=f"{each.name}.compacted", start="compact") for each in _READS),
    Workload("overwrite", "fill", "put of existing keys", "fillrandom", changes=True, options={"version": 1}),
    Workload("deleterandom", "delete", "delete, random order", "fillrandom", changes=True),
    Workload("queue", "queue", "append, then take the first", needs="is_ordered"),
    Workload(
        "readwhilewriting",
        "read_while_writing",
        "get beside a writer",
        "fillrandom",
        True,
        needs="has_threads",
    ),
    Workload("putbusy", "beside_busy", "put beside a thread that computes"),
    *(
        Workload(
            f"ycsb-{letter}",
            "ycsb",
            f"YCSB {letter.upper()}",
            "fillrandom",
            changes=True,
            needs="is_ordered" if letter == "e" else "",
            options={"letter": letter},
        )
        for letter in "abcdef"
    ),
    Workload("open", "open_and_get", "open, get, close", "fillrandom", options={"cycles": 20}),
    Workload(
        "openput", "open_and_put", "open, put, close", "fillrandom", changes=True, options={"cycles": 20}
    ),
    Workload("fill10", "fill", "10 entries", entries=10, is_setup=True),
    Workload("open10", "open_and_get", "open, get, close; 10 entries", "fill10", entries=10),
    Workload("openput10", "open_and_put", "open, put, close; 10 entries", "fill10", changes=True, entries=10),
    Workload("import", "load", "import, and all that opening needs"),
    Workload("shelve", "fill_objects", "put of a dict"),
    Workload("shelveread", "read_objects", "get of a dict", "shelve"),
]

_KINDS = {
    "json": "JSON documents",
    "large": "100 KB values, a thousandth as many",
    "small": "8-byte values",
    "urls": "keys with long shared prefixes",
}

WORKLOADS: dict[str, Workload] = {
    each.name: each
    for each in (
        *_TABLE,
        *(
            workload
            for kind, title in _KINDS.items()
            for workload in (
                Workload(kind, "fill", f"put, {title}", data=kind, options={"compact": True}),
                Workload(f"{kind}read", "read", f"get, {title}", kind, data=kind),
            )
        ),
    )
}

GROWTH, GROWTH_READ = "growth.", ".read"


def growth(sizes: list[int]) -> list[str]:
    """Return the names of the workloads that show what an entry costs as their number grows."""
    return [f"{GROWTH}{size}{suffix}" for size in sizes for suffix in ("", GROWTH_READ)]


def find(name: str) -> Workload:
    """Return a workload by name; those of growth are made as they are asked for.

    Raises:
        KeyError: there is no such workload.
    """
    if name in WORKLOADS:
        return WORKLOADS[name]
    size = name.removeprefix(GROWTH).removesuffix(GROWTH_READ)
    if not name.startswith(GROWTH) or not size.isdecimal() or int(size) == 0:
        raise KeyError(name)
    if name.endswith(GROWTH_READ):
        start = name.removesuffix(GROWTH_READ)
        return Workload(name, "read", f"get, {int(size):,} entries", start, entries=int(size))
    return Workload(name, "grow", f"put, {int(size):,} entries", entries=int(size))
