"""Every field of the configuration, wherever it comes from: an error that names it, or a configuration that can be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bad_input.values import anything, mostly, texts
from tests.bad_input.watch import Refused, attempted, examples

from jobsync import AsyncJob, CoordinationConfig, Job
from jobsync.config import resolve

pytestmark = pytest.mark.filterwarnings('ignore::hypothesis.errors.HypothesisWarning')  # of a long text that is shown

FIELDS = tuple(attrs.fields_dict(CoordinationConfig))
LIKELY: Mapping[str, st.SearchStrategy[Any]] = {
    'bool': st.booleans(),
    'int': st.integers(-1, 70_000),
    'float': st.floats(-1, 100),
    'str': texts,
}
"""Values of the right type, by the first word of a field's annotation."""

fields = {
    name: mostly(LIKELY.get(str(field.type).split(' ', maxsplit=1)[0], texts))
    for name, field in attrs.fields_dict(CoordinationConfig).items()
}
some_fields = st.fixed_dictionaries({}, optional=fields)
section_names = st.sampled_from([*FIELDS, 'sync', 'coordination', 'sql', 'backend', 'hostname', 'x'])
sections = st.recursive(anything, lambda inner: st.dictionaries(section_names, inner, max_size=4), max_leaves=8)
SECRET = 'hush-hush'


def check(config: CoordinationConfig) -> None:
    """Use all that a configuration offers."""
    assert SECRET not in repr(config)
    json.loads(config.published_settings)
    assert 0 < config.lease_sec < config.heartbeat_timeout_sec
    assert config.options.namespace
    assert config.settings.total_tokens >= 1


def test_fields(count: int) -> None:
    """Some fields with any value."""

    @examples(5 * count)
    @given(some_fields)
    def attempt(given_fields: dict[str, Any]) -> None:
        config = attempted(lambda: CoordinationConfig(**given_fields))
        if not isinstance(config, Refused):
            check(config)

    attempt()


def test_one_field(count: int) -> None:
    """One field with any value, so that no other field refuses it first."""

    @examples(10 * count)
    @given(st.sampled_from(FIELDS).flatmap(lambda name: st.tuples(st.just(name), fields[name])))
    def attempt(given_field: tuple[str, Any]) -> None:
        name, value = given_field
        config = attempted(lambda: CoordinationConfig(**{name: value}))
        if isinstance(config, Refused):
            assert name in str(config.error)
        else:
            check(config)

    attempt()


def test_a_secret_is_shown_by_no_error(count: int) -> None:
    """Whatever else is wrong, no message has the password."""

    @examples(count)
    @given(some_fields, texts)
    def attempt(given_fields: dict[str, Any], text: str) -> None:
        config = attempted(lambda: CoordinationConfig(**{**given_fields, 'host': 'h', 'dbname': 'd', 'password': SECRET + text}))
        assert SECRET not in (str(config.error) if isinstance(config, Refused) else repr(config))

    attempt()


def test_unknown_fields(count: int) -> None:
    """A name that no field has."""

    @examples(count)
    @given(texts, anything)
    def attempt(name: str, value: Any) -> None:
        assert name in FIELDS or isinstance(attempted(lambda: CoordinationConfig(**{name: value})), Refused)

    attempt()


def test_sources(count: int) -> None:
    """A configuration object of any shape, nested, as a mapping and as an object, and any environment."""

    @examples(3 * count)
    @given(sections, texts)
    def attempt(section: Any, variable: str) -> None:
        for config in ({'sync': section}, {'sync': {'coordination': section}}, SimpleNamespace(sync=section), section):
            resolved = attempted(lambda config=config: resolve(config, None, {'JOBSYNC_BACKEND': variable}))  # type: ignore[misc]
            if not isinstance(resolved, Refused):
                check(resolved)

    attempt()


ARGUMENTS: Mapping[str, st.SearchStrategy[Any]] = {
    'node_name': texts,
    'site': st.one_of(st.none(), texts),
    'config': sections,
    'date': st.one_of(st.none(), st.dates()),
    'wait_on_enter': st.floats(),
    'wait_on_exit': st.floats(),
    'skip_db_init': st.booleans(),
    'lock_provider': st.just(lambda job: None),
    'clear_existing_locks': st.booleans(),
    'coordination_config': st.just(CoordinationConfig(backend='memory://bad-input')),
    'on_rebalance': st.just(lambda: None),
    'on_assign': st.just(lambda tokens: None),
    'on_revoke': st.just(lambda tokens, deadline: None),
    'on_lost': st.just(lambda tokens: None),
    'handle_signals': st.booleans(),
}


def test_arguments_of_a_job(count: int) -> None:
    """The arguments of ``Job`` and ``AsyncJob``; the store is not reached."""
    optional = {name: mostly(likely) for name, likely in ARGUMENTS.items() if name != 'node_name'}

    @examples(3 * count)
    @given(st.fixed_dictionaries({'node_name': mostly(texts)}, optional=optional))
    def attempt(given_arguments: dict[str, Any]) -> None:
        for kind in (Job, AsyncJob):
            job = attempted(lambda kind=kind: kind(**given_arguments))  # type: ignore[misc]
            if not isinstance(job, Refused):
                assert repr(job).isprintable()
                assert job.get_coordination_status()['total_tokens'] >= 1

    attempt()
