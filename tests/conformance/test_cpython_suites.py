"""CPython's own tests of dbm, shelve and the mapping protocol, with lsmdbm behind them.

`support.cpython_suite` runs them, each module in a process of its own; here stands what its report must say.
"""

import ast
import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

import pytest

import lsmdbm
from support import cpython_suite

SUITES = ("test_dbm", "test_shelve", "test_dbm_dumb", "test_dbm_gnu", "test_dbm_ndbm", "test_dbm_sqlite3")
PASSED = {  # at least so many tests, on this minor version and on those above it; None: no such module
    (3, 10): (11, 179, 13, 8, 9, None),
    (3, 11): (14, 182, 16, 11, 12, None),
    (3, 12): (14, 182, 16, 14, 15, None),
    (3, 13): (15, 182, 16, 15, 16, 12),
}
VERSION = sys.version_info[:2]
AT_LEAST = {
    **dict(zip(SUITES, PASSED[max(row for row in PASSED if row <= VERSION)], strict=True)),
    "mapping_tests": 42,  # 14 each for a database, a shelf, and a shelf that writes back
}
FAULTS = {  # one that each suite must notice
    "test_dbm": "a missing key reads as None",
    "test_shelve": "keys() is empty",
    "test_dbm_dumb": "close() does nothing",
    "test_dbm_gnu": "close() does nothing",
    "test_dbm_ndbm": "no handle is read-only",
    "test_dbm_sqlite3": "keys() goes down",
    "mapping_tests": "a database is always true",
}


def report_of(directory, *arguments):
    """Run a suite in a process of its own and return its report; skip if this Python does not have it."""
    places = (Path(cpython_suite.__file__).parents[1], Path(lsmdbm.__file__).parents[1])
    process = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-m", "support.cpython_suite", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == process.returncode, process.stderr
    report = json.loads(process.stdout)
    if report["missing"]:
        pytest.skip(report["missing"])
    return {**report, "stderr": process.stderr}


def shortcomings(report, at_least):
    """Return all that keeps a report from being a good one, as lines of text."""
    found = [
        f"{kind}: {test}\n{text}" for kind in ("failures", "errors", "skipped") for test, text in report[kind]
    ]
    found += [f"left out, and not there: {name}" for name in report["vain"]]
    found += [f"left behind: {name}" for name in report["left behind"]]
    if report["passed"] < at_least:
        found.append(f"{report['passed']} tests passed, of at least {at_least}")
    if report["passed"] != report["ran"]:
        found.append(f"{report['passed']} tests passed, of {report['ran']}")
    if report["stderr"]:
        found.append(f"said: {report['stderr']}")
    return found


@pytest.mark.parametrize("suite", AT_LEAST)
def test_cpythons_own_tests_pass(suite, directory):
    report = report_of(directory, suite)

    print(f"{suite}: {report['passed']} passed, {len(report['dropped'])} left out")
    assert [] == shortcomings(report, AT_LEAST[suite] or 1)


# -- what keeps the above from passing for nothing --------------------------------------------------


@pytest.mark.parametrize("suite", FAULTS)
def test_a_broken_backend_is_noticed(suite, directory):
    report = report_of(directory, suite, "--fault", FAULTS[suite])

    assert report["failures"] or report["errors"]
    assert [] != shortcomings(report, 0)


def test_a_run_without_tests_falls_short(directory):
    report = report_of(directory, "test_dbm", "--only", "no test has this name")

    assert (0, 0) == (report["ran"], report["passed"])
    assert [f"0 tests passed, of at least {AT_LEAST['test_dbm']}"] == shortcomings(
        report, AT_LEAST["test_dbm"]
    )


GOOD = {
    "ran": 5,
    "passed": 5,
    "failures": [],
    "errors": [],
    "skipped": [],
    "vain": [],
    "left behind": [],
    "stderr": "",
}
BAD = {
    "one fails": {"passed": 4, "failures": [["a", "text"]]},
    "a part of one fails": {"failures": [["a", "text"]]},
    "a class is an error": {"errors": [["A", "text"]]},
    "a class is skipped": {"skipped": [["A", "reason"]]},
    "one neither passes nor fails": {"passed": 4},
    "one is missing": {"ran": 4, "passed": 4},
    "one to leave out is not there": {"vain": ["A.test_a"]},
    "a file stays": {"left behind": ["db"]},
    "a warning": {"stderr": "ResourceWarning: unclosed database"},
}


@pytest.mark.parametrize("change", BAD)
def test_each_shortcoming_of_a_report_is_one(change):
    assert [] == shortcomings(GOOD, 5)
    assert [] != shortcomings({**GOOD, **BAD[change]}, 4 if change != "one is missing" else 5)


class Case(unittest.TestCase):
    """Stands for a class of CPython's tests."""

    def one(self): ...

    def two(self): ...


def test_only_tests_of_the_table_are_left_out_and_its_names_must_exist():
    tests = [Case("one"), Case("two")]
    table = {
        "Case.two": cpython_suite.Why("there although it need not be", since=(3, 99)),
        "Case.three": cpython_suite.Why("misspelt"),
        "Case.four": cpython_suite.Why("of a later version", since=(3, 14)),
    }

    assert (tests[:1], ["Case.two"], ["Case.three"]) == cpython_suite.select(tests, table, (3, 13))
    assert ["Case.three", "Case.four"] == cpython_suite.select(tests, table, (3, 14))[2]
    assert (tests, [], []) == cpython_suite.select(tests, {}, (3, 13))


def ported():
    tree = ast.parse((Path(__file__).with_name("test_ported.py")).read_text("ascii"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_what_is_left_out_has_a_reason_and_the_test_that_takes_its_place_exists():
    reasons = [why for table in cpython_suite.DROPPED.values() for why in table.values()]
    named = {why.instead for why in reasons if why.instead}

    assert [] == [why for why in reasons if not why.reason]
    assert set() == named - ported()
    assert 11 == len(named)
    assert (
        sorted(AT_LEAST) == sorted(cpython_suite.MODULES) == sorted(cpython_suite.DROPPED) == sorted(FAULTS)
    )
