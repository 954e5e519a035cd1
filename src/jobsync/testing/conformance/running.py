"""The suite as a program runs it: without a test file, with an outcome for each test and what each failure costs."""

from __future__ import annotations

import contextlib
import enum
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from jobsync.backend import Settings
from jobsync.errors import BackendUnavailable
from jobsync.testing.conformance import MODULES
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.promises import guarded_by

__all__ = ['Result', 'Standing', 'run']

make: Callable[[], Harness]
"""Makes the harness of each test of the present run."""
SETTINGS = Settings(total_tokens=24, hash_function='xxh3')


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
    """Why it failed, or why it was not tried."""


class Recorder:
    """What pytest tells of its run."""

    def __init__(self, tell: Callable[[Result, int, int], None]) -> None:
        self._tell = tell
        self._total = 0
        self._pending: dict[str, Result] = {}
        self.results: list[Result] = []

    def pytest_collection_finish(self, session: Any) -> None:
        """Count the tests, and note what each is for."""
        self._total = len(session.items)
        for item in session.items:
            kind = next(base for base in item.cls.__mro__ if item.originalname in vars(base))
            self._pending[item.nodeid] = Result(
                test=item.name,
                standing=Standing.HOLDS,
                costs=guarded_by(kind.__name__, item.originalname),
                says=' '.join((item.obj.__doc__ or '').split()),
            )

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note how a test ended; trouble before or after it counts too, also of a test that cannot be tried."""
        result = self._pending[report.nodeid]
        if result.standing is Standing.FAILS:
            return
        if report.failed:
            crash = getattr(report.longrepr, 'reprcrash', None)
            result = attrs.evolve(result, standing=Standing.FAILS, detail=crash.message if crash else str(report.longrepr))
        elif report.skipped:
            result = attrs.evolve(result, standing=Standing.NOT_TRIED, detail=report.longrepr[2].removeprefix('Skipped: '))
        self._pending[report.nodeid] = result
        if report.when == 'teardown' or result.standing is Standing.FAILS:
            self.results.append(result)
            self._tell(result, len(self.results), self._total)


def check_reached() -> None:
    """Raise ``BackendUnavailable`` if the store does not answer. What else may be wrong the tests tell."""
    first, unreachable = make(), None
    with contextlib.suppress(Exception):
        try:
            first.connect().open(SETTINGS, create=True)
        except BackendUnavailable as error:
            unreachable = error
    first.close()
    if unreachable is not None:
        raise unreachable


def run(maker: Callable[[], Harness], tell: Callable[[Result, int, int], None], select: str = '') -> list[Result]:
    """Run the suite on the harnesses that ``maker`` makes, one for each test.

    ``tell`` hears of each result, its number, and of how many.

    ``select`` is an expression as for ``pytest -k``. ``BackendUnavailable`` at once if the store does not answer at all.
    """
    global make
    make = maker
    check_reached()
    recorder = Recorder(tell)
    # A program has imported the tests as they are. Pytest imports them anew, so that a failure shows the values it compared.
    for name in MODULES:
        sys.modules.pop(name, None)
    options = ['-p', 'no:terminal', '-p', 'no:cacheprovider', '-p', 'no:xdist', '-c', '/dev/null', '--rootdir', '/']
    pytest.main([*options, '-k', select, f'{Path(__file__).with_name("collected.py")}::TestBackend'], plugins=[recorder])
    return recorder.results
