"""Atomicity between threads that write: with a handle for each, and with one handle shared by all."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from collections.abc import Callable
from functools import partial

from jobsync.backend import (
    INITIAL,
    Backend,
    HistoryKind,
    LockEdit,
    LockRequest,
    NodeRef,
    Registration,
    Revision,
)
from jobsync.errors import Evicted
from jobsync.testing.conformance.handles import THREADS, HandleFixtures, patient
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import DAY, Namespace, purged
from jobsync.testing.conformance.threads import DEADLINE_SEC, race

__all__ = ['ConcurrencyTests']

MANY_ITEMS = 40
CALLERS = 40
"""Threads that call one handle at once."""


class ConcurrencyTests(HandleFixtures):
    """Calls that run at the same time take effect one after the other, and none undoes another."""

    def test_many_calls_at_once(self, namespace: Namespace, harness: Harness) -> None:
        """Any number of threads may call one handle at once: those of a program claim tasks while its node sends heartbeats."""
        ref, backend = namespace.join('a'), Namespace(patient(harness)).backend
        found = race([partial(backend.heartbeat, ref, INITIAL, frozenset()), backend.snapshot] * (CALLERS // 2))
        assert [each for each in found if isinstance(each, Exception)] == [], f'{CALLERS} calls of one handle at once'
        assert namespace.node('a').heartbeat == CALLERS // 2

    def test_no_heartbeat_is_lost(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """Each heartbeat counts one up and no two return one number, whatever other nodes write meanwhile."""
        ref, others = namespace.join('a'), [namespace.join(f'n{number}') for number in range(THREADS)]

        def beat(backend: Backend, other: NodeRef) -> list[int]:
            counts = []
            for _ in range(rounds):
                counts.append(backend.heartbeat(ref, INITIAL, frozenset()).heartbeat)
                backend.heartbeat(other, INITIAL, frozenset())
            return counts

        found = race([partial(beat, b, other) for b, other in zip(backends, others, strict=True)])
        counts = sorted(count for part in found if isinstance(part, list) for count in part)
        assert counts == list(range(1, THREADS * rounds + 1)), found
        assert {node.heartbeat for name, node in namespace.nodes().items() if name != 'a'} == {rounds}

    def test_a_pulse_is_read_with_its_heartbeat(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """While a leader commits, each of its heartbeats returns the version of just the commits that count before it."""
        leader = namespace.leader()
        versions, counts = [namespace.snapshot().version], dict[int, Revision]()

        def commit(backend: Backend) -> None:
            writer = Namespace(backend)
            versions.extend(writer.commit(leader) for _ in range(2 * rounds))

        def beat(backend: Backend) -> None:
            for _ in range(3 * rounds):
                # t=0  a heartbeat reads version 7
                # t=1  version 8 is committed: a hand-over is requested, say, or tokens that were unowned are given away
                # t=2  the heartbeat counts, and returns version 7: the node does not learn what was true as it renewed its lease
                pulse = backend.heartbeat(leader, INITIAL, frozenset())
                counts[pulse.heartbeat] = pulse.version

        found = race([partial(commit, backends[0]), *(partial(beat, backend) for backend in backends[1:3])])
        assert found == [None] * 3, found
        number = 0
        for count in range(1, namespace.node(leader.name).heartbeat + 1):
            number += count not in counts  # a commit counts as a heartbeat of the leader
            assert counts.get(count, versions[number]) == versions[number], (count, counts[count], versions[number])
        assert number == len(versions) - 1

    def test_attempts_at_an_item_that_another_run_gives_up(
        self, namespace: Namespace, backends: list[Backend], rounds: int
    ) -> None:
        """Runs that begin attempts at the same time as others give theirs up all count, and only these."""
        leader, refs = namespace.leader(), [namespace.join(f'n{number}') for number in range(THREADS)]
        items = [f'i{number}' for number in range(rounds)]
        for item in items:
            for ref in refs[::2]:
                assert namespace.attempt(ref, item, f'{item} again') == {}
            ends = [partial(b.forget_attempts, [item], DAY, ref) for b, ref in zip(backends[::2], refs[::2], strict=True)]
            begins = [partial(b.append_claims, ref, [item], DAY, 0) for b, ref in zip(backends[1::2], refs[1::2], strict=True)]
            found = race([*ends, *begins])
            assert not [error for error in found if isinstance(error, Exception)], found
        for ref in refs:
            namespace.evict(leader, ref)
        each = THREADS // 2
        assert namespace.lost() == dict.fromkeys(items, each) | {f'{item} again': each for item in items}

    def test_no_write_of_a_node_undoes_another(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """Heartbeats, commits and new weights of one node at the same time all count: none undoes what another has written."""
        ref = namespace.leader()

        def beat(backend: Backend) -> list[int]:
            return [backend.heartbeat(ref, INITIAL, frozenset()).heartbeat for _ in range(3 * rounds)]

        def commit(backend: Backend) -> list[int]:
            writer = Namespace(backend)
            for _ in range(rounds):
                writer.commit(ref)
            return []

        def weigh(backend: Backend) -> list[int]:
            reader = Namespace(backend)
            for weight in range(2, rounds + 2):
                backend.set_weight(ref, float(weight))
                assert reader.node(ref.name).weight == weight
            return []

        found = race([partial(job, backend) for job, backend in zip((beat, beat, commit, weigh), backends, strict=False)])
        counts = [count for part in found if isinstance(part, list) for count in part]
        assert len(set(counts)) == len(counts) == 6 * rounds, found
        node = namespace.node(ref.name)
        assert (node.heartbeat, node.weight) == (7 * rounds, rounds + 1)

    def test_no_claim_comes_after_the_end_of_its_run(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """Claims that race the end of their run are recorded before it or refused: who reads after it has read them all."""

        def claim(backend: Backend, ref: NodeRef, thread: int, ended: threading.Event) -> None:
            for number in itertools.count():
                is_late = ended.is_set()
                backend.append_claims(ref, [f'{ref.name} {thread} {number}'], DAY)
                if is_late:
                    return  # it should have been refused

        def end(backend: Backend, ref: NodeRef, ended: threading.Event) -> set[str]:
            try:
                backend.deregister(ref)
            finally:
                ended.set()
            return {claim.item for claim in Namespace(backend).claims()}

        for number in range(rounds):
            ref, ended = namespace.join(f'n{number}'), threading.Event()
            claims = [partial(claim, backend, ref, thread, ended) for thread, backend in enumerate(backends[1:])]
            seen, *refused = race([partial(end, backends[0], ref, ended), *claims])
            assert {type(error) for error in refused} == {Evicted}, refused
            assert {claim.item for claim in namespace.claims()} == seen

    def test_every_change_raises_the_revision(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """Structural changes of different kinds at the same time each raise the revision, and none is lost."""
        refs = [namespace.join(f'n{number}') for number in range(THREADS)]

        def changes(backend: Backend, number: int) -> None:
            for step in range(rounds):
                task = f'task {number} {step}'
                backend.edit_locks(LockEdit(put=(LockRequest(task, ('a',), 'me'),)))
                new, removed = NodeRef(f'new {number} {step}', 'x'), NodeRef(f'removed {number} {step}', 'x')
                for ref in (new, removed):
                    backend.register(Registration(ref, 15.0), namespace.timeline, 0)
                backend.set_weight(new, 2.0)
                backend.deregister(new)
                assert backend.remove_node(removed)
                backend.append_claims(refs[number], [task], DAY)

        before = namespace.revision.number
        assert race([partial(changes, b, n) for n, b in enumerate(backends)], 4 * DEADLINE_SEC) == [None] * THREADS
        assert namespace.revision.number >= before + 6 * THREADS * rounds
        locks = namespace.backend.read_locks().locks
        assert len({lock.id for lock in locks}) == len({lock.registered for lock in locks}) == THREADS * rounds
        assert len(namespace.claims()) == THREADS * rounds
        nodes = namespace.nodes()
        assert len(nodes) == THREADS * (rounds + 1)
        assert len({node.created_on for node in nodes.values()}) == len(nodes)

    def test_a_claim_after_an_audit_sees_it(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """While handles complete items, a claim that begins after an audit was recorded returns the item, on every handle."""
        refs = [namespace.join(f'w{number}') for number in range(THREADS)]

        def work(number: int) -> None:
            own, other = backends[number], backends[(number + 1) % THREADS]
            for step in range(rounds):
                name = f'{number}/{step}'
                assert own.append_claims(refs[number], [name], DAY).completed == frozenset()
                own.append_audits(refs[number].name, [name], DAY)
                assert own.append_claims(refs[number], [name, 'open'], DAY).completed == {name}
                assert other.append_claims(refs[(number + 1) % THREADS], [name], DAY).completed == {name}

        assert race([partial(work, number) for number in range(THREADS)], 4 * DEADLINE_SEC) == [None] * THREADS
        completed_at = {audit.item: audit.created_on for audit in namespace.audits()}
        claims = [claim for claim in namespace.claims() if claim.item != 'open']
        assert len(claims) == THREADS * rounds
        assert [claim for claim in claims if claim.created_on > completed_at[claim.item]] == []

    def test_one_call_made_by_several_threads(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """Claims, audits and locks of the same items at once, in any order of the items, all succeed, and each is there once.

        A call that is repeated because its answer was lost may meet the first one, which is still under way.
        """
        ref = namespace.join('a')
        for number in range(rounds // 2):
            items = [f'{number} {item}' for item in range(MANY_ITEMS)]

            # t=0  one call writes x, another one y
            # t=1  the first one waits for y, and the second one for x: a database ends one of them with an error
            orders = [items[:: 1 if thread % 2 else -1] for thread in range(THREADS)]
            pairs = list(zip(backends, orders, strict=True))
            edits = [LockEdit(put=tuple(LockRequest(name, ('a',), 'me') for name in names)) for names in orders]
            calls: dict[str, list[Callable[[], object]]] = {
                'claims': [partial(backend.append_claims, ref, names, DAY, 0) for backend, names in pairs],
                'audits': [partial(backend.append_audits, 'a', names, DAY) for backend, names in pairs],
                'locks': [partial(backend.edit_locks, edit) for backend, edit in zip(backends, edits, strict=True)],
            }
            for kind, of_all in calls.items():
                errors = [found for found in race(of_all) if isinstance(found, Exception)]
                assert errors == [], f'{kind} of the same items at once'
            expected = MANY_ITEMS * (number + 1)
            assert len(namespace.claims()) == len(namespace.audits()) == len(namespace.locks()) == expected

    def test_purges_at_once(self, namespace: Namespace, backends: list[Backend], rounds: int) -> None:
        """A leader's purge and those of people, portion by portion, delete what may go, and nothing that is appended."""
        ref = namespace.join('a')
        done = [f'done {number}' for number in range(THREADS * rounds)]
        for each in done:
            namespace.claim(ref, each)
            namespace.audit('a', each)
        namespace.claim(ref, 'open')
        later = namespace.snapshot().now + dt.timedelta(hours=1)
        opened = {'open'}

        def append(kind: HistoryKind) -> None:
            for number in range(len(done)):
                item = f'open {kind.value} {number}'
                opened.add(item)
                backends[0].append_claims(ref, [item], DAY)

        for kind in (HistoryKind.CLAIM, HistoryKind.AUDIT):
            purges = [partial(purged, backend, kind, later, 2) for backend in backends]
            found = race([partial(append, kind), *purges], 4 * DEADLINE_SEC)
            assert [error for error in found if isinstance(error, Exception)] == []
            assert len(namespace.audits()) == (len(done) if kind is HistoryKind.CLAIM else 0)
        assert {claim.item for claim in namespace.claims()} == opened
