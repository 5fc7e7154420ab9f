"""Envelope: some bytes as they stand in a table, compressed if that pays, behind a seeded checksum.

    envelope := body | crc u32            crc = crc32(body, place_seed(file, offset))
    body     := a zstd frame, or the raw bytes when those are not longer

Rules
  1. Whether the body is compressed is not stored: it is, exactly if it is shorter than the raw bytes,
     whose length stands in the handle.
  2. What is longer than MAX_COMPRESSED stays raw, so that no small file can claim much memory.
  3. A frame is decompressed only after its checksum held, and only if it states the raw length that
     the handle states: zstd allocates whatever a frame states.  One frame, nothing behind.
  4. A frame that was made with a dictionary states its id, and is decompressed with that dictionary only.

Thread safety: pure functions; each thread has its own zstd objects.  Spec: docs/format.md, Envelope.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import zstandard

from lsmdbm._format.coding import U32, Malformed, crc32, pack_place, place_seed

MAX_COMPRESSED = 4 << 20  # rule 2; On disk: a reader refuses more
KEPT = 16  # compressors and decompressors a thread keeps; with a dictionary each takes about 150 KiB
MANY = 64  # frames from which on one call for all of them is faster: it makes a context of its own
WORTH = 16  # bytes a frame must save; below that decompressing costs more than it gives
CRC_BYTES = U32.size
RESIDUE = 0x2144DF1C  # what crc32 gives for any bytes with their own crc32 behind them, whatever the seed is
frame_content_size = zstandard.frame_content_size
FRAME_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, and so are the next four
MAX_FRAME_HEADER = 18
BLOCK_HEADER = 3
REPEATED, COMPRESSED = 1, 2  # kinds of blocks in a frame: 0 is raw, 1 one byte many times


T = TypeVar("T")


class _Codecs(threading.local):
    def __init__(self) -> None:
        self.decompress = zstandard.ZstdDecompressor(max_window_size=MAX_COMPRESSED).decompress
        self.compressors: dict[Hashable, zstandard.ZstdCompressor] = {}
        self.decompressors: dict[Hashable, zstandard.ZstdDecompressor] = {}

    def compressor(self, level: int, dictionary: bytes) -> zstandard.ZstdCompressor:
        def make() -> zstandard.ZstdCompressor:
            if not dictionary:
                return zstandard.ZstdCompressor(level=level, write_content_size=True)
            data = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_FULLDICT)
            data.precompute_compress(level=level)
            return zstandard.ZstdCompressor(level=level, dict_data=data, write_content_size=True)

        return _kept(self.compressors, (level, dictionary), make)

    def decompressor(self, dictionary: bytes) -> zstandard.ZstdDecompressor:
        def make() -> zstandard.ZstdDecompressor:
            data = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_FULLDICT)
            return zstandard.ZstdDecompressor(dict_data=data, max_window_size=MAX_COMPRESSED)

        return _kept(self.decompressors, dictionary, make)


def _kept(kept: dict[Hashable, T], key: Hashable, make: Callable[[], T]) -> T:
    """Return what is kept under `key`, made if there is none; what was used longest ago goes.

    A signal handler may do the same in between.
    """
    found = kept.pop(key, None)
    if found is None:
        found = make()
        while len(kept) >= KEPT:
            kept.pop(list(kept)[0], None)
    kept[key] = found
    return found


_codecs = _Codecs()


def wrap(raw: bytes, level: int | None, seed: int, offset: int, dictionary: bytes = b"") -> bytes:
    """Return the envelope of `raw` for the place `offset` of a file.

    Args:
        level: zstd level; None leaves the bytes raw.
        seed: `file_seed` of the file.
        offset: where the envelope will begin.
        dictionary: of the file, if the bytes are part of a block; b"" for none.

    Raises:
        Malformed: the dictionary is none.
    """
    return seal(compress(raw, level, dictionary), seed, offset)


def compress(raw: bytes, level: int | None, dictionary: bytes = b"") -> bytes:
    """Return the body of the envelope of `raw`: a frame if that pays."""
    if level is not None and WORTH < len(raw) <= MAX_COMPRESSED:
        try:
            frame = _codecs.compressor(level, dictionary).compress(raw)
        except zstandard.ZstdError as exc:
            raise Malformed(f"zstd: {exc}") from None
        if len(frame) + WORTH <= len(raw):
            return frame
    return raw


def compress_all(raws: Sequence[bytes], level: int | None, dictionary: bytes = b"") -> list[bytes]:
    """Return for each of some raw bytes what `compress` does; by one call, which is faster, if they are many.

    Raises:
        Malformed: the dictionary is none.
    """
    worth: list[bytes | bytearray | memoryview] = [raw for raw in raws if WORTH < len(raw) <= MAX_COMPRESSED]
    many = None
    try:
        if level is not None and len(worth) >= MANY:  # another backend of zstandard knows single calls only
            many = getattr(_codecs.compressor(level, dictionary), "multi_compress_to_buffer", None)
        if many is None:
            return [compress(raw, level, dictionary) for raw in raws]
        frames = iter(many(worth))
    except zstandard.ZstdError as exc:
        raise Malformed(f"zstd: {exc}") from None
    bodies = []
    for raw in raws:
        if WORTH < len(raw) <= MAX_COMPRESSED:
            frame = next(frames)
            bodies.append(frame.tobytes() if len(frame) + WORTH <= len(raw) else raw)
        else:
            bodies.append(raw)
    return bodies


def seal(body: bytes, seed: int, offset: int) -> bytes:
    """Return an envelope around a body as it is, compressed or not."""
    return body + U32.pack(crc32(body, place_seed(seed, offset)))


def seal_all(bodies: Iterable[bytes], seed: int, offset: int) -> list[bytes]:
    """Return envelopes around bodies that stand one after the other in a file, the first one at `offset`."""
    envelopes = []
    for body in bodies:
        stored = body + U32.pack(crc32(body, crc32(pack_place(offset), seed)))  # seal(), with two calls less
        envelopes.append(stored)
        offset += len(stored)
    return envelopes


def check(stored: bytes, seed: int, offset: int) -> bytes:
    """Return the body of an envelope, or raise Malformed if its checksum is wrong."""
    if crc32(stored, crc32(pack_place(offset), seed)) != RESIDUE:  # `place_seed`, without the call
        raise Malformed("checksum does not match")
    return stored[:-CRC_BYTES]


def unwrap(stored: bytes, raw_bytes: int, seed: int, offset: int, dictionary: bytes = b"") -> bytes:
    """Return the raw bytes of an envelope.

    Args:
        stored: exactly the bytes a handle names.
        raw_bytes: the raw length that the handle states.
        seed: `file_seed` of the file.
        offset: where the envelope begins.
        dictionary: of the file, if the bytes are part of a block; b"" for none.

    Raises:
        Malformed: the checksum or the raw length is wrong.
    """
    return expand(check(stored, seed, offset), raw_bytes, dictionary)


def recompress(body: bytes, raw_bytes: int, dictionary: bytes, level: int | None, target: bytes) -> bytes:
    """Return a body that was compressed with one dictionary as one compressed with another.

    Args:
        body: as `check` returned it.
        raw_bytes: the raw length that its handle states.
        dictionary: of the file it comes from.
        level: zstd level; None leaves the bytes raw.
        target: the dictionary of the file it goes to.

    Raises:
        Malformed: the raw length is wrong.
    """
    return compress(expand(body, raw_bytes, dictionary), level, target)


def frame_bytes(data: bytes, offset: int) -> int | None:
    """Return the length of the zstd frame that begins at `offset`, None if none does; for salvage.

    Nothing is decompressed, and nothing is allocated: no checksum held yet.
    """
    if not data.startswith(FRAME_MAGIC, offset):
        return None
    try:
        position = offset + zstandard.frame_header_size(data[offset : offset + MAX_FRAME_HEADER])
    except zstandard.ZstdError:
        return None
    is_last = False
    while not is_last:
        header = int.from_bytes(data[position : position + BLOCK_HEADER], "little")
        is_last = bool(header & 1)
        kind, length = header >> 1 & 3, header >> 3
        position += BLOCK_HEADER + (1 if kind == REPEATED else length)
        if kind > COMPRESSED or position > len(data):
            return None
    return position - offset


def unwrap_found(stored: bytes, seed: int, offset: int, dictionary: bytes = b"") -> tuple[bytes, int]:
    """Return the raw bytes of an envelope of which no handle tells the raw length, and that length.

    What is stored raw, a head or a column, never begins as a frame does.

    Raises:
        Malformed: the checksum is wrong, or a frame states more than it may.
    """
    body = check(stored, seed, offset)
    if not body.startswith(FRAME_MAGIC):
        return body, len(body)
    try:
        raw_bytes = frame_content_size(body)
        needs_dictionary = zstandard.get_frame_parameters(body).dict_id != 0
    except zstandard.ZstdError as exc:
        raise Malformed(f"zstd: {exc}") from None
    return unwrap(stored, raw_bytes, seed, offset, dictionary if needs_dictionary else b""), raw_bytes


def expand(body: bytes, raw_bytes: int, dictionary: bytes = b"") -> bytes:
    """Return the raw bytes of an envelope, given the body that `check` has returned.

    Raises:
        Malformed: the raw length is wrong.
    """
    size = len(body)
    if size == raw_bytes:
        return body
    if not size < raw_bytes <= MAX_COMPRESSED:
        raise Malformed(f"{size} bytes cannot hold the {raw_bytes} expected")
    try:
        stated = frame_content_size(body)
        if stated != raw_bytes:
            raise Malformed(f"zstd frame of {stated} bytes where {raw_bytes} are expected")
        decompress = _codecs.decompressor(dictionary).decompress if dictionary else _codecs.decompress
        raw = decompress(body, 0, False, False)  # allow_extra_data; as a keyword it costs 0.3 us more
    except zstandard.ZstdError as exc:
        raise Malformed(f"zstd: {exc}") from None
    if len(raw) != raw_bytes:
        raise Malformed(f"zstd frame gave {len(raw)} bytes, {raw_bytes} expected")
    return raw
