"""Public: under which name a class is known to those who use it.

`lsmdbm.NotFoundError` is what a traceback says, what help() and pickle name, and where a user finds it.  So a
class says that it is of the package, not of the module that its lines are in.

Rules
  1. `__module__` is assigned here, never written into the body of a class.  Since Python 3.13 a class knows
     the line it begins in, and `inspect.getsource()` shows what is there in the file of the module it names:
     lines of `lsmdbm/__init__.py`, or half a string, at which it fails.  Without that line the answer is an
     OSError, "source code not available", as it is before 3.13.
  2. The lines of a method are found all the same: code knows its file.

The true module would let tools show the class, and users read `lsmdbm._base.errors.NotFoundError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T", bound=type)


def member_of(package: str) -> Callable[[T], T]:
    """Return a decorator: a class is of this package for all who ask."""

    def rename(kind: T) -> T:
        kind.__module__ = package
        if "__firstlineno__" in vars(kind):  # rule 1
            delattr(kind, "__firstlineno__")
        return kind

    return rename
