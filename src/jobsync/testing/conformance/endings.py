"""Calls that are under way as what they rely on ends: a run, a timeline, the settings of a cluster without nodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs
import pytest

from jobsync.backend import INITIAL, Backend, NodeRef, Opened, Registration, Snapshot, TokenGroup
from jobsync.errors import Conflict, Evicted, Fenced, TimelineChanged
from jobsync.testing.conformance.handles import THREADS, HandleFixtures, patient
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import NO_TIME, SETTINGS, Namespace
from jobsync.testing.conformance.threads import race

__all__ = ['EndingTests']

NAMESPACES = 3
METHODS = ('heartbeat', 'set_weight', 'acquire_leadership', 'commit', 'register')


class EndingTests(HandleFixtures):
    """A call comes before the end of what it relies on, or is refused. What is compared is compared in the step that writes."""

    @pytest.mark.parametrize('how', ['left', 'removed', 'renewed'])
    def test_calls_of_a_run_come_before_its_end(
        self, namespace: Namespace, backends: list[Backend], rounds: int, how: str
    ) -> None:
        """After a run has left or was removed, or its timeline was renewed, no call of it that was under way changes anything."""

        def end(ref: NodeRef) -> Snapshot:
            if how == 'left':
                backends[0].deregister(ref)
            elif how == 'removed':
                backends[0].remove_node(ref)
            else:
                backends[0].renew_timeline(namespace.timeline, 0)
            return backends[0].snapshot()

        for number in range(rounds):
            ref, new = namespace.leader(f'n{number}'), namespace.ref(f'new {number}')
            plan, guard = namespace.plan(TokenGroup([1], ref.name)), namespace.guard()
            # t=0  a heartbeat reads the record of a, which is JOINED
            # t=1  a leaves, or the timeline is renewed, which removes every node
            # t=2  the heartbeat writes the record as it read it: a is there again, in the new timeline too
            calls: list[Callable[[], object]] = [
                partial(end, ref),
                partial(backends[1].heartbeat, ref, INITIAL, frozenset()),
                partial(backends[2].set_weight, ref, 7.0),
                partial(backends[3].acquire_leadership, ref, guard.epoch),
                partial(backends[4].commit, ref, plan, guard),
            ]
            if how == 'renewed':
                calls.append(partial(backends[5].register, Registration(new, 15.0), namespace.timeline, 0))
            after, *outcomes = race(calls)
            assert isinstance(after, Snapshot), after
            refusals = {type(outcome) for outcome in outcomes if isinstance(outcome, Exception)}
            assert refusals <= {Evicted, Fenced, Conflict, TimelineChanged}, outcomes
            now = namespace.snapshot()
            answered = [name for name, outcome in zip(METHODS, outcomes, strict=False) if not isinstance(outcome, Exception)]
            assert timeless(now) == timeless(after), f'one of {answered} was answered, and has changed something after the end'
            if how == 'renewed':
                assert (now.nodes, now.leadership.node, now.version) == ((), None, now.revision)
                assert not namespace.backend.read_assignment().groups
            namespace.timeline = now.timeline

    @pytest.mark.parametrize('how', ['beats', 'registers'])
    def test_settings_are_not_replaced_under_a_node(
        self, namespace: Namespace, backends: list[Backend], rounds: int, how: str
    ) -> None:
        """A node beats or registers, or the settings of a dead cluster are replaced: of these at once, one comes too late."""
        for _ in range(rounds):
            namespace = Namespace(backends[0], namespace.backend.open(None, create=False).settings)
            ref, dead = namespace.ref('a'), list[tuple[str, int]]()
            node: Callable[[], object] = partial(backends[1].register, Registration(ref, 15.0), namespace.timeline, 0)
            if how == 'beats':
                ref = namespace.join('a')
                dead, node = [(ref.incarnation, 0)], partial(backends[1].heartbeat, ref, INITIAL, frozenset())
            others = attrs.evolve(namespace.settings, total_tokens=namespace.settings.total_tokens + 1)
            # t=0  ``open`` finds that no node lives
            # t=1  a node registers, and reads the settings in force
            # t=2  ``open`` replaces these: the node is gone, though it was answered that it is there
            outcome, opened = race([node, partial(backends[2].open, others, True, dead)])
            assert isinstance(opened, Opened), opened
            if isinstance(outcome, Exception):
                assert type(outcome) is (Evicted if how == 'beats' else TimelineChanged), outcome
                assert opened.settings == others
            else:
                assert opened.settings == namespace.settings, 'the settings were replaced, though a node has shown that it lives'
                namespace.backend.deregister(ref)

    def test_each_timeline_has_one_set_of_settings(self, harness: Harness) -> None:
        """Nodes that begin a namespace at once with different settings have one set of them in each timeline."""
        wanted = [attrs.evolve(SETTINGS, total_tokens=SETTINGS.total_tokens + number % 2) for number in range(THREADS)]
        for number in range(NAMESPACES):
            backends = [patient(harness, f'new{number}_') for _ in wanted]
            found = race([partial(backend.open, settings, True) for backend, settings in zip(backends, wanted, strict=True)])
            opened = {each for each in found if isinstance(each, Opened)}
            assert len({each.timeline for each in opened}) == len(opened), f'two nodes of one timeline differ: {found}'
            assert backends[0].open(None, create=False) in opened, found


def timeless(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot without the present time and position."""
    return attrs.evolve(snapshot, now=NO_TIME, position=None)
