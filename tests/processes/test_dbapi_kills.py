"""SIGKILL while SQL commits: each transaction is there as a whole or not at all; what was acknowledged is."""

import random

import lsmdbm
from support import sql
from support.budgets import Budget
from support.child import Child
from support.commits import commit_on, content

sql.module()

LONGEST = 30  # commits until the kill
OPTIONS = {"memtable_bytes": 16 << 10, "block_bytes": 512}  # so that flushes and compactions are hit, too
ROLE = f"commits:{commit_on.__name__}"


def state_of(path, done, last):
    """Return after how many transactions, from `done` to `last`, the database is what it is."""
    with lsmdbm.open(path) as db:
        held = dict(db.items())
    return next((number for number in range(done, last + 1) if content(number) == held), None)


def test_each_transaction_is_there_as_a_whole_or_not_at_all(path, tmp_path, seed):
    with Budget("SQLKILLS", small=60, default=200, crash=1000, long=20_000, unit="commits") as reach:
        done = 0
        for case in reach:
            rng = random.Random(case)
            with Child(tmp_path) as child:
                child.start("run", ROLE, path, done, OPTIONS)
                acknowledged = done
                for _ in range(rng.randrange(1, LONGEST)):
                    line = child.line()
                    assert line.endswith("\n"), "the child has died by itself"
                    acknowledged = int(line)
                child.die()  # wherever it is by now
                acknowledged = max([acknowledged, *map(int, child.lines())])
            found = state_of(path, acknowledged, acknowledged + 1)
            assert found is not None, f"{acknowledged} transactions were acknowledged"
            reach.count(number=found - done)
            reach.count("kills")
            reach.count("unacknowledged commits", found - acknowledged)
            done = found
        with lsmdbm.open(path) as db:
            assert db.verify()
