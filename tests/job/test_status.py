"""What a job says of itself and of the cluster."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

import jobsync.database as db
from jobsync import CoordinationConfig, Job, UnsupportedOperation, plugins
from jobsync._event_log import event_log
from jobsync.backend import BackendOptions
from jobsync.testing import Fault, FaultyBackend


@pytest.mark.any_store
def test_health_and_leadership(store: Store) -> None:
    """Inside the block a node is healthy, and exactly one leads; leadership passes on when it leaves."""
    a, b = store.job('a'), store.job('b')
    assert not a.am_i_healthy()
    assert not a.am_i_leader()
    with b:
        with a:
            assert a.am_i_healthy()
            assert b.am_i_healthy()
            assert [a.am_i_leader(), b.am_i_leader()] == [False, True]
        assert not a.am_i_healthy()
    with store.job('a') as first, store.job('b') as second:
        assert first.am_i_leader()
        first.__exit__(None, None, None)
        wait_until(second.am_i_leader, 'the other leads')

        def said() -> dict[str, str | None]:
            return {record.task_id: record.reason for record in store.handle.read_locks().locks}

        wait_until(lambda: 'leader 3' in said(), 'it is on record')
        assert said()['leader 3'] == 'epoch 3, before it a'


def test_a_host_whose_name_is_no_text(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel takes any bytes for the name of a host: the node works, and shows it with marks in their place."""
    monkeypatch.setattr(socket, 'gethostname', lambda: 'h\udcff')
    with store.job('a') as a:
        assert [row['host'] for row in a.nodes] == ['h?']


def test_nodes(store: Store) -> None:
    """``nodes`` and ``get_active_nodes`` list every node, oldest first, with host, pid and times of the store."""
    with store.job('b') as b, store.job('a', config={'weight': 2}) as a:
        rows = a.nodes
        assert [row['name'] for row in rows] == ['b', 'a']
        assert [row['active'] for row in rows] == [True, True]
        assert [row['name'] for row in b.get_active_nodes()] == ['b', 'a']
        assert b.get_dead_nodes() == []
        assert [row['is_leader'] for row in rows] == [True, False]
        assert [row['weight'] for row in rows] == [1, 2]
        assert {(row['host'], row['pid']) for row in rows} == {(socket.gethostname(), os.getpid())}
        for row in rows:
            assert row['last_heartbeat'] is not None
            assert row['created_on'] <= row['last_heartbeat']
            assert row['created_on'].tzinfo is not None


def test_dead_nodes(store: Store) -> None:
    """A node that has been silent for longer than the timeout is among the dead, until the leader has removed it."""
    blind = FaultyBackend(plugins.connect(store.url, BackendOptions()))
    patient = {'heartbeat_timeout_sec': 600}
    with store.job('a', config=patient) as a, store.job('b', config={**patient, 'backend': blind}):
        blind.faults.append(Fault(times=1_000_000))
        observer = store.job('observer', config={'weight': 0})
        with observer:
            wait_until(lambda: [row['name'] for row in observer.get_dead_nodes()] == ['b'], 'b is silent')
            assert [row['name'] for row in observer.get_active_nodes()] == ['a', 'observer']
            assert a.get_dead_nodes() == []
        blind.faults.clear()
    blind.inner.close()


@pytest.mark.any_store
def test_my_tokens(store: Store) -> None:
    """A frozen set of all the tokens, pins included; the same object while nothing changes."""
    with store.job('a') as job:
        tokens = job.my_tokens
        assert tokens == frozenset(range(TOKENS))
        assert all(job.my_tokens is tokens for _ in range(100))
        assert job._my_tokens is tokens
        job.register_task_lock('x', 'a')
        pin = job.list_locks()[0]['token_id']
        wait_until(lambda: job.my_tokens == tokens | {pin}, 'the pin is there')
        assert job.task_to_token('x') == pin


@pytest.mark.any_store
def test_token_version(store: Store) -> None:
    """The version rises with every change of the assignment; 0 before the block."""
    job = store.job('a')
    assert job.token_version == 0
    with job:
        before = job.token_version
        assert before > 0
        assert job._token_version == before
        with store.job('b'):
            wait_until(lambda: job.token_version > before, 'it has risen')


@pytest.mark.any_store
def test_heartbeat_time(store: Store) -> None:
    """``_last_heartbeat_sent`` is None before the first, then a moment ago, with a timezone."""
    job = store.job('a')
    assert job._last_heartbeat_sent is None
    with job:
        first = job._last_heartbeat_sent
        assert first is not None
        assert dt.datetime.now(dt.UTC) - first < dt.timedelta(seconds=10)
        wait_until(lambda: job._last_heartbeat_sent != first, 'the next heartbeat')


@pytest.mark.any_store
def test_check_of_the_guide(store: Store) -> None:
    """The guide's own health check runs as it is written there."""
    with store.job('worker-01') as job:
        health = {
            'node_name': job.node_name,
            'is_healthy': job.am_i_healthy(),
            'is_leader': job.am_i_leader(),
            'token_count': len(job._my_tokens),
            'token_version': job._token_version,
            'last_heartbeat': job._last_heartbeat_sent,
            'active_nodes': len(job.get_active_nodes()),
            'coordination_enabled': job._coordination_enabled,
        }
    assert health | {'token_version': 1, 'last_heartbeat': None} == {
        'node_name': 'worker-01',
        'is_healthy': True,
        'is_leader': True,
        'token_count': TOKENS,
        'token_version': 1,
        'last_heartbeat': None,
        'active_nodes': 1,
        'coordination_enabled': True,
    }


def test_whether_a_death_would_be_known(tmp_path: Path) -> None:
    """The status names the nodes that are watched, and why nothing is known where that is so; the nodes work all the same."""
    store = Store(f'sqlite:///{tmp_path}/jobs.db')
    fields: list[dict[str, Any]] = [{}, {}, {'known_death': False}, {'known_death_dir': f'{tmp_path}/absent'}]
    jobs = [store.job(f'w{number}', config=each) for number, each in enumerate(fields)]

    def known() -> list[tuple[str | None, list[str]]]:
        statuses = [job.get_coordination_status() for job in jobs]
        return [(status['death_unknown'], status['watched_nodes']) for status in statuses]

    assert known() == [('the node is not in its cluster', [])] * 4
    with contextlib.ExitStack() as stack:
        for job in jobs:
            stack.enter_context(job)
        absent = f'no lock can be held in {tmp_path}/absent/jobsync-{os.geteuid()} (No such file or directory)'
        expected = [(None, ['w1']), (None, ['w0']), ('known_death is False', []), (absent, [])]
        wait_until(lambda: known() == expected, 'the two that hold a lock watch each other')
        assert all(job.am_i_healthy() for job in jobs)


@pytest.mark.any_store
def test_coordination_status(store: Store) -> None:
    """The status follows the node through its life."""
    job = store.job('a')
    assert job.get_coordination_status()['state'] == 'outside'
    with job:
        job.add_task(1)
        status = job.get_coordination_status()
        assert status['last_heartbeat'] is not None
        assert status | {'last_heartbeat': None, 'token_version': 0} == {
            'enabled': True,
            'node_name': 'a',
            'state': 'member',
            'is_healthy': True,
            'is_leader': True,
            'is_stalled': False,
            'token_count': TOKENS,
            'token_version': 0,
            'last_heartbeat': None,
            'total_tokens': TOKENS,
            'open_tasks': 1,
            'log_lines_dropped': event_log.dropped,  # of this process, since its start
            'unplaced_locks': 0,
            'differing_settings': [],
            'unreadable': [],
            'death_unknown': 'all nodes of this store are one process' if store.url.startswith('memory') else None,
            'watched_nodes': [],
        }
        job.write_audit()
        assert job.get_coordination_status()['open_tasks'] == 0
    status = job.get_coordination_status()
    assert (status['state'], status['is_healthy'], status['is_leader'], status['token_count']) == ('left', False, False, 0)


@pytest.mark.any_store
def test_the_status_is_json(store: Store) -> None:
    """The status is the same after a way through JSON, inside the block and outside, and its time is in UTC."""
    job = store.job('a')
    assert json.loads(json.dumps(job.get_coordination_status()))['last_heartbeat'] is None
    with job:
        status = job.get_coordination_status()
        assert json.loads(json.dumps(status)) == status
        assert status['last_heartbeat'] is not None
        assert dt.datetime.fromisoformat(status['last_heartbeat']).utcoffset() == dt.timedelta(0)


@pytest.mark.any_store
def test_repr(store: Store) -> None:
    """The repr has the node's name, phase, tokens and the rest of its lease."""
    job = store.job('a')
    assert repr(job) == "<Job 'a': outside, 0 tokens, lease 0.0 s left>"
    with job:
        assert re.fullmatch(rf"<Job 'a': member, {TOKENS} tokens, lease \d+\.\d s left>", repr(job))
    assert repr(job) == "<Job 'a': left, 0 tokens, lease 0.0 s left>"
    assert repr(Job('a', coordination_config=CoordinationConfig(enabled=False))) == "<Job 'a': disabled, 0 tokens>"
    assert repr(store.async_job('b')) == "<AsyncJob 'b': outside, 0 tokens, lease 0.0 s left>"


def test_sql_ways_in(store: Store) -> None:
    """``_cn`` and ``_tables`` work where the backend is a SQL database; elsewhere the error names those that are."""
    with store.job('a') as job:
        job.add_task(7)
        if not store.handle.info.sql:
            with pytest.raises(UnsupportedOperation, match='sqlite and postgresql'):
                _ = job._cn
            with pytest.raises(UnsupportedOperation, match='sqlite and postgresql'):
                _ = job._tables
            return
        tables = job._tables
        assert {name: tables[name] for name in ('Node', 'Token', 'Lock', 'Rebalance', 'Claim', 'Audit')} == {
            'Node': 'sync_node',
            'Token': 'sync_token',
            'Lock': 'sync_lock',
            'Rebalance': 'sync_rebalance',
            'Claim': 'sync_claim',
            'Audit': 'sync_audit',
        }
        connection = job._cn
        assert connection is job._cn
        assert db.select_scalar(connection, 'SELECT item FROM sync_claim') == '7'
        assert db.select_scalar(connection, 'SELECT count(*) FROM sync_token WHERE node = %s', 'a') == TOKENS
    assert connection.closed
