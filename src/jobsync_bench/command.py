"""The command ``jobsync bench``: its options, and the call of ``jobsync_bench.play``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from jobsync.cli.common import errors_as_lines, json_option, url_or_stdin
from jobsync.cli.output import print_json

__all__ = ['bench']


@click.command()
@click.option(
    '--backend',
    'url',
    metavar='URL',
    default=None,
    callback=url_or_stdin,
    help='The store; - reads the URL from standard input. Required except with --list.',
)
@click.option('--quick', is_flag=True, help='Fewer rounds and smaller sizes.')
@click.option('--only', metavar='SCENARIO', multiple=True, help='Measure only this one; may be given again.')
@click.option(
    '--output',
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help='A folder for results.json, report.md and plots. [default: the report on standard output]',
)
@click.option('--list', 'as_list', is_flag=True, help='List the scenarios.')
@json_option
def bench(url: str | None, quick: bool, only: tuple[str, ...], output: Path | None, as_list: bool, as_json: bool) -> None:
    """Measure the store at a URL, and jobsync on that store.

    The store need not be empty, and other clusters may be at work in it: all writes go to new namespaces, which stay in the
    store. The run takes about ten minutes, and two with --quick.
    """
    from jobsync_bench.play import check_installed, listing, place_of, play

    with errors_as_lines():
        check_installed()  # before the imports below, which need the extra
    from jobsync_bench.results import Results
    from jobsync_bench.scenario import chosen
    from jobsync_bench.scenarios import SCENARIOS

    if as_list:
        if as_json:
            print_json(
                [{'scenario': scenario.name, 'title': scenario.title, 'needs': scenario.needs.value} for scenario in SCENARIOS]
            )
        else:
            click.echo(listing(SCENARIOS))
        return
    if url is None:
        raise click.UsageError('--backend is needed: the URL of a store, such as sqlite:///jobs.db')
    with errors_as_lines():
        scenarios, place = chosen(only, SCENARIOS), place_of(url)
        sys.exit(play(Results(quick=quick), scenarios, [place], output, as_json=as_json))
