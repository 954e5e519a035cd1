"""What is wrong gets one clear error that names it."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import re
import sqlite3
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import FAST, TOKENS

from jobsync import (
    AsyncJob,
    BackendNotFound,
    BackendUnavailable,
    ConfigError,
    ConfigMismatch,
    CoordinationConfig,
    Job,
    JobsyncError,
    NodeNameInUse,
    SchemaMismatch,
    Task,
)
from jobsync._core.records import NodeRef, Registration
from jobsync._event_log import event_log
from jobsync._worker import store_calls

pytestmark = pytest.mark.any_store


def made(**arguments: Any) -> Job:
    """A job that is never entered."""
    return Job(**{'node_name': 'w1', 'coordination_config': CoordinationConfig(backend='memory://'), **arguments})


@pytest.mark.parametrize('name', ['', ' ', ' a', 'a ', 'a\nb', 'a\0', 'x' * 201, None, 5, b'a'])
def test_node_name(name: Any) -> None:
    """An empty or unreadable node name."""
    with pytest.raises(ConfigError, match=r'node_name is .*must be 1 to 200 printable characters'):
        made(node_name=name)


@pytest.mark.parametrize(
    ('argument', 'value'),
    [
        ('date', '2024-01-18'),
        ('date', 5),
        ('wait_on_enter', -1),
        ('wait_on_enter', '120'),
        ('wait_on_enter', True),
        ('wait_on_enter', float('nan')),
        ('wait_on_exit', -0.1),
        ('wait_on_exit', None),
        ('lock_provider', 'register'),
        ('on_rebalance', 5),
        ('coordination_config', {'total_tokens': 5}),
        ('site', 5),
        ('skip_db_init', 'no'),
        ('clear_existing_locks', 'False'),
        ('handle_signals', 1),
    ],
)
def test_arguments(argument: str, value: Any) -> None:
    """An argument of the wrong type or range: the message names it and shows the value."""
    with pytest.raises(ConfigError, match=f'{argument} is {re.escape(repr(value)[:20])}'):
        made(**{argument: value})


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('total_tokens', 0),
        ('total_tokens', 2.5),
        ('heartbeat_interval_sec', '5'),
        ('heartbeat_timeout_sec', 1),
        ('lease_margin', 2),
        ('enabled', 1),
        ('hash_function', 'crc'),
        ('minimum_nodes', 0),
        ('weight', -1),
        ('appname', '5x'),
        ('appname', 'a-b'),
        ('appname', ''),
        ('backend', 5),
    ],
)
def test_settings(field: str, value: Any) -> None:
    """A setting of the wrong type or range, wherever it comes from."""
    with pytest.raises(ConfigError, match=f'{field} is {re.escape(repr(value))}'):
        CoordinationConfig(**{field: value})
    with pytest.raises(ConfigError, match=f'config.sync.coordination: {field} is {re.escape(repr(value))}'):
        Job('w1', 'test', {'sync': {'coordination': {field: value}}})


def test_a_backend_that_is_no_url() -> None:
    """The message says what a backend is, and repeats nothing of the value: it may be a DSN with a password."""
    with pytest.raises(ConfigError, match=r'backend is .*must be a URL such as sqlite:///jobsync\.db') as caught:
        CoordinationConfig(backend='jobs.db password=secret')
    assert 'secret' not in str(caught.value)
    with pytest.raises(ConfigError, match=r"backend is '' \(str\): must be a URL"):  # an empty variable of the environment
        CoordinationConfig(backend='')


def test_unknown_field() -> None:
    """A field that does not exist, with the one that was probably meant."""
    with pytest.raises(ConfigError, match=r"no field 'total_token'.*total_tokens"):
        CoordinationConfig(total_token=5)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="no field 'heartbeat_sec'"):
        Job('w1', 'test', {'sync': {'coordination': {'heartbeat_sec': 5}}})


def test_unknown_scheme() -> None:
    """A URL whose scheme no backend answers to; the message says which there are."""
    with pytest.raises(BackendNotFound, match=r'no backend answers to oracle://.*memory://'), made_on('oracle://host/db'):
        pass


@pytest.mark.parametrize(
    ('url', 'meant'), [('postgre://host/db', 'postgresql'), ('sqllite:///x', 'sqlite'), ('reddis://h', 'redis')]
)
def test_a_misspelt_scheme(url: str, meant: str) -> None:
    """A URL whose scheme is nearly one that there is: the message asks whether that was meant."""
    with pytest.raises(BackendNotFound, match=rf'did you mean {meant}://\?'), made_on(url):
        pass


def made_on(url: str, **fields: Any) -> Job:
    """A job on this URL."""
    return Job('w1', coordination_config=CoordinationConfig(**{**FAST, 'backend': url, **fields}))


@pytest.mark.parametrize('pattern', [5, None, b'a', '', [], ['a', 5], [''], {'a': 1}])
def test_pattern(store: Store, pattern: Any) -> None:
    """A pattern that is not a string, or empty: nothing is registered, of a bulk call neither."""
    with store.job('a') as job:
        with pytest.raises(ConfigError, match='pattern'):
            job.register_task_lock(1, pattern)
        with pytest.raises(ConfigError, match='pattern'):
            job.register_task_locks_bulk([(1, 'a'), (2, pattern)])
        assert job.list_locks() == []


@pytest.mark.parametrize('days', [-1, 0, '7', True, float('nan'), float('inf'), 10**9])
def test_expiry(store: Store, days: Any) -> None:
    """A lock that expires before it begins, or never to be reckoned."""
    with store.job('a') as job:
        with pytest.raises(ConfigError, match=f'expires_in_days is {re.escape(repr(days))}'):
            job.register_task_lock(1, 'a', None, days)
        assert job.list_locks() == []


@pytest.mark.parametrize('lock', ['ab', (1,), (1, 'a', None, None, 5), 5, (1, 'a', 5), ([1], 'a')])
def test_bulk(store: Store, lock: Any) -> None:
    """Something in a bulk call that is not (task_id, pattern, reason)."""
    with store.job('a') as job:
        with pytest.raises(ConfigError, match=r'lock|reason|task id'):
            job.register_task_locks_bulk([(1, 'a'), lock])
        assert job.list_locks() == []


@pytest.mark.parametrize('creator', [None, '', 5])
def test_creator(store: Store, creator: Any) -> None:
    """No creator is an error, and does not mean everybody."""
    with store.job('a') as job:
        job.register_task_lock(1, 'a')
        with pytest.raises(ConfigError, match='creator is'):
            job.clear_locks_by_creator(creator)
        assert len(job.list_locks()) == 1


@pytest.mark.parametrize('task', [[1], {}, object(), 'a\0b', '\ud800', None, b'a', True, 7.0, ''])
def test_task_id(store: Store, task: Any) -> None:
    """An id that cannot be hashed or recorded, at the first touch."""
    with store.job('a') as job:
        for use in (
            job.can_claim_task,
            job.add_task,
            job.task_to_token,
            job.complete,
            lambda task: job.register_task_lock(task, 'a'),
        ):
            with pytest.raises(ConfigError, match='task id'):
                use(task)
        with pytest.raises(ConfigError, match='task id'):
            job.set_claim([1, task])
    assert store.claims == []


@pytest.mark.parametrize('kind', [lambda tasks: dict.fromkeys(tasks).keys(), iter, lambda tasks: (task for task in tasks)])
@pytest.mark.parametrize('call', ['set_claim', 'release_quarantined'])
def test_several_tasks_that_are_no_list(store: Store, call: str, kind: Callable[[list[int]], Any]) -> None:
    """An iterable that is no task either: the error says what is taken in its place, and none of it is read."""
    several = kind([1])
    with store.job('a') as job, pytest.raises(ConfigError, match=r'tasks is .*must be one task, or a list, tuple, set or range'):
        getattr(job, call)(several)
    assert list(several) == [1]


@pytest.mark.parametrize('tasks', ['abc', b'abc', 5, None, Task('abc')])
def test_tasks_of_a_loop(store: Store, tasks: Any) -> None:
    """What is no iterable of tasks: at the call, not at the first step, and no letter of a text becomes a task."""
    with store.job('a') as job, pytest.raises(ConfigError, match=rf'tasks is {re.escape(repr(tasks))}.*must be an iterable'):
        job.claim(tasks)

    async def loop() -> None:
        async with store.async_job('b') as job:
            with pytest.raises(ConfigError, match=rf'tasks is {re.escape(repr(tasks))}.*iterable or asynchronous iterable'):
                job.claim(tasks)

    asyncio.run(loop())
    assert store.claims == []


def test_an_asynchronous_set(store: Store) -> None:
    """A ``batch`` is over a set that is there: of an asynchronous iterable the error says what to do, on an event loop too."""

    async def letters() -> AsyncIterator[str]:
        yield 'a'

    async def loop() -> None:
        async with store.async_job('b') as job:
            with pytest.raises(ConfigError, match='read an asynchronous iterable into a list first'):
                job.batch(letters())  # type: ignore[arg-type]

    asyncio.run(loop())


def test_complete_without_a_beginning(store: Store) -> None:
    """A task that no node has begun cannot be complete. One that was claimed, or is complete already, can be."""
    with store.job('a') as job:
        with pytest.raises(ConfigError, match=r"task 'x': must have been begun .* call add_task"):
            job.complete('x')
        assert job.set_claim('y')
        job.complete('y')
        assert job.add_task('z')
        job.complete('z')
        job.complete('z')
        job.write_audit()

    async def complete() -> None:
        async with store.async_job('b') as job:
            with pytest.raises(ConfigError, match="task 'x': must have been begun"):
                await job.complete('x')

    asyncio.run(complete())
    assert set(store.audits) == {'y', 'z'}


def test_complete_once_more_without_the_claim(store: Store) -> None:
    """A task that is complete can be completed again, though its claim has been purged meanwhile."""
    with store.job('a') as job:
        assert job.add_task('z')
        job.complete('z')
        job.write_audit()
        deleted = job.purge(before=dt.datetime(9000, 1, 1, tzinfo=dt.UTC), kinds=['claim'])
        assert deleted == {'claim': 1}
        job.complete('z')
    assert set(store.audits) == {'z'}


def test_a_pattern_of_a_shell(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A pattern with * or ? and no wildcard of LIKE is registered as it is, with a warning."""
    with store.job('a') as job:
        job.register_task_locks_bulk([(1, 'gpu-*'), (2, ['node-?', 'a']), (3, 'a*%'), (4, 'b')])
        assert len(job.list_locks()) == 4
    assert event_log.flush(120)
    warned = [record.getMessage() for record in caplog.records if 'LIKE' in record.getMessage()]
    assert len(warned) == 1
    assert "very name: 'gpu-*', 'node-?'. Patterns are those of SQL LIKE: % is any number" in warned[0]


@pytest.mark.parametrize('kind', [Job, AsyncJob])
@pytest.mark.parametrize(
    ('name', 'function', 'allowed'),
    [
        ('on_rebalance', lambda one, two: None, 'callable with one argument or none'),
        ('on_assign', lambda: None, 'callable with one argument'),
        ('on_lost', lambda one, two: None, 'callable with one argument'),
        ('on_revoke', lambda one: None, 'callable with 2 arguments'),
        ('lock_provider', lambda: None, 'callable with one argument'),
    ],
)
def test_the_parameters_of_a_callback(kind: type[Job] | type[AsyncJob], name: str, function: Any, allowed: str) -> None:
    """A callback that cannot be called as it would be is refused at the construction, not at the first hand-over."""
    config = CoordinationConfig(backend='memory://')
    with pytest.raises(ConfigError, match=f'{name} is .*must be {allowed}'):
        kind('w1', coordination_config=config, **{name: function})


def test_callbacks_of_every_form() -> None:
    """What can be called with the arguments is taken: with defaults, with a star, bound, or built in."""
    functions: list[Callable[..., object]] = [lambda: None, lambda one, two=2: None, lambda *rest: None, [].append, print, dict]
    for function in functions:
        made(on_rebalance=function)


async def awaited(*_: object) -> None:
    """A coroutine function: a call of it does nothing."""


def generator(*_: object) -> Iterator[None]:
    """A generator function: a call of it does nothing."""
    yield


@pytest.mark.parametrize('name', ['on_rebalance', 'on_assign', 'on_lost', 'on_revoke', 'lock_provider', 'function'])
def test_a_function_that_would_run_nothing(name: str) -> None:
    """A generator is refused where a function is to have an effect, and by ``Job`` a coroutine function, in any wrapping."""
    config = CoordinationConfig(backend='memory://')

    def give(kind: type[Job] | type[AsyncJob], function: Any) -> None:
        if name == 'function':
            kind('w1', coordination_config=config).every(60, name='x')(function)
        else:
            kind('w1', coordination_config=config, **{name: function})

    for function in (awaited, partial(awaited), Awaited(), Awaited().method):
        give(AsyncJob, function)
        with pytest.raises(
            ConfigError, match=f'{name} is .*must be no generator, and no coroutine function, which AsyncJob takes'
        ):
            give(Job, function)
    for kind in (Job, AsyncJob):
        with pytest.raises(ConfigError, match=f'{name} is .*must be no generator'):
            give(kind, generator)


class Awaited:
    """An object whose calls return coroutines."""

    async def __call__(self, *_: object) -> None:
        """Do nothing."""

    method = __call__


@pytest.mark.parametrize('kind', [Job, AsyncJob])
def test_a_job_keeps_its_date(kind: type[Job] | type[AsyncJob]) -> None:
    """Another date that is given to the attribute would be shown, and all recorded under the one before."""
    job = kind('w1', coordination_config=CoordinationConfig(backend='memory://'), date=dt.date(2024, 1, 17))
    with pytest.raises(AttributeError):
        job.date = dt.date(2024, 1, 18)  # type: ignore[misc]
    assert job.date == dt.date(2024, 1, 17)


def test_a_loop_before_the_block() -> None:
    """A job that owns nothing yet does not pass over its tasks in silence."""
    with pytest.raises(JobsyncError, match="job 'w1' is used outside its with block"):
        list(made().claim([1]))

    async def loop() -> None:
        await anext(AsyncJob('w1', coordination_config=CoordinationConfig(backend='memory://')).claim([1]))

    with pytest.raises(JobsyncError, match="job 'w1' is used outside its with block"):
        asyncio.run(loop())


def test_the_other_form_of_a_block(store: Store) -> None:
    """``async with Job``, ``with AsyncJob`` and ``for`` over ``AsyncJob.claim`` name the right form."""

    async def enter() -> None:
        with pytest.raises(JobsyncError, match=r'job \'a\'.*by "with", not "async with".*AsyncJob'):
            async with store.job('a'):  # type: ignore[attr-defined]
                pass
        with pytest.raises(JobsyncError, match=r'job \'b\'.*by "async with", not "with".*Job'), store.async_job('b'):  # type: ignore[attr-defined]
            pass
        async with store.async_job('b') as job:
            with pytest.raises(JobsyncError, match='async for task in'):
                for _ in job.claim([1]):  # type: ignore[attr-defined]
                    pass
            with pytest.raises(JobsyncError, match=r'in "async with job\.task'), job.task(1):  # type: ignore[attr-defined]
                pass

    asyncio.run(enter())


def test_a_forgotten_await(store: Store) -> None:
    """``if job.add_task(x):`` on an event loop warns when the coroutine is dropped; type checkers find it (tests/typing)."""

    async def work() -> None:
        async with store.async_job('a') as job:
            with pytest.warns(RuntimeWarning, match=r'add_task.* was never awaited'):
                assert job.add_task(1)  # a coroutine, which counts as true

    asyncio.run(work())
    assert store.claims == []


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [('total_tokens', 61, 'total_tokens is 60 in the cluster and 61 here'), ('hash_function', 'md5', "'xxh3' in the cluster")],
)
def test_other_settings_than_the_clusters(store: Store, field: str, value: Any, message: str) -> None:
    """A node whose settings are not the cluster's is refused, and disturbs nobody; once all have left it may begin anew."""
    with store.job('a') as a:
        with pytest.raises(ConfigMismatch, match=message), store.job('b', config={field: value}):
            pass
        assert store.node_names == ['a']
        assert len(a.my_tokens) == TOKENS
    with store.job('b', config={field: value}) as b:
        assert len(b.my_tokens) == b.get_coordination_status()['total_tokens']


def test_duplicate_name(store: Store) -> None:
    """A second live node of one name is refused with the host and pid of the first, which is not disturbed."""
    with store.job('a') as first:
        tokens = first.my_tokens
        with pytest.raises(NodeNameInUse, match=r"'a' is in use by a live process \(pid \d+ on .+\)") as caught, store.job('a'):
            pass
        row = first.nodes[0]
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert len(traceback.extract_tb(caught.value.__traceback__)) <= 4
        assert (caught.value.name, caught.value.host, caught.value.pid) == ('a', row['host'], row['pid'])
        assert first.my_tokens is tokens


def test_name_of_a_dead_node(store: Store) -> None:
    """A node of the same name that makes no progress for its timeout is taken for dead, and the newcomer has its tokens."""
    with store.job('b') as b:
        with store.job('a') as a:
            before = a.my_tokens
        wait_until(lambda: store.node_names == ['b'], 'a is forgotten')
        # What a crash leaves behind: a record that nobody keeps up.
        crashed = Registration(NodeRef('a', 'crashed'), timeout_sec=2, host='elsewhere', pid=1)
        store.handle.register(crashed, store.handle.snapshot().timeline, 0)
        with store.job('a', wait_on_enter=60) as again:
            assert again.my_tokens == before
            wait_until(lambda: len(b.my_tokens) == TOKENS // 2, 'b has the rest')


def test_too_many_tokens_for_the_store(store: Store) -> None:
    """A pool larger than the backend declares to carry."""
    limit = store.handle.info.max_tokens
    with (
        pytest.raises(ConfigError, match=f'total_tokens is {limit + 1}: must be at most {limit}'),
        store.job('a', config={'total_tokens': limit + 1, 'appname': 'huge_'}),
    ):
        pass


@pytest.mark.parametrize('name', ['missing/jobs.db', 'folder', 'text.txt'])
def test_unusable_database_file(tmp_path: Path, name: str) -> None:
    """A database file that cannot be: no such folder, a folder, something else. The message names it."""
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'text.txt').write_text('not a database, but a text that is long enough to look at' * 50)
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / name))), made_on(f'sqlite:///{tmp_path / name}'):
        pass


def test_unwritable_database_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database file that this user may not write."""
    monkeypatch.setattr('os.access', lambda path, mode: False)  # tests may run as root, who may write anything
    with pytest.raises(ConfigError, match='cannot be written by this user'), made_on(f'sqlite:///{tmp_path / "jobs.db"}'):
        pass


def test_schema_from_the_future(tmp_path: Path) -> None:
    """Tables that a later version of jobsync has made."""
    url = f'sqlite:///{tmp_path / "jobs.db"}'
    with made_on(url):
        pass
    with closing(sqlite3.connect(tmp_path / 'jobs.db')) as connection, connection:
        connection.execute('UPDATE sync_state SET schema_version = 999')
    with pytest.raises(SchemaMismatch, match='schema version 999'), made_on(url):
        pass


SECRET = 'hunter2'


@pytest.mark.parametrize(
    'url',
    [
        f'oracle://user:{SECRET}@host/db',
        f'postgresql://user:{SECRET}@127.0.0.1:1/db',
        f'memory://user:{SECRET}@host',
        f'sqlite://user:{SECRET}@host/db',
        f'sqlite://user:{SECRET}@host/db?mode=ro',
    ],
)
def test_no_password_is_shown(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """No password of a URL is in an error, a log line or a repr."""
    caplog.set_level(logging.DEBUG)
    job = made_on(url, op_timeout_sec=0.1)
    with pytest.raises(JobsyncError) as caught, job:
        pass
    shown = [str(caught.value), repr(caught.value), repr(job), caplog.text, repr(vars(job)), repr(job._config)]
    error: BaseException | None = caught.value
    while error is not None:
        shown.append(repr(error))
        error = error.__cause__ or error.__context__
    assert not [text for text in shown if SECRET in text]


def test_a_store_that_is_away_is_told_before_patience_ends(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a store at the start reads once what is waited for, and not only in the error at the end."""
    # A starved machine may make few calls before patience ends, and none just before: so the first is logged already.
    monkeypatch.setattr(store_calls, '_QUIET_SEC', 0.0)
    monkeypatch.setattr(store_calls, '_RARER', 1e9)
    with pytest.raises(BackendUnavailable), made_on('postgresql://user@127.0.0.1:1/db', op_timeout_sec=2):
        pass
    assert event_log.flush(120)
    told = [record.getMessage() for record in caplog.records if record.name == 'jobsync.job']
    assert len(told) == 1
    assert re.match(r'calling the store again: postgresql host=127\.0\.0\.1 port=1 .*refused', told[0])
