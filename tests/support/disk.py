"""A disk in memory: what is durable, what is not yet, and what each kind of crash leaves of it.

Rules
  1. A file is durable bytes and the changes since, in order: writes and truncations.  Processes see all of
     them at once; a crash may keep any of them.
  2. A directory is durable names and the changes since.  A directory whose own name is lost takes
     everything in it along.
  3. Nothing orders two changes that were not synced, in one file or in two.  A crash changes no byte outside
     the ranges of unsynced writes and the unsynced extension of a file.
  4. A change is dirty, then durable; or clean, once a failed sync gave it up: visible, covered by no later
     sync, kept or lost by a crash.  `pending` is what is not durable.
  5. Changes carry the number of the call that made them, which orders them across files.

What the modes leave; after all but `kill`, which is no power loss, everything left is durable
    kill        everything, and what was pending still is
    strict      what was synced
    dir-prefix  the changes of names up to some moment, and synced bytes
    reorder     each change of a name on its own; of each file no change, all, the first few, or any blocks
    torn        everything, but the last write, and some last writes of other files, stop short
    tail        everything, but the unsynced end of a file is zeros or garbage from somewhere on
    trash       everything, but each sector of an unsynced write is new, old or random

Thread safety: none; CrashStorage holds a lock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

BLOCKS = (64, 256, 512, 1024, 4096)  # what a kernel, a file system or a medium may write on its own
CUTS = (1, 512, 4096)  # where a write may stop short
SECTORS = (512, 4096)
DIRTY, CLEAN, DURABLE = "dirty", "clean", "durable"
ROOT = 2


class Write(NamedTuple):
    """A change of a file: `data` at `offset`, or with None a truncation to `offset`."""

    call: int
    state: str
    offset: int
    data: bytes | None


class Name(NamedTuple):
    """A change of a directory: `name` is file `number`, or with None gone."""

    call: int
    state: str
    name: str
    number: int | None


Change = TypeVar("Change", Write, Name)
Fragment = tuple[int, "bytes | None"]
Keep = Callable[[Name], bool]
Content = Callable[[bytes, "list[Write]"], "bytes | bytearray"]


def write(content: bytearray, offset: int, data: bytes | None) -> None:
    """Apply one change to the bytes of a file."""
    if data is None:
        del content[offset:]
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))  # a hole reads as zeros
    if data:
        content[offset : offset + len(data)] = data


def rename(names: dict[str, int], name: str, number: int | None) -> None:
    """Apply one change to the names of a directory."""
    if number is None:
        names.pop(name, None)
    else:
        names[name] = number


class Node(Generic[Change]):
    """A file or a directory.  The list `changes` only grows or is replaced, so that images share it."""

    def __init__(self, number: int, changes: list[Change]) -> None:
        self.number = number
        self.changes: list[Change] = changes
        self.late: int | None = None  # the errno its next sync has to report

    def settle(self, state: str, share: float = 1.0) -> None:
        """Move the dirty changes, or the first share of them, to `state`."""
        dirty = [place for place, change in enumerate(self.changes) if change.state == DIRTY]
        settled = list(self.changes)
        for place in dirty[: int(len(dirty) * share)]:
            settled[place] = settled[place]._replace(state=state)
        self.changes = settled
        if all(change.state == DURABLE for change in settled):
            self.changes = settled[:0]
            self.rebase()

    def revert(self) -> None:
        """Show processes the durable state again."""
        self.changes = [change for change in self.changes if change.state == DURABLE]
        self.replay()

    def rebase(self) -> None:
        """Take the present state for the durable one."""
        raise NotImplementedError

    def replay(self) -> None:
        """Make the present state from the durable one and the changes."""
        raise NotImplementedError


class FileNode(Node[Write]):
    """The bytes of one file, whatever its names."""

    def __init__(self, number: int, base: bytes = b"", changes: Iterable[Write] = ()) -> None:
        super().__init__(number, list(changes))
        self.base = base
        self.replay()

    def change(self, call: int, offset: int, data: bytes | None) -> None:
        write(self.now, offset, data)
        self.changes.append(Write(call, DIRTY, offset, data))

    def rebase(self) -> None:
        self.base = bytes(self.now)

    def replay(self) -> None:
        self.now = bytearray(self.base)
        for change in self.changes:
            write(self.now, change.offset, change.data)


class DirectoryNode(Node[Name]):
    """The names in one directory."""

    def __init__(self, number: int, base: dict[str, int] | None = None, changes: Iterable[Name] = ()) -> None:
        super().__init__(number, list(changes))
        self.base = base or {}
        self.replay()

    def change(self, call: int, name: str, number: int | None) -> None:
        rename(self.now, name, number)
        self.changes.append(Name(call, DIRTY, name, number))

    def rebase(self) -> None:
        self.base = dict(self.now)

    def replay(self) -> None:
        self.now = dict(self.base)
        for change in self.changes:
            rename(self.now, change.name, change.number)


class Disk:
    """All files and directories, by number.  Paths are lists of names."""

    def __init__(self, nodes: dict[int, FileNode | DirectoryNode] | None = None) -> None:
        self.nodes = nodes or {ROOT: DirectoryNode(ROOT)}
        self._last_number = max(self.nodes)

    def find(self, path: Iterable[str]) -> FileNode | DirectoryNode | None:
        """Return what is at a path, None for nothing; NotADirectoryError if a file is on the way."""
        node: FileNode | DirectoryNode = self.nodes[ROOT]
        for name in path:
            if not isinstance(node, DirectoryNode):
                raise NotADirectoryError
            if name not in node.now:
                return None
            node = self.nodes[node.now[name]]
        return node

    def new_file(self) -> FileNode:
        """Return an empty file that has no name yet."""
        self._last_number += 1
        file = FileNode(self._last_number)
        self.nodes[file.number] = file
        return file

    def new_directory(self) -> DirectoryNode:
        """Return an empty directory that has no name yet."""
        self._last_number += 1
        directory = DirectoryNode(self._last_number)
        self.nodes[directory.number] = directory
        return directory

    def name_count(self, number: int) -> int:
        """Return how many names a file has now.  O(names)."""
        directories = (node for node in self.nodes.values() if isinstance(node, DirectoryNode))
        return sum(list(directory.now.values()).count(number) for directory in directories)

    def sweep(self) -> None:
        """Forget what no name leads to, now or after any crash."""
        named = {ROOT}
        for node in self.nodes.values():
            if isinstance(node, DirectoryNode):
                named.update(node.base.values(), node.now.values())
                named.update(change.number for change in node.changes if change.number is not None)
        if len(named) < len(self.nodes):
            self.nodes = {number: node for number, node in self.nodes.items() if number in named}

    def freeze(self) -> FrozenDisk:
        """Return the disk as it is.  O(files), whatever their sizes."""
        return FrozenDisk(
            {
                number: FrozenFile(node.base, node.changes, len(node.changes))
                if isinstance(node, FileNode)
                else FrozenDirectory(node.base, node.changes, len(node.changes))
                for number, node in self.nodes.items()
            }
        )


class FrozenFile(NamedTuple):
    """A file at one moment: its durable bytes, and how many of the changes had been made."""

    base: bytes
    log: list[Write]
    length: int


class FrozenDirectory(NamedTuple):
    """A directory at one moment."""

    base: dict[str, int]
    log: list[Name]
    length: int


class FrozenDisk:
    """A disk at one moment, from which any number of crashes can start."""

    def __init__(self, nodes: dict[int, FrozenFile | FrozenDirectory]) -> None:
        self._nodes = nodes

    def files(self) -> Iterator[tuple[bytes, list[Write]]]:
        """Yield durable bytes and changes of every file."""
        for node in self._nodes.values():
            if isinstance(node, FrozenFile):
                yield node.base, node.log[: node.length]

    def names(self) -> Iterator[Name]:
        """Yield every change of every directory."""
        for node in self._nodes.values():
            if isinstance(node, FrozenDirectory):
                yield from node.log[: node.length]

    def pending(self) -> list[int]:
        """Return, ascending, the numbers of the calls whose changes a power loss may still lose."""
        calls = {change.call for change in self.names() if change.state != DURABLE}
        for _, changes in self.files():
            calls.update(change.call for change in changes if change.state != DURABLE)
        return sorted(calls)

    def thaw(self, shift: int) -> Disk:
        """Return the same disk again, nothing lost, the numbers of past calls lowered by `shift`."""
        return Disk(
            {
                number: FileNode(number, node.base, _shifted(node.log[: node.length], shift))
                if isinstance(node, FrozenFile)
                else DirectoryNode(number, node.base, _shifted(node.log[: node.length], shift))
                for number, node in self._nodes.items()
            }
        )

    def lose(self, mode: str, rng: random.Random) -> Disk:
        """Return what a power loss leaves; `mode` is one of `POWER_LOSSES`."""
        return self._rebuilt(*POWER_LOSSES[mode](self, rng))

    def lose_calls(self, lost: Collection[int]) -> Disk:
        """Return the disk after a power loss that lost what these calls changed and kept the rest."""
        return self._rebuilt(
            lambda change: change.call not in lost,
            lambda base, changes: _replayed(
                base, changes, lambda w: _nothing(w) if w.call in lost else _whole(w)
            ),
        )

    def _rebuilt(self, keep: Keep, content: Content) -> Disk:
        nodes: dict[int, FileNode | DirectoryNode] = {}
        found = [ROOT]
        for number in found:
            if number in nodes:
                continue  # a second name
            node = self._nodes[number]
            if isinstance(node, FrozenFile):
                nodes[number] = FileNode(number, bytes(content(node.base, node.log[: node.length])))
                continue
            names = dict(node.base)
            for change in node.log[: node.length]:
                if change.state == DURABLE or keep(change):
                    rename(names, change.name, change.number)
            nodes[number] = DirectoryNode(number, names)
            found.extend(names.values())
        return Disk(nodes)


def _shifted(changes: list[Change], shift: int) -> list[Change]:
    return [change._replace(call=change.call - shift) for change in changes]


def _whole(write: Write) -> Iterable[Fragment]:
    return ((write.offset, write.data),)


def _nothing(write: Write) -> Iterable[Fragment]:
    return ()


def _replayed(base: bytes, changes: list[Write], left: Callable[[Write], Iterable[Fragment]]) -> bytearray:
    """Return the bytes of a file whose pending writes left these fragments of themselves."""
    content = bytearray(base)
    for change in changes:
        for offset, data in _whole(change) if change.state == DURABLE else left(change):
            write(content, offset, data)
    return content


def _blocks(offset: int, data: bytes, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield a write in pieces that do not cross a multiple of `size`."""
    at = 0
    while at < len(data):
        stop = at + size - (offset + at) % size
        yield offset + at, data[at:stop]
        at = stop


def _all_names(change: Name) -> bool:
    return True


def _no_names(change: Name) -> bool:
    return False


def _synced(base: bytes, changes: list[Write]) -> bytearray:
    return _replayed(base, changes, _nothing)


def _strict(disk: FrozenDisk, rng: random.Random) -> tuple[Keep, Content]:
    return _no_names, _synced


def _dir_prefix(disk: FrozenDisk, rng: random.Random) -> tuple[Keep, Content]:
    calls = sorted({change.call for change in disk.names() if change.state != DURABLE})
    kept = set(calls[: rng.randint(0, len(calls))])
    return lambda change: change.call in kept, _synced


def _reorder(disk: FrozenDisk, rng: random.Random) -> tuple[Keep, Content]:
    def content(base: bytes, changes: list[Write]) -> bytearray:
        pending = [change.call for change in changes if change.state != DURABLE]
        fate = rng.choice(("none", "all", "first", "blocks"))
        if not pending or fate == "none":
            return _synced(base, changes)
        if fate == "all":
            return _replayed(base, changes, _whole)
        if fate == "first":
            end = rng.choice(pending)
            return _replayed(base, changes, lambda write: _whole(write) if write.call < end else ())
        size, odds = rng.choice(BLOCKS), rng.choice((0.1, 0.5, 0.9))

        def some(write: Write) -> Iterable[Fragment]:
            pieces = _whole(write) if write.data is None else _blocks(write.offset, write.data, size)
            return [piece for piece in pieces if rng.random() < odds]

        return _replayed(base, changes, some)

    return lambda change: rng.random() < 0.5, content


def _torn(disk: FrozenDisk, rng: random.Random) -> tuple[Keep, Content]:
    def pending(changes: list[Write]) -> list[Write]:
        return [change for change in changes if change.state != DURABLE and change.data]

    newest = max((change.call for _, changes in disk.files() for change in pending(changes)), default=-1)

    def content(base: bytes, changes: list[Write]) -> bytearray:
        last = next(reversed(pending(changes)), None)

        def cut(write: Write) -> Iterable[Fragment]:
            if write is not last or write.data is None or (write.call != newest and rng.random() < 0.75):
                return _whole(write)
            stop = rng.randrange(write.offset, write.offset + len(write.data))
            stop -= stop % rng.choice(CUTS)
            return ((write.offset, write.data[: max(0, stop - write.offset)]),)

        return _replayed(base, changes, cut)

    return _all_names, content


def _tail(disk: FrozenDisk, rng: random.Random) -> tuple[Keep, Content]:
    old = [base for base, _ in disk.files()]

    def content(base: bytes, changes: list[Write]) -> bytearray:
        content = _replayed(base, changes, _whole)
        synced = len(_synced(base, changes))
        if len(content) > synced:
            start = rng.choice((synced, rng.randrange(synced, len(content))))
            stop = rng.choice((len(content), rng.randint(start, len(content))))
            # zeros; or what another file has, or had, in this place; or noise
            stale = rng.choice((bytes(stop), rng.choice(old), b""))[start:stop]
            content[start:] = stale + rng.randbytes(stop - start - len(stale))
        return content

    return _all_names, content


def _trash(disk: FrozenDisk, rng: random.Random) -> tuple[Keep, Content]:
    def content(base: bytes, changes: list[Write]) -> bytearray:
        size = rng.choice(SECTORS)

        def battered(write: Write) -> Iterator[Fragment]:
            if write.data is None:
                yield from _whole(write) if rng.random() < 0.5 else ()
                return
            for offset, data in _blocks(write.offset, write.data, size):
                fate = rng.choice(("new", "old", "random"))
                if fate != "old":
                    yield offset, data if fate == "new" else rng.randbytes(len(data))

        return _replayed(base, changes, battered)

    return _all_names, content


POWER_LOSSES: dict[str, Callable[[FrozenDisk, random.Random], tuple[Keep, Content]]] = {
    "strict": _strict,
    "dir-prefix": _dir_prefix,
    "reorder": _reorder,
    "torn": _torn,
    "tail": _tail,
    "trash": _trash,
}
