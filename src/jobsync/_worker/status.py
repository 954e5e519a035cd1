"""What a job reports of its node and its cluster. All functions here read, none changes anything."""

from __future__ import annotations

import datetime as dt
import operator
from typing import cast

import attrs

from jobsync._core.agent.phase import Phase
from jobsync._core.agent.settings_comparison import settings_of
from jobsync._core.counting import counted
from jobsync._core.records import NodeState, Snapshot
from jobsync._event_log import event_log
from jobsync._runtime import clock
from jobsync._worker.session import Session
from jobsync.rows import CoordinationStatus, DifferenceRow, NodeRow, UnreadableRow

__all__ = [
    'coordination_status',
    'count_owned',
    'is_healthy',
    'is_leader',
    'last_heartbeat_sent',
    'lease_left_sec',
    'node_rows',
    'owned_tokens',
    'owns',
    'summary',
    'token_version',
]

_NO_TOKENS: frozenset[int] = frozenset()


def owned_tokens(session: Session) -> frozenset[int]:
    """Return the tokens that may be claimed now: the same object while nothing changes."""
    lease = session.lease_here
    return _NO_TOKENS if lease is None or clock.now() >= lease.deadline else lease.ownership.tokens


def owns(session: Session, token: int) -> bool:
    """Return whether a token or pin may be claimed now, without making the set of all."""
    lease = session.lease_here
    if lease is None:
        return False
    deadline, has = lease.deadline, lease.ownership.has(operator.index(token))
    return has and clock.now() < deadline


def count_owned(session: Session) -> int:
    """Return how many tokens may be claimed now."""
    lease = session.lease_here
    return 0 if lease is None or clock.now() >= lease.deadline else lease.ownership.count


def token_version(session: Session) -> int:
    """Return the number of the assignment's version that the node has applied; 0 before the first."""
    runtime = session.runtime
    return 0 if runtime is None else runtime.lease.assignment.version.number


def last_heartbeat_sent(session: Session) -> dt.datetime | None:
    """Return when the last successful heartbeat was sent, by this machine's clock; None before the first."""
    sent_at = None if session.runtime is None else session.runtime.heartbeat_at
    return None if sent_at is None else dt.datetime.fromtimestamp(sent_at, dt.UTC)


def is_healthy(session: Session) -> bool:
    """Return whether the node is a member with a valid lease and not stalled; with coordination off, whether it is not over."""
    if not session.config.enabled:
        return not session.is_over
    runtime, lease = session.runtime, session.lease_here
    if runtime is None or lease is None or runtime.agent.is_stalled:
        return False
    return runtime.status.phase is Phase.MEMBER and clock.now() < lease.deadline


def is_leader(session: Session) -> bool:
    """Return whether the node leads the cluster, with a valid lease."""
    return session.runtime is not None and session.runtime.status.leads and is_healthy(session)


def coordination_status(session: Session, open_tasks: int) -> CoordinationStatus:
    """Return the node's state in one mapping, whose keys ``docs/reference/job.md`` explains. No I/O."""
    config, runtime, sent_at = session.config, session.runtime, last_heartbeat_sent(session)
    return {
        'enabled': config.enabled,
        'node_name': session.node_name,
        'state': _state(session),
        'is_healthy': is_healthy(session),
        'is_leader': is_leader(session),
        'is_stalled': session.runtime is not None and session.runtime.agent.is_stalled,
        'token_count': count_owned(session),
        'token_version': token_version(session),
        'last_heartbeat': None if sent_at is None else sent_at.isoformat(),
        'total_tokens': config.total_tokens,
        'open_tasks': open_tasks,
        'log_lines_dropped': event_log.dropped,
        'unplaced_locks': 0 if runtime is None else len(runtime.lease.assignment.unplaced),
        'differing_settings': [
            cast('DifferenceRow', attrs.asdict(found, recurse=False)) for found in (runtime.status.differences if runtime else ())
        ],
        'unreadable': [cast('UnreadableRow', attrs.asdict(record)) for record in (runtime.status.unreadable if runtime else ())],
        'death_unknown': _death_unknown(session),
        'watched_nodes': [] if runtime is None or runtime.death_watch is None else list(runtime.death_watch.watched_names),
    }


def summary(session: Session) -> str:
    """Return the node's name, phase, tokens and what is left of its lease, as text for a repr. No I/O."""
    left = lease_left_sec(session)
    lease_left = f', lease {left:.1f} s left' if session.config.enabled else ''
    return f'{session.node_name!r}: {_state(session)}, {counted(count_owned(session), "token")}{lease_left}'


def lease_left_sec(session: Session) -> float:
    """Return for how many seconds the lease lasts; 0 if there is none, or it is over."""
    lease = session.lease_here
    return 0.0 if lease is None else max(0.0, lease.deadline - clock.now())


def _death_unknown(session: Session) -> str | None:
    """Return why no other process would know at once that this one has ended; None if those of its host would."""
    runtime = session.runtime
    if runtime is None:
        return 'the node is not in its cluster'
    if runtime.death_watch is None:
        return 'known_death is False' if not session.config.known_death else 'all nodes of this store are one process'
    return runtime.death_watch.why_not


def _state(session: Session) -> str:
    runtime = session.runtime
    return runtime.status.phase.value if runtime is not None else 'outside' if session.config.enabled else 'disabled'


def node_rows(snapshot: Snapshot, timeout_sec: float) -> list[NodeRow]:
    """Return every node's record, oldest first. ``active`` goes by the store's clock, and is for people only."""
    limit, leader = dt.timedelta(seconds=timeout_sec), snapshot.leader
    return [
        {
            'name': node.name,
            'created_on': node.created_on,
            'last_heartbeat': (seen := node.last_heartbeat),
            'active': node.state is NodeState.JOINED and seen is not None and snapshot.now - seen < limit,
            'is_leader': node is leader,
            'weight': node.weight,
            'stalled': node.stalled,
            'host': node.host,
            'pid': node.pid,
            'settings': dict(settings_of(node.settings)),
        }
        for node in snapshot.nodes
    ]
