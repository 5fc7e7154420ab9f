"""Building: one table file outside of any database, for `ingest`.

Rules
  1. Such a table has number 0, which no database gives away, and no filter: ingest writes it anew.
  2. The file is complete and durable under its name when `finish` returns; before, and if anything goes
     wrong, it is removed.

Thread safety: one thread at a time.  Spec: docs/format.md, Table.
"""

from __future__ import annotations

from lsmdbm._base.errors import error
from lsmdbm._base.options import Options
from lsmdbm._base.paths import name_in_parent, parent_of
from lsmdbm._base.storage import File, Storage
from lsmdbm._engine.jobs import finished
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_writer import Origin, TableWriter

NUMBER = 0  # On disk: never changes.


class Building:
    """A table file on its way.

    Args:
        storage: where.
        path: of the file, which must not exist.
        mode: permission bits of the file, less the umask.
        options: those count that shape blocks.

    Raises:
        NotFoundError: there is no parent directory.
        error: there is something at `path`.
    """

    def __init__(self, storage: Storage, path: str, mode: int, options: Options) -> None:
        self._name = name_in_parent(path)
        self._directory = storage.directory(parent_of(path), mode)
        try:
            self._file: File = self._directory.create(self._name)
        except BaseException:
            self._directory.close()
            raise
        self.path = self._file.path
        try:
            self._writer = TableWriter(
                self._file,
                NUMBER,
                int.from_bytes(storage.urandom(8), "little"),
                block_bytes=options.block_bytes,
                level=options.compression_level if options.compression else None,
                bloom_bits=0,
            )
        except BaseException:
            self.abandon()
            raise

    def add(self, keys: list[bytes], values: list[bytes | None]) -> None:
        """Take one chunk; its keys are above all before."""
        self._writer.add(keys, values)

    def finish(self) -> TableMeta:
        """End the file, and make it durable.  Requires at least one entry."""
        meta = finished(self._writer.finish(Origin(0, 0, 0)))
        self._file.fsync()
        self._directory.sync()
        self._file.close()
        self._directory.close()
        return meta

    def abandon(self) -> None:
        """Remove the file."""
        self._file.close()
        try:
            self._directory.unlink(self._name)
        except error:
            pass  # a file without a footer is no table
        self._directory.close()
