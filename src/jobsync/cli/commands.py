"""The commands, one function each. What they do is elsewhere: here is what they are called and what they accept."""

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

from jobsync.cli.backends import print_backends
from jobsync.cli.demo.display import display_for
from jobsync.cli.demo.report import figures, print_report
from jobsync.cli.demo.run import MAX_WORKERS, Options, Outcome, run
from jobsync.errors import JobsyncError

__all__ = ['cli']


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Show an error of this package as a line, not as a traceback."""
    try:
        yield
    except JobsyncError as error:
        raise click.ClickException(str(error)) from error


def _url_given(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    """Read the URL from standard input for ``-``: arguments of a process are seen by all users of the machine."""
    return sys.stdin.readline().strip() if url == '-' else url


@click.group(context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(package_name='jobsync')
def cli() -> None:
    """Many worker processes share a pile of tasks, and exactly one says yes to each."""


@cli.command()
def backends() -> None:
    """List the stores a cluster can run on, those of installed plugins included, and what each declares of itself."""
    with _plain_errors():
        print_backends(Console())


@cli.command()
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
    callback=_url_given,
    help='The store; - reads the URL from standard input. [default: SQLite in a temporary folder]',
)
@click.option('--kill/--no-kill', default=True, show_default=True, help='Kill one worker midway and start another.')
@click.option('--seed', type=int, default=None, help='Decides who is killed and who does what when. [default: drawn]')
@click.option('--keep', type=click.Path(file_okay=False, path_type=Path), default=None, help='A new folder for logs and results.')
@click.option('--json', 'as_json', is_flag=True, help='Print the figures as JSON; what happens goes to standard error.')
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
    with _plain_errors(), _terminable(), _folder(keep) as folder:
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


@cli.command()
@click.argument('url', callback=_url_given)
@click.option('--quick', is_flag=True, help='Smaller pools, fewer sequences of calls.')
@click.option('--select', metavar='EXPRESSION', default='', help='Only tests whose names match, as for pytest -k.')
@click.option('--stop-command', default=None, help='Makes the store stop answering.')
@click.option('--start-command', default=None, help='Ends that; returns when the store answers.')
@click.option('--restart-command', default=None, help='Kills the store and starts it again; returns when it answers.')
@click.option('--refuse-writes-command', default=None, help='Makes the store answer readings alone, and refuse writes.')
@click.option('--accept-writes-command', default=None, help='Ends that; returns when the store accepts writes.')
@click.option('--wipe-command', default=None, help='Deletes everything in the store.')
@click.option('--fail-over-command', default=None, help='Puts another store with the same content in its place.')
@click.option('--harness', metavar='MODULE:CLASS', default=None, help='A Harness of your own, called with the URL for each test.')
def conformance(url: str, quick: bool, select: str, harness: str | None, **commands: str | None) -> None:
    """Check that the backend at URL keeps the protocol, and say what each failure costs.

    The store need not be empty: each test uses namespaces of its own, which stay in it. A URL with {unique} in it is another
    for each test, and - reads it from standard input. What can be done to the store (stop it, restart it, …) is said by the
    commands, or by a harness of your own. The exit status is 1 unless everything that was tried holds, and 2 if the store does
    not answer at all.
    """
    from jobsync.cli.conformance import check

    given = {name.removesuffix('_command'): command for name, command in commands.items() if command is not None}
    with _plain_errors():
        sys.exit(0 if check(url, given, harness=harness, quick=quick, select=select) else 1)


@cli.command()
@click.option(
    '--backend',
    'url',
    metavar='URL',
    default=None,
    callback=_url_given,
    help='The store; - reads the URL from standard input. Required but for --list.',
)
@click.option('--quick', is_flag=True, help='Fewer rounds and smaller sizes.')
@click.option('--only', metavar='SCENARIO', multiple=True, help='This one only; may be given again.')
@click.option(
    '--output',
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help='A folder for results.json, report.md and plots. [default: the report on standard output]',
)
@click.option('--list', 'as_list', is_flag=True, help='Say which scenarios there are.')
def bench(url: str | None, quick: bool, only: tuple[str, ...], output: Path | None, as_list: bool) -> None:
    """Measure what the store at the URL makes of jobsync, and jobsync of it.

    The store need not be empty, and other clusters may be at work in it: everything happens in namespaces of its own, which
    stay in it. Takes about ten minutes, and with --quick two.
    """
    from jobsync.bench.results import Results
    from jobsync.bench.scenario import chosen
    from jobsync.bench.scenarios import SCENARIOS
    from jobsync.cli.bench import check_installed, listing, place_of, play

    if as_list:
        click.echo(listing(SCENARIOS))
        return
    if url is None:
        raise click.UsageError('--backend is needed: the URL of a store, such as sqlite:///jobs.db')
    with _plain_errors():
        check_installed()
        scenarios, place = chosen(only, SCENARIOS), place_of(url)
        sys.exit(play(Results(quick=quick), scenarios, [place], output))


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """The folder that was asked for, which must be new or empty, or one that goes away."""
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
    """Note where the files are; those of a failure are saved from the temporary folder's end."""
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
