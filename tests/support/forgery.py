"""Files with wrong contents and right checksums: mutations that reach the decoders behind them.

    files = forged(rng, specimen.files)      one to three things wrong in one file, sealed again

A log, a manifest or a table is taken apart, something in it is changed, and it is put together with the
checksums that belong to what it then holds; a manifest is made to fit the tables.  Which bytes a checksum
covers, and with which seed, is written down here anew, after docs/format.md.

Thread safety: none.
"""

from __future__ import annotations

import dataclasses
import random
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import zstandard

from support.format import place, seed_of, u8, u32, u64, with_crc

Files = dict[str, bytes]
Damage = Callable[[random.Random, bytes], bytes]

INTERESTING = (
    *(0, 1, 2, 3, 4, 5, 7, 8, 16, 24, 27, 28, 52, 55, 56, 57, 91, 92, 255, 256, 4096, 65535, 65536, 65537),
    *((1 << 20), (1 << 24) - 1, 1 << 24, (1 << 24) + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1),
    *((1 << 32), (1 << 62), (1 << 63) - 2, (1 << 63) - 1, 1 << 63, (1 << 64) - 1),
)


# -- bytes ------------------------------------------------------------------------------------------


def _number(rng: random.Random, width: int, old: int, length: int) -> bytes:
    value = rng.choice(
        (*INTERESTING, old + 1, old - 1, 2 * old, old ^ (1 << rng.randrange(8 * width)), length)
    )
    return (value % (1 << 8 * width)).to_bytes(width, "little")


def with_another_number(rng: random.Random, data: bytes) -> bytes:
    """Put another integer somewhere."""
    width = rng.choice((1, 1, 2, 4, 4, 4, 8, 8))
    if len(data) < width:
        return data + b"\0"
    at = rng.randrange(len(data) - width + 1) if rng.random() < 0.5 else rng.randrange(min(len(data), 64))
    at = min(at, len(data) - width)
    old = int.from_bytes(data[at : at + width], "little")
    return data[:at] + _number(rng, width, old, len(data)) + data[at + width :]


def with_a_flipped_bit(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return b"\x01"
    damaged = bytearray(data)
    damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def without_a_piece(rng: random.Random, data: bytes) -> bytes:
    low = rng.randrange(len(data) + 1)
    return data[:low] + data[low + rng.choice((1, 2, 4, 8, 24, 1000)) :]


def with_a_piece_twice(rng: random.Random, data: bytes) -> bytes:
    low = rng.randrange(len(data) + 1)
    return data[: low + rng.choice((1, 4, 8, 24))] + data[low:]


def with_noise(rng: random.Random, data: bytes) -> bytes:
    low = rng.randrange(len(data) + 1)
    noise = rng.randbytes(rng.choice((1, 2, 4, 8, 100)))
    return data[:low] + noise + data[low + rng.choice((0, len(noise))) :]


def with_a_column(rng: random.Random, data: bytes) -> bytes:
    """Put a column, valid or not, somewhere or everywhere."""
    low = rng.choice((0, 5, 10, 15, rng.randrange(len(data) + 1)))
    return data[:low] + column(rng) + rng.choice((b"", data[low:]))


def of_noise(rng: random.Random, data: bytes) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 4, 5, 8, 24, 56, 92, 300)))


BYTES: tuple[Damage, ...] = (
    *(with_another_number, with_another_number, with_another_number, with_a_flipped_bit, without_a_piece),
    *(with_a_piece_twice, with_noise, with_a_column, of_noise),
)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Return the bytes with one thing wrong, now and then with several."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(BYTES)(rng, data)
    return data


def column(rng: random.Random, count: int | None = None) -> bytes:
    """Return a column of about `count` items, with lies in it now and then."""
    count = rng.choice((0, 1, 2, 5, 300)) if count is None else count
    count = max(0, count + rng.choice((0, 0, 0, 1, -1)))
    encoding = rng.choice((0, 1, 2, 2, 3, 255))
    if encoding == 0:
        size = rng.choice((0, 0, 1, 2, 3, 65536 if count < 3 else 1))
        return b"\0" + u32(rng.choice((size, size, size, 0xFFFFFFFF))) + rng.randbytes(size * count)
    if encoding == 1:
        width = rng.choice((1, 2, 4, 0, 3, 8))
        sizes = [rng.choice((0, 1, 2, 255)) for _ in range(count)]
        table = b"".join((size % (1 << 8 * width)).to_bytes(width, "little") for size in sizes if width)
        return b"\x01" + u8(width) + table + rng.randbytes(sum(sizes))
    return u8(encoding) + u8(rng.choice((0, 10, 255))) + rng.choice((b"\0", b"a\0b\0", bytes(count), b""))


# -- logs -------------------------------------------------------------------------------------------


@dataclass
class LogParts:
    """A log: the 52 bytes of its header before the checksum, and its records behind theirs."""

    header: bytes
    records: list[bytes]
    tail: bytes = b""

    @classmethod
    def of(cls, data: bytes) -> LogParts:
        records, offset = [], 56
        while offset + 24 <= len(data):
            end = offset + 24 + int.from_bytes(data[offset + 4 : offset + 8], "little")
            if end > len(data):
                break
            records.append(data[offset + 4 : end])
            offset = end
        return cls(data[:52], records, data[offset:])

    def join(self) -> bytes:
        number, salt = (int.from_bytes(self.header[at : at + 8], "little") for at in (8, 16))
        seed = seed_of(number, salt)
        parts = [with_crc(self.header)]
        parts += [u32(zlib.crc32(record, seed)) + record for record in self.records]
        return b"".join(parts) + self.tail


def log(rng: random.Random, data: bytes) -> bytes:
    """Return a log with something wrong."""
    parts = LogParts.of(data)
    found = parts.records
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.choice(("header", "fields", "payload", "payload", "payload", "order", "new", "tail"))
        at = rng.randrange(len(found)) if found else 0
        if kind == "header" or not found:
            parts.header = _as_long(with_another_number(rng, parts.header), 52)
        elif kind == "fields":
            start = rng.choice((0, 4, 12, 16))
            width = 8 if start == 4 else 4
            old = int.from_bytes(found[at][start : start + width], "little")
            number = _number(rng, width, old, len(data))
            found[at] = found[at][:start] + number + found[at][start + width :]
        elif kind == "payload":
            found[at] = _record(found[at][4:20], damaged(rng, found[at][20:]))
        elif kind == "order":
            found.insert(rng.randrange(len(found) + 1), found.pop(at) if rng.random() < 0.5 else found[at])
        elif kind == "new":
            found.insert(at, _record(found[at][4:12] + u32(rng.choice((1, 2, 5))) + u32(0), payload(rng)))
        else:
            parts.tail = rng.choice((bytes(60), rng.randbytes(200), data[:90], data * 3))
    return parts.join()


def _record(fields: bytes, payload: bytes) -> bytes:
    return u32(len(payload)) + fields + payload


def _as_long(data: bytes, length: int) -> bytes:
    return (data + bytes(length))[:length]


def payload(rng: random.Random) -> bytes:
    """Return the payload of a record, more or less."""
    kind = rng.choice((1, 2, 3, 3, 3, 4, 5, 0, 255))
    if kind == 1:
        return b"\x01" + u32(rng.choice((0, 1, 3, 65536, 0xFFFFFFFF))) + rng.randbytes(rng.choice((0, 3, 20)))
    if kind == 3:
        count = rng.choice((1, 2, 5))
        keys, values = column(rng, count), rng.choice((column(rng, count), b""))
        deleted = positions(rng, count)
        sizes = u32(len(keys) + rng.choice((0, 0, 1))) + u32(len(deleted) + rng.choice((0, 0, 1)))
        return b"\x03" + sizes + keys + deleted + values
    return u8(kind) + rng.randbytes(rng.choice((0, 0, 4, 70)))


def positions(rng: random.Random, count: int) -> bytes:
    """Return positions in a list, more or less."""
    found = [rng.choice((0, 1, 2, count, 0xFFFFFFFF)) for _ in range(rng.choice((0, 0, 1, 2, 5)))]
    return u32(len(found) + rng.choice((0, 0, 1))) + b"".join(map(u32, found)) if found else b""


# -- manifests --------------------------------------------------------------------------------------


def sealed_manifest(body: bytes, number: int) -> bytes:
    """Return a manifest of these bytes, which are all up to its total length."""
    body += u64(len(body) + 20)
    return with_crc(body, zlib.crc32(u64(number))) + b"LSMMEND."


def manifest(rng: random.Random, data: bytes) -> bytes:
    """Return a manifest with something wrong."""
    body = data[:-20]
    number = int.from_bytes(data[32:40], "little")
    kind = rng.choice(("field", "field", "field", "table", "bytes"))
    if kind == "field":
        at, width = rng.choice(
            ((4, 4), (8, 4), (12, 4), *((at, 8) for at in range(32, 72, 8)), (72, 4), (80, 4))
        )
        at, width = rng.choice(((at, width), (rng.randrange(76, 80), 1)))
        old = int.from_bytes(body[at : at + width], "little")
        body = body[:at] + _number(rng, width, old, len(data)) + body[at + width :]
    elif kind == "table":
        body = body[:84] + damaged(rng, body[84:])
    else:
        body = damaged(rng, body)
    return sealed_manifest(body, number)


def fitted_manifest(data: bytes, tables: Mapping[int, bytes]) -> bytes:
    """Return a manifest that has length and footer checksum of its tables as they are now."""
    body = bytearray(data[:-20])
    at = 84
    while at + 61 <= len(body):
        table = tables.get(int.from_bytes(body[at + 1 : at + 9], "little"))
        if table is not None:
            body[at + 9 : at + 17] = u64(len(table))
            body[at + 17 : at + 21] = table[-12:-8]
        at += 61
        for _ in range(2):
            at += 4 + int.from_bytes(body[at : at + 4], "little")
    return sealed_manifest(bytes(body), int.from_bytes(body[32:40], "little"))


# -- tables -----------------------------------------------------------------------------------------


@dataclass
class Part:
    """What is in one envelope, and how it is put there."""

    raw: bytes
    compressed: bool
    stated: int | None = None  # as its raw length, if that is a lie
    frame: bytes | None = None  # instead of an honest one


@dataclass
class TableParts:
    """A table, taken apart.  Handles follow from what the parts are, but for `twists`."""

    number: int
    salt: int
    blocks: list[tuple[Part, Part]]
    filter: Part
    index_head: Part
    metadata: Part  # without the lengths of the dictionary
    dictionary: Part | None = None
    again: Part | None = None  # the second one, if it is not the same
    used: bytes = b""  # the dictionary that the blocks are compressed with
    index_body: Part | None = None  # None: as the blocks stand
    twists: list[Callable[[bytes], bytes]] = field(default_factory=list)  # of the footer, up to its checksum

    @classmethod
    def of(cls, data: bytes) -> TableParts:
        """Take a sound table apart."""
        footer = data[-92:]

        def at(offset: int, width: int, where: bytes = footer) -> int:
            return int.from_bytes(where[offset : offset + width], "little")

        def part(offset: int, stored: int, raw: int, dictionary: bytes = b"") -> Part:
            body = data[offset : offset + stored - 4]
            if len(body) == raw:
                return Part(body, False)
            return Part(expanded(body, dictionary), True)

        start = at(0, 8)
        head = part(start, at(8, 4), at(12, 4))
        body = part(start + at(8, 4), at(16, 4), at(20, 4))
        metadata, dictionary = part(at(40, 8), at(48, 4), at(52, 4)), None
        if at(56, 4):
            metadata.raw, lengths = metadata.raw[:-8], metadata.raw[-8:]
            dictionary = part(28, at(0, 4, lengths), at(4, 4, lengths))
        used = dictionary.raw if dictionary is not None else b""
        blocks = []
        for low in range(5, len(body.raw), 24):
            handle = body.raw[low : low + 24]
            offset, stored = at(0, 8, handle), at(8, 4, handle)
            keys = part(offset, stored, at(12, 4, handle), used)
            blocks.append((keys, part(offset + stored, at(16, 4, handle), at(20, 4, handle), used)))
        return cls(
            number=at(64, 8),
            salt=at(72, 8),
            blocks=blocks,
            filter=part(at(24, 8), at(32, 4), at(36, 4)),
            index_head=head,
            metadata=metadata,
            dictionary=dictionary,
            used=used,
        )

    def join(self) -> bytes:
        """Return the table with checksums that fit."""
        out = [with_crc(b"LSMT" + u32(1) + u64(self.number) + u64(self.salt))]
        size = 28

        def put(part: Part, dictionary: bytes = b"") -> bytes:
            nonlocal size
            body = part.frame if part.frame is not None else part.raw
            if part.compressed and part.frame is None:
                body = min(frame(part.raw, dictionary), part.raw, key=len)
            out.append(with_crc(body, place(self.number, self.salt, size)))
            size += len(out[-1])
            return u32(len(out[-1])) + u32(
                (len(part.raw) if part.stated is None else part.stated) % (1 << 32)
            )

        lengths = put(self.dictionary) if self.dictionary is not None else b""
        handles = []
        for keys, values in self.blocks:
            handles.append(u64(size) + put(keys, self.used) + put(values, self.used))
        if self.dictionary is not None:
            put(self.again or self.dictionary)
        footer_filter = u64(size) + put(self.filter)
        footer_index = u64(size) + put(self.index_head)
        footer_index += put(self.index_body or Part(b"\0" + u32(24) + b"".join(handles), False))
        footer_metadata = u64(size) + put(dataclasses.replace(self.metadata, raw=self.metadata.raw + lengths))
        footer = footer_index + footer_filter + footer_metadata + u32(1 if lengths else 0) + u32(1)
        footer += u64(self.number) + u64(self.salt)
        for twist in self.twists:
            footer = _as_long(twist(footer), 80)
        return b"".join(out) + with_crc(footer) + b"LSMTABLE"


def frame(raw: bytes, dictionary: bytes) -> bytes:
    """Return bytes as a zstd frame, made with a dictionary if there is one."""
    data = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    return zstandard.ZstdCompressor(level=1, dict_data=data).compress(raw)


def expanded(frame: bytes, dictionary: bytes) -> bytes:
    """Return what is in a frame that was made with this dictionary, or with none."""
    data = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    return zstandard.ZstdDecompressor(dict_data=data).decompress(frame)


def _other_dictionary(rng: random.Random, parts: TableParts) -> Part | None:
    """Return another dictionary for a table, with blocks that are compressed with it or with the old one."""
    old = parts.dictionary.raw if parts.dictionary is not None else b"\x37\xa4\x30\xec" + u32(7) + bytes(300)
    kind = rng.choice(("bytes", "bytes", "tables", "tables", "none", "bomb", "length", "content", "id"))
    if kind == "none":
        return None
    if kind == "bomb":
        return bomb(rng, old)
    if kind == "length":
        return Part(old[:8] + bytes(rng.choice((0, 1, 65528, 65529, 1 << 22))), rng.random() < 0.5)
    if kind == "content":
        return Part(rng.choice((b"", old[:7], rng.randbytes(1000), old[8:])), False)
    if kind == "id":
        return Part(old[:4] + u32(rng.choice((0, 1, 300, 1 << 31))) + old[8:], True)
    if kind == "tables" and len(old) > 8:  # the entropy tables stand in front
        at = rng.randrange(8, min(len(old), 160))
        return Part(old[:at] + rng.randbytes(rng.choice((1, 2, 20))) + old[at + 1 :], True)
    return Part(damaged(rng, old), True)


def bomb(rng: random.Random, raw: bytes) -> Part:
    """Return an envelope that claims much, or not what is in it."""
    size = rng.choice((1 << 16, 1 << 20, 1 << 22, (1 << 22) + 1, 1 << 24, 1 << 25, (1 << 25) + 1))
    kind = rng.choice(("zeros", "lie", "no size", "two frames", "skippable", "cut", "ones"))
    if kind == "zeros":
        return Part(bytes(size), True)
    if kind == "ones":
        return Part(raw + b"\xff" * size, True)
    honest = zstandard.compress(raw)
    if kind == "lie":
        return Part(raw, True, stated=len(raw) + rng.choice((1, -1, 1 << 30)), frame=honest)
    if kind == "no size":
        frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(size))
        return Part(raw, True, stated=size, frame=frame)
    if kind == "two frames":
        return Part(raw, True, stated=rng.choice((1, 2)) * len(raw), frame=honest + honest)
    if kind == "skippable":
        return Part(raw, True, stated=rng.choice((0, len(raw))), frame=b"\x50\x2a\x4d\x18" + u32(4) + b"abcd")
    return Part(raw, True, frame=honest[:-3])


def table(rng: random.Random, data: bytes) -> bytes:
    """Return a table with something wrong."""
    parts = TableParts.of(data)
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.choice(
            (
                "head",
                "head",
                "body",
                "filter",
                "index",
                "handles",
                "metadata",
                "footer",
                "order",
                "dictionary",
            )
        )
        if parts.used and rng.random() < 0.3:
            kind = "dictionary"
        at = rng.randrange(len(parts.blocks))
        keys, values = parts.blocks[at]
        if kind == "head":
            parts.blocks[at] = _other(rng, keys, head), values
        elif kind == "body":
            parts.blocks[at] = keys, _other(rng, values, damaged)
        elif kind == "filter":
            parts.filter = _other(rng, parts.filter, damaged)
        elif kind == "index":
            parts.index_head = _other(rng, parts.index_head, head)
        elif kind == "handles":
            whole = b"".join(u64(rng.choice((0, 28, 60, 1 << 40))) + rng.randbytes(16) for _ in parts.blocks)
            parts.index_body = Part(damaged(rng, b"\0" + u32(24) + whole), False)
        elif kind == "metadata":
            parts.metadata = _other(rng, parts.metadata, damaged)
        elif kind == "dictionary":
            first = parts.dictionary
            parts.dictionary = _other_dictionary(rng, parts)
            if first is not None and parts.dictionary is not None and rng.random() < 0.3:
                parts.dictionary.stated = len(first.raw)
                parts.again = first  # sound, but in most cases not where it is looked for
        elif kind == "footer":
            parts.twists.append(lambda footer: with_another_number(rng, footer))
        else:
            parts.blocks[at : at + 1] = rng.choice(([], 2 * [parts.blocks[at]], parts.blocks[::-1]))
            parts.blocks = parts.blocks or [(keys, values)]
    return parts.join()


def _other(rng: random.Random, part: Part, damage: Damage) -> Part:
    if rng.random() < 0.1:
        return bomb(rng, part.raw)
    return Part(damage(rng, part.raw), part.compressed and rng.random() < 0.9)


def head(rng: random.Random, data: bytes) -> bytes:
    """Return the head of a block with something wrong."""
    if rng.random() < 0.5:
        return damaged(rng, data)
    count = rng.choice((0, 1, 2, 3, 300, 1 << 24, (1 << 24) + 1))
    ids = rng.choice(((1,), (1, 2), (2,), (1, 1), (1, 3), ()))
    columns = [column(rng, min(count, 300)) if each != 2 else positions(rng, count) for each in ids]
    entries = b"".join(u8(each) + u32(len(data)) for each, data in zip(ids, columns, strict=True))
    return u32(count) + u8(len(ids)) + entries + b"".join(columns)


# -- databases --------------------------------------------------------------------------------------

FORGERS: dict[str, Damage] = {"wal": log, "man": manifest, "sst": table}


def forged(
    rng: random.Random, files: Mapping[str, bytes], others: Mapping[str, bytes] | None = None
) -> Files:
    """Return the files of a sound database with something wrong in one or two of them.

    Args:
        others: files of another database, to splice.
    """
    forged = dict(files)
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(list(files))
        kind = rng.random()
        if kind < 0.85:
            forged[name] = FORGERS[name[-3:]](rng, files[name])
        elif kind < 0.9:
            forged[name] = rng.randbytes(rng.randrange(400))
        elif kind < 0.95 and others:
            other = rng.choice(list(others.values()))
            at = rng.randrange(len(other))
            forged[name] = rng.choice((other, files[name][: rng.randrange(400)] + other[at:]))
        else:
            number = rng.choice((0, 1, (1 << 63) - 1, (1 << 63) - 2, 1 << 62, 1 << 63))
            forged[f"{number:06d}{name[-4:]}"] = rng.choice((b"", files[name]))
    return fitted(forged)


def fitted(files: Files) -> Files:
    """Return the files with every whole manifest made to fit the tables there are."""
    tables = {int(name[:-4]): data for name, data in files.items() if name.endswith("sst") and len(data) > 92}
    fitted = dict(files)
    for name, data in files.items():
        if name.endswith("man") and data[-8:] == b"LSMMEND." and len(data) > 104:
            fitted[name] = fitted_manifest(data, tables)
    return fitted
