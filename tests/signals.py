"""A signal at a moment that a test chooses, in the very process of the test.

CPython runs a signal's handler after a call of C code, at the beginning of a function and at a jump back. ``Interruption`` raises
what a handler would, at each of these points in turn.
"""

from __future__ import annotations

import contextlib
import dis
import inspect
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import jobsync

DEADLINE_SEC = 120
_FOLDER = jobsync.__path__[0]
_NOT_HERE = ('_event_log.py', '_threads.py')
"""What these modules do is done by another thread in the end."""
_BEGINNINGS = (None, 'RESUME', 'JUMP_BACKWARD')
_CALLS = ('CALL', 'CALL_FUNCTION_EX', 'CALL_KW')


@contextlib.contextmanager
def a_signal_comes(after: Callable[[], object], handler: Callable[..., object]) -> Iterator[None]:
    """Once ``after`` has returned, in another thread, the main thread, which this block is in, is interrupted by ``handler``."""

    def send() -> None:
        after()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join(DEADLINE_SEC)
        signal.signal(signal.SIGUSR1, before)


class AlarmError(BaseException):
    """What the handler raises."""


class Interruption:
    """Raises at a point of the code of jobsync, and of some ``others`` of Python, counted from the beginning of the block."""

    def __init__(self, at: int | None = None, *others: str) -> None:
        self.at, self.count, self._others = at, 0, ('contextlib.py', *others)
        self._last: dict[FrameType, str | None] = {}
        """For each frame the instruction that was carried out last; None at the beginning."""
        self._is_python: set[FrameType] = set()
        """The frames that have called a function of Python: after its return no handler is run."""

    def __enter__(self) -> Interruption:
        self._before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # Python 3.12 counts no opcode unless a frame wants them as settrace is called
        sys.settrace(self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        self._last.clear()
        self._is_python.clear()

    def _begin(self, frame: FrameType, event: str, argument: object) -> Any:
        caller, code = frame.f_back, frame.f_code
        if caller in self._last and not code.co_flags & inspect.CO_GENERATOR:
            self._is_python.add(caller)
        name = code.co_filename
        if not (name.startswith(_FOLDER) or name.endswith(self._others)) or name.endswith(_NOT_HERE):
            return None
        frame.f_trace = self._step  # Python 3.13 counts the opcodes of a frame that has a function already
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self._last[frame] = None
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == 'return':
            self._last.pop(frame, None)
        elif event == 'opcode':
            last, self._last[frame] = self._last.get(frame), dis.opname[frame.f_code.co_code[frame.f_lasti]]
            is_python = frame in self._is_python
            self._is_python.discard(frame)
            # Python 3.12 closes a generator that was not read to its end by a step of no line, at which no handler is run.
            if frame.f_lineno is not None and (last in _BEGINNINGS or (last in _CALLS and not is_python)):
                self.count += 1
                if self.count == self.at:
                    raise AlarmError
        return self._step
