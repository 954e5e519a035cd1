"""The backend that fails on demand."""

from __future__ import annotations

import inspect
from contextlib import closing

import pytest

from jobsync import plugins
from jobsync.backend import Backend, BackendOptions
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.errors import BackendUnavailable
from jobsync.testing import Fault, FaultyBackend, Harness, MemoryHarness, Namespace, When
from jobsync.testing.conformance.comparison import ComparisonTests
from jobsync.testing.conformance.suite import SuiteFixtures
from jobsync.testing.conformance.waiting import WaitTests


class TestFaultless(ComparisonTests, WaitTests, SuiteFixtures):
    """Without faults the wrapper answers every method as the backend inside does."""

    @pytest.fixture
    def harness(self) -> Harness:
        """A memory store behind the wrapper."""
        harness = MemoryHarness(lambda store, options: FaultyBackend(MemoryBackend(store, options)))
        harness.hurry()
        return harness


URLS = ('memory://faults', 'sqlite:///unused.db', 'postgresql://127.0.0.1:1/db', 'redis://127.0.0.1:1', 'etcd://127.0.0.1:1')
"""Of stores that no call reaches, because the fault comes before."""


@pytest.mark.parametrize('url', URLS)
def test_every_method_can_fail(url: str) -> None:
    """Each method of the protocol but ``close`` and ``info`` goes through the faults by its name, with its signature."""
    with closing(plugins.connect(url, BackendOptions())) as backend:
        for name, method in inspect.getmembers(Backend, inspect.isfunction):
            if name.startswith('_'):
                continue
            assert inspect.signature(getattr(FaultyBackend, name)) == inspect.signature(method), name
            if name != 'close':
                faulty = FaultyBackend(backend, Fault(name))
                arguments = [None] * sum(p.default is p.empty for p in list(inspect.signature(method).parameters.values())[1:])
                with pytest.raises(BackendUnavailable, match=f'^{name} was not done'):
                    getattr(faulty, name)(*arguments)


@pytest.mark.parametrize(('when', 'happened'), [(When.BEFORE, False), (When.AFTER, True)])
def test_before_and_after(when: When, happened: bool) -> None:
    """A call fails the same way whether or not it had its effect."""
    faulty = FaultyBackend(MemoryBackend(MemoryStore()))
    namespace = Namespace(faulty)
    faulty.faults.append(Fault('register', when))
    with pytest.raises(BackendUnavailable):
        namespace.join('a')
    assert ('a' in namespace.nodes()) == happened
    namespace.join('b')
    assert 'b' in namespace.nodes()


def test_skip_times_and_calls() -> None:
    """A fault lets some calls through, hits some, and is then used up; every call is listed."""
    faulty = FaultyBackend(MemoryBackend(MemoryStore()), Fault('snapshot', skip=1, times=2))
    namespace = Namespace(faulty)
    results = []
    for _ in range(5):
        try:
            faulty.snapshot()
        except BackendUnavailable:
            results.append('failed')
        else:
            results.append('done')
    assert results == ['done', 'failed', 'failed', 'done', 'done']
    namespace.join('a')
    assert faulty.calls == ['open', *['snapshot'] * 5, 'register']


def test_delay_alone() -> None:
    """A fault may only cost time."""
    slept: list[float] = []
    faulty = FaultyBackend(MemoryBackend(MemoryStore()), Fault(None, When.NEVER, delay_sec=2.5), sleep=slept.append)
    Namespace(faulty).join('a')
    assert slept == [2.5]
