"""What a fence may be."""

from __future__ import annotations

from jobsync.core.shown import shown
from jobsync.errors import ConfigError, StaleFence

__all__ = ['checked_fence', 'stale']

_BELOW = 2**53
"""Lua, in which Redis compares, counts exactly up to here: a change every millisecond for 285,000 years."""


def checked_fence(fence: object) -> int:
    """A number that ``job.fence`` could have given."""
    if isinstance(fence, bool) or not isinstance(fence, int) or not 0 <= fence < _BELOW:
        raise ConfigError(f'fence is {shown(fence)}: must be the number that job.fence(task) gave')
    return fence


def stale(fence: int, what: object, highest: object = None) -> StaleFence:
    """The error for a write that came too late."""
    seen = 'a higher one has written since' if highest is None else f'{highest} has written since'
    return StaleFence(
        f"{what} was not written under fence {fence}: {seen}, so the task is another owner's now; give up the work on it"
    )
