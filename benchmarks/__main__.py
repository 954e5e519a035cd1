"""All measurements: ``python -m benchmarks``, or ``tox -e bench``."""

from __future__ import annotations

import datetime as dt
import sys
from functools import partial
from pathlib import Path

import click

from benchmarks.baselines import BaselineRegistry
from benchmarks.pages import write_pages
from benchmarks.places import DEFAULT, QUICK, places
from benchmarks.scenarios import SCENARIOS
from jobsync.errors import JobsyncError
from jobsync_bench.play import check_installed, listing, play
from jobsync_bench.report import write
from jobsync_bench.results import Results
from jobsync_bench.scenario import chosen

_HERE = Path(__file__).parent
_DOCS = _HERE.parent / 'docs' / 'benchmarks'


@click.command(context_settings={'help_option_names': ['-h', '--help']})
@click.option('--quick', is_flag=True, help='About four minutes: fewer rounds, smaller sizes, fewer stores.')
@click.option('--only', metavar='SCENARIO', multiple=True, help='Measure only this one; may be given again.')
@click.option('--store', 'stores', metavar='KIND', multiple=True, help='Measure only on this kind of store; may be given again.')
@click.option('--rivals/--no-rivals', default=True, help='Measure other libraries too, or jobsync alone.')
@click.option('--output', type=click.Path(file_okay=False, path_type=Path), default=None,
              help='A folder for results.json, report.md and plots. [default: a new one in benchmarks/results]')  # fmt: skip
@click.option('--docs', is_flag=True, help='Make the pages in docs/benchmarks too.')
@click.option('--from', 'earlier', type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None,
              help='Measure nothing: report the results of this file.')  # fmt: skip
@click.option('--list', 'as_list', is_flag=True, help='List the scenarios.')
def main(
    quick: bool, only: tuple[str, ...], stores: tuple[str, ...], rivals: bool, output: Path | None, docs: bool,
    earlier: Path | None, as_list: bool,
) -> None:  # fmt: skip
    """Measure everything, with other libraries that do the same work, each in an environment of its own.

    Servers are started, and end with the command. Ctrl-C or SIGTERM ends it early and keeps what was measured.
    """
    if as_list:
        click.echo(listing(SCENARIOS))
        return
    folder = output or _HERE / 'results' / f'{dt.datetime.now(dt.UTC):%Y-%m-%d-%H%M%S}'
    try:
        check_installed()
        if earlier is not None:
            results = Results.read(earlier)
            report(results, docs=docs)
            click.echo(write(results, SCENARIOS, output or earlier.parent))
            return
        scenarios, where = chosen(only, SCENARIOS), places(stores or (QUICK if quick else DEFAULT))
        results = Results(quick=quick)
        baselines = BaselineRegistry().find if rivals else None
        sys.exit(
            play(
                results,
                scenarios,
                where,
                folder,
                aloud=bool(only),
                baselines=baselines,
                only_measured=False,
                then=partial(report, docs=docs),
            )
        )
    except JobsyncError as error:
        raise click.ClickException(str(error)) from error


def report(results: Results, *, docs: bool) -> None:
    """Make the pages, if they are wanted."""
    if docs:
        write_pages(results, SCENARIOS, _DOCS)
        click.echo(_DOCS / 'index.md')


main()
