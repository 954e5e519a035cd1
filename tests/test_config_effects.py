"""Every setting changes what it is there for: a field that is filled from the wrong place would show here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import attrs
import pytest
from tests.core.bench import Bench

from jobsync import CoordinationConfig, Job, plugins
from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.phase import Phase
from jobsync._core.config import NodeConfig
from jobsync._core.records import HistoryKind, LockEdit, LockRequest
from jobsync._runtime.startup import node_config
from jobsync.backend import Backend, BackendInfo, BackendOptions, Reach

Measured = Callable[..., float]
INFO = BackendInfo('other', durable=False, push=False, reach=Reach.NETWORK, max_tokens=77, max_removals=5)


def sent(bench: Bench, agent: Agent, kind: type[Any] | tuple[type[Any], ...], since: float = 0.0) -> list[float]:
    return [made.at for made in bench.made if made.agent is agent and isinstance(made.call, kind) and made.at >= since]


def longest_pause(times: list[float]) -> float:
    return max(later - earlier for earlier, later in pairwise(times))


def seconds_until(bench: Bench, condition: Callable[[], bool]) -> float:
    began = bench.now
    bench.run_until(condition, within=200.0)
    return bench.now - began


def between_heartbeats(**changes: Any) -> float:
    """How many seconds pass between two heartbeats."""
    bench = Bench()
    (agent,) = bench.cluster('a', **{'heartbeat_timeout_sec': 100, **changes})
    since = bench.now
    bench.run(100.0)
    return longest_pause(sent(bench, agent, commands.Heartbeat, since))


def lease(**changes: Any) -> float:
    """How long a heartbeat is good for."""
    bench = Bench()
    (agent,) = bench.cluster('a', **changes)
    return agent.lease.deadline - sent(bench, agent, commands.Heartbeat)[-1]


def until_taken_for_dead(**changes: Any) -> float:
    """How many seconds after a crash the other node owns everything."""
    bench = Bench()
    first, second = bench.cluster('a', 'b', **changes)
    bench.kill(second)
    return seconds_until(bench, lambda: len(first.lease.ownership.tokens) == 4)


def between_polls(**changes: Any) -> float:
    """How many seconds a leader goes without a reading of the nodes."""
    slow = {'heartbeat_interval_sec': 90, 'heartbeat_timeout_sec': 900}
    bench = Bench(push=False)
    leader = bench.start('a', **{**slow, 'dead_node_check_interval_sec': 500, 'rebalance_check_interval_sec': 500, **changes})
    bench.run(10.0)
    since = bench.now
    bench.run(400.0)
    return longest_pause(sent(bench, leader, commands.TakeSnapshot, since))


def between_readings_of_locks(**changes: Any) -> float:
    """How many seconds pass between two readings of the task locks."""
    bench = Bench()
    (leader,) = bench.cluster('a', **changes)
    since = bench.now
    bench.run(300.0)
    return longest_pause(sent(bench, leader, commands.ReadLocks, since))


def between_readings(age_sec: float, **changes: Any) -> float:
    """How many seconds a node goes without an answer that brings the version of the assignment, when it is so old."""
    bench = Bench(push=False)
    slow = {'heartbeat_interval_sec': 90, 'heartbeat_timeout_sec': 900}
    bench.start('a', **slow)
    bench.run(2.0)
    second = bench.start('b', **slow, **changes)
    bench.run(100.0 + age_sec)
    since = bench.now
    bench.run(180.0)
    return longest_pause(sent(bench, second, (commands.ReadAssignment, commands.Heartbeat, commands.TakeSnapshot), since))


def between_first_readings(**changes: Any) -> float:
    """The same in the first five minutes."""
    return between_readings(0.0, **changes)


def between_later_readings(**changes: Any) -> float:
    """The same after them."""
    return between_readings(300.0, **changes)


def pins(**changes: Any) -> float:
    """How many pins there are when one task is locked."""
    bench = Bench()
    (agent,) = bench.cluster('a', **changes)
    bench.edit_locks(LockEdit(put=(LockRequest('t0', ('a',), 'a', None),)))
    bench.run(60.0)
    return len(agent.lease.assignment.pins)


def tokens_while_forming(**changes: Any) -> float:
    """How many tokens the first node owns before ``wait_on_enter`` is over."""
    bench = Bench()
    agent = bench.start('a', wait_on_enter=50.0, **changes)
    bench.run(20.0)
    return len(agent.lease.ownership.tokens)


def until_let_in(**changes: Any) -> float:
    """How many seconds after a join the first plan is made that serves it."""
    bench = Bench()
    (first,) = bench.cluster('a', **changes)
    bench.start('b', **changes)
    return seconds_until(bench, lambda: 'b' in first.lease.assignment.members)


def until_handed_over(**changes: Any) -> float:
    """How many seconds a busy node keeps tokens that another is to have."""
    bench = Bench()
    (first,) = bench.cluster('a', **changes)
    assert all(bench.begin(first, 't0', 't1', 't2', 't3'))
    second = bench.start('b', **changes)
    return seconds_until(bench, lambda: bool(second.lease.ownership.tokens))


def until_left(**changes: Any) -> float:
    """How many seconds a busy node stays that is to leave."""
    bench = Bench()
    (agent,) = bench.cluster('a', **{'heartbeat_timeout_sec': 100, **changes})
    bench.begin(agent, 't0')
    agent.leave(bench.now, workers=frozenset({1}))
    return seconds_until(bench, lambda: agent.phase is Phase.LEFT)


def until_passed_on(**changes: Any) -> float:
    """How many seconds after a node has left another owns everything."""
    bench = Bench()
    first, second = bench.cluster('a', 'b', **changes)
    second.leave(bench.now)
    return seconds_until(bench, lambda: len(first.lease.ownership.tokens) == 4)


def until_deleted(**changes: Any) -> float:
    """How many seconds after it was recorded a completed task is deleted."""
    bench = Bench()
    bench.cluster('a', **changes)
    bench.backend.append_audits('a', ['x'], dt.date(2026, 3, 2))
    return seconds_until(bench, lambda: not bench.backend.history(HistoryKind.AUDIT))


def share(**changes: Any) -> float:
    """How many of four tokens a node owns beside one of weight 1."""
    bench = Bench()
    bench.cluster('a')
    second = bench.start('b', **changes)
    bench.run(30.0)
    return len(second.lease.ownership.tokens)


EFFECTS: list[tuple[str, Measured, dict[float, tuple[float, float]]]] = [
    ('heartbeat_interval_sec', between_heartbeats, {5: (4.9, 5.1), 20: (19.9, 20.1)}),
    ('heartbeat_timeout_sec', lease, {15: (13.49, 13.51), 40: (35.99, 36.01)}),
    ('heartbeat_timeout_sec', until_taken_for_dead, {15: (9, 17), 40: (34, 42)}),
    ('lease_margin', lease, {0.1: (13.49, 13.51), 0.4: (8.99, 9.01)}),
    ('dead_node_check_interval_sec', between_polls, {10: (9, 10.1), 40: (39, 40.1)}),
    ('rebalance_check_interval_sec', between_polls, {10: (9, 10.1), 40: (39, 40.1)}),
    ('rebalance_check_interval_sec', between_readings_of_locks, {10: (9, 17), 60: (59, 67)}),
    ('token_refresh_initial_interval_sec', between_first_readings, {5: (4.9, 5.1), 20: (19.9, 20.1)}),
    ('token_refresh_steady_interval_sec', between_later_readings, {5: (4.9, 5.1), 20: (19.9, 20.1)}),
    ('locks_enabled', pins, {True: (1, 1), False: (0, 0)}),
    ('minimum_nodes', tokens_while_forming, {1: (4, 4), 2: (0, 0)}),
    ('rebalance_delay_sec', until_let_in, {0: (0, 0.4), 7: (7, 7.4)}),
    ('handover_timeout_sec', until_handed_over, {2: (2, 3.5), 20: (20, 21.5)}),
    ('shutdown_timeout_sec', until_left, {0: (0, 0.1), 9: (9, 9.1)}),
    ('rejoin_grace_sec', until_passed_on, {0: (0, 1), 30: (30, 31)}),
    ('retention_days', until_deleted, {60 / 86_400: (60, 72), 150 / 86_400: (150, 180)}),
    ('weight', share, {0: (0, 0), 1: (2, 2), 3: (3, 3)}),
]
FOR_THE_BACKEND = {'appname': 'other_', 'op_timeout_sec': 3.0, 'bulk_timeout_sec': 7.0}
ELSEWHERE = {
    'enabled', 'backend', 'host', 'port', 'dbname', 'user', 'password',  # tests/test_config.py, tests/test_config_sources.py
    'total_tokens', 'hash_function',  # below
    'token_distribution_timeout_sec',  # tests/job/test_entering.py
    'max_attempts',  # tests/job/test_attempts.py
    'progress_timeout_sec',  # tests/core/test_progress.py
    'known_death',  # tests/job/test_processes.py
    'known_death_dir',  # tests/job/test_status.py
}  # fmt: skip
WITHOUT_EFFECT = {'leader_lock_timeout_sec', 'health_check_interval_sec'}


@pytest.mark.parametrize(
    ('field', 'measure', 'value', 'expected'),
    [
        pytest.param(field, measure, value, expected, id=f'{field}-{measure.__name__}-{value}')
        for field, measure, cases in EFFECTS
        for value, expected in cases.items()
    ],
)
def test_the_effect_of_a_setting(field: str, measure: Measured, value: Any, expected: tuple[float, float]) -> None:
    """Each value has the effect that is stated for it, and no other setting changes that."""
    least, most = expected
    assert least <= measure(**{field: value}) <= most


def test_minimum_nodes_that_is_not_given() -> None:
    """Its default does not make the first distribution come sooner."""
    assert tokens_while_forming() == 0


def test_every_setting_is_measured() -> None:
    """A new field of the configuration needs a line above."""
    measured = {field for field, *_ in EFFECTS} | FOR_THE_BACKEND.keys() | ELSEWHERE
    assert measured | WITHOUT_EFFECT == attrs.fields_dict(CoordinationConfig).keys()


def test_every_field_of_a_nodes_configuration_comes_from_its_source() -> None:
    """With no value the default one, each is what the configuration, the backend or the job has under its name."""
    config = CoordinationConfig(
        total_tokens=78, hash_function='md5', heartbeat_interval_sec=6, heartbeat_timeout_sec=21, lease_margin=0.2,
        rebalance_check_interval_sec=31, dead_node_check_interval_sec=11, token_refresh_initial_interval_sec=9,
        token_refresh_steady_interval_sec=32, locks_enabled=False, minimum_nodes=3, rebalance_delay_sec=0.7,
        handover_timeout_sec=33, shutdown_timeout_sec=22, rejoin_grace_sec=4, weight=2.5,
        host='database.example', dbname='jobs',
    )  # fmt: skip
    given = {'create': False, 'wait_on_enter': 17.0, 'announces': True}
    found = node_config('node', config, INFO, **given)  # type: ignore[arg-type]
    assert found.host != config.host
    unset = {'gather_sec', 'gather_longer_sec', 'many_owners'}
    for field in {field.name for field in attrs.fields(NodeConfig)} - {'name', 'host', 'pid', *unset}:
        expected = given[field] if field in given else getattr(config if hasattr(config, field) else INFO, field)
        assert getattr(found, field) == expected, field
    assert (found.settings.total_tokens, found.settings.hash_function) == (78, 'md5')


def test_what_the_backend_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The options of the configuration reach ``connect``."""
    seen: list[BackendOptions] = []
    connect = plugins.connect

    def connected(url: str, options: BackendOptions) -> Backend:
        seen.append(options)
        return connect(url, options)

    monkeypatch.setattr(plugins, 'connect', connected)
    with Job('a', coordination_config=CoordinationConfig(backend='memory://', **FOR_THE_BACKEND), wait_on_enter=0):  # type: ignore[arg-type]
        pass
    assert seen == [BackendOptions('other_', op_timeout_sec=3.0, bulk_timeout_sec=7.0)]
