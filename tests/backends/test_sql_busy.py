"""What a call says that found the database busy, and then ran out of time."""

from __future__ import annotations

import time

import pytest

from jobsync.backends.sql.store import Busy, patiently
from jobsync.errors import BackendUnavailable

CUT_OFF = BackendUnavailable('db: canceling statement due to statement timeout')


def test_what_stood_in_the_way_is_said_of_an_attempt_that_was_cut_off() -> None:
    """The last attempt has what time the others have left."""
    with pytest.raises(BackendUnavailable, match=r'^db: canceling .* timeout; before that: db: rolled back: deadlock detected$'):
        attempt(Busy('db: rolled back: 40001'), Busy('db: rolled back: deadlock detected'), CUT_OFF)


@pytest.mark.parametrize('error', [CUT_OFF, Busy('db: rolled back: deadlock detected')])
def test_an_error_of_the_only_attempt_stays_what_it_is(error: BackendUnavailable) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        attempt(error, sec=0)
    assert caught.value is error


def attempt(*errors: Exception, sec: float = 600) -> None:
    """Make an attempt for each error."""
    raised = iter(errors)

    def action() -> None:
        raise next(raised)

    patiently(time.monotonic() + sec, action)
