"""``AsyncJob`` has what ``Job`` has, under the same names."""

from __future__ import annotations

import inspect

import pytest

from jobsync import AsyncJob, CoordinationConfig, Job

AT_ONCE = {
    'am_i_healthy',
    'am_i_leader',
    'can_claim_task',
    'batch',
    'claim',
    'every',
    'fence',
    'get_coordination_status',
    'items',
    'keep_going',
    'owns',
    'serve',
    'set_weight',
    'singleton',
    'task',
    'task_to_token',
    'where',
}
"""Methods that are not awaited: they reach nothing, or give what is entered or looped over."""
ATTRIBUTES = {'node_name', 'site'}
"""Of the objects, not the class, in ``Job``."""


def public(cls: type) -> dict[str, object]:
    members = {name: member for base in reversed(cls.__mro__) for name, member in vars(base).items()}
    return {name: member for name, member in members.items() if not name.startswith('_')}


def methods(cls: type) -> dict[str, object]:
    return {name: member for name, member in public(cls).items() if callable(member)}


PROPERTIES = sorted(name for name, member in public(Job).items() if isinstance(member, property))


def parameters(function: object) -> list[tuple[str, object, object]]:
    assert callable(function)
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


def test_the_same_names() -> None:
    """What one has the other has."""
    job = Job('a', coordination_config=CoordinationConfig(enabled=False))
    assert {name for name in vars(job) if not name.startswith('_')} == ATTRIBUTES
    assert set(public(AsyncJob)) == {*public(Job), *ATTRIBUTES}


@pytest.mark.parametrize('name', ['__init__', *methods(Job)])
def test_the_same_arguments(name: str) -> None:
    """A method takes the same under the same names, with the same defaults."""
    assert parameters(getattr(AsyncJob, name)) == parameters(getattr(Job, name))


@pytest.mark.parametrize('name', [*methods(Job), *PROPERTIES, *sorted(ATTRIBUTES)])
def test_everything_says_what_it_is(name: str) -> None:
    """It has a docstring."""
    assert inspect.getdoc(inspect.getattr_static(AsyncJob, name))


def test_what_is_awaited() -> None:
    """A method is awaited unless it is one of those that reach nothing."""
    assert {name for name, method in methods(AsyncJob).items() if not inspect.iscoroutinefunction(method)} == AT_ONCE
