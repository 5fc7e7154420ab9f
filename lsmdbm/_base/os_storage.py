"""OsStorage: the Storage of the operating system, and its directories.

Rules
  1. Files are created with O_EXCL.
  2. Names are opened relative to a descriptor of the directory, so that a directory swapped during use is
     not followed, and never through a symbolic link.
  3. The lock is flock on a file that is still at its name, and goes with the descriptor.

Thread safety: all methods may be called from any thread.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lsmdbm._base.errors import CorruptionError, error, is_of_system
from lsmdbm._base.forking import importing
from lsmdbm._base.os_file import (
    READ_ONLY,
    SAFE,
    Descriptor,
    Named,
    OsFile,
    above_standard_streams,
    place_of,
    renamed,
    still_open,
)
from lsmdbm._base.paths import parent_of
from lsmdbm._base.storage import Directory

if TYPE_CHECKING:
    from lsmdbm._base.process import Process

CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | SAFE
LOCK_FILE = os.O_RDWR | os.O_CREAT | SAFE
DIRECTORY = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_DIRECTORY", 0)
UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
MAPPABLE = {"ext4", "xfs", "tmpfs"}  # what is allocated there is written in place
MOUNTS = "/proc/self/mountinfo"


def _file_system(device: int) -> str:
    """Return the type of the file system on a device, by the mount table; "" if it is not there."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(MOUNTS, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                mount, _, source = line.partition(" - ")
                if mount.split(" ")[2] == number:
                    return source.split(" ")[0]
    except OSError as exc:
        if not is_of_system(exc):
            raise
    return ""


def _sync_directory(descriptor: int, path: str) -> None:
    with Named(path):
        try:
            os.fsync(still_open(descriptor))
        except OSError as exc:
            if exc.errno not in UNSUPPORTED:  # some file systems keep names durable by themselves and say so
                raise


class OsDirectory(Descriptor):
    """A Directory of the operating system."""

    __slots__ = ("_lock", "_mode", "path")

    def __init__(self, path: str, mode: int) -> None:
        with Named(path):
            super().__init__(above_standard_streams(os.open(path, DIRECTORY)))
        self.path = path
        self._lock: tuple[str, tuple[int, int]] | None = None
        self._mode = mode

    def create(self, name: str) -> OsFile:
        path = os.path.join(self.path, name)
        with Named(path):
            file = OsFile(self._open(name, CREATE), path)
            self._share_mode_of_lock(file)
            return file

    def _open(self, name: str, flags: int) -> int:
        return above_standard_streams(os.open(name, flags, self._mode, dir_fd=self._descriptor))

    def _share_mode_of_lock(self, file: OsFile) -> None:
        """Give a new file the permission bits of LOCK, the first file of all, whatever the umask is now."""
        try:
            bits = stat.S_IMODE(os.stat("LOCK", dir_fd=self._descriptor, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return
        file.chmod(bits)

    def open(self, name: str) -> OsFile:
        path = os.path.join(self.path, name)
        with Named(path):
            file = OsFile(self._open(name, READ_ONLY), path)
            if not file.is_regular():
                raise CorruptionError(path, -1, "not a regular file")
            return file

    def lock(self, name: str, label: bytes) -> OsFile | None:
        path = os.path.join(self.path, name)
        with Named(path):
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
        with Named(self.path):
            device = os.fstat(still_open(self._descriptor)).st_dev
        kind = _file_system(device)
        if kind in MAPPABLE:
            return ""
        return f"the file system is {kind or 'unknown'}, not one of {', '.join(sorted(MAPPABLE))}"

    def has_lost_lock(self) -> bool:
        if self._lock is None:
            return False
        name, place = self._lock
        return place_of(name, self._descriptor) != place

    def peek(self, name: str) -> bytes:
        try:
            return self.open(name).pread(256, 0)
        except error:
            return b""

    def link(self, name: str, target: Directory) -> None:
        with Named(os.path.join(target.path, name)):
            if not isinstance(target, OsDirectory) or not hasattr(os, "link"):  # Emscripten has none
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            os.link(
                *(name, name),
                src_dir_fd=still_open(self._descriptor),  # rule 2
                dst_dir_fd=still_open(target._descriptor),
                follow_symlinks=False,
            )

    def unlink(self, name: str) -> None:
        with Named(os.path.join(self.path, name)):
            try:
                os.unlink(name, dir_fd=self._descriptor)
            except FileNotFoundError:
                pass

    def listdir(self) -> list[str]:
        # A descriptor of its own: os.listdir(fd) shares its position with every other listing of `fd`, so
        # two threads at once would see too few names, or each name twice.
        with Named(self.path):
            descriptor = os.open(".", DIRECTORY, dir_fd=self._descriptor)
            try:
                return os.listdir(descriptor)
            finally:
                os.close(descriptor)

    def length(self, name: str) -> int | None:
        with Named(os.path.join(self.path, name)):
            try:
                return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_size
            except FileNotFoundError:
                return None

    def sync(self) -> None:
        _sync_directory(self._descriptor, self.path)

    def identity(self) -> tuple[int, int]:
        with Named(self.path):
            return self.place()

    def take_mode(self, source: Directory, *, itself: bool) -> None:
        with Named(self.path):
            if not isinstance(source, OsDirectory) or not hasattr(os, "fchmod"):
                return
            bits = stat.S_IMODE(os.fstat(source._descriptor).st_mode)
            if itself:
                os.fchmod(still_open(self._descriptor), bits | 0o700)
            try:
                of_lock = os.stat("LOCK", dir_fd=source._descriptor, follow_symlinks=False).st_mode
            except FileNotFoundError:
                of_lock = bits & 0o666
            self.open("LOCK").chmod(stat.S_IMODE(of_lock) | 0o600)


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
        with Named(path):
            os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        with Named(path):
            os.rmdir(path)

    def unlink(self, path: str) -> None:
        with Named(path):
            os.unlink(path)

    def directory(self, path: str, mode: int) -> OsDirectory:
        return OsDirectory(path, mode)

    def sync_parent(self, path: str) -> None:
        parent = parent_of(path)
        with Named(parent):
            descriptor = above_standard_streams(os.open(parent, DIRECTORY))
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
