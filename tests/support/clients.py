"""Programs that use lsmdbm, as their tests import and run them.

    scrapy = client("scrapy")       the module; where it is not installed, the calling test module is skipped
    start(directory, "-c", text)    Python, in that directory, with pipes; finds lsmdbm and `support`
    finish(process)                 its exit status and what it said
    shown("Scrapy")                 what docs/clients.md says to write, in the section of that heading

With LSMDBM_CLIENTS=required, which tox sets in the environment that installs them all, a client that is not
there is an error: a run that skips everything would look as green as one that passes.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import lsmdbm

PAGE = Path(__file__).parents[2] / "docs/clients.md"


def client(name: str) -> ModuleType:
    """Import a client; where it is not installed, skip the module that asks, or fail if it is required."""
    if os.environ.get("LSMDBM_CLIENTS") == "required":
        return importlib.import_module(name)
    module: ModuleType = pytest.importorskip(name, reason=f"{name.partition('.')[0]} is not installed")
    return module


def start(directory: str | os.PathLike[str], *arguments: str) -> subprocess.Popen[str]:
    """Start Python with these arguments, in a directory which is not the root of the project."""
    places = (Path(__file__).parents[1], Path(lsmdbm.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a program to end; return its exit status and what it said since it was last heard."""
    output, _ = process.communicate()
    return process.returncode, output


def shown(heading: str) -> str:
    """Return the code that docs/clients.md shows below a heading: examples that need a client run here."""
    section = PAGE.read_text("ascii").split(f"\n## {heading}\n")[1].partition("\n## ")[0]
    (code,) = re.findall(r"^```text\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return str(code)
