"""CPython's own dbm and shelve tests, run against lsmdbm in a process of their own.

    python -m support.cpython_suite test_dbm_gnu [--fault NAME] [--only PATTERN]

Work in an empty directory: the tests leave nothing there, and expect nothing.  Standard output is one line of
JSON, the report; what the tests themselves print goes to standard error.

The tests are those of the running interpreter; none is copied.  They name their backends `dbm.something`, so
they are given modules of that name:

  1. `dbm.lsm`, with the public names of lsmdbm, is the only backend that the package `dbm` knows, the default
     one, and what `dbm.whichdb` answers.  A fresh copy of `dbm`, which one test imports, learns the same.
  2. `dbm.dumb`, `dbm.gnu`, `dbm.ndbm` and `dbm.sqlite3` are stand-ins for the test module about each of them.
  3. Where the tests remove a database by `unlink`, a directory goes too.

What is left out stands in `DROPPED`, test by test, with the reason.

Thread safety: none; one run changes the `dbm` and the `test.support` of its process for good.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import shutil
import sys
import types
import unittest
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import lsmdbm

BACKEND = "dbm.lsm"
MODULES = {  # what is asked for by name: the module that holds the tests
    **{
        name: f"test.{name}"
        for name in (
            "test_dbm",
            "test_shelve",
            "test_dbm_dumb",
            "test_dbm_gnu",
            "test_dbm_ndbm",
            "test_dbm_sqlite3",
        )
    },
    "mapping_tests": "support.mapping_cases",  # the tests are classes to derive from
}


class Why(NamedTuple):
    """Why a test is left out.

    Attributes:
        reason: what it asks that does not hold for us.
        instead: our test in tests/conformance/test_ported.py that keeps what it is about; None if nothing is.
        since: the first minor version that has the test.
    """

    reason: str
    instead: str | None = None
    since: tuple[int, int] = (3, 10)


DUMB_FILES = "looks at the .dat and .dir files of dbm.dumb"
DUMB_FORMAT = "about the file format of dbm.dumb"
SQLITE = "reads or damages the database with the module sqlite3"
ONE_FILE = "takes the mode of one file for that of the database, and is skipped for root"
COERCED = "numbers become text in dbm.sqlite3; here they are a TypeError"

DROPPED = {
    "test_dbm": {
        "WhichDBTestCase.test_whichdb_ndbm": Why("about dbm.ndbm"),
        "WhichDBTestCase.test_whichdb_sqlite3": Why("about dbm.sqlite3", since=(3, 13)),
        "WhichDBTestCase.test_whichdb_sqlite3_existing_db": Why("about dbm.sqlite3", since=(3, 13)),
    },
    "test_shelve": {},
    "test_dbm_dumb": {
        "DumbDBMTestCase.test_dumbdbm_creation_mode": Why(
            DUMB_FILES, "test_files_are_created_with_the_mode_less_the_umask"
        ),
        "DumbDBMTestCase.test_nonascii_filename": Why(DUMB_FILES, "test_a_name_beyond_ascii_is_found_again"),
        "DumbDBMTestCase.test_readonly_files": Why(
            DUMB_FILES, "test_read_only_files_in_a_read_only_directory_can_be_read"
        ),
        "DumbDBMTestCase.test_line_endings": Why(DUMB_FORMAT),
        "DumbDBMTestCase.test_eval": Why(DUMB_FORMAT),
        "DumbDBMTestCase.test_missing_data": Why(DUMB_FORMAT),
        "DumbDBMTestCase.test_missing_index": Why(DUMB_FORMAT),
        "DumbDBMTestCase.test_sync_empty_unmodified": Why(DUMB_FORMAT, since=(3, 13)),
        "DumbDBMTestCase.test_sync_nonempty_unmodified": Why(DUMB_FORMAT, since=(3, 13)),
        "DumbDBMTestCase.test_invalid_flag": Why(
            "takes 'rf' for invalid, which gdbm allows",
            "test_an_invalid_flag_is_a_value_error_and_an_os_error",
        ),
    },
    "test_dbm_gnu": {
        "TestGdbm.test_reorganize": Why(
            "wants one file, whose size a delete does not change",
            "test_reorganize_gives_back_what_was_deleted",
        ),
        "TestGdbm.test_context_manager": Why(
            "wants the text 'GDBM object ...'", "test_a_with_block_closes_and_says_so_afterwards"
        ),
        "TestGdbm.test_disallow_instantiation": Why("about the type of dbm.gnu"),
    },
    "test_dbm_ndbm": {},
    "test_dbm_sqlite3": {
        "Misuse.test_misuse_iter_close1": Why(
            "stores an int", "test_an_iterator_ends_with_an_error_when_its_database_is_closed", (3, 13)
        ),
        "Misuse.test_misuse_iter_close2": Why(
            "stores an int", "test_an_iterator_ends_with_an_error_when_its_database_is_closed", (3, 13)
        ),
        "Misuse.test_misuse_reinit": Why("about the type of dbm.sqlite3", since=(3, 13)),
        "ReadWrite.test_readwrite_null_key": Why(
            "None is an `error` in dbm.sqlite3", "test_numbers_and_none_are_type_errors", (3, 13)
        ),
        "ReadWrite.test_readwrite_null_value": Why(
            "None is an `error` in dbm.sqlite3", "test_numbers_and_none_are_type_errors", (3, 13)
        ),
        "ReadWrite.test_readwrite_unique_key": Why(SQLITE, "test_a_key_is_there_once_or_not_at_all", (3, 13)),
        "ReadWrite.test_readwrite_delete": Why(SQLITE, "test_a_key_is_there_once_or_not_at_all", (3, 13)),
        "DataTypes.test_datatypes_values": Why(COERCED, "test_numbers_and_none_are_type_errors", (3, 13)),
        "DataTypes.test_datatypes_keys": Why(COERCED, "test_numbers_and_none_are_type_errors", (3, 13)),
        "DataTypes.test_datatypes_replace_coerced": Why(
            COERCED, "test_numbers_and_none_are_type_errors", (3, 13)
        ),
        **{
            f"ReadOnlyFilesystem.test_readonly_{name}": Why(
                ONE_FILE, "test_read_only_files_in_a_read_only_directory_can_be_read", (3, 14)
            )
            for name in ("file_read", "file_write", "dir_read", "dir_write")  # in bug fixes of 3.13 too
        },
        "URI.test_uri_substitutions": Why("about the URIs of SQLite", since=(3, 13)),
        "URI.test_uri_windows": Why("about the URIs of SQLite", since=(3, 13)),
        "CorruptDatabase.test_corrupt_readwrite": Why(
            SQLITE, "test_a_damaged_database_answers_with_its_own_error", (3, 13)
        ),
        "CorruptDatabase.test_corrupt_force_new": Why(
            SQLITE, "test_a_damaged_database_can_be_begun_anew", (3, 13)
        ),
    },
    "mapping_tests": {},
}

FAULTS: dict[str, tuple[str, Callable[..., Any]]] = {  # a method of Database, and what takes its place
    "a missing key reads as None": ("__getitem__", lambda db, key: db.get(key)),
    "keys() is empty": ("keys", lambda db: []),
    "keys() goes down": ("keys", lambda db: [*reversed(db)]),
    "a database is always true": ("__bool__", lambda db: True),
    "close() does nothing": ("close", lambda db: None),
    "no handle is read-only": ("_writable", lambda db: db._store),
}


class Result(unittest.TestResult):
    """A result that counts what passed, too."""

    passed = 0

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802 - the name unittest calls
        super().addSuccess(test)
        self.passed += 1


def flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Yield the tests of a suite, in order."""
    for part in suite:
        if isinstance(part, unittest.TestSuite):
            yield from flat(part)
        else:
            yield part


def short(test: unittest.TestCase) -> str:
    """Return `Class.method`."""
    return ".".join(test.id().rsplit(".", 2)[1:])


def select(
    tests: list[unittest.TestCase], table: dict[str, Why], version: tuple[int, int]
) -> tuple[list[unittest.TestCase], list[str], list[str]]:
    """Return the tests to run, the names of those that `table` drops, and the names it has in vain.

    A name is in vain if no test has it although this version should.  A test from before its `since`, in a
    bug fix release say, is dropped all the same.
    """
    names = {short(test) for test in tests}
    kept = [test for test in tests if short(test) not in table]
    dropped = [name for name in table if name in names]
    vain = [name for name, why in table.items() if name not in names and version >= why.since]
    return kept, dropped, vain


def shim(name: str, **more: object) -> types.ModuleType:
    """Return a module of that name with the public names of lsmdbm."""
    module = types.ModuleType(name)
    vars(module).update({public: getattr(lsmdbm, public) for public in lsmdbm.__all__}, **more)
    sys.modules[name] = module
    return module


def open_like_dumb(file: object, flag: str = "c", mode: int = 0o666) -> lsmdbm.Database:
    """Open with the default flag of dbm.dumb."""
    return lsmdbm.open(file, flag, mode)


STAND_INS: dict[str, tuple[str, dict[str, object]]] = {  # test module: backend it is about, its extra names
    "test_dbm_dumb": ("dbm.dumb", {"open": open_like_dumb}),
    "test_dbm_gnu": ("dbm.gnu", {}),
    "test_dbm_ndbm": ("dbm.ndbm", {"library": "lsmdbm"}),
    "test_dbm_sqlite3": ("dbm.sqlite3", {"_normalize_uri": None}),
}


def teller(before: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    """Return a `whichdb` that knows our databases, and asks `before` about everything else."""

    def whichdb(filename: Any) -> str | None:
        try:
            lsmdbm.open(filename, "r").close()
        except lsmdbm.CorruptionError:
            return BACKEND
        except lsmdbm.error:
            return before(filename)
        return BACKEND

    return whichdb


def adopt(package: Any, shims: list[types.ModuleType]) -> None:
    """Make a copy of the package `dbm` know the first shim as its backend, and the others by name."""
    package._names = [BACKEND]
    package._modules = {BACKEND: shims[0]}
    package._defaultmod = shims[0]
    package.whichdb = teller(package.whichdb)
    for module in shims:
        setattr(package, module.__name__.removeprefix("dbm."), module)


def prepare(name: str) -> None:
    """Put the shims in place for one test module, which must not have been imported yet."""
    import dbm

    from test.support import import_helper, os_helper

    shims = [shim(BACKEND)]
    if name in STAND_INS:
        backend, more = STAND_INS[name]
        shims.append(shim(backend, **more))
    adopt(dbm, shims)

    fresh, unlink = import_helper.import_fresh_module, os_helper.unlink

    def import_fresh_module(module: str, *args: Any, **kwargs: Any) -> Any:
        copy = fresh(module, *args, **kwargs)
        if module == "dbm":
            adopt(copy, shims)
        return copy

    def unlink_or_remove(path: Any) -> None:
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            unlink(path)

    import_helper.import_fresh_module = import_fresh_module
    os_helper.unlink = unlink_or_remove


def load(name: str) -> list[unittest.TestCase]:
    """Import a test module and return its tests."""
    module: Any = importlib.import_module(MODULES[name])
    if name == "test_dbm_dumb":
        module._delete_files = lambda: shutil.rmtree(module._fname, ignore_errors=True)
    return [*flat(unittest.defaultTestLoader.loadTestsFromModule(module))]


def is_there(name: str) -> bool:
    """Tell whether the standard library has `test.name`; some other package may be called `test` too."""
    try:
        spec = importlib.util.find_spec(f"test.{name}")
    except ImportError:  # there is no `test` at all
        return False
    return spec is not None and spec.origin == os.path.join(
        os.path.dirname(os.__file__), "test", f"{name}.py"
    )


def run(name: str, only: str = "", *, stop_early: bool = False) -> dict[str, Any]:
    """Run one test module and return the report.

    Args:
        only: run no test whose name does not contain this.
        stop_early: stop at the first failure.
    """
    if not is_there(name):
        return {"missing": f"the standard library of this Python has no test.{name}"}

    prepare(name)
    tests, dropped, vain = select(load(name), DROPPED[name], sys.version_info[:2])
    result = Result()
    result.failfast = stop_early
    unittest.TestSuite(test for test in tests if only in short(test)).run(result)
    return {
        "missing": None,
        "ran": result.testsRun,
        "passed": result.passed,
        "failures": [[test.id(), text] for test, text in result.failures]
        + [[test.id(), "unexpected success"] for test in result.unexpectedSuccesses],
        "errors": [[test.id(), text] for test, text in result.errors],
        "skipped": [[test.id(), reason] for test, reason in result.skipped],
        "dropped": dropped,
        "vain": vain,
        "left behind": sorted(os.listdir()),
    }


def main() -> None:
    """Run what the command line names, and print the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=MODULES)
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    if arguments.fault:
        setattr(lsmdbm.Database, *FAULTS[arguments.fault])
    with contextlib.redirect_stdout(sys.stderr):
        report = run(arguments.name, arguments.only, stop_early=bool(arguments.fault))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
