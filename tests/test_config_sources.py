"""Where a configuration comes from."""

from __future__ import annotations

import logging
import os
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from libb import Setting  # type: ignore[import-untyped]

from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.config import CoordinationConfig, resolve
from jobsync.database import TokenColumn
from jobsync.errors import ConfigError
from jobsync.job import Job

URL = 'memory://test'


@pytest.fixture(autouse=True)
def _locking() -> Iterator[None]:
    """The lock of libb is one switch for the process: leave it as it was."""
    before = Setting._locked
    yield
    Setting._locked = before


def setting(tree: dict[str, Any], cls: type = Setting) -> Any:
    """Settings as libb keeps them, nested."""
    return cls({name: setting(value, cls) if isinstance(value, dict) else value for name, value in tree.items()})


def module(tree: dict[str, Any]) -> types.ModuleType:
    """A config module whose ``sync`` is a Setting, with what else a module holds."""
    made = types.ModuleType('config')
    vars(made).update({name: setting(value) for name, value in tree.items()}, os=logging, Setting=Setting, DEBUG=True)
    return made


def namespace(tree: dict[str, Any]) -> Any:
    """Plain objects, nested."""
    return SimpleNamespace(**{name: namespace(value) if isinstance(value, dict) else value for name, value in tree.items()})


def classes(tree: dict[str, Any]) -> Any:
    """Nested classes with class attributes, and a method among them."""
    members = {name: classes(value) if isinstance(value, dict) else value for name, value in tree.items()}
    return type('Config', (), members | {'method': lambda self: None, 'prop': property(lambda self: None)})


def instances(tree: dict[str, Any]) -> Any:
    """Objects whose values stand in their class, partly hidden by __slots__."""
    members = {name: instances(value) if isinstance(value, dict) else value for name, value in tree.items()}
    return type('Config', (), members | {'__slots__': ()})()


def submodules(tree: dict[str, Any]) -> types.ModuleType:
    """A package whose sections are modules."""
    made = types.ModuleType('config')
    vars(made).update({n: submodules(v) if isinstance(v, dict) else v for n, v in tree.items()}, logging=logging, Any=Any)
    return made


SHAPES = [setting, module, dict, namespace, classes, instances, submodules]


@pytest.mark.parametrize('locked', [True, False], ids=['locked', 'unlocked'])
@pytest.mark.parametrize('shape', SHAPES)
def test_any_kind_of_config(shape: Any, locked: bool) -> None:
    """Modules, libb Settings locked or not, mappings and objects all say the same."""
    config = shape({'sync': {'coordination': {'total_tokens': 5000, 'heartbeat_timeout_sec': 30}, 'backend': URL}})
    Setting._locked = locked
    assert resolve(config, None, {}) == CoordinationConfig(total_tokens=5000, heartbeat_timeout_sec=30, backend=URL)


def test_the_usage_guides_config_module() -> None:
    """The guide's own config module gives what it says."""
    Setting.unlock()
    sync = Setting()
    sync.coordination.enabled = True
    sync.coordination.total_tokens = 5000
    sync.coordination.heartbeat_interval_sec = 10
    sync.coordination.heartbeat_timeout_sec = 30
    Setting.lock()
    config = types.ModuleType('config')
    vars(config)['sync'] = sync
    made = resolve(config, None, {'JOBSYNC_BACKEND': URL})
    assert made == CoordinationConfig(total_tokens=5000, heartbeat_interval_sec=10, heartbeat_timeout_sec=30, backend=URL)


@pytest.mark.parametrize('tree', [{}, {'sync': {}}, {'sync': {'coordination': {'total_tokens': 5}}}])
def test_reading_leaves_no_trace(tree: dict[str, Any]) -> None:
    """An unlocked Setting, which grows when it is asked, is as it was."""
    Setting.unlock()
    config = setting(tree)
    resolve(config, None, {'JOBSYNC_BACKEND': URL})
    assert config == tree


def test_what_others_questions_left_behind() -> None:
    """Empty sections and values, which a question to an unlocked Setting leaves behind, count as not there."""
    Setting.unlock()
    config = Setting()
    for touched in ('coordination', 'sql', 'backend', 'backends', 'other'):
        getattr(config.sync, touched)
    config.sync.coordination.total_tokens = 5
    _ = config.sync.coordination.weight, config.sync.coordination.wieght, config.sync.sql.port
    assert resolve(config, None, {'JOBSYNC_BACKEND': URL}) == CoordinationConfig(total_tokens=5, backend=URL)


@pytest.mark.parametrize(
    'config', [None, {}, {'sync': None}, types.ModuleType('empty'), object(), {'sync': {'coordination': None}}]
)
def test_no_settings(config: object) -> None:
    """Without settings the defaults hold."""
    assert resolve(config, None, {'JOBSYNC_BACKEND': URL}) == CoordinationConfig(backend=URL)


def test_the_argument_comes_first() -> None:
    """``coordination_config`` takes the place of ``config.sync.coordination`` as a whole."""
    config = {'sync': {'coordination': {'total_tokens': 5, 'weight': 3}, 'backend': URL}}
    assert resolve(config, CoordinationConfig(total_tokens=7), {}) == CoordinationConfig(total_tokens=7, backend=URL)


def test_a_ready_section() -> None:
    """``config.sync.coordination`` may be a ``CoordinationConfig``."""
    ready = CoordinationConfig(total_tokens=7, backend=URL)
    assert resolve({'sync': {'coordination': ready}}, None, {}) == ready


SQL = {'host': 'h', 'dbname': 'd', 'user': 'u', 'passwd': 'p/w', 'port': 5433, 'appname': 'mine_'}
SQL_URL = 'postgresql://u:p%2Fw@h:5433/d'


def test_priority_of_the_backend() -> None:
    """Argument, coordination section, config.sync.backend, config.sync.sql, environment: the first there is."""
    sync: dict[str, Any] = {'coordination': {'backend': 'memory://2'}, 'backend': 'memory://3', 'sql': SQL}
    environ = {'JOBSYNC_BACKEND': 'memory://5'}
    given = CoordinationConfig(backend='memory://1')
    assert resolve({'sync': sync}, given, environ).backend == 'memory://1'
    assert resolve({'sync': sync}, CoordinationConfig(), environ).backend == 'memory://2'
    assert resolve({'sync': sync}, None, environ).backend == 'memory://2'
    del sync['coordination']
    assert resolve({'sync': sync}, None, environ).backend == 'memory://3'
    del sync['backend']
    assert resolve({'sync': sync}, None, environ).backend == SQL_URL
    del sync['sql']
    assert resolve({'sync': sync}, None, environ).backend == 'memory://5'


@pytest.mark.parametrize('shape', [dict, setting, namespace])
def test_the_words_for_a_database(shape: Callable[[dict[str, Any]], Any]) -> None:
    """``config.sync.sql`` may say hostname, database, username and password, too."""
    sql = {'hostname': 'h', 'database': 'd', 'username': 'u', 'password': 'p/w', 'port': 5433, 'appname': 'mine_'}
    assert resolve(shape({'sync': {'sql': sql}}), None, {}) == CoordinationConfig(backend=SQL_URL, appname='mine_')


def test_parts_become_a_url() -> None:
    """A connection given by parts is a URL in the result, so that there is one place to look."""
    made = resolve(None, CoordinationConfig(host='h', dbname='d', user='u', password='p/w', port=5433), {})
    assert made == CoordinationConfig(backend=SQL_URL)


def test_a_ready_backend() -> None:
    """A backend object may stand in each place, and stays the same object."""
    ready = MemoryBackend(MemoryStore(), CoordinationConfig().options)
    assert resolve(None, CoordinationConfig(backend=ready), {}).backend is ready
    assert resolve({'sync': {'backend': ready}}, None, {}).backend is ready
    assert resolve({'sync': {'coordination': {'backend': ready}}}, None, {}).backend is ready


def test_priority_of_the_prefix() -> None:
    """``appname`` is the argument's, the section's, or that of config.sync.sql: the first that was given."""
    sync: dict[str, Any] = {'coordination': {'appname': 'two_'}, 'sql': SQL}
    assert resolve({'sync': sync}, CoordinationConfig(appname='sync_'), {}).appname == 'sync_'
    assert resolve({'sync': sync}, CoordinationConfig(), {}).appname == 'two_'
    assert resolve({'sync': {'sql': SQL}}, CoordinationConfig(), {}).appname == 'mine_'
    assert resolve({'sync': {'sql': {'appname': 'mine_'}, 'backend': URL}}, None, {}) == CoordinationConfig(
        appname='mine_', backend=URL
    )
    assert resolve(None, None, {'JOBSYNC_BACKEND': URL}).options.namespace == 'sync_'
    environ = {'JOBSYNC_BACKEND': URL, 'JOBSYNC_APPNAME': 'staging_'}
    assert resolve(None, None, environ).options.namespace == 'staging_'
    assert resolve({'sync': {'sql': SQL}}, None, environ).options.namespace == 'mine_'
    assert resolve(None, None, environ | {'JOBSYNC_APPNAME': ''}).options.namespace == 'sync_'


def test_a_relative_path_is_that_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the working directory changes no SQLite file; a URL that is no such path is left as it is."""
    monkeypatch.chdir(tmp_path)
    for url, absolute in (
        ('sqlite:///jobs.db', f'sqlite:///{tmp_path}/jobs.db'),
        ('SQLite:///a/../jobs.db', f'SQLite:///{tmp_path}/a/../jobs.db'),
        *((same, same) for same in ('sqlite:////jobs.db', 'sqlite:///', 'sqlite:///:memory:', 'sqlite://jobs.db', 'redis:///1')),
    ):
        assert resolve({'sync': {'backend': url}}, None, {}).backend == absolute
    for name in ('a#b', 'a?b', os.fsdecode(b'a\xffb')):
        odd = tmp_path / name
        odd.mkdir()
        monkeypatch.chdir(odd)
        assert resolve({'sync': {'backend': 'sqlite:///jobs.db'}}, None, {}).backend == 'sqlite:///jobs.db'


@pytest.mark.parametrize('environ', [{}, {'JOBSYNC_BACKEND': ''}])
def test_no_backend_anywhere(environ: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """With no backend configured it is SQLite in the working directory, and one warning that others will not see it."""
    assert resolve(None, None, environ).backend == f'sqlite:///{Path.cwd()}/jobsync.db'
    [record] = caplog.records
    assert (record.name, record.levelname) == ('jobsync.config', 'WARNING')
    assert 'other machines' in record.getMessage()
    assert 'JOBSYNC_BACKEND' in record.getMessage()


def test_no_backend_in_a_directory_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no backend configured, and no working directory for the file, a job is refused with a ``ConfigError``."""
    gone = tmp_path / 'gone'
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.delenv('JOBSYNC_BACKEND', raising=False)
    with pytest.raises(ConfigError, match='working directory of this process has been removed'), Job('a'):
        pass


def test_a_backend_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """With a backend configured nothing is logged, be it SQLite."""
    resolve(None, CoordinationConfig(backend='sqlite:///x.db'), {})
    assert caplog.records == []


def test_coordination_off_needs_no_backend(caplog: pytest.LogCaptureFixture) -> None:
    """With coordination off there is a backend only if one is configured, and no warning."""
    off = CoordinationConfig(enabled=False)
    assert resolve(None, off, {}).backend is None
    assert resolve({'sync': {'backend': URL}}, off, {}).backend == URL
    assert caplog.records == []


def test_minimum_nodes_given_survives() -> None:
    """Whether ``minimum_nodes`` was given is still known of the result."""
    assert resolve(None, CoordinationConfig(backend=URL), {}).minimum_nodes is None
    assert resolve({'sync': {'coordination': {'minimum_nodes': 1}, 'backend': URL}}, None, {}).minimum_nodes == 1


@attrs.define
class Settings:
    """A section whose values stand in slots."""

    total_tokens: int = 5
    heartbeat_intervall_sec: int = 7


@pytest.mark.parametrize(
    ('sync', 'message'),
    [
        ({'coordination': {'total_tokens': '5'}}, r"config\.sync\.coordination: total_tokens is '5' \(str\): must be an integer"),
        ({'coordination': {'heartbeat_timeout_sec': 5}}, r'config\.sync\.coordination: heartbeat_timeout_sec is 5'),
        (
            {'coordination': {'total_token': 5}},
            r"config\.sync\.coordination has no field 'total_token': did you mean total_tokens",
        ),
        ({'coordination': {5: 5}}, r'config\.sync\.coordination has no field 5'),
        ({'coordination': SimpleNamespace(wieght=5)}, r"no field 'wieght': did you mean weight"),
        ({'coordination': type('C', (), {'wieght': 5})}, r"no field 'wieght': did you mean weight"),
        ({'coordination': Settings()}, r"no field 'heartbeat_intervall_sec': did you mean heartbeat_interval_sec"),
        ({'coordination': 5}, r'config\.sync\.coordination is 5 \(int\): must be a section'),
        ({'coordination': [('total_tokens', 5)]}, r'must be a section'),
        ({'coordinaton': {'total_tokens': 5}}, r"config\.sync has no field 'coordinaton': did you mean coordination"),
        ({'sql': SQL | {'pasword': 'x'}}, r"config\.sync\.sql has no field 'pasword': did you mean password"),
        ({'sql': SQL | {'password': 'x'}}, r'config\.sync\.sql has both passwd and password'),
        ({'sql': SQL | {'hostname': 'h'}}, r'config\.sync\.sql has both host and hostname'),
        ({'sql': SQL | {'port': '5433'}}, r"config\.sync\.sql: port is '5433' \(str\)"),
        ({'sql': SQL | {'appname': 'my-app'}}, r"config\.sync\.sql: appname is 'my-app'"),
        ({'sql': {'host': 'h'}}, r'config\.sync\.sql: host .* without dbname'),
        ({'sql': {'dbname': 'd'}}, r'config\.sync\.sql: dbname .* without host'),
        ({'backend': f'{URL}\n'}, r'config\.sync: backend is .*must have no space and no line break at either end'),
        (
            {'minimum_nodes': 1},
            r'config\.sync has minimum_nodes, which has no effect there: give it in config\.sync\.coordination',
        ),
        ({'enabled': False, 'backend': URL}, r'config\.sync has enabled, which'),
        ({'appname': 'mine_', 'backend': URL}, r'config\.sync has appname, which'),
        ({'weight': 0, 'backend': URL}, r'config\.sync has weight, which'),
        ({'backend': 'jobs.db'}, r"config\.sync: backend is 'jobs\.db'"),
        ({'backend': {'url': URL}}, r'config\.sync: backend is'),
        ('sqlite:///x.db', r"config\.sync is 'sqlite:///x.db' \(str\): must be a section"),
    ],
)
def test_a_wrong_section(sync: object, message: str) -> None:
    """An error in a config object says where it stands, the value and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        resolve({'sync': sync}, None, {})


def test_a_wrong_environment() -> None:
    """A wrong variable is named."""
    with pytest.raises(ConfigError, match=r"JOBSYNC_BACKEND: backend is 'jobs\.db'"):
        resolve(None, None, {'JOBSYNC_BACKEND': 'jobs.db'})
    with pytest.raises(ConfigError, match=r"^JOBSYNC_APPNAME: appname is 'my-app'"):
        resolve(None, CoordinationConfig(backend=URL), {'JOBSYNC_APPNAME': 'my-app'})


@pytest.mark.parametrize('name', ['JOBSYNC_APP_NAME', 'JOBSYNC_APNAME', 'JOB_SYNC_APPNAME', 'JOBSYNC_BACKED', 'JOBSYNC_BACKENDS'])
def test_a_misspelt_variable(name: str) -> None:
    """Where the variable would count, a name that is nearly its is refused; names of others, and of more words, are not."""
    right = 'JOBSYNC_BACKEND' if 'BACK' in name else 'JOBSYNC_APPNAME'
    with pytest.raises(ConfigError, match=f"^the environment has '{name}', which has no effect: did you mean {right}\\?$"):
        resolve(None, None, {name: 'mine_', **({} if 'BACK' in name else {'JOBSYNC_BACKEND': URL})})
    given = CoordinationConfig(backend=URL, appname='mine_')
    assert resolve(None, given, {name: 'other_'}) == given
    both = {'JOBSYNC_BACKEND': URL, 'JOBSYNC_APPNAME': 'mine_', name: 'other_'}  # as for a version that a roll-back may start
    assert resolve(None, None, both) == given
    others = {'JOBSYNC_BACKEND_PORT': 'tcp://10.0.0.1:80', 'JOBSYNC_CONFIG': 'x', 'JOBSYNC_REDIS_BIN': 'x'}
    assert resolve(None, None, {**others, 'JOBSYNC_BACKEND': URL}).backend == URL


@pytest.mark.parametrize('config', ['config.py', Path('config.py'), 5, [1], b'x'])
def test_config_of_no_use(config: object) -> None:
    """What cannot hold settings is refused, not passed over."""
    with pytest.raises(ConfigError, match=r'^config is .*must be a section'):
        resolve(config, None, {})


@pytest.mark.parametrize('name', ['sync.coordination', 'sync.coordination.minimum_nodes', 'sync.backend'])
def test_names_with_dots(name: str) -> None:
    """A section of an INI file, or a flat name, would have no effect. Such names of other programs are left alone."""
    config = {'sync': {'backend': 'memory://'}, 'sync.backends': 3, 'sync.interval': 5}
    assert resolve(config, None, {}).backend == 'memory://'
    with pytest.raises(ConfigError, match=f"config has '{name}', which has no effect"):
        resolve(config | {name: {'minimum_nodes': 3}}, None, {})


def test_fields_at_the_wrong_level() -> None:
    """Fields of the coordination at the top, which would have no effect: an error that names them and their place."""
    with pytest.raises(ConfigError, match=r"no section 'sync', but backend, heartbeat_interval_sec: give coordination_config="):
        resolve({'backend': URL, 'heartbeat_interval_sec': 1}, None, {})
    resolve({'backend': 'of another library', 'debug': True}, None, {'JOBSYNC_BACKEND': URL})
    with pytest.raises(ConfigError, match=r"no section 'sync', but coordination: give coordination_config="):
        resolve({'coordination': {'backend': URL}}, None, {})


@pytest.mark.parametrize('shape', [dict, setting, module, namespace])
def test_a_misspelt_section(shape: Callable[[dict[str, Any]], Any]) -> None:
    """Where nothing else names a store, it is no reason to take one of this machine."""
    with pytest.raises(ConfigError, match=r"has 'snyc' and no section 'sync', and no backend .*did you mean 'sync'"):
        resolve(shape({'snyc': {'coordination': {'backend': URL}}}), None, {})
    with pytest.raises(
        ConfigError, match=r"has 'Sync' and no section 'sync', so its settings have no effect: did you mean 'sync'"
    ):
        resolve(shape({'Sync': {'coordination': {'total_tokens': 5}}}), None, {'JOBSYNC_BACKEND': URL})
    assert resolve({'async': {'workers': 3}}, None, {'JOBSYNC_BACKEND': URL}).backend == URL
    assert resolve({'timezone': {}, 'async': True}, None, {}).backend == f'sqlite:///{Path.cwd()}/jobsync.db'


def test_arguments_changed_over() -> None:
    """A ``CoordinationConfig`` or a job in the place of ``config``, or something else in its own, is refused."""
    with pytest.raises(ConfigError, match='config is a job: pass the settings'):
        TokenColumn.of(Job('w1', coordination_config=CoordinationConfig(enabled=False)))
    with pytest.raises(ConfigError, match='pass it as coordination_config'):
        resolve(CoordinationConfig(), None, {})
    with pytest.raises(ConfigError, match=r'coordination_config is .*must be a CoordinationConfig'):
        resolve(None, {'total_tokens': 5}, {})  # type: ignore[arg-type]


def test_other_things_beside_ours() -> None:
    """``config.sync`` may hold what is none of ours."""
    others = {'timezone': 'UTC', 'host': 'h', 'user': 'u'}
    assert resolve({'sync': {'backend': URL, **others}}, None, {}) == CoordinationConfig(backend=URL)
