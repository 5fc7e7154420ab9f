"""`python -m lsmdbm`: the command, with the standard library alone.  See docs/cli.md."""

import sys

from lsmdbm.cli.entry import plain

if __name__ == "__main__":
    sys.exit(plain())
