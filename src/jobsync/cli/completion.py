"""``jobsync completion``: the script by which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

__all__ = ['completion']

_SHELLS: dict[str, type[ShellComplete]] = {'bash': BashComplete, 'zsh': ZshComplete, 'fish': FishComplete}


@click.command()
@click.argument('shell', type=click.Choice(tuple(_SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes commands and options.

    For bash put eval "$(jobsync completion bash)" into ~/.bashrc; for zsh the same with zsh into ~/.zshrc; for fish write the
    output to ~/.config/fish/completions/jobsync.fish.
    """
    click.echo(_SHELLS[shell](ctx.find_root().command, {}, 'jobsync', '_JOBSYNC_COMPLETE').source())
