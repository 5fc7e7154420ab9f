"""A second reader, written from docs/format.md alone: it shares no line and no constant with the engine.

Where it cannot read what the engine has written, or finds something else in it, the page does not suffice.
It is strict: what the page does not allow is a BadBytes.  Which damage is none, it does not ask.

Thread safety: pure functions.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mmh3
import zstandard

State = dict[bytes, bytes]
Values = list["bytes | None"]
Record = tuple[int, int, int, bytes]  # where it ends, its sequence, its count, its payload


class BadBytes(Exception):
    """The files are not what the page says."""


def need(condition: object, what: str) -> None:
    if not condition:
        raise BadBytes(what)


class Fields:
    """Bytes, taken one field after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, length: int) -> bytes:
        need(length <= len(self.data) - self.place, "cut short")
        self.place += length
        return self.data[self.place - length : self.place]

    def unpack(self, codes: str) -> tuple[Any, ...]:
        return struct.unpack("<" + codes, self.take(struct.calcsize("<" + codes)))

    def one(self, code: str) -> Any:
        return self.unpack(code)[0]

    def counted(self) -> bytes:
        return self.take(self.one("I"))

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.place)

    def end(self) -> None:
        need(self.place == len(self.data), "bytes too many")


# Conventions, Names


def file_seed(number: int, salt: int) -> int:
    return zlib.crc32(struct.pack("<QQ", number, salt))


def place_seed(offset: int, seed: int) -> int:
    return zlib.crc32(struct.pack("<Q", offset), seed)


def by_kind(files: Mapping[str, bytes]) -> dict[str, dict[int, bytes]]:
    found: dict[str, dict[int, bytes]] = {"man": {}, "wal": {}, "sst": {}}
    for name, data in files.items():
        match = re.fullmatch(r"([0-9]{6,19})\.(man|wal|sst)", name)
        if match and name == f"{int(match[1]):06}.{match[2]}" and int(match[1]) < 1 << 63:
            found[match[2]][int(match[1])] = data
    return found


# Column, Positions


def column(data: bytes, count: int) -> list[bytes]:
    fields = Fields(data)
    encoding = fields.one("B")
    if encoding == 2:
        separator = fields.take(1)
        items = fields.rest().split(separator)
    else:
        need(encoding < 2, "encoding")
        sizes = [fields.one("I")] * count if encoding == 0 else []
        if encoding == 1:
            sizes = [*fields.unpack(f"{count}{ {1: 'B', 2: 'H', 4: 'I'}[fields.one('B')] }")]
        items = [fields.take(size) for size in sizes]
        fields.end()
    need(len(items) == count, "items")
    return items


def spread(keys: list[bytes], positions: bytes, values: bytes) -> Values:
    """Return the value of each key; None for those that are deleted."""
    fields = Fields(positions)
    deleted = [*fields.unpack(f"{fields.one('I')}I")] if positions else []
    fields.end()
    need(deleted == sorted({*deleted}) and all(index < len(keys) for index in deleted), "positions")
    count = len(keys) - len(deleted)
    live = iter(column(values, count) if count else [])
    need(count or not values, "values of deleted keys")
    return [None if index in {*deleted} else next(live) for index in range(len(keys))]


# Manifest


def manifest(data: bytes, number: int) -> dict[str, Any]:
    total, crc, magic = struct.unpack("<QI8s", data[-20:])
    need((total, magic, data[:4]) == (len(data), b"LSMMEND.", b"LSMM"), "no manifest")
    need(crc == zlib.crc32(data[:-12], zlib.crc32(struct.pack("<Q", number))), "checksum of a manifest")
    fields = Fields(data[4:-20])
    _, oldest_reader, features, _ = fields.unpack("III16s")
    need(oldest_reader <= 1 and features < 4, "newer")
    names = ("number", "next_number", "last_seq", "min_wal", "live_count")
    found: dict[str, Any] = dict(zip(names, fields.unpack("5Q"), strict=True))
    need(found["number"] == number < found["next_number"], "number")
    if fields.unpack("IBbBB")[-1] == 2:
        fields.one("Q")
    if features & 2:
        fields.unpack("QQIQ")
    found["tables"] = [table_meta(fields, features) for _ in range(fields.one("I"))]
    fields.end()
    return found


def table_meta(fields: Fields, features: int) -> dict[str, Any]:
    level = fields.one("B")
    number, file_bytes, footer_crc = fields.unpack("QQI")
    known = fields.unpack("5Q"), fields.counted(), fields.counted()
    holes = []
    if level & 0x80:
        need(features & 1, "holes")
        holes = [(fields.counted(), fields.counted()) for _ in range(fields.one("I"))]
    return {
        "level": level & 0x7F,
        "number": number,
        "file_bytes": file_bytes,
        "footer_crc": footer_crc,
        "known": known,
        "holes": holes,
    }


# Table


class Table:
    """One table, all of which is read."""

    def __init__(self, data: bytes, meta: dict[str, Any]) -> None:
        self.data = data
        need(len(data) == meta["file_bytes"], "length")
        fields = Fields(data[-92:])
        index, bloom, described = fields.unpack("QIIII"), fields.unpack("QII"), fields.unpack("QII")
        features, version, number, salt, crc, magic = fields.unpack("IIQQI8s")
        need((version, number, magic) == (1, meta["number"], b"LSMTABLE") and features < 2, "footer")
        need(crc == meta["footer_crc"] == zlib.crc32(data[-92:-12]), "checksum of a footer")
        header = struct.pack("<4sIQQ", b"LSMT", 1, number, salt)
        need(data[:28] == header + struct.pack("<I", zlib.crc32(header)), "header")
        self.seed = file_seed(number, salt)
        self.dictionary = None
        dictionary_bytes = self._describe(Fields(self.envelope(*described)), meta, features, bloom[0])
        ends = 28 + dictionary_bytes
        self.keys: list[bytes] = []
        self.values: Values = []
        raw_bytes, before = 0, b""
        for separator, handle in zip(*self.block(*index), strict=True):
            offset, *lengths = struct.unpack("<QIIII", handle or b"")
            need(offset == ends, "a gap")
            ends += lengths[0] + lengths[2]
            raw_bytes += lengths[1] + lengths[3]
            keys, values = self.block(offset, *lengths, dictionary=self.dictionary)
            need(keys[-1] <= separator and (not self.keys or before < keys[0]), "separator")
            before = separator
            self.keys += keys
            self.values += values
        edges = (bloom[0] + bloom[1], index[0] + index[1] + index[3], described[0] + described[1])
        need((ends + dictionary_bytes, *edges) == (bloom[0], index[0], described[0], len(data) - 92), "edges")
        need(before == self.keys[-1] and self.keys == sorted({*self.keys}), "order")
        counts = (len(self.keys), self.values.count(None), raw_bytes)
        need((counts, self.keys[0], self.keys[-1]) == (meta["known"][0][:3], *meta["known"][1:]), "metadata")
        need(bloom[1] == bloom[2] + 4, "a filter that is compressed")
        check_filter(self.envelope(*bloom), self.keys)

    def _describe(self, fields: Fields, meta: dict[str, Any], features: int, filter_offset: int) -> int:
        """Compare what the table says of itself; return the length of the envelope of its dictionary."""
        fields.one("B")
        figures = fields.unpack("5Q")
        fields.unpack(f"{fields.one('I')}Q")
        need((figures, fields.counted(), fields.counted()) == meta["known"], "metadata")
        need(fields.one("I") == 0, "range deletions")
        stored, raw = fields.unpack("II") if features & 1 else (0, 0)
        fields.end()
        if features & 1:
            found = self.envelope(28, stored, raw)
            need(found == self.envelope(filter_offset - stored, stored, raw), "dictionaries")
            need(found[:4] == struct.pack("<I", 0xEC30A437), "dictionary")
            self.dictionary = zstandard.ZstdCompressionDict(found)
        return int(stored)

    def envelope(
        self, offset: int, stored: int, raw: int, dictionary: zstandard.ZstdCompressionDict | None = None
    ) -> bytes:
        whole = self.data[offset : offset + stored]
        body, crc = whole[:-4], struct.unpack("<I", whole[-4:])[0]
        need(len(whole) == stored and crc == zlib.crc32(body, place_seed(offset, self.seed)), "checksum")
        if len(body) == raw:
            return body
        frame = zstandard.get_frame_parameters(body)
        identity = dictionary.dict_id() if dictionary else 0
        need(len(body) < raw and (frame.content_size, frame.dict_id) == (raw, identity), "frame")
        if dictionary:
            return zstandard.ZstdDecompressor(dict_data=dictionary).decompress(body, allow_extra_data=False)
        return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)

    def block(
        self,
        offset: int,
        head_stored: int,
        head_raw: int,
        body_stored: int,
        body_raw: int,
        dictionary: zstandard.ZstdCompressionDict | None = None,
    ) -> tuple[list[bytes], Values]:
        fields = Fields(self.envelope(offset, head_stored, head_raw, dictionary))
        count, columns = fields.unpack("IB")
        directory = [fields.unpack("BI") for _ in range(columns)]
        data = {name: fields.take(length) for name, length in directory}
        fields.end()
        need({1} <= {*data} <= {1, 2} and len(data) == columns, "columns")
        keys = column(data[1], count)
        need(keys and keys == sorted({*keys}), "order")
        body = self.envelope(offset + head_stored, body_stored, body_raw, dictionary)
        return keys, spread(keys, data.get(2, b""), body)


def check_filter(data: bytes, keys: list[bytes]) -> None:
    words = struct.unpack(f"<{len(data) // 8}Q", data)
    for key in keys if words else ():
        found = int.from_bytes(mmh3.hash_bytes(key, 0, True), "little")
        pattern = mask(found >> 116) | mask((found >> 104) & 4095)
        need(words[found % len(words)] & pattern == pattern, "filter")


def mask(number: int) -> int:
    a, b = number % 64, number // 64
    return 1 << a | 1 << b | 1 << (5 * a + 11 * b + 17) % 64


# Log


def log_header(data: bytes, number: int) -> dict[str, int] | None:
    if len(data) < 56 or struct.unpack("<I", data[52:56])[0] != zlib.crc32(data[:52]):
        return None
    magic, version, *values = struct.unpack("<4sIQQQQIQ", data[:52])
    names = ("number", "salt", "first_seq", "prev", "prev_end", "prev_last_seq")
    header = dict(zip(names, values, strict=True))
    return header if (magic, version, header["number"]) == (b"LSMW", 1, number) else None


def records(data: bytes, header: dict[str, int]) -> Iterator[Record]:
    seed, seq, place = file_seed(header["number"], header["salt"]), header["first_seq"], 56
    while place + 24 <= len(data):
        crc, length, found, count, durable = struct.unpack("<IIQII", data[place : place + 24])
        end = place + 24 + length
        is_next = found == seq and end <= len(data) and durable <= place
        if not is_next or crc != zlib.crc32(data[place + 4 : end], seed):
            return
        yield end, seq, count, data[place + 24 : end]
        seq, place = seq + count, end


def apply(state: State, payload: bytes, count: int) -> None:
    fields = Fields(payload)
    kind = fields.one("B")
    if kind == 1:
        key = fields.counted()
        state[key] = fields.rest()
    elif kind == 2:
        state.pop(fields.rest(), None)
    elif kind == 4:
        state.clear()
    else:
        need(kind in (3, 5), "kind")
        for _ in range(fields.one("I") if kind == 5 else 0):
            start, stop = fields.counted(), fields.counted()
            remove(state, lambda key, start=start, stop=stop: start <= key and (not stop or key < stop))
            count -= 1
        if count:
            keys_bytes, tombstones_bytes = fields.unpack("II")
            keys = column(fields.take(keys_bytes), count)
            put(state, keys, spread(keys, fields.take(tombstones_bytes), fields.rest()))
    fields.end()


# Reading a database


def read(files: Mapping[str, bytes]) -> State | None:
    """Return what the database with these files holds, by name; None if there is none."""
    found = by_kind(files)
    state: State = {}
    current = newest_manifest(found["man"])
    if current is None:
        need(not found["wal"] and not found["sst"], "tables or logs without a manifest")
        return None
    levels = sorted({meta["level"] for meta in current["tables"]}, reverse=True)
    for level in levels:  # from old to new
        for meta in reversed([meta for meta in current["tables"] if meta["level"] == level]):
            table = Table(found["sst"][meta["number"]], meta)
            pairs = [
                (key, value)
                for key, value in zip(table.keys, table.values, strict=True)
                if not any(start <= key < stop for start, stop in meta["holes"])
            ]
            put(state, [key for key, _ in pairs], [value for _, value in pairs])
    need(current["live_count"] in (len(state), (1 << 64) - 1), "live_count")
    replay(state, {n: data for n, data in found["wal"].items() if n >= current["min_wal"]}, current)
    return state


def newest_manifest(manifests: Mapping[int, bytes]) -> dict[str, Any] | None:
    for number in sorted(manifests, reverse=True):
        try:
            return manifest(manifests[number], number)
        except (BadBytes, struct.error):
            continue
    return None


def replay(state: State, logs: Mapping[int, bytes], current: dict[str, Any]) -> None:
    headers = {n: header for n, data in logs.items() if (header := log_header(data, n)) is not None}
    following = {header["prev"]: n for n, header in headers.items()}
    firsts = [
        n
        for n, header in headers.items()
        if header["prev"] not in headers
        and header["prev"] < current["min_wal"]
        and header["first_seq"] <= current["last_seq"] + 1
    ]
    need(len(firsts) <= 1, "two beginnings")
    number = firsts[0] if firsts else None
    while number is not None:
        after = headers.get(following.get(number, 0))
        data, end, last_seq = logs[number], 56, headers[number]["first_seq"] - 1
        for record_end, seq, count, payload in records(data, headers[number]):
            if count and after is not None and record_end > after["prev_end"]:
                break
            if count:
                end, last_seq = record_end, seq + count - 1
                if last_seq > current["last_seq"]:
                    apply(state, payload, count)
            else:
                need(payload == data[:56], "mark")
        if after is None or (end, last_seq) != (after["prev_end"], after["prev_last_seq"]):
            return
        number = after["number"]


def put(state: State, keys: list[bytes], values: Values) -> None:
    for key, value in zip(keys, values, strict=True):
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value


def remove(state: State, is_gone: Callable[[bytes], bool]) -> None:
    for key in [key for key in state if is_gone(key)]:
        del state[key]
