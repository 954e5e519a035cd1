"""Where a configuration comes from if it is not passed.

``config`` is the object in which the user's program keeps its settings: a module, a libb ``Setting``, a mapping, any object. A
``Setting`` is a dict that, unlocked, adds every missing attribute that is read from it. So no attribute of a mapping is read
here, and an empty mapping, which such a reading leaves behind, counts as missing.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from os import PathLike
from pathlib import Path
from types import MemberDescriptorType, ModuleType
from typing import Any

import attrs

from jobsync._core.redact import cut_repr, safe_repr
from jobsync.backend import Backend
from jobsync.config.checks import is_storable, nearest, unknown_field
from jobsync.config.fields import CoordinationConfig
from jobsync.errors import ConfigError

__all__ = ['APPNAME_VARIABLE', 'DEFAULT_BACKEND', 'ENVIRONMENT_VARIABLE', 'refuse_misspelt', 'resolve']

DEFAULT_BACKEND = 'sqlite:///jobsync.db'
ENVIRONMENT_VARIABLE = 'JOBSYNC_BACKEND'
APPNAME_VARIABLE = 'JOBSYNC_APPNAME'

_SYNC_FIELDS = ('coordination', 'backend', 'sql')
_DOTTED = {f'sync.{name}' for name in _SYNC_FIELDS}
"""Names of the sections in files that have no sections in sections, and the beginnings of flat names."""
_COORDINATION_FIELDS = {name for name in attrs.fields_dict(CoordinationConfig) if '_' in name} | {'enabled', 'appname', 'weight'}
"""Names that are jobsync's beyond doubt; ``host`` in ``config.sync`` may be another program's."""
_SQL_FIELDS = {
    'host': 'host',
    'hostname': 'host',
    'port': 'port',
    'dbname': 'dbname',
    'database': 'dbname',
    'user': 'user',
    'username': 'user',
    'password': 'password',
    'passwd': 'password',
    'appname': 'appname',
}
"""From the names that ``config.sync.sql`` may use to those of ``CoordinationConfig``."""

_logger = logging.getLogger('jobsync.config')


def resolve(
    config: object | None, coordination_config: CoordinationConfig | None, environ: Mapping[str, str]
) -> CoordinationConfig:
    """Return the configuration in force, with its ``backend`` chosen.

    Settings: ``coordination_config`` as a whole, else ``config.sync.coordination``, else the defaults.

    Backend: the first that is given in ``coordination_config``, ``config.sync.coordination``, ``config.sync.backend``,
    ``config.sync.sql`` (PostgreSQL) and the environment's ``JOBSYNC_BACKEND``; else SQLite in the working directory, with a
    warning. ``appname``: from the first of the two configurations, ``config.sync.sql`` and the environment's ``JOBSYNC_APPNAME``
    that gives one.

    Args:
        config: The settings of the program, with a section ``sync``.
        coordination_config: A configuration in place of ``config.sync.coordination``.
        environ: The variables of the environment.

    Returns:
        A configuration whose ``backend`` is None only if coordination is off and no store is named. The relative path of a SQLite
        URL is made absolute: the working directory may be another one when the store is connected, or connected once more.

    Raises:
        ConfigError: A setting is not allowed.
    """
    if coordination_config is not None and not isinstance(coordination_config, CoordinationConfig):
        raise ConfigError(f'coordination_config is {safe_repr(coordination_config)}: must be a CoordinationConfig')
    sync = _sync(config)
    section = _coordination(sync.get('coordination'))
    sql = _sql(sync.get('sql'))
    layers = [layer for layer in (coordination_config, section) if layer is not None]
    chosen = layers[0] if layers else CoordinationConfig()
    where, store = _store(
        [
            *(('CoordinationConfig', layer.store) for layer in layers),
            ('config.sync', sync.get('backend')),
            ('config.sync.sql', sql.store),
            (ENVIRONMENT_VARIABLE, environ.get(ENVIRONMENT_VARIABLE)),
        ],
        needed=chosen.enabled,
        instead=_misspelt_section(config) if coordination_config is None else None,
    )
    if coordination_config is None and (misspelt := _misspelt_section(config, ('coordination',))):
        raise ConfigError(f"config has {misspelt!r} and no section 'sync', so its settings have no effect: did you mean 'sync'?")
    if where == 'default' and chosen.enabled:
        refuse_misspelt(ENVIRONMENT_VARIABLE, environ)
    appname = next((layer.appname for layer in [*layers, sql] if layer.appname is not None), None)
    if appname is None:
        refuse_misspelt(APPNAME_VARIABLE, environ)
        appname = _make(APPNAME_VARIABLE, lambda: CoordinationConfig(appname=environ.get(APPNAME_VARIABLE) or None)).appname
    return _make(
        where,
        lambda: attrs.evolve(
            chosen, backend=_absolute(store), appname=appname, host=None, port=None, dbname=None, user=None, password=None
        ),
    )


def _store(
    sources: Iterable[tuple[str, str | Backend | None]], needed: bool, instead: str | None
) -> tuple[str, str | Backend | None]:
    """Return where the first store is given, and the store. ``instead``: the section that may have been meant to name it."""
    for where, store in sources:
        if store is not None and store != '':
            return where, store
    if not needed:
        return 'default', None
    if instead is not None:
        raise ConfigError(f"config has {instead!r} and no section 'sync', and no backend is configured: did you mean 'sync'?")
    _logger.warning(
        'no backend is configured: using %s. Workers on other machines, or started in another directory, will not see it. '
        'Set backend in CoordinationConfig or config.sync, or the variable %s',
        _absolute(DEFAULT_BACKEND),
        ENVIRONMENT_VARIABLE,
    )
    return 'default', DEFAULT_BACKEND


def _absolute(store: str | Backend | None) -> str | Backend | None:
    """Return a store whose file does not depend on the working directory; as it is where a URL cannot name that directory."""
    if not isinstance(store, str):
        return store
    scheme, separator, path = store.partition(':///')
    if scheme.lower() != 'sqlite' or not separator or path[:1] in ('', '/') or path == ':memory:':
        return store
    try:
        folder = Path.cwd()
    except FileNotFoundError:  # removed, which the backend refuses
        return store
    return store if {'?', '#'} & {*str(folder)} or not is_storable(str(folder)) else f'{scheme}:///{folder / path}'


def _sync(config: object | None) -> dict[str, Any]:
    """Return the section ``config.sync``. It may have other fields, except with a misspelt name of jobsync's fields."""
    if isinstance(config, CoordinationConfig):
        raise ConfigError('config is a CoordinationConfig: pass it as coordination_config')
    if callable(getattr(type(config), 'can_claim_task', None)):
        raise ConfigError('config is a job: pass the settings that the job was made with')
    found = _plain(config, ('sync',), 'config')
    _check_level(found)
    sync = _plain(found.get('sync'), _SYNC_FIELDS, 'config.sync')
    for name in sync:
        if name in _COORDINATION_FIELDS:
            raise ConfigError(f'config.sync has {name}, which has no effect there: give it in config.sync.coordination')
        if name not in _SYNC_FIELDS and nearest(name, _SYNC_FIELDS):
            raise unknown_field(name, _SYNC_FIELDS, 'config.sync')
    return sync


def refuse_misspelt(variable: str, environ: Mapping[str, str]) -> None:
    """Raise ``ConfigError`` if the environment has, in place of the variable, one whose name differs by a letter or two."""
    names = [] if environ.get(variable) else [name for name in environ if name != variable]
    if near := difflib.get_close_matches(variable, names, n=1, cutoff=0.9):
        raise ConfigError(f'the environment has {cut_repr(near[0])}, which has no effect: did you mean {variable}?')


def _misspelt_section(config: object | None, fields: Collection[str] = _SYNC_FIELDS) -> str | None:
    """Return the name of the section that is nearly ``sync`` and has one of these fields, if there is no ``sync``."""
    found = _plain(config, ('sync',), 'config')
    names = [name for name, value in found.items() if not _names(value).isdisjoint(fields) and isinstance(name, str)]
    return None if 'sync' in found else next((name for name in names if nearest(name.lower(), ['sync'])), None)


def _names(section: object) -> Set[object]:
    return (section if isinstance(section, Mapping) else getattr(section, '__dict__', {})).keys()


def _check_level(found: Collection[str]) -> None:
    """Refuse fields that belong into a section further down, and names with dots for one: they would have no effect."""
    for name in found:
        if isinstance(name, str) and '.'.join(name.split('.')[:2]) in _DOTTED:
            raise ConfigError(
                f'config has {cut_repr(name)}, which has no effect: it must be a section in a section, as in '
                "config={'sync': {'coordination': {...}}}"
            )
    fields = {**attrs.fields_dict(CoordinationConfig), 'coordination': None}
    if found and all(name in fields for name in found):
        raise ConfigError(
            f"config has no section 'sync', but {', '.join(found)}: give coordination_config=CoordinationConfig(...), or "
            "config={'sync': {'coordination': {...}}}"
        )


def _coordination(section: object) -> CoordinationConfig | None:
    if section is None or isinstance(section, CoordinationConfig):
        return section
    where = 'config.sync.coordination'
    fields = _plain(section, tuple(attrs.fields_dict(CoordinationConfig)), where, closed=True)
    return _make(where, lambda: CoordinationConfig(**fields))


def _sql(section: object) -> CoordinationConfig:
    """Return a configuration of which only the connection and ``appname`` count."""
    where = 'config.sync.sql'
    given: dict[str, str] = {}
    fields: dict[str, Any] = {}
    for name, value in _plain(section, tuple(_SQL_FIELDS), where, closed=True).items():
        field = _SQL_FIELDS[name]
        if field in given:
            raise ConfigError(f'{where} has both {given[field]} and {name}: must be one of them')
        given[field], fields[field] = name, value
    return _make(where, lambda: CoordinationConfig(**fields))


def _make(where: str, make: Callable[[], CoordinationConfig]) -> CoordinationConfig:
    try:
        return make()
    except ConfigError as error:
        raise ConfigError(f'{where}: {error}') from error


def _plain(section: object, known: tuple[str, ...], where: str, closed: bool = False) -> dict[str, Any]:
    """Return a section of any kind as a plain dict. If ``closed``, refuse a field that is not ``known``."""
    if section is None:
        return {}
    if isinstance(section, Mapping):
        found = dict(section)
    elif isinstance(section, (str, bytes, int, float, Sequence, Set, PathLike)):
        raise ConfigError(f'{where} is {safe_repr(section)}: must be a section with names for its values')
    else:
        own = getattr(section, '__dict__', {}) | _in_slots(section)
        found = {name: value for name, value in own.items() if not name.startswith('_') and not _is_code(value)}
        if isinstance(section, ModuleType):
            found |= {name: own[name] for name in known if name in own}
        else:
            found |= {name: getattr(section, name) for name in known if hasattr(section, name)}
    found = {name: value for name, value in found.items() if not (isinstance(value, Mapping) and not value)}
    for name in found:
        if closed and name not in known:
            raise unknown_field(name, known, where)
    return found


def _in_slots(section: object) -> dict[str, Any]:
    names = (
        name for kind in type(section).__mro__ for name, slot in vars(kind).items() if isinstance(slot, MemberDescriptorType)
    )
    return {name: getattr(section, name) for name in names if hasattr(section, name)}


def _is_code(value: object) -> bool:
    """Return whether the value is code, which modules and classes have besides settings."""
    return callable(value) or isinstance(value, ModuleType) or hasattr(type(value), '__get__')
