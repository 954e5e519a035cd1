"""Conventions that all commands of ``jobsync`` share, those of other distributions included."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import os
import signal
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from jobsync._core.redact import safe_repr
from jobsync.backend import Reach, redact_url
from jobsync.cli.output import plain
from jobsync.cluster import Cluster
from jobsync.config import CoordinationConfig
from jobsync.config.sources import APPNAME_VARIABLE, ENVIRONMENT_VARIABLE, refuse_misspelt
from jobsync.errors import ConfigError, JobsyncError, SchemaMismatch

__all__ = [
    'ATTENTION',
    'Terminated',
    'absence',
    'cluster_command',
    'confirm',
    'day_option',
    'errors_as_lines',
    'json_option',
    'other_namespaces',
    'reading_command',
    'steering_command',
    'url_or_stdin',
    'with_kind',
    'yes_option',
]

_BULK = 12
"""How many times as long as another call one may take that carries many records: the ratio of the defaults of ``Cluster``."""
_LONGEST_SEC = 3600
"""How long any call may take at most, as ``Cluster`` allows it."""
_NAMESPACES = 20
"""How many namespaces are named where the one that was given is missing."""
ATTENTION = 3
"""The exit status if all went well and something needs attention: an unhealthy cluster, a task that no node may do."""

yes_option = click.option('--yes', '-y', is_flag=True, help='Do not ask for confirmation. Needed where there is no terminal.')
json_option = click.option('--json', 'as_json', is_flag=True, help='Print JSON, for programs.')


class Terminated(KeyboardInterrupt):
    """SIGTERM has come."""


@contextlib.contextmanager
def errors_as_lines() -> Iterator[None]:
    """Show a ``JobsyncError`` as one line and exit with status 1, without a traceback."""
    try:
        yield
    except JobsyncError as error:
        raise click.ClickException(plain(str(error))) from error


def with_kind(error: JobsyncError) -> str:
    """Return what the error says, after the name of its class in ``jobsync.errors``; a backend may have others for itself."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == JobsyncError.__module__)
    return f'{kind.__name__}: {error}'


def confirm(question: str, *, yes: bool) -> None:
    """Return if a person at the terminal confirms what is to be done, or ``yes`` has it done without a question.

    Raises:
        click.UsageError: no person can answer, since standard input is no terminal: the exit status is 2.
        click.Abort: the person does not confirm: the exit status is 1.
    """
    if yes:
        return
    if not is_terminal():
        raise click.UsageError('this asks for confirmation, and standard input is no terminal: give --yes')
    click.confirm(question, abort=True, err=True)


def is_terminal() -> bool:
    """Return whether a person can answer a question."""
    return sys.stdin is not None and sys.stdin.isatty()


def _not_empty(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """Refuse an option that is given as "$VARIABLE" by a script without that variable: it would mean another cluster."""
    if text == '':
        raise click.BadParameter('it is empty: is the variable set that it is from?')
    return text


def url_or_stdin(context: click.Context, parameter: click.Parameter, url: str | None) -> str | None:
    """Read the URL from standard input for ``-``: all users of a machine see the arguments of a process.

    The callback of a click parameter.
    """
    if url != '-':
        return _not_empty(context, parameter, url)
    try:
        found = sys.stdin.readline().strip() if sys.stdin is not None else ''
    except UnicodeDecodeError as error:
        raise click.BadParameter(f'standard input, from which - reads the URL, is no text: {error.reason}') from error
    if found:
        return found
    raise click.BadParameter('standard input is empty, from which - reads the URL: is the variable set that you write to it?')


def _date(_: click.Context, __: click.Parameter, text: str | None) -> dt.date | None:
    try:
        return None if text is None else dt.date.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f'{text!r} is no date, such as 2026-03-31') from None


def day_option(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option ``--date``, which ``words`` explain."""
    return click.option('--date', metavar='YYYY-MM-DD', callback=_date, help=words)


def cluster_command(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose a cluster, and call the command with a ``Cluster`` as its first argument."""

    @click.option(
        '--backend',
        '-b',
        metavar='URL',
        envvar='JOBSYNC_BACKEND',
        callback=url_or_stdin,
        help='The store; - reads the URL from standard input. [env: JOBSYNC_BACKEND]',
    )
    @click.option(
        '--appname',
        metavar='PREFIX',
        envvar='JOBSYNC_APPNAME',
        callback=_not_empty,
        help='The namespace. [env: JOBSYNC_APPNAME]',
    )
    @click.option(
        '--config',
        type=click.Path(dir_okay=False, path_type=Path),
        envvar='JOBSYNC_CONFIG',
        help='A TOML file with backend and appname, for what is not given otherwise. [env: JOBSYNC_CONFIG]',
    )
    @click.option(
        '--timeout',
        type=click.FloatRange(0.1, _LONGEST_SEC),
        default=5.0,
        show_default=True,
        help=f'Seconds for a call. One that may carry many records has {_BULK} times as long, {_LONGEST_SEC} at most.',
    )
    @functools.wraps(command)
    def with_cluster(backend: str | None, appname: str | None, config: Path | None, timeout: float, **options: Any) -> None:
        with errors_as_lines():
            found = {} if config is None else config_of(config)
            backend, appname = backend or found.get('backend'), appname or found.get('appname')
            for variable, value in ((ENVIRONMENT_VARIABLE, backend), (APPNAME_VARIABLE, appname)):
                if value is None:
                    refuse_misspelt(variable, os.environ)
            if not backend:
                raise click.UsageError(
                    'give the store: --backend URL, the environment variable JOBSYNC_BACKEND, or backend in a file (--config)'
                )
            for name, value in (('backend', backend), ('appname', appname)):
                _check(name, value, config)
            bulk_timeout = min(_BULK * timeout, _LONGEST_SEC)
            with Cluster(backend, appname, op_timeout_sec=timeout, bulk_timeout_sec=bulk_timeout) as cluster:
                try:
                    command(cluster, **options)
                except SchemaMismatch as error:
                    place = f'this is the namespace {appname or "sync_"!r} at {redact_url(backend)}'
                    hint = absence(cluster)
                    raise SchemaMismatch(f'{error} ({place}{hint and ": "}{hint})') from error

    return with_cluster


def _check(name: str, value: str | None, config: Path | None) -> None:
    """Raise ``ConfigError`` if an option's value is not allowed, with its place unless that is the command line."""
    field: dict[str, Any] = {name: value}
    try:
        CoordinationConfig(**field)
    except ConfigError as error:
        places = {ParameterSource.COMMANDLINE: '', ParameterSource.ENVIRONMENT: f'JOBSYNC_{name.upper()}: '}
        source = click.get_current_context().get_parameter_source(name) or ParameterSource.DEFAULT
        raise ConfigError(f'{places.get(source, f"{config}: ")}{error}') from error


def absence(cluster: Cluster) -> str:
    """Return what to check where the cluster's namespace is absent, with those in the store; '' if the namespace is there."""
    found = None
    with contextlib.suppress(JobsyncError):
        found = cluster.namespaces(_NAMESPACES + 1)
    if found is not None and cluster.appname.lower() in found:
        return ''
    hint = 'are --appname and --backend those of the workers?'
    if cluster.info.reach is Reach.PROCESS:
        hint += ' Only the process that has made a store in memory sees it.'
    if found is not None:
        hint += f' Namespaces in the store: {_some(found)}'
    return hint


def other_namespaces(cluster: Cluster) -> str:
    """Return the names of the other namespaces in the store; '' if there are none, or this user cannot list them."""
    found = None
    with contextlib.suppress(JobsyncError):
        found = cluster.namespaces(_NAMESPACES + 2)
    others = [name for name in found or () if name != cluster.appname.lower()]
    return _some(others) if others else ''


def _some(namespaces: Sequence[str]) -> str:
    more = ' and more' if len(namespaces) > _NAMESPACES else ''
    return f'{", ".join(namespaces[:_NAMESPACES]) or "none"}{more}'


def config_of(path: Path) -> Mapping[str, str]:
    """Return what a configuration file of the commands says: ``backend`` and ``appname``, each text.

    Raises:
        ConfigError: the file cannot be read, or has something else.
    """
    try:
        found = tomllib.loads(path.read_text(encoding='utf-8-sig'))  # editors of Windows write a mark of byte order
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f'{path}: no TOML, in which text is in quotes (backend = "…"): {error}') from error
    except (OSError, ValueError) as error:
        raise ConfigError(f'{path}: {getattr(error, "strerror", None) or error}') from error
    for name, value in found.items():
        if name not in ('backend', 'appname'):
            raise ConfigError(f'{path}: {name}: must have backend = "…" and appname = "…" only')
        if not isinstance(value, str):
            raise ConfigError(f'{path}: {name} is {safe_repr(value)}: must be text in quotes')
    return found


def reading_command(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of ``cluster_command``, and ``--json``."""
    return json_option(cluster_command(command))


def steering_command(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of ``reading_command``, and who steers. SIGTERM, if it is not handled, interrupts as Ctrl-C does."""

    @functools.wraps(command)
    def interruptible(*args: Any, **options: Any) -> None:
        # t=0  timeout(1) runs a command, which sends a change to the store
        # t=1  the time is over: without a word, the command would seem to have done nothing
        # t=2  the store carries out what was sent to it
        # A shell may ignore SIGTERM (trap). A program may have a handler, or run the command in a thread, which can have none.
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            command(*args, **options)
            return
        signal.signal(signal.SIGTERM, _terminate)
        try:
            command(*args, **options)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    actor_option = click.option('--as', 'actor', metavar='WHO', help='Who does it, for the history.  [default: user@host]')
    return actor_option(reading_command(interruptible))


def _terminate(*_: object) -> None:
    raise Terminated
