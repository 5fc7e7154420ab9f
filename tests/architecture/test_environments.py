"""What tox runs where: coverage and py311 share the tests between them, and none is left out."""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOX = (ROOT / "tox.ini").read_text("ascii")


def unshared(text):
    """Return the test modules that are run by neither of the two, or by both."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(text)
    coverage = settings["testenv:coverage"]
    ignored = modules(re.findall(r"--ignore (\S+)", coverage["coverage_options"]))
    traced = modules(re.findall(r"tests/\S+[^\s}]", coverage["commands"])) - ignored
    other = modules(settings["testenv:py311"]["suites"].replace("\\", "").split())
    every = modules(["tests"])
    assert traced
    assert other
    return sorted(path.name for path in (every - traced - other) | traced & other)


def modules(places):
    paths = [ROOT / place for place in places]
    return {path for place in paths for path in ([place] if place.is_file() else place.rglob("test_*.py"))}


def test_coverage_and_its_python_run_every_module_once_between_them():
    assert [] == unshared(TOX)


def test_a_module_that_neither_runs_and_one_that_both_run_are_found():
    name = "tests/behaviour/test_soak.py"

    assert ["test_soak.py"] == unshared(TOX.replace(f"    {name} \\\n", ""))
    assert ["test_soak.py"] == unshared(TOX.replace(f"--ignore {name}", ""))
