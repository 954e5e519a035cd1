"""What ``jobsync doctor`` finds."""

from __future__ import annotations

import attrs

__all__ = ['Finding']


@attrs.frozen
class Finding:
    """The result of one check."""

    verdict: str
    """``ok``; ``warn``: needs attention; or ``bad``: workers cannot work."""
    subject: str
    words: str
