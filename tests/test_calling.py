"""Calls of the backend on behalf of the user."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

import pytest

from jobsync import BackendUnavailable, ConfigError
from jobsync.calling import Caller


def failing(times: int, then: object = 'answer') -> tuple[Callable[[], object], list[int]]:
    """An action that fails so often and then answers; and the numbers of its errors so far."""
    raised: list[int] = []

    def action() -> object:
        if len(raised) < times:
            raised.append(len(raised) + 1)
            raise BackendUnavailable(f'error {len(raised)}')
        return then

    return action, raised


def test_a_store_that_answers_is_asked_once() -> None:
    """The answer comes back, and the call is over."""
    caller = Caller(10)
    assert not caller.is_calling
    assert caller.call(lambda: caller.is_calling) is True
    assert not caller.is_calling


def test_a_store_that_fails_is_asked_again() -> None:
    """Until it answers; all of that is one call."""
    caller = Caller(10)
    action, raised = failing(3)
    assert caller.call(lambda: (action(), caller.is_calling)) == ('answer', True)
    assert raised == [1, 2, 3]
    assert not caller.is_calling


def test_patience_ends() -> None:
    """The last error is raised, with nothing chained to it."""
    action, raised = failing(1_000_000)
    with pytest.raises(BackendUnavailable) as caught:
        Caller(0.3).call(action)
    assert len(raised) > 1
    assert str(caught.value) == f'error {len(raised)}'
    assert caught.value.__context__ is None


def test_without_patience_there_is_one_attempt() -> None:
    """And its error is the one that is raised."""
    action, raised = failing(1_000_000)
    with pytest.raises(BackendUnavailable, match='error 1'):
        Caller(0).call(action)
    assert raised == [1]


def test_a_condition_takes_the_place_of_patience() -> None:
    """It is asked after each failure, and not before the first attempt."""
    action, raised = failing(1_000_000)
    answers = itertools.chain([True, True], itertools.repeat(False))
    with pytest.raises(BackendUnavailable, match='error 3'):
        Caller(0).call(action, while_=lambda: next(answers))
    assert raised == [1, 2, 3]
    assert Caller(0).call(lambda: 'answer', while_=lambda: False) == 'answer'


@pytest.mark.parametrize('first', [0, 1])
def test_another_error_is_not_repeated(first: int) -> None:
    """Neither at the first attempt nor at a later one."""
    action, raised = failing(first)

    def refused() -> None:
        action()
        raise ConfigError('refused')

    caller = Caller(10)
    with pytest.raises(ConfigError, match='refused'):
        caller.call(refused)
    assert len(raised) == first
    assert not caller.is_calling


def test_a_long_wait_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason; a short one is not."""
    short, _ = failing(1)
    with caplog.at_level(logging.WARNING, 'jobsync'):
        Caller(10).call(short)
        assert not caplog.records
        long, _ = failing(1_000_000)
        with pytest.raises(BackendUnavailable):
            Caller(2.5).call(long)
    assert [record.getMessage() for record in caplog.records] == [caplog.records[0].getMessage()]
    assert caplog.records[0].getMessage().startswith('asking the store again: error ')
