"""Ours in ``store.py``: a leader at work on a store, and one node that comes and goes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from jobsync import plugins
from jobsync.backend import BackendOptions
from jobsync.core import calls
from jobsync.core.decision import Memory, Policy, Situation
from jobsync.core.hashing import tokenizer
from jobsync.core.model import NodeRef, Registration, Settings
from jobsync.core.tokens import Assignment
from jobsync.runtime.perform import perform

__all__ = ['Leader']

_TIMEOUT_SEC = 15
_POLICY = Policy(_TIMEOUT_SEC, rebalance_delay_sec=0, form_at=0, minimum_nodes=None, trust_first_timeline=True)


class Leader:
    """Leads a cluster whose other nodes do nothing but register, acknowledge and leave."""

    def __init__(self, url: str, namespace: str, tokens: int, nodes: int) -> None:
        """Settled, with ``nodes`` nodes."""
        settings = Settings(tokens, 'xxh3', 1)
        self._backend = plugins.connect(url, BackendOptions(namespace))
        self._timeline = self._backend.open(settings, create=True).timeline
        self._token_of = tokenizer(settings.hash_function, tokens)
        self._nodes = [self._register(number) for number in range(nodes)]
        self._backend.acquire_leadership(self._nodes[0], 0)
        self._memory = Memory(timeline_read_at=0.0)
        self._assignment = Assignment.empty(tokens)
        self.settle()

    def _register(self, number: int) -> NodeRef:
        ref = NodeRef(f'node-{number:04}', uuid.uuid4().hex)
        self._backend.register(Registration(ref, _TIMEOUT_SEC), self._timeline, 0)
        return ref

    def propose(self) -> bool:
        """What the leader does when something has changed: read, decide and commit. Whether there was a plan."""
        me = self._nodes[0]
        snapshot = self._backend.snapshot()
        if snapshot.version != self._assignment.version:
            reading = perform(self._backend, calls.Read(me, self._assignment), self._token_of)
            assert isinstance(reading, calls.Reading)
            self._assignment = reading.assignment
        situation = Situation(me, snapshot, self._assignment, (), {}, time.monotonic())
        made = perform(self._backend, calls.Propose(situation, self._memory, _POLICY), self._token_of)
        assert isinstance(made, calls.Proposal)
        return made.plan is not None

    def acknowledge(self) -> None:
        """Every node has seen the latest version, and lets go of what it is asked for."""
        version = self._backend.snapshot().version
        for ref in self._nodes:
            self._backend.heartbeat(ref, version, frozenset())

    def settle(self) -> None:
        """Until there is nothing more to do."""
        while self.propose():
            self.acknowledge()

    def join(self, written: Callable[[], object] = lambda: None) -> float:
        """One node more: seconds from the leader's first reading until the tokens' rows name their new owner.

        What the nodes do between the leader's two commits is not counted. ``written`` is called after each of the two.
        """
        self._nodes.append(self._register(len(self._nodes)))
        seconds = 0.0
        for _ in range(2):
            start = time.perf_counter()
            proposed = self.propose()
            seconds += time.perf_counter() - start
            assert proposed
            written()
            self.acknowledge()
        self.settle()
        return seconds

    def leave(self) -> None:
        """The last node goes."""
        self._backend.deregister(self._nodes.pop())
        self.settle()

    def nothing(self) -> float:
        """Seconds of a look at a cluster in which all is well."""
        start = time.perf_counter()
        proposed = self.propose()
        assert not proposed
        return time.perf_counter() - start

    def close(self) -> None:
        """Close the backend."""
        self._backend.close()
