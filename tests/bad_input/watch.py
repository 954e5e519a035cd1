"""What a call may do with bad input: raise one clear error, or return; within a time, and on one line."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from hypothesis import settings

from jobsync.errors import BackendUnavailable, JobsyncError

__all__ = ['LIMIT_SEC', 'Refused', 'attempted', 'examples', 'within']

LIMIT_SEC = 90.0
"""For a call that takes milliseconds on a quiet machine: a limit against hanging."""
LONGEST = 1000
"""Characters of a message."""


def examples(count: int) -> settings:
    """Return settings under which so many examples are drawn."""
    return settings(print_blob=False, max_examples=count)


def within(action: Callable[[], Any], seconds: float = LIMIT_SEC) -> Any:
    """Return what an action returns, or raise what it raises. It fails if that takes longer than the limit."""
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((action(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised below
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True, name='bad input')
    thread.start()
    thread.join(seconds)
    if not outcome:
        stack = ''.join(traceback.format_stack(sys._current_frames()[thread.ident or 0]))
        raise AssertionError(f'a call has not returned after {seconds:.0f} s:\n{stack}')
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


class Refused:
    """The outcome of a call that was refused."""

    def __init__(self, error: JobsyncError) -> None:
        self.error = error


def attempted(action: Callable[[], Any]) -> Any:
    """Return what an action returns, or ``Refused`` if it raises an error of jobsync that a person can read.

    Any other error is a failure of the test, and so is an outage: a store does not fall silent because of what a caller passes.
    """
    try:
        return within(action)
    except BackendUnavailable as error:
        raise AssertionError(f'bad input is reported as an outage: {error}') from error
    except JobsyncError as error:
        refused = error
    message = str(refused)
    assert message, f'{type(refused)} without a message'
    assert message.isprintable(), f'{type(refused).__name__} is not one line of printable text: {message!r}'
    assert len(message) <= LONGEST, f'{type(refused).__name__} of {len(message)} characters: {message[:200]}…'
    return Refused(refused)
