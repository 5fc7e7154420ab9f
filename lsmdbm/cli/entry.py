"""Entry: where the installed command `lsmdbm` begins; it chooses the front end.

Thread safety: one thread.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Do what the command line says, through click where it is installed; return the exit code."""
    arguments = sys.argv[1:]
    try:
        try:
            from lsmdbm.cli.clicked import main as front_end
        except ImportError:  # without the extra lsmdbm[cli]: the same verbs
            from lsmdbm.cli.plain import main as front_end
        return front_end(arguments)
    except KeyboardInterrupt:  # before a verb has begun
        return 130
