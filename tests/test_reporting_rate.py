"""How often repeated events of an agent are logged."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.job.waiting import wait_until
from tests.support.timings import FAST

from jobsync import CoordinationConfig, Job, plugins
from jobsync._core.agent.commands import ReadLocks, TakeSnapshot, named
from jobsync._core.agent.events import LogMessage
from jobsync._event_log import event_log
from jobsync._runtime.agent_log import AgentLog
from jobsync.backend import BackendOptions, Pulse
from jobsync.testing import FaultyBackend


@pytest.mark.parametrize(('level', 'words'), [('retry', 'failure {} in a row'), ('slow', '({} time')])
def test_repeated_events_are_logged_at_a_falling_rate(caplog: pytest.LogCaptureFixture, level: str, words: str) -> None:
    """Of nine events the first, second, fourth and eighth are logged, each with its number."""
    log = AgentLog('a')
    with caplog.at_level(logging.WARNING, 'jobsync.node'):
        for _ in range(9):
            log.write(LogMessage(level, 'happened'), 'heartbeat')
        event_log.flush(120)
    assert [words.format(count) in line for count, line in zip((1, 2, 4, 8), caplog.messages, strict=True)] == [True] * 4


class Broken(FaultyBackend):
    """A backend whose heartbeats raise, from some moment on, what no backend should."""

    failures: int | None = None

    def heartbeat(self, *args: Any, **kwargs: Any) -> Pulse:
        """See ``Backend.heartbeat``."""
        if self.failures is None:
            return self.inner.heartbeat(*args, **kwargs)
        self.failures += 1
        raise ZeroDivisionError


def test_unexpected_errors_are_logged_at_a_falling_rate(caplog: pytest.LogCaptureFixture) -> None:
    """The traceback of a call that always raises is logged after the 1st, 2nd, 4th and 8th failure in a row."""
    backend = Broken(plugins.connect('memory://reporting-rate', BackendOptions()))
    with Job('a', coordination_config=CoordinationConfig(**{**FAST, 'backend': backend})):
        backend.failures = 0
        wait_until(lambda: (backend.failures or 0) > 10, 'it has failed often')
        backend.failures = None
    backend.inner.close()
    tracebacks = [record for record in caplog.records if 'Heartbeat raised what no backend should' in record.getMessage()]
    assert 4 <= len(tracebacks) <= 5
    assert all(record.exc_info for record in tracebacks)


def test_calls_are_named_in_words() -> None:
    """A line of the log names a call as a person would."""
    assert named(TakeSnapshot()) == 'take snapshot'
    assert named(ReadLocks()) == 'read locks'
