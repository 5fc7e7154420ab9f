"""The verb completion: a script with which a shell completes verbs, options, files and keys.

Thread safety: one thread at a time.
"""

from __future__ import annotations

from lsmdbm.cli.offers import VARIABLE
from lsmdbm.cli.outcome import FINE, USAGE, Refused
from lsmdbm.cli.output import Output


def completion(output: Output, *, shell: str) -> int:
    """Write the script for a shell."""
    try:
        from click.shell_completion import get_completion_class

        from lsmdbm.cli.clicked import group
    except ImportError:
        raise Refused("completion needs click: pip install 'lsmdbm[cli]'", USAGE) from None
    kind = get_completion_class(shell)
    if kind is None:
        raise Refused(f"click knows no completion for {shell}", USAGE)
    output.say(kind(group(), {}, "lsmdbm", VARIABLE).source())
    return FINE
