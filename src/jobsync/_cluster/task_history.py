"""What the store has recorded of one task, as its explanation needs it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import cast

from jobsync._cluster.explanation import TaskHistory, holder_of, token_of
from jobsync._cluster.names import schedule_of
from jobsync._cluster.reading import ClusterReading
from jobsync._cluster.settings import fewest_attempts
from jobsync._core.records import Audit, Claim, HistoryKind, Rebalance
from jobsync.backend import Backend

__all__ = ['REBALANCES_READ', 'read_task_history']

REBALANCES_READ = 200
"""How many of the newest rebalances are searched for the one that moved a task last."""


def read_task_history(backend: Backend, reading: ClusterReading, key: str, day: dt.date) -> TaskHistory:
    """Return the history of a task, given by its key, at a date."""
    claims = backend.history(HistoryKind.CLAIM, date=day, item=key)
    audits = backend.history(HistoryKind.AUDIT, date=day, item=key)
    rebalances = backend.history(HistoryKind.REBALANCE, limit=REBALANCES_READ)
    return TaskHistory(
        cast('Sequence[Claim]', claims),
        cast('Sequence[Audit]', audits),
        cast('Sequence[Rebalance]', rebalances),
        0 if fewest_attempts(reading) is None else backend.lost_attempts(day).get(key, 0),
        _in_hand(backend, reading, key),
        day,
    )


def _in_hand(backend: Backend, reading: ClusterReading, key: str) -> Sequence[Claim]:
    """Return what holds up the hand-over of a task, oldest first: claims of its owner that are not completed."""
    key = schedule_of(key) or key
    holder = holder_of(reading, key)
    if holder is None:
        return ()
    token = token_of(reading, key)
    begun = [claim for claim in backend.incomplete(None, dt.timedelta(0)) if claim.node == holder.name]
    begun = [claim for claim in begun if claim.created_on >= holder.created_on]
    return [claim for claim in begun if token_of(reading, schedule_of(claim.item) or claim.item) == token]
