"""The descriptors of a listener's pipe, whose numbers are those of other files once they are closed."""

from __future__ import annotations

import os
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.backends.test_listening import SilentListener
from tests.signals import AlarmError, Interruption

from jobsync.backends._common.listening import Listener


def ended(point: int | None) -> tuple[int, Listener]:
    """Close a listener that has waited, interrupted at a point; return the number of points, and the listener."""
    listener = SilentListener()
    listener.wait(0, 1.0)
    with suppress(AlarmError), Interruption(point, 'threading.py') as interruption:
        listener.close()
    return interruption.count, listener


def child_has(descriptors: list[int]) -> bool:
    """Return whether a forked child has these descriptors open."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # the process may have threads
        pid = os.fork()
    if pid == 0:
        status = 1
        with suppress(OSError):
            for each in descriptors:
                os.fstat(each)
            status = 0
        os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def test_no_file_of_others_is_closed_after_an_interrupted_end(tmp_path: Path) -> None:
    """At whichever step: neither by a child, which leaves the parent's listener, nor as the listener is closed once more."""
    count, _ = ended(None)
    for point in range(1, count + 1):
        _, listener = ended(point)
        with ExitStack() as files:
            others = [files.enter_context((tmp_path / f'{number}').open('w+b', buffering=0)) for number in range(4)]
            descriptors = [each.fileno() for each in others]
            assert child_has(descriptors), f'a child closed a file after an end interrupted at point {point} of {count}'
            listener.close()
            for each in descriptors:
                assert os.fstat(each).st_size == 0
