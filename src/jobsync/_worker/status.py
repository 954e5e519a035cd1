"""What a job tells of its node and its cluster: everything here asks, nothing changes anything."""

from __future__ import annotations

import datetime as dt
from typing import Any

import attrs

from jobsync._core.agent.agent import Phase
from jobsync._core.hashing import tokenizer
from jobsync._core.records import NodeState, Snapshot
from jobsync._event_log import event_log
from jobsync._runtime.clock import now
from jobsync._worker.session import Session
from jobsync._worker.task_log import TaskLog
from jobsync.config import CoordinationConfig
from jobsync.errors import NotOwned
from jobsync.task import key_of

__all__ = ['NodeStatus']

_EMPTY: frozenset[int] = frozenset()


class NodeStatus:
    """A node, for whoever wants to know how it stands. ``Job`` is one that can also do something."""

    def __init__(self, node_name: str, date: dt.date, config: CoordinationConfig, create: bool) -> None:
        """``create``: whether the store's tables may be made."""
        self.node_name, self.date, self._config = node_name, date, config
        self._token_of = tokenizer(config.hash_function, config.total_tokens)
        self._session = Session(node_name, config, create=create)
        self._task_log = TaskLog(self._session, date)

    def _parse(self, task: object) -> tuple[str, int]:
        """A task's key and its hash token."""
        key = key_of(task)
        return key, self._token_of(key)

    @property
    def my_tokens(self) -> frozenset[int]:
        """The tokens this node may claim now: the same object while nothing changes, empty while the lease is over."""
        lease = self._session.lease
        return _EMPTY if lease is None or now() >= lease.deadline else lease.ownership.tokens

    @property
    def token_version(self) -> int:
        """The number of the assignment's version that this node goes by; it rises with every change."""
        runtime = self._session.runtime
        return 0 if runtime is None else runtime.agent.lease.assignment.version.number

    @property
    def _my_tokens(self) -> frozenset[int]:
        return self.my_tokens

    @property
    def _token_version(self) -> int:
        return self.token_version

    @property
    def _last_heartbeat_sent(self) -> dt.datetime | None:
        sent = None if self._session.runtime is None else self._session.runtime.heartbeat_at
        return None if sent is None else dt.datetime.fromtimestamp(sent, dt.UTC)

    @property
    def _coordination_enabled(self) -> bool:
        return self._config.enabled

    def owns(self, token: int) -> bool:
        """Whether this node may claim tasks of this token, or the task of this pin, at this moment. No I/O, no lock."""
        return token in self.my_tokens

    def owner_of(self, task: object) -> str | None:
        """The name of the node that owns the task; None while nobody does. Asks the store."""
        key, token = self._parse(task)
        self._session.check_inside()
        return self.node_name if self._session.runtime is None else self._session.read_assignment().owner_of(key, token)

    def fence(self, task: object) -> int:
        """A number for the task that is higher with every new owner, for others to refuse a late write by (``jobsync.fencing``).

        It rises through hand-overs, crashes, restarts and task locks, and never falls while the store keeps what it has
        confirmed. No I/O. Raises ``NotOwned`` if the task is neither this node's now nor in flight here.
        """
        key, token = self._parse(task)
        self._session.check_inside()
        runtime = self._session.runtime
        fence = None if runtime is None else runtime.agent.lease.fence(key, token, now)
        if fence is None:
            why = 'there is no cluster, so there are no fences' if runtime is None else "it is not this node's at this moment"
            raise NotOwned(f'node {self.node_name!r} has no fence for task {key!r}: {why}')
        return fence

    def task_to_token(self, task: object) -> int:
        """The token that decides about the task: its pin's if it is locked, else its hash token."""
        key, runtime = key_of(task), self._session.runtime
        pin = None if runtime is None else runtime.agent.lease.assignment.pin_of.get(key)
        return self._token_of(key) if pin is None else pin.id

    def am_i_healthy(self) -> bool:
        """Whether this node is a member with a valid lease (always, with coordination off)."""
        if not self._config.enabled:
            return not self._session.is_over
        runtime, lease = self._session.runtime, self._session.lease
        return runtime is not None and lease is not None and runtime.status.phase is Phase.MEMBER and now() < lease.deadline

    @property
    def is_leaving(self) -> bool:
        """Whether this node begins nothing more: it is to leave (a signal, say), has left, or cannot go on.

        A ``claim`` loop ends by itself then; a loop of your own should.
        """
        return self._session.is_leaving

    def am_i_leader(self) -> bool:
        """Whether this node leads the cluster, with a valid lease."""
        runtime = self._session.runtime
        return runtime is not None and runtime.status.leads and self.am_i_healthy()

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """Every node's record in the store, oldest first: name, created_on, last_heartbeat, active and more."""
        if not self._config.enabled:
            return []
        snapshot = self._session.caller.call(self._session.needed_backend.snapshot)
        return _node_rows(snapshot, self._config.heartbeat_timeout_sec)

    def get_active_nodes(self) -> list[dict[str, Any]]:
        """The nodes heard of within ``heartbeat_timeout_sec``, oldest first. Asks the store; for people, by its clock."""
        return [node for node in self.nodes if node['active']]

    def get_dead_nodes(self) -> list[dict[str, Any]]:
        """The registered nodes that are silent longer than that, or have left, until the leader removes them."""
        return [node for node in self.nodes if not node['active']]

    def get_coordination_status(self) -> dict[str, Any]:
        """How this node stands, in one mapping; no I/O."""
        config, runtime = self._config, self._session.runtime
        return {
            'enabled': config.enabled,
            'node_name': self.node_name,
            'state': runtime.status.phase.value if runtime is not None else 'outside' if config.enabled else 'disabled',
            'is_healthy': self.am_i_healthy(),
            'is_leader': self.am_i_leader(),
            'token_count': len(self.my_tokens),
            'token_version': self.token_version,
            'last_heartbeat': self._last_heartbeat_sent,
            'total_tokens': config.total_tokens,
            'open_tasks': self._task_log.open_tasks,
            'log_lines_dropped': event_log.dropped,
            'unplaced_locks': 0 if runtime is None else len(runtime.agent.lease.assignment.unplaced),
            'unreadable': [] if runtime is None else [attrs.asdict(record) for record in runtime.status.unreadable],
        }


def _node_rows(snapshot: Snapshot, timeout_sec: float) -> list[dict[str, Any]]:
    """Return every node's record, oldest first. ``active`` goes by the store's clock, and is for people only."""
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
