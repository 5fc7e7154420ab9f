"""Stands in for the extension module mmh3: MurmurHash3_x64_128, in Python, and slowly."""

MASK = (1 << 64) - 1
C1, C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


def rotated(word, left):
    return (word << left | word >> 64 - left) & MASK


def first(lane):
    return rotated(lane * C1 & MASK, 31) * C2 & MASK


def second(lane):
    return rotated(lane * C2 & MASK, 33) * C1 & MASK


def mixed(word):
    word = (word ^ word >> 33) * 0xFF51AFD7ED558CCD & MASK
    word = (word ^ word >> 33) * 0xC4CEB9FE1A85EC53 & MASK
    return word ^ word >> 33


def hash128(key, seed=0):
    """Return the hash as mmh3 does: both halves as one integer, the first half lowest."""
    data = bytes(key)
    whole = len(data) & ~15
    low = high = seed
    for position in range(0, whole, 16):
        lane = int.from_bytes(data[position : position + 16], "little")
        low = rotated(low ^ first(lane & MASK), 27) + high & MASK
        low = low * 5 + 0x52DCE729 & MASK
        high = rotated(high ^ second(lane >> 64), 31) + low & MASK
        high = high * 5 + 0x38495AB5 & MASK
    lane = int.from_bytes(data[whole:], "little")
    low ^= first(lane & MASK) ^ len(data)
    high ^= second(lane >> 64) ^ len(data)
    low = low + high & MASK
    low, high = mixed(low), mixed(high + low & MASK)
    low = low + high & MASK
    return (high + low & MASK) << 64 | low
