"""What a process of our own does for the tests of it: sends back what comes, or says what it sees.

Thread safety: none.
"""

from __future__ import annotations

import os
import signal
import sys

from lsmdbm._base.process import pipe_to_parent, start


def main() -> None:
    """Echo; but to b"look" answer what this process has open, and which modules it knows."""
    pipe = pipe_to_parent()
    while (data := pipe.receive(5.0)) is not None:
        pipe.send(look() if data == b"look" else data)


def look() -> bytes:
    """Return what there is to see, in lines."""
    links = [os.readlink(f"/proc/self/fd/{name}") for name in ("0", "1", "2")]
    others = [name for name in os.listdir("/proc/self/fd") if int(name) > 2]
    lines = [*links, f"{len(others)} more", f"main is {sys.modules['__main__'].__dict__.get('__file__')}"]
    lines += [f"site {'site' in sys.modules}", f"session {os.getsid(0) == os.getpid()}", f"in {os.getcwd()}"]
    return "\n".join(lines).encode()


# What follows runs in a parent


def send_to_the_dead() -> str:
    """Tell a dead process something, where SIGPIPE kills, as in many a command line tool."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    process = start("support.echo")
    if process is None:
        return "none"
    process.kill()
    process.send(b"abc" * 100_000)
    process.end()
    return "alive"
