"""Commands that distributions add to ``jobsync``: entry points of the group ``jobsync.commands``.

The name of the entry point is the name of the command, and its object is a ``click.Command``. ``jobsync demo`` and ``jobsync
bench`` come this way too, so the library imports neither.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import click

from jobsync._entry_points import is_of_module, read_entry_points
from jobsync.backend import redact_url, safe_repr
from jobsync.cli.common import Terminated
from jobsync.cli.output import plain

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ['GROUP', 'CommandGroup']

GROUP = 'jobsync.commands'
_EXAMPLE = 'jobsync status --backend URL'
_URLS = 'jobsync.urls'
"""The arguments that may be URLs."""


class CommandGroup(click.Group):
    """A group whose own commands are followed by those of entry points.

    A command of its own wins over an entry point of that name. An entry point that cannot be loaded is listed with the reason,
    and fails with it when it is called; the other commands work.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what precedes a command, and say where its options belong if they are there."""
        ctx.meta[_URLS] = [text for arg in args for text in (arg, arg.partition('=')[2]) if '://' in text]
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            message = f'{error.option_name} is no option of {ctx.command_path}: options follow the command, as in {_EXAMPLE}.'
            raise click.NoSuchOption(error.option_name, message, error.possibilities, ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command. An error that quotes a misplaced URL shows no password; Ctrl-C ends it as shells expect (130)."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            click.echo(f'\nAborted! {plain(str(interrupt))}'.rstrip(), err=True)
            ctx.exit(128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT))
        except click.UsageError as error:
            message = error.format_message()
            for url in ctx.meta[_URLS]:
                message = message.replace(url, redact_url(url))
            raise click.UsageError(message, error.ctx) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted({*super().list_commands(ctx), *(entry.name for entry in read_entry_points(GROUP)[0])})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, a stand-in for one that cannot be loaded, or None."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        entry = next((entry for entry in read_entry_points(GROUP)[0] if entry.name == cmd_name), None)
        return None if entry is None else _loaded(entry)


def _loaded(entry: EntryPoint) -> click.Command:
    try:
        command = entry.load()
    except ModuleNotFoundError as error:
        return _Unusable(entry.name, f'{error}{_remedy(entry)}')
    except BaseException as error:  # a module of another distribution may raise anything
        if not is_of_module(error, entry.load):
            raise
        return _Unusable(entry.name, f'{entry.value} of {_source(entry)} cannot be loaded: {type(error).__name__}: {error}')
    if not isinstance(command, click.Command):
        return _Unusable(entry.name, f'{entry.value} of {_source(entry)} is {safe_repr(command)}: must be a click.Command')
    return command


def _source(entry: EntryPoint) -> str:
    return 'an unknown distribution' if entry.dist is None else f'{entry.dist.name} {entry.dist.version}'


def _remedy(entry: EntryPoint) -> str:
    """Return what to install for a command: the extra of its name where the distribution has one."""
    dist: Distribution | None = entry.dist
    if dist is None or entry.name not in (dist.metadata.get_all('Provides-Extra') or ()):
        return f' (needed by {entry.value} of {_source(entry)})'
    return f": pip install '{dist.name}[{entry.name}]'"


class _Unusable(click.Command):
    """A stand-in for a command that cannot be loaded."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            name,
            help=f'Cannot be used: {reason}',
            context_settings={'ignore_unknown_options': True, 'allow_extra_args': True, 'help_option_names': []},
        )
        self._reason = reason

    def invoke(self, ctx: click.Context) -> None:  # noqa: ARG002  (click calls it so)
        """Fail with the reason."""
        raise click.ClickException(f'the command {self.name} cannot be used: {self._reason}')
