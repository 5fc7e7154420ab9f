"""How much a random or exhaustive suite tries: so many cases, or so long, as the environment says.

    with Budget("T3", small=400, default=20_000, crash=300_000, long=10_000_000) as reach:
        for case in reach:                  "T3 2718-0", "T3 2718-1": strings, for random.Random(case)
            for point in points(random.Random(case)):
                if not reach.is_over():
                    look(point)
                    reach.count()
    prints                                  T3: seed 2718, 300000 states, 0 failures

    LSMDBM_BUDGET   small, default, crash or long: which of the four figures
    LSMDBM_T3       300000 or 90s: so many, or so many seconds, instead of the figure of suite T3
    LSMDBM_SEED     an integer from which all cases follow

Rules
  1. Cases that failed once, the lines of past_cases.txt, come first, and all of them.  A failure prints the
     line to add there.
  2. A case that counts nothing counts as one, so that the loop ends.
  3. Several tests may divide a suite among them: each has a part, a name, and a share of the figure, at
     least one.  A time is divided likewise.

Thread safety: none.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

NAMES = ("small", "default", "crash", "long")
PAST = Path(__file__).with_name("past_cases.txt")


class Budget:
    """What one suite, or one part of a suite, is given, and what it has reached.

    Args:
        suite: its name, one word; with LSMDBM_ before it, the variable that sets its figure.
        small, default, crash, long: the figures, in cases.
        part: of the suite, "" for all.
        share: of the figure that this part takes.
        unit: what is counted.

    Attributes:
        counts: how many of `unit`, and of anything else a test counts.
    """

    def __init__(
        self,
        suite: str,
        *,
        small: int,
        default: int,
        crash: int,
        long: int,
        part: str = "",
        share: float = 1.0,
        unit: str = "states",
    ) -> None:
        self.label = f"{suite} {part}".rstrip()
        self.unit = unit
        self.seed = int(os.environ["LSMDBM_SEED"])
        self.counts: Counter[str] = Counter()
        self._case = ""
        self._started = time.monotonic()
        name = os.environ["LSMDBM_BUDGET"]
        figure = os.environ.get(f"LSMDBM_{suite}") or str(
            dict(zip(NAMES, (small, default, crash, long), strict=True))[name]
        )
        try:
            self._seconds = float(figure[:-1]) * share if figure.endswith("s") else None
            self.goal = max(1, round(int(figure) * share)) if self._seconds is None else None
        except ValueError:
            raise ValueError(f"LSMDBM_{suite}={figure!r}: must be like 300000 or 90s") from None

    @property
    def reached(self) -> int:
        """How many of `unit` there were so far."""
        return self.counts[self.unit]

    def count(self, what: str | None = None, number: int = 1) -> None:
        """Note that so many more were tried; of `unit` if no other thing is named."""
        self.counts[what or self.unit] += number

    def is_over(self) -> bool:
        """Return whether the figure is reached, or the time is up."""
        if self.goal is not None:
            return self.reached >= self.goal
        return self._seconds is not None and time.monotonic() - self._started >= self._seconds

    def __iter__(self) -> Iterator[str]:
        """Yield the cases: past ones, then new ones until it is over."""
        for case in past_cases(self.label):
            yield from self._counted(case)
        number = 0
        while not self.is_over():
            yield from self._counted(f"{self.label} {self.seed}-{number}")
            number += 1

    def _counted(self, case: str) -> Iterator[str]:
        before = self.reached
        self._case = case
        yield case
        if self.reached == before:  # rule 2
            self.count()

    def __enter__(self) -> Budget:
        self._started = time.monotonic()
        return self

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        others = "".join(
            f", {count} {what}" for what, count in sorted(self.counts.items()) if what != self.unit
        )
        failures = f"{int(exc is not None)} failures"
        print(f"{self.label}: seed {self.seed}, {self.reached} {self.unit}, {failures}{others}")
        if exc is not None and self._case:
            print(f"Once it is mended, add to {PAST.name}: {self._case}")


def past_cases(label: str) -> list[str]:
    """Return the cases of a suite, or of a part of one, that failed once."""
    return past_cases_in(PAST, label)


def past_cases_in(path: Path, label: str) -> list[str]:
    """Return the cases that such a file lists."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line.rpartition(" ")[0] == label]
