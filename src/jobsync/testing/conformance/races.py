"""Calls of which one must win: with a handle for each thread, and with one handle shared by all."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest

from jobsync.backend import (
    INITIAL,
    Backend,
    Eviction,
    Leadership,
    Member,
    NodeRef,
    NodeState,
    Opened,
    Registration,
    Revision,
    TokenGroup,
)
from jobsync.errors import Conflict, Evicted, Fenced, NameTaken
from jobsync.testing.conformance.handles import THREADS, HandleFixtures, patient
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import SETTINGS, TOKENS, Namespace
from jobsync.testing.conformance.threads import race

__all__ = ['RaceTests']


class RaceTests(HandleFixtures):
    """Of calls that exclude each other one succeeds. Two winners of one race would own one token."""

    def test_many_open_an_absent_store(self, harness: Harness) -> None:
        """Handles that open an absent store at the same time all succeed, with one timeline and the settings."""
        backends = [patient(harness) for _ in range(2 * THREADS)]
        opened = race([partial(backend.open, SETTINGS, True) for backend in backends])
        assert isinstance(opened[0], Opened), opened[0]
        assert opened == [opened[0]] * len(backends)
        assert opened[0].timeline == backends[0].snapshot().timeline

    def test_many_first_starts(self, harness: Harness) -> None:
        """Nodes that open and register on an absent store at the same time are all registered, in an order without ties."""

        def start(number: int) -> NodeRef:
            return Namespace(patient(harness)).join(f'n{number}')

        refs = race([partial(start, number) for number in range(2 * THREADS)])
        namespace = Namespace(harness.connect())
        nodes = namespace.nodes()
        assert {node.ref for node in nodes.values()} == set(refs)
        assert len({node.created_on for node in nodes.values()}) == len(refs)
        assert namespace.revision.number == len(refs)

    def test_one_wins_each_epoch(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """Of nodes that compare one epoch exactly one leads, and all calls return the same leadership."""
        refs = [namespace.join(f'n{number}') for number in range(THREADS)]
        for epoch in range(rounds):
            found = race([partial(b.acquire_leadership, ref, epoch) for b, ref in zip(backends, refs, strict=True)])
            assert found == [found[0]] * THREADS
            assert isinstance(found[0], Leadership), found[0]
            assert found[0].epoch == epoch + 1
            assert found[0] == namespace.snapshot().leadership

    def test_a_timeline_is_renewed_once(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """Of nodes that renew one timeline at the same time one does: a second renewal would remove who has registered since."""
        for _ in range(rounds):
            before = namespace.snapshot()
            found = race([partial(backend.renew_timeline, before.timeline, 0) for backend in backends])
            assert found == [None] * THREADS
            after = namespace.snapshot()
            assert after.timeline.generation == before.timeline.generation + 1
            assert after.revision.number == before.revision.number + 1

    def test_one_wins_a_name(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """Of runs that register or take over one name exactly one succeeds, and each other is refused with its record."""
        for number in range(rounds):
            name = f'n{number // 2}'
            replacing = None if number % 2 == 0 else namespace.node(name).beat
            refs = [namespace.ref(name) for _ in range(THREADS)]
            calls = [
                partial(b.register, Registration(ref, 15.0), namespace.timeline, 0, replacing)
                for b, ref in zip(backends, refs, strict=True)
            ]
            before = namespace.revision.number
            found = race(calls)
            assert found.count(None) == 1, found
            winner = refs[found.index(None)]
            assert namespace.node(name).ref == winner
            assert {type(error) for error in found if error is not None} == {NameTaken}
            assert {error.record.ref for error in found if isinstance(error, NameTaken)} == {winner}
            assert namespace.revision.number == before + 1

    def test_a_late_departure_ends_no_other_run(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """A run that leaves, is removed or gets a weight while its successor takes its name over changes nothing of that."""
        for number in range(rounds):
            before, after = namespace.join(f'n{number}'), namespace.ref(f'n{number}')
            calls: list[Callable[[], object]] = [
                partial(backends[0].register, Registration(after, 15.0), namespace.timeline, 0, (before.incarnation, 0)),
                *(partial(backend.deregister, before) for backend in backends[1:3]),
                *(partial(backend.remove_node, before) for backend in backends[3:4]),
                *(partial(backend.set_weight, before, 7.0) for backend in backends[4:]),
            ]
            registered, *late = race(calls)
            assert registered is None, registered
            assert {type(outcome) for outcome in late} <= {type(None), bool, Evicted}, late
            node = namespace.node(before.name)
            assert (node.ref, node.state, node.weight) == (after, NodeState.JOINED, 1.0)

    def test_one_commit_for_each_guard(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """Of plans made from one version exactly one is written, as a whole, and the others leave nothing."""
        leader = namespace.leader()
        gone = {f'n{n}': None for n in range(THREADS)}
        for _ in range(rounds):
            plans = [
                namespace.plan(
                    TokenGroup(range(TOKENS), f'n{n}', f'n{n}'), members={**gone, f'n{n}': Member('1', 1.0)}, moved=n + 1
                )
                for n in range(THREADS)
            ]
            guard, before = namespace.guard(), namespace.node('leader').heartbeat
            before_all = len(namespace.rebalances())
            found = race([partial(b.commit, leader, plan, guard) for b, plan in zip(backends, plans, strict=True)])
            (winner,) = [number for number, result in enumerate(found) if isinstance(result, Revision)]
            assert {type(result) for result in found} == {Revision, Conflict}
            state = namespace.state()
            assert state.snapshot.version == state.snapshot.revision == found[winner]
            assert {(row.owner, row.target) for row in state.rows} == {(f'n{winner}', f'n{winner}')}
            assert list(state.members) == [f'n{winner}']
            assert len(state.rebalances) == before_all + 1
            assert namespace.node('leader').heartbeat == before + 1

    def test_an_eviction_races_a_heartbeat(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """Either an eviction succeeds and the node's heartbeat is refused, or the reverse: never both."""
        leader = namespace.leader()
        for number in range(rounds):
            ref = namespace.join(f'n{number}')
            guard, plan = namespace.guard(), namespace.plan(evictions=(Eviction(ref, 0),))
            beats = [partial(b.heartbeat, ref, INITIAL, frozenset()) for b in backends[1:3]]
            commit, *pulses = race([partial(backends[0].commit, leader, plan, guard), *beats])
            if isinstance(commit, Revision):
                assert {type(pulse) for pulse in pulses} == {Evicted}
                assert ref.name not in namespace.nodes()
            else:
                assert type(commit) is Conflict
                assert [pulse for pulse in pulses if isinstance(pulse, Exception)] == []
                assert namespace.node(ref.name).heartbeat == 2

    def test_a_takeover_races_a_heartbeat(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """Either a registration replaces the record as it was read, and that run's heartbeats are refused, or the reverse."""
        for number in range(rounds):
            ref = namespace.join(f'n{number}')
            successor = Registration(namespace.ref(ref.name), 15.0)
            beats = [partial(b.heartbeat, ref, INITIAL, frozenset()) for b in backends[1:3]]
            takeover = partial(backends[0].register, successor, namespace.timeline, 0, (ref.incarnation, 0))
            *pulses, taken = race([*beats, takeover])
            if taken is None:
                assert {type(pulse) for pulse in pulses} == {Evicted}
                assert namespace.node(ref.name).beat == (successor.ref.incarnation, 0)
            else:
                assert type(taken) is NameTaken
                assert [pulse for pulse in pulses if isinstance(pulse, Exception)] == []
                assert namespace.node(ref.name).beat == (ref.incarnation, 2)

    @pytest.mark.parametrize('how', ['leader', 'led', 'departed', 'absent'])
    def test_a_commit_races_a_change_of_what_it_compares(
        self, namespace: Namespace, backends: list[Backend], rounds: int, how: str
    ) -> None:
        """A commit comes before the end of its leader or of its term, or a registration that it compares, or is refused."""
        for number in range(rounds):
            leader, ref = namespace.leader(f'leader {number}'), namespace.ref(f'n{number}')
            begun = time.monotonic()
            namespace.commit(leader)
            delay = (time.monotonic() - begun) * number / rounds  # from the beginning of a commit to its end
            if how == 'departed':
                namespace.backend.deregister(namespace.join(ref.name))
            departed = tuple(node.ref for node in namespace.nodes().values() if node.name == ref.name)
            plan = namespace.plan(TokenGroup([1], leader.name), departed=departed, absent=(ref,) if how == 'absent' else ())
            change: Callable[[], object] = partial(backends[1].remove_node, leader)
            if how == 'led':
                change = partial(backends[1].acquire_leadership, namespace.join(ref.name), namespace.snapshot().leadership.epoch)
            elif how != 'leader':
                change = partial(backends[1].register, Registration(ref, 15.0), namespace.timeline, 0)
            # t=0  a plan gives the tokens of b away, which has no record; the store finds that it still has none
            # t=1  b registers, and reads that the tokens are its own
            # t=2  the store writes the plan, on the condition that epoch and version have not changed: two nodes own b's tokens
            version, changed = race([partial(backends[0].commit, leader, plan, namespace.guard()), partial(late, delay, change)])
            assert not isinstance(changed, Exception), changed
            now = namespace.snapshot()
            assert how in ('leader', 'led') or ref in {node.ref for node in now.nodes}
            if isinstance(version, Revision):
                assert version.number < now.revision.number, 'the commit came after the change, and was not refused'
            else:
                assert type(version) is {'leader': Evicted, 'led': Fenced}.get(how, Conflict), version


def late(seconds: float, call: Callable[[], object]) -> object:
    """Make a call a little later."""
    time.sleep(seconds)
    return call()
