"""Runs inside the newer Python: the tests of lsmdbm that need neither a thread nor another process.

    main("pytest")      the modules of TESTS
    main("test_dbm")    one of the suites of CPython itself; see tests/support/cpython_suite.py

Returns the exit status.  A test that asks for a thread or a process is skipped, and says so.
"""

import importlib.util
import json
import os
import sys
import tempfile

import pytest

ABSENT = ("can't start new thread", "does not support processes")
BEHAVIOUR = """
    mapping ranges batch snapshots transactions delete_range text shelve misuse files verify repair
    dictionaries policies
"""
TESTS = [f"tests/behaviour/test_{name}.py" for name in BEHAVIOUR.split()]
TESTS += ["tests/golden", "tests/unit/test_bloom.py"]
LATE = {"test_dbm_sqlite3"}  # in the library since 3.13
LEAST = 1000  # tests that pass, or something is wrong with the run itself


class Plugin:
    """Turns what is not to be had here into skipped tests, and counts those that passed."""

    passed = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        try:
            return (yield)
        except (RuntimeError, OSError) as error:
            if any(text in str(error) for text in ABSENT):
                pytest.skip(f"here: {error}")
            raise

    def pytest_runtest_logreport(self, report):
        self.passed += report.when == "call" and report.passed


def run_tests():
    plugin = Plugin()
    quiet = ["-p", "no:cacheprovider", "-p", "no:faulthandler", "-q"]
    status = pytest.main([*quiet, *TESTS], plugins=[plugin])
    print(f"{sys.version.split()[0]} on {sys.platform}: {plugin.passed} passed")
    return int(status) or plugin.passed < LEAST


def is_there(name):
    return importlib.util.find_spec(f"test.{name}") is not None


def run_suite(name):
    suites = importlib.import_module("support.cpython_suite")
    suites.is_there = is_there  # where the rest of the library is, which is a zip file here, does not matter
    os.chdir(tempfile.mkdtemp())
    report = suites.run(name)
    if report["missing"]:
        print(f"{name}: {report['missing']}")
        return name not in LATE
    for kind in ("dropped", "vain"):  # their tests are those of another Python
        report.pop(kind)
    passed, ran = report.pop("passed"), report.pop("ran")
    print(f"{name}: {passed} passed of {ran}")
    wrong = {kind: found for kind, found in report.items() if found}
    if wrong:
        print(json.dumps(wrong, indent=1))
    return not 0 < passed == ran or bool(wrong)


def main(what):
    sys.dont_write_bytecode = True
    os.chdir("/lsmdbm")
    return int(run_tests() if what == "pytest" else run_suite(what))
