"""Conventions that all commands of ``jobsync`` share, those of other distributions included."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from jobsync.cluster import Cluster
from jobsync.errors import JobsyncError

__all__ = ['ATTENTION', 'cluster_command', 'day_option', 'errors_as_lines', 'json_option', 'url_or_stdin']

ATTENTION = 3
"""The exit status if all went well and something needs attention: an unhealthy cluster, a task that no node may do."""

json_option = click.option('--json', 'as_json', is_flag=True, help='Print JSON, for programs.')


@contextlib.contextmanager
def errors_as_lines() -> Iterator[None]:
    """Show a ``JobsyncError`` as one line and exit with status 1, without a traceback."""
    try:
        yield
    except JobsyncError as error:
        raise click.ClickException(str(error)) from error


def url_or_stdin(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    """Read the URL from standard input for ``-``: all users of a machine see the arguments of a process.

    The callback of a click parameter.
    """
    return sys.stdin.readline().strip() if url == '-' else url


def _date(_: click.Context, __: click.Parameter, date: dt.datetime | None) -> dt.date | None:
    return None if date is None else date.date()


def day_option(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option ``--date``, which ``words`` explain."""
    return click.option('--date', type=click.DateTime(['%Y-%m-%d']), callback=_date, help=words)


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
    @click.option('--appname', metavar='PREFIX', envvar='JOBSYNC_APPNAME', help='The namespace. [env: JOBSYNC_APPNAME]')
    @click.option('--timeout', type=click.FloatRange(0.1, 3600), default=5.0, show_default=True, help='Seconds for a call.')
    @functools.wraps(command)
    def with_cluster(backend: str | None, appname: str | None, timeout: float, **options: Any) -> None:
        if not backend:
            raise click.UsageError('give the store: --backend URL, or the environment variable JOBSYNC_BACKEND')
        with errors_as_lines(), Cluster(backend, appname, op_timeout_sec=timeout) as cluster:
            command(cluster, **options)

    return with_cluster
