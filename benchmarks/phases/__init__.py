"""What is timed.  `job` holds the clock; the other modules hold phases: functions from a Job to figures."""

from __future__ import annotations

from benchmarks.phases import mixed, opening, reading, writing
from benchmarks.phases.job import Figures, Job

PHASES = {
    phase.__name__: phase
    for phase in (
        writing.fill,
        writing.fill_durably,
        writing.fill_by_the_clock,
        writing.grow,
        writing.delete,
        writing.compact,
        writing.fill_objects,
        reading.read,
        reading.scan,
        reading.seek,
        reading.read_objects,
        opening.open_and_get,
        opening.open_and_put,
        opening.load,
        mixed.queue,
        mixed.read_while_writing,
        mixed.beside_busy,
        mixed.ycsb,
    )
}

__all__ = ["PHASES", "Figures", "Job"]
