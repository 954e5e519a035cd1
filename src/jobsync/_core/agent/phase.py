"""The phases of a node's life, and what moves it from one to the next.

::

    OPENING ──► REGISTERING ──► MEMBER ──► LEAVING ──► LEFT
       ▲              │            │
       ├──────────────┴────────────┤  evicted, or another timeline (a new incarnation)
       └────── RENEWING ◄──────────┘  the store went back in time (R8)
                                     any ──► FAILED  what no retry can mend (another cluster's settings, name in use;
                                                     before it was ever a member, whatever the store refuses)
"""

from __future__ import annotations

import enum

__all__ = ['Phase']


class Phase(enum.Enum):
    """Where in its life a node is."""

    OPENING = 'opening'
    REGISTERING = 'registering'
    MEMBER = 'member'
    RENEWING = 'renewing'
    LEAVING = 'leaving'
    LEFT = 'left'
    FAILED = 'failed'
