"""Metrics: the figures of `stats()` in the text format of OpenMetrics, for Prometheus and its like.

Rules
  1. Every field of Stats is told.  What a database has done is a counter, since it was opened; what it looks
     like is a gauge.

Thread safety: pure functions.  Spec: https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from lsmdbm._engine.figures import LevelStats, Stats

GAUGE, COUNTER = "gauge", "counter"
METRICS = {  # field of Stats: type and help; a name that ends in _bytes or _seconds has that unit
    "memtables": (GAUGE, "Memtables that hold entries"),
    "memtable_entries": (GAUGE, "Entries in memory"),
    "memtable_bytes": (GAUGE, "Log records of what is in memory"),
    "log_files": (GAUGE, "Logs"),
    "written_bytes": (COUNTER, "Written into the log"),
    "flushed_bytes": (COUNTER, "Written into tables by flushes"),
    "compacted_bytes": (COUNTER, "Written into tables by compactions"),
    "flushes": (COUNTER, "Flushes"),
    "compactions": (COUNTER, "Compactions"),
    "moves": (COUNTER, "Compactions that rewrote nothing"),
    "delegated": (COUNTER, "Compactions that another process did"),
    "drops": (COUNTER, "Times that the oldest tables were given up"),
    "dropped_bytes": (COUNTER, "Tables given up"),
    "slice_seconds": (COUNTER, "Time that writes have spent on flushes and compactions"),
    "stalls": (COUNTER, "Writes that had to wait for background work"),
    "stall_seconds": (COUNTER, "Time that writes had to wait for background work"),
    "get_read_bytes": (COUNTER, "Blocks read by gets"),
    "scan_read_bytes": (COUNTER, "Blocks read by reads in order"),
    "compaction_read_bytes": (COUNTER, "Blocks read by compactions"),
    "cache_bytes": (GAUGE, "Decoded blocks that are kept"),
    "cache_hits": (COUNTER, "Gets that found their block in the cache"),
    "cache_misses": (COUNTER, "Gets that did not find their block in the cache"),
    "cache_hit_rate": (GAUGE, "Part of the gets that found their block in the cache"),
    "filter_probes": (COUNTER, "Filters asked"),
    "blocks_read": (COUNTER, "Blocks read by gets, in number"),
    "filter_false_positives": (COUNTER, "Blocks read that did not hold the key"),
    "open_tables": (GAUGE, "Table files that are open"),
    "snapshots": (GAUGE, "Snapshots and transactions that are open"),
    "trouble": (GAUGE, "1 if the last flush or compaction failed"),
}
LEVELS = {  # field of LevelStats
    "tables": "Tables of a level",
    "entries": "Entries in the tables of a level, deletions included",
    "tombstones": "Deletions in the tables of a level",
    "file_bytes": "Tables of a level on disk",
    "raw_bytes": "Blocks of a level before compression",
}


def openmetrics(stats: Stats, path: str) -> Iterator[str]:
    """Yield the lines of an exposition; `path` becomes a label of every sample."""
    labels = f'path="{_label(path)}"'
    for field, (kind, text) in METRICS.items():
        value = getattr(stats, field)
        if field == "trouble":
            value = int(value is not None)
        if value is not None:
            name = yield from _family(f"lsmdbm_{field}", kind, text)
            yield f"{name}{'_total' if kind == COUNTER else ''}{{{labels}}} {value}"
    for field, text in LEVELS.items():
        name = yield from _family(f"lsmdbm_level_{field}", GAUGE, text)
        for level in stats.levels:
            yield f'{name}{{{labels},level="{level.level}"}} {_level_value(level, field)}'
    yield "# EOF"


def _level_value(level: LevelStats, field: str) -> int:
    value: int = getattr(level, field)
    return value


def _family(name: str, kind: str, text: str) -> Generator[str, None, str]:
    yield f"# TYPE {name} {kind}"
    unit = name.rpartition("_")[2]
    if unit in ("bytes", "seconds"):
        yield f"# UNIT {name} {unit}"
    yield f"# HELP {name} {text}"
    return name


def _label(value: str) -> str:
    value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
