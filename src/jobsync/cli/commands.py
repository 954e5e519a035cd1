"""The commands of ``jobsync`` that belong to the library: their options, and calls of the modules that do the work."""

from __future__ import annotations

import sys

import click

from jobsync import plugins
from jobsync._metadata import NO_METADATA, version_of, why_incomplete
from jobsync.cli.backends import backend_row, print_backends
from jobsync.cli.common import errors_as_lines, json_option, url_or_stdin
from jobsync.cli.completion import completion
from jobsync.cli.doctor import doctor
from jobsync.cli.dump import dump
from jobsync.cli.group import CommandGroup
from jobsync.cli.output import console, print_json
from jobsync.cli.purge import purge
from jobsync.cli.quarantine import quarantine, release
from jobsync.cli.readings import COMMANDS
from jobsync.cli.steering import drain, evict, locks, undrain
from jobsync.cli.web import web
from jobsync.errors import BackendNotFound

__all__ = ['cli']


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        version = version_of('jobsync')
        click.echo(f'jobsync, version {version or f"unknown, since {NO_METADATA}"}')
        ctx.exit()


@click.group(cls=CommandGroup, context_settings={'help_option_names': ['-h', '--help']})
@click.option('--version', is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help='Show the version.')
def cli() -> None:
    """Many worker processes share a pile of tasks, and at most one may claim each."""


@cli.command()
@json_option
def backends(as_json: bool) -> None:
    """List the stores a cluster can run on, those of installed plugins included, and what each backend declares."""
    with errors_as_lines():
        found = plugins.installed()
        if as_json:
            print_json(list(map(backend_row, found)))
        else:
            print_backends(console(), found)
        if incomplete := why_incomplete([backend.distribution for backend in found]):
            raise BackendNotFound(incomplete)


@cli.command()
@click.argument('url', callback=url_or_stdin)
@click.option('--quick', is_flag=True, help='Smaller pools, fewer sequences of calls.')
@click.option('--select', metavar='EXPRESSION', default='', help='Only tests whose names match, as for pytest -k.')
@click.option('--stop-command', default=None, help='Makes the store stop answering.')
@click.option('--start-command', default=None, help='Undoes --stop-command; returns when the store answers.')
@click.option('--restart-command', default=None, help='Kills the store and starts it again; returns when it answers.')
@click.option('--refuse-writes-command', default=None, help='Makes the store answer reads and refuse writes.')
@click.option(
    '--accept-writes-command', default=None, help='Undoes --refuse-writes-command; returns when the store accepts writes.'
)
@click.option('--wipe-command', default=None, help='Deletes everything in the store.')
@click.option('--fail-over-command', default=None, help='Puts another store with the same content in its place.')
@click.option('--harness', metavar='MODULE:CLASS', default=None, help='A Harness of your own, called with the URL for each test.')
@json_option
def conformance(url: str, quick: bool, select: str, harness: str | None, as_json: bool, **commands: str | None) -> None:
    """Check that the backend at URL keeps the protocol, and report which promise each failure costs.

    The store need not be empty: each test uses namespaces of its own, which stay in the store. If the URL contains {unique},
    each test gets a URL of its own; - reads the URL from standard input. The commands, or a harness of your own, do things to
    the store (stop it, restart it, …). The exit status is 1 unless everything that was tried holds, and 2 if the store does
    not answer at all.
    """
    from jobsync.cli.conformance import check

    given = {name.removesuffix('_command'): command for name, command in commands.items() if command is not None}
    with errors_as_lines():
        sys.exit(0 if check(url, given, harness=harness, quick=quick, select=select, as_json=as_json) else 1)


for command in (*COMMANDS, locks, drain, undrain, evict, purge, quarantine, release, doctor, dump, web, completion):
    cli.add_command(command)
