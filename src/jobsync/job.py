"""``Job``: a worker's way into its cluster."""

from __future__ import annotations

import datetime as dt
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from jobsync import plugins
from jobsync.arguments import checked_callable, checked_date, checked_name, checked_seconds
from jobsync.backend import Backend
from jobsync.calling import Caller
from jobsync.config import CoordinationConfig, resolve
from jobsync.core.agent import AgentConfig, Phase, check_settings
from jobsync.core.hashing import task_key, tokenizer
from jobsync.core.model import LockFilter, NodeState
from jobsync.errors import ConfigError, JobsyncError, UnsupportedOperation
from jobsync.ledger import Ledger
from jobsync.locks import LockBook, lock_request, lock_requests
from jobsync.runtime import NodeRuntime
from jobsync.runtime.clock import now
from jobsync.runtime.entering import wait_until_entered
from jobsync.task import Task

__all__ = ['Job']

_logger = logging.getLogger('jobsync.job')
_EMPTY: frozenset[int] = frozenset()


class Job:
    """A node of a cluster, for the time of a ``with`` block.

    Inside the block exactly those tasks are this node's for which ``can_claim_task`` says so. Leaving the block gives its
    tokens back.
    """

    def __init__(
        self,
        node_name: str,
        site: str | None = None,
        config: object | None = None,
        *,
        date: dt.date | None = None,
        wait_on_enter: float = 120,
        wait_on_exit: float = 0,
        skip_db_init: bool = False,
        lock_provider: Callable[[Job], object] | None = None,
        clear_existing_locks: bool = False,
        coordination_config: CoordinationConfig | None = None,
        on_rebalance: Callable[..., object] | None = None,
    ) -> None:
        """Check the arguments; nothing is reached before the block is entered.

        ``node_name`` must be this worker's alone in its cluster; a stable name gets its former tokens back after a
        restart. ``site`` is a label. ``config`` holds the settings (see ``jobsync.config``), unless
        ``coordination_config`` is given. ``date`` is the date of the work, today by default. ``wait_on_enter`` limits in
        seconds how long entering waits, ``wait_on_exit`` how long leaving waits until others own what this node gave
        back. ``skip_db_init`` uses the store's tables as they are. ``lock_provider`` is called with the job while it
        enters, and the locks it registers hold from the start; with ``clear_existing_locks`` they replace, in one step,
        all that this node registered before. ``on_rebalance`` is called with a ``RebalanceEvent`` (or nothing) whenever
        the node's tokens have changed.

        Raises ``ConfigError``.
        """
        self.node_name = checked_name(node_name)
        self.site = site
        self.date: dt.date = checked_date(date)
        self._wait_on_enter = checked_seconds('wait_on_enter', wait_on_enter)
        self._wait_on_exit = checked_seconds('wait_on_exit', wait_on_exit)
        self._skip_db_init = skip_db_init
        self._lock_provider = checked_callable('lock_provider', lock_provider)
        self._on_rebalance = checked_callable('on_rebalance', on_rebalance)
        self._clear_existing_locks = clear_existing_locks
        self._config = resolve(config, coordination_config, os.environ)
        self._token_of = tokenizer(self._config.hash_function, self._config.total_tokens)
        self._backend: Backend | None = None
        self._runtime: NodeRuntime | None = None
        self._connection: Any = None
        self._ledger: Ledger | None = None
        self._caller = Caller(2 * self._config.op_timeout_sec)
        self._locks = LockBook(
            self.node_name,
            lambda: self._needed_backend,
            self._caller,
            self._config.total_tokens,
            self._config.locks_enabled,
        )
        self._left = False
        self._pid = os.getpid()

    # --- entering and leaving -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Register, and wait until this node owns its share (see ``wait_on_enter``).

        Raises ``ClusterTimeout``, ``ConfigMismatch``, ``NodeNameInUse``, ``SchemaMismatch``, ``BackendNotFound``,
        ``BackendUnavailable``.
        """
        if self._backend is not None or self._left:
            raise JobsyncError(f'job {self.node_name!r} has been entered before: make a new one for each block')
        config = self._config
        if config.backend is not None:
            self._backend = plugins.connect(config.backend, config.options) if isinstance(config.backend, str) else config.backend
        if not config.enabled:
            if (backend := self._backend) is not None:
                self._caller.call(lambda: backend.open(config.settings, not self._skip_db_init))
            self._ledger = Ledger(self.node_name, self.date, backend, None, self._caller)
            return self
        try:
            self._enter(self._needed_backend)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _enter(self, backend: Backend) -> None:
        config = self._config
        opened = self._caller.call(lambda: backend.open(config.settings, not self._skip_db_init))
        check_settings(self.node_name, config.settings, opened.settings)
        if backend.info.max_tokens < config.total_tokens:
            raise ConfigError(
                f'total_tokens is {config.total_tokens}: must be at most {backend.info.max_tokens} on {backend.info.name}'
            )
        if self._lock_provider is not None or self._clear_existing_locks:
            provider = self._lock_provider
            self._locks.provide(None if provider is None else lambda: provider(self), self._clear_existing_locks)
        minimum = int(config.minimum_nodes) if config.minimum_nodes_given else None
        agent_config = AgentConfig(
            name=self.node_name,
            settings=config.settings,
            create=not self._skip_db_init,
            weight=config.weight,
            host=socket.gethostname(),
            pid=os.getpid(),
            heartbeat_interval_sec=config.heartbeat_interval_sec,
            heartbeat_timeout_sec=config.heartbeat_timeout_sec,
            lease_margin=config.lease_margin,
            rebalance_delay_sec=config.rebalance_delay_sec,
            handover_timeout_sec=config.handover_timeout_sec,
            form_sec=self._wait_on_enter,
            minimum_nodes=minimum,
            look_sec=min(config.dead_node_check_interval_sec, config.rebalance_check_interval_sec),
            refresh_initial_sec=config.token_refresh_initial_interval_sec,
            refresh_sec=config.token_refresh_steady_interval_sec,
            relock_sec=config.rebalance_check_interval_sec,
            durable=backend.info.durable,
            locks_enabled=config.locks_enabled,
        )
        runtime = self._runtime = NodeRuntime(backend, agent_config, self._token_of, self._on_rebalance)
        self._ledger = Ledger(self.node_name, self.date, backend, runtime, self._caller)
        runtime.start()
        wait_until_entered(runtime, self._wait_on_enter, minimum, config.token_distribution_timeout_sec)
        _logger.info('node %r entered with %d tokens', self.node_name, len(self.my_tokens))

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop claiming, give the tokens back, leave. May be called again, and from a signal handler at any moment.

        Never marks a task complete: only ``write_audit`` does. Called from a signal handler that has interrupted one of
        this object's own calls, it does not wait for the end, since the end may be waiting for that call.
        """
        if os.getpid() != self._pid:
            return
        runtime = self._runtime
        if runtime is None:
            self._close()
            return
        runtime.ask_to_leave()
        if self._caller.is_calling:
            return
        if not runtime.wait_until_over(self._leave_limit):
            _logger.warning('node %r could not leave in good order; its tokens pass on when its lease is over', self.node_name)
        if not self._left:
            self._left = True
            if self._ledger is not None and self._ledger.open_tasks:
                _logger.warning('node %r leaves with %d tasks not audited', self.node_name, self._ledger.open_tasks)
            if self._wait_on_exit:
                self._wait_until_passed_on()
            runtime.close()
            self._close()

    @property
    def _leave_limit(self) -> float:
        return 2 * self._config.op_timeout_sec + 1

    def _wait_until_passed_on(self) -> None:
        """Wait until no row names this node any more, at most ``wait_on_exit`` seconds."""
        until = now() + self._wait_on_exit
        while now() < until:
            try:
                if all(node.name != self.node_name for node in self._needed_backend.snapshot().nodes):
                    return
            except JobsyncError:
                _logger.info('node %r: cannot see whether its tokens were taken over', self.node_name)
            time.sleep(min(0.1, max(0.0, until - now())))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._backend is not None and isinstance(self._config.backend, str):
            self._backend.close()

    # --- tasks --------------------------------------------------------------------------------------------------------------

    def can_claim_task(self, task: object) -> bool:
        """Whether the task (a ``Task`` or a bare id) is this node's at this moment. No I/O, no lock."""
        key = task.key if type(task) is Task else task_key(task)
        runtime = self._runtime
        if runtime is None:
            return not self._config.enabled
        agent = runtime.agent
        if now() >= agent.deadline:
            return False
        owned = agent.ownership
        if owned.pins and (pinned := owned.pins.get(key)) is not None:
            return pinned
        return owned.mine[self._token_of(key)] == 1

    def add_task(self, task: object) -> bool:
        """Begin a task: mark it in flight, record the claim, and say whether it may be worked on.

        False, with nothing written, if the task is no longer this node's. While the store is away this waits for it, as
        long as the lease lasts.
        """
        key = _key(task)
        return self._needed_ledger.begin(key, self._token_of(key))

    def set_claim(self, tasks: object) -> bool:
        """Record that this node began a task, or each of several, without marking it in flight; False if it may not."""
        return self._needed_ledger.claim(_keys(tasks))

    def write_audit(self) -> None:
        """Mark every task added since the last time as complete.

        Raises ``BackendUnavailable`` if the store stays away; nothing is lost then, and it can be called again.
        """
        self._needed_ledger.audit()

    def get_audit(self) -> list[dict[str, Any]]:
        """The tasks completed for this job's date, by any node, newest first: item, node, date, created_on."""
        return self._needed_ledger.audited(self._needed_backend)

    def get_incomplete_tasks(self, older_than: dt.timedelta | float = dt.timedelta(minutes=5)) -> list[Task]:
        """Tasks of this job's date that were begun longer ago than that (seconds, if a number) and never completed."""
        age = older_than if isinstance(older_than, dt.timedelta) else dt.timedelta(seconds=older_than)
        return self._needed_ledger.incomplete(self._needed_backend, age)

    # --- task locks ---------------------------------------------------------------------------------------------------------

    def register_task_lock(
        self,
        task_id: object,
        node_pattern: str | Sequence[str],
        reason: str | None = None,
        expires_in_days: float | None = None,
    ) -> None:
        """Lock a task to the nodes that match a SQL LIKE pattern, or the first of several that any node matches.

        Holds within two seconds, in place of the task's present lock if it has one. Raises ``ConfigError``.
        """
        self._locks.put([lock_request(self.node_name, task_id, node_pattern, reason, expires_in_days)])

    def register_task_locks_bulk(self, locks: Iterable[Sequence[Any]]) -> None:
        """Lock many tasks in one step: tuples (task_id, pattern, reason), reason optional, as may be expires_in_days after it.

        Several tuples for one task are alternatives in order. Raises ``ConfigError``, and then registers none.
        """
        self._locks.put(lock_requests(self.node_name, locks))

    register_lock = register_task_lock
    register_locks_bulk = register_task_locks_bulk

    def list_locks(self) -> list[dict[str, Any]]:
        """Every task lock: token_id, task_id, node_pattern, patterns, reason, created_by, created_at, expires_at."""
        return self._locks.rows()

    def clear_locks_by_creator(self, creator: str) -> int:
        """Remove the locks that a node registered; how many."""
        return self._locks.clear(LockFilter(created_by=creator))

    def clear_all_locks(self) -> int:
        """Remove every lock; how many."""
        return self._locks.clear(LockFilter())

    # --- how things stand ---------------------------------------------------------------------------------------------------

    @property
    def my_tokens(self) -> frozenset[int]:
        """The tokens this node may claim now: the same object while nothing changes, empty while the lease is over."""
        runtime = self._runtime
        if runtime is None or now() >= runtime.agent.deadline:
            return _EMPTY
        return runtime.agent.ownership.tokens

    @property
    def token_version(self) -> int:
        """The number of the assignment's version that this node goes by; it rises with every change."""
        return 0 if self._runtime is None else self._runtime.agent.assignment.version.number

    @property
    def _my_tokens(self) -> frozenset[int]:
        return self.my_tokens

    @property
    def _token_version(self) -> int:
        return self.token_version

    @property
    def _last_heartbeat_sent(self) -> dt.datetime | None:
        sent = None if self._runtime is None else self._runtime.heartbeat_at
        return None if sent is None else dt.datetime.fromtimestamp(sent, dt.UTC)

    @property
    def _coordination_enabled(self) -> bool:
        return self._config.enabled

    def task_to_token(self, task: object) -> int:
        """The token that decides about the task: its pin's if it is locked, else its hash token."""
        key = _key(task)
        if self._runtime is not None:
            for pin in self._runtime.agent.assignment.pins.values():
                if pin.task_id == key:
                    return pin.id
        return self._token_of(key)

    def am_i_healthy(self) -> bool:
        """Whether this node is a member with a valid lease (always, with coordination off)."""
        if not self._config.enabled:
            return not self._left
        runtime = self._runtime
        return runtime is not None and runtime.status.phase is Phase.MEMBER and now() < runtime.agent.deadline

    def am_i_leader(self) -> bool:
        """Whether this node leads the cluster, with a valid lease."""
        return self.am_i_healthy() and self._runtime is not None and self._runtime.status.leads

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """Every node's record in the store, oldest first: name, created_on, last_heartbeat, active and more."""
        if not self._config.enabled:
            return []
        snapshot = self._caller.call(self._needed_backend.snapshot)
        limit = dt.timedelta(seconds=self._config.heartbeat_timeout_sec)
        rows = []
        for node in snapshot.nodes:
            seen = node.last_heartbeat
            row = {
                'name': node.name,
                'created_on': node.created_on,
                'last_heartbeat': seen,
                'active': node.state is NodeState.JOINED and seen is not None and snapshot.now - seen < limit,
                'is_leader': node.ref == snapshot.leadership.node,
                'weight': node.weight,
                'host': node.host,
                'pid': node.pid,
            }
            rows.append(row)
        return rows

    def get_active_nodes(self) -> list[dict[str, Any]]:
        """The nodes heard of within ``heartbeat_timeout_sec``, oldest first. Asks the store; for people, by its clock."""
        return [node for node in self.nodes if node['active']]

    def get_dead_nodes(self) -> list[dict[str, Any]]:
        """The registered nodes that are silent longer than that, or have left, until the leader removes them."""
        return [node for node in self.nodes if not node['active']]

    def get_coordination_status(self) -> dict[str, Any]:
        """How this node stands, in one mapping; no I/O."""
        runtime = self._runtime
        return {
            'enabled': self._config.enabled,
            'node_name': self.node_name,
            'state': 'disabled' if runtime is None else runtime.status.phase.value,
            'is_healthy': self.am_i_healthy(),
            'is_leader': self.am_i_leader(),
            'token_count': len(self.my_tokens),
            'token_version': self.token_version,
            'last_heartbeat': self._last_heartbeat_sent,
            'backend': None if self._backend is None else self._backend.info.name,
            'total_tokens': self._config.total_tokens,
            'tasks_in_flight': 0 if self._ledger is None else self._ledger.open_tasks,
        }

    # --- the store's own ways in --------------------------------------------------------------------------------------------

    @property
    def _tables(self) -> Mapping[str, str]:
        """The names of the tables by the seed's words: Node, Token, Lock, Rebalance, Claim, Audit."""
        tables: Mapping[str, str] = self._sql_backend.tables
        return tables

    @property
    def _cn(self) -> Any:
        """A connection to the backend's database, of this job's own; closed on leaving."""
        if self._connection is None:
            self._connection = self._sql_backend.connection()
        return self._connection

    @property
    def _sql_backend(self) -> Any:
        backend = self._needed_backend
        if not backend.info.sql:
            raise UnsupportedOperation(f'backend {backend.info.name} has no SQL; sqlite and postgresql have')
        return backend

    @property
    def _needed_backend(self) -> Backend:
        if self._backend is None:
            raise JobsyncError(f'job {self.node_name!r} has no backend here: ' + self._why_none)
        return self._backend

    @property
    def _why_none(self) -> str:
        return 'use it inside its with block' if self._config.enabled else 'coordination is off and none is configured'

    @property
    def _needed_ledger(self) -> Ledger:
        if self._ledger is None:
            raise JobsyncError(f'job {self.node_name!r} is used outside its with block')
        return self._ledger


def _key(task: object) -> str:
    return task.key if isinstance(task, Task) else task_key(task)


def _keys(tasks: object) -> list[str]:
    if isinstance(tasks, (list, tuple, set, frozenset)):
        return [_key(task) for task in tasks]
    return [_key(tasks)]
