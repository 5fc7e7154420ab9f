"""One small class per peer.  `base` says what is asked of them, ADAPTERS lists them, ours first."""

from __future__ import annotations

from benchmarks.adapters.base import Adapter
from benchmarks.adapters.ours import Lsmdbm, LsmdbmCache, LsmdbmMmap, LsmdbmMmapProcess, LsmdbmProcess
from benchmarks.adapters.trees import Lmdb, Lsm1, Plyvel, Rocksdict
from benchmarks.adapters.unsorted import (
    DbmDumb,
    DbmGnu,
    DbmNdbm,
    DbmSqlite3,
    Diskcache,
    PickledDict,
    Semidbm,
    Sqlitedict,
)

OURS = Lsmdbm.name

ADAPTERS: dict[str, type[Adapter]] = {
    adapter.name: adapter
    for adapter in (
        Lsmdbm,
        LsmdbmMmap,
        LsmdbmProcess,
        LsmdbmMmapProcess,
        LsmdbmCache,
        Plyvel,
        Rocksdict,
        Lmdb,
        Lsm1,
        DbmSqlite3,
        DbmGnu,
        DbmNdbm,
        DbmDumb,
        Semidbm,
        Sqlitedict,
        Diskcache,
        PickledDict,
    )
}


def installed() -> tuple[list[str], dict[str, str]]:
    """Return the peers that can be run here, and for each other one why it cannot."""
    reasons = {name: adapter.lacks() for name, adapter in ADAPTERS.items()}
    return [name for name in ADAPTERS if not reasons[name]], {
        name: reason for name, reason in reasons.items() if reason
    }
