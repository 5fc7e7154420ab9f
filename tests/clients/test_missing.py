"""A client that is not installed: its tests are skipped, but not where tox has promised to install it."""

import configparser
import os
import re
import sys
from pathlib import Path

import pytest

from support.clients import client, finish, start

ROOT = Path(__file__).parents[2]

PLANTED = """
from support.clients import client

client("no_such_client.part")

def test_nothing():
    pass
"""


@pytest.fixture
def run_planted(tmp_path, monkeypatch):
    """Run a test module that needs a client nobody has; return pytest's exit code and what it says."""
    (tmp_path / "test_planted.py").write_text(PLANTED)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(clients):
        monkeypatch.setenv("LSMDBM_CLIENTS", clients)
        options = ["-c", os.devnull, "-p", "no:cacheprovider", "-rs"]
        return finish(start(tmp_path, "-m", "pytest", *options, "test_planted.py"))

    return run


def test_tests_of_a_missing_client_are_skipped_with_a_reason(run_planted):
    status, output = run_planted("")

    assert "no_such_client is not installed" in output
    assert "1 skipped" in output
    assert pytest.ExitCode.NO_TESTS_COLLECTED == status


def test_a_missing_client_is_a_failure_where_it_is_required(run_planted):
    status, output = run_planted("required")

    assert "No module named 'no_such_client'" in output
    assert "skipped" not in output
    assert pytest.ExitCode.INTERRUPTED == status  # an error while collecting


def test_the_environment_of_all_clients_requires_each_of_them():
    tox = configparser.ConfigParser(interpolation=None)
    tox.read_string((ROOT / "tox.ini").read_text("ascii"))
    environment = tox["testenv:clients"]

    assert "clients" in tox["tox"]["env_list"].replace(" ", "").split(",")
    assert "LSMDBM_CLIENTS = required" in environment["set_env"].splitlines()
    assert {"clients", "test"} == set(environment["extras"].replace(" ", "").split(","))


def test_ci_fails_without_a_report_of_the_clients():
    expected = re.search(r"^expected=\((.*?)\)$", (ROOT / ".ci/run").read_text("ascii"), re.MULTILINE)[1]

    assert "clients" in expected.split()


def test_the_extra_names_every_client_that_is_tested():
    """The modules here are called after the distributions in the extra, without regard to dots and case."""
    text = (ROOT / "pyproject.toml").read_text("ascii")
    extra = re.search(r"^clients = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)[1]
    named = {re.match(r"\w+", name)[0].lower() for name in re.findall(r'"(.*?)"', extra)}

    here = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert here - {"missing"} == named


def test_a_client_that_is_there_is_imported():
    assert sys.modules["pytest"] is client("pytest")
