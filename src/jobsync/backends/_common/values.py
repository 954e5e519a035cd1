"""The values with which a namespace begins, those that are drawn for a change, and the largest there are."""

from __future__ import annotations

import datetime as dt
from random import Random

from jobsync._random import RANDOM
from jobsync.backend import Leadership, Revision

__all__ = [
    'BEFORE_ANY',
    'LAST',
    'LONGEST_TIMEOUT_SEC',
    'MOST_WEIGHT',
    'NO_LEADER',
    'draw_id',
    'draw_stamp',
    'next_created_on',
    'next_revision',
    'utc_now',
]

NO_LEADER = Leadership(0, None)
"""The leadership of a namespace that never had a leader."""
BEFORE_ANY = dt.datetime.min.replace(tzinfo=dt.UTC)
"""A time before every ``created_on``."""
LAST = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
"""The last moment that is one in every timezone, and that another moment may follow."""
MOST_WEIGHT = 1_000_000
LONGEST_TIMEOUT_SEC = 7 * 24 * 3600
"""What the configuration allows at most: a record with more was not written by this library."""

_TICK = dt.timedelta(microseconds=1)


def utc_now() -> dt.datetime:
    """Return the wall clock's time."""
    return dt.datetime.now(dt.UTC)


def next_created_on(last: dt.datetime, now: dt.datetime) -> dt.datetime:
    """Return ``created_on`` of a record made at the store's time ``now``, later than ``last``, even if the clock went back."""
    return max(now, last + _TICK)


def draw_id(random: Random = RANDOM) -> str:
    """Return a random id, of a timeline for instance."""
    return f'{random.getrandbits(128):032x}'


def draw_stamp(random: Random = RANDOM) -> int:
    """Return the stamp of a new revision: 62 random bits, never 0, which ``INITIAL`` has."""
    return random.getrandbits(62) + 1


def next_revision(before: Revision, at_least: int = 0, random: Random = RANDOM) -> Revision:
    """Return the revision of a change, above both the number of ``before`` and ``at_least``."""
    return Revision(max(before.number, at_least) + 1, draw_stamp(random))
