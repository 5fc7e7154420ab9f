"""Options of `open()`: every field says meaning, unit, default and when to leave it alone.

Thread safety: frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from lsmdbm._base.forking import importing

CHOICES: dict[str, tuple[object, ...]] = {
    "durability": ("none", "process", "interval", "full"),
    "compression": ("zstd", None),
    "compaction": ("leveled", "tiered", "fifo"),
    "background": ("inline", "process", "manual"),
    "log_io": ("pwrite", "mmap", "auto"),
    "verify_on_open": (False, True),
    "dictionaries": (True, False),
}
BOUNDS: dict[str, tuple[int, int]] = {
    "memtable_bytes": (1, 1 << 32),
    "block_bytes": (1, 1 << 24),
    "compression_level": (-7, 19),
    "bloom_bits_per_key": (0, 16),
    "cache_bytes": (0, 1 << 42),
    "max_open_files": (1, 1 << 20),
    "log_keep_bytes": (0, 1 << 62),
}
OPTIONAL_BOUNDS: dict[str, tuple[int, int]] = {"max_bytes": (1, 1 << 62)}  # or None
SECONDS = ("sync_interval", "timeout")
SHAPE = (
    *("block_bytes", "compression", "compression_level", "dictionaries", "bloom_bits_per_key"),
    *("compaction", "max_bytes", "log_keep_bytes"),
)


class _Fields:
    """What `dataclasses` looks for in a dataclass, made when it looks.

    Importing that takes a sixth of what opening a database does.
    """

    def __get__(self, instance: object, owner: type[Options]) -> dict[str, Any]:
        with importing:
            from dataclasses import make_dataclass

        fields = [(name, owner.__annotations__[name], value) for name, value in DEFAULTS.items()]
        found: dict[str, Any] = vars(make_dataclass("Options", fields))["__dataclass_fields__"]
        return found


class Options:  # a frozen dataclass to all who ask
    """How one handle works.  The fields in `SHAPE` are remembered by the database itself.

    Given by keyword.  They never change; `==` compares all of them.

    Raises:
        TypeError: a name is no option.
        ValueError: a value is out of its bounds; the message names the option and the bounds.
    """

    durability: str = "process"
    """What a write that returned survives: `"none"` (lost with the process), `"process"` (survives a
    kill of the process), `"interval"` (the same, and synced every `sync_interval`), `"full"` (synced
    before the write returns; survives power loss).  Leave it alone unless you can name the loss you
    accept or the power cut you fear."""

    sync_interval: float = 1.0
    """Seconds between syncs at `"interval"`."""

    timeout: float = 5.0
    """Seconds to wait for another process's writer lock before `LockedError`."""

    memtable_bytes: int = 8 << 20
    """Bytes of log records held in memory before they are flushed to a table.  Real memory is two to
    three times as much.  Larger means fewer, larger flushes and a longer replay after a crash."""

    block_bytes: int = 4096
    """Bytes of keys and values in one block before compression: the unit of reading, caching and
    compressing.  Larger compresses better and makes point reads slower.  Remembered."""

    compression: str | None = "zstd"
    """`"zstd"`, or None for data that is compressed already.  Remembered."""

    compression_level: int = 1
    """zstd level, -7 (fastest) to 19 (smallest).  Remembered."""

    dictionaries: bool = True
    """Whether tables may have a zstd dictionary: 8 KiB at most of what their entries have in common, such
    as the names of the fields of JSON documents.  One is made where a sample shows that it makes the
    table smaller by a tenth, which takes about 10 ms for a whole flush or compaction, and reading gets
    no slower by it.  False if tables should be readable without one.  Remembered."""

    bloom_bits_per_key: int = 14
    """Bits of bloom filter per key of the lowest tables, 0 to 16; 14 lets about one missing key in 150
    reach a block, 0 turns filters off.  Tables above others have up to twice as many.  Remembered."""

    cache_bytes: int = 64 << 20
    """Bytes of decoded blocks kept, charged at what they cost in memory.  Indexes and filters of open
    tables may take as much again, and 16 MiB in any case."""

    compaction: str = "leveled"
    """How tables are merged: `"leveled"`, into levels each five times as large as the one above, which
    makes reads and disk space cheapest; `"tiered"`, about half as often, which makes sustained
    writing cheapest, while replaced values and the merges themselves may take several times the space
    of the data; `"fifo"`, only to keep tables few, and the oldest data is dropped past `max_bytes`: for
    caches.  May be changed at any opening.  Remembered."""

    max_bytes: int | None = None
    """Bytes of tables on disk past which `"fifo"` drops the oldest ones; needed there, refused elsewhere.
    The newest table always stays, and what is in memory and in logs comes on top: give it at least ten
    times `memtable_bytes`.  Remembered."""

    background: str = "inline"
    """Who advances flushes and compactions: `"inline"`, every write a bounded step; `"process"`, the
    same, but compactions of 4 MiB and more are done by a process of our own: for loads that last longer than
    seconds, where a second core is idle; costs some 30 MiB of memory; `"manual"`, only `flush()` and
    `compact()`, for tests and for loads that end with a `compact()`."""

    log_io: str = "pwrite"
    """How the log is written: `"pwrite"`, by system calls; `"mmap"`, by stores into memory that the system
    writes out, where a write keeps the GIL and is not held up by threads that compute in Python; refused
    where that is not safe; `"auto"`, like `"mmap"` where it is safe and of use (Linux; ext4, XFS or tmpfs; a
    Python with a GIL) and like `"pwrite"` elsewhere.  The promises are the same.  A write that pays for a
    flush or a compaction then does so in fewer and longer steps, of some 4 ms.  Leave it alone unless other
    threads compute while one writes."""

    log_keep_bytes: int = 0
    """Bytes of log kept for `changes()` beyond what recovery needs: the newest logs that hold so much, which
    is how far behind a follower may be.  A log counts as 64 KiB at least, and is kept whole.  Costs that
    space on disk.  0 keeps none: then a follower loses its place with every flush.  Remembered."""

    max_open_files: int = 256
    """Table files that a writer keeps open between reads.  A scan holds open what it is in: all of level 0
    and a table of each other level.  Flag `"r"` keeps every table open, whatever this says: a writer may
    unlink what it still reads."""

    verify_on_open: bool = False
    """Check every checksum of every table before `open()` returns.  Costs a read of the whole
    database."""

    __dataclass_fields__ = _Fields()

    def __init__(self, **given: object) -> None:
        for name, value in given.items():
            _check(name, value)
        vars(self).update(DEFAULTS, **given)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"options never change: {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"options never change: {name!r}")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, Options) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def replace(self, **changes: object) -> Options:
        """Return the same options but for some."""
        return Options(**{**vars(self), **changes})

    def shape(self) -> dict[str, object]:
        """Return the options that shape the files, by name."""
        return {name: getattr(self, name) for name in SHAPE}

    @classmethod
    def choose(cls, given: Mapping[str, Any], remembered: Mapping[str, Any] | None = None) -> Options:
        """Return the options of a handle: `given` first, then `remembered`, then the defaults.

        Args:
            remembered: None if it is not known yet whether there is a database, and what it remembers.

        Raises:
            TypeError: a name in `given` is no option.
            ValueError: a value is out of its bounds, or two do not go together.
        """
        for name in given:
            if name not in DEFAULTS:
                raise TypeError(f"open() got an unexpected keyword argument {name!r}")
        chosen = {**(remembered or {}), **given}
        if chosen.get("compaction") != "fifo" and "max_bytes" not in given:
            chosen.pop("max_bytes", None)  # another policy was chosen since
        options = cls(**chosen)
        if remembered is not None or "compaction" in given:
            options._check_bound(is_final=remembered is not None)
        return options

    def _check_bound(self, *, is_final: bool) -> None:
        """Refuse a bound that nobody keeps, and, once all is known, a policy that lacks its bound."""
        if self.compaction != "fifo" and self.max_bytes is not None:
            raise ValueError(f"option max_bytes={self.max_bytes!r}: must be None but for compaction='fifo'")
        if self.compaction == "fifo" and self.max_bytes is None and is_final:
            raise ValueError("option max_bytes=None: must be an int for compaction='fifo'")


DEFAULTS: dict[str, object] = {name: getattr(Options, name) for name in Options.__annotations__}


def _check(name: str, value: Any) -> None:
    """Raise unless there is such an option and it may have this value."""
    if name not in DEFAULTS:
        raise TypeError(f"Options() got an unexpected keyword argument {name!r}")
    if choices := CHOICES.get(name):
        if not any(value is each or (value == each and type(value) is type(each)) for each in choices):
            raise ValueError(f"option {name}={value!r}: must be one of {', '.join(map(repr, choices))}")
    elif name in SECONDS:
        if type(value) not in (int, float) or not 0 <= value < float("inf"):
            raise ValueError(f"option {name}={value!r}: must be a number of seconds, 0 or more")
    elif name not in OPTIONAL_BOUNDS or value is not None:
        low, high = (BOUNDS | OPTIONAL_BOUNDS)[name]
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"option {name}={value!r}: must be an int from {low} to {high}")
