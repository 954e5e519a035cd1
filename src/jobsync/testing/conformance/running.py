"""The suite as a program runs it: without a test file, with an outcome for each test and what each failure costs."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from jobsync.errors import BackendUnavailable
from jobsync.testing.conformance.harness import Ability, Harness, UntestedDeclaration
from jobsync.testing.conformance.promises import guarded_by
from jobsync.testing.conformance.scene import SETTINGS
from jobsync.testing.conformance.suite import BackendSuite

__all__ = ['Result', 'Standing', 'run']

_make: Callable[[], Harness]


class TestBackend(BackendSuite):
    """The backend that ``run`` was asked about."""

    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        """A harness of the test's own."""
        harness = _make()
        yield harness
        harness.close()


class Standing(enum.Enum):
    """How a test ended."""

    HOLDS = 'holds'
    FAILS = 'fails'
    NOT_TRIED = 'not tried'


@attrs.frozen
class Result:
    """One test."""

    test: str
    """Its name, parameters included."""
    standing: Standing
    costs: tuple[str, ...]
    """The promises and rules that the test guards."""
    says: str
    """The property it states."""
    detail: str = ''
    """Why it failed, or the ability that it would have needed."""


class Recorder:
    """What pytest tells of its run."""

    def __init__(self, abilities: frozenset[Ability], tell: Callable[[Result, int, int], None]) -> None:
        self._abilities = abilities
        self._tell = tell
        self._total = 0
        self._pending: dict[str, Result] = {}
        self._untested: set[str] = set()
        self.results: list[Result] = []

    def pytest_collection_finish(self, session: Any) -> None:
        """Count the tests, and note what each is for."""
        self._total = len(session.items)
        for item in session.items:
            kind = next(base for base in TestBackend.__mro__ if item.originalname in vars(base))
            needed: Ability | None = getattr(item.obj, 'needed', None)
            tried = needed is None or needed in self._abilities
            self._pending[item.nodeid] = Result(
                test=item.name,
                standing=Standing.HOLDS if tried else Standing.NOT_TRIED,
                costs=guarded_by(kind.__name__, item.originalname),
                says=' '.join((item.obj.__doc__ or '').split()),
                detail='' if needed is None or tried else f'needs {needed.name}: {needed.value}',
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Iterator[None]:
        """Note where a declaration obliges the harness to more than it can do: that is no failure of the backend."""
        if call.excinfo is not None and call.excinfo.errisinstance(UntestedDeclaration):
            self._untested.add(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note how a test ended; trouble before or after it counts too, also of a test that cannot be tried."""
        result = self._pending[report.nodeid]
        if result.standing is Standing.FAILS:
            return
        if not report.passed and not (report.when == 'call' and report.nodeid in self._untested):
            crash = getattr(report.longrepr, 'reprcrash', None)
            result = attrs.evolve(result, standing=Standing.FAILS, detail=crash.message if crash else str(report.longrepr))
        self._pending[report.nodeid] = result
        if report.when == 'teardown' or result.standing is Standing.FAILS:
            self.results.append(result)
            self._tell(result, len(self.results), self._total)


def reached(make: Callable[[], Harness]) -> frozenset[Ability]:
    """What can be done to the store; ``BackendUnavailable`` if it does not answer. What else may be wrong the tests tell."""
    first, unreachable = make(), None
    with contextlib.suppress(Exception):
        try:
            first.connect().open(SETTINGS, create=True)
        except BackendUnavailable as error:
            unreachable = error
    first.close()
    if unreachable is not None:
        raise unreachable
    return first.abilities


def run(make: Callable[[], Harness], tell: Callable[[Result, int, int], None], select: str = '') -> list[Result]:
    """Run the suite on the harnesses that ``make`` makes, one for each test.

    ``tell`` hears of each result, its number, and of how many.

    ``select`` is an expression as for ``pytest -k``. ``BackendUnavailable`` at once if the store does not answer at all.
    """
    global _make
    _make = make
    abilities = reached(make)
    recorder = Recorder(abilities, tell)
    options = ['-p', 'no:terminal', '-p', 'no:cacheprovider', '-p', 'no:xdist', '-c', '/dev/null', '--rootdir', '/']
    # What a declaration calls for and nobody tried is in the report as such.
    chosen = 'not test_declarations_can_be_tested' + (f' and ({select})' if select else '')
    pytest.main([*options, '-k', chosen, f'{Path(__file__)}::TestBackend'], plugins=[recorder])
    return recorder.results
