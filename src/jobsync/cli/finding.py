"""What ``jobsync doctor`` finds."""

from __future__ import annotations

import attrs

__all__ = ['DoctorFinding']


@attrs.frozen
class DoctorFinding:
    """The result of one check."""

    verdict: str
    """``ok``; ``warn``: needs attention; or ``bad``: workers cannot work."""
    subject: str
    words: str
