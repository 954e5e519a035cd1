"""Nodes that differ in a setting which all should have alike: a warning that names both, once."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from tests.core.bench import Bench

from jobsync import CoordinationConfig
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.events import LogMessage
from jobsync._core.agent.settings_comparison import SHOULD_BE_EQUAL, SettingsComparison, settings_of


def warnings(agent: Agent) -> list[str]:
    return [event.text for event in agent.events if isinstance(event, LogMessage) and event.level == 'warning']


@pytest.mark.parametrize(
    ('setting', 'one', 'other'),
    [
        ('locks_enabled', True, False),
        ('retention_days', None, 30),
        ('rejoin_grace_sec', 0, 30),
        ('heartbeat_timeout_sec', 15, 20),
    ],
)
def test_a_difference_is_logged_once_by_each_node(setting: str, one: object, other: object) -> None:
    """With the setting, both nodes and both values; and the status has it while it lasts."""
    bench = Bench()
    (first,) = bench.cluster('a', **{setting: one})
    second = bench.start('b', **{setting: other})
    bench.run(120.0)
    (line,) = warnings(first)
    assert line.startswith(f'{setting} is {one!r}')
    for part in ("node 'a'", "node 'b'", repr(one), repr(other), SHOULD_BE_EQUAL[setting]):
        assert part in line
    assert len(warnings(second)) == 1
    (found,) = first.differences
    assert (found.setting, found.node, found.there, found.here) == (setting, 'b', other, one)
    second.leave(bench.now)
    bench.run(60.0)
    assert first.differences == ()


@pytest.mark.parametrize('returns', [False, True])
def test_a_difference_ends_for_a_node_that_polls_no_more(returns: bool) -> None:
    """A node that is not next in line polls once: what it has read of a run is over with that run, which may come back mended."""
    bench = Bench(16)
    bench.cluster(*'abcdef')
    other = bench.start('x', locks_enabled=False)
    bench.run(30.0)
    follower = bench.start('z')
    bench.run(30.0)
    assert [found.node for found in follower.differences] == ['x']
    if returns:
        bench.kill(other)
        bench.start('x')
    else:
        other.leave(bench.now)
    bench.run(60.0)
    assert follower.differences == ()


def test_settings_that_may_differ_are_no_difference() -> None:
    """Weights, intervals between heartbeats and polls, and time limits of calls are each node's own."""
    bench = Bench()
    (first,) = bench.cluster('a')
    bench.start(
        'b',
        weight=3,
        minimum_nodes=2,
        heartbeat_interval_sec=4,
        dead_node_check_interval_sec=7,
        op_timeout_sec=3,
        shutdown_timeout_sec=9,
    )
    bench.run(60.0)
    assert warnings(first) == []
    assert first.differences == ()


def test_many_nodes_with_another_value_are_one_line() -> None:
    """It names the first of them, and says how many more there are."""
    lines: list[LogMessage] = []
    bench = Bench()
    bench.cluster('a')
    node = bench.record('a')
    comparison = SettingsComparison('me', CoordinationConfig().published_settings, lines.append)  # type: ignore[arg-type]
    other = CoordinationConfig(locks_enabled=False).published_settings
    comparison.take([attrs.evolve(node, name=f'w{number}', settings=other) for number in range(5)])
    assert len(lines) == 1
    assert "node 'w0' and 4 more" in lines[0].text
    assert len(comparison.all) == 5


@pytest.mark.parametrize('text', ['', 'x', '[]', '{"locks_enabled"', '[' * 100_000, '1e999'])
def test_a_record_that_a_person_has_edited_says_nothing(text: str) -> None:
    """What is no JSON object has no settings."""
    assert settings_of(text) == {}


def test_the_record_has_every_setting_but_the_store() -> None:
    """All fields of the configuration are published, except those that say where the store is and how to get in."""
    config = CoordinationConfig(host='db', dbname='jobs', user='me', password='secret', appname='mine_')
    published = json.loads(config.published_settings)
    assert attrs.fields_dict(CoordinationConfig).keys() - published.keys() == {
        'backend', 'appname', 'host', 'port', 'dbname', 'user', 'password'
    }  # fmt: skip
    assert 'secret' not in config.published_settings
    assert published.keys() >= SHOULD_BE_EQUAL.keys()
    assert published['locks_enabled'] is True


@pytest.mark.parametrize('edited', [[], {}, None, 7])
def test_settings_that_are_no_text_are_none(edited: Any) -> None:
    """On a store whose records are JSON, a person may have put anything in their place: a node that reads it goes on."""
    assert settings_of(edited) == {}
