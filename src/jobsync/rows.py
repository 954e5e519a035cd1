"""The mappings that a job returns of its cluster, as types for type checkers. Times are in UTC."""

from __future__ import annotations

import datetime as dt
from typing import TypedDict

__all__ = ['AuditRow', 'CoordinationStatus', 'LockRow', 'NodeRow', 'UnreadableRow']


class NodeRow(TypedDict):
    """A node's record, as ``Job.nodes`` lists it."""

    name: str
    created_on: dt.datetime
    last_heartbeat: dt.datetime | None
    """By the store's clock. None once the node has left."""
    active: bool
    """Whether the last heartbeat is younger than ``heartbeat_timeout_sec``, by the store's clock."""
    is_leader: bool
    weight: float
    host: str
    pid: int


class LockRow(TypedDict):
    """A task lock, as ``Job.list_locks`` lists it."""

    token_id: int
    """The id of the task's pin."""
    task_id: str
    node_pattern: str
    """The pattern in force."""
    patterns: list[str]
    reason: str | None
    created_by: str
    created_at: dt.datetime
    expires_at: dt.datetime | None


class AuditRow(TypedDict):
    """A completed task, as ``Job.get_audit`` lists it."""

    item: str
    """The task's key."""
    node: str
    date: dt.date
    created_on: dt.datetime


class UnreadableRow(TypedDict):
    """A record in the store that cannot be read in full."""

    kind: str
    """``'node'`` or ``'lock'``."""
    key: str
    problem: str


class CoordinationStatus(TypedDict):
    """A node's state, as ``Job.get_coordination_status`` returns it. Has only what JSON can carry."""

    enabled: bool
    node_name: str
    state: str
    is_healthy: bool
    is_leader: bool
    token_count: int
    token_version: int
    last_heartbeat: str | None
    """When the last successful heartbeat was sent, by this machine's clock, in ISO 8601."""
    total_tokens: int
    open_tasks: int
    log_lines_dropped: int
    unplaced_locks: int
    unreadable: list[UnreadableRow]
