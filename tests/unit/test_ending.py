"""Locks at the end of the interpreter: what is free is taken, what is held by others is not waited for."""

import atexit
import sys
import threading

import pytest

from lsmdbm._base.ending import EndingLock, on_exit
from lsmdbm._base.errors import FailedError


@pytest.fixture
def held():
    """An EndingLock around a lock that another thread holds as long as the test runs."""
    lock, is_held, is_over = threading.RLock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            is_held.set()
            is_over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait()
    yield EndingLock(lock)
    is_over.set()
    thread.join()


@pytest.fixture
def ending(monkeypatch):
    monkeypatch.setattr(sys, "is_finalizing", lambda: True)


def test_before_the_end_it_is_the_lock_it_was_made_of():
    lock = threading.RLock()
    with EndingLock(lock):
        assert lock._is_owned()
    assert not lock._is_owned()


def test_before_the_end_it_waits():
    lock, events = threading.RLock(), []

    def take():
        with EndingLock(lock):
            events.append("taken")

    with lock:
        thread = threading.Thread(target=take)
        thread.start()
        events.append("free")
    thread.join()
    assert ["free", "taken"] == events


def test_at_the_end_a_free_lock_is_taken_and_given_back(ending):
    lock = threading.RLock()
    with EndingLock(lock), EndingLock(lock):
        assert lock._is_owned()
    assert not lock._is_owned()


def test_at_the_end_nobody_waits(held, ending):
    with pytest.raises(FailedError, match="stopped at the end of the program"), held:
        pytest.fail("it was taken")


def test_who_does_not_want_to_wait_is_told_no(held, ending):
    assert not held.acquire(blocking=False)


def test_a_wrapped_one_can_be_wrapped(held, ending):
    with pytest.raises(FailedError), EndingLock(held):
        pytest.fail("it was taken")


def test_a_callback_is_registered(monkeypatch):
    registered = []
    monkeypatch.setattr(atexit, "register", registered.append)
    on_exit(registered.clear)
    assert [registered.clear] == registered
