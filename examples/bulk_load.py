"""Build sorted files in several processes, and add them to one database in one step.

    python bulk_load.py [DATABASE]          ./primes.lsm if none is given; it must not exist

Each process finds the prime factors of its own range of numbers and writes them into a file of its own.  The
database gets all files at once: whoever looks meanwhile sees no number, or all of them.
"""

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import lsmdbm
from lsmdbm.bulk import TableWriter

NUMBERS, PARTS = 40_000, 8


def factors(number):
    """Return the prime factors of a number, ascending."""
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found


def build(path, numbers):
    """Write the factors of a range of numbers into a file; a process of its own does this."""
    with TableWriter(path) as writer:
        writer.extend((f"{number:09}", " ".join(map(str, factors(number)))) for number in numbers)
    return writer.table


def main(path):
    """Build the files, ingest them, ask a question."""
    with lsmdbm.open(path, "c") as db, tempfile.TemporaryDirectory() as directory:
        if db:
            sys.exit(f"bulk_load: {path} holds something already")
        step = NUMBERS // PARTS
        with ProcessPoolExecutor(2) as pool:
            futures = [
                pool.submit(build, Path(directory, f"{start}.table"), range(max(2, start), start + step))
                for start in range(0, NUMBERS, step)
            ]
            tables = [future.result() for future in futures]
        count = db.ingest([table.path for table in tables])
        print(f"{count} numbers from {len(tables)} files")
        print("39999 =", db["000039999"].decode().replace(" ", " * "))
        primes = sum(b" " not in value for value in db.values())
        print(f"{primes} primes below {NUMBERS}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "primes.lsm")
