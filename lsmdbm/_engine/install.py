"""Install: make a new state of the live set durable, in numbered steps, by one new manifest.

    (1) all new tables are complete and synced                            by the job that wrote them
    (2) sync the directory: their names are durable
    (3) create N.man, write it, sync it
    (4) sync the directory: COMMIT POINT, recovery finds the new state from here on
    (5) readers move to the new Version
    (6) sync the directory once more, unlink all older manifests, sync it: the old state cannot come back
    (7) unlink tables and logs that nobody needs                          by the tree

Rules
  1. Interrupted in (3) to (6), it is repeated from (3) with a new number.  N.man may have reached the
     disk: nothing it names is unlinked before a higher manifest has committed.
  2. A failed sync is never tried again: FailedError.  An error while writing the manifest, a full disk
     say, leaves everything as it was.
  3. A system may tell of a sync that failed with the next one only.  So (4) is believed when a second
     sync agrees; until then the older manifests are there, and an opening that finds them installs anew.

Thread safety: under the lock of the store.  Spec: docs/durability.md, Install.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from lsmdbm._base.errors import FailedError, error
from lsmdbm._base.options import Options
from lsmdbm._base.storage import Directory, Storage, write_all
from lsmdbm._engine.names import MANIFEST, Counter, file_name, numbers
from lsmdbm._engine.version import Version
from lsmdbm._format import manifest as manifests
from lsmdbm._format.manifest import MAX_MANIFEST_BYTES, Manifest, TableMeta

UUID_BYTES = 16


def synced(sync: Callable[[], None]) -> None:
    """Call a sync; whatever it says but success is final."""
    try:
        sync()
    except error as exc:
        raise FailedError(exc.errno, f"sync failed: {exc.strerror}", exc.filename) from exc


def check_owner(directory: Directory) -> None:
    """Refuse to build on a directory that somebody else may be writing by now.

    Raises:
        FailedError: LOCK, or the directory, was removed or replaced while this writer had it.
    """
    if directory.has_lost_lock():
        reason = "LOCK was removed or replaced; another process may be writing here"
        raise FailedError(errno.ESTALE, reason, directory.path)


def new_state(
    storage: Storage, options: Options, last_seq: int = 0, level: int = 0, metas: Sequence[TableMeta] = ()
) -> Manifest:
    """Return the state of a new database, all of whose keys are in these tables of one level.

    Which numbers it has is up to whoever installs it.
    """
    return Manifest(
        uuid=storage.urandom(UUID_BYTES),
        number=0,
        next_number=0,
        last_seq=last_seq,
        min_wal=0,
        live_count=sum(meta.entries for meta in metas),
        shape=options.shape(),
        levels=Version().replace((), {level: metas}).levels,
    )


class Installer:
    """Writes the manifests of one database.

    Args:
        current: the manifest that is on disk.

    Attributes:
        are_names_in_doubt: whether step (2) was interrupted.  Then nobody knows what the sync said, and the
            next one may say that all is well without having written a name that the first one did not write.
    """

    def __init__(self, directory: Directory, counter: Counter, current: Manifest) -> None:
        self._directory = directory
        self._counter = counter
        self.current = current
        self.are_names_in_doubt = False

    def install(self, state: Manifest, move_over: Callable[[], None]) -> None:
        """Make `state` durable, whatever its number says, and call `move_over` at step (5).

        Raises:
            FailedError: a sync failed, and nothing is known of the disk any more; or somebody else has it.
            error: the manifest could not be written; the old state holds.
        """
        check_owner(self._directory)
        self.are_names_in_doubt = True
        synced(self._directory.sync)  # (2)
        self.are_names_in_doubt = False
        number = self._write(state)  # (3)
        synced(self._directory.sync)  # (4)
        self.current = state._replace(number=number, next_number=self._counter.next_number)
        move_over()  # (5)
        self.forget_older()  # (6)

    def _write(self, state: Manifest) -> int:
        number, file = self._counter.create(self._directory, MANIFEST)
        next_number = self._counter.next_number
        data = manifests.encode(state._replace(number=number, next_number=next_number))
        if len(data) > MAX_MANIFEST_BYTES:  # no reader would take it: the old state must hold
            self._directory.unlink(file_name(number, MANIFEST))
            raise error(f"{file.path}: manifest of {len(data)} bytes: the limit is {MAX_MANIFEST_BYTES}")
        write_all(file, data, 0)
        synced(file.fsync)
        file.close()
        return number

    def forget_older(self) -> None:
        """Step (6), with every manifest below the current one."""
        older = [n for n in numbers(self._directory.listdir(), MANIFEST) if n < self.current.number]
        if not older:
            return
        synced(self._directory.sync)  # rule 3
        for number in older:
            self._directory.unlink(file_name(number, MANIFEST))
        synced(self._directory.sync)
