"""The modules of benchmarks/, which is no part of the package and not on the path.

Only while `benchmarks` itself is found is the root on the path: there it would hide the installed lsmdbm.

Thread safety: none.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]

sys.path.insert(0, os.fspath(ROOT))
try:
    import_module("benchmarks")
finally:
    sys.path.remove(os.fspath(ROOT))

adapters = import_module("benchmarks.adapters")
bars = import_module("benchmarks.bars")
bulk = import_module("benchmarks.bulk")
data = import_module("benchmarks.data")
eviction = import_module("benchmarks.eviction")
figures = import_module("benchmarks.figures")
job = import_module("benchmarks.phases.job")
command = import_module("benchmarks.__main__")
plots = import_module("benchmarks.plots")
report = import_module("benchmarks.report")
results = import_module("benchmarks.results")
runner = import_module("benchmarks.runner")
simulator = import_module("benchmarks.simulator")
workloads = import_module("benchmarks.workloads")
