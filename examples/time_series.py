"""A log of measurements, sorted by sensor and time: append, ask for an hour, thin out, forget what is old.

    python time_series.py [DATABASE]        ./weather.lsm if none is given; it is emptied first

A key is `SENSOR NUL TIME`, the time in eight bytes, most significant first: so the order of the bytes is that
of time, an hour of a sensor is one sorted range, and its newest measurement the last one with its prefix.
"""

import struct
import sys
from collections.abc import Iterable, Iterator

import lsmdbm

HOUR, DAY = 3600, 86_400
VALUE = struct.Struct("<d")


def key(sensor: str, time: int = 0) -> bytes:
    if "\0" in sensor:
        raise ValueError(f"a name with a NUL would sort into others: {sensor!r}")
    return sensor.encode() + b"\0" + time.to_bytes(8, "big")


def append(db: lsmdbm.Database, measured: Iterable[tuple[str, int, float]]) -> None:
    """Store measurements, in any order; one of the same sensor and time replaces the older one."""
    db.update((key(sensor, time), VALUE.pack(value)) for sensor, time, value in measured)


def between(db: lsmdbm.Database, sensor: str, start: int, stop: int) -> Iterator[tuple[int, float]]:
    """Yield what was measured from `start` on and before `stop`, in order."""
    for name, value in db.range(key(sensor, start), key(sensor, stop)).items():
        yield int.from_bytes(name[-8:], "big"), VALUE.unpack(value)[0]


def newest(db: lsmdbm.Database, sensor: str) -> tuple[int, float] | None:
    """Return the last measurement; at the cost of one lookup, however many there are."""
    last = db.range(prefix=f"{sensor}\0").last()
    return last and (int.from_bytes(last[0][-8:], "big"), VALUE.unpack(last[1])[0])


def thin_out(db: lsmdbm.Database, sensor: str, before: int) -> None:
    """Leave one mean an hour of what is older.  Whoever reads sees all of the hour's values, or the mean."""
    first = next(between(db, sensor, 0, before), None)
    while first is not None:
        start = first[0] - first[0] % HOUR
        stop = min(start + HOUR, before)
        values = [value for _, value in between(db, sensor, start, stop)]
        with db.batch() as batch:
            batch.delete_range(key(sensor, start), key(sensor, stop))
            batch[key(sensor, start)] = VALUE.pack(sum(values) / len(values))
        first = next(between(db, sensor, stop, before), None)


def forget(db: lsmdbm.Database, sensor: str, before: int) -> None:
    """Delete what is older; at the cost of one write, however much it is."""
    db.delete_range(key(sensor), key(sensor, before))


def main(path: str) -> None:
    with lsmdbm.open(path, "n") as db:
        for sensor, warmth in [("cellar", 11.0), ("roof", 19.0)]:  # three days, a measurement a minute
            append(db, ((sensor, time, warmth + time % DAY / DAY) for time in range(0, 3 * DAY, 60)))
        print(f"{len(db):,} measurements, the newest of the roof:", newest(db, "roof"))
        noon = [value for _, value in between(db, "roof", DAY + 12 * HOUR, DAY + 13 * HOUR)]
        print(f"the second day at noon: {len(noon)} measurements, {sum(noon) / len(noon):.2f} degrees")

        forget(db, "roof", DAY)
        thin_out(db, "roof", 2 * DAY)
        print(f"without the first day, and the second by the hour: {len(db):,} measurements")
        print([f"{value:.2f}" for _, value in between(db, "roof", 0, DAY + 4 * HOUR)])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "weather.lsm")
