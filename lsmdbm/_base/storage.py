"""The seam to the operating system: what lsmdbm asks of files, directories, locks, clock and randomness.

Nothing else in lsmdbm touches a file.  `os_storage` is the system itself; tests put a file system in memory
behind the same protocols, one that loses what was not synced.

Rules, whatever stands behind the protocols
  1. Files are read and written at explicit offsets, and nothing is held back in a buffer.
  2. Files are created under their final name, and only if it is free.  Nothing is renamed.
  3. Every error is an `lsmdbm.error` with the errno and the path.
  4. Whoever drops the last reference to a File closes it.

Thread safety: all methods may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lsmdbm._base.process import Process


class File(Protocol):
    """One open file."""

    path: str

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`: fewer only at the end of the file."""

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write at `offset` and return how many bytes were written, which may be fewer than given."""

    def truncate(self, length: int) -> None:
        """Cut the file to `length` bytes."""

    def fdatasync(self) -> None:
        """Make the bytes of the file survive power loss."""

    def fsync(self) -> None:
        """Make the bytes and the metadata of the file survive power loss."""

    def size(self) -> int:
        """Return the length of the file in bytes."""

    def map(self, length: int) -> None:
        """Allocate all of a new file of `length` zeros, and have `pwrite` store into a mapping of it.

        Such a `pwrite` keeps the GIL, takes effect as a whole unless the process is killed in it, and does
        not fail.  It must not reach beyond `length`.  If this call fails, the file may be longer than it
        was, but is not mapped.
        """

    def unmap(self, length: int) -> None:
        """Have `pwrite` ask the system again, and cut the file to `length`; nothing if it is not mapped."""

    def close(self) -> None:
        """Give the descriptor back.  Closing twice is harmless."""


class Directory(Protocol):
    """One open directory: the files of one database."""

    path: str

    def create(self, name: str) -> File:
        """Create a file that does not exist yet; `error` with EEXIST if it does."""

    def open(self, name: str) -> File:
        """Open an existing regular file for reading."""

    def lock(self, name: str, label: bytes) -> File | None:
        """Take the exclusive lock on `name`, creating the file; None if another process has it.

        `label` is written into the file for messages, unless a hard link makes it another file too.  The
        lock is held until the returned File is closed.
        """

    def why_not_mapped(self) -> str:
        """Return why files here must not be mapped; "" if they may."""

    def has_lost_lock(self) -> bool:
        """Return whether the file that `lock` gave out here is no longer at its name.

        Somebody removed or replaced it, or the whole directory: whoever locks the name now gets another file.
        """

    def peek(self, name: str) -> bytes:
        """Return up to 256 bytes of a small file, b"" if it cannot be read."""

    def link(self, name: str, target: Directory) -> None:
        """Give a file of this directory the same name in `target` too."""

    def unlink(self, name: str) -> None:
        """Remove a name; no error if it is gone."""

    def listdir(self) -> list[str]:
        """Return the names in the directory, in no order."""

    def length(self, name: str) -> int | None:
        """Return the length of a file in bytes; None if there is no such name."""

    def sync(self) -> None:
        """Make the names in the directory survive power loss."""

    def identity(self) -> tuple[int, int]:
        """Return what tells this directory from every other one on the machine."""

    def take_mode(self, source: Directory, *, itself: bool) -> None:
        """Give the file LOCK, and the directory `itself` if asked for, their permission bits in `source`.

        Their owner may read and write them in any case: a copy of what is read-only is there to be written.
        """

    def close(self) -> None:
        """Give the descriptor back.  Closing twice is harmless."""


class Storage(Protocol):
    """A file system, its clock and its source of randomness."""

    def kind(self, path: str) -> str:
        """Return `"missing"`, `"directory"`, `"file"` or `"other"`, following symbolic links."""

    def is_link(self, path: str) -> bool:
        """Return whether `path` itself is a symbolic link, wherever that leads."""

    def mkdir(self, path: str, mode: int) -> None:
        """Create one directory with `mode & ~umask`."""

    def rmdir(self, path: str) -> None:
        """Remove an empty directory; `error` with ENOTEMPTY if there is anything in it."""

    def unlink(self, path: str) -> None:
        """Remove a regular file."""

    def directory(self, path: str, mode: int) -> Directory:
        """Open a directory; the first file created in it gets `mode & ~umask`, all later ones its bits."""

    def sync_parent(self, path: str) -> None:
        """Make the name `path` itself survive power loss."""

    def pid(self) -> int:
        """Return the number of this process."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def urandom(self, length: int) -> bytes:
        """Return unpredictable bytes."""

    def start_thread(self, name: str, work: Callable[[], None]) -> Callable[[], None] | None:
        """Have `work` done by a thread that does not keep the process alive.

        Returns:
            what waits for its end; None if there can be no thread.
        """

    def start_process(self, module: str) -> Process | None:
        """Have `main()` of a module run by a process that sees the same files.

        Returns:
            the process; None if there can be none.
        """


def write_all(file: File, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`, in as many calls as the system wants."""
    written = file.pwrite(data, offset)
    while written < len(data):
        written += file.pwrite(data[written:], offset + written)


def directory_mode(mode: int) -> int:
    """Return the permission bits of a directory for files of these: `x` wherever there is `r`."""
    return mode | (mode & 0o444) >> 2
