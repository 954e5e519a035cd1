"""The records of a namespace, as values, however a store keeps them.

Each record has one writer: a node writes its own, the node that wins the comparison writes the leadership, the leader writes the
assignment, any node writes task locks.
"""

from __future__ import annotations

from jobsync._core.records.history import Audit, Claim, HistoryKind, Purged, Rebalance, Unclaimed
from jobsync._core.records.locks import ACTIONS, DRAINED, LockEdit, LockFilter, LockReading, LockRequest, TaskLock, lock_key
from jobsync._core.records.namespace import INITIAL, Opened, Revision, Settings, Timeline, Unreadable
from jobsync._core.records.nodes import Hint, Leadership, Node, NodeRef, NodeState, Pulse, Registration, Snapshot
from jobsync._core.records.ownership import NOBODY, Eviction, Guard, Member, Pin

__all__ = [
    'ACTIONS',
    'DRAINED',
    'INITIAL',
    'NOBODY',
    'Audit',
    'Claim',
    'Eviction',
    'Guard',
    'Hint',
    'HistoryKind',
    'Leadership',
    'LockEdit',
    'LockFilter',
    'LockReading',
    'LockRequest',
    'Member',
    'Node',
    'NodeRef',
    'NodeState',
    'Opened',
    'Pin',
    'Pulse',
    'Purged',
    'Rebalance',
    'Registration',
    'Revision',
    'Settings',
    'Snapshot',
    'TaskLock',
    'Timeline',
    'Unclaimed',
    'Unreadable',
    'lock_key',
]
