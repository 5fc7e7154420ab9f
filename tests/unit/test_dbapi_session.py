"""Session: several tables of a connection share one transaction, and each is told of everything."""

import random

import pytest

import lsmdbm
from support import sql

sql.module()

from lsmdbm.dbapi.session import Enlisted, Session  # noqa: E402 - a module to be skipped comes first

LEVELS = 4


@pytest.fixture
def db(path):
    with lsmdbm.open(path, "n") as db:
        yield db


@pytest.fixture
def session(db):
    return Session(db, False, lambda: True)


@pytest.fixture
def tables(session):
    return [Enlisted(session) for _ in range(3)]


def test_a_table_may_be_told_of_an_end_without_a_begin(tables, db):
    """So it is with one that the transaction has made."""
    for table in tables:
        table.Sync()
        table.Commit()
        table.Rollback()
    assert {} == dict(db)


def test_a_commit_that_every_table_is_told_of_is_one(session, tables, db):
    session.transaction["a"] = "1"
    written = []
    for table in tables:
        table.Sync()
        written.append((dict(db), db.stats().written_bytes))
    assert [({b"a": b"1"}, written[0][1])] * 3 == written


def test_a_commit_that_fails_is_told_once_and_forgotten(session, tables, db):
    session.transaction["a"] = session.source.get("a", b"") + b"1"
    db["a"] = "other"
    with pytest.raises(lsmdbm.ConflictError):
        tables[0].Sync()
    tables[1].Sync()
    tables[1].Rollback()

    assert {b"a": b"other"} == dict(db) == dict(session.source)


def test_a_level_that_a_later_table_is_told_of_stays_where_the_first_has_set_it(session, tables):
    one, other, _ = tables
    session.transaction["a"] = "1"
    one.Savepoint(0)
    session.transaction["b"] = "2"
    other.Begin()
    other.Savepoint(0)  # it writes for the first time
    session.transaction["c"] = "3"
    one.RollbackTo(0)
    other.RollbackTo(0)

    assert [b"a"] == [*session.source]


def test_what_only_read_ends_with_its_last_cursor_outside_of_a_transaction(db):
    is_in_transaction = False
    session = Session(db, False, lambda: is_in_transaction)
    for expected in (0, 1):
        session.cursor_opened()
        session.cursor_opened()
        assert 0 == len(session.source)
        session.cursor_closed()
        assert 1 == db.stats().snapshots
        session.cursor_closed()
        assert expected == db.stats().snapshots
        is_in_transaction = True
    session.rollback()


def test_what_no_table_was_told_to_commit_is_settled(db):
    is_in_transaction = True
    session = Session(db, False, lambda: is_in_transaction)
    session.transaction["a"] = "1"
    session.settle()
    assert {} == dict(db)
    is_in_transaction = False
    session.settle()
    assert {b"a": b"1"} == dict(db)


def test_levels_are_those_of_a_stack_of_copies(session, tables, seed):
    """As SQLite tells of them: a table from its first write on, then of the innermost level alone."""
    rng = random.Random(f"{seed} levels")
    for _ in range(30):
        saved, model, begun = [], {}, set()  # copies of the model, one a level
        for _ in range(40):
            action = rng.choice(["write", "write", "savepoint", "release", "roll back"])
            level = rng.randrange(len(saved)) if saved else None
            if action == "write":
                table = rng.randrange(len(tables))
                if table not in begun:
                    begun.add(table)
                    tables[table].Begin()
                    if saved:
                        tables[table].Savepoint(len(saved) - 1)
                key = rng.choice("abcdef").encode()
                session.transaction[key] = model[key] = b"%d" % rng.randrange(100)
            elif action == "savepoint" and len(saved) < LEVELS:
                saved.append(model.copy())
                for table in begun:
                    tables[table].Savepoint(len(saved) - 1)
            elif action == "release" and saved:
                del saved[level:]
                for table in begun:
                    tables[table].Release(level)
            elif action == "roll back" and saved:
                del saved[level + 1 :]
                model = saved[level].copy()
                for table in begun:
                    tables[table].RollbackTo(level)
            assert model == dict(session.source)
        tables[0].Rollback()
