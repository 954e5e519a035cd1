"""What is explored: which processes there are, what may happen to them, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from jobsync._core.config import NodeConfig
from jobsync.backend import BackendInfo, LockEdit, LockFilter, LockRequest, Reach, Settings
from jobsync.config import CoordinationConfig

__all__ = ['SETTINGS', 'TOKEN_OF', 'ProcessSpec', 'World', 'cleared', 'declared', 'locked', 'locked_to']

SETTINGS = Settings(2, 'xxh3')
TOKEN_OF: Mapping[str, int] = {'x': 0, 'y': 1}
"""The tasks of each world and their hash tokens."""
INTERVAL, TIMEOUT = 1.0, 4.0
"""Heartbeat interval and timeout in ticks; a lease is ``LEASE`` ticks."""
LEASE = 3.0
GATHERING: Mapping[str, Any] = {'many_owners': 1, 'gather_sec': 1.5, 'gather_longer_sec': 3.0}
"""How leaders gather acknowledgements in worlds that are about this: two owners are many, and what comes a tick after the first
extends the wait by a tick."""
_NEVER = float('inf')


@attrs.frozen
class ProcessSpec:
    """A process that a world may have."""

    name: str
    """The node's name. Two processes of one name are one that is started again, or a twin."""
    is_there: bool = True
    """Whether it is part of the settled cluster with which the world begins."""
    timeout: float = TIMEOUT
    weight: float = 1.0

    def config(self, durable: bool, gathers: bool) -> NodeConfig:
        """Return the configuration of the process: times in ticks, without the polls that only make up for lost hints."""
        coordination = CoordinationConfig(
            weight=self.weight,
            heartbeat_interval_sec=INTERVAL,
            heartbeat_timeout_sec=self.timeout,
            lease_margin=1 - LEASE / TIMEOUT,
            handover_timeout_sec=2,
            shutdown_timeout_sec=1,
            rebalance_delay_sec=0,
        )
        info = BackendInfo('memory', durable=durable, push=False, reach=Reach.PROCESS, max_tokens=10)
        config = NodeConfig.of(
            coordination, info, name=self.name, host='', pid=0, create=True, announces=False, wait_on_enter=0.0, settings=SETTINGS
        )
        return attrs.evolve(
            config,
            **(GATHERING if gathers else {}),
            rebalance_check_interval_sec=_NEVER,
            dead_node_check_interval_sec=_NEVER,
            token_refresh_initial_interval_sec=_NEVER,
            token_refresh_steady_interval_sec=_NEVER,
        )


def locked(task: str, *patterns: str) -> LockEdit:
    """Return the edit that locks a task to nodes."""
    return LockEdit(put=(LockRequest(task, patterns, 'explorer'),))


def locked_to(node: str, *tasks: str) -> LockEdit:
    """Return the edit that locks several tasks to one node at once."""
    return LockEdit(put=tuple(LockRequest(task, (node,), 'explorer') for task in tasks))


def cleared(task: str) -> LockEdit:
    """Return the edit that clears the lock of a task."""
    return LockEdit(remove=LockFilter(task_ids=frozenset([task])))


def declared(group: str, *tasks: str) -> LockEdit:
    """Return the edit that declares these tasks to be the items of a group."""
    return LockEdit(LockFilter(), tuple(LockRequest(task, ('*',), 'explorer') for task in tasks), group)


@attrs.frozen
class World:
    """A small cluster and what may happen to it.

    ``budget`` says how often each kind of event may happen, ``most`` how many events may happen in all. Without an event every
    call is carried out and answered within its tick, in every order; a tick comes when no process has a call to make.
    """

    name: str
    says: str
    """For people: what the world is about."""
    processes: tuple[ProcessSpec, ...]
    budget: Mapping[str, int]
    most: int
    edits: tuple[LockEdit, ...] = ()
    """Edits of locks and items that may happen, in this order, each for one of the budget's ``edit``."""
    before: tuple[LockEdit, ...] = ()
    """Edits made before the cluster settles."""
    tasks: tuple[str, ...] = ()
    """The tasks that a process may begin, at the cost of one ``begin`` each."""
    failing: tuple[str, ...] = ('work', 'heartbeat', 'commit')
    """Which calls of a process may fail for a while, at the cost of one ``fail``."""
    late: tuple[str, ...] = ('heartbeat', 'work', 'commit')
    """Which calls may be late, at the cost of one ``late``."""
    durable: bool = True
    gathers: bool = False
    """Whether leaders take two owners for many, and gather their acknowledgements for longer."""
    position: bool = False
    """Whether the store reports a position, which shows a rollback."""
    beginning: tuple[str, ...] = ()
    """Names of steps that have been taken before anything is explored. Between them the cluster goes on by itself."""
    states: int | None = None
    """How many of its states the command visits without ``--states``; None: all."""
    calm: int = 8
    """How many ticks pass once the cluster has settled, before anything may happen."""

    @property
    def longest(self) -> int:
        """The longest timeout: what is longer past makes no difference."""
        return int(max(process.timeout for process in self.processes))
