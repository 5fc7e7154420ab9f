"""What the tests of lsmdbm/_format share: bytes by hand, damage, and tables in memory.

The integers and checksums are written without `struct`, so that two mistakes would have to agree.

Thread safety: none.
"""

from __future__ import annotations

import errno
import os
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence

from lsmdbm._base.chunk import Chunk
from lsmdbm._base.lru import LRU
from lsmdbm._base.storage import File
from lsmdbm._format.block import Block
from lsmdbm._format.manifest import TableMeta
from lsmdbm._format.table_reader import ReadCounters, TableReader
from lsmdbm._format.table_writer import Origin, TableWriter

Entry = tuple[bytes, "bytes | None"]

NUMBER = 18
SALT = 0x1122334455667788
ORIGIN = Origin(level=0, first_seq=1, last_seq=9)


def u8(value: int) -> bytes:
    return value.to_bytes(1, "little")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def counted(data: bytes) -> bytes:
    return u32(len(data)) + data


def seed_of(number: int, salt: int) -> int:
    """Return the checksum seed of a file."""
    return zlib.crc32(u64(number) + u64(salt))


def place(number: int, salt: int, offset: int) -> int:
    """Return the checksum seed of the bytes at `offset` in a file."""
    return zlib.crc32(u64(number) + u64(salt) + u64(offset))


def frame(payload: bytes, seed: int, *, seq: int = 5, count: int = 1, durable: int = 0) -> bytes:
    """Return the record of a log around a payload."""
    tail = u32(len(payload)) + u64(seq) + u32(count) + u32(durable) + payload
    return u32(zlib.crc32(tail, seed)) + tail


def with_crc(data: bytes, seed: int = 0) -> bytes:
    return data + u32(zlib.crc32(data, seed))


def flipped(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (offset of the byte, the data) with every single bit wrong in turn."""
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit >> 3] ^= 1 << (bit & 7)
        yield bit >> 3, bytes(damaged)


def patched(data: bytes, offset: int, new: bytes) -> bytes:
    """Return `data` with `new` at `offset`."""
    return data[:offset] + new + data[offset + len(new) :]


def describe(value: object) -> str | None:
    """Return the id of a test parameter: bytes by their length, others as pytest has it."""
    return f"{len(value)}-bytes" if isinstance(value, bytes) else None


class MemoryFile:
    """A File that is a bytearray, and keeps (length, offset) of every read and write.

    Args:
        write_limit: bytes one `pwrite` takes at most; None for all.
    """

    def __init__(
        self, data: bytes = b"", *, path: str = "000018.sst", write_limit: int | None = None
    ) -> None:
        self.path = path
        self.data = bytearray(data)
        self.preads: list[tuple[int, int]] = []
        self.pwrites: list[tuple[int, int]] = []
        self._write_limit = write_limit

    def pread(self, length: int, offset: int) -> bytes:
        self.preads.append((length, offset))
        if offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.path)
        return bytes(self.data[offset : offset + length])

    def pwrite(self, data: bytes, offset: int) -> int:
        data = data[: self._write_limit]
        self.pwrites.append((len(data), offset))
        self.data[offset : offset + len(data)] = data
        return len(data)

    def truncate(self, length: int) -> None:
        del self.data[length:]

    def fdatasync(self) -> None: ...

    def fsync(self) -> None: ...

    def size(self) -> int:
        return len(self.data)

    def close(self) -> None: ...


def chunk_of(entries: Sequence[Entry]) -> Chunk:
    return [key for key, _ in entries], [value for _, value in entries]


def entries_of(chunks: Iterable[Chunk]) -> list[Entry]:
    return [entry for keys, values in chunks for entry in zip(keys, values, strict=True)]


def chunks_of(entries: Sequence[Entry], rng: random.Random) -> Iterator[Chunk]:
    """Yield `entries` as chunks of random lengths."""
    low = 0
    while low < len(entries):
        high = low + rng.choice((1, 2, 5, 40))
        yield chunk_of(entries[low:high])
        low = high


def table_writer(
    file: File,
    *,
    number: int = NUMBER,
    salt: int = SALT,
    block_bytes: int = 64,
    level: int | None = 1,
    bloom_bits: int = 12,
    dictionary: bytes = b"",
    batch_bytes: int = 0,
) -> TableWriter:
    return TableWriter(
        *(file, number, salt),
        block_bytes=block_bytes,
        level=level,
        bloom_bits=bloom_bits,
        dictionary=dictionary,
        batch_bytes=batch_bytes,
    )


def finish(writer: TableWriter, origin: Origin = ORIGIN) -> TableMeta:
    """Run `writer.finish()` to its end."""
    steps = writer.finish(origin)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            meta: TableMeta = stop.value
            return meta


def build_table(entries: Sequence[Entry], **settings: int | bytes | None) -> tuple[MemoryFile, TableMeta]:
    """Return a table of `entries`, written as one chunk with `table_writer(**settings)`."""
    file = MemoryFile()
    writer = table_writer(file, **settings)
    writer.add(*chunk_of(entries))
    return file, finish(writer)


def open_table(
    file: File,
    meta: TableMeta,
    *,
    cache: LRU[int, Block] | None = None,
    counters: ReadCounters | None = None,
) -> TableReader:
    return TableReader(file, meta, LRU(1 << 24) if cache is None else cache, counters or ReadCounters())
