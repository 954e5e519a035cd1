"""A leader that is driven step by step on a store, while a node joins and leaves."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import attrs

from jobsync import plugins
from jobsync._core.agent import commands
from jobsync._core.hashing import tokenizer
from jobsync._core.leader.inputs import LeaderState, LeaderView
from jobsync._runtime.executor import execute
from jobsync._runtime.startup import node_config
from jobsync.backend import Assignment, BackendOptions, NodeRef, Registration, Settings
from jobsync.config import CoordinationConfig

__all__ = ['LeaderDriver']

_TIMEOUT_SEC = 15
_SETTINGS = CoordinationConfig(heartbeat_timeout_sec=_TIMEOUT_SEC, rebalance_delay_sec=0)


class LeaderDriver:
    """Leads a cluster whose other nodes only register, acknowledge and leave."""

    def __init__(self, url: str, namespace: str, tokens: int, nodes: int) -> None:
        """Register ``nodes`` nodes, and distribute the tokens."""
        settings = Settings(tokens, 'xxh3', 1)
        self.backend = plugins.connect(url, BackendOptions(namespace, bulk_timeout_sec=600))
        self._timeline = self.backend.open(settings, create=True).timeline
        self._token_of = tokenizer(settings.hash_function, tokens)
        self._nodes = [self._register(number) for number in range(nodes)]
        self.backend.acquire_leadership(self.me, 0)
        self._state = LeaderState(timeline_read_at=0.0)
        self._config = attrs.evolve(
            node_config(self.me.name, _SETTINGS, self.backend.info, create=True, wait_on_enter=0.0, announces=False),
            durable=True,  # an empty store is nothing to wait for
        )
        self._assignment = Assignment.empty(tokens)
        self.settle()

    def _register(self, number: int) -> NodeRef:
        ref = NodeRef(f'node-{number:04}', uuid.uuid4().hex)
        self.backend.register(Registration(ref, _TIMEOUT_SEC), self._timeline, 0)
        return ref

    @property
    def me(self) -> NodeRef:
        """The leader's node."""
        return self._nodes[0]

    def propose(self) -> bool:
        """Read, decide and commit as a leader does after a change, and return True if there was a plan."""
        me = self.me
        snapshot = self.backend.snapshot()
        if snapshot.version != self._assignment.version:
            reading = execute(self.backend, commands.ReadAssignment(me, self._assignment), self._token_of)
            assert isinstance(reading, commands.AssignmentReading)
            self._assignment = reading.assignment
        view = LeaderView(
            me=me,
            snapshot=snapshot,
            assignment=self._assignment,
            locks=(),
            suspects={},
            now=time.monotonic(),
            started_at=0.0,
            is_first_timeline=True,
            longest_timeout_sec=0.0,
        )
        made = execute(self.backend, commands.PlanAndCommit(view, self._state, self._config), self._token_of)
        assert isinstance(made, commands.CommitOutcome)
        return made.plan is not None

    def acknowledge(self) -> None:
        """Send a heartbeat of every node that acknowledges the latest version and holds no token."""
        version = self.backend.snapshot().version
        for ref in self._nodes:
            self.backend.heartbeat(ref, version, frozenset())

    def settle(self) -> None:
        """Commit and acknowledge until there is no further plan."""
        while self.propose():
            self.acknowledge()

    def join(self, written: Callable[[], object] = lambda: None) -> float:
        """Add a node, and return the seconds of the leader's two commits with the reads and decisions before them.

        The heartbeats between the two commits are not counted. ``written`` is called after each of the two.
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
        """Remove the last node."""
        self.backend.deregister(self._nodes.pop())
        self.settle()

    def nothing(self) -> float:
        """Return the seconds of a decision that nothing has to change."""
        start = time.perf_counter()
        proposed = self.propose()
        assert not proposed
        return time.perf_counter() - start

    def read(self, changes: bool = False) -> float:
        """Return the seconds of reading the whole assignment, or of reading that nothing has changed (``changes``)."""
        base = self._assignment if changes else Assignment.empty(self._assignment.total_tokens)
        start = time.perf_counter()
        base.apply(self.backend.read_assignment(base.version if changes else None))
        return time.perf_counter() - start

    def close(self) -> None:
        """Close the backend."""
        self.backend.close()
