"""What came out: figures by workload and peer, kept as JSON.

    {"format": 1, "about": {...}, "peers": {name: version}, "skipped": {name: reason},
     "cells": [{"workload": ..., "peer": ..., "runs": [{figure: number}, ...], "error": ""}, ...]}

A cell without runs and without an error is work that the peer cannot do.  What is shown are medians of the
runs.

Thread safety: none.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

from benchmarks.adapters import ADAPTERS, OURS
from benchmarks.figures import medians, ratio
from benchmarks.phases import Figures

FORMAT = 1
ROOT = Path(__file__).parents[1]


@dataclass
class Cell:
    workload: str
    peer: str
    runs: list[Figures] = field(default_factory=list)
    error: str = ""


@dataclass
class Results:
    """All that one command measured.

    Attributes:
        about: when, where and how much.
        peers: version of each peer that was run.
        skipped: why each other one was not.
    """

    about: dict[str, object]
    peers: dict[str, str]
    skipped: dict[str, str]
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)

    def cell(self, workload: str, peer: str) -> Cell:
        return self.cells.setdefault((workload, peer), Cell(workload, peer))

    def workloads(self) -> list[str]:
        return [*dict.fromkeys(workload for workload, _ in self.cells)]

    def figure(self, workload: str, peer: str, name: str) -> float | None:
        """Return the median of a figure, None if it was not measured."""
        cell = self.cells.get((workload, peer))
        return None if cell is None or not cell.runs else medians(cell.runs).get(name)

    def ratio(self, workload: str, peer: str, name: str) -> float | None:
        """Return our figure as a multiple of a peer's."""
        return ratio(self.figure(workload, OURS, name), self.figure(workload, peer, name))

    def save(self, path: Path) -> None:
        content = {
            "format": FORMAT,
            "about": self.about,
            "peers": self.peers,
            "skipped": self.skipped,
            "cells": [asdict(cell) for cell in self.cells.values()],
        }
        unfinished = path.with_name(f"{path.name}.part")
        unfinished.write_text(json.dumps(content, indent=1) + "\n", "ascii")
        os.replace(unfinished, path)

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read a file that `save` wrote.

        Raises:
            ValueError: it is none, or one of another format.
        """
        content = json.loads(path.read_text("ascii"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"{path}: no results of format {FORMAT}")
        results = cls(content["about"], content["peers"], content["skipped"])
        for each in content["cells"]:
            results.cells[each["workload"], each["peer"]] = Cell(**each)
        return results


def about(**settings: object) -> dict[str, object]:
    """Return when and where this is, and what was asked for."""
    return {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "revision": revision(),
        **settings,
    }


def revision() -> str:
    """Return the commit of the checkout, "" outside of one."""
    try:
        command = ["git", "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def versions(peers: list[str]) -> dict[str, str]:
    return {peer: ADAPTERS[peer].version() for peer in peers}
