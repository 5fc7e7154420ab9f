"""The public compliance suite of PEP 249, dbapi-compliance, pointed at lsmdbm.dbapi: all of its 36 tests."""

import gc
import inspect

import pytest

from support import sql

dbapi = sql.module()
dbapi20 = sql.suite()

OWN = {"test_nextset", "test_setoutputsize"}  # which the suite asks drivers to write


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")  # two of the tests close nothing
class TestCompliance(dbapi20.DatabaseAPI20Test):
    """Nothing but these two is overridden, and both `CREATE TABLE`s are those of the suite."""

    driver = dbapi

    @pytest.fixture(autouse=True)
    def _directory(self, path):
        self.connect_args = (path,)
        yield
        gc.collect()  # what was left open says so here, and not in another test

    def test_nextset(self):
        connection = self._connect()
        try:
            assert not hasattr(connection.cursor(), "nextset")  # optional: a statement has one set of rows
        finally:
            connection.close()

    def test_setoutputsize(self):
        connection = self._connect()
        try:
            cursor = connection.cursor()
            self.executeDDL1(cursor)
            cursor.execute(f"insert into {self.table_prefix}booze values (?)", ["a" * 1000])
            cursor.setoutputsize(1)
            cursor.setoutputsize(1, 0)
            assert [("a" * 1000,)] == cursor.execute(f"select name from {self.table_prefix}booze").fetchall()
        finally:
            connection.close()


def names_in(suite):
    return {name for name, _ in inspect.getmembers(suite, inspect.isfunction) if name.startswith("test")}


def test_all_36_tests_of_the_suite_run_and_two_of_them_are_ours():
    assert "1.15.0" == dbapi20.__version__
    assert 36 == len(names_in(dbapi20.DatabaseAPI20Test))
    assert names_in(dbapi20.DatabaseAPI20Test) == names_in(TestCompliance)
    assert OWN == {name for name in vars(TestCompliance) if name.startswith("test")}
    assert dbapi20.DatabaseAPI20Test.ddl1 is TestCompliance.ddl1
