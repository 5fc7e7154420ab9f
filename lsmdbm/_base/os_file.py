"""OsFile: one descriptor of the operating system, as a File.

Rules
  1. Files are raw descriptors: a Python file object would write its buffer again after a fork and lose it
     when closing fails.
  2. Descriptors 0 to 2 are never used: a stray print must not land in a database.
  3. Every error is an `lsmdbm.error` with the errno and the path.  An OSError without an errno is not the
     system's: a signal handler has raised TimeoutError, say, and its caller is to have that as it is.
  4. A descriptor is closed with the last reference to its owner.
  5. A file is mapped only where a store into the mapping cannot fail: all of it is allocated before, and it
     is not truncated while it is mapped.  A store that fails is a SIGBUS, which ends the process.

Thread safety: all methods may be called from any thread.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat

from lsmdbm._base.errors import NotFoundError, error, is_of_system

try:
    import fcntl
except ImportError:  # pragma: no cover - not a POSIX system
    fcntl = None  # type: ignore[assignment]

SAFE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
READ_ONLY = os.O_RDONLY | SAFE


class Named:  # rule 3
    """Turn errors of the operating system inside the block into lsmdbm errors about `path`.

    Not a generator: from Python 3.13 on, its frame and the error refer to each other, and what the callers
    hold, a lock for one, would live until the next garbage collection.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, OSError) and not isinstance(exc, error) and is_of_system(exc):
            raise renamed(exc, self._path) from None


def renamed(exc: OSError, path: str) -> OSError:
    """Return `exc` as an `lsmdbm.error` about `path`; as it is, if it is not the system's."""
    if not is_of_system(exc):
        return exc
    if isinstance(exc, FileNotFoundError):
        return NotFoundError.at(path)
    if exc.errno == errno.EMFILE:
        limit = f"{os.sysconf('SC_OPEN_MAX')} is the limit of this process, which ulimit -n sets"
        return error(exc.errno, f"{exc.strerror}: {limit}", path)
    return error(exc.errno, exc.strerror, path)


def above_standard_streams(descriptor: int) -> int:
    """Return a descriptor of the same file that is none of 0 to 2."""  # rule 2
    if descriptor > 2 or fcntl is None:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


def still_open(descriptor: int) -> int:
    """Return a descriptor, or raise what the system would say of one that was closed."""
    if descriptor < 0:  # rule 3: Python makes a ValueError of a sync of -1, which is what a closed handle has
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return descriptor


def _full_sync(descriptor: int) -> None:
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(descriptor)
    else:  # pragma: no cover - macOS, whose fsync leaves the data in the drive's cache
        fcntl.fcntl(descriptor, full)


_data_sync = getattr(os, "fdatasync", _full_sync) if not hasattr(fcntl, "F_FULLFSYNC") else _full_sync


def _mapped(descriptor: int, length: int) -> mmap.mmap:
    """Return a mapping of a file.  It has a descriptor of its own, for which rule 2 holds too."""
    taken: list[int] = []
    try:
        while not taken or taken[-1] <= 2:
            taken.append(os.open(os.devnull, READ_ONLY))
        return mmap.mmap(descriptor, length)
    finally:
        for each in taken:
            os.close(each)


def _place(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def place_of(name: str, directory: int) -> tuple[int, int] | None:
    """Return what tells the file at a name from every other one; None if nothing can be found there."""
    try:
        return _place(os.stat(name, dir_fd=directory, follow_symlinks=False))
    except OSError as exc:
        if not is_of_system(exc):
            raise
        return None


class Descriptor:
    """Owns a descriptor, and closes it once, however often that is interrupted and called again."""

    __slots__ = ("_closing", "_descriptor")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._closing = map(os.close, (descriptor,))  # its one step takes the number and closes it, in C

    def place(self) -> tuple[int, int]:
        """Return what tells this file or directory from every other one on the machine."""
        return _place(os.fstat(self._descriptor))

    def close(self) -> None:
        self._descriptor = -1
        try:
            next(self._closing, None)
        except OSError as exc:  # the descriptor is gone either way, and every byte that counts was synced
            if not is_of_system(exc):
                raise

    def __del__(self) -> None:  # rule 4: eviction from the table cache drops a reference, no more
        if hasattr(self, "_closing"):
            self.close()


class OsFile(Descriptor):
    """A File on a descriptor of the operating system."""

    __slots__ = ("_mapping", "path")

    def __init__(self, descriptor: int, path: str) -> None:
        super().__init__(descriptor)
        self.path = path
        self._mapping: mmap.mmap | None = None

    def pread(self, length: int, offset: int) -> bytes:
        try:
            data = os.pread(self._descriptor, length, offset)
            if len(data) == length or not data:
                return data
            parts = [data]
            got = len(data)
            while got < length:
                data = os.pread(self._descriptor, length - got, offset + got)
                if not data:
                    break
                parts.append(data)
                got += len(data)
            return b"".join(parts)
        except OSError as exc:
            raise renamed(exc, self.path) from None

    def pwrite(self, data: bytes, offset: int) -> int:
        mapping = self._mapping
        if mapping is not None:
            mapping[offset : offset + len(data)] = data  # no call of the system: rule 5
            return len(data)
        try:
            return os.pwrite(self._descriptor, data, offset)
        except OSError as exc:
            raise renamed(exc, self.path) from None

    def truncate(self, length: int) -> None:
        with Named(self.path):
            if self._mapping is not None:  # rule 5
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            os.ftruncate(self._descriptor, length)

    def map(self, length: int) -> None:
        with Named(self.path):
            os.posix_fallocate(self._descriptor, 0, length)  # rule 5
            self._mapping = _mapped(self._descriptor, length)

    def unmap(self, length: int) -> None:
        mapping, self._mapping = self._mapping, None
        if mapping is not None:
            mapping.close()
            self.truncate(length)

    def fdatasync(self) -> None:
        with Named(self.path):  # on Linux the same as msync, which would hold the GIL: decision 13
            _data_sync(still_open(self._descriptor))

    def fsync(self) -> None:
        with Named(self.path):
            _full_sync(still_open(self._descriptor))

    def size(self) -> int:
        with Named(self.path):
            return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        self._mapping = None
        super().close()

    def chmod(self, bits: int) -> None:
        """Set the permission bits, where the system has them and they differ."""
        if stat.S_IMODE(os.fstat(self._descriptor).st_mode) != bits and hasattr(os, "fchmod"):
            os.fchmod(self._descriptor, bits)

    def is_regular(self) -> bool:
        """Return whether this is a plain file: no directory, FIFO or device."""
        return stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def is_at(self, name: str, directory: int) -> bool:
        """Return whether `name` in the directory is still this very file."""
        return place_of(name, directory) == self.place()

    def has_one_name(self) -> bool:
        """Return whether no hard link makes this file another one too."""
        return os.fstat(self._descriptor).st_nlink == 1

    def try_lock(self) -> bool:
        """Take the exclusive lock without waiting; False if another process has it.

        flock, not a POSIX record lock: that one vanishes when any descriptor of the file is closed.
        """
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
