"""`python -m lsmdbm`: the command, with the standard library alone.  See docs/cli.md."""

import sys

from lsmdbm.cli.plain import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
