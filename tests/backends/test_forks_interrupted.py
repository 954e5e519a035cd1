"""A signal that comes to a forked child as it leaves to its parent what the parent has open."""

from __future__ import annotations

import os
import warnings

import pytest
from tests.signals import AlarmError

from jobsync.backends._common import forks


class Thing:
    """Begins anew in a child, unless a signal's handler raises: in the ``nth`` of all calls of ``forget``."""

    def __init__(self, calls: list[Thing], nth: int) -> None:
        self.calls, self.nth, self.process = calls, nth, os.getpid()
        forks.forget_in_child(self)

    def forget(self) -> None:
        """See ``Forgetful``."""
        self.calls.append(self)
        if len(self.calls) == self.nth:
            raise AlarmError
        self.process = os.getpid()


@pytest.mark.parametrize('nth', [1, 2, 3])
def test_a_signal_to_a_child_as_it_begins(nth: int) -> None:
    """Python reports what its handler raises, and the child goes on: with nothing that is its parent's."""
    calls = list[Thing]()
    things = [Thing(calls, nth) for _ in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # the process may have threads
        pid = os.fork()
    if pid == 0:
        os._exit(sum(thing.process != os.getpid() for thing in things))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
