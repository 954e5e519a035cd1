"""Records as the mappings that users read: the columns that the tables of the user's guide have, and a few more."""

from __future__ import annotations

import datetime as dt
from typing import Any

from jobsync._core.records import NodeState, Snapshot

__all__ = ['node_rows']


def node_rows(snapshot: Snapshot, timeout_sec: float) -> list[dict[str, Any]]:
    """Every node's record, oldest first. ``active`` is judged by the store's clock, for people only."""
    limit = dt.timedelta(seconds=timeout_sec)
    return [
        {
            'name': node.name,
            'created_on': node.created_on,
            'last_heartbeat': (seen := node.last_heartbeat),
            'active': node.state is NodeState.JOINED and seen is not None and snapshot.now - seen < limit,
            'is_leader': node.ref == snapshot.leadership.node,
            'weight': node.weight,
            'host': node.host,
            'pid': node.pid,
        }
        for node in snapshot.nodes
    ]
