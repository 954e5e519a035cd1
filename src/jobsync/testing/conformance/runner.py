"""The suite run by a program: without a test file, with a result for each test and the promises that a failure costs."""

from __future__ import annotations

import contextlib
import enum
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from jobsync._core.counting import counted
from jobsync.backend import Settings
from jobsync.errors import BackendUnavailable, JobsyncError
from jobsync.testing.conformance import MODULES
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.promises import guarded_by

__all__ = ['Result', 'Verdict', 'run']

make: Callable[[], Harness]
"""Makes a harness for each test of the present run; ``runner_suite`` calls it."""
SETTINGS = Settings(total_tokens=24, hash_function='xxh3')
HANGING_SEC = 300.0
"""After how long a test shows where each thread is: longer than any takes, unless a call never returns."""


class Verdict(enum.Enum):
    """The verdict on one test."""

    HOLDS = 'holds'
    FAILS = 'fails'
    NOT_TRIED = 'not tried'


@attrs.frozen
class Result:
    """The result of one test."""

    test: str
    """Name of the test with its parameters."""
    verdict: Verdict
    costs: tuple[str, ...]
    """The promises and rules that the test guards."""
    states: str
    """The property that the test checks: its docstring."""
    detail: str = ''
    """The reason why the test failed or was not tried; of a failure, first the line of the suite that failed."""


class RunRecorder:
    """Collects the results of a pytest run, and reports each through ``report``."""

    def __init__(self, report: Callable[[Result, int, int], None]) -> None:
        self._report = report
        self.total = 0
        """How many tests there are; 0 before they are collected."""
        self._pending: dict[str, Result] = {}
        self._place = ''
        self.results: list[Result] = []

    def pytest_collection_finish(self, session: Any) -> None:
        """Count the tests, and record the property and the promises of each."""
        self.total = len(session.items)
        for item in session.items:
            kind = next(base for base in item.cls.__mro__ if item.originalname in vars(base))
            self._pending[item.nodeid] = Result(
                test=item.name,
                verdict=Verdict.HOLDS,
                costs=guarded_by(kind.__name__, item.originalname),
                states=' '.join((item.obj.__doc__ or '').split()),
            )

    def pytest_runtest_makereport(self, item: pytest.Function, call: pytest.CallInfo[None]) -> None:
        """Record where a test failed; its report comes next."""
        self._place = place(call.excinfo, inspect.unwrap(item.function)) if call.excinfo else ''

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Record the result of a test; an error in setup or teardown counts as a failure, even of a test that was not tried."""
        result = self._pending[report.nodeid]
        if result.verdict is Verdict.FAILS:
            return
        if report.failed:
            crash = getattr(report.longrepr, 'reprcrash', None)
            detail = crash.message if crash else str(report.longrepr)
            result = attrs.evolve(result, verdict=Verdict.FAILS, detail=f'{self._place}{detail}')
        elif report.skipped:
            result = attrs.evolve(result, verdict=Verdict.NOT_TRIED, detail=report.longrepr[2].removeprefix('Skipped: '))
        self._pending[report.nodeid] = result
        if report.when == 'teardown' or result.verdict is Verdict.FAILS:
            self.results.append(result)
            self._report(result, len(self.results), self.total)


def place(error: pytest.ExceptionInfo[BaseException], test: Callable[..., object]) -> str:
    """Return the last line of the test's module that was at work, as a line of text; empty if there is none.

    An error that a backend raises has no word of the call that the test made, and of a comparison pytest shows the values alone.
    """
    path = test.__code__.co_filename
    lines = [entry for entry in error.traceback if str(entry.path) == path]
    return f'{Path(path).name}:{lines[-1].lineno + 1}: {" ".join(str(lines[-1].statement).split())}\n' if lines else ''


def check_reached() -> None:
    """Raise ``BackendUnavailable`` if the store does not answer. Any other error is left to the tests."""
    first, unreachable = make(), None
    with contextlib.suppress(Exception):
        try:
            first.connect().open(SETTINGS, create=True)
        except BackendUnavailable as error:
            unreachable = error
    with contextlib.suppress(Exception):
        first.close()
    if unreachable is not None:
        raise unreachable


def run(maker: Callable[[], Harness], report: Callable[[Result, int, int], None], select: str = '') -> list[Result]:
    """Run the suite and return the results of all tests.

    Args:
        maker: Makes a harness for each test.
        report: Called with each result, its number, and the number of tests.
        select: An expression as for ``pytest -k``; empty for all tests.

    Raises:
        BackendUnavailable: The store does not answer. No test has run.
        JobsyncError: The run has ended before every test had its result.
        KeyboardInterrupt: The same, by Ctrl-C.
    """
    global make
    make = maker
    check_reached()
    recorder = RunRecorder(report)
    # The program has imported the tests without pytest's rewriting of asserts. Pytest imports them again with it, so that a
    # failure shows the values that it compared.
    for name in MODULES:
        sys.modules.pop(name, None)
    options = ['-p', 'no:terminal', '-p', 'no:cacheprovider', '-p', 'no:xdist', '-c', '/dev/null', '--rootdir', '/']
    for limit in ('lines', 'chars'):
        options += ['-o', f'truncation_limit_{limit}=0']  # the reader of a report cannot request more with -vv
    options += ['-o', f'faulthandler_timeout={HANGING_SEC}']
    file = f'{Path(__file__).with_name("runner_suite.py")}::TestBackend'
    status = pytest.main([*options, '-k', select, file], plugins=[recorder])
    # What was not run does not hold, and nothing in the results says so.
    if status == pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if len(recorder.results) < recorder.total:
        raise JobsyncError(f'the suite has ended after {len(recorder.results)} of {counted(recorder.total, "test")}')
    return recorder.results
