"""What may come out of any call from outside: what Ctrl-C raises, and what the handler of an alarm does.

Who takes `Exception` for an error of the engine, or `OSError` for one of the system, is wrong about the
second one.  It is a KeyboardInterrupt as well, so that tests have one name for both.
"""

from __future__ import annotations


class Timeout(TimeoutError, KeyboardInterrupt):
    """Raised by the handler of an alarm."""


KINDS = (KeyboardInterrupt, Timeout)


def interruption(number: int, *arguments: object) -> KeyboardInterrupt:
    """Return one, of each kind in turn."""
    return KINDS[number % len(KINDS)](*arguments)
