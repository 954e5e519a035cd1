"""``AsyncJob``: a worker's node in its cluster, for programs that run on an event loop.

The implementation is ``Job``. Its methods that reach the store are called in threads, the others in the event loop's thread.
Heartbeats go on in threads of their own, whatever the event loop does.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, Self, TypeVar

from jobsync._core.agent.in_flight import TaskStart
from jobsync._runtime import threads
from jobsync._worker import status
from jobsync._worker.refusals import copy_error, refused
from jobsync._worker.singleton import POLL_SEC
from jobsync._worker.stages import SessionEvent
from jobsync._worker.store_calls import worker_id
from jobsync._worker.tracing import task_span
from jobsync.aio.callbacks import OnLoop, is_coroutine_function, is_loop_running, running_loop
from jobsync.aio.claim_loop import Claims
from jobsync.aio.signal_timer import SignalTimer
from jobsync.aio.singleton import AsyncSingleton
from jobsync.aio.task_block import TaskBlock
from jobsync.aio.threads import Threads
from jobsync.config import CoordinationConfig, callables, checks
from jobsync.errors import JobsyncError
from jobsync.job import Job
from jobsync.rows import NodeRow

if TYPE_CHECKING:
    from jobsync.database import Connection

__all__ = ['AsyncJob']

P = ParamSpec('P')
R = TypeVar('R')
T = TypeVar('T')
F = TypeVar('F', bound=Callable[..., object])

_LAST_CALLS_SEC = 5.0
"""How long leaving waits for the last calls of the user's functions, which report that all tokens are gone."""


def _here(method: Callable[Concatenate[Job, P], R]) -> Callable[Concatenate[AsyncJob, P], R]:
    """Make a method of a method of ``Job`` that does no I/O."""

    def call(self: AsyncJob, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(self._job, *args, **kwargs)

    return functools.update_wrapper(call, method)


def _in_thread(
    method: Callable[Concatenate[Job, P], R], prepare: Callable[Concatenate[Job, P], Callable[[], R]] | None = None
) -> Callable[Concatenate[AsyncJob, P], Coroutine[Any, Any, R]]:
    """Make a coroutine method of a method of ``Job`` that reaches the store.

    With ``prepare``, which returns the call of that method, it is made even if it is cancelled before a thread has begun it.
    """

    async def call(self: AsyncJob, /, *args: P.args, **kwargs: P.kwargs) -> R:
        action: Callable[[], R] = functools.partial(method, self._job, *args, **kwargs)
        if prepare is not None:
            self._job._session.check_process()
            action = self._threads.call_here(functools.partial(prepare, self._job, *args, **kwargs))

        # t=0  the program has done a task, and calls ``complete``; all threads are busy
        # t=1  the call is cancelled before a thread has begun it
        # t=2  never made, it would leave the task in flight, whose work is done: its token would wait for handover_timeout_sec
        def make_later(_: BaseException) -> None:
            with suppress(RuntimeError):  # the process can start no thread now
                self._threads.cut(self._threads.submit(action))

        return await self._call(action, drop=None if prepare is None else make_later)

    return functools.update_wrapper(call, method)


class AsyncJob:
    """A node of a cluster, for the time of an ``async with`` block: ``Job`` for programs on an event loop.

    A method does what the method of ``Job`` with its name does. Those that reach the store are awaited, as is ``nodes``; the
    others return at once. To be used on the event loop that entered the block.

    - **Cancelling** a call does not stop what it has started in the store, but leaves no task in flight: a cancelled ``add_task``
      or ``claim`` leaves its task incomplete.
    - **Leaving** waits for the tasks that other asyncio tasks have in flight, up to ``shutdown_timeout_sec``, and not for those
      of the asyncio task that leaves. The event loop goes on meanwhile. Cancelled, leaving waits for no task and gives the tokens
      back.
    - **A blocked event loop** does not end the lease, since heartbeats do not need the loop: the node keeps its tokens.
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
        lock_provider: Callable[[Job], object] | Callable[[AsyncJob], Awaitable[object]] | None = None,
        clear_existing_locks: bool = False,
        coordination_config: CoordinationConfig | None = None,
        on_rebalance: Callable[..., object] | None = None,
        on_assign: Callable[[frozenset[int]], object] | None = None,
        on_revoke: Callable[[frozenset[int], float], object] | None = None,
        on_lost: Callable[[frozenset[int]], object] | None = None,
        handle_signals: bool = False,
    ) -> None:
        """Check the arguments. The store is not reached before the block is entered.

        Callbacks may be coroutine functions, which run on the event loop; any other runs in a thread. No coroutine outlives the
        block.

        Args:
            node_name: As for ``Job``.
            site: As for ``Job``.
            config: As for ``Job``.
            date: As for ``Job``.
            wait_on_enter: As for ``Job``.
            wait_on_exit: As for ``Job``.
            skip_db_init: As for ``Job``.
            lock_provider: As for ``Job``. A coroutine function is called with this object, any other function with a ``Job``.
            clear_existing_locks: As for ``Job``.
            coordination_config: As for ``Job``.
            on_rebalance: As for ``Job``.
            on_assign: As for ``Job``.
            on_revoke: As for ``Job``. Tokens wait for a coroutine until its deadline; one that takes longer goes on without them.
            on_lost: As for ``Job``.
            handle_signals: As for ``Job``.

        Raises:
            ConfigError: An argument or a setting is not allowed.
        """
        self._on_loop = on_loop = OnLoop()
        self._job = Job(
            node_name,
            site,
            config,
            date=date,
            wait_on_enter=wait_on_enter,
            wait_on_exit=wait_on_exit,
            skip_db_init=skip_db_init,
            lock_provider=self._provider(lock_provider),
            clear_existing_locks=clear_existing_locks,
            coordination_config=coordination_config,
            on_rebalance=on_loop.wrapped(callables.function('on_rebalance', on_rebalance, 1, 0, may_await=True)),
            on_assign=on_loop.wrapped(callables.function('on_assign', on_assign, 1, may_await=True)),
            on_revoke=on_loop.wrapped(callables.function('on_revoke', on_revoke, 2, may_await=True)),
            on_lost=on_loop.wrapped(callables.function('on_lost', on_lost, 1, may_await=True)),
            handle_signals=handle_signals,
        )
        # The Job enters and leaves in a thread, where no handler can be installed: this object handles the signals.
        self._signals, self._job._signals = self._job._signals, None
        self._signal_timer = SignalTimer()
        self._threads = Threads(self._job.node_name)
        self._entry = threading.Lock()

    def _provider(self, function: Any) -> Any:
        callables.function('lock_provider', function, 1, may_await=True)
        return (lambda _: self._on_loop.wait_for(function(self))) if is_coroutine_function(function) else function

    def __repr__(self) -> str:
        return f'<AsyncJob {status.summary(self._job._session)}>'

    def __reduce_ex__(self, _: object) -> NoReturn:
        """Refuse to be copied and pickled: a node belongs to one process."""
        raise copy_error(self.node_name)

    # --- entering and leaving -----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Register, and wait until this node owns its share of the tokens. If that is cancelled, the node leaves again.

        Raises what ``Job.__enter__`` raises, and ``UnsupportedOperation`` on an event loop that is not asyncio's.
        """
        job, loop = self._job, running_loop(self.node_name)
        # t=0  asyncio task A enters; the thread that is to enter has not begun
        # t=1  asyncio task B enters as well: refused in a thread only, it would leave the job again, and A with it
        job._session.check_enterable()
        if not self._entry.acquire(blocking=False):
            raise job._session.entered_before()
        self._on_loop.open(loop)
        self._threads.open()
        try:
            if self._signals is not None:
                self._signals.catch()
                self._signal_timer.begin(loop)
            await self._threads.complete(job.__enter__, self._hurry)
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            if self._signals is not None and self._signals.have_come and isinstance(error, JobsyncError):
                raise SystemExit(0) from error
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop claiming, give the tokens back, and leave. May be called again. Marks no task complete.

        Called by a callback, such as ``on_revoke``, it returns before the node has left, which it then does when the block ends.
        If the event loop has ended amid the block, the node leaves when Python frees the coroutine, and waits for no task.
        """
        session = self._job._session
        try:
            if self._threads.are_open and session.is_same_process:
                if not self._on_loop.may_wait_here(exc_type):
                    self._leave_without_loop()
                    return
                if self._on_loop.is_running_here:
                    session.stop(SessionEvent.STOP)
                    return
                await self._leave()
                if exc_type is None:
                    session.raise_failure()
        except BaseException:
            # t=0  the block ends; a signal's handler raises before a thread has begun to leave, and the program goes on
            # t=1  the node would keep its tokens, and its name, for as long as the process runs
            if session.is_same_process and not session.is_over:
                self._threads.call_here(lambda: session.stop(SessionEvent.LEAVE, worker_id()))
            raise

    if not TYPE_CHECKING:  # a type checker finds ``with`` by itself, as long as these are missing
        __enter__ = __exit__ = refused(
            'job {0.node_name!r}: an AsyncJob is entered by "async with", not "with"; without asyncio use Job'
        )

    async def _leave(self) -> None:
        try:
            self._job._session.stages.record(SessionEvent.LEAVE)  # from now on a signal has no block to end
        finally:
            await self._complete_leaving()  # also if one has come just before, and has raised

    async def _complete_leaving(self) -> None:
        try:
            await self._threads.complete(self._leave_in_thread, self._hurry)
        finally:
            # t=0  leaving was cancelled, and waits here for a coroutine of the user's that takes its time to end
            # t=1  it is cancelled again
            # Without the handler's end, every later signal of the process would be for a job that has left, and do nothing.
            try:
                await self._on_loop.close()
            finally:
                if self._job._session.is_over:  # otherwise what is left to be closed is closed by another call
                    self._threads.close()
                self._signal_timer.end()
                if self._signals is not None:
                    self._signals.release()

    def _leave_without_loop(self) -> None:
        # t=0  Ctrl-C ends ``loop.run_until_complete`` amid the block; the program closes the loop, and goes on
        # t=1  Python frees the coroutine of the block, which may wait for nothing any more
        # t=2  without this, the node would keep its tokens, and its name, for as long as the process runs
        self._job._session.stop(SessionEvent.HURRY)
        if is_loop_running():  # another one, which must not be held up
            threads.start(self.node_name, 'leave', self._leave_here)
        else:
            self._leave_here()

    def _leave_here(self) -> None:
        self._on_loop.leave_loop()
        try:
            self._job.__exit__(None, None, None)
        finally:
            self._threads.close()
            self._signal_timer.end()
            if self._signals is not None:
                self._signals.release()

    def _leave_in_thread(self) -> None:
        self._job.__exit__(None, None, None)
        if (runtime := self._job._session.runtime) is not None:
            runtime.callbacks.wait_until_finished(_LAST_CALLS_SEC)

    def _hurry(self) -> None:
        self._job._session.stop(SessionEvent.HURRY)
        self._on_loop.cancel()

    async def _call(
        self,
        action: Callable[[], R],
        undo: Callable[[R], object] | None = None,
        drop: Callable[[BaseException], object] | None = None,
    ) -> R:
        self._job._session.check_process()
        return await self._threads.call(action, undo, drop)

    # --- tasks --------------------------------------------------------------------------------------------------------------

    can_claim_task = _here(Job.can_claim_task)
    set_claim = _in_thread(Job.set_claim)
    complete = _in_thread(Job.complete, Job._completion)
    write_audit = _in_thread(Job.write_audit, Job._audit)
    get_audit = _in_thread(Job.get_audit)
    get_incomplete_tasks = _in_thread(Job.get_incomplete_tasks)
    purge = _in_thread(Job.purge)
    list_quarantined = _in_thread(Job.list_quarantined)
    release_quarantined = _in_thread(Job.release_quarantined)

    async def add_task(self, task: object) -> bool:
        """Start a task: mark it in flight, record its claim, and return whether this node may work on it.

        If the call is cancelled, the task is not in flight, and is incomplete if its claim was recorded already.

        Args:
            task: A ``Task`` or a bare id.

        Returns:
            False if this node may not work on the task: it does not own the task (any more), the task is in quarantine, or the
            lease ended before the store answered. Nothing is recorded then, except perhaps a claim whose answer came too late.

        Raises:
            ConfigError: The id cannot be a task's.
        """

        # t=0  a thread records the claim, and the task is in flight
        # t=1  the asyncio task is cancelled: it will neither work on the task nor complete it
        # t=2  the thread returns True, to no caller: the task is abandoned there, or it would delay every hand-over of its token
        def undo(start: TaskStart | None) -> None:
            if start is not None and self._job._task_log.take_back(start):
                self._job._added.give_up(start.key)

        start = await self._call(lambda: self._job._start(task), undo)
        if start is not None:
            try:
                self._job._task_log.confirm(start)
            except BaseException:  # of a signal's handler
                undo(start)
                raise
        return start is not None

    def claim(self, tasks: Iterable[T] | AsyncIterable[T], batch: int | None = None, once: bool = False) -> Claims[T]:
        """Return the tasks that this node owns, one after the other, as ``Job.claim`` does, for ``async for``.

        Args:
            tasks: ``Task`` objects or bare ids, of which this node takes its own. Read on the event loop. With an asynchronous
                iterable the loop also ends when the node is to leave while the loop waits for the next task.
            batch: How many claims are recorded at a time, at most.
            once: Pass over the tasks that any node has completed at this job's date.

        Raises:
            ConfigError: ``tasks``, ``batch``, ``once`` or an id is not allowed.
        """
        checks.async_tasks.of('tasks', tasks)
        return Claims(self._job._claim_loop(tasks, batch, once), tasks, self._threads)

    def batch(self, tasks: Iterable[T], progress: bool = False) -> Claims[T]:
        """Return tasks of a finite set until every one is complete, wherever it was done, as ``Job.batch`` does.

        For ``async for``. The event loop goes on while this waits for other nodes.

        Args:
            tasks: ``Task`` objects or bare ids, the same set on every node, read at once.
            progress: Show how many tasks the whole cluster has completed.

        Raises:
            ConfigError: ``tasks``, ``progress`` or an id is not allowed.
        """
        return Claims(self._job._shared_batch(tasks, progress), (), self._threads)

    def task(self, task: T) -> AbstractAsyncContextManager[T]:
        """Work on one task: claimed at the start of the block, complete at its end, incomplete if the block raises.

        Args:
            task: A ``Task`` or a bare id.

        Raises:
            NotOwned: Before the block: this node does not own the task, another asyncio task works on it, or it is in quarantine.
            ConfigError: The id cannot be a task's.
        """
        return TaskBlock(self._task(task))

    @asynccontextmanager
    async def _task(self, task: T) -> AsyncIterator[T]:
        block = self._job._block(task)

        def fail(error: BaseException) -> None:
            block.__exit__(type(error), error, error.__traceback__)

        await self._call(block.__enter__, undo=lambda _: fail(asyncio.CancelledError()))
        try:
            with task_span(self.node_name, task):
                yield task
        except BaseException as error:
            fail(error)  # does not reach the store
            raise
        # t=0  the block ends while the store hangs: all threads are busy, so the end of the task waits for one
        # t=1  it is cancelled, and the program keeps the exception, whose traceback refers to this frame
        # t=2  the task, which no caller can end any more, would be in flight for as long as the exception is kept
        await self._call(lambda: block.__exit__(None, None, None), drop=fail)

    # --- once in the cluster ------------------------------------------------------------------------------------------------

    def singleton(self, name: str) -> AsyncSingleton:
        """Return a place that one worker of the whole cluster holds at a time, for ``async for`` and ``async with``.

        As ``Job.singleton``; ``wait`` of a turn is awaited.

        Args:
            name: The name of the place, the same on every node.

        Raises:
            ConfigError: ``name`` is not allowed.
        """
        self._job._session.check_process()
        return AsyncSingleton(self._job._place('singleton', name), self._threads)

    def every(
        self, schedule: float | str, misfire: str = 'skip', *, name: str | None = None, tz: dt.tzinfo | str = 'UTC'
    ) -> Callable[[F], F]:
        """Return a decorator that has a function run on a schedule, by one node of the cluster at a time, as ``Job.every``.

        A coroutine function runs on the event loop, any other in a thread.

        Args:
            schedule: As for ``Job.every``.
            misfire: As for ``Job.every``.
            name: As for ``Job.every``.
            tz: As for ``Job.every``.

        Raises:
            ConfigError: An argument is not allowed, or a function of that name is scheduled already.
            JobsyncError: The block has ended, or this process can start no thread for the function.
        """
        register = self._job.every(schedule, misfire, name=name, tz=tz)

        def register_wrapped(function: F) -> F:
            wrapped = self._on_loop.wrapped(callables.function('function', function, 1, 0, may_await=True))

            @functools.wraps(function)
            def run(*tick: object) -> None:
                if not wrapped(*tick):
                    raise JobsyncError(f'job {self.node_name!r} has left: the coroutine of a tick was not run')

            # Of what has no name, such as a partial, ``wraps`` leaves that of ``run``, which all such functions would share.
            run.__name__ = getattr(function, '__name__', '')
            register(run if callable(function) else function)
            return function

        return register_wrapped

    async def run_scheduled(self) -> None:
        """Wait while the functions of ``every`` run, until this node is to leave: the main program of a scheduler."""
        self._job._session.check_inside()
        self._job._session.check_entered()  # or a lock_provider would wait for ever
        while not self._job._session.is_leaving:
            self._job.keep_going()
            await asyncio.sleep(POLL_SEC)

    # --- task locks ---------------------------------------------------------------------------------------------------------

    register_task_lock = _in_thread(Job.register_task_lock)
    register_task_locks_bulk = _in_thread(Job.register_task_locks_bulk)
    register_lock = register_task_lock
    register_locks_bulk = register_task_locks_bulk
    list_locks = _in_thread(Job.list_locks)
    clear_locks_by_creator = _in_thread(Job.clear_locks_by_creator)
    clear_all_locks = _in_thread(Job.clear_all_locks)

    where = _here(Job.where)

    # --- items --------------------------------------------------------------------------------------------------------------

    declare_items = _in_thread(Job.declare_items)
    items = _here(Job.items)
    list_items = _in_thread(Job.list_items)

    # --- this node and all nodes --------------------------------------------------------------------------------------------

    @property
    def node_name(self) -> str:
        """This node's name."""
        return self._job.node_name

    @property
    def site(self) -> str | None:
        """The label as given."""
        return self._job.site

    @property
    def date(self) -> dt.date:
        """The date of the work."""
        return self._job.date

    @property
    def my_tokens(self) -> frozenset[int]:
        """The tokens this node may claim now: the same object while nothing changes, empty while the lease is over."""
        return self._job.my_tokens

    @property
    def token_version(self) -> int:
        """The number of the assignment's version that this node has applied; every change raises it."""
        return self._job.token_version

    @property
    def is_leaving(self) -> bool:
        """Whether this node starts no further task: it is to leave (after a signal, say), has left, or cannot go on.

        A ``claim`` loop ends by itself then; a loop of your own should.
        """
        return self._job.is_leaving

    @property
    def nodes(self) -> Coroutine[Any, Any, list[NodeRow]]:
        """Every node's record in the store, oldest first, to be awaited: ``await job.nodes``."""
        return self._call(lambda: self._job.nodes)

    owns = _here(Job.owns)
    serve = _here(Job.serve)
    owner_of = _in_thread(Job.owner_of)
    fence = _here(Job.fence)
    set_weight = _here(Job.set_weight)
    task_to_token = _here(Job.task_to_token)
    keep_going = _here(Job.keep_going)
    am_i_healthy = _here(Job.am_i_healthy)
    am_i_leader = _here(Job.am_i_leader)
    get_active_nodes = _in_thread(Job.get_active_nodes)
    get_dead_nodes = _in_thread(Job.get_dead_nodes)
    get_coordination_status = _here(Job.get_coordination_status)

    # --- the store, and names of the 1.x guide ------------------------------------------------------------------------------

    @property
    def _tables(self) -> Mapping[str, str]:
        return self._job._tables

    @property
    def _cn(self) -> Connection:
        """The connection of ``Job``. A statement blocks its thread: use ``await asyncio.to_thread(select, job._cn, …)``."""
        return self._job._cn
