"""The fields of ``CoordinationConfig``."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from typing import Any

import attrs
import pytest

from jobsync._core.records import Settings
from jobsync.backend import BackendOptions
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.config import CoordinationConfig, checks
from jobsync.errors import ConfigError
from jobsync.job import Job

SEED = {
    'enabled': True,
    'total_tokens': 10000,
    'heartbeat_interval_sec': 5,
    'heartbeat_timeout_sec': 15,
    'rebalance_check_interval_sec': 30,
    'dead_node_check_interval_sec': 10,
    'token_refresh_initial_interval_sec': 5,
    'token_refresh_steady_interval_sec': 30,
    'locks_enabled': True,
    'leader_lock_timeout_sec': 30,
    'health_check_interval_sec': 30,
}
OURS = {
    'backend': None,
    'appname': None,
    'minimum_nodes': None,
    'hash_function': 'xxh3',
    'lease_margin': 0.1,
    'rebalance_delay_sec': 0.5,
    'handover_timeout_sec': 30,
    'shutdown_timeout_sec': 20,
    'rejoin_grace_sec': 0,
    'retention_days': None,
    'token_distribution_timeout_sec': 60,
    'known_death': True,
    'known_death_dir': None,
    'progress_timeout_sec': None,
    'max_attempts': None,
    'op_timeout_sec': 5,
    'bulk_timeout_sec': 60,
    'weight': 1,
}
PARTS = dict.fromkeys(['host', 'port', 'dbname', 'user', 'password'])
MAY_BE_NOTHING = {'rebalance_delay_sec', 'handover_timeout_sec', 'shutdown_timeout_sec', 'rejoin_grace_sec'}
SECONDS = [name for name in SEED | OURS if name.endswith('_sec')]


def config(**fields: Any) -> CoordinationConfig:
    """For arguments that a type checker would refuse."""
    return CoordinationConfig(**fields)


def backend() -> MemoryBackend:
    """A backend as a value."""
    return MemoryBackend(MemoryStore(), CoordinationConfig().options)


def test_defaults() -> None:
    """The fields are the documented ones with the documented defaults, and no others."""
    assert attrs.asdict(CoordinationConfig()) == SEED | OURS | PARTS


@pytest.mark.parametrize(
    'fields',
    [
        {
            'total_tokens': 5000,
            'heartbeat_interval_sec': 10,
            'heartbeat_timeout_sec': 30,
            'token_refresh_initial_interval_sec': 2,
        },
        {'total_tokens': 50000, 'heartbeat_interval_sec': 3, 'heartbeat_timeout_sec': 10, 'dead_node_check_interval_sec': 5},
        {'heartbeat_interval_sec': 3, 'heartbeat_timeout_sec': 9, 'token_refresh_steady_interval_sec': 10},
        {'enabled': False},
        {'heartbeat_interval_sec': 0.25, 'heartbeat_timeout_sec': 1.5, 'rebalance_delay_sec': 0, 'weight': 0},
        {'minimum_nodes': 3, 'hash_function': 'double_sha256', 'appname': 'Billing2_', 'weight': 2.5},
        {'total_tokens': 1},
    ],
)
def test_what_is_given_is_kept(fields: dict[str, Any]) -> None:
    """The settings of the usage guide, and others within range, are taken as they are."""
    made = config(**fields)
    assert {name: getattr(made, name) for name in fields} == fields


@pytest.mark.parametrize(
    ('name', 'value', 'allowed'),
    [
        *[
            (name, value, 'True or False')
            for name in ('enabled', 'locks_enabled', 'known_death')
            for value in (1, 0, 'yes', None)
        ],
        *[('total_tokens', value, 'an integer from 1') for value in (0, -1, 1.0, '5000', True, None, 2**40)],
        *[('minimum_nodes', value, 'an integer from 1') for value in (0, 1.5, True, '2')],
        *[(name, value, 'a number of seconds from') for name in SECONDS for value in (-1, True, '5', math.nan, math.inf)],
        *[(name, None, 'a number of seconds from') for name in SECONDS if name != 'progress_timeout_sec'],
        *[(name, 0, 'from 0.01') for name in SECONDS if name not in MAY_BE_NOTHING],
        *[('max_attempts', value, 'an integer from 2 to 1000') for value in (0, 1, 2.0, True, '3')],
        *[('lease_margin', value, 'a number from 0.01 to 0.5') for value in (0, 0.6, 1, -0.1, True, math.nan, '0.1')],
        *[('weight', value, 'a number from 0 to') for value in (-1, math.nan, -math.inf, True, '1', 1e9)],
        *[('retention_days', value, 'a number of days from 0.0001') for value in (0, -1, True, '30', math.nan, 1e9)],
        *[('hash_function', value, 'one of xxh3, md5, sha256, double_sha256') for value in ('sha1', '', None, 3, ['md5'])],
        *[('appname', v, 'an identifier prefix') for v in ('', '1a', 'a-b', 'a b', 'a.', 'é', 'a\n', 'x' * 33, 3, 'a";--')],
        *[('backend', value, 'URL') for value in ('', ' \n', 'jobs.db', 3, {}, {'open': 1}, object(), b'sqlite://')],
        *[('port', value, 'an integer from 1 to 65535') for value in (0, 65536, '5432', True)],
        *[(name, value, 'printable text') for name in ('host', 'dbname', 'user', 'known_death_dir') for value in ('', 3, 'a\0')],
    ],
)
def test_a_bad_value_is_named(name: str, value: object, allowed: str) -> None:
    """A value of the wrong type or out of range gives one error with the field, the value, its type and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        config(**{name: value})
    message = str(caught.value)
    assert message.startswith(f'{name} is {value!r} ({type(value).__name__})') or len(repr(value)) > 120
    assert allowed in message


@pytest.mark.parametrize(
    ('name', 'value', 'allowed'),
    [
        ('lease_margin', -1, 'a number from 0.01 to 0.5'),  # the lease would outlast the timeout
        ('heartbeat_timeout_sec', math.inf, 'a number of seconds from'),
        ('total_tokens', 0, 'an integer from 1'),
        ('backend', 'jobs.db', 'URL'),
        ('minimum_nodes', True, 'an integer from 1'),
    ],
)
def test_a_program_without_validators(name: str, value: object, allowed: str) -> None:
    """A program that disables the validators of attrs, for every class of its process, disables no check of a setting."""
    with attrs.validators.disabled():
        assert config(**{name: None if name == 'minimum_nodes' else OURS.get(name, SEED.get(name))})
        with pytest.raises(ConfigError, match=f'^{name} is .*{allowed}'):
            config(**{name: value})


def test_a_namespace_without_validators() -> None:
    """A namespace, of which names of tables are made, is checked there too."""
    with attrs.validators.disabled(), pytest.raises(ConfigError, match='appname is'):
        BackendOptions('a"; --')


@pytest.mark.parametrize(
    ('fields', 'names'),
    [
        ({'heartbeat_timeout_sec': 5}, ['heartbeat_timeout_sec is 5', 'heartbeat_interval_sec', 'is 5']),
        ({'heartbeat_interval_sec': 20}, ['heartbeat_timeout_sec is 15', 'is 20']),
        ({'heartbeat_timeout_sec': 5.5}, ['heartbeat_timeout_sec is 5.5', 'lease_margin of 0.1', '4.95']),
        ({'lease_margin': 0.5, 'heartbeat_timeout_sec': 10}, ['lease_margin of 0.5', 'heartbeat_interval_sec']),
        ({'host': 'h', 'dbname': 'd', 'backend': 'memory://'}, ['backend', 'memory://', 'host', 'one or the other']),
        ({'host': 'h'}, ['host', 'dbname']),
        ({'dbname': 'd'}, ['dbname', 'without host']),
        ({'password': 's3cret'}, ['password', 'without host']),
    ],
)
def test_values_that_do_not_go_together(fields: dict[str, Any], names: list[str]) -> None:
    """Fields that contradict each other are refused by name and value."""
    with pytest.raises(ConfigError) as caught:
        config(**fields)
    assert [name for name in names if name not in str(caught.value)] == []


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('total_token', 'did you mean total_tokens'),
        ('heartbeat_interval', 'did you mean heartbeat_interval_sec'),
        ('zzz', 'there are'),
        *((argument, 'it is an argument of Job') for argument in inspect.signature(Job).parameters),
    ],
)
def test_unknown_field(name: str, hint: str) -> None:
    """An unknown field is a ``ConfigError``, not Python's ``TypeError``, and names the nearest there is."""
    fields: dict[str, Any] = {name: 1}
    with pytest.raises(ConfigError, match=hint) as caught:
        config(**fields)
    assert repr(name) in str(caught.value)
    with pytest.raises(ConfigError, match=hint):
        attrs.evolve(CoordinationConfig(), **fields)


def test_fields_are_given_by_name() -> None:
    """A positional argument is refused by value."""
    with pytest.raises(ConfigError, match=r'by name.*5000'):
        CoordinationConfig(5000)  # type: ignore[call-arg, arg-type]


def test_signature() -> None:
    """Tools and people see the real signature."""
    assert list(inspect.signature(CoordinationConfig).parameters) == list(SEED | OURS | PARTS)


def test_every_field_is_documented() -> None:
    """Each field of the class is followed by a docstring of its own."""
    source = inspect.getsource(CoordinationConfig)
    for name in SEED | OURS | PARTS:
        declaration = source.split(f'\n    {name}: ', 1)[1]
        assert declaration.split('\n\n', 1)[0].count('"""') == 2, name


def test_is_a_value() -> None:
    """Frozen, equal by fields, hashable, and the same after a copy or a pickle."""
    made = CoordinationConfig(total_tokens=5)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.total_tokens = 6  # type: ignore[misc]
    for twin in (CoordinationConfig(total_tokens=5), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert twin == made
        assert hash(twin) == hash(made)


@pytest.mark.parametrize('field', [{'minimum_nodes': 1}, {'appname': 'sync_'}])
def test_given_is_another_configuration(field: dict[str, Any]) -> None:
    """Two configurations that behave differently differ: a value given is not the same as none given."""
    assert CoordinationConfig(**field) != CoordinationConfig()
    assert CoordinationConfig(**field) == CoordinationConfig(**field)
    assert CoordinationConfig().options.namespace == 'sync_'


@pytest.mark.parametrize(
    ('fields', 'url'),
    [
        ({}, 'postgresql://h/d'),
        ({'user': 'u', 'password': 'p', 'port': 5433}, 'postgresql://u:p@h:5433/d'),
        ({'user': 'u'}, 'postgresql://u@h/d'),
        ({'user': 'u@x', 'password': 'p@s/:?#%é '}, 'postgresql://u%40x:p%40s%2F%3A%3F%23%25%C3%A9%20@h/d'),
        ({'host': '::1', 'port': 1}, 'postgresql://[::1]:1/d'),
        ({'host': 'fe80::1%eth0'}, 'postgresql://[fe80::1%25eth0]/d'),
        ({'host': '/run/pg', 'port': 5433, 'user': 'u'}, 'postgresql://u@/d?host=%2Frun%2Fpg&port=5433'),
        ({'dbname': 'a/b'}, 'postgresql://h/a%2Fb'),
    ],
)
def test_postgresql_by_parts(fields: dict[str, Any], url: str) -> None:
    """host, port, dbname, user and password make one URL, each part quoted."""
    assert config(**{'host': 'h', 'dbname': 'd'} | fields).store == url


def test_the_drivers_own_parser_reads_the_parts_back() -> None:
    """SQLAlchemy finds in the URL what was given, whatever characters it is of."""
    from sqlalchemy import make_url

    parts = {'host': 'db.example', 'port': 5433, 'dbname': 'jobs', 'user': 'a:b@c/d', 'password': 'p@s/:?#[]%& +é'}
    url = make_url(str(config(**parts).store))
    assert (url.host, url.port, url.database, url.username, url.password) == tuple(parts.values())
    socket = make_url(str(config(host='/var/run/pg', dbname='jobs', user='u', port=5433).store))
    assert (socket.host, socket.database, socket.query) == (None, 'jobs', {'host': '/var/run/pg', 'port': '5433'})


def test_a_backend_is_a_store() -> None:
    """A ready backend, or a URL, is the store as it is."""
    ready = backend()
    assert CoordinationConfig(backend=ready).store is ready
    assert CoordinationConfig(backend='memory://x').store == 'memory://x'
    assert CoordinationConfig().store is None


@pytest.mark.parametrize(
    'fields',
    [
        {'backend': 'postgresql://u:s3cret@h/db'},
        {'backend': 'postgresql://h/db?password=s3cret'},
        {'host': 'h', 'dbname': 'd', 'user': 'u', 'password': 's3cret'},
    ],
)
def test_a_password_is_not_shown(fields: dict[str, Any]) -> None:
    """No repr shows a password, though the store it leads to has it."""
    made = config(**fields)
    assert 's3cret' not in repr(made)
    assert '***' in repr(made)
    assert 's3cret' in str(made.store)


@pytest.mark.parametrize(
    'fields',
    [
        {'backend': 'u:s3cret@h/db'},
        {'backend': 'postgresql://u:s3cret@h/db', 'host': 'h', 'dbname': 'd'},
        {'password': b's3cret'},
        {'password': 's3cret\n', 'user': 'u', 'host': 'h', 'dbname': 'd'},
        {'password': 's3cret'},
    ],
)
def test_a_password_is_in_no_message(fields: dict[str, Any]) -> None:
    """No error shows a password."""
    with pytest.raises(ConfigError) as caught:
        config(**fields)
    assert 's3cret' not in str(caught.value)


def test_derived_values() -> None:
    """Lease, cluster settings and backend options follow from the fields."""
    made = CoordinationConfig(total_tokens=7, hash_function='md5', appname='x_', op_timeout_sec=1, bulk_timeout_sec=2)
    assert made.lease_sec == 13.5
    assert made.settings == Settings(7, 'md5')
    assert (made.options.namespace, made.options.op_timeout_sec, made.options.bulk_timeout_sec) == ('x_', 1, 2)
    assert type(CoordinationConfig().options.namespace) is str


@pytest.mark.parametrize('check', [checks.integer(2, 5), checks.number(2, 5)])
def test_the_limits_that_an_error_names_are_allowed(check: checks.Check) -> None:
    """Both of them, and nothing beyond."""
    assert [check.is_allowed(value) for value in (1, 2, 5, 6)] == [False, True, True, False]
