"""Conventions that all commands of ``jobsync`` share, those of other distributions included."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import click

from jobsync.errors import JobsyncError

__all__ = ['errors_as_lines', 'url_or_stdin']


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
