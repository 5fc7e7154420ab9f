"""A sync that never ends.  Alone here: what a daemon thread runs keeps the globals of its module alive."""

from __future__ import annotations

import threading

import lsmdbm

is_syncing = threading.Event()


def sync(descriptor: int) -> None:
    """Stand in for os.fdatasync."""
    is_syncing.set()
    threading.Event().wait()


def put_and_sync(db: lsmdbm.Database) -> None:
    """Have something to sync at every level."""
    db[b"900000"] = b"900000"
    db.sync()
