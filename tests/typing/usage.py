"""The public API as users write it. Never run: only has to type-check under ``mypy --strict``, which ``tox -e lint`` does.

A line with ``type: ignore`` is a mistake of a user's that the type checker must find: without an error there, mypy reports the
comment as unused.
"""

# What the guide advises users of AsyncJob to switch on, beside --strict.
# mypy: enable-error-code="truthy-bool"

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Collection, Generator, Mapping, Sequence
from typing import Any, ClassVar, assert_type

import sqlalchemy as sa

import jobsync.database as db
from jobsync import (
    AsyncJob,
    AuditRow,
    BackendUnavailable,
    ConfigError,
    CoordinationConfig,
    CoordinationStatus,
    Job,
    JobsyncError,
    LockRow,
    NodeNameInUse,
    NodeRow,
    NotOwned,
    RebalanceEvent,
    Task,
    Tick,
    Turn,
    backend,
    fencing,
    hookspecs,
    plugins,
)
from jobsync.backend import Backend, BackendInfo, BackendOptions, Reach

# --- configuration ----------------------------------------------------------------------------------------------------------

config = CoordinationConfig(backend='sqlite:///jobs.db', minimum_nodes=2, heartbeat_interval_sec=1, weight=0.5, enabled=True)
assert_type(config, CoordinationConfig)
assert_type(config.total_tokens, int)
assert_type(config.heartbeat_timeout_sec, float)
assert_type(config.backend, str | Backend | None)
assert_type(config.options, BackendOptions)

CoordinationConfig('sqlite:///jobs.db')  # type: ignore[call-arg, arg-type]
CoordinationConfig(total_token=5)  # type: ignore[call-arg]
CoordinationConfig(total_tokens='5')  # type: ignore[arg-type]

# --- Job --------------------------------------------------------------------------------------------------------------------


class Settings:
    """Any object may hold the settings of a program."""

    sync: ClassVar = {'coordination': {'minimum_nodes': 2}}


def register(job: Job) -> None:
    """Register task locks while the node enters."""
    job.register_task_lock(7, 'gpu-%')
    job.register_task_lock(Task('x'), ['gpu-%', '%'], reason='large', expires_in_days=0.5)
    job.register_task_locks_bulk([(7, 'gpu-%', 'large'), ('x', ['a', 'b'], None, 1.5)])


def on_rebalance(event: RebalanceEvent) -> None:
    """Take every part of an event."""
    assert_type(event.node_name, str)
    assert_type(event.gained, frozenset[int])
    assert_type(event.lost, frozenset[int])
    assert_type(event.token_count, int)


def on_tokens(tokens: frozenset[int]) -> None:
    """Take tokens."""


def on_revoke(tokens: frozenset[int], deadline: float) -> str:
    """Take tokens and a deadline. The result of a callback is ignored."""
    return f'{len(tokens)} tokens until {deadline}'


def everything() -> Job:
    """Pass every argument."""
    return Job(
        'worker-01',
        'production',
        Settings,
        date=dt.date(2026, 1, 1),
        wait_on_enter=10,
        wait_on_exit=0.5,
        skip_db_init=True,
        lock_provider=register,
        clear_existing_locks=True,
        coordination_config=config,
        on_rebalance=on_rebalance,
        on_assign=on_tokens,
        on_revoke=on_revoke,
        on_lost=lambda tokens: on_tokens(tokens),
        handle_signals=True,
    )


def without_arguments() -> None:
    """Make jobs whose callbacks take nothing, and jobs that are refused."""
    Job('worker', on_rebalance=lambda: None)
    Job('worker', None, None, dt.date.today())  # type: ignore[call-arg]
    Job('worker', on_assign=on_revoke)  # type: ignore[arg-type]
    Job('worker', lock_provider=on_tokens)  # type: ignore[arg-type]


def loops(job: Job) -> None:
    """Claim tasks of each kind: a loop yields the very type that it was given."""
    for name in job.claim(['a', 'b']):
        assert_type(name, str)
    for number in job.claim(range(10), batch=5, once=True):
        assert_type(number, int)
    for task in job.claim(Task(row['id']) for row in [{'id': 1}]):
        assert_type(task, Task)
    assert_type(job.claim([(1, 'a')]), Generator[tuple[int, str]])
    kept = job.batch({'a', 'b'}, progress=True)
    assert_type(kept, Generator[str])
    kept.close()
    with job.task('a') as one:
        assert_type(one, str)
    with job.task(Task(1, name='first')) as other:
        assert_type(other, Task)


def scheduled(job: Job) -> None:
    """Hold a place, and put functions on a schedule, which stay what they are."""
    for turn in job.singleton('feed'):
        assert_type(turn, Turn)
        assert_type(turn.wait(5), bool)
        assert_type(turn.fence, int)
    with job.singleton('feed') as turn:
        assert_type(bool(turn), bool)

    @job.every('0 3 * * *', misfire='run', tz='Europe/Berlin')
    def report(tick: Tick) -> str:
        return f'{tick.id} {tick.scheduled:%Y}'

    @job.every(60, name='poll')
    def poll() -> None: ...

    assert_type(poll(), None)
    job.every('0 3 * * *')(5)  # type: ignore[type-var]
    job.run_scheduled()


async def scheduled_async(job: AsyncJob) -> None:
    """Hold a place, and put coroutine functions on a schedule."""
    async for turn in job.singleton('feed'):
        assert_type(await turn.wait(5), bool)
    async with job.singleton('feed') as other:
        assert_type(other.fence, int)
    for _ in job.singleton('feed'):  # type: ignore[attr-defined]
        pass

    @job.every(60)
    async def poll(tick: Tick) -> None: ...

    job.every(60)(poll)
    await job.run_scheduled()


def calls(job: Job) -> None:
    """Call every method."""
    with job as entered:
        assert_type(entered, Job)
    task = Task(7)
    assert_type(task.key, str)
    assert_type(task.name, str | None)
    assert_type(job.can_claim_task(task), bool)
    assert_type(job.can_claim_task('a') and job.can_claim_task(7) and job.can_claim_task(('a', 1)), bool)
    assert_type(job.add_task(task), bool)
    assert_type(job.set_claim([1, 'a', task]), bool)
    job.complete(task)
    job.write_audit()
    assert_type(job.get_audit(), list[AuditRow])
    assert_type(job.get_incomplete_tasks(), list[Task])
    assert_type(job.get_incomplete_tasks(60), list[Task])
    assert_type(job.list_quarantined()[0]['attempts'], int)
    assert_type(job.get_incomplete_tasks(older_than=dt.timedelta(hours=1)), list[Task])
    assert_type(job.list_locks(), list[LockRow])
    assert_type(job.clear_locks_by_creator('worker-01') + job.clear_all_locks(), int)
    job.register_lock(1, '%')
    job.register_locks_bulk([])
    job.set_weight(2)
    assert_type(job.node_name, str)
    assert_type(job.site, str | None)
    assert_type(job.date, dt.date)
    assert_type(job.my_tokens, frozenset[int])
    assert_type(job.token_version, int)
    assert_type(job.owns(1), bool)
    assert_type(job.owner_of('a'), str | None)
    assert_type(job.fence('a'), int)
    assert_type(job.task_to_token('a'), int)
    assert_type(job.is_leaving or job.am_i_healthy() or job.am_i_leader(), bool)
    assert_type(job.nodes, list[NodeRow])
    assert_type(job.get_active_nodes() + job.get_dead_nodes(), list[NodeRow])
    assert_type(job.get_coordination_status(), CoordinationStatus)
    job.__exit__(None, None, None)
    job.my_tokens = frozenset()  # type: ignore[misc]


# --- AsyncJob ---------------------------------------------------------------------------------------------------------------


async def register_async(job: AsyncJob) -> None:
    """Register a task lock on the event loop."""
    await job.register_task_lock(7, 'gpu-%')


async def on_tokens_async(tokens: frozenset[int]) -> None:
    """Take tokens on the event loop."""


async def numbers() -> AsyncIterator[int]:
    """Yield tasks."""
    yield 1


async def async_calls() -> None:
    """Call every method that reaches the store with ``await``, and the others without."""
    AsyncJob('worker', lock_provider=register)
    job = AsyncJob('worker', coordination_config=config, lock_provider=register_async, on_assign=on_tokens_async)
    async with job as entered:
        assert_type(entered, AsyncJob)
        assert_type(job.can_claim_task(7), bool)
        assert_type(await job.add_task(7), bool)
        if job.add_task(7):  # type: ignore[truthy-bool]
            pass
        with job:  # type: ignore[attr-defined]
            pass
        for _ in job.claim([7]):  # type: ignore[attr-defined]
            pass
        async with Job('worker'):  # type: ignore[attr-defined]
            pass
        assert_type(await job.set_claim([7]), bool)
        async for number in job.claim(numbers()):
            assert_type(number, int)
        async for name in job.claim(['a'], batch=1, once=True):
            assert_type(name, str)
        async for number in job.batch(range(3)):
            assert_type(number, int)
        async with job.task('a') as one:
            assert_type(one, str)
        await job.complete(7)
        await job.write_audit()
        assert_type(await job.get_audit(), list[AuditRow])
        assert_type(await job.get_incomplete_tasks(60), list[Task])
        assert_type(await job.list_locks(), list[LockRow])
        assert_type(await job.clear_all_locks(), int)
        assert_type(await job.nodes, list[NodeRow])
        assert_type(await job.owner_of('a'), str | None)
        assert_type(job.fence('a'), int)
        assert_type(job.my_tokens, frozenset[int])
        assert_type(job.get_coordination_status(), CoordinationStatus)
        job.set_weight(0)
        job.can_claim_task()  # type: ignore[call-arg]


# --- errors -----------------------------------------------------------------------------------------------------------------


def errors(job: Job) -> None:
    """Catch errors by their classes."""
    try:
        job.write_audit()
    except NodeNameInUse as error:
        assert_type(error.host, str)
        assert_type(error.pid, int)
    except (BackendUnavailable, NotOwned) as error:
        root: JobsyncError = error
        assert_type(root, JobsyncError)
    except ConfigError as error:
        value_error: ValueError = error
        assert_type(str(value_error), str)


# --- SQL and fences ---------------------------------------------------------------------------------------------------------


def statements(job: Job) -> None:
    """Run statements of each kind."""
    with db.connect('sqlite:///jobs.db') as cn, db.transaction(cn):
        for row in db.select(cn, 'SELECT id FROM tasks WHERE date = %s AND %s', job.date, job.where('id')):
            assert_type(row, dict[str, Any])
        assert_type(db.select(cn, 'SELECT 1').to_dict('records'), list[dict[str, Any]])
        assert_type(db.select_row(cn, 'SELECT 1'), dict[str, Any] | None)
        assert_type(db.select_column(cn, 'SELECT 1'), list[Any])
        assert_type(db.insert_rows(cn, 'tasks', [{'id': 1}]) + db.execute(cn, 'DELETE FROM tasks'), int)


def rows(job: Job, async_job: AsyncJob) -> None:
    """Filter rows by columns of each kind."""
    orders = sa.table('orders', sa.column('id'), sa.column('token'))
    assert_type(job.where('id').text('sqlite'), tuple[str, list[Any]])
    assert_type(job.where('id', 'token'), db.RowFilter)
    sa.select(orders.c.id).where(job.where(orders.c.id), job.where(orders.c.id, orders.c.token))
    assert_type(job.where(orders.c.id), sa.ColumnElement[bool])
    assert_type(async_job.where('id'), db.RowFilter)
    job.where(7)  # type: ignore[call-overload]
    job.where(orders.c.id, 'token')  # type: ignore[call-overload]


def fences(job: Job, client: Any) -> None:
    """Guard writes of each kind."""
    fence = job.fence('a')
    assert_type(fencing.fence_sql('fence', fence, 'qmark'), tuple[str, list[int]])
    assert_type(fencing.fence_sql('fence', fence, 'named', name='f'), tuple[str, dict[str, int]])
    fencing.check_written(1, fence, 'result 7')
    fencing.redis_set(client, 'key', b'value', fence)
    fencing.etcd_put(client, 'key', 'value', fence, fence_key='other')
    fencing.fence_sql('fence', fence, 'dollar')  # type: ignore[call-overload]


# --- a backend --------------------------------------------------------------------------------------------------------------


class OwnBackend:
    """A backend by its methods alone, with no name imported that ``jobsync.backend`` does not have."""

    @property
    def info(self) -> BackendInfo:
        """Declare what the store can do."""
        return BackendInfo(name='own', durable=True, push=False, reach=Reach.HOST, max_tokens=1000)

    def open(
        self, settings: backend.Settings | None, create: bool, dead: Collection[tuple[str, int]] | None = ()
    ) -> backend.Opened:
        raise NotImplementedError

    def renew_timeline(self, expected: backend.Timeline, at_least: int, longest_timeout_sec: float = 0.0) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def snapshot(self) -> backend.Snapshot:
        raise NotImplementedError

    def wait(self, revision: int, timeout: float) -> int:
        raise NotImplementedError

    def register(
        self, node: backend.Registration, timeline: backend.Timeline, at_least: int, replacing: tuple[str, int] | None = None
    ) -> None:
        raise NotImplementedError

    def heartbeat(
        self, ref: backend.NodeRef, seen: backend.Revision, holding: frozenset[int], candidate: bool = True
    ) -> backend.Pulse:
        raise NotImplementedError

    def set_weight(self, ref: backend.NodeRef, weight: float, stalled: bool = False) -> None:
        raise NotImplementedError

    def deregister(self, ref: backend.NodeRef, died: bool = False) -> None:
        raise NotImplementedError

    def remove_node(self, ref: backend.NodeRef) -> bool:
        raise NotImplementedError

    def acquire_leadership(self, ref: backend.NodeRef, epoch: int) -> backend.Leadership:
        raise NotImplementedError

    def read_assignment(self, since: backend.Revision | None = None, tokens: Collection[int] | None = None) -> backend.Changes:
        raise NotImplementedError

    def commit(self, ref: backend.NodeRef, plan: backend.Plan, guard: backend.Guard) -> backend.Revision:
        raise NotImplementedError

    def read_locks(self) -> backend.LockReading:
        raise NotImplementedError

    def edit_locks(self, edit: backend.LockEdit) -> int:
        raise NotImplementedError

    def append_claims(
        self, ref: backend.NodeRef, items: Sequence[str], date: dt.date, tolerated: int | None = None
    ) -> backend.Unclaimed:
        raise NotImplementedError

    def forget_attempts(self, items: Sequence[str], date: dt.date, ref: backend.NodeRef | None = None) -> None:
        raise NotImplementedError

    def lost_attempts(self, date: dt.date, at_least: int = 1) -> Mapping[str, int]:
        raise NotImplementedError

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        raise NotImplementedError

    def history(
        self, kind: backend.HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[backend.Claim | backend.Audit | backend.Rebalance]:
        raise NotImplementedError

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[backend.Claim, ...]:
        raise NotImplementedError

    def purge(self, kind: backend.HistoryKind, before: dt.datetime, limit: int, after: str = '') -> backend.Purged:
        raise NotImplementedError


def connect(url: str, options: BackendOptions) -> Backend:
    """Return a backend of one's own."""
    assert_type(options.namespace, str)
    return OwnBackend()


@hookspecs.hookimpl
def jobsync_backend() -> hookspecs.BackendPlugin:
    """Implement the hook."""
    return hookspecs.BackendPlugin('own', ('own',), connect=connect, summary='a store of mine', drivers=('own-driver',))


CoordinationConfig(backend=OwnBackend())
CoordinationConfig(backend=object())  # type: ignore[arg-type]
assert_type(plugins.installed(), list[plugins.Installed])
assert_type(plugins.declared('own://'), BackendInfo)
tables: Mapping[str, str] = everything()._tables
