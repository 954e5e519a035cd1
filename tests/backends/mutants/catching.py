"""Which tests of the suite catch a mutant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.backends.mutants import MUTANTS
from tests.backends.mutants.base import Hands, Mutant
from tests.backends.mutants.page import rows

from jobsync.testing.conformance import (
    BackendSuite,
    Harness,
    forks,
    killed_processes,
    outages,
    processes,
    repeated_writes,
    waiting,
)
from jobsync.testing.conformance.call_history import CallHistoryTests
from jobsync.testing.conformance.concurrency import ConcurrencyTests
from jobsync.testing.conformance.concurrent_readings import ConcurrentReadingTests
from jobsync.testing.conformance.endings import EndingTests
from jobsync.testing.conformance.races import RaceTests

__all__ = ['ARGUMENTS', 'NAME', 'Caught', 'catchers', 'kind_of', 'shorten', 'table']

ROOT = Path(__file__).parents[3]
SHOWN = 4
"""Tests that the table names, of all that catch a mutant."""
MACHINE = 'test_compared_with_the_reference'
"""Named only where nothing else catches a mutant: it takes long to find the shortest sequence of calls."""
LUCKY = {
    name
    for kind in (ConcurrencyTests, RaceTests, ConcurrentReadingTests, EndingTests, CallHistoryTests)
    for name in vars(kind)
    if name.startswith('test_')
}
"""Named only where nothing else catches a mutant: what they catch may take luck."""
NAME = 'JOBSYNC_MUTANT'
"""Of the mutant, in the environment: pytest imports this module anew."""


class TestMutant(BackendSuite):
    """The suite on the mutant that the environment names."""

    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        """A store of its own for each test."""
        harness = kind_of(os.environ[NAME]).harness()
        yield harness
        harness.close()


class Caught:
    """What pytest tells of a run: the tests that failed, without their parameters, in order.

    A test that has failed is not run again with its other parameters, and the run ends when as many have failed as are wanted.
    """

    def __init__(self, wanted: int | None = None, only: Collection[str] = ()) -> None:
        self.names: list[str] = []
        self._wanted = wanted
        self._only = only

    def pytest_configure(self, config: pytest.Config) -> None:
        """Have failures formatted as Python does: quicker than with pytest's view of the source, which is not shown."""
        config.option.tbstyle = 'native'

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self, name: str) -> list[pytest.Item] | None:
        """Collect no test but ``only``, if there are any."""
        return [] if self._only and name.startswith('test_') and name not in self._only else None

    def pytest_runtest_setup(self, item: pytest.Function) -> None:
        """Pass over what has failed already."""
        if item.originalname in self.names:
            pytest.skip('has failed already')

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Pass over the rest of a run that has told enough."""
        del nodeid
        if self._wanted is not None and len(self.names) >= self._wanted:
            pytest.exit('enough', returncode=0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        name = report.nodeid.rpartition('::')[2].partition('[')[0]
        if report.failed and name not in self.names:
            self.names.append(name)


def kind_of(name: str) -> type[Mutant]:
    """A mutant by name; ``Hands`` is what most are made from."""
    kinds: list[type[Mutant]] = [Hands, *MUTANTS]
    return next(kind for kind in kinds if kind.__name__ == name)


UNUSED = (
    'cacheprovider', 'debugging', 'doctest', 'faulthandler', 'junitxml', 'legacypath', 'logging', 'pastebin', 'setuponly',
    'setupplan', 'stepwise', 'terminal', 'threadexception', 'unittest', 'unraisableexception', 'xdist',
)  # fmt: skip
"""Plugins that cost time in each of many short runs."""
ARGUMENTS = [
    *(f'-pno:{plugin}' for plugin in UNUSED),
    '--assert=plain',
    '-c',
    '/dev/null',
    '--rootdir',
    '/',
    '--confcutdir',
    str(Path(__file__).parent),
    f'{Path(__file__)}::TestMutant',
]
"""Of pytest, for a run of the suite on the mutant. It looks at every entry of each folder from ``confcutdir`` on.

Assertions are plain: nothing shows what those that pytest compiles say more.
"""


def shorten(set_: Callable[[object, str, float], object], seconds: float = 2.5) -> None:
    """Wait less for what never comes."""
    for module in (waiting, outages, processes, killed_processes, forks):
        set_(module, 'DEADLINE_SEC', seconds)
    for module in (outages, killed_processes, repeated_writes):
        set_(module, 'LIMIT_SEC', seconds)


def main() -> None:
    """Run all tests in this process; print what ``catchers`` returns."""
    shorten(setattr)
    name = os.environ[NAME]
    limit = ['--timeout', str(kind_of(name).limit_sec)]
    late = ' or '.join(sorted(LUCKY | {MACHINE}))
    named = [test for test in rows().get(name, ('', []))[1] if hasattr(BackendSuite, test)]
    tries: list[tuple[list[str], list[str]]] = [([], ['-k', f'not ({late})']), ([], ['-k', late])]
    if named:
        tries.insert(0, (named, []))
    for only, chosen in tries:
        caught = Caught(SHOWN, only)
        pytest.main([*ARGUMENTS, *limit, *chosen], plugins=[caught])
        if caught.names:
            break
    sys.stdout.write('\n' + json.dumps(caught.names))


def catchers(name: str) -> list[str]:
    """Return tests that catch the mutant of this name, tried in a process of its own.

    Those that the table names are tried first; if none of them does, all; the calm and simple ones before the others.
    """
    command = [sys.executable, '-c', 'from tests.backends.mutants.catching import main; main()']
    environ = {**os.environ, NAME: name}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    caught: list[str] = json.loads(done.stdout.splitlines()[-1])
    return caught


def table(jobs: int = 2) -> list[str]:
    """The lines of the table in the documentation. Where it takes a race, only tests count that fail in three runs of three."""
    runs = [kind.__name__ for kind in MUTANTS for _ in range(3 if kind.races else 1)]
    found: dict[str, list[str]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for name, caught in zip(runs, pool.map(catchers, runs), strict=True):
            found[name] = [test for test in caught if test in found.get(name, caught)]
    return ['| what is broken | caught by |', '| --- | --- |', *(row(kind, found[kind.__name__]) for kind in MUTANTS)]


def row(kind: type[Mutant], caught: Sequence[str]) -> str:
    """One line: the mutant, and some of the tests that catch it."""
    simple = [name for name in caught if name != MACHINE] or caught
    tests = ', '.join(f'`{name.removeprefix("test_")}`' for name in simple[:SHOWN]) or '**nothing**'
    return f'| **{kind.__name__}** {kind.__doc__} | {tests} |'
