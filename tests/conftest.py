"""Settings of every test run: seed, budget, places for databases, a directory of its own for each doctest.

    LSMDBM_SEED      an integer; drawn at random, and printed, when it is not set
    LSMDBM_BUDGET    small, default, crash or long: how much the random and exhaustive suites try

The fixtures `seed` and `budget` hand them to tests; hypothesis follows both.
"""

import gc
import os
import random
import signal
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lsmdbm._base import os_file, os_storage
from lsmdbm._base.os_storage import OsStorage

BUDGETS = {"small": 20, "default": 100, "crash": 100, "long": 2000}  # examples a property

os.environ.setdefault("LSMDBM_SEED", str(random.SystemRandom().randrange(1 << 32)))
os.environ.setdefault("LSMDBM_BUDGET", "default")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as behind nohup: tests send it, children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)

for name, examples in BUDGETS.items():
    settings.register_profile(
        f"lsmdbm-{name}",
        deadline=None,  # no timed assertion
        derandomize=False,  # not even where CI is set: LSMDBM_SEED repeats a run
        max_examples=examples,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(f"lsmdbm-{os.environ['LSMDBM_BUDGET']}")


class Doctests:
    """A plugin, because hooks and fixtures of this file do not reach the doctests of lsmdbm/."""

    def pytest_ignore_collect(self, collection_path):
        """Leave lsmdbm.dbapi out where apsw is not installed, unless that is a failure."""
        needs_apsw = ("lsmdbm", "dbapi") in zip(
            collection_path.parts, collection_path.parts[1:], strict=False
        )
        if needs_apsw and os.environ.get("LSMDBM_SQL") != "required" and find_spec("apsw") is None:
            return True
        return None

    @pytest.fixture(autouse=True)
    def _doctest_directory(self, request):
        if isinstance(request.node, pytest.DoctestItem):
            directory = request.getfixturevalue("tmp_path")
            request.getfixturevalue("monkeypatch").chdir(directory)


def pytest_configure(config):
    if config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = os.environ["LSMDBM_SEED"]
    config.pluginmanager.register(Doctests())


def pytest_collection_finish():
    """Let collections of garbage pass over what stays to the end: modules, and thousands of tests."""
    if gc.get_freeze_count() < 1000:  # else a run inside a test; 3.12 freezes some hundred by itself
        gc.collect()
        gc.freeze()


def run_line():
    return f"LSMDBM_SEED={os.environ['LSMDBM_SEED']} LSMDBM_BUDGET={os.environ['LSMDBM_BUDGET']}"


def pytest_report_header():
    return run_line()


def pytest_terminal_summary(terminalreporter, exitstatus):
    if exitstatus != pytest.ExitCode.OK:  # the header scrolls away
        terminalreporter.write_line(f"Run again with {run_line()}")


@pytest.fixture(scope="session")
def seed():
    """The seed of this run, for `random.Random(f"{seed} what for")`."""
    return int(os.environ["LSMDBM_SEED"])


@pytest.fixture(scope="session")
def budget():
    """The budget of this run: small, default, crash or long."""
    return os.environ["LSMDBM_BUDGET"]


@pytest.fixture
def path(tmp_path):
    """Where a database may come to be; there is none yet."""
    return os.fspath(tmp_path / "db")


@pytest.fixture
def mappable(tmp_path):
    """A directory on a file system whose files may be mapped."""
    reason = OsStorage().directory(os.fspath(tmp_path), 0o777).why_not_mapped()
    if not reason:
        yield tmp_path
    elif os.path.isdir("/dev/shm") and not OsStorage().directory("/dev/shm", 0o777).why_not_mapped():
        with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
            yield Path(path)
    else:
        pytest.skip(f"no file can be mapped here: {reason}")


@pytest.fixture
def no_syncs(monkeypatch):
    """Let syncs do nothing: for tests that write a lot, and ask nothing that a power loss could answer."""
    monkeypatch.setattr(os_file, "_full_sync", lambda descriptor: None)
    monkeypatch.setattr(os_file, "_data_sync", lambda descriptor: None)
    monkeypatch.setattr(os_storage, "_sync_directory", lambda descriptor, path: None)
