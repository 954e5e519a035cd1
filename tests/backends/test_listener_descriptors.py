"""The descriptors of a listener's pipe, whose numbers are those of other files once they are closed."""

from __future__ import annotations

import os
import threading
import warnings
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path

import pytest
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


def test_closing_writes_to_no_file_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that ends in another thread just as ``close`` is to wake it leaves the pipe to ``close``."""
    listener, write = SilentListener(), os.write
    listener.wait(0, 1.0)
    with ExitStack() as files:
        others = list[FileIO]()

        def write_late(descriptor: int, data: bytes) -> int:
            thread = threading.Thread(target=listener.wait, args=(0, 0.0))
            thread.start()
            thread.join(600)
            others.extend(files.enter_context((tmp_path / f'{number}').open('w+b', buffering=0)) for number in range(4))
            return write(descriptor, data)

        with monkeypatch.context() as patch:
            patch.setattr(os, 'write', write_late)
            listener.close()
        assert [os.fstat(each.fileno()).st_size for each in others] == [0, 0, 0, 0]
    assert listener._wake == listener._woken == -1
