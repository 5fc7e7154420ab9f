"""A persistent cache: entries that end, in a directory that does not grow past a bound.

    from lsmdbm.cache import Cache

    with Cache("pages", max_bytes=100_000_000, ttl=3600) as cache:
        cache["front"] = "<html>"
        page = cache.get_or_set("back", fetch)

        @cache.memoize("prices", ttl=60)
        def prices(day): ...

Below it is a database with compaction "fifo": what is oldest goes first, by whole tables, at constant cost
and without an index of what is how old.

As a `ttl`, `TTL` stands for that of the cache.

Modules: `keys`, `entries`: bytes; `lifetimes`, `space`, `aging`: when an entry goes; `flights`: one computes,
others wait; `memo`: functions; `figures`; `holding`, `mapping`: entries; `cache`: all of them together.
"""

from lsmdbm.cache.cache import Cache
from lsmdbm.cache.figures import CacheStats
from lsmdbm.cache.lifetimes import TTL
from lsmdbm.cache.memo import Memo

__all__ = ["TTL", "Cache", "CacheStats", "Memo"]
