"""Offers: what words may become, for those who complete them.

Thread safety: one thread at a time.
"""

from __future__ import annotations

import os
from itertools import islice

from lsmdbm.cli.escapes import escaped
from lsmdbm.database import open

MOST = 50  # keys that are offered
VARIABLE = "_LSMDBM_COMPLETE"  # where the scripts say what they ask for


def keys(path: str, beginning: str) -> list[str]:
    """Return some keys that begin so, as text; those that have to be escaped are left out."""
    try:
        with open(path) as db:
            part = islice(db.range(prefix=beginning.encode("utf-8", "surrogateescape")), MOST)
            return [text for key in part if (text := escaped(key)).encode() == key]
    except (OSError, ValueError):  # no database, a damaged one: there is nothing to offer
        return []


def files(path: str, beginning: str) -> list[str]:
    """Return the names in the directory of a database that begin so."""
    try:
        return sorted(name for name in os.listdir(path) if name.startswith(beginning))
    except OSError:
        return []
