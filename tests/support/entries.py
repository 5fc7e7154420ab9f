"""Many random entries without keeping them: a value follows from its key, the keys from a seed.

Thread safety: pure functions.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

KEY_BYTES, VALUE_BYTES = 16, 100


def keys_of(seed: int, count: int) -> Iterator[bytes]:
    """Yield random keys; the same ones, from the first on, for the same seed."""
    rng = random.Random(f"{seed} entries")
    for _ in range(count):
        yield rng.randbytes(KEY_BYTES)


def value_of(key: bytes) -> bytes:
    """Return the value that belongs to a key; it does not compress."""
    return hashlib.shake_128(key).digest(VALUE_BYTES)
