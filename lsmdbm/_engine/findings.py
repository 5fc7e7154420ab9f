"""Findings: what a repair has found so far - losses and doubts - and the report that it ends with.

Thread safety: of one repair, in one thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lsmdbm._base.errors import error
from lsmdbm._base.storage import Directory
from lsmdbm._engine.check import Problem, problem_of
from lsmdbm._engine.names import file_name


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that could not be read."""

    path: str
    offset: int  # bytes from the start of the file; -1 when the file as a whole is meant
    what: str
    low: bytes | None = None
    """No key that was lost here is below this; None if that is not known."""
    high: bytes | None = None
    """No key that was lost here is above this; None if that is not known."""

    def __str__(self) -> str:
        return str(Problem(self.path, self.offset, self.what))


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What `repair()` did.  True if nothing is lost and nothing in doubt."""

    path: str
    destination: str
    losses: tuple[Loss, ...]
    """What could not be read."""
    doubts: tuple[Problem, ...]
    """What may be wrong in the result: deleted keys that are back, older values of keys."""
    tables: int
    """Tables of which something was read."""
    records: int
    """Data records of logs that were used."""
    entries: int
    """Keys in the new database."""

    @property
    def ok(self) -> bool:
        """Whether the new database is known to hold all that the old one held."""
        return not self.losses and not self.doubts

    def __bool__(self) -> bool:
        return self.ok


@dataclass(slots=True)
class Findings:
    """The findings so far."""

    directory: Directory
    names: list[str]
    losses: list[Loss] = field(default_factory=list)
    doubts: list[Problem] = field(default_factory=list)
    tables: int = 0
    records: int = 0
    read_bytes: int = 0

    def report(self, destination: str, entries: int) -> RepairReport:
        """Return what there is to say at the end."""
        return RepairReport(
            path=self.directory.path,
            destination=destination,
            losses=tuple(self.losses),
            doubts=tuple(self.doubts),
            tables=self.tables,
            records=self.records,
            entries=entries,
        )

    def path(self, number: int, kind: str) -> str:
        """Return where a file of the source is."""
        return f"{self.directory.path}/{file_name(number, kind)}"

    def doubt(self, path: str, offset: int, what: str) -> None:
        """List something that may be wrong in the result."""
        self.doubts.append(Problem(path, offset, what))

    def lose(self, exc: error, path: str, low: bytes | None = None, high: bytes | None = None) -> Loss:
        """List what an error says as a loss, once, and return it."""
        found = problem_of(exc, path)
        loss = Loss(found.path, found.offset, found.what, low, high)
        if loss not in self.losses:
            self.losses.append(loss)
        return loss
