"""Names of tasks that are jobsync's own: schedules, their ticks, and singletons."""

from __future__ import annotations

import re

__all__ = ['is_schedule', 'is_singleton', 'is_tick', 'schedule_of']

_TICK = re.compile(r'(every:.*)@\d{4}-\d\d-\d\dT[\d:.]+Z(?: .*)?', re.DOTALL)


def is_tick(item: str) -> bool:
    """Return whether an item of the history is a tick of a scheduled function, or says more about one (see ``ticks``)."""
    return _TICK.fullmatch(item) is not None


def schedule_of(item: str) -> str | None:
    """Return the task of the schedule that an item of the history is a tick of, whose owner runs the tick; None for another."""
    found = _TICK.fullmatch(item)
    return None if found is None else found[1]


def is_schedule(key: str) -> bool:
    """Return whether a task is the place of a scheduled function, and not one of its ticks."""
    return key.startswith('every:') and not is_tick(key)


def is_singleton(key: str) -> bool:
    """Return whether a task is the place of a singleton."""
    return key.startswith('singleton:')
