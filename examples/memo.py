"""A function that takes its time, and whose results outlive the program.

    python memo.py [N ...]          how many primes there are below each N; results are in ./primes.cache

Results are kept for a day, under the name "primes" and the argument: the second run computes nothing.  Of
threads that want the same result one computes it, and the others wait.
"""

import sys
import threading

from lsmdbm.cache import Cache


class Primes:
    """Counts primes, and how often it had to.

    Args:
        cache: an open cache, or anything else with its `memoize()`.
    """

    def __init__(self, cache):
        self.computed = []
        self.below = cache.memoize("primes", ttl=24 * 3600)(self._count)

    def _count(self, limit):
        self.computed.append(limit)
        sieve = bytearray([1]) * limit
        sieve[:2] = bytes(min(2, limit))
        for number in range(2, int(limit**0.5) + 1):
            if sieve[number]:
                sieve[number * number :: number] = bytes(len(range(number * number, limit, number)))
        return sum(sieve)


def main(limits):
    with Cache("primes.cache", max_bytes=10_000_000) as cache:
        primes = Primes(cache)
        for limit in limits or [10_000, 20_000, 10_000]:
            before = len(primes.computed)
            count = primes.below(limit)
            how = "computed" if len(primes.computed) > before else "from the cache"
            print(f"{count:,} primes below {limit:,}, {how}")
        before = len(primes.computed)
        threads = [threading.Thread(target=primes.below, args=(1_000_000,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"four threads want those below 1,000,000: computed {len(primes.computed) - before} times")


if __name__ == "__main__":
    main([*map(int, sys.argv[1:])])
