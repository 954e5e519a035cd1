"""What ``Job`` and ``Cluster`` return: mappings, as types for type checkers, and ``Explanation``. Times are in UTC."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, TypedDict

import attrs

__all__ = [
    'AuditRow',
    'ClusterNode',
    'ClusterStatus',
    'CoordinationStatus',
    'DifferenceRow',
    'EventRow',
    'Explanation',
    'Forecast',
    'ForecastNode',
    'HandOver',
    'ItemRow',
    'LeaderRow',
    'LockRow',
    'NodeRow',
    'QuarantinedRow',
    'RebalanceRow',
    'TaskRow',
    'UnreadableRow',
]


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
    stalled: bool
    """Whether the node owned work and made no progress (``progress_timeout_sec``). Others have its share, if any could own it."""
    host: str
    pid: int
    settings: dict[str, object]
    """The node's fields of ``CoordinationConfig``, those excepted that say where the store is."""


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


class TaskRow(TypedDict):
    """A claim or a completion of a task, as ``Cluster.claims``, ``Cluster.audits`` and ``Job.get_audit`` list it."""

    item: str
    """The task's key."""
    node: str
    date: dt.date
    created_on: dt.datetime


AuditRow = TaskRow
"""A completed task, as ``Job.get_audit`` lists it."""


class QuarantinedRow(TypedDict):
    """A task in quarantine, as ``Job.list_quarantined`` lists it."""

    item: str
    """The task's key."""
    attempts: int
    """How many runs were lost while they attempted it."""


class UnreadableRow(TypedDict):
    """A record in the store that cannot be read in full."""

    kind: str
    """``'node'``, ``'lock'`` or ``'item'``."""
    key: str
    problem: str


class DifferenceRow(TypedDict):
    """A setting in which another node differs from this one, though all nodes should have the same."""

    setting: str
    node: str
    """The name of the other node."""
    there: object
    """The value on the other node."""
    here: object


class CoordinationStatus(TypedDict):
    """A node's state, as ``Job.get_coordination_status`` returns it. Has only what JSON can carry."""

    enabled: bool
    node_name: str
    state: str
    is_healthy: bool
    is_leader: bool
    is_stalled: bool
    token_count: int
    token_version: int
    last_heartbeat: str | None
    """When the last successful heartbeat was sent, by this machine's clock, in ISO 8601."""
    total_tokens: int
    open_tasks: int
    log_lines_dropped: int
    unplaced_locks: int
    differing_settings: list[DifferenceRow]
    unreadable: list[UnreadableRow]
    death_unknown: str | None
    """Why other nodes would not know at once that this process was killed. None: those of its host would."""
    watched_nodes: list[str]
    """The nodes of this host whose processes this one watches, so that it knows at once when they are killed."""


class ClusterNode(TypedDict):
    """A node's record with its load, as ``Cluster.nodes`` lists it."""

    name: str
    state: str
    """``'joined'``, ``'left'``, ``'silent'``: joined, without a heartbeat for its timeout, by the store's clock; or
    ``'stalled'``: joined, and without progress (``progress_timeout_sec``)."""
    is_leader: bool
    tokens: int
    """How many hash tokens it owns, those being handed over included."""
    pins: int
    """How many pins it owns: tasks with a task lock, and items."""
    holding: int
    """With how many of the tokens and pins that it is to hand over it is still busy."""
    weight: float
    is_drained: bool
    """Whether an operator has drained it: it is to own nothing, whatever its weight."""
    is_current: bool
    """Whether it has acknowledged the assignment's present version."""
    candidate: bool
    """Whether it may lead."""
    heartbeat_age_sec: float | None
    """How long ago its last heartbeat was, by the store's clock. None once it has left."""
    timeout_sec: float
    last_heartbeat: dt.datetime | None
    created_on: dt.datetime
    host: str
    pid: int
    incarnation: str
    """The id of this run of the node."""
    settings: Mapping[str, Any]
    """The node's own settings, by the names of ``CoordinationConfig``."""


class HandOver(TypedDict):
    """The tokens and pins that pass from one node to another."""

    owner: str
    target: str | None
    """None: they are to be released."""
    tokens: int
    """How many tokens and pins."""
    tasks: list[str]
    """The tasks of the pins."""
    is_acknowledged: bool
    """Whether the owner has acknowledged the present version; it may have released tokens of an earlier one, which counts too."""
    held: list[int]
    """The tokens and pins that the owner is still busy with."""


class ItemRow(TypedDict):
    """An item of a group, as ``Job.list_items`` and ``Cluster.items`` list it."""

    group: str
    item: str
    owner: str | None
    """None before the leader has placed it, where no live node matches its patterns, and for ``Cluster`` once its owner left."""
    cost: float
    patterns: list[str]


class LeaderRow(TypedDict):
    """A change of the leadership, as ``Cluster.status`` lists it."""

    epoch: int
    leader: str
    since: dt.datetime


class ClusterStatus(TypedDict):
    """A cluster at a glance, as ``Cluster.status`` returns it."""

    total_tokens: int
    hash_function: str
    timeline: int
    """The timeline's generation: 0 until the store has gone back in time, or ``total_tokens`` or ``hash_function`` changed."""
    version: int
    """The assignment's version."""
    leader: str | None
    """The node that leads. None also when it has left, until another node leads."""
    epoch: int
    """How often the leadership has changed."""
    leader_changes: list[LeaderRow]
    """Its newest changes on record, newest first: 20 at most, whether or not tokens moved."""
    nodes: int
    """How many nodes are joined and not silent."""
    silent: list[str]
    tokens_owned: int
    tokens_unowned: int
    """The tokens of nodes that have left are among them, until the leader gives them to other nodes."""
    tokens_moving: int
    locks: int
    items: int
    drained: list[str]
    """The names of nodes that an operator has drained, whether or not they are registered."""
    unmatched: list[str]
    """The tasks with patterns, locked or items, that no live node matches."""
    unreadable: list[UnreadableRow]
    problems: list[str]
    """What needs attention, as sentences, the worst first. Empty if all is well."""
    now: dt.datetime
    """The store's time."""


class RebalanceRow(TypedDict):
    """A commit that changed owners, or by which a node went, as ``Cluster.rebalances`` lists it."""

    triggered_at: dt.datetime
    trigger_reason: str
    leader_node: str
    nodes_before: int
    nodes_after: int
    tokens_moved: int
    duration_ms: int
    version: int
    """The version of the tokens and pins that it moved."""


class EventRow(TypedDict):
    """What has happened to a cluster or to a task, as ``Cluster.history`` lists it."""

    at: dt.datetime
    event: str
    """``rebalance``, ``leader``, ``begun``, ``completed``, ``owner``, ``item``, or what an operator did: ``drain``, ``undrain``,
    ``evict``, ``lock``, ``clear locks``, ``release``, ``purge``."""
    by: str
    """A node, or who has done it."""
    details: str


@attrs.frozen
class Explanation:
    """The state of one task, as ``Cluster.why`` returns it: for people and for scripts."""

    task: str
    token: int
    """The pin's id if the task has one, else its hash token."""
    is_pinned: bool
    owner: str | None
    target: str | None
    """The node that the task is being handed to."""
    version: int
    """The version since which the owner has it."""
    is_claimable: bool
    """Whether some live node answers True for the task, as far as the store shows."""
    is_complete: bool
    verdict: str
    """One sentence: that it is complete, or who may do the task, or what stands in the way."""
    details: tuple[str, ...]
    """Further sentences: since when and why, the task lock, the last claim and completion."""
    history: tuple[EventRow, ...] = ()
    """What is on record of the task at the date, newest first, as ``Cluster.history`` has it for every date."""


class ForecastNode(TypedDict):
    """A node's load before and after a change."""

    weight: float
    before: int
    after: int


class Forecast(TypedDict):
    """What a change of the nodes would move, as ``Cluster.plan`` returns it."""

    nodes: dict[str, ForecastNode]
    moved: int
    """How many tokens and pins would have another owner."""
    unmatched: list[str]
    """The tasks with patterns, locked or items, that no node would match."""
