"""CPython's tests of the mapping protocol, for a database and for a shelf over one.

`unittest` loads this module for `support.cpython_suite`; importing it needs no `test.mapping_tests`.

Thread safety: none.
"""

from __future__ import annotations

import os
import shelve
import shutil
import tempfile
import unittest
from typing import Any

import lsmdbm


class DatabaseCase:
    """A database, with bytes for keys and values."""

    def _reference(self) -> dict[Any, Any]:
        return {b"1": b"2", b"key1": b"value1", b"key2": b"value2"}

    def _empty_mapping(self: Any) -> Any:
        directory = tempfile.mkdtemp(dir=os.curdir)
        self.addCleanup(shutil.rmtree, directory)
        database = lsmdbm.open(os.path.join(directory, "db"), "c")
        self.addCleanup(database.close)
        return database


class ShelfCase(DatabaseCase):
    """A shelf over a database of which `dbm` has never heard."""

    WRITEBACK = False

    def _reference(self) -> dict[Any, Any]:
        return {"key1": "value1", "key2": 2, "key3": (1, 2, 3)}

    def _empty_mapping(self: Any) -> Any:
        shelf: Any = shelve.Shelf(super()._empty_mapping(), writeback=self.WRITEBACK)
        self.addCleanup(shelf.close)
        return shelf


class WritebackShelfCase(ShelfCase):
    """The same, with a cache of what was read."""

    WRITEBACK = True


def load_tests(loader: unittest.TestLoader, *_: object) -> unittest.TestSuite:
    """Return the tests of the protocol for each of the classes above."""
    from test import mapping_tests

    tests = unittest.TestSuite()
    for case in (DatabaseCase, ShelfCase, WritebackShelfCase):
        kind = type(case.__name__, (case, mapping_tests.BasicTestMappingProtocol), {})
        tests.addTests(loader.loadTestsFromTestCase(kind))
    return tests
