"""Small documents with the same fields in each, and a dictionary for them.

Thread safety: none.
"""

from __future__ import annotations

import json
import random

from lsmdbm._format import dictionaries
from support.format import Entry, chunk_of

NAMES = ("anna", "bert", "carla", "dora", "emil", "fritz", "greta", "hans")
KINDS = ("login", "logout", "click", "view", "purchase", "refund", "search", "signup")


def document(rng: random.Random, number: int) -> bytes:
    """Return a JSON document of some 200 bytes."""
    fields = {
        "id": number,
        "type": rng.choice(KINDS),
        "user": {"name": rng.choice(NAMES), "email": f"{rng.choice(NAMES)}{rng.randrange(999)}@example.com"},
        "created_at": f"2024-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:00",
        "active": rng.random() < 0.8,
        "score": rng.randrange(10_000),
    }
    return json.dumps(fields).encode()


def documents(rng: random.Random, count: int, first: int = 0) -> list[Entry]:
    """Return so many documents under ascending keys."""
    return [(b"document %08d" % number, document(rng, number)) for number in range(first, first + count)]


def noise(rng: random.Random, count: int) -> list[Entry]:
    """Return as many values of the same length that have nothing in common."""
    return [(b"noise %08d" % number, rng.randbytes(200)) for number in range(count)]


def blocks_of(entries: list[Entry], count: int = 20) -> list[tuple[list[bytes], list[bytes | None]]]:
    """Return entries as chunks of so many."""
    return [chunk_of(entries[low : low + count]) for low in range(0, len(entries), count)]


def dictionary_for(entries: list[Entry], table_bytes: int = 1 << 20) -> bytes:
    """Return the dictionary that a writer would choose for these entries."""
    return dictionaries.choose(blocks_of(entries), 1, table_bytes)
