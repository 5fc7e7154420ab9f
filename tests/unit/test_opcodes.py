"""Interruptions at opcodes: what one leaves behind that could keep files and locks."""

import sys
import weakref

from support.opcodes import at_opcode


class Local:
    """What a frame holds."""


class Late:
    """Something that is finalized in the middle of a call."""

    def __del__(self):
        self.is_over = True


def test_an_interruption_that_a_finalizer_swallows_keeps_no_frame_alive(monkeypatch):
    """Who collects what was raised in nobody holds a traceback, and in CPython 3.10 all frames below it."""
    collected, locals_ = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: collected.append(unraisable.exc_value))

    def call():
        local = Local()
        locals_.append(weakref.ref(local))
        Late()  # gone at once

    for number in range(at_opcode(1 << 60, call).opcodes):
        at_opcode(number, call)

    assert [] != collected
    assert all(isinstance(exc, KeyboardInterrupt) for exc in collected)
    assert [] == [local for local in locals_ if local() is not None]
