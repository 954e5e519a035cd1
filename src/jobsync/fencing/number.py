"""The values that a fence may have, and the keys that may be written under it."""

from __future__ import annotations

from collections.abc import Callable

from jobsync._core.redact import safe_repr
from jobsync.errors import ConfigError, StaleFence

__all__ = ['check_keys', 'checked_fence', 'stale']

_BELOW = 2**53
"""The limit of exact integers in Lua, in which Redis compares: a change every millisecond for 285,000 years."""


def checked_fence(fence: object) -> int:
    """Return the fence. Raise ``ConfigError`` for a value that ``job.fence`` cannot return."""
    if isinstance(fence, bool) or not isinstance(fence, int) or not 0 <= fence < _BELOW:
        raise ConfigError(f'fence is {safe_repr(fence)}: must be the number that job.fence(task) gave')
    return fence


def check_keys(key: object, fence_key: str | None, is_of_a_fence: Callable[[str], bool]) -> None:
    """Raise ``ConfigError`` for a key whose value would replace a fence: that of another key, or its own."""
    if not isinstance(key, str) or not key:
        raise ConfigError(f'key is {safe_repr(key)}: must be a string that is not empty')
    if is_of_a_fence(key):
        raise ConfigError(f'key is {safe_repr(key)}: the fence of another key is kept under this name; give it another one')
    if fence_key == key:
        raise ConfigError(f'fence_key is {safe_repr(key)}: must be another key than that of the value')


def stale(fence: int, what: object, highest: object = None) -> StaleFence:
    """Return the error for a write that came too late."""
    seen = 'a higher one has written since' if highest is None else f'{highest} has written since'
    return StaleFence(
        f"{what} was not written under fence {fence}: {seen}, so the task is another owner's now; give up the work on it"
    )
