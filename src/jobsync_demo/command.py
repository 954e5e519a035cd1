"""The command ``jobsync demo``: its options, and the call of ``jobsync_demo.run``."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import attrs
import click
from rich.console import Console

from jobsync.cli.common import errors_as_lines, url_or_stdin
from jobsync_demo.display import display_for
from jobsync_demo.report import figures, print_report
from jobsync_demo.run import MAX_WORKERS, Options, Outcome, run

__all__ = ['demo']


@click.command()
@click.option('--workers', type=click.IntRange(1, MAX_WORKERS), default=4, show_default=True, help='Processes.')
@click.option(
    '--path',
    'root',
    type=click.Path(exists=True, file_okay=False, readable=True, path_type=Path),
    default=None,
    help="The directory whose files are digested. [default: Python's own library]",
)
@click.option(
    '--backend',
    metavar='URL',
    default=None,
    callback=url_or_stdin,
    help='The store; - reads the URL from standard input. [default: SQLite in a temporary folder]',
)
@click.option('--kill/--no-kill', default=True, show_default=True, help='Kill one worker midway and start another.')
@click.option(
    '--seed', type=int, default=None, help='Decides which worker is killed, and the order and pace of the work. [default: drawn]'
)
@click.option('--keep', type=click.Path(file_okay=False, path_type=Path), default=None, help='A new folder for logs and results.')
@click.option('--json', 'as_json', is_flag=True, help='Print the figures as JSON; events go to standard error.')
def demo(
    workers: int, root: Path | None, backend: str | None, kill: bool, seed: int | None, keep: Path | None, as_json: bool
) -> None:
    """Let processes share the files of a directory, kill one of them midway, and check that nothing was lost or shared.

    Each file's lines, words and SHA-256 are found by exactly one worker at a time. The exit status is 1 unless every file is
    done and no two processes ever had one file at once, by the workers' own logs.
    """
    options = Options(
        root=root or Path(sysconfig.get_path('stdlib')),
        workers=workers,
        backend=backend,
        kill=kill,
        seed=random.randrange(1_000_000) if seed is None else seed,
    )
    console = Console(stderr=as_json)
    with errors_as_lines(), _terminable(), _folder(keep) as folder:
        try:
            with display_for(console) as display:
                outcome = run(options, folder, display)
        except KeyboardInterrupt:
            click.echo('Interrupted; all workers have ended.', err=True)
            sys.exit(128 + signal.SIGINT)
        outcome = _keep_evidence(outcome, folder, keep)
    if as_json:
        click.echo(json.dumps(figures(outcome), indent=2))
    else:
        print_report(outcome, console)
    sys.exit(0 if outcome.verdict.ok else 1)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Yield the given folder, which must be new or empty, or a temporary folder."""
    if keep is not None:
        try:
            keep.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.ClickException(f'cannot make the folder {keep}: {error.strerror}') from error
        if any(keep.iterdir()):
            raise click.ClickException(f'the folder {keep} is not empty: --keep takes a new or an empty one')
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix='jobsync-demo-') as name:
        yield Path(name)


def _keep_evidence(outcome: Outcome, folder: Path, keep: Path | None) -> Outcome:
    """Return the outcome with the folder of its files. The files of a failed demo are copied out of the temporary folder."""
    if keep is None and outcome.verdict.ok:
        return outcome
    if keep is None:
        keep = Path(tempfile.mkdtemp(prefix='jobsync-demo-failed-'))
        shutil.copytree(folder, keep, dirs_exist_ok=True)
    return attrs.evolve(outcome, folder=keep)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM end the command by an exception, so that the workers are ended too."""

    def leave(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
