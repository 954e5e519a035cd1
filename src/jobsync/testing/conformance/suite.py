"""The whole suite in one class."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobsync.testing.conformance.attempts import AttemptTests
from jobsync.testing.conformance.call_history import CallHistoryTests
from jobsync.testing.conformance.clocks import ClockTests
from jobsync.testing.conformance.commits import CommitEffectTests
from jobsync.testing.conformance.comparison import ComparisonTests
from jobsync.testing.conformance.concurrency import ConcurrencyTests
from jobsync.testing.conformance.concurrent_readings import ConcurrentReadingTests
from jobsync.testing.conformance.endings import EndingTests
from jobsync.testing.conformance.external_changes import FailoverTests, HandEditTests
from jobsync.testing.conformance.forks import ForkTests
from jobsync.testing.conformance.guards import CommitGuardTests
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.heartbeats import HeartbeatTests
from jobsync.testing.conformance.history import HistoryTests
from jobsync.testing.conformance.items import ItemTests
from jobsync.testing.conformance.killed_processes import KilledProcessTests
from jobsync.testing.conformance.leadership import LeadershipTests
from jobsync.testing.conformance.locks import LockTests
from jobsync.testing.conformance.names import IsolationTests, NameTests
from jobsync.testing.conformance.namespace import Namespace
from jobsync.testing.conformance.nodes import DeregisterTests, RemovalTests, WeightTests
from jobsync.testing.conformance.opening import InfoTests, OpeningTests
from jobsync.testing.conformance.outages import OutageTests
from jobsync.testing.conformance.processes import ProcessTests
from jobsync.testing.conformance.purging import PurgeTests
from jobsync.testing.conformance.races import RaceTests
from jobsync.testing.conformance.readings import PositionTests, ReadingTests, SnapshotTests
from jobsync.testing.conformance.registration import LongestTimeoutTests, RegisterTests
from jobsync.testing.conformance.repeated_writes import RefusalTests, RepetitionTests
from jobsync.testing.conformance.sizes import SizeTests
from jobsync.testing.conformance.timelines import TimelineTests
from jobsync.testing.conformance.unreadable import UnreadableTests
from jobsync.testing.conformance.waiting import WaitTests

__all__ = ['BackendSuite', 'SuiteFixtures']


class SuiteFixtures:
    """The fixtures of every test, for a class of tests that is a part of the suite. Override ``harness``."""

    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        """Yield a harness with an empty store, and close it afterwards."""
        raise NotImplementedError('override the fixture "harness"')

    @pytest.fixture
    def namespace(self, harness: Harness) -> Namespace:
        """Return one opened namespace of the store."""
        return Namespace(harness.connect())


class BackendSuite(  # pytest runs the last of these first, so the slowest stand first
    KilledProcessTests,
    ForkTests,
    ProcessTests,
    ClockTests,
    ConcurrencyTests,
    RaceTests,
    ConcurrentReadingTests,
    EndingTests,
    CallHistoryTests,
    ComparisonTests,
    SizeTests,
    OutageTests,
    RefusalTests,
    RepetitionTests,
    WaitTests,
    NameTests,
    IsolationTests,
    HandEditTests,
    UnreadableTests,
    FailoverTests,
    AttemptTests,
    PurgeTests,
    HistoryTests,
    ItemTests,
    LockTests,
    PositionTests,
    SnapshotTests,
    ReadingTests,
    CommitGuardTests,
    CommitEffectTests,
    LeadershipTests,
    LongestTimeoutTests,
    RemovalTests,
    DeregisterTests,
    WeightTests,
    HeartbeatTests,
    RegisterTests,
    TimelineTests,
    OpeningTests,
    InfoTests,
    SuiteFixtures,
):
    """Every test of the suite. Subclass it under a name that begins with ``Test``, and override ``harness``."""
