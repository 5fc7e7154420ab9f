"""lsmdbm.dbapi, as its tests import it, and what they share.

    dbapi = module()        lsmdbm.dbapi; where apsw is not installed, the calling test module is skipped
    dbapi20 = suite()       the compliance suite of PEP 249, and `suite("pandas")` pandas, likewise

With LSMDBM_SQL=required, which tox sets in the environment that installs them, that is an error: a run that
skips everything would look as green as one that passes.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

MODULE = "lsmdbm.dbapi"


def module() -> Any:
    """Return lsmdbm.dbapi; without apsw, skip the module that asks, or fail if it is required."""
    if os.environ.get("LSMDBM_SQL") != "required":
        pytest.importorskip("apsw", reason="apsw is not installed: it comes with lsmdbm[sql]")
    return importlib.import_module(MODULE)


def suite(name: str = "dbapi20") -> Any:
    """Return a module of the extra sqltest; where it is not installed, skip, or fail if it is required."""
    if os.environ.get("LSMDBM_SQL") != "required":
        pytest.importorskip(name, reason=f"{name} is not installed: it is for the environment sql of tox")
    return importlib.import_module(name)


def all_of(connection: Any) -> list[tuple[bytes, bytes]]:
    """Return all rows of kv, by SQL."""
    rows: list[tuple[bytes, bytes]] = connection.cursor().execute("SELECT * FROM kv ORDER BY key").fetchall()
    return rows


def plan(connection: Any, sql: str, parameters: Any = ()) -> list[str]:
    """Return what SQLite says of how it will answer, step by step."""
    rows = connection.cursor().execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
    return [detail for *_, detail in rows]
