"""The seam to the operating system: files, directories, locks, clock and randomness.

Nothing else in lsmdbm touches a file.  Tests put a file system in memory behind the same protocols,
one that loses what was not synced.

Rules
  1. Files are raw descriptors read and written at explicit offsets: a Python file object would write
     its buffer again after a fork and lose it when closing fails.
  2. Files are created with O_EXCL under their final name.  Nothing is renamed.
  3. Names are opened relative to a descriptor of the directory, so that a directory swapped during
     use is not followed, and never through a symbolic link.
  4. Descriptors 0 to 2 are never used: a stray print must not land in a database.
  5. Every error is an `lsmdbm.error` with the errno and the path.
  6. Whoever drops the last reference to a File closes it.
  7. A file is mapped only where a store into the mapping cannot fail: all of it is allocated before, and it
     is not truncated while it is mapped.  A store that fails is a SIGBUS, which ends the process.

Thread safety: all methods may be called from any thread.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from lsmdbm._base.errors import NotFoundError, error
from lsmdbm._base.forking import importing

if TYPE_CHECKING:
    from lsmdbm._base.process import Process

try:
    import fcntl
except ImportError:  # pragma: no cover - not a POSIX system
    fcntl = None  # type: ignore[assignment]

_SAFE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
READ_ONLY = os.O_RDONLY | _SAFE
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE
LOCK_FILE = os.O_RDWR | os.O_CREAT | _SAFE
DIRECTORY = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_DIRECTORY", 0)
UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
MAPPABLE = {"ext4", "xfs", "tmpfs"}  # what is allocated there is written in place
MOUNTS = "/proc/self/mountinfo"


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


class _Named:  # rule 5
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
        if isinstance(exc, OSError) and not isinstance(exc, error):
            raise renamed(exc, self._path) from None


def renamed(exc: OSError, path: str) -> error:
    """Return `exc` as an `lsmdbm.error` about `path`."""
    if isinstance(exc, FileNotFoundError):
        return NotFoundError.at(path)
    return error(exc.errno, exc.strerror, path)


def _above_standard_streams(descriptor: int) -> int:  # rule 4
    if descriptor > 2 or fcntl is None:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


def _still_open(descriptor: int) -> int:
    if descriptor < 0:  # rule 5: Python makes a ValueError of a sync of -1, which is what a closed handle has
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return descriptor


def _full_sync(descriptor: int) -> None:
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(descriptor)
    else:  # pragma: no cover - macOS, whose fsync leaves the data in the drive's cache
        fcntl.fcntl(descriptor, full)


_data_sync = getattr(os, "fdatasync", _full_sync) if not hasattr(fcntl, "F_FULLFSYNC") else _full_sync


def write_all(file: File, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`, in as many calls as the system wants."""
    written = file.pwrite(data, offset)
    while written < len(data):
        written += file.pwrite(data[written:], offset + written)


def _mapped(descriptor: int, length: int) -> mmap.mmap:
    """Return a mapping of a file.  It has a descriptor of its own, for which rule 4 holds too."""
    taken: list[int] = []
    try:
        while not taken or taken[-1] <= 2:
            taken.append(os.open(os.devnull, READ_ONLY))
        return mmap.mmap(descriptor, length)
    finally:
        for each in taken:
            os.close(each)


def _file_system(device: int) -> str:
    """Return the type of the file system on a device, by the mount table; "" if it is not there."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(MOUNTS, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                mount, _, source = line.partition(" - ")
                if mount.split(" ")[2] == number:
                    return source.split(" ")[0]
    except OSError:
        pass
    return ""


class _Descriptor:
    """Owns a descriptor, and closes it once, however often that is interrupted and called again."""

    __slots__ = ("_closing", "_descriptor")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._closing = map(os.close, (descriptor,))  # its one step takes the number and closes it, in C

    def close(self) -> None:
        self._descriptor = -1
        try:
            next(self._closing, None)
        except OSError:  # the descriptor is gone either way, and every byte that counts was synced
            pass

    def __del__(self) -> None:  # rule 6: eviction from the table cache drops a reference, no more
        if hasattr(self, "_closing"):
            self.close()


class OsFile(_Descriptor):
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
            mapping[offset : offset + len(data)] = data  # no call of the system: rule 7
            return len(data)
        try:
            return os.pwrite(self._descriptor, data, offset)
        except OSError as exc:
            raise renamed(exc, self.path) from None

    def truncate(self, length: int) -> None:
        with _Named(self.path):
            if self._mapping is not None:  # rule 7
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            os.ftruncate(self._descriptor, length)

    def map(self, length: int) -> None:
        with _Named(self.path):
            os.posix_fallocate(self._descriptor, 0, length)  # rule 7
            self._mapping = _mapped(self._descriptor, length)

    def unmap(self, length: int) -> None:
        mapping, self._mapping = self._mapping, None
        if mapping is not None:
            mapping.close()
            self.truncate(length)

    def fdatasync(self) -> None:
        with _Named(self.path):  # on Linux the same as msync, which would hold the GIL: decision 13
            _data_sync(_still_open(self._descriptor))

    def fsync(self) -> None:
        with _Named(self.path):
            _full_sync(_still_open(self._descriptor))

    def size(self) -> int:
        with _Named(self.path):
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
        return _place_of(name, directory) == self.place()

    def place(self) -> tuple[int, int]:
        """Return what tells this file from every other one on the machine."""
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino

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


class OsDirectory(_Descriptor):
    """A Directory of the operating system."""

    __slots__ = ("_lock", "_mode", "path")

    def __init__(self, path: str, mode: int) -> None:
        with _Named(path):
            super().__init__(_above_standard_streams(os.open(path, DIRECTORY)))
        self.path = path
        self._lock: tuple[str, tuple[int, int]] | None = None
        self._mode = mode

    def create(self, name: str) -> OsFile:
        path = os.path.join(self.path, name)
        with _Named(path):
            file = OsFile(self._open(name, CREATE), path)
            self._share_mode_of_lock(file)
            return file

    def _open(self, name: str, flags: int) -> int:
        return _above_standard_streams(os.open(name, flags, self._mode, dir_fd=self._descriptor))

    def _share_mode_of_lock(self, file: OsFile) -> None:
        """Give a new file the permission bits of LOCK, the first file of all, whatever the umask is now."""
        try:
            bits = stat.S_IMODE(os.stat("LOCK", dir_fd=self._descriptor, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return
        file.chmod(bits)

    def open(self, name: str) -> OsFile:
        path = os.path.join(self.path, name)
        with _Named(path):
            file = OsFile(self._open(name, READ_ONLY), path)
            if not file.is_regular():
                raise error(f"{path}: not a regular file")
            return file

    def lock(self, name: str, label: bytes) -> OsFile | None:
        path = os.path.join(self.path, name)
        with _Named(path):
            while True:
                file = OsFile(self._open(name, LOCK_FILE), path)
                if not file.is_regular():
                    raise error(f"{path}: not a regular file")
                if not file.try_lock():
                    return None
                if file.is_at(name, self._descriptor):
                    break
                file.close()  # replaced between open and lock: that was a lock on nothing
            try:
                if file.has_one_name():  # else it may be a file of somebody who wants its bytes
                    file.pwrite(label, 0)
                    file.truncate(len(label))
            except BaseException:
                file.close()  # now: the traceback would keep the file, and so the lock, alive
                raise
            self._lock = name, file.place()
            return file

    def why_not_mapped(self) -> str:
        if sys.platform != "linux":
            return f"the system is {sys.platform}, not Linux"
        with _Named(self.path):
            device = os.fstat(_still_open(self._descriptor)).st_dev
        kind = _file_system(device)
        if kind in MAPPABLE:
            return ""
        return f"the file system is {kind or 'unknown'}, not one of {', '.join(sorted(MAPPABLE))}"

    def has_lost_lock(self) -> bool:
        if self._lock is None:
            return False
        name, place = self._lock
        return _place_of(name, self._descriptor) != place

    def peek(self, name: str) -> bytes:
        try:
            return self.open(name).pread(256, 0)
        except OSError:
            return b""

    def link(self, name: str, target: Directory) -> None:
        with _Named(os.path.join(target.path, name)):
            if not isinstance(target, OsDirectory) or not hasattr(os, "link"):  # Emscripten has none
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            os.link(
                *(name, name),
                src_dir_fd=_still_open(self._descriptor),  # rule 3
                dst_dir_fd=_still_open(target._descriptor),
                follow_symlinks=False,
            )

    def unlink(self, name: str) -> None:
        with _Named(os.path.join(self.path, name)):
            try:
                os.unlink(name, dir_fd=self._descriptor)
            except FileNotFoundError:
                pass

    def listdir(self) -> list[str]:
        # A descriptor of its own: os.listdir(fd) shares its position with every other listing of `fd`, so
        # two threads at once would see too few names, or each name twice.
        with _Named(self.path):
            descriptor = os.open(".", DIRECTORY, dir_fd=self._descriptor)
            try:
                return os.listdir(descriptor)
            finally:
                os.close(descriptor)

    def length(self, name: str) -> int | None:
        with _Named(os.path.join(self.path, name)):
            try:
                return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_size
            except FileNotFoundError:
                return None

    def sync(self) -> None:
        _sync_directory(self._descriptor, self.path)

    def identity(self) -> tuple[int, int]:
        with _Named(self.path):
            status = os.fstat(self._descriptor)
            return status.st_dev, status.st_ino

    def take_mode(self, source: Directory, *, itself: bool) -> None:
        with _Named(self.path):
            if not isinstance(source, OsDirectory) or not hasattr(os, "fchmod"):
                return
            bits = stat.S_IMODE(os.fstat(source._descriptor).st_mode)
            if itself:
                os.fchmod(_still_open(self._descriptor), bits | 0o700)
            try:
                of_lock = os.stat("LOCK", dir_fd=source._descriptor, follow_symlinks=False).st_mode
            except FileNotFoundError:
                of_lock = bits & 0o666
            self.open("LOCK").chmod(stat.S_IMODE(of_lock) | 0o600)


def _place_of(name: str, directory: int) -> tuple[int, int] | None:
    """Return what tells the file at a name from every other one; None if nothing can be found there."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _sync_directory(descriptor: int, path: str) -> None:
    with _Named(path):
        try:
            os.fsync(_still_open(descriptor))
        except OSError as exc:
            if exc.errno not in UNSUPPORTED:  # some file systems keep names durable by themselves and say so
                raise


def path_text(file: object) -> str:
    """Return a path, given as str, bytes or PathLike of either, as str.

    Raises:
        TypeError: it is no path.
        ValueError: it holds a NUL character.
    """
    path = os.fsdecode(os.fspath(file))  # type: ignore[call-overload]  # which raises the TypeError
    if "\0" in path:
        raise ValueError("embedded null character in path")
    return path


def absolute(path: str) -> str:
    """Return a path that means the same wherever the current directory is."""
    return os.path.abspath(path)


def parent_of(path: str) -> str:
    """Return the absolute path of the directory that holds `path`."""
    return os.path.dirname(os.path.abspath(path))


def name_in_parent(path: str) -> str:
    """Return what `path` is called in the directory `parent_of(path)`."""
    return os.path.basename(os.path.abspath(path))


def directory_mode(mode: int) -> int:
    """Return the permission bits of a directory for files of these: `x` wherever there is `r`."""
    return mode | (mode & 0o444) >> 2


class OsStorage:
    """The real Storage."""

    __slots__ = ()

    def kind(self, path: str) -> str:
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        except OSError as exc:
            raise renamed(exc, path) from None
        return "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"

    def is_link(self, path: str) -> bool:
        try:
            return stat.S_ISLNK(os.lstat(path.rstrip(os.sep) or path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as exc:
            raise renamed(exc, path) from None

    def mkdir(self, path: str, mode: int) -> None:
        with _Named(path):
            os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        with _Named(path):
            os.rmdir(path)

    def unlink(self, path: str) -> None:
        with _Named(path):
            os.unlink(path)

    def directory(self, path: str, mode: int) -> OsDirectory:
        return OsDirectory(path, mode)

    def sync_parent(self, path: str) -> None:
        parent = parent_of(path)
        with _Named(parent):
            descriptor = _above_standard_streams(os.open(parent, DIRECTORY))
        try:
            _sync_directory(descriptor, parent)
        finally:
            os.close(descriptor)

    def pid(self) -> int:
        return os.getpid()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def urandom(self, length: int) -> bytes:
        return os.urandom(length)

    def start_thread(self, name: str, work: Callable[[], None]) -> Callable[[], None] | None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # too many of them, or the interpreter is on its way out
            return None
        return thread.join

    def start_process(self, module: str) -> Process | None:
        with importing:  # not before: what it imports takes long, and few programs need it
            from lsmdbm._base import process

        return process.start(module)
