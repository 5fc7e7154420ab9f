"""A process of our own: what it inherits, how it ends, and that nobody waits to tell it something."""

import os
import select
import signal
import socket
import subprocess
import sys

import pytest

from lsmdbm._base import process as process_module
from lsmdbm._base.os_storage import OsStorage
from lsmdbm._base.process import Pipe, start
from support.child import Child
from support.quiet import is_gone

ECHO = "support.echo"
PATIENCE = 20  # seconds

pytestmark = pytest.mark.skipif(not hasattr(select, "poll"), reason="no poll here, and no worker")


@pytest.fixture
def echo():
    process = OsStorage().start_process(ECHO)
    yield process
    process.end()


def hear(process, length):
    data = b""
    while len(data) < length:
        piece = process.receive(PATIENCE)
        assert piece, "it is dead"
        data += piece
    return data


def test_what_is_sent_comes_back(echo):
    echo.send(b"abc")
    assert b"abc" == hear(echo, 3)


def test_sending_more_than_fits_does_not_wait(echo):
    data = os.urandom(4 << 20)
    os.kill(echo.pid, signal.SIGSTOP)  # it must not read while this is sent
    echo.send(data)
    assert echo._pipe.is_clogged
    os.kill(echo.pid, signal.SIGCONT)
    assert data == hear(echo, len(data))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc here to see descriptors in")
def test_it_has_no_descriptor_but_its_socket_and_nothing_of_the_program(echo, tmp_path):
    with open(tmp_path / "inherited", "w") as file:
        os.set_inheritable(file.fileno(), True)
        other = start(ECHO)
        other.send(b"look")
        seen = hear(other, 10).decode().splitlines()
        other.end()

    null = ["/dev/null"] * 3
    expected = ["2 more", "main is None", "site False", "session True", "in /"]  # the other: /proc/self/fd
    assert null + expected == seen


def test_it_ends_when_it_is_ended_and_leaves_no_zombie(echo):
    pid = echo.pid
    assert echo.is_alive()
    echo.end()
    echo.end()

    assert not echo.is_alive()
    assert is_gone(pid)


def test_it_ends_when_the_other_end_is_closed(echo):
    echo.send(b"abc")
    hear(echo, 3)
    echo._pipe.close()

    assert 0 == echo._popen.wait(PATIENCE)


def test_it_ends_when_its_parent_is_another_one_than_it_was():
    here, there = socket.socketpair()
    pipe = Pipe(here, os.getppid() + 1)

    assert None is pipe.receive(0)
    pipe.close()
    there.close()


def test_a_dead_one_is_noticed_even_if_somebody_else_has_its_socket(echo):
    echo.send(b"abc")
    assert b"abc" == hear(echo, 3)
    echo._popen.kill()
    echo._popen.wait()
    here, there = socket.socketpair()  # of which nobody closes the other end
    echo._pipe.close()
    echo._pipe = Pipe(here)

    assert None is echo.receive(0)
    there.close()


def test_a_killed_one_says_what_it_said_before_then_nothing(echo):
    echo.send(b"abc")
    select.select([echo._pipe._end], [], [], PATIENCE)
    echo.kill()

    assert [b"abc", None, None] == [echo.receive(PATIENCE) for _ in range(3)]
    echo.send(b"abc")


def test_to_tell_a_dead_one_something_does_not_kill(tmp_path):
    with Child(tmp_path) as child:
        assert "alive" == child("run", "echo:send_to_the_dead")


def test_the_child_of_a_fork_lets_go_and_ends_nothing(echo):
    reading, writing = os.pipe()
    echo._popen._waitpid_lock.acquire()  # as another thread may have at that moment
    pid = os.fork()
    if pid == 0:
        try:
            echo.end()
            echo.__del__()
            os.write(writing, b"%d" % (echo._pipe._end.fileno() == -1))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    echo._popen._waitpid_lock.release()
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert b"1" == pipe.read()
    echo.send(b"abc")
    assert b"abc" == hear(echo, 3)


@pytest.mark.parametrize("executable", [None, "", "python3", "/usr/bin/env", "/nowhere/python"])
def test_without_a_python_to_be_found_there_is_none(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    assert None is start(ECHO)


def test_a_frozen_program_is_not_started_again(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert None is start(ECHO)


@pytest.mark.parametrize("exc", [OSError(11, "no"), RuntimeError("at shutdown"), ValueError("null")])
def test_where_no_process_can_be_made_there_is_none(monkeypatch, exc):
    def refuse(*_, **__):
        raise exc

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert None is start(ECHO)


def test_another_package_of_the_same_name_does_nothing(monkeypatch):
    monkeypatch.setattr(process_module, "__file__", "/elsewhere/lsmdbm/_base/process.py")
    process = start(ECHO)
    process.send(b"abc")

    assert None is process.receive(PATIENCE)
    process.end()


def test_descriptors_of_streams_are_left_to_streams(monkeypatch):
    saved = os.dup(0)
    os.close(0)
    try:
        process = start(ECHO)
        descriptor = process._pipe._end.fileno()
        process.send(b"abc")
        heard = hear(process, 3)
        process.end()
        assert (True, b"abc") == (descriptor > 2, heard)
    finally:
        os.dup2(saved, 0)
        os.close(saved)


class Interrupted:
    """A socket at whose calls a signal handler raises a TimeoutError, which is an OSError."""

    def __init__(self, end):
        self._end = end

    def send(self, *_):
        raise TimeoutError("too late")

    recv = send

    def __getattr__(self, name):
        return getattr(self._end, name)


def test_what_a_signal_handler_raises_in_a_call_comes_out_as_it_is_and_what_is_sent_stays():
    here, there = map(Pipe, socket.socketpair())
    there.send(b"heard")
    end, here._end = here._end, Interrupted(here._end)
    with pytest.raises(TimeoutError):
        here.send(b"said")
    with pytest.raises(TimeoutError):
        here.receive(PATIENCE)
    here._end = end

    assert b"heard" == here.receive(PATIENCE)
    assert b"said" == there.receive(PATIENCE)


@pytest.mark.parametrize(("module", "name"), [(socket, "socketpair"), (subprocess, "Popen")])
def test_what_a_signal_handler_raises_in_a_start_comes_out_as_it_is(monkeypatch, module, name):
    def interrupt(*_, **__):
        raise TimeoutError("too late")

    monkeypatch.setattr(module, name, interrupt)
    with pytest.raises(TimeoutError, match="too late"):
        start(ECHO)
