"""Stands in for the extension module zstandard: what lsmdbm uses of it, by compression.zstd."""

from types import SimpleNamespace

from compression import zstd
from compression.zstd import ZstdError

DICT_TYPE_RAWCONTENT, DICT_TYPE_FULLDICT = 1, 2


class ZstdCompressionDict:
    def __init__(self, data, dict_type):
        try:
            self.content = zstd.ZstdDict(data, is_raw=dict_type == DICT_TYPE_RAWCONTENT)
        except ValueError as error:
            raise ZstdError(str(error)) from None

    def precompute_compress(self, level):
        pass

    def as_bytes(self):
        return self.content.dict_content


class ZstdCompressor:
    def __init__(self, level, dict_data=None, write_content_size=True):
        self.level = level
        self.content = dict_data and dict_data.content

    def compress(self, data):
        return zstd.compress(data, self.level, zstd_dict=self.content)


class ZstdDecompressor:
    def __init__(self, dict_data=None, max_window_size=0):
        self.content = dict_data and dict_data.content

    def decompress(self, frame, max_output_size, read_across_frames, allow_extra_data):
        decompressor = zstd.ZstdDecompressor(self.content)
        raw = decompressor.decompress(frame)
        if not decompressor.eof or decompressor.unused_data:
            raise ZstdError("not one whole frame")
        return raw


def frame_content_size(frame):
    size = zstd.get_frame_info(frame).decompressed_size
    return -1 if size is None else size


def get_frame_parameters(frame):
    return SimpleNamespace(dict_id=zstd.get_frame_info(frame).dictionary_id)


def frame_header_size(data):
    zstd.get_frame_info(data)  # raises what there is to raise
    is_single = data[4] >> 5 & 1
    window, size = 1 - is_single, (is_single, 2, 4, 8)[data[4] >> 6]
    return 5 + window + (0, 1, 2, 4)[data[4] & 3] + size


def train_dictionary(length, samples, k, d, level, dict_id):
    try:
        trained = zstd.train_dict(samples, length).dict_content
    except ValueError as error:
        raise ZstdError(str(error)) from None
    named = trained[:4] + dict_id.to_bytes(4, "little") + trained[8:]  # the number is behind the magic one
    return ZstdCompressionDict(named, DICT_TYPE_FULLDICT)
