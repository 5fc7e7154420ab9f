"""Run: each phase in a process of its own, the peers side by side, everything as often as was asked for.

Rules
  1. Within a repetition a workload is run for every peer before the next one is; each repetition begins with
     another peer, so that none is always first.
  2. What a workload starts from is made in the same repetition, whether or not it was asked for.
  3. A phase that fails is an error in its cell and in the cells of what starts from it, and nothing else.
  4. Files are removed when no later workload starts from them.

Thread safety: none.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.adapters import ADAPTERS
from benchmarks.phases import Figures
from benchmarks.results import ROOT, Results
from benchmarks.workloads import Settings, Workload, find

UNTIMED_SECONDS = 1800  # for what a phase does beside the work that is timed


class PhaseError(Exception):
    """A phase ended without figures."""


@dataclass
class Run:
    """What is to be run.

    Attributes:
        names: of workloads.
        peers: of adapters that are installed.
        place: a directory to make directories in; None for that of temporary files.
    """

    names: list[str]
    peers: list[str]
    repeat: int
    settings: Settings
    place: str | None = None


def in_order(names: Iterable[str]) -> list[Workload]:
    """Return workloads with what they start from before them (rule 2)."""
    ordered: dict[str, Workload] = {}

    def take(name: str) -> None:
        workload = find(name)
        if workload.start:
            take(workload.start)
        ordered[name] = workload

    for name in names:
        take(name)
    return [*ordered.values()]


def execute(run: Run, results: Results, save: Callable[[], None], show: Callable[[str], None]) -> None:
    """Run everything, and save after each workload."""
    workloads = in_order(run.names)
    total, done = run.repeat * len(workloads) * len(run.peers), 0
    for repetition in range(run.repeat):
        first = repetition % len(run.peers)
        with tempfile.TemporaryDirectory(prefix="lsmdbm-bench-", dir=run.place) as base:
            made: dict[tuple[str, str], str] = {}  # workload, peer: "" if its files may be used, or why not
            for place, workload in enumerate(workloads):
                for peer in run.peers[first:] + run.peers[:first]:
                    done += 1
                    show(f"[{done}/{total}] {workload.name}, {peer}: ")
                    outcome = one(run, results, workload, peer, Path(base), made)
                    show(f"{outcome}\n")
                save()
                remove(Path(base), workloads[: place + 1], workloads[place + 1 :])


def one(
    run: Run,
    results: Results,
    workload: Workload,
    peer: str,
    base: Path,
    made: dict[tuple[str, str], str],
) -> str:
    """Run one phase of one peer; return what to say about it."""
    cell = results.cell(workload.name, peer)
    if workload.needs and not getattr(ADAPTERS[peer], workload.needs):
        return "-"
    if trouble := workload.start and made[workload.start, peer]:
        made[workload.name, peer] = cell.error = trouble
        return trouble
    directory = prepared(workload, peer, base)
    try:
        figures = phase(workload.name, peer, str(directory), run.settings)
    except PhaseError as exc:
        cell.error = str(exc)
        made[workload.name, peer] = f"{workload.name}: {exc}"
        return cell.error
    made[workload.name, peer] = f"{workload.name} was cut short" if "cut" in figures else ""
    cell.runs.append(figures)
    return brief(figures)


def prepared(workload: Workload, peer: str, base: Path) -> Path:
    """Return the directory a phase works in: new, a copy, or the very files it only reads."""
    own = base / workload.name / peer
    if not workload.start:
        own.mkdir(parents=True)
        return own
    origin = base / find(workload.start).name / peer
    if not workload.changes:
        return origin
    shutil.copytree(origin, own)
    return own


def remove(base: Path, over: list[Workload], to_come: list[Workload]) -> None:
    """Remove the files that nobody starts from any more (rule 4)."""
    wanted = {workload.start for workload in to_come}
    for workload in over:
        if workload.name not in wanted:
            shutil.rmtree(base / workload.name, ignore_errors=True)


def phase(name: str, peer: str, directory: str, settings: Settings) -> Figures:
    """Run one phase in a new process and return its figures.

    Raises:
        PhaseError: it ended otherwise, or did not end.
    """
    asked = {"workload": name, "peer": peer, "directory": directory, "settings": asdict(settings)}
    command = [sys.executable, "-m", "benchmarks", "phase", json.dumps(asked)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=settings.limit + UNTIMED_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise PhaseError("did not end") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise PhaseError(last[0][:200])
    return json.loads(done.stdout.splitlines()[-1])


def perform(asked: dict[str, Any]) -> Figures:
    """Do in this process what `phase` asks of another."""
    workload = find(asked["workload"])
    return workload.run(ADAPTERS[asked["peer"]], asked["directory"], Settings(**asked["settings"]))


def brief(figures: Figures) -> str:
    """Return the figure to show while it runs."""
    for name, unit in (("us", "us"), ("ms", "ms"), ("bytes", "bytes an entry")):
        if name in figures:
            return f"{figures[name]:.3f} {unit}{', cut' if 'cut' in figures else ''}"
    return ""
