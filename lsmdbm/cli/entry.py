"""Entry: where the command begins, as `lsmdbm` and as `python -m lsmdbm`; it chooses the front end.

Rules
  1. To import this module takes next to nothing, and so does `lsmdbm` itself.  All else is imported below,
     while Ctrl-C does what it does to a program in C: the process ends, without a word.  Python's handler
     would raise in the middle of a module that nobody guards, or in a callback of the import system, where
     it is shown and lost.
  2. The front end has Python's handler.  Its verbs end what they have begun: see outcome.py.

Thread safety: one thread, the main one.  Spec: docs/cli.md, Exit codes.
"""

import sys

TYPE_CHECKING = False  # rule 1
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    FrontEnd = Callable[[Sequence[str]], int]

INTERRUPTED = 130  # as in outcome.py


def main() -> int:
    """Do what the command line says, through click where it is installed; return the exit code."""
    return _begin(_through_click)


def plain() -> int:
    """Do what the command line says, with the standard library alone; return the exit code."""
    return _begin(_through_argparse)


def _through_click() -> "FrontEnd":
    try:
        from lsmdbm.cli.clicked import main as front_end
    except ImportError:  # without the extra lsmdbm[cli]: the same verbs
        return _through_argparse()
    return front_end


def _through_argparse() -> "FrontEnd":
    from lsmdbm.cli.plain import main as front_end

    return front_end


def _begin(load: "Callable[[], FrontEnd]") -> int:
    try:
        from signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal

        handler = getsignal(SIGINT)
        if handler is not default_int_handler:  # SIG_IGN, from nohup say, is not ours to change
            return load()(sys.argv[1:])
        signal(SIGINT, SIG_DFL)  # rule 1
        front_end = load()
        signal(SIGINT, handler)  # rule 2
        code = front_end(sys.argv[1:])
        signal(SIGINT, SIG_DFL)  # all is done and said: the end of the interpreter has no handler either
    except KeyboardInterrupt:  # between two of these lines, or a second one
        return INTERRUPTED
    return code
