"""Report: the figures as Markdown.

Rules
  1. An absolute figure has ours as a multiple of it in brackets: 0.5x is half the peer's time or space.
  2. A dash is work a peer cannot do or was not asked for; a star is a phase that reached its limit.

Thread safety: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.adapters import OURS
from benchmarks.bars import Outcome, outcomes, sizes
from benchmarks.figures import PERCENTILES, ratio
from benchmarks.results import Results
from benchmarks.workloads import GROWTH, GROWTH_READ, find

FAILED = "failed"


@dataclass(frozen=True)
class Row:
    title: str
    workload: str
    figure: str
    is_compared: bool = True  # with ours, in brackets


@dataclass(frozen=True)
class Section:
    title: str
    rows: list[Row]


def sections(results: Results) -> list[Section]:
    """Return all tables but that of the bars; rows that nobody measured are left out."""
    names = shown_names(results)
    timed = [name for name in names if not name.startswith(GROWTH)]
    found = [
        Section("Microseconds an operation", [Row(name, name, "us") for name in timed]),
        Section(
            "Bytes on disk an entry",
            [Row(name, name, "bytes") for name in names],
        ),
        Section(
            "Tails, in microseconds",
            [Row(f"put, {spot}", "putlatency", spot) for spot in PERCENTILES]
            + [
                Row(f"{kind} beside a {other}, {spot}", "readwhilewriting", f"{kind}_{spot}")
                for kind, other in (("get", "writer"), ("put", "reader"))
                for spot in PERCENTILES
            ],
        ),
        Section(
            "Beside a thread that computes: microseconds, and as a multiple of alone",
            [
                Row(title, "putbusy", figure, not figure.endswith("times"))
                for kind in ("put", "get")
                for title, figure in (
                    (f"{kind}, alone", f"{kind}_alone_us"),
                    (f"{kind}, beside it", f"{kind}_busy_us"),
                    (f"{kind}, to alone", f"{kind}_times"),
                )
            ],
        ),
        Section(
            "Queue: microseconds, and the last tenth as a multiple of the first",
            [
                Row(title, "queue", figure, not figure.endswith("drift"))
                for title, figure in (
                    ("append", "append_us"),
                    ("append, last to first", "append_drift"),
                    ("take the first", "pop_us"),
                    ("take the first, last to first", "pop_drift"),
                )
            ],
        ),
        Section(
            "Milliseconds",
            [Row(name, name, "ms") for name in names]
            + [Row(f"{name}: two bare syncs", name, "bare_ms", False) for name in names]
            + [Row(f"{name}: last tenth to first", name, "drift", False) for name in names],
        ),
        Section(
            "Resident memory above the start, in MiB",
            [
                Row(title, "memory", figure)
                for title, figure in (
                    ("fill", "fill_mib"),
                    ("fill, then scan", "scan_mib"),
                    ("and then compact", "mib"),
                )
            ],
        ),
        *(growth(title, figure, suffix, sizes(results)) for title, figure, suffix in GROWING),
    ]
    measured = [
        Section(each.title, [row for row in each.rows if is_measured(results, row)]) for each in found
    ]
    return [section for section in measured if section.rows]


def shown_names(results: Results) -> list[str]:
    """Return the workloads that are more than a beginning for others."""
    return [name for name in results.workloads() if not find(name).is_setup]


GROWING = [
    ("Growth: microseconds a put", "us", ""),
    ("Growth: microseconds a get", "us", GROWTH_READ),
    ("Growth: bytes written by a byte put", "write_amplification", ""),
    ("Growth: bytes on disk by a byte put", "space_amplification", ""),
    ("Growth: MiB in memory", "mib", ""),
]


def growth(title: str, figure: str, suffix: str, measured: list[int]) -> Section:
    return Section(title, [Row(f"{size:,} entries", f"{GROWTH}{size}{suffix}", figure) for size in measured])


def is_measured(results: Results, row: Row) -> bool:
    return any(results.figure(row.workload, peer, row.figure) is not None for peer in results.peers)


def error(results: Results, workload: str, peer: str) -> str:
    cell = results.cells.get((workload, peer))
    return "" if cell is None or cell.runs else cell.error


def number(value: float | None) -> str:
    """Return three digits or more of a figure."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def times(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2g}x" if value < 0.1 else f"{value:.2f}x" if value < 10 else f"{value:,.0f}x"


def shown(results: Results, row: Row, peer: str) -> str:
    """Return one figure with ours as a multiple of it (rules 1 and 2)."""
    value = results.figure(row.workload, peer, row.figure)
    if value is None:
        return FAILED if error(results, row.workload, peer) else "-"
    star = "*" if results.figure(row.workload, peer, "cut") else ""
    factor = results.ratio(row.workload, peer, row.figure) if peer != OURS and row.is_compared else None
    return f"{number(value)}{star}" + (f" ({times(factor)})" if factor is not None else "")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def bars(found: list[Outcome]) -> str:
    """Return the table of the bars."""
    return table(
        ["workload", "bar", "lsmdbm", "peer", "ratio", "met"],
        (
            [
                each.bar.workload + (f" ({each.bar.ours})" if each.bar.ours != OURS else ""),
                f"<= {number(each.bar.most)}x {each.bar.peer}'s{f' {each.bar.other}' * bool(each.bar.other)}"
                if each.bar.peer
                else f"{each.bar.figure} <= {number(each.bar.most)}",
                f"{number(each.ours)} {each.bar.unit}" if each.ours is not None else "-",
                number(each.peer),
                times(each.reached) if each.bar.peer else "",
                {True: "yes", False: "no", None: "not measured"}[each.is_met],
            ]
            for each in found
        ),
    )


def heading(results: Results) -> str:
    """Return when, where and how much, in a paragraph or two."""
    facts = results.about
    load = f", load {facts['load']} at the start" if facts.get("load") is not None else ""
    runs = "one run" if facts["repeat"] == 1 else f"medians of {facts['repeat']} runs"
    lines = [
        f"{facts['date']}, CPython {facts['python']}, {facts['system']} {facts['machine']}, "
        f"{facts['cores']} cores{load}; {facts['entries']:,} entries, at most {facts['reads']:,} reads, "
        f"seed {facts['seed']}, {runs}.",
        "",
        "Peers: " + ", ".join(f"{name} {version}" for name, version in results.peers.items()) + ".",
    ]
    if results.skipped:
        reasons = ", ".join(f"{name} ({reason})" for name, reason in results.skipped.items())
        lines += ["", f"Skipped: {reasons}."]
    return "\n".join(lines) + "\n"


def markdown(results: Results, level: int = 2) -> str:
    """Return the whole report; its headings are of `level`."""
    mark = "#" * level
    parts = [heading(results), f"{mark} Bars\n\n{bars(outcomes(results))}"]
    peers = [*results.peers]
    for section in sections(results):
        rows = ([row.title, *(shown(results, row, peer) for peer in peers)] for row in section.rows)
        parts.append(f"{mark} {section.title}\n\n{table(['', *peers], rows)}")
    titles = ([name, find(name).title] for name in results.workloads())
    parts.append(f"{mark} Workloads\n\n{table(['name', 'what is timed'], titles)}")
    if failures := failed(results):
        rows = ([peer, reason, ", ".join(names)] for (peer, reason), names in failures.items())
        parts.append(f"{mark} Failures\n\n{table(['peer', 'reason', 'workloads'], rows)}")
    return "\n".join(parts)


def failed(results: Results) -> dict[tuple[str, str], list[str]]:
    """Return peer and reason with the workloads that have no figures for it."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in results.cells.values():
        if cell.error:
            found.setdefault((cell.peer, cell.error.replace("|", "\\|")), []).append(cell.workload)
    return found


def comparison(before: Results, after: Results, peer: str = OURS) -> str:
    """Return the figures of one peer in two files, and the second as a multiple of the first."""
    rows = []
    for section in sections(before):
        for row in section.rows:
            old, new = (each.figure(row.workload, peer, row.figure) for each in (before, after))
            if old is not None and new is not None:
                rows.append([row.workload, row.figure, number(old), number(new), times(ratio(new, old))])
    return table(["workload", "figure", "before", "after", "ratio"], rows)
