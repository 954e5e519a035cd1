"""What ``jobsync doctor`` finds."""

from __future__ import annotations

import attrs

__all__ = ['Finding', 'megabytes']


@attrs.frozen
class Finding:
    """The result of one check."""

    verdict: str
    """``ok``; ``warn``: needs attention; or ``bad``: workers cannot work."""
    subject: str
    words: str


def megabytes(number: float) -> str:
    """Return a number of bytes as people say it."""
    return f'{number / 1e6:,.1f} MB'
