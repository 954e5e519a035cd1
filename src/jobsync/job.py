"""``Job``: a worker's way into its cluster."""

from __future__ import annotations

import datetime as dt
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from traceback import clear_frames
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from jobsync._core.hashing import hasher, task_key
from jobsync._core.records import LockFilter
from jobsync._runtime.callbacks import Functions
from jobsync._runtime.clock import now
from jobsync._worker.claim_loop import ClaimLoop, claimed_tasks
from jobsync._worker.session import copy_error
from jobsync._worker.signals import Signals
from jobsync._worker.status import NodeStatus
from jobsync._worker.task_locks import TaskLocks, lock_request, lock_requests
from jobsync.config import CoordinationConfig, checks, resolve
from jobsync.errors import ConfigError, JobsyncError, NotOwned
from jobsync.task import Task, key_of

if TYPE_CHECKING:
    from jobsync.database import Connection

__all__ = ['Job']

_logger = logging.getLogger('jobsync.job')
T = TypeVar('T')


class Job(NodeStatus):
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
        on_assign: Callable[[frozenset[int]], object] | None = None,
        on_revoke: Callable[[frozenset[int], float], object] | None = None,
        on_lost: Callable[[frozenset[int]], object] | None = None,
        handle_signals: bool = False,
    ) -> None:
        """Check the arguments; nothing is reached before the block is entered.

        ``node_name`` must be this worker's alone in its cluster; a stable name gets its former tokens back after a
        restart. ``site`` is a label. ``config`` holds the settings (see ``jobsync.config``), unless
        ``coordination_config`` is given. ``date`` is the date of the work, today by default. ``wait_on_enter`` limits in
        seconds how long entering waits, ``wait_on_exit`` how long leaving waits until others own what this node gave
        back. ``skip_db_init`` uses the store's tables as they are. ``lock_provider`` is called with the job while it
        enters, and the locks it registers hold from the start; with ``clear_existing_locks`` they replace, in one step,
        all that this node registered before. ``on_rebalance`` is called with a ``RebalanceEvent`` (or nothing) whenever
        the node's tokens have changed. ``on_assign(tokens)`` is called when tokens have become this node's,
        ``on_revoke(tokens, deadline)`` before others pass on, which they do when it returns and at the latest at ``deadline`` (on
        ``time.monotonic``), ``on_lost(tokens)`` when they are gone without having been asked for. One call at a time, in order,
        on a thread of their own. With ``handle_signals`` the first SIGTERM or SIGINT ends ``claim`` loops and gives the tokens
        back once nothing is in flight; a second one, or the end of ``shutdown_timeout_sec``, ends the block.

        Raises ``ConfigError``.
        """
        super().__init__(
            checks.node_name.of('node_name', node_name),
            checks.date_of_work(date),
            resolve(config, coordination_config, os.environ),
            create=not checks.flag.of('skip_db_init', skip_db_init),
        )
        self.site = checks.site.of('site', site)
        self._wait_on_enter = checks.seconds.of('wait_on_enter', wait_on_enter)
        self._wait_on_exit = checks.seconds.of('wait_on_exit', wait_on_exit)
        self._lock_provider = checks.optional_callable.of('lock_provider', lock_provider)
        self._functions = Functions(
            on_assign=checks.optional_callable.of('on_assign', on_assign),
            on_revoke=checks.optional_callable.of('on_revoke', on_revoke),
            on_lost=checks.optional_callable.of('on_lost', on_lost),
            on_rebalance=checks.optional_callable.of('on_rebalance', on_rebalance),
        )
        self._clear_existing_locks = checks.flag.of('clear_existing_locks', clear_existing_locks)
        self._hash, self._total_tokens = hasher(self._config.hash_function), self._config.total_tokens
        self._locks = TaskLocks(self._session)
        caught = checks.flag.of('handle_signals', handle_signals)
        self._signals = Signals(self._session, self._config.shutdown_timeout_sec) if caught else None

    def __reduce_ex__(self, _: object) -> NoReturn:
        """Refuse to be copied and pickled: a node is one process's own."""
        raise copy_error(self.node_name)

    # --- entering and leaving -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Register, and wait until this node owns its share (see ``wait_on_enter``).

        Raises ``ClusterTimeout``, ``ConfigMismatch``, ``NodeNameInUse``, ``SchemaMismatch``, ``BackendNotFound``,
        ``BackendUnavailable``.
        """
        self._session.check_enterable()  # not in the block below, which leaves what was entered
        try:
            if self._signals is not None:
                self._signals.catch()
            self._session.enter(self._wait_on_enter, self._provide_locks, self._functions)
        except BaseException as error:
            self.__exit__(None, None, None)
            if self._signals is not None and self._signals.have_come and isinstance(error, JobsyncError):
                raise SystemExit(0) from error
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
        self._session.leave(self._wait_on_exit, self._task_log.completions.flush_before_leaving, self._task_log.close)
        if self._signals is not None:
            self._signals.release()

    # --- tasks --------------------------------------------------------------------------------------------------------------

    def can_claim_task(self, task: object) -> bool:
        """Whether the task (a ``Task`` or a bare id) is this node's at this moment. No I/O, no lock."""
        # Every task of every loop comes through here: key_of and tokenizer are written out (see bench/scenarios/ownership.py).
        kind = type(task)
        try:
            if kind is str and '\0' not in task:  # type: ignore[operator]  # known by type(): isinstance takes longer
                key: str = task  # type: ignore[assignment]
            elif kind is Task:
                key = task.key  # type: ignore[attr-defined]
            elif kind is int:
                key = str(task)
            else:
                key = task_key(task)
            data = key.encode()
        except ConfigError:
            raise
        except ValueError:  # too many digits, or no UTF-8: task_key says so
            data = task_key(task).encode()
        lease = self._session.lease
        if lease is None:
            return not self._config.enabled
        # First what is granted, as one value, then the clock. So a True was true when the grant was read, however long this
        # thread had to wait between the two: the lease had not ended yet then, for it has not ended by now. The other way round
        # the grant could have ended since the clock was read; and read one by one, its parts could be of two times.
        deadline, pins, mine = lease.grant
        if pins is not None and key in pins:
            return pins[key] and now() < deadline
        digest = self._hash  # called as self._hash(…), it would be looked for among the methods first
        return mine[digest(data) % self._total_tokens] and now() < deadline

    def add_task(self, task: object) -> bool:
        """Begin a task: mark it in flight, record the claim, and say whether it may be worked on.

        False, with nothing written, if the task is no longer this node's. While the store is away this waits for it, as
        long as the lease lasts.
        """
        key = key_of(task)
        return self._task_log.start(key, self._token_of(key))

    def set_claim(self, tasks: object) -> bool:
        """Record that this node began a task, or each of several, without marking it in flight; False if it may not."""
        several = tasks if isinstance(tasks, (list, tuple, set, frozenset)) else [tasks]
        return self._task_log.record_claims({key: self._token_of(key) for key in map(key_of, several)})

    def claim(self, tasks: Iterable[T], batch: int | None = None) -> Iterator[T]:
        """The tasks (``Task`` objects or bare ids) that are this node's, one after the other: the loop to work in.

        Each is claimed, and in flight while the body is at work on it; it is complete when the loop asks for the next, which is
        recorded within about a second. If the body raises, or leaves the loop by ``break``, the task stays incomplete (call
        ``complete`` before a ``break``). The loop ends early when this node is to leave.

        Claims are recorded many at a time, never later than a task is yielded: up to 1,000 where ``tasks`` has a length, one by
        one where it has none, for there the next may be long in coming; ``batch`` sets another limit.
        """
        return claimed_tasks(self._claim_loop(tasks, batch), tasks, self.can_claim_task)

    def _claim_loop(self, tasks: object, batch: int | None) -> ClaimLoop[Any]:
        checks.batch.of('batch', batch)
        self._session.check_process()
        return ClaimLoop(self._task_log, tasks, self._parse, batch)

    @contextmanager
    def task(self, task: T) -> Iterator[T]:
        """One task of this node's: claimed at the beginning of the block, complete at its end, incomplete if it raises.

        Raises ``NotOwned``, before the block, if the task is not this node's, or another thread has it in hand.
        """
        key, token = self._parse(task)
        task_log = self._task_log
        if task_log.has_checked_out(key):  # this worker has it in hand already: whoever handed it out records its end
            yield task
            return
        if not task_log.check_out(key, token):
            raise NotOwned(f"node {self.node_name!r}: task {key!r} is not this node's: ask can_claim_task first, and skip it")
        try:
            yield task
        except BaseException:
            task_log.abandon(key)
            raise
        task_log.complete(key)

    def complete(self, task: object) -> None:
        """Record one task as complete, which was begun by ``add_task`` or is out in a ``claim`` loop; it is no longer in flight.

        Raises ``BackendUnavailable`` if the store stays away; then it is recorded by the next ``write_audit``.
        """
        self._task_log.finish(key_of(task))
        self._task_log.completions.flush()

    def write_audit(self) -> None:
        """Mark every task added since the last time as complete.

        Raises ``BackendUnavailable`` if the store stays away; nothing is lost then, and it can be called again.
        """
        self._task_log.complete_all()

    def get_audit(self) -> list[dict[str, Any]]:
        """The tasks completed for this job's date, by any node, newest first: item, node, date, created_on."""
        return self._task_log.read_audits()

    def get_incomplete_tasks(self, older_than: dt.timedelta | float = dt.timedelta(minutes=5)) -> list[Task]:
        """Tasks of this job's date that were begun longer ago than that (seconds, if a number) and never completed."""
        return self._task_log.read_incomplete(checks.age(older_than))

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
        return self._locks.clear(LockFilter(created_by=checks.creator.of('creator', creator)))

    def clear_all_locks(self) -> int:
        """Remove every lock; how many."""
        return self._locks.clear(LockFilter())

    # --- its part ----------------------------------------------------------------------------------------------------------

    def set_weight(self, weight: float) -> None:
        """Weigh this much from now on, relative to the others. 0 drains the node: it stays a member and owns nothing."""
        checks.weight.of('weight', weight)
        self._session.check_inside()
        if self._session.runtime is not None:
            self._session.runtime.ask_for_weight(float(weight))

    # --- the store's own ways in --------------------------------------------------------------------------------------------

    @property
    def _tables(self) -> Mapping[str, str]:
        """The names of the tables by the seed's words: Node, Token, Lock, Rebalance, Claim, Audit."""
        tables: Mapping[str, str] = self._session.sql_backend.tables
        return tables

    @property
    def _cn(self) -> Connection:
        """The way to the backend's database for the user's own statements (see ``jobsync.database``). From any thread.

        Connects at the first statement, and is closed on leaving. Raises ``UnsupportedOperation`` if the backend has no SQL.
        """
        return self._session.connection
