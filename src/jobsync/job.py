"""``Job``: a worker's node in its cluster, for the time of a ``with`` block."""

from __future__ import annotations

import datetime as dt
import math
import os
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from traceback import clear_frames
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, overload

from jobsync._core.agent.in_flight import TaskStart
from jobsync._core.counting import counted
from jobsync._core.hashing import hasher, tokenizer
from jobsync._core.records import LockFilter
from jobsync._core.redact import cut_repr, safe_repr
from jobsync._event_log import EventLogger
from jobsync._runtime import clock
from jobsync._runtime.callbacks import Functions
from jobsync._worker import status
from jobsync._worker.claim_loop import ClaimLoop, claimed_tasks
from jobsync._worker.items import Items
from jobsync._worker.purging import purge_history
from jobsync._worker.refusals import copy_error, refused, without_chain
from jobsync._worker.schedule import parse_schedule, parse_zone
from jobsync._worker.scheduler import Scheduler
from jobsync._worker.session import Session
from jobsync._worker.shared_batch import SharedBatch
from jobsync._worker.signals import Signals
from jobsync._worker.singleton import POLL_SEC, Place, Singleton
from jobsync._worker.stages import SessionEvent
from jobsync._worker.store_calls import worker_id
from jobsync._worker.task_locks import TaskLocks, lock_request, lock_requests
from jobsync._worker.task_log import TaskLog
from jobsync._worker.ticks import Scheduled
from jobsync._worker.tracing import AddedTasks, task_span
from jobsync.config import CoordinationConfig, callables, checks, resolve
from jobsync.errors import ConfigError, JobsyncError, NotOwned
from jobsync.rows import AuditRow, CoordinationStatus, ItemRow, LockRow, NodeRow, QuarantinedRow
from jobsync.task import Task, key_of

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import QueryableAttribute

    from jobsync.cluster import Cluster
    from jobsync.database import Connection, RowFilter
    from jobsync.web import Server

__all__ = ['Job']

_logger = EventLogger('jobsync.job')
_NO_END = math.inf
T = TypeVar('T')
F = TypeVar('F', bound=Callable[..., object])


class Job:
    """A node of a cluster, for the time of a ``with`` block.

    Inside the block this node owns exactly the tasks for which ``can_claim_task`` returns True. Leaving the block gives its
    tokens back. Any thread may call any method.

    Outside the block ``can_claim_task`` returns False, and a method that needs the store raises ``JobsyncError``. After the
    block ``add_task`` and ``set_claim`` return False, and ``claim`` and ``batch`` yield nothing. In a fork of the process that
    entered the block, a method that needs the store raises ``WrongProcess``.

    Besides the errors that a method lists, a call to the store raises ``ConfigError`` if the store refuses the user or the
    rights of the user, and ``SchemaMismatch`` if the records are gone or of another version. It raises
    ``UnsupportedOperation`` if it would write on SQLite while an open transaction of the same thread has written, or if
    PostgreSQL cannot store the task's id.
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
        """Check the arguments. The store is not reached before the block is entered.

        The callbacks run one at a time and in order, on a thread of their own.

        Args:
            node_name: This worker's name, unique in its cluster. A name that stays the same gets its tokens back after a restart.
            site: A label, which jobsync does not use.
            config: The settings of the program, with a section ``sync`` (see ``jobsync.config``).
            date: The date of the work. None: today.
            wait_on_enter: For how many seconds entering waits, at most, for this node's share of the tokens; and how long a new
                cluster forms, if ``minimum_nodes`` is not given.
            wait_on_exit: For how many seconds leaving waits, at most, until other nodes own the tokens that this node gave back.
            skip_db_init: Use the store's tables as they are, and make none.
            lock_provider: Called with the job while the job enters. The task locks that it registers hold from the start.
            clear_existing_locks: Have the task locks of ``lock_provider`` replace, in one step, all that this node registered
                before.
            coordination_config: The settings of the node, in place of ``config.sync.coordination``.
            on_rebalance: Called with a ``RebalanceEvent``, or with no argument, after the node's tokens have changed.
            on_assign: Called with the tokens that have become this node's.
            on_revoke: Called with tokens that other nodes are to own, and with the deadline, on ``time.monotonic``. The tokens
                pass on when the function returns, at the latest at the deadline.
            on_lost: Called with tokens that this node has lost without a request: the lease has ended, or the node was evicted.
            handle_signals: Have the first SIGTERM or SIGINT end ``claim`` loops and give the tokens back once no task is in
                flight. A second one, or the end of ``shutdown_timeout_sec``, ends the block.

        Raises:
            ConfigError: An argument or a setting is not allowed.
        """
        # Exactly a string: one of a class that compares in its own way could be equal to the name of another node.
        self.node_name = str.__str__(checks.node_name.of('node_name', node_name))
        self._date = checks.date_of_work(date)
        self.site = checks.site.of('site', site)
        self._config = resolve(config, coordination_config, os.environ)
        self._wait_on_enter = checks.seconds.of('wait_on_enter', wait_on_enter)
        self._wait_on_exit = checks.seconds.of('wait_on_exit', wait_on_exit)
        self._lock_provider = callables.function('lock_provider', lock_provider, 1)
        self._clear_existing_locks = checks.flag.of('clear_existing_locks', clear_existing_locks)
        self._functions = Functions(
            on_assign=callables.function('on_assign', on_assign, 1),
            on_revoke=callables.function('on_revoke', on_revoke, 2),
            on_lost=callables.function('on_lost', on_lost, 1),
            on_rebalance=callables.function('on_rebalance', on_rebalance, 1, 0),
        )
        hash_function, self._total_tokens = self._config.hash_function, self._config.total_tokens
        self._hash, self._token_of = hasher(hash_function), tokenizer(hash_function, self._total_tokens)
        self._session = Session(self.node_name, self._config, create=not checks.flag.of('skip_db_init', skip_db_init))
        self._task_log = TaskLog(self._session, checks.day_of_work(self._date))
        self._added = AddedTasks(self._session.node_name)
        self._scheduler = Scheduler(self._session)
        self._locks, self._items = TaskLocks(self._session), Items(self._session)
        is_handling = checks.flag.of('handle_signals', handle_signals)
        self._signals = Signals(self._session, self._task_log) if is_handling else None

    def __repr__(self) -> str:
        return f'<Job {status.summary(self._session)}>'

    def __reduce_ex__(self, _: object) -> NoReturn:
        """Refuse to be copied and pickled: a node belongs to one process."""
        raise copy_error(self.node_name)

    # --- entering and leaving -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Register, and wait until this node owns its share of the tokens (see ``wait_on_enter``).

        Raises:
            ClusterTimeout: The cluster was not ready in time.
            ConfigMismatch: The cluster has other settings than this node.
            NodeNameInUse: A live process has this node's name.
            SchemaMismatch: The store's tables belong to another version, or are missing and may not be made.
            BackendNotFound: No backend can be used for the configured URL.
            BackendUnavailable: The store has not answered for twice ``op_timeout_sec``.
            UnsupportedOperation: The threads of this process are greenlets, or run without the global interpreter lock.
            JobsyncError: The job was entered before, has to leave while it enters, or ``handle_signals`` is used outside the main
                thread; or this process can start no thread.
        """
        self._session.take_entry()  # not in the block below, which leaves what was entered
        try:
            if self._signals is not None:
                self._signals.catch()
            self._session.enter(self._wait_on_enter, self._provide_locks, self._functions)
            # t=0  the node has entered; a signal's handler raises here, and Python calls no __exit__
            # t=1  without the lines below, the node would be a member whose block was never entered
            if self._config.enabled:
                _logger.info('node %r entered with %s', self.node_name, counted(status.count_owned(self._session), 'token'))
            self._scheduler.start()
        except BaseException as error:
            self.__exit__(None, None, None)
            if self._signals is not None and self._signals.have_come and isinstance(error, JobsyncError):
                raise SystemExit(0) from error
            if isinstance(error, JobsyncError):
                raise without_chain(error)  # noqa: B904 - the same error, not another one
            raise
        return self

    def _provide_locks(self) -> None:
        provider = self._lock_provider
        if provider is not None or self._clear_existing_locks:
            provide = None if provider is None else lambda: callables.check_has_run('lock_provider', provider(self))
            self._locks.provide(provide, self._clear_existing_locks)

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        """Stop claiming, give the tokens back, and leave. May be called again, and from a signal handler at any moment.

        Marks no task complete: only ``write_audit`` does. If a signal handler calls this while one of this object's own calls is
        interrupted, it returns before the node has left, since the end may have to wait for that call. The node then leaves when
        the block ends, which it does if the handler calls ``sys.exit``. It returns so from a callback as well, such as
        ``on_revoke``.

        Raises:
            NodeNameInUse: Another process has taken this node's name since the block was entered, which ended its loops.
            ConfigMismatch: The store has other settings than the block was entered with, which ended its loops.
        """
        try:
            self._exit(exc, traceback)
        except BaseException:
            # t=0  the block ends; a signal's handler raises before the node is requested to leave, and the program goes on
            # t=1  the node would keep its tokens, and its name, for as long as the process runs
            # What was begun is not repeated: a handler that raises while this waits for the end ends the wait.
            if not self._session.stages.has_seen(SessionEvent.LEAVE):
                self._exit(exc, traceback)
            elif self._session.is_same_process:
                self._session.stop(SessionEvent.LEAVE, worker_id())
            raise
        if exc_type is None:
            self._session.raise_failure()

    def _exit(self, exc: BaseException | None, traceback: TracebackType | None) -> None:
        # Not LEAVE: for our handler of signals there would be no block to end any more.
        if self._session.is_in_callback:
            self._session.stop(SessionEvent.STOP)
            return
        # t=0  main thread: is inside a call of the backend, whose lock it may hold
        # t=1  a signal's handler, in the same thread: calls this method
        # To wait here for the end of the node might be to wait for that call, which cannot go on before the handler returns. So
        # the handler returns, and the end comes when the block ends.
        if self._session.is_in_call:
            self._session.stop(SessionEvent.STOP, worker_id())
            return
        try:
            # t=0  main thread: the block ends after a first signal
            # t=1  a second signal, before the line below: it finds a block to end, and raises ``SystemExit`` here
            # t=2  main thread: leaves all the same
            self._session.stages.record(SessionEvent.LEAVE)
        finally:
            self._leave(exc, traceback)

    def _leave(self, exc: BaseException | None, traceback: TracebackType | None) -> None:
        if exc is not None and not isinstance(exc, Exception):
            # t=0  a transaction has begun, and holds the store's write lock
            # t=1  a signal handler's sys.exit ends the code before the block that would end the transaction
            # t=2  leaving writes to the store: it would wait for that lock, which the suspended frames keep alive
            clear_frames(traceback)
        try:
            self._session.leave(self._wait_on_exit, self._task_log.record_before_leaving, self._task_log.close)
            self._added.give_up()
        finally:
            # t=0  leaving waits; a signal's handler of the program's own raises, and the program goes on
            # t=1  a SIGTERM: were the handler still there, it would find a block that is being left, and never end anything
            if self._signals is not None:
                self._signals.release()

    if not TYPE_CHECKING:  # a type checker finds ``async with`` by itself, as long as these are missing
        __aenter__ = __aexit__ = refused(
            'job {0.node_name!r}: a Job is entered by "with", not "async with"; on an event loop use AsyncJob'
        )

    # --- tasks --------------------------------------------------------------------------------------------------------------

    def can_claim_task(self, task: object) -> bool:
        """Return whether this node owns the task at this moment. No I/O, no lock.

        Args:
            task: A ``Task`` or a bare id.

        Raises:
            ConfigError: The id cannot be a task's.
        """
        # Every task of every loop comes through here: key_of and tokenizer are written out for speed.
        kind = type(task)
        try:
            if kind is str and task and '\0' not in task:  # type: ignore[operator]  # known by type(): isinstance takes longer
                key: str = task  # type: ignore[assignment]
            elif kind is Task:
                key = task.key  # type: ignore[attr-defined]
            elif kind is int:
                key = str(task)
            else:
                key = key_of(task)
            data = key.encode()
        except ConfigError:
            raise
        except ValueError:  # too many digits, or no UTF-8: task_key raises an error that says so
            data = key_of(task).encode()
        session = self._session
        lease = session.lease
        if lease is None:
            return not self._config.enabled
        lease.has_progressed = True
        # t=0   this thread reads the grant: these tokens, until 15
        # t=20  the process was stopped until now, and another node owns the token
        # t=20  this thread reads the clock: 20 is not before 15, so False
        # With the clock read first, at t=0, the answer at t=20 would be True. And the grant is one value: were its parts read
        # one by one, a new lease between them could give an old token a new deadline. Last comes whether this node has given up,
        # for the handler of a signal may have left at any step before.
        deadline, pins, mine = lease.grant
        if pins is not None and key in pins:
            return pins[key] and clock.now() < deadline and session.mark[0] and lease.ends_at == _NO_END
        digest = self._hash  # called as self._hash(…), Python would search the methods for it first
        return mine[digest(data) % self._total_tokens] and clock.now() < deadline and session.mark[0] and lease.ends_at == _NO_END

    def add_task(self, task: object) -> bool:
        """Start a task: mark it in flight, record its claim, and return whether this node may work on it.

        While the store does not answer, this waits for as long as the lease lasts.

        Args:
            task: A ``Task`` or a bare id.

        Returns:
            False if this node may not work on the task: it does not own the task (any more), the task is in quarantine, or the
            lease ended before the store answered. Nothing is recorded then, except perhaps a claim whose answer came too late.

        Raises:
            ConfigError: The id cannot be a task's.
        """
        return self._start(task, self._task_log.confirm) is not None

    def _start(self, task: object, confirm: Callable[[TaskStart], object] = lambda _: None) -> TaskStart | None:
        """Start a task, as ``add_task`` does; return None if this node may not work on it."""
        key, token = self._parse(task)
        started_at = time.time_ns()
        start = self._task_log.start(key, token)
        if start is not None:
            try:
                self._added.begin(key, started_at)
                confirm(start)
            except BaseException:  # code of the program runs where a span begins
                self._task_log.take_back(start)
                raise
        return start

    def set_claim(self, tasks: object) -> bool:
        """Record the claims of tasks without marking them in flight.

        Args:
            tasks: One task (a ``Task`` or a bare id), or a list, tuple, set or range of tasks.

        Returns:
            False, with nothing recorded, if this node does not own all of them. Also if one is in quarantine, or the lease ended
            before the store answered: then some claims may be recorded.

        Raises:
            ConfigError: An id cannot be a task's.
        """
        return self._task_log.claims.record_all(dict(map(self._parse, _several(tasks))))

    def claim(self, tasks: Iterable[T], batch: int | None = None, once: bool = False) -> Generator[T]:
        """Yield the tasks that this node owns, one after the other: the loop to work in.

        Each task is claimed, and in flight while the body works on it. It is complete when the loop requests the next one, which
        is recorded within about a second. If the body raises, or leaves the loop by ``break``, the task stays incomplete (call
        ``complete`` before a ``break``). The loop ends early when this node is to leave.

        Claims are recorded many at a time, and never later than their task is yielded: up to 1,000 if ``tasks`` has a length,
        one by one if it has none, because the next task may be long in coming then.

        While the store is away, the loop goes on with claimed tasks as long as the lease lasts, and records finished ones later.

        Args:
            tasks: ``Task`` objects or bare ids, of which this node takes its own.
            batch: How many claims are recorded at a time, at most. None: as described above.
            once: Pass over the tasks that any node has completed at this job's date. False: a completed task that is given again
                is done again, and stays complete: no claim of it is recorded.

        Raises:
            ConfigError: ``tasks``, ``batch``, ``once`` or an id is not allowed.
        """
        checks.tasks.of('tasks', tasks)
        return claimed_tasks(self._claim_loop(tasks, batch, once), tasks)

    def batch(self, tasks: Iterable[T], progress: bool = False) -> Generator[T]:
        """Yield tasks of a finite set until every one is complete, wherever it was done: the loop for a pile that ends.

        All nodes that are given the set work through it together. This loop skips tasks that any node has completed at this job's
        date, follows tokens as they move, waits for tasks that other nodes have in hand, and takes over the tasks of a dead node.
        No task is left out. A task is done twice in two cases only: its worker dies, or loses its lease, between the effect and
        the record of the completion; or the task takes longer than ``handover_timeout_sec`` once its token has to move.

        Each task is claimed, in flight, and complete as in ``claim``. If the body raises, or leaves the loop by ``break``, its
        task stays incomplete, and the next ``batch`` of its owner offers it again. The loop ends early when this node is to
        leave.
        While the loop waits, a line is logged every ten seconds: how many tasks it waits for, which nodes have them, since when.

        Args:
            tasks: ``Task`` objects or bare ids, the same set on every node, read at once. Of several with one id the first
                counts.
            progress: Show a bar of how many tasks the whole cluster has completed, if ``rich`` is installed (the extra ``cli``),
                otherwise log the number.

        Raises:
            ConfigError: ``tasks``, ``progress`` or an id is not allowed.
        """
        return claimed_tasks(self._shared_batch(tasks, progress), ())

    def _shared_batch(self, tasks: Iterable[T], progress: bool) -> SharedBatch[T]:
        checks.batch_tasks.of('tasks', tasks)
        checks.flag.of('progress', progress)
        self._session.check_process()
        return SharedBatch(self._task_log, tasks, self._parse, self.can_claim_task, progress=progress)

    def _claim_loop(self, tasks: object, batch: int | None, once: bool = False) -> ClaimLoop[Any]:
        checks.batch.of('batch', batch)
        checks.flag.of('once', once)
        self._session.check_process()
        return ClaimLoop(self._task_log, tasks, self._parse, self.can_claim_task, batch, once=once)

    def _parse(self, task: object) -> tuple[str, int]:
        """Return a task's key and its hash token."""
        key = key_of(task)
        return key, self._token_of(key)

    @contextmanager
    def task(self, task: T) -> Iterator[T]:
        """Work on one task: claimed at the start of the block, complete at its end, incomplete if the block raises.

        Args:
            task: A ``Task`` or a bare id.

        Raises:
            NotOwned: Before the block: this node does not own the task, another thread works on it, or it is in quarantine.
            ConfigError: The id cannot be a task's.
        """
        with self._block(task), task_span(self.node_name, task):
            yield task

    @contextmanager
    def _block(self, task: object) -> Iterator[None]:
        key, token = self._parse(task)
        task_log = self._task_log
        if task_log.has_checked_out(key):  # by a loop or a block around this one, which records its end
            yield
            return
        start = task_log.check_out(key, token)
        if start is None:
            raise NotOwned(f'node {self.node_name!r}: task {cut_repr(key)} {self._why_not_started(key)}')
        try:
            yield
            task_log.finish_checked_out(start)
        except BaseException:
            task_log.abandon_checked_out(start)
            raise
        task_log.completions.flush_now()

    def _why_not_started(self, key: str) -> str:
        if self._task_log.is_with_another(key):
            return 'is with another thread or asyncio task of this node'
        if self.can_claim_task(key) and key in self._task_log.attempts.quarantined:
            return 'is in quarantine: find out why, and release it (release_quarantined)'
        return "is not this node's: ask can_claim_task first, and skip it"

    def complete(self, task: object) -> None:
        """Record one task as complete, which ``add_task`` or a ``claim`` loop has started; it is no longer in flight.

        Args:
            task: A ``Task`` or a bare id.

        Raises:
            ConfigError: The id cannot be a task's, or no node has begun the task at this job's date.
            BackendUnavailable: The store does not answer. The next ``write_audit`` records a task that this job has started.
        """
        self._completion(task)()

    # t=0  an asyncio task calls complete or write_audit, and a timeout cancels that, which goes on in a thread
    # t=1  the program begins the task once more, or another one
    # t=2  the thread would end that as well, and record it as complete, amid the work
    # So the call ends what has begun when it is made.

    def _completion(self, task: object) -> Callable[[], None]:
        """Return the call that records one task as complete, and ends what has begun of it by now."""
        key, task_log = key_of(task), self._task_log
        begun = task_log.begun(key)

        def complete() -> None:
            task_log.check_begun(key)
            self._session.check_may_write()
            task_log.finish(key, begun)
            self._added.end(task_log.is_open, key)
            task_log.completions.flush()

        return complete

    def write_audit(self) -> None:
        """Record every task added since the last time as complete.

        Raises:
            BackendUnavailable: The store does not answer. No task is lost: call this again.
        """
        self._audit()()

    def _audit(self) -> Callable[[], None]:
        """Return the call that records as complete what has been added by now."""
        begun = self._task_log.begun()

        def audit() -> None:
            self._task_log.complete_all(begun)
            self._added.end(self._task_log.is_open)

        return audit

    def get_audit(self) -> list[AuditRow]:
        """Return the tasks that any node has completed for this job's date, newest first.

        Returns:
            Mappings with ``item``, ``node``, ``date`` and ``created_on``.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        return self._task_log.history.read_audit_rows()

    def get_incomplete_tasks(self, older_than: dt.timedelta | float = dt.timedelta(minutes=5)) -> list[Task]:
        """Return the tasks of this job's date that any node has started and none has completed.

        Ticks of ``every`` are left out: whether an incomplete tick is run again is for its schedule to decide.

        Args:
            older_than: How long ago they were started at least; a number is seconds.

        Raises:
            ConfigError: ``older_than`` is not allowed.
            BackendUnavailable: The store does not answer.
        """
        return self._task_log.history.read_incomplete(checks.age(older_than))

    def purge(
        self,
        *,
        before: dt.datetime | None = None,
        older_than: dt.timedelta | float | None = None,
        kinds: Collection[str] = checks.KINDS,
    ) -> dict[str, int]:
        """Delete old claims, audits and rebalances of all nodes and dates, in portions that keep no other call waiting.

        Incomplete work stays: a claim is deleted only if its task is complete, and an audit only after the claims of its task.
        A task whose audit is deleted is not known to be complete any more: ``batch`` and ``claim(once=True)`` for its date would
        do the task again. For deleting all the time there is ``retention_days``.

        Args:
            before: Delete what was recorded earlier, by the store's clock. Has a timezone.
            older_than: In place of ``before``: delete what was recorded longer ago; a number is seconds.
            kinds: What to delete: ``'claim'``, ``'audit'``, ``'rebalance'``, or several of them.

        Returns:
            How many records of each kind were deleted.

        Raises:
            ConfigError: An argument is not allowed, or neither or both of ``before`` and ``older_than`` are given.
            BackendUnavailable: The store does not answer. What was deleted until then is deleted.
        """
        session = self._session
        return purge_history(session.needed_backend, session.caller.call, session.node_name, before, older_than, kinds)

    @overload
    def where(self, column: str, token_column: str | None = None) -> RowFilter: ...

    @overload
    def where(
        self,
        column: ColumnElement[Any] | QueryableAttribute[Any],
        token_column: ColumnElement[Any] | QueryableAttribute[Any] | None = None,
    ) -> ColumnElement[bool]: ...

    def where(self, column: Any, token_column: Any = None) -> Any:
        """Return the condition that the task of a row is this node's at this moment, for PostgreSQL and SQLite. No I/O.

        The table needs a column with the tokens of its rows, and an index on it: see ``jobsync.database.TokenColumn``. Tokens may
        have moved before the rows are read, so give the ids to ``claim``, which checks each again.
        A node without a lease gets no rows; with coordination off, a job gets all rows.

        Args:
            column: The column of the tasks' ids: a column of SQLAlchemy, or a name. A name is part of the statement as it is, so
                it must come from the program.
            token_column: The column of the tokens, or an expression. None: the column of the same table with the name that
                ``TokenColumn`` gives it.

        Returns:
            A clause for a column of SQLAlchemy. For a name a ``RowFilter``, which is a value for statements of
            ``jobsync.database``, and has a text for DB-API.

        Raises:
            ConfigError: There is no such column, or ``column`` is not a plain name and ``token_column`` is missing.
        """
        from jobsync._worker.row_filters import where_clause, where_text

        where = where_text if isinstance(column, str) else where_clause
        self._session.note_progress()
        return where(self._session, self._token_of, column, token_column)

    def list_quarantined(self) -> list[QuarantinedRow]:
        """Return the tasks of this job's date that no node may claim, since ``max_attempts`` workers were lost at each.

        Returns:
            Mappings with ``item`` and ``attempts``, those with the most attempts first. Empty where ``max_attempts`` is not set.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        return self._task_log.attempts.read_quarantined()

    def release_quarantined(self, tasks: object) -> None:
        """Allow tasks in quarantine to be claimed again, with no attempt counted.

        Args:
            tasks: One task (a ``Task`` or a bare id), or a list, tuple, set or range of tasks.

        Raises:
            ConfigError: An id cannot be a task's.
            BackendUnavailable: The store does not answer.
        """
        self._task_log.attempts.release(list(map(key_of, _several(tasks))))

    # --- once in the cluster ------------------------------------------------------------------------------------------------

    def singleton(self, name: str) -> Singleton:
        """Return a place that one worker of the whole cluster holds at a time, for ``for`` and ``with``.

        ``for turn in job.singleton(name):`` waits until this worker holds the place, runs the body, and begins again, until the
        node is to leave. ``with job.singleton(name) as turn:`` does not wait: the turn is false if the place is not to be had.

        A turn is true until the node is requested to give the place up or to leave, until its lease ends, or until the body ends.
        End the body when its turn is over: a hand-over waits for the body, ``handover_timeout_sec`` at most. The place is the
        ownership of the task ``singleton:NAME``, so a task lock can tie it to certain nodes. Nothing is recorded.

        Args:
            name: The name of the place, the same on every node.

        Raises:
            ConfigError: ``name`` is not allowed.
        """
        self._session.check_process()
        return Singleton(self._place('singleton', name))

    def every(
        self, schedule: float | str, misfire: str = 'skip', *, name: str | None = None, tz: dt.tzinfo | str = 'UTC'
    ) -> Callable[[F], F]:
        """Return a decorator that has a function run on a schedule, by one node of the cluster at a time.

        Give each node the same function. It runs in a thread of this job, inside the block; with a ``Tick`` if it takes an
        argument. No node runs a tick again that is complete. Each tick is claimed as it begins, and audited when the function has
        returned, as the item ``every:NAME@TIME`` at the tick's own date. If the function raises, the error is logged, and the
        tick stays incomplete.

        Ticks that come while the function runs, or while no node owns the schedule, are missed, except the latest of them.

        Args:
            schedule: A number of seconds from 0.1 to 366 days, whose ticks are its multiples since 1970-01-01 UTC. Or a cron
                expression of 5 fields, or 6 with the seconds first, with the extra ``cron``. The time is the store's.
            misfire: ``'skip'``: each tick is run at most once. A tick is left out if it was begun and its node is gone, or if it
                is late by more than ``heartbeat_timeout_sec`` + 2 seconds. ``'run'``: the latest tick is run however late it is,
                and run again if it was begun and its node is gone.
            name: The name of the schedule. None: that of the function.
            tz: The time zone of a cron expression, and of the date of each tick: its name, or a ``tzinfo``, but none of pytz.

        Raises:
            ConfigError: An argument is not allowed, or a function of that name is scheduled already.
            JobsyncError: The block has ended, or this process can start no thread for the function.
        """
        zone = parse_zone(tz)
        parsed = parse_schedule(schedule, zone)
        checks.misfire.of('misfire', misfire)
        self._session.check_process()
        if self._session.is_over:
            raise JobsyncError(f'job {self.node_name!r} has left its block: a function that is scheduled now would never run')

        def register(function: F) -> F:
            call = callables.with_optional_argument(function)
            title = getattr(function, '__name__', None) if name is None else name
            place = self._place('every', title)
            self._scheduler.add(Scheduled(str(title), call, parsed, zone, misfire == 'run', place))
            return function

        return register

    def run_scheduled(self) -> None:
        """Wait while the functions of ``every`` run, until this node is to leave: the main program of a scheduler."""
        self._session.check_inside()
        self._session.check_entered()  # or a lock_provider would wait for ever
        while not self._session.is_leaving:
            self._session.note_progress()
            time.sleep(POLL_SEC)

    def _place(self, kind: str, name: object) -> Place:
        key, token = self._parse(f'{kind}:{checks.place_name.of("name", name)}')
        return Place(self._session, self._task_log, key, token)

    # --- task locks ---------------------------------------------------------------------------------------------------------

    def register_task_lock(
        self,
        task_id: object,
        node_pattern: str | Sequence[str],
        reason: str | None = None,
        expires_in_days: float | None = None,
    ) -> None:
        """Lock a task to the nodes that match a pattern, in place of the lock that the task has. Holds within two seconds.

        With ``locks_enabled=False`` this registers nothing, and logs a warning.

        Args:
            task_id: A ``Task`` or a bare id.
            node_pattern: A SQL ``LIKE`` pattern of node names, or several in order. The first one that any live node matches
                is in force.
            reason: Text for people.
            expires_in_days: After how many days the lock ends: above 0, at most 36,500. None: never.

        Raises:
            ConfigError: An argument is not allowed.
            BackendUnavailable: The store does not answer.
        """
        self._locks.put([lock_request(self.node_name, task_id, node_pattern, reason, expires_in_days)])

    def register_task_locks_bulk(self, locks: Iterable[Sequence[Any]]) -> None:
        """Lock many tasks in one step.

        Args:
            locks: Tuples of task id, pattern, reason and days until the lock ends; reason and days are optional. Several tuples
                for one task are alternatives, in order.

        Raises:
            ConfigError: A tuple is not allowed, and no lock is registered.
            BackendUnavailable: The store does not answer.
        """
        self._locks.put(lock_requests(self.node_name, locks))

    register_lock = register_task_lock
    register_locks_bulk = register_task_locks_bulk

    def list_locks(self) -> list[LockRow]:
        """Return every task lock, by ``token_id``.

        Returns:
            Mappings with ``token_id``, ``task_id``, ``node_pattern``, ``patterns``, ``reason``, ``created_by``, ``created_at``
            and ``expires_at``.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        return self._locks.rows()

    def clear_locks_by_creator(self, creator: str) -> int:
        """Remove the task locks that a node has registered.

        Args:
            creator: The node's name.

        Returns:
            How many locks were removed.

        Raises:
            ConfigError: ``creator`` is not a name.
            BackendUnavailable: The store does not answer.
        """
        return self._locks.clear(LockFilter(created_by=checks.creator.of('creator', creator)))

    def clear_all_locks(self) -> int:
        """Remove every task lock.

        Returns:
            How many locks were removed.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        return self._locks.clear(LockFilter())

    # --- items --------------------------------------------------------------------------------------------------------------

    def declare_items(
        self,
        group: str,
        ids: Iterable[object],
        *,
        cost: float | Mapping[Any, float] = 1,
        pattern: str | Sequence[str] | None = None,
    ) -> None:
        """Declare a known set of tasks, such as tenants, feeds or regions, which the nodes share out exactly.

        The nodes' shares of a group differ by at most one item, for each unit of weight. Other tasks still go by their hash.
        If the group has this set already, nothing changes, so every node may declare it when it starts. Another set takes its
        place, and an empty one removes the group. May be called at any time. Takes effect within two seconds.

        Args:
            group: The name of the set.
            ids: All items of the group: ``Task`` objects or bare ids. An id is an item of one group only.
            cost: How much an item takes of its node's share: a number for each item, or one for all. Items left out cost 1. With
                different costs, no node is above the most even share by more than the cost of the dearest item.
            pattern: As for a task lock: the nodes that may own the items. None: all. A task lock of an item holds instead.

        Raises:
            ConfigError: An argument is not allowed, or an id is an item of another group.
            BackendUnavailable: The store does not answer.
        """
        self._items.declare(group, ids, cost, pattern)

    def items(self, group: str) -> list[str]:
        """Return this node's share of a group at this moment, as keys, in the order of their declaration. No I/O, no lock.

        ``can_claim_task`` is True for exactly these items; call it again before each, because shares change.

        Args:
            group: The name given to ``declare_items``. Empty for a group that this node has not read of yet.

        Raises:
            ConfigError: ``group`` is not a name.
        """
        # t=0   the node has stalled, and its items are with other nodes
        # t=10  its program goes on with a loop over its items, of which there are none, so it requests no task
        # Were this call no progress, the node would have no item for ever.
        self._session.note_progress()
        return self._items.mine(group)

    def list_items(self, group: str | None = None) -> list[ItemRow]:
        """Return every item with its owner, from the store, by group and id.

        Args:
            group: The group whose items to return. None: all groups.

        Returns:
            Mappings with ``group``, ``item``, ``owner``, ``cost`` and ``patterns``.

        Raises:
            ConfigError: ``group`` is not a name.
            BackendUnavailable: The store does not answer.
        """
        return self._items.rows(group)

    # --- this node ----------------------------------------------------------------------------------------------------------

    @property
    def date(self) -> dt.date:
        """The date of the work, as given. A job keeps it: work of another date takes another job."""
        return self._date

    def set_weight(self, weight: float) -> None:
        """Change this node's share of the tokens, relative to the other nodes', from now on until it leaves.

        Args:
            weight: A number from 0 to 1,000,000. 0 drains the node: it stays a member and owns nothing.

        Raises:
            ConfigError: ``weight`` is not allowed.
        """
        checks.weight.of('weight', weight)
        self._session.set_weight(float(weight))

    @property
    def my_tokens(self) -> frozenset[int]:
        """The tokens this node may claim now: the same object while nothing changes, empty while the lease is over.

        Empty with coordination off, too, where there are no tokens.
        """
        return status.owned_tokens(self._session)

    @property
    def token_version(self) -> int:
        """The number of the assignment's version that this node has applied; every change raises it."""
        return status.token_version(self._session)

    def owns(self, token: int) -> bool:
        """Return whether this node may claim the tasks of a token, or the task of a pin, at this moment. No I/O, no lock.

        False with coordination off, where there are no tokens.

        Args:
            token: A number of ``my_tokens`` or ``task_to_token``.

        Raises:
            ConfigError: ``token`` is not an integer.
        """
        self._session.note_progress()
        return status.owns(self._session, checks.token.of('token', token))

    def owner_of(self, task: object) -> str | None:
        """Return the name of the node that owns the task, from the store; None if no node does.

        With coordination off this is the node's own name.

        Args:
            task: A ``Task`` or a bare id.

        Raises:
            ConfigError: The id cannot be a task's.
            BackendUnavailable: The store does not answer.
        """
        key, token = self._parse(task)
        self._session.check_inside()
        return self._session.read_assignment().owner_of(key, token) if self._config.enabled else self.node_name

    def fence(self, task: object) -> int:
        """Return a number that is higher with every new owner of the task, so that a late write can be refused. No I/O.

        See ``jobsync.fencing``. The number rises through hand-overs, crashes, restarts and task locks, and never falls while the
        store keeps what it has confirmed.

        Args:
            task: A ``Task`` or a bare id.

        Raises:
            ConfigError: The id cannot be a task's.
            NotOwned: This node neither owns the task now nor has it in flight, the lease has ended, or coordination is off.
        """
        key, token = self._parse(task)
        self._session.check_inside()
        fence = self._task_log.fence(key, token)
        if fence is None:
            why = (
                "it is not this node's at this moment" if self._config.enabled else 'there is no cluster, so there are no fences'
            )
            raise NotOwned(f'node {self.node_name!r} has no fence for task {cut_repr(key)}: {why}')
        return fence

    def task_to_token(self, task: object) -> int:
        """Return the token that decides about the task: the pin of a task with a task lock and of an item, else its hash token.

        Args:
            task: A ``Task`` or a bare id.

        Raises:
            ConfigError: The id cannot be a task's.
        """
        key, runtime = key_of(task), self._session.runtime
        pin = None if runtime is None else runtime.lease.assignment.pin_of.get(key)
        return self._token_of(key) if pin is None else pin.id

    def keep_going(self) -> None:
        """Report that the work goes on, for work that takes longer than ``progress_timeout_sec``, or that waits. No I/O.

        A request for a task, its start and its end report it as well, and so does a ``claim``, ``batch`` or ``singleton`` loop
        that waits.
        """
        self._session.note_progress()

    @property
    def is_leaving(self) -> bool:
        """Whether this node starts no further task: it is to leave (after a signal, say), has left, or cannot go on.

        A ``claim`` loop ends by itself then; a loop of your own should.
        """
        return self._session.is_leaving

    def am_i_healthy(self) -> bool:
        """Return whether this node is a member with a valid lease (always, with coordination off) that makes progress. No I/O.

        Progress counts where ``progress_timeout_sec`` is set.
        """
        return status.is_healthy(self._session)

    def am_i_leader(self) -> bool:
        """Return whether this node leads the cluster, with a valid lease. No I/O."""
        return status.is_leader(self._session)

    def get_coordination_status(self) -> CoordinationStatus:
        """Return this node's state in one mapping, which ``json.dumps`` accepts. No I/O."""
        return status.coordination_status(self._session, self._task_log.open_tasks)

    def serve(self, port: int, host: str = '127.0.0.1') -> Server:
        """Serve this worker's health, its metrics and the page of its cluster over HTTP, from now on (the extra ``web``).

        Call it before the block, so that the worker answers while it enters. ``/health/live`` answers while the process lives,
        ``/health/ready`` with status 200 while ``am_i_healthy``. No login is needed.

        Args:
            port: The port; 0 takes a free one.
            host: The address to listen on.

        Returns:
            The server, which runs until its ``close`` or the end of the process.

        Raises:
            ConfigError: An argument is not allowed.
            JobsyncError: The server cannot listen there, or the extra is not installed.
        """
        try:
            from jobsync.web import Server, allowed_hosts, job_app
        except ModuleNotFoundError as error:
            raise JobsyncError(f"job.serve needs {error.name}: pip install 'jobsync[web]'") from error
        return Server(job_app(self, self._observed, allowed_hosts(host)), port, host)

    def _observed(self) -> Cluster:
        from jobsync.cluster import Cluster

        config = self._config
        if config.backend is None:
            raise JobsyncError(f'job {self.node_name!r} has no backend, so there is no cluster to show')
        return Cluster(config.backend, config.appname, op_timeout_sec=config.op_timeout_sec)

    # --- all nodes ----------------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[NodeRow]:
        """Every node's record in the store, oldest first: name, created_on, last_heartbeat, active and more.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        if not self._config.enabled:
            return []
        snapshot = self._session.caller.call(self._session.needed_backend.snapshot)
        return status.node_rows(snapshot, self._config.heartbeat_timeout_sec)

    def get_active_nodes(self) -> list[NodeRow]:
        """Return the nodes with a heartbeat within ``heartbeat_timeout_sec``, by the store's clock, oldest first. For people.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        return [node for node in self.nodes if node['active']]

    def get_dead_nodes(self) -> list[NodeRow]:
        """Return the nodes that have left, or have no heartbeat within ``heartbeat_timeout_sec``, oldest first. For people.

        The leader removes their records.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        return [node for node in self.nodes if not node['active']]

    # --- the store, and names of the 1.x guide ------------------------------------------------------------------------------

    @property
    def _tables(self) -> Mapping[str, str]:
        """The names of the tables, by the guide's words: ``Node``, ``Token``, ``Lock`` and so on.

        Raises:
            UnsupportedOperation: The backend has no SQL.
        """
        tables: Mapping[str, str] = self._session.sql_backend.tables
        return tables

    @property
    def _cn(self) -> Connection:
        """The connection to the backend's database for the user's own statements (see ``jobsync.database``), from any thread.

        Connects at the first statement, and is closed on leaving.

        Raises:
            UnsupportedOperation: The backend has no SQL.
        """
        return self._session.connection

    @property
    def _my_tokens(self) -> frozenset[int]:
        return self.my_tokens

    @property
    def _token_version(self) -> int:
        return self.token_version

    @property
    def _last_heartbeat_sent(self) -> dt.datetime | None:
        return status.last_heartbeat_sent(self._session)

    @property
    def _coordination_enabled(self) -> bool:
        return self._config.enabled


def _several(tasks: object) -> Collection[object]:
    if isinstance(tasks, (list, tuple, set, frozenset, range)):
        return tasks
    try:
        key_of(tasks)
    except ConfigError as error:
        if not isinstance(tasks, Iterable) or isinstance(tasks, (str, bytes)):
            raise
        raise ConfigError(f'tasks is {safe_repr(tasks)}: must be one task, or a list, tuple, set or range of tasks') from error
    return [tasks]
