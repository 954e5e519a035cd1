"""What a user of etcd must be allowed, that it takes no more, and that nodes at work outlast being refused."""

from __future__ import annotations

import contextlib
import datetime as dt
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.backends.redis_jobs import Cluster
from tests.job.waiting import wait_until
from tests.support.observing import changes_nothing, observer, sees_what_there_is, something_to_see
from tests.support.servers import EtcdServer
from tests.support.timings import FAST

from jobsync import CoordinationConfig, Job
from jobsync._core.assignment import TokenGroup
from jobsync._core.records import Eviction, HistoryKind, LockEdit, LockFilter, Member, NodeRef, Pin, Revision
from jobsync.backend import Backend, BackendOptions
from jobsync.backends.etcd import channel
from jobsync.backends.etcd.backend import EtcdBackend
from jobsync.backends.etcd.plugin import connect
from jobsync.errors import BackendUnavailable, ConfigError
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace, purged

pytestmark = pytest.mark.etcd

PAGE = (Path(__file__).parents[2] / 'docs' / 'operate' / 'etcd.md').read_text(encoding='utf-8')
COMMANDS = [shlex.split(line)[1:] for line in PAGE.splitlines() if line.startswith(('etcdctl role', 'etcdctl user'))]
"""What the page tells an operator to do."""
AS_ROOT, AS_NODE = '--user=root:root', '--user=jobsync:PASSWORD'
DAY = dt.date(2026, 3, 2)
DEADLINE_SEC = 120.0

REFUSED = (
    *(
        'get x',
        'get --prefix jobsync/',
        'get jobsync/other_/state',
        'get --from-key jobsync/sync_/',
        'watch x --command-timeout=1s',
    ),
    *(
        'put x 2',
        'put jobsync/other_/state 2',
        'put jobsync/sync_0 2',
        'del x',
        'del --prefix jobsync/',
        'del --prefix jobsync/other_/',
    ),
    *('user list', 'user add evil --new-user-password=x', 'user delete root', 'user get root', 'user grant-role jobsync root'),
    *('role list', 'role add evil', 'role delete jobsync', 'role get root', 'role grant-permission jobsync readwrite x'),
    *('auth disable', 'auth status', 'member add evil --peer-urls=http://127.0.0.1:1', 'member remove 1', 'defrag'),
    *('snapshot save {}', 'endpoint hashkv'),
)
"""What the page says that etcd refuses."""
LET_TO_ALL = ('compact 2', 'alarm list', 'alarm disarm', 'lease grant 10', 'member list')
"""What the page says that etcd lets anybody do who is logged in; to make another member the leader is not tried with one."""


@pytest.fixture
def server() -> Iterator[EtcdServer]:
    """A server with the user of the page, and keys of others; nobody has to log in yet."""
    server = EtcdServer()
    server.ctl('put', 'x', '1')
    server.ctl('put', 'jobsync/other_/state', '1')
    server.ctl('user', 'add', 'root', '--new-user-password=root')
    server.ctl('user', 'grant-role', 'root', 'root')
    for command in COMMANDS:
        server.ctl(*command)
    yield server
    server.close()


@pytest.fixture
def guarded(server: EtcdServer) -> EtcdServer:
    """Everybody has to log in."""
    server.ctl('auth', 'enable')
    return server


def everything(backend: Backend) -> None:
    """Make every call that there is."""
    namespace = Namespace(backend)
    leader, dead, left = namespace.leader(), namespace.join('dead'), namespace.join('left')
    namespace.beat(leader, namespace.revision, {1})
    backend.set_weight(leader, 2.0)
    backend.deregister(left)
    backend.remove_node(namespace.join('removed'))
    namespace.lock('x', expires_in=dt.timedelta(days=1))
    members = {'leader': Member(leader.incarnation, 15.0)}
    pins = (Pin(TOKENS + 1, 'x', 'leader'),)
    evictions = (Eviction(dead, 0),)
    namespace.commit(
        leader, TokenGroup(range(9), 'leader'), members=members, pins=pins, evictions=evictions, departed=(left,), moved=9
    )
    for step in range(40):  # the whole is written anew
        namespace.commit(leader, TokenGroup([step % TOKENS], 'leader'))
    backend.append_claims(leader, ['x', 'y'], DAY)
    backend.append_audits('leader', ['x'], DAY)
    assert [claim.item for claim in backend.incomplete(DAY, dt.timedelta(0))] == ['y']
    namespace.state()
    assert [purged(backend, kind, backend.snapshot().now) for kind in HistoryKind] == [1, 1, 1]
    assert backend.edit_locks(LockEdit(remove=LockFilter())) == 1
    assert backend.wait(0, DEADLINE_SEC) > 0
    assert isinstance(backend, EtcdBackend)
    assert backend.read_space().versions > 0
    backend.renew_timeline(namespace.timeline, 0)


class TestPage:
    """The permission that the page grants is enough, and no more than enough."""

    def test_it_is_enough_for_every_call(self, guarded: EtcdServer) -> None:
        """A user with it does all that a node does."""
        with closing(connect(guarded.url('jobsync:PASSWORD'), BackendOptions())) as backend:
            everything(backend)

    def test_it_is_enough_for_jobs(self, guarded: EtcdServer) -> None:
        """Two jobs share tasks, claim, complete, lock, and leave."""
        url = guarded.url('jobsync:PASSWORD')
        with Cluster(url, 'ab') as cluster:
            wait_until(lambda: cluster.is_shared_out, 'all is shared out', DEADLINE_SEC)
            one, other = cluster.jobs
            task = next(task for task in range(200) if one.can_claim_task(task))
            one.register_task_lock(task, 'b', reason='test', expires_in_days=1)
            wait_until(lambda: other.can_claim_task(task), 'the lock moves its task', DEADLINE_SEC)
            assert other.add_task(task)
            other.write_audit()
            assert {node['name'] for node in one.get_active_nodes()} == {'a', 'b'}
        with closing(connect(url, BackendOptions())) as backend:
            assert len(backend.history(HistoryKind.AUDIT)) == 1

    @pytest.mark.parametrize('rule', [[], ['read'], ['write']])
    def test_less_is_not(self, guarded: EtcdServer, rule: list[str]) -> None:
        """The error says which permission is missing."""
        guarded.ctl(AS_ROOT, 'role', 'revoke-permission', 'jobsync', '--prefix=true', 'jobsync/sync_/')
        for kind in rule:
            guarded.ctl(AS_ROOT, 'role', 'grant-permission', 'jobsync', '--prefix=true', kind, 'jobsync/sync_/')
        with (
            closing(connect(guarded.url('jobsync:PASSWORD'), BackendOptions())) as backend,
            pytest.raises(ConfigError, match='grant its role readwrite'),
        ):
            backend.open(SETTINGS, create=True)

    def test_to_look_takes_less(self, server: EtcdServer) -> None:
        """A user with the permission to read sees all that there is, and changes nothing."""
        assert 'needs the same with `read` in place of `readwrite`' in ' '.join(PAGE.split())
        namespace = something_to_see(connect(server.url(), BackendOptions()))
        watcher = [
            [word.replace('jobsync', 'watcher') if word == 'jobsync' else word for word in command] for command in COMMANDS
        ]
        for command in watcher:
            server.ctl(*('read' if word == 'readwrite' else word for word in command))
        server.ctl('auth', 'enable')
        with (
            observer(server.url('watcher:PASSWORD')) as cluster,
            observer(server.url('jobsync:PASSWORD')) as own,
            closing(connect(server.url('jobsync:PASSWORD'), BackendOptions())) as backend,
        ):
            namespace.backend.close()
            namespace.backend = backend
            sees_what_there_is(cluster, own)
            changes_nothing(cluster, namespace)

    def test_all_else_is_refused(self, guarded: EtcdServer, tmp_path: Path) -> None:
        """Other keys, users, roles, members, maintenance; what etcd refuses to nobody is what the page says."""
        for command in REFUSED:
            said = guarded.ctl(AS_NODE, *command.format(tmp_path / 'snapshot').split(), check=False)
            assert 'permission denied' in said.lower().replace('permissiondenied', 'permission denied'), (command, said)
        for command in LET_TO_ALL:
            assert 'denied' not in guarded.ctl(AS_NODE, *command.split()).lower(), command
        assert guarded.ctl(AS_ROOT, 'get', 'x', '--print-value-only').strip() == '1'


def standing(backend: Backend) -> tuple[set[NodeRef], Revision]:
    """Which runs there are, and the version of what they own."""
    snapshot = backend.snapshot()
    return {node.ref for node in snapshot.nodes}, snapshot.version


def beats(backend: Backend) -> dict[str, int]:
    """The heartbeats of all nodes, as far as they can be read."""
    with contextlib.suppress(BackendUnavailable, ConfigError):
        return {node.name: node.heartbeat for node in backend.snapshot().nodes}
    return {}


def go_on(backend: Backend) -> Callable[[], bool]:
    """Whether all nodes have sent several heartbeats since now."""
    last = beats(backend)

    def have_beaten() -> bool:
        now = beats(backend)
        return bool(last) and all(now.get(name, 0) > count + 2 for name, count in last.items())

    return have_beaten


@contextlib.contextmanager
def another_password(server: EtcdServer) -> Iterator[None]:
    """The user's password is another one for a while."""
    set_password(server, 'another')
    yield
    set_password(server, 'PASSWORD')


def set_password(server: EtcdServer, password: str) -> None:
    """Make the user anew. etcd 3.5.1 sometimes does what is requested of its users and does not answer: then ask again."""
    for step in (
        ['delete', 'jobsync'],
        ['add', 'jobsync', f'--new-user-password={password}'],
        ['grant-role', 'jobsync', 'jobsync'],
    ):
        for _ in range(5):
            said = server.ctl(AS_ROOT, 'user', *step, '--command-timeout=20s', check=False)
            if 'deadline exceeded' not in said:
                break
    assert 'jobsync' in server.ctl(AS_ROOT, 'user', 'get', 'jobsync').partition('Roles:')[2]


@contextlib.contextmanager
def no_rights(server: EtcdServer) -> Iterator[None]:
    """The role loses its permission for a while."""
    server.ctl(AS_ROOT, 'role', 'revoke-permission', 'jobsync', '--prefix=true', 'jobsync/sync_/')
    yield
    server.ctl(AS_ROOT, 'role', 'grant-permission', 'jobsync', '--prefix=true', 'readwrite', 'jobsync/sync_/')


@contextlib.contextmanager
def no_role(server: EtcdServer) -> Iterator[None]:
    """The user has no role for a while."""
    server.ctl(AS_ROOT, 'user', 'revoke-role', 'jobsync', 'jobsync')
    yield
    server.ctl(AS_ROOT, 'user', 'grant-role', 'jobsync', 'jobsync')


REFUSALS: dict[str, Callable[[EtcdServer], contextlib.AbstractContextManager[None]]] = {
    'another password': another_password,
    'no rights': no_rights,
    'no role': no_role,
}


class TestRunning:
    """Nodes at work are let in no more for a while."""

    @pytest.mark.parametrize('refusal', ['another password', 'no rights', pytest.param('no role', marks=pytest.mark.full)])
    def test_for_longer_than_a_timeout(self, guarded: EtcdServer, refusal: str) -> None:
        """They answer False meanwhile; afterwards the runs, the version and each owner are those from before."""
        with (
            Cluster(guarded.url('jobsync:PASSWORD'), 'abc') as cluster,
            closing(connect(guarded.url('root:root'), BackendOptions())) as handle,
        ):
            wait_until(lambda: cluster.is_shared_out, 'all is shared out', DEADLINE_SEC)
            before, owners = standing(handle), cluster.owners()
            with REFUSALS[refusal](guarded):
                began = time.monotonic()
                wait_until(lambda: not any(cluster.owners().values()), 'nobody owns', DEADLINE_SEC)
                wait_until(lambda: time.monotonic() - began > 1.5 * FAST['heartbeat_timeout_sec'], 'a timeout', DEADLINE_SEC)
            wait_until(lambda: cluster.is_shared_out, 'all is shared out again', DEADLINE_SEC)
            wait_until(go_on(handle), 'all beat again', DEADLINE_SEC)
            assert standing(handle) == before
            assert cluster.owners() == owners
            assert cluster.watch.clashes == []

    def test_users_are_wanted_and_wanted_no_more(self, server: EtcdServer) -> None:
        """Nodes whose URL names a user go on with the same tokens when authentication is enabled, and when it is disabled."""
        with (
            Cluster(server.url('jobsync:PASSWORD'), 'ab') as cluster,
            closing(connect(server.url('root:root'), BackendOptions())) as handle,
        ):
            wait_until(lambda: cluster.is_shared_out, 'all is shared out', DEADLINE_SEC)
            before, owners = standing(handle), cluster.owners()
            for command in (('auth', 'enable'), (AS_ROOT, 'auth', 'disable')):
                server.ctl(*command)
                wait_until(lambda: beats(handle), 'the server answers', DEADLINE_SEC)
                wait_until(go_on(handle), 'all go on', DEADLINE_SEC)
                wait_until(lambda: cluster.is_shared_out, 'all is shared out', DEADLINE_SEC)
                assert standing(handle) == before
                assert cluster.owners() == owners
            assert cluster.watch.clashes == []

    def test_tokens_that_end(self, guarded: EtcdServer) -> None:
        """A server that is started again knows no token that it gave: nodes log in anew, and go on as they were."""
        with (
            Cluster(guarded.url('jobsync:PASSWORD'), 'ab') as cluster,
            closing(connect(guarded.url('root:root'), BackendOptions())) as handle,
        ):
            wait_until(lambda: cluster.is_shared_out, 'all is shared out', DEADLINE_SEC)
            before, owners = standing(handle), cluster.owners()
            for _ in range(2):
                guarded.kill()
                guarded.start()
                wait_until(lambda: beats(handle), 'the server answers', DEADLINE_SEC)
                wait_until(go_on(handle), 'all go on', DEADLINE_SEC)
                wait_until(lambda: cluster.is_shared_out, 'all is shared out', DEADLINE_SEC)
            assert standing(handle) == before
            assert cluster.owners() == owners
            assert cluster.watch.clashes == []

    def test_a_refused_login_is_not_repeated_at_once(self, guarded: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """For a while the answer is the one before, so that a crowd with a wrong password does not keep the server busy."""
        monkeypatch.setattr(channel, 'LOGIN_PAUSE_SEC', 3600.0)
        with closing(connect(guarded.url('jobsync:PASSWORD'), BackendOptions())) as backend:
            set_password(guarded, 'another')
            with pytest.raises(ConfigError, match='check user and password'):
                backend.open(SETTINGS, create=True)
            set_password(guarded, 'PASSWORD')
            with pytest.raises(ConfigError, match=r'check user and password.*a moment ago'):
                backend.open(SETTINGS, create=True)

    def test_at_the_first_start(self, guarded: EtcdServer) -> None:
        """A wrong password is an error at once, that says what to do, and shows no password."""
        config = CoordinationConfig(backend=guarded.url('jobsync:wrongsecret'), **FAST)
        with pytest.raises(ConfigError, match='check user and password') as caught, Job('a', coordination_config=config):
            pytest.fail('it was let in')
        assert 'wrongsecret' not in str(caught.value)
