"""Writes that fail: refused by the store, or of unknown outcome. Repeated once the store is back, each happens exactly once."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from functools import partial

import attrs
import pytest

from jobsync.backend import INITIAL, HistoryKind, TokenGroup
from jobsync.errors import BackendUnavailable, Conflict, Evicted, NameTaken
from jobsync.testing.conformance.calls import CALLS
from jobsync.testing.conformance.harness import Ability, Harness, needs
from jobsync.testing.conformance.namespace import DAY, SETTINGS, Namespace
from jobsync.testing.conformance.outages import LIMIT_SEC, SHORT_SEC, eventually, outage, outcome_within

__all__ = ['RefusalTests', 'RepetitionTests']

WRITES = (
    'register', 'commit', 'set_weight', 'deregister', 'remove_node', 'acquire_leadership', 'edit_locks', 'renew_timeline',
    'append_claims', 'append_audits',
)  # fmt: skip
"""Methods that change something, except ``heartbeat``, whose repetition counts twice."""


class RepeatedWrite:
    """A write through a handle of its own, with a leader, another node and an assignment in place."""

    def __init__(self, harness: Harness, method: str) -> None:
        self.namespace = Namespace(harness.connect())
        self._handle = harness.connect(op_timeout_sec=1.0, bulk_timeout_sec=1.0)
        self._method = method
        self._leader, self._ref = self.namespace.leader(), self.namespace.join('a')
        self.namespace.commit(self._leader, TokenGroup([1], 'a'))
        eventually(partial(self._handle.open, SETTINGS, True))
        self._before = self.namespace.revision.number
        self.call = self._call()

    def _call(self) -> Callable[[], object]:
        if self._method == 'commit':
            plan, guard = self.namespace.plan(TokenGroup([1], 'b'), moved=1), self.namespace.guard()
            return partial(self._handle.commit, self._leader, plan, guard)
        return partial(CALLS[self._method], self._handle, self.namespace.timeline, self._ref)

    def count(self) -> int:
        """Return how often the write has happened. A structural change shows in the revision, which rises by one each time."""
        if self._method == 'append_claims':
            return len(self.namespace.claims())
        if self._method == 'append_audits':
            return len(self.namespace.audits())
        return self.namespace.revision.number - self._before


@contextlib.contextmanager
def refusal(harness: Harness) -> Iterator[None]:
    """Let the store refuse writes for the length of the block."""
    harness.refuse_writes()
    try:
        yield
    finally:
        harness.accept_writes()


@needs(Ability.REFUSAL)
class RefusalTests:
    """A store that answers reads and refuses writes: a full disk, a standby, missing replicas."""

    @pytest.mark.parametrize('method', WRITES)
    def test_a_refused_write_is_never_reported_as_success(self, harness: Harness, method: str) -> None:
        """A refused write raises ``BackendUnavailable`` and changes nothing; repeated after the refusal, it happens once."""
        write = RepeatedWrite(harness, method)
        before = write.namespace.state()
        with refusal(harness):
            ended = outcome_within(LIMIT_SEC, write.call)
            assert isinstance(ended, BackendUnavailable), ended
            assert write.namespace.state() == before
        eventually(write.call)
        assert write.count() == 1

    def test_a_refused_heartbeat_does_not_count(self, harness: Harness) -> None:
        """A refused heartbeat raises, so that the lease is not renewed; the next one counts on from before."""
        namespace, handle = Namespace(harness.connect()), harness.connect(op_timeout_sec=1.0)
        ref = namespace.join('a')
        namespace.beat(ref)
        eventually(partial(handle.open, SETTINGS, True))
        with refusal(harness):
            ended = outcome_within(LIMIT_SEC, partial(handle.heartbeat, ref, INITIAL, frozenset({1})))
            assert isinstance(ended, BackendUnavailable), ended
            assert (namespace.node('a').heartbeat, namespace.node('a').holding) == (1, frozenset())
        eventually(partial(handle.heartbeat, ref, INITIAL, frozenset()))
        assert namespace.node('a').heartbeat == 2

    def test_what_else_is_refused_is_no_success(self, harness: Harness) -> None:
        """A refused purge, and attempts and settings that could not be changed, raise as well; repeated, each happens.

        A store may delete while it refuses other writes, as one that is full must.
        """
        namespace, handle = Namespace(harness.connect()), harness.connect(op_timeout_sec=SHORT_SEC, bulk_timeout_sec=SHORT_SEC)
        namespace.gone('left', ['open', 'done'])
        namespace.audit('a', 'done')
        later, others = namespace.snapshot().now + dt.timedelta(days=1), attrs.evolve(SETTINGS, hash_function='md5')
        calls: dict[str, tuple[Callable[[], object], Callable[[], bool]]] = {
            'forget_attempts': (partial(handle.forget_attempts, ['open'], DAY), lambda: namespace.lost() == {}),
            'purge': (
                partial(handle.purge, HistoryKind.CLAIM, later, 1000),
                lambda: [claim.item for claim in namespace.claims()] == ['open'],
            ),
            'open': (
                partial(handle.open, others, True),
                lambda: namespace.backend.open(None, create=False).settings == others,
            ),
        }
        eventually(partial(handle.open, SETTINGS, True))
        with refusal(harness):
            for method, (call, is_done) in calls.items():
                ended = outcome_within(LIMIT_SEC, call)
                was_refused = isinstance(ended, BackendUnavailable)
                assert was_refused != is_done(), f'{method} while the store refuses writes: {ended!r}, done: {is_done()}'
        for method, (call, is_done) in calls.items():
            eventually(call)
            assert is_done(), method


@needs(Ability.OUTAGE)
class RepetitionTests:
    """Calls of unknown outcome. Nodes repeat them verbatim, so a second effect would be an error that no node notices."""

    def test_a_heartbeat_of_unknown_outcome_counts_once_at_most(self, harness: Harness) -> None:
        """A heartbeat that failed in an outage has counted once or not at all. A node takes any other count for a rollback."""
        namespace, handle = Namespace(harness.connect()), harness.connect(op_timeout_sec=1.0)
        ref = namespace.join('a')
        eventually(partial(handle.open, SETTINGS, True))
        with outage(harness):
            ended = outcome_within(LIMIT_SEC, partial(handle.heartbeat, ref, INITIAL, frozenset()))
        assert isinstance(ended, BackendUnavailable), ended
        eventually(namespace.snapshot)
        assert namespace.node('a').heartbeat in (0, 1)

    @pytest.mark.parametrize('method', WRITES)
    def test_a_call_of_unknown_outcome_is_repeated(self, harness: Harness, method: str) -> None:
        """A call that failed in an outage, and is repeated verbatim after it, has happened exactly once."""
        write = RepeatedWrite(harness, method)
        with outage(harness):
            first = outcome_within(LIMIT_SEC, write.call)
        assert isinstance(first, BackendUnavailable), first
        eventually(write.namespace.snapshot)
        with contextlib.suppress(NameTaken, Conflict, Evicted):
            eventually(write.call)
        assert write.count() == 1
