"""How often repeated events of an agent are logged."""

from __future__ import annotations

import logging

import pytest

from jobsync._core.agent.commands import ReadLocks, TakeSnapshot, named
from jobsync._core.agent.events import LogMessage
from jobsync._event_log import event_log
from jobsync._runtime.agent_log import AgentLog


@pytest.mark.parametrize(('level', 'words'), [('retry', 'failure {} in a row'), ('slow', '({} time')])
def test_repeated_events_are_logged_at_a_falling_rate(caplog: pytest.LogCaptureFixture, level: str, words: str) -> None:
    """Of nine events the first, second, fourth and eighth are logged, each with its number."""
    log = AgentLog('a')
    with caplog.at_level(logging.WARNING, 'jobsync.node'):
        for _ in range(9):
            log.write(LogMessage(level, 'happened'), 'heartbeat')
        event_log.flush(120)
    assert [words.format(count) in line for count, line in zip((1, 2, 4, 8), caplog.messages, strict=True)] == [True] * 4


def test_calls_are_named_in_words() -> None:
    """A line of the log names a call as a person would."""
    assert named(TakeSnapshot()) == 'take snapshot'
    assert named(ReadLocks()) == 'read locks'
