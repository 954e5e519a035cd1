"""Workers whose store refuses them for a while, as a password is changed or rights are: their loops go on."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.job.processes import Worker, workers
from tests.job.waiting import wait_until
from tests.support.servers import PostgresServer, RedisServer, find_redis

PATIENT = {'heartbeat_interval_sec': 0.5, 'heartbeat_timeout_sec': 60, 'op_timeout_sec': 5}


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that no other test uses."""
    server = RedisServer(next(iter(find_redis().values())))
    yield server
    server.close()


@contextmanager
def another_password(server: RedisServer) -> Iterator[None]:
    """Within the block the server wants another password; who is connected has to give it."""
    password = server.password
    server.ask('CONFIG', 'SET', 'requirepass', 'another')
    server.password = 'another'
    for kind in ('normal', 'pubsub'):
        server.ask('CLIENT', 'KILL', 'TYPE', kind, 'SKIPME', 'yes')
    yield
    server.ask('CONFIG', 'SET', 'requirepass', password)
    server.password = password


@contextmanager
def no_rights(server: PostgresServer, schema: str, role: str) -> Iterator[None]:
    """Within the block the role may do nothing with its tables."""
    server.psql(f'REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role}')
    yield
    server.psql(f'GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}')


def refused_for_a_while(url: str, refusal: Any, least_sec: float) -> None:
    """Two workers at work, a refusal that both meet, and then both are at work as before, and leave in good order."""
    one, two = (Worker(url, name, 'loop', handle_signals=True, **PATIENT) for name in 'ab')

    def done(worker: Worker) -> list[int]:
        return [line['task'] for line in worker.said if 'task' in line]

    def tasks(worker: Worker) -> int:
        return len(done(worker))

    def both_go_on() -> None:
        before = tasks(one), tasks(two)
        wait_until(lambda: tasks(one) > before[0] + 20 and tasks(two) > before[1] + 20, 'both go on')

    with workers(one, two):
        both_go_on()
        with refusal:
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > least_sec, 'it has lasted')
            refused = tasks(one), tasks(two)
            for worker in (one, two):
                wait_until(lambda: any('failed, will be repeated' in line for line in worker.errors), 'it is refused')  # noqa: B023 - called in this round only
            assert (tasks(one), tasks(two)) == refused
        both_go_on()
        first, second = done(one), done(two)
        assert {*first, *second} >= set(range(min(max(first), max(second)))), 'a task was passed over'
        for worker in (one, two):
            assert worker.process.poll() is None
            worker.process.terminate()
            assert worker.wait() == 0
            assert 'left' in [line.get('state') for line in worker.said]
            assert 'Traceback' not in ''.join(worker.errors)


@pytest.mark.redis
def test_a_redis_password_that_is_wrong_for_a_while(own_redis: RedisServer) -> None:
    """Three seconds: loops wait and go on."""
    refused_for_a_while(own_redis.url(query='durable=yes'), another_password(own_redis), 3)


@pytest.mark.postgres
def test_rights_on_postgresql_that_are_taken_away_for_a_while(newest_postgres: PostgresServer) -> None:
    """A second and a half: loops wait and go on."""
    role, schema = (f'{kind}_{uuid.uuid4().hex}' for kind in ('role', 'schema'))
    newest_postgres.psql(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'", f'CREATE SCHEMA {schema} AUTHORIZATION {role}')
    url = f'postgresql://{role}:secret@127.0.0.1:{newest_postgres.port}/postgres?options=-csearch_path%3D{schema}'
    refused_for_a_while(url, no_rights(newest_postgres, schema, role), 1.5)
