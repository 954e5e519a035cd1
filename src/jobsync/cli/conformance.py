"""The report of ``jobsync conformance``: what holds, what does not and what that costs, and what was not tried."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter

import click

from jobsync.errors import JobsyncError

__all__ = ['check']


def check(url: str, commands: dict[str, str], *, quick: bool, select: str) -> bool:
    """Run the suite and print the report; whether all that was tried holds, and anything was."""
    missing = [name for name in ('hypothesis', 'pytest') if importlib.util.find_spec(name) is None]
    if missing:
        raise JobsyncError(f"the conformance suite needs {' and '.join(missing)}: pip install 'jobsync[testing]'")
    from jobsync.testing.conformance.promises import MEANING
    from jobsync.testing.conformance.running import Result, Standing, run
    from jobsync.testing.harnesses.by_url import UrlHarness

    def tell(result: Result, number: int, total: int) -> None:
        if result.standing is Standing.FAILS:
            click.echo(f'FAILS {result.test}', err=True)
        elif sys.stderr.isatty() or number % 50 == 0:
            click.echo(f'\r{number} of {total} ' if sys.stderr.isatty() else f'{number} of {total}\n', nl=False, err=True)

    results = run(lambda: UrlHarness(url, commands, quick=quick), tell, select)
    count = Counter(result.standing for result in results)
    for result in results:
        if result.standing is Standing.FAILS:
            click.echo(f'\nFAILS {result.test}: {result.says}')
            click.echo(f'      {result.detail.splitlines()[0] if result.detail else "no reason given"}')
            for promise in result.costs:
                click.echo(f'      costs {promise}: {MEANING[promise]}')
    for reason, number in Counter(result.detail for result in results if result.standing is Standing.NOT_TRIED).items():
        click.echo(f'not tried: {number} tests, {reason}')
    click.echo(', '.join(f'{count[standing]} {standing.value}' for standing in Standing))
    return count[Standing.HOLDS] > 0 and count[Standing.FAILS] == 0
