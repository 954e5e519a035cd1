"""From a configuration to a node that is part of its cluster."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable

from jobsync._core.agent.phase import Phase
from jobsync._core.config import NodeConfig
from jobsync._event_log import EventLogger
from jobsync._runtime.node import NodeRuntime, Status
from jobsync.backend import BackendInfo
from jobsync.config import CoordinationConfig
from jobsync.errors import ClusterTimeout, JobsyncError, UnsupportedOperation

__all__ = ['node_config', 'refuse_patched_threads', 'wait_until_entered']

_logger = EventLogger('jobsync.job')
_PROGRESS_SEC = 10.0
_POLL_SEC = 0.01


def refuse_patched_threads(node_name: str) -> None:
    """Raise ``UnsupportedOperation`` if gevent or eventlet has put greenlets in the place of this process's threads."""
    if by := _patched_by():
        raise UnsupportedOperation(
            f'node {node_name!r}: {by} has replaced the threads of this process by greenlets, or its queues by others. '
            'jobsync sends its heartbeats from threads, and a greenlet runs only while all others wait: a task that computes for '
            'longer than the lease would lose its tokens in the midst of its work. Keep threads and queues as they are (gevent: '
            'monkey.patch_all(thread=False, queue=False); eventlet: monkey_patch(thread=False)), or run workers as processes or '
            'threads (celery --pool=prefork or threads, gunicorn --worker-class=sync or gthread)'
        )


def _patched_by() -> str | None:
    # A program that has patched its threads has imported these modules.
    gevent, eventlet = sys.modules.get('gevent.monkey'), sys.modules.get('eventlet.patcher')
    if gevent is not None and any(gevent.is_module_patched(name) for name in ('threading', '_thread', 'queue')):
        return 'gevent'
    return 'eventlet' if eventlet is not None and eventlet.is_monkey_patched('thread') else None


def node_config(
    name: str, config: CoordinationConfig, info: BackendInfo, *, create: bool, wait_on_enter: float, announces: bool
) -> NodeConfig:
    """Return the configuration of this process's node: what is given, and every other field as ``config`` or ``info`` has it."""
    return NodeConfig.of(
        config,
        info,
        name=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        create=create,
        wait_on_enter=wait_on_enter,
        announces=announces,
    )


def wait_until_entered(
    runtime: NodeRuntime, distribution_timeout_sec: float, prepare: Callable[[], object] | None = None
) -> None:
    """Return once the node owns its whole share, or at ``wait_on_enter`` if it is at least part of the plan.

    ``prepare`` is called as soon as the store is open with this node's settings.
    Past the limit a cluster that has its nodes is given ``distribution_timeout_sec`` more for its distribution; one that is short
    of ``minimum_nodes`` is not. Raises ``ClusterTimeout``, or what stopped the node.
    """
    config = runtime.config
    name, limit_sec = config.name, config.wait_on_enter
    minimum_nodes = config.minimum_nodes if config.minimum_nodes_given else None
    started = time.monotonic()
    next_word = started + min(_PROGRESS_SEC, 1.0)
    while True:
        status, waited = runtime.status, time.monotonic() - started
        if status.failure is not None:
            raise status.failure
        if status.phase is Phase.LEFT:
            raise JobsyncError(f'node {name!r} was requested to leave while it was entering')
        if prepare is not None and status.phase is not Phase.OPENING:
            prepare()
            prepare = None
        if status.settled or (waited >= limit_sec and status.planned):
            return
        short = minimum_nodes is not None and 0 < status.registered_nodes < minimum_nodes
        if waited >= limit_sec + (0 if short else distribution_timeout_sec):
            raise ClusterTimeout(_why(name, status, minimum_nodes, limit_sec, waited, runtime.trouble))
        if time.monotonic() >= next_word:
            _logger.info('node %r: %s', name, _waiting_for(status, minimum_nodes, limit_sec, waited))
            next_word = time.monotonic() + _PROGRESS_SEC
        time.sleep(_POLL_SEC)


def _waiting_for(status: Status, minimum_nodes: int | None, limit_sec: float, waited: float) -> str:
    text = f'{status.phase.value} for {waited:.0f} s, {status.registered_nodes} nodes so far'
    if status.planned:
        return f'waiting for the rest of its tokens ({text})'
    if status.distributed:
        return f'waiting until the leader gives it a share of the tokens ({text})'
    if minimum_nodes is not None and status.registered_nodes >= minimum_nodes:
        return f'waiting for the first distribution ({text}, {minimum_nodes} needed)'
    if minimum_nodes is not None:
        return f'waiting until {minimum_nodes} nodes have joined ({text}, at most {limit_sec:g} s)'
    return (
        f'waiting for the cluster to form ({text}). A first distribution is made {limit_sec:g} s (wait_on_enter) after the first '
        'node started, or as soon as minimum_nodes have joined if that is given'
    )


def _why(
    name: str, status: Status, minimum_nodes: int | None, limit_sec: float, waited: float, trouble: JobsyncError | None
) -> str:
    waiting = f'node {name!r} waited {waited:.1f} s (wait_on_enter={limit_sec:g}'
    if minimum_nodes is not None and 0 < status.registered_nodes < minimum_nodes:
        return (
            f'{waiting}) for {minimum_nodes} nodes (minimum_nodes), but only {status.registered_nodes} joined; '
            'start the others, or lower minimum_nodes'
        )
    return (
        f'{waiting}, and token_distribution_timeout_sec after it) to become part of a distribution; it is '
        f'{status.phase.value}, {status.registered_nodes} nodes are registered. '
        + ('Can the leader reach the store?' if trouble is None else f'Its last call of the store failed: {trouble}')
    )
