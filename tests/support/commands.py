"""The command `lsmdbm`: called in this process, run as a user runs it, and typed into on a terminal.

    call("get", path, "apple")              Result(code, out, err), through argparse
    call("get", path, "apple", front="click")
    run("get", path, "apple")               the same in a process of its own: the installed command
    with Terminal("shell", path) as terminal:
        terminal.expect("> "); terminal.send("get apple\\n"); terminal.end()

Thread safety: none.
"""

from __future__ import annotations

import fcntl
import importlib
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lsmdbm

MODULES = {"argparse": "lsmdbm.cli.plain", "click": "lsmdbm.cli.clicked"}
try:
    import click
except ImportError:
    click = None  # type: ignore[assignment]
HAS_CLICK = click is not None
FRONTS = ["argparse", "click"] if HAS_CLICK else ["argparse"]
ROWS, COLUMNS = 30, 100  # of a terminal
PATIENCE = 60.0  # seconds until a test gives up: nothing is measured by it
CONTROLS = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")  # but TAB and newline
STYLES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\r")  # what rich and prompt_toolkit write on purpose
SCRIPT = "#!{}\nimport sys\nfrom lsmdbm.cli.entry import main\nsys.exit(main())\n"


@dataclass
class Result:
    """What came of a command."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """What it wrote to stdout."""
        return self.out.decode("utf-8")

    @property
    def lines(self) -> list[str]:
        """The lines that it wrote to stdout."""
        return self.text.splitlines()


def call(*arguments: object, stdin: bytes = b"", front: str = "argparse") -> Result:
    """Call a front end in this process."""
    main = importlib.import_module(MODULES[front]).main
    streams = [io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="") for data in (stdin, b"", b"")]
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = streams
    try:
        code = main(list(map(str, arguments)))
        for stream in streams[1:]:
            stream.flush()
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
    _, out, err = (stream.buffer.getvalue() for stream in streams)  # type: ignore[attr-defined]  # of a BytesIO
    return Result(code, out, err.decode("utf-8"))


_directory: tempfile.TemporaryDirectory[str] | None = None


def command() -> str:
    """Return the path of the command: the installed one, or what an installation of this tree would make."""
    global _directory
    installed = Path(sys.executable).with_name("lsmdbm")
    if installed.exists():
        return str(installed)
    if _directory is None:
        _directory = tempfile.TemporaryDirectory(prefix="lsmdbm-command-")
        path = Path(_directory.name) / "lsmdbm"
        path.write_text(SCRIPT.format(sys.executable))
        path.chmod(0o755)
    return f"{_directory.name}/lsmdbm"


def environment(**more: str) -> dict[str, str]:
    """Return what a command finds in its environment: this lsmdbm, and no settings of whoever tests it."""
    place = os.fspath(Path(lsmdbm.__file__).parents[1])
    path = os.pathsep.join([os.path.dirname(command()), os.environ.get("PATH", os.defpath)])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LSMDBM", "NO_COLOR"))}
    basics = {"PYTHONPATH": place, "PATH": path, "TERM": "xterm", "LSMDBM_HISTORY": ""}
    return {**kept, **basics, "PYTHONWARNINGS": "error", **more}


def hiding(directory: Path, *names: str) -> dict[str, str]:
    """Return what to put into the environment so that these modules are not there."""
    place = directory / "hidden"
    place.mkdir(exist_ok=True)
    for name in filter(None, names):
        (place / f"{name}.py").write_text(f"raise ImportError('no {name} here')\n")
    return {"PYTHONPATH": f"{place}{os.pathsep}{environment()['PYTHONPATH']}"}


def run(
    *arguments: object, stdin: bytes | int | None = b"", module: bool = False, cwd: Any = None, **env: str
) -> Result:
    """Run the command, or `python -m lsmdbm`, in a process of its own."""
    words = [sys.executable, "-m", "lsmdbm"] if module else [command()]
    source: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    done = subprocess.run(
        [*words, *map(str, arguments)],
        capture_output=True,
        cwd=cwd,
        env=environment(**env),
        timeout=PATIENCE,
        **source,
    )
    return Result(done.returncode, done.stdout, done.stderr.decode("utf-8"))


class Terminal:
    """A command with a terminal for stdin, stdout and stderr.

    Args:
        arguments: of the command.
        command_line: a whole command line in its place.
        stdout: where stdout goes, if not to the terminal.
        columns: how wide the terminal is.
    """

    def __init__(
        self,
        *arguments: object,
        words: list[str] | None = None,
        stdout: Any = None,
        cwd: Any = None,
        columns: int = COLUMNS,
        **env: str,
    ) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", ROWS, columns, 0, 0))
        self._ours = ours
        self.shown = b""
        self._read = 0
        self._process = subprocess.Popen(
            words or [command(), *map(str, arguments)],
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            cwd=cwd,
            env=environment(**env),
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def _more(self) -> bool:
        """Read what is there, or wait for it; False when it is over."""
        ready, _, _ = select.select([self._ours], [], [], PATIENCE)
        if not ready:
            raise TimeoutError(f"nothing after {self.shown[-500:]!r}")
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # what Linux says when nobody has the other end any more
            return False
        self.shown += data
        return bool(data)

    def expect(self, text: str | bytes) -> None:
        """Wait until this is shown, behind what was expected before."""
        wanted = text.encode() if isinstance(text, str) else text
        while (place := self.shown.find(wanted, self._read)) < 0:
            if not self._more():
                raise AssertionError(f"{wanted!r} was not shown: {self.shown[-500:]!r}")
        self._read = place + len(wanted)

    def send(self, text: str) -> None:
        """Type something."""
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """Wait for the end, and return the exit code."""
        while self._more():
            pass
        return self._process.wait(PATIENCE)

    @property
    def plain(self) -> str:
        """All that was shown, without colours."""
        return STYLES.sub(b"", self.shown).decode("utf-8", "replace")


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # the terminal of the session: Ctrl-C gets there


def on_terminal(*arguments: object, **options: Any) -> tuple[int, Terminal]:
    """Run a command on a terminal to its end."""
    with Terminal(*arguments, **options) as terminal:
        return terminal.end(), terminal
