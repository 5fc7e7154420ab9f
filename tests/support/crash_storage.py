"""The Storage that crashes: a file system in memory that loses what was not synced, and fails on demand.

    storage = CrashStorage(seed=1)              hand it to the engine
    storage.on_call = hook                      hook(index, operation, path) runs before each call
    storage.fault(7, errno.EIO, "after")        call 7 takes effect, then raises; with None the process dies
    image = storage.freeze()                    the disk as it is now, unsynced changes included; O(files)
    storage = image.crash("reorder", rng)       a new machine with what the crash left; the old one goes on
    storage = image.crash_without({12})         lost what call 12 did, kept the rest; see image.pending()

Rules; support/disk.py has those of bytes, names and crash modes
  1. `fdatasync` and `fsync` make the changes of that one file durable, its length too, but not its name.
     `sync` of a directory makes its names durable, but no bytes, and not its own name.
  2. A failed sync is `clean`, unless its fault says otherwise: processes see the changes, no later sync
     covers them.
  3. A lock belongs to the file, not to its name, and is held by one open File; another one is refused, in
     the same process too.  A crash drops all locks.
  4. A file without a name lives until its last File is closed, or the crash.
  5. Every call that can fail is numbered from 0 and named in `calls`: the methods of the protocols but close,
     pid, monotonic, sleep and urandom.  Once the process is dead, every call raises `Killed`.
  6. Everything follows from the seed and the calls.  Time passes only in `sleep` and `advance`.
  7. There are no symbolic links and no permission bits: `take_mode` does nothing.
  8. A `pwrite` into a mapped file is a call named `store`.  It does not fail; a process killed in it may have
     stored any pieces of what it was to store.  What the system would answer by SIGBUS is an AssertionError.

Thread safety: all methods may be called from any thread; `on_call` runs in the thread that calls.
"""

from __future__ import annotations

import errno
import itertools
import os
import posixpath
import random
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from lsmdbm._base.errors import CorruptionError, NotFoundError, error
from lsmdbm._base.process import Process
from lsmdbm._base.storage import Directory
from support.disk import CLEAN, DURABLE, POWER_LOSSES, DirectoryNode, Disk, FileNode, FrozenDisk, rename
from support.interruptions import interruption

MODES = ("kill", *POWER_LOSSES)
SYNCS = frozenset({"fdatasync", "fsync", "sync", "sync_parent"})
WRITES = frozenset({"create", "pwrite", "truncate", "map", "unmap", "mkdir", "link", "lock", "take_mode"})
STORES = frozenset({"store"})
UNLINKS = frozenset({"unlink", "rmdir"})
READS = frozenset({"open", "pread", "size", "peek", "listdir", "length", "identity", "kind", "directory"})
READS |= {"is_link", "why_not_mapped"}
PIECE = 16  # bytes that are stored at once
FAULTS = ("before", "after", "partial", "short", "clean", "late", "reverted")

_devices = itertools.count(1 << 40)


class Killed(BaseException):
    """The process died at this call; what it would do next does not happen."""


@dataclass
class Fault:
    """What goes wrong at one call, and perhaps at later ones; see `CrashStorage.fault`."""

    index: int
    errno: int | None
    kind: str
    sticky: bool
    later: frozenset[str]

    def strikes(self, index: int, operation: str) -> str:
        """Return how this call fails, "" if it does not."""
        if operation in STORES and self.errno not in (None, errno.EINTR):
            return ""  # rule 8
        if index == self.index:
            if self.sticky:
                self.later |= next(sort for sort in (WRITES, SYNCS, UNLINKS, READS) if operation in sort)
            return self.kind
        if index > self.index and operation in self.later:
            return {"clean": "clean", "late": "clean", "reverted": "reverted"}.get(self.kind, "before")
        return ""


class Call(NamedTuple):
    """A call that has begun: its number, and the fault it has to end with, if any."""

    number: int
    path: str
    kind: str = ""
    errno: int | None = None


def failure(code: int, path: str, number: int = 0) -> BaseException:
    """Return the error of the operating system as lsmdbm reports it.

    EINTR, which Python keeps to itself, stands for what a signal handler may raise, one thing or the other by
    the number of the call: nobody learns what the call has done.
    """
    if code == errno.EINTR:
        return interruption(number, path)
    return NotFoundError.at(path) if code == errno.ENOENT else error(code, os.strerror(code), path)


class Image:
    """A CrashStorage at one moment, from which any number of crashes can start."""

    def __init__(self, disk: FrozenDisk, count: int, clock: float, seed: str, life: int) -> None:
        self._disk = disk
        self._count = count
        self._clock = clock
        self._seed = seed
        self._life = life

    def pending(self) -> list[int]:
        """Return, ascending, the calls a power loss may undo; negative: made before the last kill."""
        return self._disk.pending()

    def crash(self, mode: str = "strict", rng: random.Random | None = None) -> CrashStorage:
        """Return a storage with what a crash leaves; the modes that roll dice need `rng`."""
        if mode == "kill":
            return self._reborn(self._disk.thaw(self._count), self._clock)
        if rng is None and mode != "strict":
            raise ValueError(f"crash mode {mode!r} needs a random.Random")
        return self._reborn(self._disk.lose(mode, rng or random.Random(0)), 0.0)

    def crash_without(self, lost: Collection[int]) -> CrashStorage:
        """Return a storage after a power loss that undid these pending calls and no others."""
        return self._reborn(self._disk.lose_calls(lost), 0.0)

    def _reborn(self, disk: Disk, clock: float) -> CrashStorage:
        storage = CrashStorage(f"{self._seed}.{self._count}")  # never the salts of the life before
        storage.disk = disk
        storage.clock = clock
        storage.life = self._life + 1
        return storage


class CrashStorage:
    """A Storage whose disk lives in memory.

    Args:
        seed: of the bytes `urandom` gives.

    Attributes:
        calls: (operation, path) of every call so far.
        hits: (index, operation, path) of every call a fault struck.
        on_call: None, or a function called before each call with its index, operation and path.  What it
            raises comes out of the call, which then has no effect.
        clock: what `monotonic` returns.
        unmappable: why no file may be mapped; "" if they may.
        dead: whether a fault killed the process.
        workers: makes what answers for a process; see hands.py.
    """

    workers: ClassVar[Callable[[CrashStorage], Process] | None] = None

    def __init__(self, seed: int | str = 0) -> None:
        self.calls: list[tuple[str, str]] = []
        self.hits: list[tuple[int, str, str]] = []
        self.on_call: Callable[[int, str, str], object] | None = None
        self.clock = 0.0
        self.unmappable = ""
        self.dead = False
        self.life = 0
        self.disk = Disk()
        self.locked: set[int] = set()
        self.removed: set[int] = set()  # directories without a name, which take no new ones
        self.mutex = threading.RLock()
        self.device = next(_devices)  # another disk, also to a registry of what this process has open
        self._seed = str(seed)
        self._random = random.Random(self._seed)
        self._faults: list[Fault] = []

    @property
    def count(self) -> int:
        """How many calls there were: the index of the next one."""
        return len(self.calls)

    # What a test does

    def freeze(self) -> Image:
        """Return the disk as it is, unsynced changes included.  O(files), whatever their sizes."""
        with self.mutex:
            return Image(self.disk.freeze(), self.count, self.clock, self._seed, self.life)

    def crash(self, mode: str = "strict", rng: random.Random | None = None) -> CrashStorage:
        """Return what a crash now would leave; this storage goes on as if nothing had happened."""
        return self.freeze().crash(mode, rng)

    def fault(
        self,
        index: int,
        errno: int | None,
        kind: str = "before",
        *,
        sticky: bool = False,
        later: Collection[str] = (),
    ) -> None:
        """Let a call fail.

        Args:
            index: of the call; the next one is `count`.
            errno: what it raises, with EINTR an interruption; None kills the process there.
            kind: `before` it had any effect, or `after` the whole.  For pwrite also `partial`, half is
                written before it raises, and `short`, half is written and counted and nothing is raised; for
                stores `partial`, some pieces are stored, and for map, half is allocated.
                For syncs also `clean`, nothing becomes durable and no later sync covers it; `late`, the
                same, but success now and the error at the next sync; `reverted`, the changes are gone
                from view as well; `partial`, half of the changes become durable, the rest stay dirty.  A
                kind that does not fit the call means `before`.
            sticky: whether later calls fail too, of the same sort: WRITES, SYNCS, UNLINKS or READS.
            later: operations that fail from then on, whatever the sort of the first.
        """
        if kind not in FAULTS:
            raise ValueError(f"kind={kind!r}: must be one of {', '.join(FAULTS)}")
        self._faults.append(Fault(index, errno, kind, sticky, frozenset(later)))

    def heal(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock += seconds

    def contents(self, path: str = "/") -> dict[str, bytes]:
        """Return the files of a directory by name, as processes see them.  Not a call."""
        with self.mutex:
            nodes = {name: self.disk.nodes[number] for name, number in self._directory(path).now.items()}
            return {name: bytes(node.now) for name, node in nodes.items() if isinstance(node, FileNode)}

    def plant(self, path: str, data: bytes) -> None:
        """Make `path` a durable file of these bytes, and its directories durable too.  Not a call.

        An existing file is changed in place: open Files and other names see it.
        """
        with self.mutex:
            *parents, name = _parts(path)
            directory = self._directory("/")
            for parent in parents:
                if parent not in directory.now:
                    self._plant_name(directory, parent, self.disk.new_directory().number)
                directory = self._as_directory(self.disk.nodes[directory.now[parent]], path)
            if name not in directory.now:
                self._plant_name(directory, name, self.disk.new_file().number)
            file = self.disk.nodes[directory.now[name]]
            if not isinstance(file, FileNode):
                raise failure(errno.EISDIR, path)
            file.now[:] = data
            file.changes = []
            file.rebase()

    def erase(self, path: str) -> None:
        """Take a name away, durably.  Not a call."""
        with self.mutex:
            self._plant_name(*self._locate(path), None)

    @staticmethod
    def _plant_name(directory: DirectoryNode, name: str, number: int | None) -> None:
        directory.base = dict(directory.base)  # images share the old one
        rename(directory.base, name, number)
        rename(directory.now, name, number)
        directory.changes = [change for change in directory.changes if change.name != name]

    # The protocol

    def kind(self, path: str) -> str:
        call = self.enter("kind", path)
        with self.mutex:
            try:
                node = self.disk.find(_parts(path))
            except NotADirectoryError:
                node = None
        self.leave(call)
        return "missing" if node is None else "file" if isinstance(node, FileNode) else "directory"

    def mkdir(self, path: str, mode: int) -> None:
        call = self.enter("mkdir", path)
        with self.mutex:
            parent, name = self._locate(path)
            if name in parent.now:
                raise failure(errno.EEXIST, path)
            parent.change(call.number, name, self.disk.new_directory().number)
        self.leave(call)

    def is_link(self, path: str) -> bool:
        self.leave(self.enter("is_link", path))
        return False

    def rmdir(self, path: str) -> None:
        call = self.enter("rmdir", path)
        with self.mutex:
            parent, name = self._locate(path)
            if self._as_directory(self.disk.nodes.get(parent.now.get(name, 0)), path).now:
                raise failure(errno.ENOTEMPTY, path)
            self.removed.add(parent.now[name])
            parent.change(call.number, name, None)
        self.leave(call)

    def unlink(self, path: str) -> None:
        call = self.enter("unlink", path)
        with self.mutex:
            parent, name = self._locate(path)
            if name not in parent.now:
                raise failure(errno.ENOENT, path)
            self.unlink_in(parent, name, call)
        self.leave(call)

    def directory(self, path: str, mode: int) -> CrashDirectory:
        call = self.enter("directory", path)
        with self.mutex:
            found = CrashDirectory(self, self._directory(path), path)
        self.leave(call)
        return found

    def sync_parent(self, path: str) -> None:
        parent = posixpath.dirname("/" + "/".join(_parts(path)))
        call = self.enter("sync_parent", parent)
        self.sync(self._directory(parent), call)

    def pid(self) -> int:
        return 1000 + self.life

    def monotonic(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def urandom(self, length: int) -> bytes:
        with self.mutex:
            return self._random.randbytes(length)

    def start_thread(self, name, work):
        """There are no threads here: what a test sees must not depend on when one runs."""

    def start_process(self, module):
        """A process would not see these files; what `workers` makes does."""
        return None if self.workers is None else self.workers(self)

    # What the handles share

    def enter(self, operation: str, path: str) -> Call:
        """Count a call; raise what strikes before it, and return what strikes after it."""
        if self.dead:
            raise Killed
        with self.mutex:
            index = len(self.calls)
            self.calls.append((operation, path))
        if self.on_call is not None:
            self.on_call(index, operation, path)
        for fault in self._faults:
            kind = fault.strikes(index, operation)
            if not kind:
                continue
            self.hits.append((index, operation, path))
            call = Call(index, path, kind, fault.errno)
            if not (
                kind == "after"
                or (kind in ("partial", "short") and operation == "pwrite")
                or (kind == "partial" and operation in ("store", "map"))
                or (kind in ("partial", "clean", "late", "reverted") and operation in SYNCS)
            ):
                self.leave(call)
            return call
        return Call(index, path)

    def leave(self, call: Call) -> None:
        """End a call that has taken effect: raise its fault."""
        if not call.kind:
            return
        if call.errno is None:
            self.dead = True
            raise Killed
        raise failure(call.errno, call.path, call.number)

    def sync(self, node: FileNode | DirectoryNode, call: Call) -> None:
        """Make the changes of a file or a directory durable, or fail to."""
        with self.mutex:
            late, node.late = node.late, None
            if late is not None:
                node.settle(CLEAN)
                raise failure(late, call.path, call.number)
            if call.kind == "reverted":
                node.revert()
            elif call.kind == "partial":
                node.settle(DURABLE, 0.5)
            else:
                node.settle(CLEAN if call.kind in ("clean", "late") else DURABLE)
            self.disk.sweep()
            if call.kind == "late" and call.errno is not None:
                node.late = call.errno
                return
        self.leave(call)

    def unlink_in(self, directory: DirectoryNode, name: str, call: Call) -> None:
        """Take a name of a file away."""
        if isinstance(self.disk.nodes[directory.now[name]], DirectoryNode):
            raise failure(errno.EISDIR, call.path)
        directory.change(call.number, name, None)

    def some_pieces(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield what of a store there is when the process is killed in it: place and bytes of some pieces."""
        rng = random.Random(f"{self._seed} {len(self.calls)}")
        for place in range(0, len(data), PIECE):
            if rng.random() < 0.5:
                yield place, data[place : place + PIECE]

    def _directory(self, path: str) -> DirectoryNode:
        try:
            return self._as_directory(self.disk.find(_parts(path)), path)
        except NotADirectoryError:
            raise failure(errno.ENOTDIR, path) from None

    @staticmethod
    def _as_directory(node: FileNode | DirectoryNode | None, path: str) -> DirectoryNode:
        if not isinstance(node, DirectoryNode):
            raise failure(errno.ENOENT if node is None else errno.ENOTDIR, path)
        return node

    def _locate(self, path: str) -> tuple[DirectoryNode, str]:
        if not _parts(path):
            raise failure(errno.EEXIST, path)
        *parents, name = _parts(path)
        try:
            return self._as_directory(self.disk.find(parents), path), name
        except NotADirectoryError:
            raise failure(errno.ENOTDIR, path) from None


def _parts(path: str) -> list[str]:
    return [part for part in posixpath.normpath(posixpath.join("/", path)).split("/") if part]


class CrashDirectory:
    """A Directory of a CrashStorage."""

    def __init__(self, storage: CrashStorage, node: DirectoryNode, path: str) -> None:
        self.path = path
        self.storage = storage
        self.node = node
        self._closed = False
        self._lock: tuple[str, int] | None = None

    def create(self, name: str) -> CrashFile:
        call = self._enter("create", name)
        with self.storage.mutex:
            if name in self.node.now:
                raise failure(errno.EEXIST, call.path)
            node = self._new(name, call)
        self.storage.leave(call)
        return CrashFile(self.storage, node, call.path, writable=True)

    def open(self, name: str) -> CrashFile:
        call = self._enter("open", name)
        with self.storage.mutex:
            node = self._existing(name, call)
        self.storage.leave(call)
        return CrashFile(self.storage, node, call.path, writable=False)

    def lock(self, name: str, label: bytes) -> CrashFile | None:
        call = self._enter("lock", name)
        with self.storage.mutex:
            found = self.storage.disk.nodes.get(self.node.now.get(name, 0))
            if isinstance(found, DirectoryNode):
                raise failure(errno.EISDIR, call.path)
            node = self._new(name, call) if found is None else found
            if node.number in self.storage.locked:
                self.storage.leave(call)
                return None
            self.storage.locked.add(node.number)
            file = CrashFile(self.storage, node, call.path, writable=True, locked=True)
            if self.storage.disk.name_count(node.number) == 1:
                node.change(call.number, 0, label)
                node.change(call.number, len(label), None)
        try:
            self.storage.leave(call)
        except BaseException:
            file.close()
            raise
        self._lock = name, node.number
        return file

    def why_not_mapped(self) -> str:
        self.storage.leave(self._enter("why_not_mapped"))
        return self.storage.unmappable

    def has_lost_lock(self) -> bool:
        return self._lock is not None and self.node.now.get(self._lock[0]) != self._lock[1]

    def peek(self, name: str) -> bytes:
        try:
            call = self._enter("peek", name)
            with self.storage.mutex:
                data = bytes(self._existing(name, call).now[:256])
            self.storage.leave(call)
        except OSError:
            return b""
        return data

    def link(self, name: str, target: Directory) -> None:
        call = self._enter("link", name, target.path)
        if not isinstance(target, CrashDirectory) or target.storage is not self.storage:
            raise failure(errno.EXDEV, call.path)
        with self.storage.mutex:
            if name not in self.node.now:
                raise failure(errno.ENOENT, call.path)
            if target.node.number in self.storage.removed:
                raise failure(errno.ENOENT, call.path)
            if name in target.node.now:
                raise failure(errno.EEXIST, call.path)
            if isinstance(self.storage.disk.nodes[self.node.now[name]], DirectoryNode):
                raise failure(errno.EPERM, call.path)
            target.node.change(call.number, name, self.node.now[name])
        self.storage.leave(call)

    def unlink(self, name: str) -> None:
        call = self._enter("unlink", name)
        with self.storage.mutex:
            if name in self.node.now:
                self.storage.unlink_in(self.node, name, call)
        self.storage.leave(call)

    def listdir(self) -> list[str]:
        call = self._enter("listdir")
        with self.storage.mutex:
            names = list(self.node.now)
        self.storage.leave(call)
        return names

    def length(self, name: str) -> int | None:
        call = self._enter("length", name)
        with self.storage.mutex:
            node = self.storage.disk.nodes.get(self.node.now.get(name, 0))
            length = None if node is None else len(node.now)
        self.storage.leave(call)
        return length

    def sync(self) -> None:
        self.storage.sync(self.node, self._enter("sync"))

    def identity(self) -> tuple[int, int]:
        self.storage.leave(self._enter("identity"))
        return self.storage.device, self.node.number

    def take_mode(self, source: Directory, *, itself: bool) -> None:
        call = self._enter("take_mode", "LOCK")
        with self.storage.mutex:
            self._existing("LOCK", call)
        self.storage.leave(call)

    def close(self) -> None:
        self._closed = True

    def _enter(self, operation: str, name: str = "", path: str | None = None) -> Call:
        path = self.path if path is None else path
        call = self.storage.enter(operation, posixpath.join(path, name) if name else path)
        if self._closed:
            raise failure(errno.EBADF, call.path)
        return call

    def _new(self, name: str, call: Call) -> FileNode:
        if self.node.number in self.storage.removed:
            raise failure(errno.ENOENT, call.path)
        node = self.storage.disk.new_file()
        self.node.change(call.number, name, node.number)
        return node

    def _existing(self, name: str, call: Call) -> FileNode:
        if name not in self.node.now:
            raise failure(errno.ENOENT, call.path)
        node = self.storage.disk.nodes[self.node.now[name]]
        if not isinstance(node, FileNode):
            raise CorruptionError(call.path, -1, "not a regular file")
        return node


class CrashFile:
    """A File of a CrashStorage."""

    def __init__(
        self, storage: CrashStorage, node: FileNode, path: str, *, writable: bool, locked: bool = False
    ) -> None:
        self.path = path
        self._storage = storage
        self._node = node
        self._writable = writable
        self._locked = locked
        self._closed = False
        self.mapped_bytes: int | None = None  # None if it is not mapped

    def pread(self, length: int, offset: int) -> bytes:
        call = self._enter("pread", min(length, offset))
        with self._storage.mutex:
            data = bytes(self._node.now[offset : offset + length])
        self._storage.leave(call)
        return data

    def pwrite(self, data: bytes, offset: int) -> int:
        if self.mapped_bytes is not None:
            self._store(bytes(data), offset)
            return len(data)
        call = self._enter("pwrite", offset)
        if not self._writable:
            raise failure(errno.EBADF, self.path)
        data = bytes(data)
        if call.kind in ("partial", "short"):
            data = data[: len(data) // 2]
        if data:
            with self._storage.mutex:
                self._node.change(call.number, offset, data)
        if call.kind != "short":
            self._storage.leave(call)
        return len(data)

    def _store(self, data: bytes, offset: int) -> None:
        call = self._enter("store", offset)
        end = offset + len(data)
        assert end <= (self.mapped_bytes or 0), f"{self.path}: a store up to {end}, beyond the mapping"
        assert end <= len(self._node.now), f"{self.path}: SIGBUS at {end} of {len(self._node.now)} bytes"
        with self._storage.mutex:
            if call.kind == "partial":
                for place, piece in self._storage.some_pieces(data):
                    self._node.change(call.number, offset + place, piece)
            elif data:
                self._node.change(call.number, offset, data)
        self._storage.leave(call)

    def truncate(self, length: int) -> None:
        call = self._enter("truncate", length)
        assert self.mapped_bytes is None, f"{self.path}: SIGBUS: cut while it is mapped"
        self._truncate(call, length)

    def _truncate(self, call: Call, length: int) -> None:
        if not self._writable:
            raise failure(errno.EINVAL, self.path)
        with self._storage.mutex:
            self._node.change(call.number, length, None)
        self._storage.leave(call)

    def map(self, length: int) -> None:
        call = self._enter("map", length)
        if not self._writable:
            raise failure(errno.EBADF, self.path)
        with self._storage.mutex:
            missing = (length // 2 if call.kind == "partial" else length) - len(self._node.now)
            if missing > 0:
                self._node.change(call.number, len(self._node.now), bytes(missing))
        if call.kind != "partial" and call.errno in (None, errno.EINTR):
            self.mapped_bytes = length
        self._storage.leave(call)

    def unmap(self, length: int) -> None:
        if self.mapped_bytes is not None:
            self.mapped_bytes = None
            self._truncate(self._enter("unmap", length), length)

    def fdatasync(self) -> None:
        self._storage.sync(self._node, self._enter("fdatasync"))

    def fsync(self) -> None:
        self._storage.sync(self._node, self._enter("fsync"))

    def size(self) -> int:
        call = self._enter("size")
        length = len(self._node.now)
        self._storage.leave(call)
        return length

    def close(self) -> None:
        self.mapped_bytes = None
        if not self._closed and self._locked:
            self._storage.locked.discard(self._node.number)
        self._closed = True

    def __del__(self) -> None:
        self.close()

    def _enter(self, operation: str, argument: int = 0) -> Call:
        call = self._storage.enter(operation, self.path)
        if argument < 0:
            raise failure(errno.EINVAL, self.path)
        if self._closed:
            raise failure(errno.EBADF, self.path)
        return call
