"""The commands that look at a cluster: their output, their JSON and their exit statuses."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import attrs
import click
import pytest
from click.testing import CliRunner
from tests.cli.conftest import invoke

from jobsync import Cluster, plugins
from jobsync._runtime.leader_record import record_leader
from jobsync.backend import BackendOptions, Pin, Snapshot, Space, TokenGroup
from jobsync.backends.memory import MemoryBackend
from jobsync.backends.sql.backend import SqlBackend
from jobsync.backends.sql.store import Busy
from jobsync.cli.commands import cli
from jobsync.cli.common import cluster_command
from jobsync.cli.doctor import _space
from jobsync.cli.dump import read_parts
from jobsync.errors import BackendUnavailable
from jobsync.rows import ClusterStatus
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import DAY, TOKENS


def lock(namespace: Namespace) -> None:
    """Lock the task x to nodes that do not exist."""
    namespace.lock('x', patterns=('gpu-%',))
    leader = namespace.snapshot().leadership.node
    assert leader is not None
    namespace.commit(leader, pins=(Pin(TOKENS + namespace.locks()['x'].id, 'x', None),))


COMMANDS = ('status', 'nodes', 'tokens', 'items', 'rebalances', 'claims', 'audit', 'incomplete', 'plan', 'doctor', 'dump')


@pytest.mark.parametrize('command', [*COMMANDS, 'history', 'history 7', 'locks list', 'quarantine list', 'why 7'])
def test_json_is_json(url: str, namespace: Namespace, command: str) -> None:
    """Every command that reads prints JSON if requested, and nothing else."""
    arguments = command.split() + ([] if command == 'dump' else ['--json'])
    result = invoke(url, *arguments)
    assert result.exit_code in (0, 3)
    json.loads(result.stdout)


@pytest.mark.parametrize('command', [*COMMANDS, 'history', 'history 7', 'locks list', 'quarantine list', 'why 7'])
def test_errors_are_one_line(url: str, command: str) -> None:
    """A namespace that does not exist is an error of one line, and the exit status is 1; in a dump the error is content."""
    result = invoke(url, *command.split())
    if command in ('dump', 'doctor'):
        assert 'SchemaMismatch' in result.stdout
    else:
        assert result.exit_code == 1
        assert result.stderr.count('\n') == 1
        assert 'no namespace' in result.stderr


def test_a_timeout_is_one_for_bulk_calls_too(tmp_path: Path) -> None:
    """Where another process has the store to itself, a command ends in a time that follows from ``--timeout``."""

    @click.command()
    @cluster_command
    def probe(cluster: Cluster) -> None:
        backend = cluster._backend
        assert isinstance(backend, SqlBackend)
        click.echo(f'{backend._options.op_timeout_sec:g} {backend._options.bulk_timeout_sec:g}')

    store = ['--backend', f'sqlite:///{tmp_path}/jobs.db']
    assert CliRunner().invoke(probe, store).stdout == '5 60\n'
    assert CliRunner().invoke(probe, [*store, '--timeout', '0.5']).stdout == '0.5 6\n'
    assert CliRunner().invoke(probe, [*store, '--timeout', '3600']).stdout == '3600 3600\n'


def test_nothing_incomplete_is_said_of_the_age_that_was_asked_for(url: str, namespace: Namespace) -> None:
    """A task that was begun a moment ago is incomplete, and younger than the default age."""
    namespace.backend.append_claims(namespace.node('a').ref, ['7'], DAY)
    assert invoke(url, 'incomplete').stdout == 'nothing that was begun over 300 s ago is incomplete\n'
    assert '7' in invoke(url, 'incomplete', '--older-than', '0').stdout
    namespace.backend.append_audits('a', ['7'], DAY)
    assert invoke(url, 'incomplete', '--older-than', '0').stdout == 'nothing is incomplete\n'


def test_what_is_asked_of_a_date_is_said_of_that_date(url: str, namespace: Namespace) -> None:
    """A task of another day may be open while that of this one is complete."""
    a = namespace.node('a').ref
    namespace.backend.append_claims(a, ['7'], DAY)
    namespace.backend.append_audits('a', ['7'], DAY)
    namespace.backend.append_claims(a, ['8'], DAY + dt.timedelta(days=1))
    for day, shown in ((DAY, 'complete'), (DAY + dt.timedelta(days=1), 'may do it')):
        assert shown in invoke(url, 'why', '7', '--date', str(day)).stdout
    assert invoke(url, 'incomplete', '--older-than', '0', '--date', str(DAY)).stdout == 'nothing is incomplete\n'
    assert '8' in invoke(url, 'incomplete', '--older-than', '0').stdout


def test_ctrl_c(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that Ctrl-C has ended is told from one that has failed."""
    monkeypatch.setattr(Cluster, 'nodes', Mock(side_effect=KeyboardInterrupt))
    result = invoke(url, 'nodes')
    assert (result.exit_code, result.stdout, result.stderr) == (130, '', '\nAborted!\n')


def test_the_store_has_to_be_given() -> None:
    """Without a store the command says how to give one."""
    result = CliRunner(env={'JOBSYNC_BACKEND': None}).invoke(cli, ['status'])
    assert result.exit_code == 2
    assert '--backend URL' in result.stderr
    assert 'JOBSYNC_BACKEND' in result.stderr


def test_the_url_may_come_from_standard_input(url: str, namespace: Namespace) -> None:
    """``-`` reads it there, so that it is no argument of the process."""
    assert CliRunner().invoke(cli, ['nodes', '-b', '-'], input=url + '\n').exit_code == 0


def test_status(url: str, namespace: Namespace) -> None:
    """All is well: the exit status is 0. A lock without a match needs attention: 3, and the line names the task."""
    result = invoke(url, 'status')
    assert result.exit_code == 0
    assert '2 nodes, leader a (epoch 1)' in result.stdout
    assert '24 of 24 tokens owned' in result.stdout
    assert 'all is well' in result.stdout
    lock(namespace)
    result = invoke(url, 'status')
    assert result.exit_code == 3
    assert '! tasks whose patterns match no live node: 1 (x)' in result.stdout


def test_nodes_and_tokens(url: str, namespace: Namespace) -> None:
    """One line for each node."""
    lines = [line.split() for line in invoke(url, 'nodes').stdout.splitlines()]
    assert lines[0][:4] == ['name', 'state', 'leads', 'tokens']
    assert [line[:4] for line in lines[1:]] == [['a', 'joined', 'yes', '12'], ['b', 'joined', 'no', '12']]
    assert [line.split() for line in invoke(url, 'tokens').stdout.splitlines()[1:]] == [['a', '12'], ['b', '12']]


def test_hand_overs_are_shown(url: str, namespace: Namespace) -> None:
    """Tokens on their way are told with both nodes."""
    leader = namespace.snapshot().leadership.node
    assert leader is not None
    namespace.commit(leader, TokenGroup([12, 13], 'b', 'a'))
    assert 'moving: 2 from b to a (requested)' in invoke(url, 'tokens').stdout
    assert '2 moving' in invoke(url, 'status').stdout


def test_why(url: str, namespace: Namespace) -> None:
    """A task that a node may do: 0. One that no node matches: 3."""
    result = invoke(url, 'why', '7')
    assert result.exit_code == 0
    assert 'may do it' in result.stdout
    lock(namespace)
    result = invoke(url, 'why', 'x')
    assert result.exit_code == 3
    assert 'no live node matches' in result.stdout


def test_history(url: str, namespace: Namespace) -> None:
    """Claims, completions, incomplete work and rebalances, by date and task."""
    leader = namespace.snapshot().leadership.node
    assert leader is not None
    namespace.backend.append_claims(leader, ['1', '2'], DAY)
    namespace.backend.append_audits('a', ['1'], DAY)
    day = f'--date={DAY}'
    assert {line.split()[2] for line in invoke(url, 'claims', day).stdout.splitlines()[1:]} == {'1', '2'}
    assert len(invoke(url, 'claims', day, '--task', '2').stdout.splitlines()) == 2
    assert len(invoke(url, 'audit', day).stdout.splitlines()) == 2
    assert invoke(url, 'audit', '--date=2001-01-01').stdout == 'no completion is on record\n'
    assert [line.split()[2] for line in invoke(url, 'incomplete', '--older-than=0').stdout.splitlines()[1:]] == ['2']
    assert 'first distribution' in invoke(url, 'rebalances').stdout


def test_quarantine(url: str, namespace: Namespace) -> None:
    """The tasks with so many lost attempts are listed by date, the worst first, and are gone once they are released.

    The alert that sends an operator here is of the workers' date, which may be another one than today's on his machine.
    """
    for number in range(3):
        ref = namespace.join('c')
        namespace.attempt(ref, 'x', *(['y'] if number else []), tolerated=9)
        namespace.backend.deregister(ref)
    day = f'--date={DAY}'
    shown = invoke(url, 'quarantine', 'list', day, '--attempts', '2').stdout
    assert [line.split() for line in shown.splitlines()[1:]] == [['3', 'x'], ['2', 'y']]
    assert len(invoke(url, 'quarantine', 'list', day).stdout.splitlines()) == 2
    today = dt.date.today()
    said = f'no task has so many lost attempts on {today}: do the workers work at another date (--date), or with a lower '
    assert invoke(url, 'quarantine', 'list').stdout == f'{said}max_attempts (--attempts)?\n'
    assert invoke(url, 'quarantine', 'release', day, 'x', 'z').stdout == (
        f"released: 'x'\nno worker was lost at 'z' on {DAY}: are the id and the date right?\n"
    )
    assert namespace.lost() == {'y': 2}
    assert invoke(url, 'quarantine', 'release', day, 'z').stdout == (
        f"no worker was lost at 'z' on {DAY}: are the id and the date right?\n"
    )


def test_locks(url: str, namespace: Namespace) -> None:
    """Locks are added in the operator's name, listed, and cleared by task, by creator or all."""
    assert invoke(url, 'locks', 'add', 'x', 'gpu-%', '%', '--reason', 'why not').exit_code == 0
    invoke(url, 'locks', 'add', 'y', 'a', '--as', 'ann')
    shown = invoke(url, 'locks', 'list').stdout
    assert 'gpu-%, %' in shown
    assert 'why not' in shown
    assert invoke(url, 'locks', 'clear').exit_code == 2
    assert invoke(url, 'locks', 'clear', 'x', '--all').exit_code == 2
    assert invoke(url, 'locks', 'clear', '--creator', 'ann').stdout == 'task locks removed: 1\n'
    assert invoke(url, 'locks', 'clear', '--all', '-y').stdout == 'task locks removed: 1\n'
    assert invoke(url, 'locks', 'list').stdout == 'there is no such task lock\n'
    lock(namespace)
    assert 'x' in invoke(url, 'locks', 'list', '--unmatched').stdout


def test_drain(url: str, namespace: Namespace) -> None:
    """A node is drained and undrained by name; the last one only by force, and an absent one for when it joins."""
    assert invoke(url, 'drain', 'b', '--reason', 'new disk').stdout == "'b' is drained\n"
    assert invoke(url, 'nodes').stdout.splitlines()[2].split()[7] == 'yes'
    result = invoke(url, 'drain', 'a')
    assert (result.exit_code, result.stderr.count('\n')) == (1, 1)
    assert 'drained, and not' not in invoke(url, 'status').stdout
    assert 'this holds once it joins' in invoke(url, 'drain', 'z').stdout
    assert 'drained, and not registered: z\n' in invoke(url, 'status').stdout  # a slip of the pen would be found months later
    assert invoke(url, 'undrain', 'b').stdout == "'b' may own tokens again\n"
    assert invoke(url, 'undrain', 'b').stdout == "'b' was not drained\n"
    assert invoke(url, 'undrain', 'B').stdout == "'B' was not drained; no node of this name is registered\n"
    namespace.backend.deregister(namespace.node('b').ref)
    assert 'this holds once it joins' in invoke(url, 'drain', 'b', '--force').stdout


def test_plan(url: str, namespace: Namespace) -> None:
    """A plan shows each node before and after, and the number of moves; a weight follows a colon."""
    result = invoke(url, 'plan', '--add', 'c:2', '--remove', 'a')
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()[1:4]}
    assert rows == {'a': ['0', '12', '0'], 'b': ['1', '12', '8'], 'c': ['2', '0', '16']}
    assert '16 tokens would move' in result.stdout
    refused = invoke(url, 'plan', '--add', 'c:heavy')
    assert refused.exit_code == 2
    assert 'a name with a colon needs its weight, too' in ' '.join(refused.stderr.split())
    assert 'c:heavy ' in invoke(url, 'plan', '--add', 'c:heavy:1').stdout


def test_doctor(url: str, namespace: Namespace) -> None:
    """A cluster in order is ok in every line; what is wrong is named, and makes the exit status 3."""
    result = invoke(url, 'doctor')
    assert result.exit_code == 0
    assert all(line.startswith('ok ') for line in result.stdout.splitlines())
    for name, enabled in (('c', True), ('d', False)):
        namespace.join(name, settings=json.dumps({'locks_enabled': enabled}))
    result = invoke(url, 'doctor')
    assert result.exit_code == 3
    assert 'nodes differ in locks_enabled: True (c), False (d)' in ' '.join(result.stdout.split())


def test_doctor_says_that_other_settings_begin_a_timeline_too(url: str, namespace: Namespace) -> None:
    """After a change of ``total_tokens`` as the pages say it, with all nodes stopped, no word blames the store for certain."""
    for node in namespace.nodes().values():
        namespace.backend.deregister(node.ref)
    namespace.backend.open(attrs.evolve(namespace.settings, total_tokens=2 * TOKENS), create=True)
    shown = ' '.join(invoke(url, 'doctor').stdout.split())
    assert 'warn history the store has gone back in time, or total_tokens or hash_function was changed (1 time)' in shown


def test_doctor_names_no_class_of_a_backends_own(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference has no such class, and no program can catch it."""
    namespace.leader()
    monkeypatch.setattr(Cluster, 'nodes', Mock(side_effect=Busy('another transaction stood in the way')))
    result = invoke(url, 'doctor')
    assert 'bad reach BackendUnavailable: another transaction stood in the way' in ' '.join(result.stdout.split())


def test_doctor_shows_each_finding_at_once(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store keeps a later call waiting, for a minute perhaps, what was found before it is there to read."""
    namespace.leader()

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('jobsync.cli.doctor._rights', interrupted)
    assert 'a reading takes' in invoke(url, 'doctor').stdout


def test_doctor_notices_unrest(url: str, namespace: Namespace) -> None:
    """Many rebalances within an hour are named with their reasons, and so is a leader that changes."""
    leader = namespace.snapshot().leadership.node
    assert leader is not None
    for number in range(21):
        namespace.commit(leader, TokenGroup([number], 'a'), moved=1, reason='node dead: w7')
    for name in 'cdef':
        namespace.commit(namespace.leader(name), TokenGroup([0], 'a'), moved=1)
        record_leader(namespace.backend, namespace.snapshot().leadership, None)
    shown = ' '.join(invoke(url, 'doctor').stdout.split())
    assert '26 in the last hour: node dead: w7 (21 times), test (4 times), first distribution (1 time)' in shown
    assert 'has changed at least 4 times in the last hour: c, d, e, f' in shown


def test_doctor_takes_no_slow_answer_for_a_wrong_clock(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's clock is compared with the time of the call, and not with its beginning; one that is off is still found."""
    status, late = Cluster.status, dt.timedelta(0)

    def slow(cluster: Cluster) -> ClusterStatus:
        time.sleep(0.1)
        found = status(cluster)
        return {**found, 'now': found['now'] + late}

    monkeypatch.setattr('jobsync.cli.doctor._CLOCK_SEC', 0.05)
    monkeypatch.setattr(Cluster, 'status', slow)
    assert "this machine's clock and the store's agree" in invoke(url, 'doctor').stdout
    late = dt.timedelta(hours=3)
    assert "this machine's clock is 3 h behind the store's" in invoke(url, 'doctor').stdout
    late = -late
    assert "this machine's clock is 3 h ahead of the store's" in invoke(url, 'doctor').stdout


def test_a_dump_has_no_secrets(url: str, namespace: Namespace) -> None:
    """The report has all parts, and neither the URL nor what the environment holds."""
    found = json.loads(invoke(url, 'dump').stdout)
    assert found['status']['leader'] == 'a'
    assert {'jobsync', 'python', 'drivers', 'backend', 'nodes', 'locks', 'rebalances'} <= found.keys()
    assert url not in json.dumps(found)


def test_a_dump_of_a_store_that_does_not_answer_ends() -> None:
    """It does not wait for one timeout after the other; a part that fails at once keeps no other from being read."""
    clock = [0.0]

    def late() -> object:
        clock[0] += 5
        raise BackendUnavailable('timeout')

    def refused() -> object:
        raise BackendUnavailable('no right')

    found = read_parts({'a': refused, 'b': late, 'c': lambda: 7, 'd': late, 'e': late, 'f': lambda: 7}, lambda: clock[0])
    assert found['c'] == 7
    assert found['d'] == found['e'] == {'error': 'BackendUnavailable: timeout'}  # not in a row with that of b
    assert found['f'] == {'error': 'not read: the store has not answered for 10 s'}
    found = read_parts({'status': late, 'nodes': late, 'rebalances': late}, lambda: clock[0])
    assert found['rebalances'] == {'error': 'not read: the store has not answered for 10 s'}


def test_every_command_has_its_cluster(url: str, namespace: Namespace) -> None:
    """The commands and the class read the same."""
    with Cluster(url) as cluster:
        assert json.loads(invoke(url, 'nodes', '--json').stdout)[0]['incarnation'] == cluster.nodes()[0]['incarnation']


def take_over(namespace: Namespace, name: str) -> None:
    """Have a node take the leadership."""
    namespace.backend.acquire_leadership(namespace.node(name).ref, namespace.snapshot().leadership.epoch)


@pytest.mark.parametrize(('changes', 'said'), [(1, '1 time'), (5, '5 times')])
def test_doctor_sees_leaders_change_that_move_nothing(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, changes: int, said: str
) -> None:
    """No rebalance shows them: the epoch rises between the readings of one run."""
    assert 'leader  ' not in invoke(url, 'doctor').stdout
    inner, names, calls = Cluster.status, itertools.cycle('ba'), itertools.count()

    def status(self: Cluster) -> ClusterStatus:
        if 0 < next(calls) <= changes:
            take_over(namespace, next(names))
        return inner(self)

    monkeypatch.setattr(Cluster, 'status', status)
    result = invoke(url, 'doctor')
    assert result.exit_code == 3
    assert re.search(f'warn +leader +has changed {said} while this command ran', result.stdout)


def test_doctor_does_not_measure_how_long_connecting_takes(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On etcd the first reading may watch the nodes for a while."""
    now, opened = itertools.count(), MemoryBackend.open

    def slow(self: MemoryBackend, *values: Any, **named: Any) -> object:
        sum(itertools.islice(now, 100))
        return opened(self, *values, **named)

    monkeypatch.setattr(MemoryBackend, 'open', slow)
    monkeypatch.setattr('jobsync.cli.doctor.time', SimpleNamespace(perf_counter=lambda: next(now)))
    assert 'the slowest of 5 1000 ms' in invoke(url, 'doctor').stdout


@pytest.mark.parametrize('state', ['silent', 'stalled'])
def test_doctor_compares_the_latency_with_the_timeouts_of_all_registered_nodes(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """A store that is so slow that each heartbeat comes too late makes every node silent, and is still called slow."""
    namespace.join('c', timeout_sec=60)
    seconds = itertools.count(step=5)
    monkeypatch.setattr('jobsync.cli.doctor.time', SimpleNamespace(perf_counter=lambda: next(seconds)))
    monkeypatch.setattr('jobsync._cluster.rows._state', lambda *_: state)
    shown = ' '.join(invoke(url, 'doctor').stdout.split())
    assert (
        'warn latency a reading takes 5000 ms, the slowest of 5 5000 ms: more than a quarter of the shortest timeout, 15 s'
        in shown
    )


def test_doctor_goes_by_the_slowest_reading(url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat that is late now and then ends a lease as well as one that always is."""
    took = iter([0.1, 0.1, 6.0, 0.1, 0.1])
    moments = itertools.chain.from_iterable((0.0, seconds) for seconds in took)
    monkeypatch.setattr('jobsync.cli.doctor.time', SimpleNamespace(perf_counter=lambda: next(moments)))
    shown = ' '.join(invoke(url, 'doctor').stdout.split())
    assert 'warn latency a reading takes 100 ms, the slowest of 5 6000 ms' in shown


def test_watching_makes_one_call_a_reading_and_counts_leaders(
    url: str, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not changed is not read again, for state and nodes together; each change of the leader counts."""
    backend, calls = plugins.connect(url, BackendOptions()), list[str]()
    inner = backend.snapshot

    def snapshot() -> Snapshot:
        calls.append('snapshot')
        return inner()

    def sleep(seconds: float) -> None:
        assert seconds == 2.0
        if len(calls) == 3:
            raise KeyboardInterrupt
        take_over(namespace, 'b' if len(calls) == 1 else 'a')

    monkeypatch.setattr(backend, 'snapshot', snapshot)
    monkeypatch.setattr('jobsync.plugins.connect', lambda *_: backend)
    monkeypatch.setattr('jobsync.cli.readings.time', SimpleNamespace(sleep=sleep))
    result = invoke(url, 'status', '--watch')
    assert calls == ['snapshot'] * 3
    assert re.search(r'the leader has changed 2 times since \d\d:\d\d:\d\d UTC\n', result.stdout)


HEARTBEATS = [{'state': 'joined', 'settings': {'heartbeat_interval_sec': 5.0}}] * 100 + [{'state': 'left', 'settings': {}}]
"""72,000 heartbeats an hour."""
SPACE = Space(
    used_bytes=200_000_000,
    quota_bytes=2_000_000_000,
    is_assumed=False,
    heartbeat_bytes=2000.0,
    versions=36_000,
    is_trimmed=True,
)


@pytest.mark.parametrize(
    ('changes', 'verdict', 'said'),
    [
        ({}, 'ok', '200.0 MB of 2.0 GB are used; heartbeats add 144.0 MB an hour, and old versions of 0.5 hours of them are'),
        ({'is_assumed': True}, 'ok', 'of the usual quota of 2.0 GB'),
        ({'used_bytes': 1_700_000_000}, 'warn', 'compact and defragment'),
        (
            {'alarms': ('memberID:7 alarm:NOSPACE ',)},
            'bad',
            'the store reports memberID:7 alarm:NOSPACE: no write succeeds until',
        ),
        ({'alarms': ('memberID:7 alarm:CORRUPT ',)}, 'bad', 'alarm:CORRUPT: no write succeeds, because'),
        ({'versions': 600_000}, 'warn', 'more than half of the quota'),
        ({'is_trimmed': False}, 'ok', '0.5 hours'),
        ({'is_trimmed': False, 'versions': 110_000}, 'warn', 'none was ever deleted'),
    ],
)
def test_doctor_compares_the_space_with_what_heartbeats_add(changes: dict[str, Any], verdict: str, said: str) -> None:
    """A store that keeps old versions is to delete them before heartbeats have filled its quota."""
    cluster: Any = SimpleNamespace(space=lambda: attrs.evolve(SPACE, **changes))
    (finding,) = _space(cluster, cast('Any', HEARTBEATS))
    assert (finding.verdict, finding.subject) == (verdict, 'space')
    assert said in finding.words


def test_doctor_says_nothing_of_space_that_no_quota_limits(url: str, namespace: Namespace) -> None:
    """Only a store that declares ``space`` has a line of it."""
    assert 'space' not in invoke(url, 'doctor').stdout
