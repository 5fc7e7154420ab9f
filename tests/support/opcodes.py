"""An exception from outside, at any opcode of a call: what Ctrl-C, an alarm or a debugger may do to it.

    interruption = at_opcode(17, lambda: db.sync())     raised at the 18th opcode; see interruptions.py
    interruption.where                                  ("wal.py", "target", 312), None if there are fewer
    interruption.is_swallowed                           a finalizer had it, which has nobody to raise it in

Rules
  1. Every opcode counts, of every Python frame below the call, but for those between the end of a `with` and
     the call of its `__exit__`, and those at the edges of a `try` and an `except`.  There CPython delivers
     nothing: it looks for signals when a call has been made, at a jump back and at the start of a function.
     A trace function would, and then the lock stays taken, or the handled exception stays alive.
  2. Frames for which `leave_out` says so are the operating system's, and are not traced.  Nor are those of
     hypothesis, which has the garbage collector call it wherever that runs.

Thread safety: none; only the thread that calls is traced.
"""

from __future__ import annotations

import dis
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from support.interruptions import interruption

NO_STEPS = ("SWAP", "ROT_TWO", "PRECALL", "CACHE", "POP_BLOCK")
HYPOTHESIS = f"{os.sep}hypothesis{os.sep}"
HANDLER_EDGES = ("WITH_EXCEPT_START", "PUSH_EXC_INFO", "POP_EXCEPT", "NOP")  # "NOP" is a `try:`


@dataclass
class Interruption:
    """What became of a call.

    Attributes:
        opcodes: how many there were up to the exception, or to the end.
        where: file, function and line of the exception; None if the call ended before.
        raised: what came out of the call.
        result: what it returned.
    """

    opcodes: int = 0
    where: tuple[str, str, int] | None = None
    raised: BaseException | None = None
    result: Any = None

    @property
    def is_swallowed(self) -> bool:
        """Whether the exception did not come out of the call."""
        return self.where is not None and not isinstance(self.raised, KeyboardInterrupt)


@functools.cache
def exits(code: CodeType) -> frozenset[int]:
    """Return the offsets at which a `with` is being left, or an `except` entered or left (rule 1)."""
    instructions = list(dis.get_instructions(code))
    found = set()
    for place, instruction in enumerate(instructions):
        if instruction.opname in HANDLER_EDGES:
            found.add(instruction.offset)
        ahead = [each for each in instructions[place : place + 12] if each.opname not in NO_STEPS]
        if _loads_three_nones([(each.opname, each.argval) for each in ahead[:3]]) and len(ahead) > 3:
            found.update(each.offset for each in instructions[place:] if each.offset <= ahead[3].offset)
    return frozenset(found)


def _loads_three_nones(steps: list[tuple[str, Any]]) -> bool:
    """Return whether these are the arguments of the `__exit__` of a `with` that ends well."""
    nones = [("LOAD_CONST", None)]
    return nones * 3 == steps or (nones == steps[:1] and ["DUP_TOP"] * 2 == [name for name, _ in steps[1:]])


def at_opcode(
    number: int, call: Callable[[], Any], leave_out: Callable[[str], bool] = lambda file: False
) -> Interruption:
    """Make a call, with an interruption at its opcode of that number, counted from 0.

    Args:
        leave_out: whether the frames of a file are none of ours (rule 2).
    """
    found = Interruption()
    interrupt = interruption(number)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        if code.co_filename == __file__ or HYPOTHESIS in code.co_filename or leave_out(code.co_filename):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and found.where is None and frame.f_lasti not in exits(code):
            found.opcodes += 1
            if found.opcodes > number:
                found.where = (os.path.basename(code.co_filename), code.co_name, frame.f_lineno)
                raise interrupt
        return trace

    tracer = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # CPython 3.12.1 traces opcodes only if this comes first
    sys.settrace(trace)
    try:
        found.result = call()
    except BaseException as exc:
        found.raised = exc
    finally:
        sys.settrace(tracer)
    for exc in (interrupt, found.raised):  # pytest keeps the first, too, if a finalizer had it
        if exc is not None:
            exc.__traceback__ = exc.__context__ = None  # their frames would keep files and locks alive
    return found
