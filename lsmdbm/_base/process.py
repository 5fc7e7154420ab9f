"""A process of our own: a Python beside this one, and the socket between the two.

Rules
  1. It imports this very package and nothing of the program: no `__main__`, no `site`, and no descriptor but
     the socket.  It has a session of its own: a Ctrl-C or a hangup of the terminal is none of its business.
  2. It ends when its parent does, however that comes about: the socket says so, or the number of its parent.
  3. Sending never waits: what the other side does not take yet is kept.
  4. Who ends it waits for it: no zombie is left, and from then on it writes nothing.
  5. In the child of a fork, to end it is to let go of it: it belongs to the parent.

Thread safety: one thread at a time, but for `Process.kill`.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys

from lsmdbm._base.errors import error, is_of_system

PIECE_BYTES = 1 << 16
_BEGINNING = "import sys; sys.path[:] = sys.argv[3:]; from {} import main; main()"
_SEND_FLAGS = getattr(socket, "MSG_NOSIGNAL", 0)  # a program may have given SIGPIPE its deadly meaning back


class Pipe:
    """What goes to and comes from the other process.

    Args:
        end: of a connection; owned from here on.
        parent: number of the process at the other end, if that one is our parent; 0 if not.
    """

    def __init__(self, end: socket.socket, parent: int = 0) -> None:
        end.setblocking(False)
        if hasattr(socket, "SO_NOSIGPIPE"):  # pragma: no cover - macOS
            end.setsockopt(socket.SOL_SOCKET, socket.SO_NOSIGPIPE, 1)
        self._end = end
        self._parent = parent
        self._unsent = bytearray()

    @property
    def is_clogged(self) -> bool:
        """Whether the other side has not taken all yet."""
        return bool(self._unsent)

    def send(self, data: bytes) -> None:
        """Send, now or as soon as there is room.  Whether anybody is there, `receive` tells."""
        self._unsent += data
        self._push()

    def _push(self) -> None:  # rule 3
        try:
            while self._unsent:
                del self._unsent[: self._end.send(self._unsent, _SEND_FLAGS)]
        except BlockingIOError:
            pass
        except OSError as exc:  # nobody is there
            if not is_of_system(exc):
                raise
            self._unsent.clear()

    def receive(self, timeout: float) -> bytes | None:
        """Return what has come, b"" if nothing did within `timeout` seconds, None if nothing will come."""
        if self._parent and os.getppid() != self._parent:  # rule 2
            return None
        poll = select.poll()
        poll.register(self._end, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        if not poll.poll(1000 * timeout):
            return b""
        self._push()
        try:
            return self._end.recv(PIECE_BYTES) or None
        except BlockingIOError:
            return b""
        except OSError as exc:
            if not is_of_system(exc):
                raise
            return None

    def close(self) -> None:
        """Give the descriptor back.  Closing twice is harmless."""
        self._end.close()

    def __del__(self) -> None:
        if hasattr(self, "_unsent"):
            self.close()


class Process:
    """A process that was started here."""

    def __init__(self, popen: subprocess.Popen[bytes], pipe: Pipe) -> None:
        self._popen = popen
        self._pipe = pipe
        self._owner = os.getpid()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        return self._popen.poll() is None

    def send(self, data: bytes) -> None:
        """Send, now or as soon as there is room; see Pipe."""
        self._pipe.send(data)

    def receive(self, timeout: float) -> bytes | None:
        """Return what has come, b"" if nothing did within `timeout` seconds, None if it has ended."""
        data = self._pipe.receive(timeout)
        if data == b"" and not self.is_alive():  # the fork of another thread may hold its socket open
            data = self._pipe.receive(0) or None
        return data

    def kill(self) -> None:  # rule 4
        """End it, and wait for that.  Safe in any thread, whatever another one does here."""
        if os.getpid() != self._owner:  # rule 5
            self._popen.returncode = 0  # so that nobody waits for it here, nor warns
            return
        self._popen.kill()
        self._popen.wait()

    def end(self) -> None:
        """End it, wait for that, and let go of it.  Ending twice is harmless."""
        self.kill()
        self._pipe.close()

    def __del__(self) -> None:
        if hasattr(self, "_owner"):
            self.end()


def start(module: str) -> Process | None:
    """Have `main()` of a module run by a Python of its own; None if that cannot be.

    About 50 us to 1 ms here, and a few hundred milliseconds until it works.
    """
    if not _has_python():
        return None
    try:
        here, there = (_above_standard_streams(end) for end in socket.socketpair())
    except OSError as exc:
        if not is_of_system(exc):
            raise
        return None
    pipe = Pipe(here)
    flags = ["-s", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
    places = [os.path.abspath(place) for place in sys.path]
    try:
        popen = subprocess.Popen(
            [sys.executable, *flags, "-c", _BEGINNING.format(module), str(os.getpid()), __file__, *places],
            stdin=there.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=os.sep,  # so that it keeps no file system busy
            start_new_session=True,  # rule 1
        )
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as exc:
        pipe.close()
        if isinstance(exc, OSError) and not is_of_system(exc):
            raise
        return None
    finally:
        there.close()
    return Process(popen, pipe)


def _has_python() -> bool:
    """Return whether there is an executable that is a Python, not a program with one inside."""
    name = os.path.basename(sys.executable or "").lower()
    is_python = os.path.isabs(sys.executable or "") and ("python" in name or "pypy" in name)
    return is_python and not getattr(sys, "frozen", False) and hasattr(select, "poll")


def _above_standard_streams(end: socket.socket) -> socket.socket:
    """Return the same socket with a descriptor above 2."""
    if end.fileno() > 2:
        return end
    below = [end]
    while below[-1].fileno() <= 2:
        below.append(below[-1].dup())
    for unwanted in below[:-1]:
        unwanted.close()
    return below[-1]


def pipe_to_parent() -> Pipe:
    """Return the pipe to the parent, in a process that `start` has started.

    Raises:
        error: the parent has another version of this package.
    """
    if sys.argv[2] != __file__:
        raise error(f"{__file__}: not the package that was asked for")
    end = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    return Pipe(end, int(sys.argv[1]))
