"""What a user of a Redis server must be allowed, and that it takes no more."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from tests.backends.redis_calls import DAY, Waiting, everything, listed_commands
from tests.backends.redis_jobs import Cluster
from tests.support.harnesses.redis import RedisHarness
from tests.support.observing import QUESTIONS, changes_nothing, observer, sees_what_there_is, something_to_see
from tests.support.servers import RedisServer, SentinelServer
from tests.support.waiting import eventually

from jobsync._core.assignment import TokenGroup
from jobsync._core.records import Eviction, HistoryKind, LockEdit, LockFilter, LockRequest, Member, Pin
from jobsync._event_log import event_log
from jobsync.backend import BackendOptions
from jobsync.backends.redis.plugin import connect
from jobsync.errors import ConfigError
from jobsync.fencing import StaleFence, redis_set
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace, purged

pytestmark = pytest.mark.redis

PAGE = (Path(__file__).parents[2] / 'docs' / 'operate' / 'redis.md').read_text(encoding='utf-8')
WORDS = PAGE[PAGE.index('ACL SETUSER jobsync') :].partition('```')[0].split()
RULES = WORDS[WORDS.index('>PASSWORD') + 1 :]
"""What the page grants."""
COMMANDS = [rule[1:] for rule in RULES if rule.startswith('+')]
OPTIONAL = {'publish', 'subscribe'}
ALWAYS = {'auth', 'hello', 'quit', 'reset'}
"""Commands that every connection may give."""

LOOKING = PAGE[PAGE.index('ACL SETUSER watcher') :].partition('```')[0].split()
TO_LOOK = LOOKING[LOOKING.index('>PASSWORD') + 1 :]
"""What the page grants to a user who only looks."""

REFUSED = '(?i)no permissions|can.t access|NOPERM'


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    return redis_server


@pytest.fixture
def harness(server: RedisServer) -> Iterator[RedisHarness]:
    harness = RedisHarness(server)
    yield harness
    harness.close()


def user(server: RedisServer, *rules: str, db: int = 0) -> str:
    """The URL of a user with these rules."""
    server.ask('ACL', 'SETUSER', 'node', 'reset', 'on', '>p@ss', *rules)
    return f'redis://node:p%40ss@127.0.0.1:{server.port}/{db}'


def commands(server: RedisServer) -> dict[str, int]:
    """Every command and subcommand of a server, and how many words it takes at least."""
    names = server.ask('COMMAND', 'LIST').split('\n')
    containers = {name.partition('|')[0] for name in names if '|' in name}
    return {name: abs(int(server.ask('COMMAND', 'INFO', name).split('\n')[1])) for name in {*names} - containers}


class TestPage:
    """The rules that the page prints are enough, and no more than enough."""

    def test_they_are_enough_for_every_call(self, harness: RedisHarness, server: RedisServer) -> None:
        """A user with these rights, who cannot ask how the server is configured, does all that a node does."""
        for query in ('', '?durable=yes'):
            with closing(connect(user(server, *RULES) + query, BackendOptions())) as backend:
                everything(backend)

    def test_scripts_ask_with_as_many_words_as_a_command_takes(self, server: RedisServer) -> None:
        """Of a command that lacks an argument newer servers, such as Debian's 8.0.2-3+deb13u3, give an error for an answer."""
        words = commands(server)
        assert [(name, 1 + count) for name, count in listed_commands().items()] == [
            (name, words[name.lower()]) for name in listed_commands()
        ]

    def test_they_are_enough_for_jobs(self, harness: RedisHarness, server: RedisServer) -> None:
        """Two jobs share tasks, claim, audit, lock and leave; nothing they try is refused."""
        url = user(server, *RULES)
        server.ask('ACL', 'LOG', 'RESET')
        with Cluster(url, 'ab') as cluster:
            eventually(lambda: cluster.is_shared_out)
            job = cluster.jobs[0]
            task = next(task for task in range(200) if job.can_claim_task(task))
            job.register_task_lock(task, 'b', reason='test')
            eventually(lambda: cluster.jobs[1].can_claim_task(task))
            job = cluster.jobs[1]
            job.set_claim(task)
            job.set_claim(task + 1)
        assert server.ask('ACL', 'LOG') == ''

    def test_all_else_is_refused(self, harness: RedisHarness, server: RedisServer) -> None:
        """Of all commands that the server has, the user may give those that are listed."""
        user(server, *RULES)
        found = commands(server)
        allowed = set()
        for name, words in found.items():
            arguments = ['jobsync:{sync_}:state'] * (words - 1 - name.count('|'))
            answer = server.ask('ACL', 'DRYRUN', 'node', *name.split('|'), *arguments)
            if 'has no permissions to run' not in answer:
                allowed.add(name)
        assert allowed == {*COMMANDS, *ALWAYS} & found.keys()
        assert set(COMMANDS) <= found.keys()

    @pytest.mark.parametrize(
        'command',
        ['FLUSHALL', 'FLUSHDB', 'SWAPDB 0 1', 'CLIENT KILL TYPE normal', 'CLIENT PAUSE 1', 'CLIENT LIST', 'SCRIPT FLUSH',
         'SCRIPT KILL', 'FUNCTION FLUSH', 'CONFIG GET requirepass', 'CONFIG SET dir /', 'ACL LIST',
         'KEYS *', 'SCAN 0', 'RANDOMKEY', 'DBSIZE',
         'MIGRATE h 1 jobsync:{sync_}:state 0 1', 'SAVE', 'REPLICAOF NO ONE', 'SHUTDOWN', 'MONITOR',
         'GET another', 'RENAME jobsync:{sync_}:state another', 'SELECT 1', 'PUBLISH another x',
         'EVAL return{redis.call("FLUSHALL")} 0', 'EVAL return{redis.call("GET","another")} 0'],
    )  # fmt: skip
    def test_what_reaches_further(self, harness: RedisHarness, server: RedisServer, command: str) -> None:
        """The user is refused what would reach beyond the namespace, in a script too."""
        with closing(redis.Redis.from_url(user(server, *RULES))) as client, pytest.raises(redis.ResponseError, match=REFUSED):
            client.execute_command(*command.split())  # type: ignore[no-untyped-call]

    @pytest.mark.parametrize('right', sorted({*COMMANDS} - OPTIONAL))
    def test_none_is_too_much(self, harness: RedisHarness, server: RedisServer, right: str) -> None:
        """A right that is missing is told when the store is opened, before anything is written."""
        server.ask('SCRIPT', 'FLUSH')
        backend = connect(user(server, *RULES, f'-{right}'), BackendOptions())
        with closing(backend), pytest.raises(ConfigError, match='may not'):
            backend.open(SETTINGS, create=True)
        assert server.ask('KEYS', '*:state') == ''

    @pytest.mark.parametrize('right', ['del', 'hset', 'hdel', 'hincrby', 'rpush', 'zadd', 'zrem', 'zlexcount', 'time', 'info'])
    def test_a_right_that_is_taken_away(self, harness: RedisHarness, server: RedisServer, right: str) -> None:
        """Later calls are refused, and write nothing by halves."""
        with (
            closing(connect(user(server, *RULES), BackendOptions())) as backend,
            closing(connect(server.url(), BackendOptions())) as own,
        ):
            namespace, others = Namespace(backend), Namespace(own)
            leader, left, dead = namespace.leader(), namespace.join('left'), namespace.join('dead')
            backend.deregister(left)
            namespace.lock('x', 'y')
            namespace.commit(
                leader, TokenGroup([1], 'a'), members={'a': Member('1', 15.0)}, pins=(Pin(TOKENS + 1, 'x', 'a'),), moved=1
            )
            backend.append_claims(leader, ['x', 'y'], DAY)
            backend.append_audits('leader', ['x'], DAY)
            plan = namespace.plan(
                TokenGroup([2], 'b'),
                members={'a': None, 'b': Member('2', 15.0)},
                pins=(Pin(TOKENS + 2, 'y', 'b'),),
                unpinned=frozenset({TOKENS + 1}),
                evictions=(Eviction(dead, 0),),
                departed=(left,),
                moved=1,
            )
            guard, now = namespace.guard(), backend.snapshot().now
            user(server, *RULES, f'-{right}')
            calls: list[Callable[[], object]] = [
                lambda: namespace.beat(leader),
                lambda: namespace.join('new'),
                lambda: backend.deregister(leader),
                lambda: backend.remove_node(leader),
                lambda: backend.acquire_leadership(leader, 1),
                lambda: backend.commit(leader, plan, guard),
                lambda: namespace.lock('z'),
                lambda: backend.edit_locks(LockEdit(remove=LockFilter(), put=(LockRequest('z', ('a',), 'me'),))),
                lambda: backend.append_claims(leader, ['z'], DAY),
                lambda: backend.append_audits('leader', ['y'], DAY),
                lambda: purged(backend, HistoryKind.AUDIT, now + dt.timedelta(hours=1)),
                lambda: backend.renew_timeline(namespace.timeline, 0),
            ]
            for call in calls:
                with others.unchanged(), pytest.raises(ConfigError, match='may not'):
                    call()
            user(server, *RULES)
            backend.commit(leader, plan, guard)

    def test_another_database(self, harness: RedisHarness, server: RedisServer) -> None:
        """It takes one more right."""
        with (
            closing(connect(user(server, *RULES, db=1), BackendOptions())) as backend,
            pytest.raises(ConfigError, match='select'),
        ):
            backend.open(SETTINGS, create=True)
        with closing(connect(user(server, *RULES, '+select', db=1), BackendOptions())) as backend:
            everything(backend)

    def test_durable_without_a_log(self, server: RedisServer) -> None:
        """A user who may not read the settings learns from what each may read that the server keeps nothing."""
        server.ask('CONFIG', 'SET', 'appendonly', 'no')
        try:
            with (
                closing(connect(f'{user(server, *RULES)}?durable=yes', BackendOptions())) as backend,
                pytest.raises(ConfigError, match='appendonly no'),
            ):
                backend.open(SETTINGS, create=True)
        finally:
            server.ask('CONFIG', 'SET', 'appendonly', 'yes')
            eventually(lambda: 'aof_rewrite_in_progress:0' in server.ask('INFO', 'persistence'))

    def test_fences(self, harness: RedisHarness, server: RedisServer) -> None:
        """The rules for the fence helper are enough for it."""
        rules = ['~result:*', '~fence:{result:*}', '+eval', '+get', '+set']
        assert all(f'`{part}`' in ' '.join(PAGE.split()) for part in (' '.join(rules[:2]), ' '.join(rules[2:])))
        with closing(redis.Redis.from_url(user(server, *rules))) as client:
            redis_set(client, 'result:x', 'new', 2)
            with pytest.raises(StaleFence):
                redis_set(client, 'result:x', 'old', 1)
        assert server.ask('GET', 'result:x') == 'new'

    def test_sentinels(self, server: RedisServer) -> None:
        """A user of a sentinel with the rights of the page finds the master; without one, the error says what is missing."""
        rules = '+sentinel|get-master-addr-by-name +client|setname'
        assert f'`{rules}`' in ' '.join(PAGE.split())
        with closing(RedisServer(server.program)) as master, closing(SentinelServer(master)) as sentinel:
            sentinel.ask('ACL', 'SETUSER', 'finder', 'reset', 'on', '>found', *rules.split())
            url = sentinel.url(query='sentinel_username=finder&sentinel_password=found')
            with closing(connect(url, BackendOptions())) as backend:
                Namespace(backend).join('a')
            sentinel.ask('ACL', 'SETUSER', 'default', 'resetpass', '>other')
            with pytest.raises(ConfigError, match='sentinel_password'):
                connect(sentinel.url(), BackendOptions()).open(SETTINGS, create=True)


class TestLooking:
    """Who only looks needs no right to write."""

    @pytest.fixture
    def namespace(self, harness: RedisHarness) -> Namespace:
        """Return one with a record of each kind."""
        return something_to_see(harness.connect())

    def test_the_page_grants_enough_to_look(self, namespace: Namespace, server: RedisServer) -> None:
        """Nothing that is read is refused."""
        server.ask('ACL', 'LOG', 'RESET')
        with observer(user(server, *TO_LOOK)) as cluster, observer(server.url()) as own:
            sees_what_there_is(cluster, own)
        assert server.ask('ACL', 'LOG') == ''

    @pytest.mark.parametrize('right', sorted({rule[1:] for rule in TO_LOOK if rule.startswith('+')} - OPTIONAL))
    def test_the_page_grants_no_more_than_that(self, namespace: Namespace, server: RedisServer, right: str) -> None:
        """Without any of its rights something is not read, and the error says why."""
        server.ask('SCRIPT', 'FLUSH')
        with observer(user(server, *TO_LOOK, f'-{right}')) as cluster, pytest.raises(ConfigError, match='may not'):
            for question in QUESTIONS.values():
                question(cluster)

    def test_who_may_only_look_changes_nothing(self, namespace: Namespace, server: RedisServer) -> None:
        """Each change is refused before anything is written, and so is a node."""
        with observer(user(server, *TO_LOOK)) as cluster:
            changes_nothing(cluster, namespace)
        with closing(connect(user(server, *TO_LOOK), BackendOptions())) as backend, pytest.raises(ConfigError, match='may not'):
            backend.open(SETTINGS, create=True)

    def test_after_a_failover(self, namespace: Namespace, server: RedisServer) -> None:
        """A user who may not write down that the server is another one reads what a node reads, and the next node writes it."""
        server.ask('HSET', 'jobsync:{sync_}:state', 'replication', '0' * 40)
        with observer(user(server, *TO_LOOK)) as cluster:
            assert [node['name'] for node in cluster.nodes()] == ['leader']
        assert server.ask('HGET', 'jobsync:{sync_}:state', 'replication') == '0' * 40
        namespace.snapshot()
        assert server.ask('HGET', 'jobsync:{sync_}:state', 'replication') != '0' * 40

    def test_a_server_whose_memory_is_full(self, namespace: Namespace, server: RedisServer) -> None:
        """An operator sees the cluster whose nodes it refuses, also before a node could write down that the server restarted."""
        server.ask('HSET', 'jobsync:{sync_}:state', 'replication', '0' * 40)
        server.ask('CONFIG', 'SET', 'maxmemory', '1')
        try:
            with observer(server.url()) as cluster:
                for question in QUESTIONS.values():
                    question(cluster)
        finally:
            server.ask('CONFIG', 'SET', 'maxmemory', '0')


class TestRights:
    """What a user must be allowed."""

    def test_another_namespace(self, harness: RedisHarness, server: RedisServer) -> None:
        """A user who may not touch the keys of a namespace is told so."""
        backend = connect(user(server, *RULES), BackendOptions('other_'))
        with closing(backend), pytest.raises(ConfigError):
            backend.open(SETTINGS, create=True)

    def test_a_right_that_comes_back(self, harness: RedisHarness, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """A node that may not listen for a moment polls, and listens again later."""
        monkeypatch.setattr('jobsync.backends.redis.listener.AGAIN_SEC', 0.5)
        monkeypatch.setattr('jobsync.backends._common.listening.POLL_SEC', 0.05)

        def listeners() -> int:
            return server.ask('CLIENT', 'LIST', 'TYPE', 'pubsub').count('user=node')

        with closing(connect(user(server, *RULES), BackendOptions())) as backend:
            namespace = Namespace(backend)
            number = namespace.revision.number
            assert backend.wait(number, 0.1) == number
            server.ask('ACL', 'SETUSER', 'node', '-subscribe')
            server.ask('CLIENT', 'KILL', 'TYPE', 'pubsub')
            assert backend.wait(number, 1.0) == number
            assert listeners() == 0
            server.ask('ACL', 'SETUSER', 'node', '+subscribe')
            eventually(lambda: backend.wait(number, 0.2) == number and listeners() == 1)

    @pytest.mark.parametrize('without', ['-publish', '-subscribe', 'resetchannels'])
    def test_without_announcements(
        self, harness: RedisHarness, server: RedisServer, without: str,
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        """Who may not announce or listen finds changes all the same, and one line says that they are looked for."""
        monkeypatch.setattr('jobsync.backends._common.listening.POLL_SEC', 0.05)
        with (
            caplog.at_level(logging.INFO, 'jobsync.backends.redis'),
            closing(connect(user(server, *RULES, without), BackendOptions())) as backend,
        ):
            namespace = Namespace(backend)
            for name in 'ab':
                revision = namespace.revision.number
                waiting = Waiting(backend, revision)
                namespace.join(name)
                assert waiting.answer() == revision + 1
            assert event_log.flush(120)
        assert len([record for record in caplog.records if 'polling every' in record.message]) == 1
