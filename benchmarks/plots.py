"""Plots: SVG files of what the tables say.  Needs matplotlib, of the extra `lsmdbm[bench]`.

Thread safety: none, as matplotlib's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.adapters import OURS
from benchmarks.bars import sizes
from benchmarks.figures import PERCENTILES
from benchmarks.report import GROWING, shown_names
from benchmarks.results import Results
from benchmarks.workloads import GROWTH

MARKERS = "osD^v<>PX*hd"


def draw(results: Results, directory: Path) -> list[Path]:
    """Write the plots for which there are figures; return their paths."""
    import matplotlib

    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "lsmdbm", "svg.fonttype": "none", "font.size": 9})
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, plot in (("ratios", ratios), ("growth", growth), ("tails", tails)):
        figure = plot(results)
        if figure is not None:
            path = directory / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
            drawn.append(path)
    return drawn


def new(**shape: Any) -> tuple[Any, Any]:
    from matplotlib import pyplot

    pyplot.close("all")
    return pyplot.subplots(**shape)


def ratios(results: Results) -> Any:
    """Our time as a multiple of each peer's, a row for each workload."""
    names = [name for name in shown_names(results) if not name.startswith(GROWTH)]
    names = [name for name in names if results.figure(name, OURS, "us") is not None]
    others = [peer for peer in results.peers if peer != OURS]
    if not names or not others:
        return None
    figure, axes = new(figsize=(7, 1.5 + 0.2 * len(names)))
    for peer, marker in zip(others, MARKERS, strict=False):
        found = [(results.ratio(name, peer, "us"), row) for row, name in enumerate(names)]
        points = [(factor, row) for factor, row in found if factor is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker, label=peer, ls="", ms=4)
    axes.axvline(1, color="gray", lw=0.8)
    axes.set(xscale="log", xlabel="lsmdbm's time as a multiple of the peer's; left of 1, lsmdbm is faster")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="both", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def growth(results: Results) -> Any:
    """What a put, a get, a byte cost as the number of entries grows; one panel for each."""
    measured = sizes(results)
    if len(measured) < 2:
        return None
    figure, panels = new(nrows=len(GROWING), figsize=(6, 2.2 * len(GROWING)), sharex=True)
    for axes, (title, name, suffix) in zip(panels, GROWING, strict=True):
        for peer, marker in zip(results.peers, MARKERS, strict=False):
            values = [results.figure(f"{GROWTH}{size}{suffix}", peer, name) for size in measured]
            points = [(size, value) for size, value in zip(measured, values, strict=True) if value]
            if points:
                axes.plot(*zip(*points, strict=True), marker=marker, label=peer, ms=4, lw=1)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
    panels[-1].set(xscale="log", xlabel="entries")
    panels[0].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def tails(results: Results) -> Any:
    """Percentiles of a put under sustained fill."""
    figures = {
        peer: [results.figure("putlatency", peer, spot) for spot in PERCENTILES] for peer in results.peers
    }
    figures = {peer: values for peer, values in figures.items() if None not in values}
    if not figures:
        return None
    figure, axes = new(figsize=(6, 3))
    for (peer, values), marker in zip(figures.items(), MARKERS, strict=False):
        axes.plot([*PERCENTILES], values, marker=marker, label=peer, ms=4, lw=1)
    axes.set(yscale="log", ylabel="microseconds a put")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure
