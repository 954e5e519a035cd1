"""From a configuration to a node that is part of its cluster."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable

from jobsync._core.agent.phase import Phase
from jobsync._core.config import NodeConfig
from jobsync._core.counting import counted
from jobsync._core.redact import listed
from jobsync._event_log import EventLogger
from jobsync._host import host_name
from jobsync._runtime.node import NodeRuntime
from jobsync._runtime.status import Status
from jobsync.backend import BackendInfo
from jobsync.config import CoordinationConfig
from jobsync.errors import ClusterTimeout, JobsyncError, NodeNameInUse, UnsupportedOperation

__all__ = ['node_config', 'refuse_patched_threads', 'refuse_unlocked_threads', 'wait_until_entered']

_logger = EventLogger('jobsync.job')
_FIRST_SEC = 1.0
_PROGRESS_SEC = 5.0
_WARN_SEC = 10.0
"""After how long a wait is logged as a warning, once: a warning is shown where logging is not configured."""
_POLL_SEC = 0.01
_SLOWING, _LONGEST_POLL_SEC = 0.02, 0.1
"""A wait polls every ``_POLL_SEC``, or after this share of what it has lasted: hundreds may start on one machine at once."""


def refuse_patched_threads(node_name: str) -> None:
    """Raise ``UnsupportedOperation`` if gevent or eventlet has put greenlets in the place of this process's threads."""
    if by := _patched_by():
        raise UnsupportedOperation(
            f'node {node_name!r}: {by} has replaced the threads of this process by greenlets, or what threads wait with. '
            'jobsync sends its heartbeats from threads, and a greenlet runs only while all others wait: a task that computes for '
            'longer than the lease would lose its tokens in the midst of its work. Keep threads, queues and sockets as they are '
            '(gevent: monkey.patch_all(thread=False, queue=False, socket=False, ssl=False); eventlet: monkey_patch(thread=False, '
            'select=False)), or run workers as processes or threads (celery --pool=prefork or threads, gunicorn '
            '--worker-class=sync or gthread)'
        )


def _patched_by() -> str | None:
    # A program that has patched its threads has imported these modules. gevent's sockets belong to the thread that has made them:
    # where a driver's next call comes from another one, the process crashes. eventlet's select has no ``poll``.
    gevent, eventlet = sys.modules.get('gevent.monkey'), sys.modules.get('eventlet.patcher')
    if gevent is not None and any(gevent.is_module_patched(name) for name in ('threading', '_thread', 'queue', 'socket', 'ssl')):
        return 'gevent'
    return 'eventlet' if eventlet is not None and any(map(eventlet.is_monkey_patched, ('thread', 'select'))) else None


def refuse_unlocked_threads(node_name: str) -> None:
    """Raise ``UnsupportedOperation`` if threads run without Python's global lock. To be called once the driver is imported.

    A module that is not made for that switches the lock on as it is imported.
    """
    # t=0  a user's thread marks a task in flight, and then reads whether the token is to pass on
    # t=1  a thread of the node notes that the token is to pass on, and then reads what is in flight
    # Without one order in which every thread sees these writes, both may go on: the task is begun, and its token passes on.
    is_locked: Callable[[], bool] = getattr(sys, '_is_gil_enabled', lambda: True)
    if not is_locked():
        raise UnsupportedOperation(
            f'node {node_name!r}: this Python runs its threads without the global interpreter lock, and a task could be begun as '
            'its token passes to another node. Start it with PYTHON_GIL=1 or -X gil=1, or use an ordinary Python'
        )


def node_config(
    name: str, config: CoordinationConfig, info: BackendInfo, *, create: bool, wait_on_enter: float, announces: bool
) -> NodeConfig:
    """Return the configuration of this process's node: what is given, and every other field as ``config`` or ``info`` has it."""
    return NodeConfig.of(
        config,
        info,
        name=name,
        host=host_name(),
        pid=os.getpid(),
        create=create,
        wait_on_enter=wait_on_enter,
        announces=announces,
    )


def wait_until_entered(
    runtime: NodeRuntime,
    distribution_timeout_sec: float,
    prepare: Callable[[], object] | None,
    has_left: Callable[[], bool],
) -> None:
    """Return once the node owns its whole share, or at ``wait_on_enter`` if it is at least part of the plan.

    ``prepare`` is called as soon as the store is open with this node's settings. ``has_left``: whether all was closed.
    Past the limit a cluster that has its nodes is given ``distribution_timeout_sec`` more for its distribution; one that is short
    of ``minimum_nodes`` is not. Raises ``ClusterTimeout``, or what stopped the node.
    """
    config = runtime.config
    name, limit_sec = config.name, config.wait_on_enter
    minimum_nodes = config.minimum_nodes
    started, schedule = time.monotonic(), _Schedule()
    while True:
        status, waited = runtime.status, time.monotonic() - started
        if status.failure is not None:
            if isinstance(status.failure, NodeNameInUse):
                raise status.failure.with_traceback(None)  # the steps of the agent's thread explain nothing of a wrong name
            raise status.failure
        # t=0  the store hangs; a signal's handler leaves, cannot in good order, and closes everything
        # t=1  this thread goes on: no thread of the node is there to report that it has left
        if status.phase is Phase.LEFT or has_left():
            raise JobsyncError(f'node {name!r} was requested to leave while it was entering')
        if prepare is not None and status.phase is not Phase.OPENING:
            prepare()
            prepare = None
        if status.settled or (waited >= limit_sec and status.planned):
            return
        short = minimum_nodes is not None and 0 < status.registered_nodes < minimum_nodes
        if waited >= limit_sec + (0 if short else distribution_timeout_sec):
            raise ClusterTimeout(_why(status, config, waited, runtime.trouble))
        if (level := schedule.level(waited)) is not None:
            text = _waiting_for(status, config, distribution_timeout_sec, waited, _holders(runtime))
            _logger.log(level, 'node %r: %s', name, text)
        time.sleep(max(_POLL_SEC, min(_SLOWING * waited, _LONGEST_POLL_SEC)))


class _Schedule:
    """When the wait is logged, and at which level: after a second, every five seconds, and once as a warning."""

    def __init__(self) -> None:
        self._next_at, self._has_warned = _FIRST_SEC, False

    def level(self, waited: float) -> int | None:
        """Return the level of the line that is due after ``waited`` seconds; None if none is due."""
        if waited < self._next_at:
            return None
        self._next_at = _PROGRESS_SEC * (waited // _PROGRESS_SEC + 1)
        if waited < _WARN_SEC or self._has_warned:
            return logging.INFO
        self._has_warned = True
        return logging.WARNING


def _waiting_for(status: Status, config: NodeConfig, distribution_timeout_sec: float, waited: float, holders: str) -> str:
    """Return what the node waits for, and for how long at most. ``holders``: the nodes that own what it is to own, as text."""
    found, minimum_nodes = status.registered_nodes, config.minimum_nodes
    left = max(0.0, config.wait_on_enter - waited)
    leases_left = 0.0 if config.durable else max(0.0, config.heartbeat_timeout_sec - waited)
    is_short = minimum_nodes is not None and 0 < found < minimum_nodes
    until_timeout = max(0.0, config.wait_on_enter + (0 if is_short else distribution_timeout_sec) - waited)
    end = f'ClusterTimeout in {until_timeout:.0f} s at the latest'
    nodes = counted(found, 'node')
    if status.phase is Phase.OPENING:
        what = 'waiting until the store is open with its settings'
    elif status.phase is not Phase.MEMBER:
        what = f'waiting until it is registered under its name ({status.phase.value})'
    elif status.planned:
        what = f'waiting for the rest of its tokens{f", which {holders} must release first" if holders else ""}'
        end = f'entering with the tokens it has in {left:.0f} s at the latest'
    elif status.distributed:
        what = f'waiting until the leader gives it a share of the tokens ({nodes} registered)'
    elif minimum_nodes is not None and found < minimum_nodes:
        what = f'waiting until {counted(minimum_nodes, "node has", "nodes have")} joined ({nodes} so far)'
    elif minimum_nodes is None and left > 0:
        what = (
            f'waiting for the cluster to form: {nodes} so far, first distribution in {left:.0f} s; give minimum_nodes to start '
            'sooner'
        )
    elif leases_left > 0:
        what = (
            f'waiting {leases_left:.0f} s until every older lease is over, since the store may lose what it has confirmed (on '
            'Redis, durable=yes in the URL declares a server that does not)'
        )
        if leases_left > until_timeout:
            end += f', which is sooner: {_longer_wait(config)}'
    else:
        what = f'waiting for the first distribution ({nodes} registered)'
    return f'{what}; {end}'


def _holders(runtime: NodeRuntime) -> str:
    """Return the names of the nodes that own tokens which are to be this node's, as text."""
    assignment, name = runtime.lease.assignment, runtime.config.name
    owners = {owner for owner, target in assignment.moves if target == name}
    pinned = {pin.owner for pin in assignment.pins.values() if pin.target == name and pin.owner is not None}
    return listed(pinned | owners)


def _longer_wait(config: NodeConfig) -> str:
    """Return what to do where entering ends before every older lease does, as text."""
    return f'lower heartbeat_timeout_sec ({config.heartbeat_timeout_sec:g}), or set wait_on_enter to as much'


def _why(status: Status, config: NodeConfig, waited: float, trouble: JobsyncError | None) -> str:
    minimum_nodes = config.minimum_nodes
    waiting = f'node {config.name!r} waited {waited:.1f} s (wait_on_enter={config.wait_on_enter:g}'
    if minimum_nodes is not None and 0 < status.registered_nodes < minimum_nodes:
        return (
            f'{waiting}) for {counted(minimum_nodes, "node")} (minimum_nodes), but only {status.registered_nodes} joined; '
            'start the others, or lower minimum_nodes'
        )
    is_first = status.phase is Phase.MEMBER and not status.distributed
    if trouble is not None:
        reason = f'Its last call of the store failed: {trouble}'
    elif is_first and not config.durable and waited < config.heartbeat_timeout_sec:
        reason = (
            'The first distribution waits until every older lease is over, since the store may lose what it has confirmed: '
            f'{_longer_wait(config)}, or, on Redis, declare a server that loses nothing by durable=yes in the URL'
        )
    else:
        reason = 'Can the leader reach the store?'
    return (
        f'{waiting}, and token_distribution_timeout_sec after it) to become part of a distribution; it is '
        f'{status.phase.value}, and {counted(status.registered_nodes, "node is", "nodes are")} registered. {reason}'
    )
