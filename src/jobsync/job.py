"""``Job``: a worker's way into its cluster."""

from __future__ import annotations

import datetime as dt
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from traceback import clear_frames
from types import TracebackType
from typing import Any, Self

from jobsync.arguments import (
    checked_age,
    checked_callable,
    checked_creator,
    checked_date,
    checked_name,
    checked_seconds,
    checked_site,
)
from jobsync.config import CoordinationConfig, resolve
from jobsync.core.agent import Phase
from jobsync.core.hashing import hasher, task_key, tokenizer
from jobsync.core.model import LockFilter
from jobsync.database import Connection
from jobsync.errors import ConfigError
from jobsync.ledger import Ledger
from jobsync.locks import LockBook, lock_request, lock_requests
from jobsync.membership import Membership
from jobsync.rows import node_rows
from jobsync.runtime.clock import now
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
        self.site = checked_site(site)
        self.date: dt.date = checked_date(date)
        self._wait_on_enter = checked_seconds('wait_on_enter', wait_on_enter)
        self._wait_on_exit = checked_seconds('wait_on_exit', wait_on_exit)
        self._lock_provider = checked_callable('lock_provider', lock_provider)
        self._on_rebalance = checked_callable('on_rebalance', on_rebalance)
        self._clear_existing_locks = clear_existing_locks
        config_in_force = self._config = resolve(config, coordination_config, os.environ)
        self._token_of = tokenizer(config_in_force.hash_function, config_in_force.total_tokens)
        self._hash, self._total_tokens = hasher(config_in_force.hash_function), config_in_force.total_tokens
        self._member = Membership(self.node_name, config_in_force, create=not skip_db_init)
        self._ledger = Ledger(self._member, self.date)
        self._locks = LockBook(self._member)

    # --- entering and leaving -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Register, and wait until this node owns its share (see ``wait_on_enter``).

        Raises ``ClusterTimeout``, ``ConfigMismatch``, ``NodeNameInUse``, ``SchemaMismatch``, ``BackendNotFound``,
        ``BackendUnavailable``.
        """
        try:
            self._member.enter(self._wait_on_enter, self._provide_locks, self._on_rebalance)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        if self._config.enabled:
            _logger.info('node %r entered with %d tokens', self.node_name, len(self.my_tokens))
        return self

    def _provide_locks(self) -> None:
        provider = self._lock_provider
        if provider is not None or self._clear_existing_locks:
            self._locks.provide(None if provider is None else lambda: provider(self), self._clear_existing_locks)

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop claiming, give the tokens back, leave. May be called again, and from a signal handler at any moment.

        Never marks a task complete: only ``write_audit`` does. Called from a signal handler that has interrupted one of
        this object's own calls, it does not wait for the end, since the end may be waiting for that call: it comes when the
        block ends, as it does if the handler calls ``sys.exit``.
        """
        if exc is not None and not isinstance(exc, Exception):
            # A signal handler's sys.exit may have fallen between a transaction's beginning and the block that would end it.
            # What is suspended there holds the store's write lock for as long as the traceback holds its frames.
            clear_frames(traceback)
        if self._member.leave(self._wait_on_exit) and self._ledger.open_tasks:
            _logger.warning('node %r has left with %d tasks not audited', self.node_name, self._ledger.open_tasks)

    # --- tasks --------------------------------------------------------------------------------------------------------------

    def can_claim_task(self, task: object) -> bool:
        """Whether the task (a ``Task`` or a bare id) is this node's at this moment. No I/O, no lock."""
        # Every task of every loop comes through here: task_key and tokenizer are written out (see benchmarks/claim.py).
        kind = type(task)
        try:
            if kind is Task:
                key: str = task.key  # type: ignore[attr-defined]  # known by type(): isinstance takes longer
            elif kind is int:
                key = str(task)
            elif kind is str and '\0' not in task:  # type: ignore[operator]
                key = task  # type: ignore[assignment]
            else:
                key = task_key(task)
            data = key.encode()
        except ConfigError:
            raise
        except ValueError:  # too many digits, or no UTF-8: task_key says so
            data = task_key(task).encode()
        agent = self._member.agent
        if agent is None:
            return not self._config.enabled
        if now() >= agent.deadline:
            return False
        owned = agent.ownership
        pins = owned.pins
        if pins and key in pins:
            return pins[key]
        digest = self._hash  # called as self._hash(…), it would be looked for among the methods first
        return owned.mine[digest(data) % self._total_tokens] == 1

    def add_task(self, task: object) -> bool:
        """Begin a task: mark it in flight, record the claim, and say whether it may be worked on.

        False, with nothing written, if the task is no longer this node's. While the store is away this waits for it, as
        long as the lease lasts.
        """
        key = _key(task)
        return self._ledger.begin(key, self._token_of(key))

    def set_claim(self, tasks: object) -> bool:
        """Record that this node began a task, or each of several, without marking it in flight; False if it may not."""
        several = tasks if isinstance(tasks, (list, tuple, set, frozenset)) else [tasks]
        return self._ledger.claim({key: self._token_of(key) for key in map(_key, several)})

    def write_audit(self) -> None:
        """Mark every task added since the last time as complete.

        Raises ``BackendUnavailable`` if the store stays away; nothing is lost then, and it can be called again.
        """
        self._ledger.audit()

    def get_audit(self) -> list[dict[str, Any]]:
        """The tasks completed for this job's date, by any node, newest first: item, node, date, created_on."""
        return self._ledger.audited()

    def get_incomplete_tasks(self, older_than: dt.timedelta | float = dt.timedelta(minutes=5)) -> list[Task]:
        """Tasks of this job's date that were begun longer ago than that (seconds, if a number) and never completed."""
        return self._ledger.incomplete(checked_age(older_than))

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
        return self._locks.clear(LockFilter(created_by=checked_creator(creator)))

    def clear_all_locks(self) -> int:
        """Remove every lock; how many."""
        return self._locks.clear(LockFilter())

    # --- how things stand ---------------------------------------------------------------------------------------------------

    @property
    def my_tokens(self) -> frozenset[int]:
        """The tokens this node may claim now: the same object while nothing changes, empty while the lease is over."""
        agent = self._member.agent
        return _EMPTY if agent is None or now() >= agent.deadline else agent.ownership.tokens

    @property
    def token_version(self) -> int:
        """The number of the assignment's version that this node goes by; it rises with every change."""
        runtime = self._member.runtime
        return 0 if runtime is None else runtime.agent.assignment.version.number

    @property
    def _my_tokens(self) -> frozenset[int]:
        return self.my_tokens

    @property
    def _token_version(self) -> int:
        return self.token_version

    @property
    def _last_heartbeat_sent(self) -> dt.datetime | None:
        sent = None if self._member.runtime is None else self._member.runtime.heartbeat_at
        return None if sent is None else dt.datetime.fromtimestamp(sent, dt.UTC)

    @property
    def _coordination_enabled(self) -> bool:
        return self._config.enabled

    def task_to_token(self, task: object) -> int:
        """The token that decides about the task: its pin's if it is locked, else its hash token."""
        key, runtime = _key(task), self._member.runtime
        if runtime is not None:
            for pin in runtime.agent.assignment.pins.values():
                if pin.task_id == key:
                    return pin.id
        return self._token_of(key)

    def am_i_healthy(self) -> bool:
        """Whether this node is a member with a valid lease (always, with coordination off)."""
        if not self._config.enabled:
            return not self._member.is_over
        runtime, agent = self._member.runtime, self._member.agent
        return runtime is not None and agent is not None and runtime.status.phase is Phase.MEMBER and now() < agent.deadline

    def am_i_leader(self) -> bool:
        """Whether this node leads the cluster, with a valid lease."""
        runtime = self._member.runtime
        return runtime is not None and runtime.status.leads and self.am_i_healthy()

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """Every node's record in the store, oldest first: name, created_on, last_heartbeat, active and more."""
        if not self._config.enabled:
            return []
        snapshot = self._member.caller.call(self._member.needed_backend.snapshot)
        return node_rows(snapshot, self._config.heartbeat_timeout_sec)

    def get_active_nodes(self) -> list[dict[str, Any]]:
        """The nodes heard of within ``heartbeat_timeout_sec``, oldest first. Asks the store; for people, by its clock."""
        return [node for node in self.nodes if node['active']]

    def get_dead_nodes(self) -> list[dict[str, Any]]:
        """The registered nodes that are silent longer than that, or have left, until the leader removes them."""
        return [node for node in self.nodes if not node['active']]

    def get_coordination_status(self) -> dict[str, Any]:
        """How this node stands, in one mapping; no I/O."""
        config, runtime = self._config, self._member.runtime
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
            'open_tasks': self._ledger.open_tasks,
        }

    # --- the store's own ways in --------------------------------------------------------------------------------------------

    @property
    def _tables(self) -> Mapping[str, str]:
        """The names of the tables by the seed's words: Node, Token, Lock, Rebalance, Claim, Audit."""
        tables: Mapping[str, str] = self._member.sql_backend.tables
        return tables

    @property
    def _cn(self) -> Connection:
        """The way to the backend's database for the user's own statements (see ``jobsync.database``). From any thread.

        Connects at the first statement, and is closed on leaving. Raises ``UnsupportedOperation`` if the backend has no SQL.
        """
        return self._member.connection


def _key(task: object) -> str:
    return task.key if isinstance(task, Task) else task_key(task)
