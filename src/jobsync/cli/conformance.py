"""The report of ``jobsync conformance``: what holds, what does not and what that costs, and what was not tried."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs
import click

from jobsync._core.counting import counted
from jobsync.backend import redact_url
from jobsync.cli.output import print_json
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError

if TYPE_CHECKING:
    from jobsync.testing.conformance import Harness
    from jobsync.testing.conformance.runner import Result

__all__ = ['check']


SHOWN_LINES = 12
"""The most lines of a failed test's detail that are printed."""


class NoStore(click.ClickException):
    """The store does not answer, so no test was run. The exit status is 2."""

    exit_code = 2


def check(url: str, commands: dict[str, str], *, harness: str | None, quick: bool, select: str, as_json: bool = False) -> bool:
    """Run the suite, print the report, and return True if at least one test was tried and all tried tests hold.

    ``harness`` names a class as ``module:Class``. It is called with the URL for each test and returns the test's ``Harness``.
    """
    missing = [name for name in ('hypothesis', 'pytest') if importlib.util.find_spec(name) is None]
    if missing:
        raise JobsyncError(f"the conformance suite needs {' and '.join(missing)}: pip install 'jobsync[testing]'")
    from jobsync.testing.conformance.runner import Verdict, run

    def report_progress(result: Result, number: int, total: int) -> None:
        if result.verdict is Verdict.FAILS:
            click.echo(f'FAILS {result.test}', err=True)
        elif sys.stderr.isatty() or number % 50 == 0:
            click.echo(f'\r{number} of {total} ' if sys.stderr.isatty() else f'{number} of {total}\n', nl=False, err=True)

    try:
        results = run(_maker(url, commands, harness, quick=quick), report_progress, select)
    except BackendUnavailable as error:
        raise NoStore(f'the store at {redact_url(url)} does not answer: {error}') from error
    if not results:
        raise ConfigError(f'--select is {select!r}: no test of the suite matches that (an expression as for pytest -k)')
    count = Counter(result.verdict for result in results)
    if as_json:
        print_json([{**attrs.asdict(result), 'verdict': result.verdict.value} for result in results])
    else:
        _report(results)
        click.echo(', '.join(f'{count[verdict]} {verdict.value}' for verdict in Verdict))
    return count[Verdict.HOLDS] > 0 and count[Verdict.FAILS] == 0


def _maker(url: str, commands: dict[str, str], name: str | None, *, quick: bool) -> Callable[[], Harness]:
    from jobsync.testing.conformance import Harness
    from jobsync.testing.url_harness import UrlHarness, url_of_a_test

    if name is None:
        return lambda: UrlHarness(url, commands, quick=quick)
    if commands:
        raise ConfigError('--harness says what can be done to the store: leave out the commands')
    kind = _named(name)
    try:
        inspect.signature(kind).bind(url)
    except TypeError as error:
        raise ConfigError(f'--harness is {name!r}: must be called with the URL alone ({error})') from error

    def make() -> Harness:
        harness = kind(url_of_a_test(url))
        if not isinstance(harness, Harness):
            raise ConfigError(f'--harness is {name!r}: must give a jobsync.testing.Harness, and gave {harness!r}')
        if quick:
            harness.hurry()
        return harness

    return make


def _named(name: str) -> Callable[[str], object]:
    """Return the class that ``module:Class`` names. Modules of the working directory are found too."""
    module, _, attribute = name.partition(':')
    if '' not in sys.path:
        sys.path.insert(0, '')
    try:
        kind: Callable[[str], object] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f'--harness is {name!r}: must be module:Class ({error})') from error
    return kind


def _report(results: Sequence[Result]) -> None:
    """Print each failure with the promises that it costs, the verdict on each promise, and the reasons of tests not tried."""
    from jobsync.testing.conformance.promises import MEANING
    from jobsync.testing.conformance.runner import Verdict

    for result in results:
        if result.verdict is Verdict.FAILS:
            click.echo(f'\nFAILS {result.test}: {result.states}')
            for line in result.detail.splitlines()[:SHOWN_LINES] or ['no reason given']:
                click.echo(f'      {line}')
            for promise in result.costs:
                click.echo(f'      costs {promise}: {MEANING[promise]}')
    click.echo()
    for promise, meaning in MEANING.items():
        count = Counter(result.verdict for result in results if promise in result.costs)
        if count:
            standing = 'FAILS' if count[Verdict.FAILS] else 'holds' if count[Verdict.HOLDS] else 'not tried'
            figures = ', '.join(f'{count[verdict]} {verdict.value}' for verdict in Verdict if count[verdict])
            click.echo(f'{standing:9} {promise:7} {meaning} ({figures})')
    click.echo()
    for reason, number in Counter(result.detail for result in results if result.verdict is Verdict.NOT_TRIED).items():
        click.echo(f'not tried: {counted(number, "test")}, {reason}')
