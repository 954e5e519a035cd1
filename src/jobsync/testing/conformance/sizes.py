"""Many tokens, pins, locks and nodes, up to what the backend declares."""

from __future__ import annotations

import datetime as dt
import threading

from jobsync.backend import Assignment, Eviction, LockEdit, LockFilter, LockRequest, Member, Pin, Revision, Settings, TokenGroup
from jobsync.testing.conformance.handles import patient
from jobsync.testing.conformance.harness import Harness
from jobsync.testing.conformance.namespace import DAY, Namespace
from jobsync.testing.conformance.threads import race

__all__ = ['SizeTests']

NODES = 10
OWNERS = 1_100
MOST_REGISTERED = 500
"""How many nodes a test registers and removes by one commit: to register takes time."""
BEATING = 200
"""How many nodes send heartbeats."""


class SizeTests:
    """Every method works with many tokens, pins, locks and nodes."""

    def test_large_pools(self, harness: Harness) -> None:
        """A large pool is assigned, one node's share moves, and a difference leads to what a complete reading returns."""
        most = harness.connect().info.max_tokens
        for tokens in sorted({min(size, most) for size in harness.pool_sizes}):
            self.check_pool(harness, tokens)

    def check_pool(self, harness: Harness, tokens: int) -> None:
        """Check one pool in a namespace of its own."""
        backend = harness.connect(namespace=f'pool_{tokens}_')
        namespace = Namespace(backend, Settings(tokens, 'xxh3'))
        leader = namespace.leader()
        groups = [TokenGroup(range(start, tokens, NODES), f'n{start}') for start in range(NODES)]
        members = {f'n{number}': Member('1', 15.0) for number in range(NODES)}
        version = namespace.commit(leader, *groups, members=members, moved=tokens)
        before = namespace.assignment()
        assert {name: len(before.owned_by(name)) for name in members} == dict.fromkeys(members, tokens // NODES)
        namespace.commit(leader, TokenGroup(range(0, tokens, NODES), 'n1', home='n0'), moved=tokens // NODES)
        after = before.apply(backend.read_assignment(version))
        whole = namespace.assignment()
        assert after.version == whole.version
        assert len(whole.owned_by('n1')) == 2 * tokens // NODES
        assert [after.owned_by(name) for name in members] == [whole.owned_by(name) for name in members]
        assert after.since == whole.since
        some = Assignment.empty(tokens).apply(backend.read_assignment(None, range(0, tokens, 2)))
        assert [token for token in some.owned_by('n1') if token % 2 == 0] == list(range(0, tokens, NODES))
        namespace.commit(leader, TokenGroup(range(tokens), 'n2'), moved=tokens)
        for reading in (namespace.assignment(), whole.apply(backend.read_assignment(whole.version))):
            assert len(reading.owned_by('n2')) == tokens
        holding = frozenset(range(0, tokens, NODES - 1))
        namespace.beat(leader, holding=holding)
        assert namespace.node('leader').holding == holding

    def test_many_locks_and_pins(self, harness: Harness) -> None:
        """Thousands of locks and pins are put, read and removed in one call each."""
        for locks in harness.lock_counts:
            self.check_locks(harness, locks)

    def check_locks(self, harness: Harness, locks: int) -> None:
        """Check one number of locks in a namespace of its own."""
        namespace = Namespace(harness.connect(namespace=f'locks_{locks}_'), Settings(10_000, 'xxh3'))
        leader = namespace.leader()
        requests = tuple(LockRequest(f'task {number}', ('a%', 'b%'), f'creator {number % 2}') for number in range(locks))
        namespace.backend.edit_locks(LockEdit(put=requests))
        found = namespace.backend.read_locks().locks
        assert [lock.task_id for lock in found] == [request.task_id for request in requests]
        namespace.commit(leader, pins=tuple(Pin(10_000 + lock.id, lock.task_id, 'a') for lock in found), moved=locks)
        assert len(namespace.pins()) == locks
        namespace.commit(leader, unpinned=frozenset(10_000 + lock.id for lock in found[::2]))
        assert set(namespace.pins()) == {10_000 + lock.id for lock in found[1::2]}
        assert namespace.backend.edit_locks(LockEdit(remove=LockFilter(created_by='creator 0'))) == locks // 2
        names = frozenset(lock.task_id for lock in found[1::2])
        assert namespace.backend.edit_locks(LockEdit(remove=LockFilter(task_ids=names))) == locks - locks // 2
        namespace.lock(*(request.task_id for request in requests[:200]), expires_in=dt.timedelta(0))
        assert namespace.backend.edit_locks(LockEdit(remove=LockFilter(expired=True))) == len(requests[:200])

    def test_many_owners(self, harness: Harness) -> None:
        """One commit gives a few tokens to each of more than a thousand nodes, and is read whole and as a difference."""
        names = [f'worker-{number:04}.example' for number in range(OWNERS)]
        namespace = Namespace(harness.connect(), Settings(2 * OWNERS, 'xxh3'))
        leader, before = namespace.leader(), namespace.assignment()
        groups = [TokenGroup((number, number + OWNERS), name) for number, name in enumerate(names)]
        namespace.commit(leader, *groups, members={name: Member(name, 15.0) for name in names}, moved=2 * OWNERS)
        for reading in (namespace.assignment(), before.apply(namespace.backend.read_assignment(before.version))):
            assert [reading.row(number).owner for number in range(2 * OWNERS)] == [*names, *names]
            assert {name: member.incarnation for name, member in reading.members.items()} == {name: name for name in names}

    def test_as_many_removals_as_declared(self, namespace: Namespace, harness: Harness) -> None:
        """One commit removes as many evicted, departed and absent nodes together as the backend declares, and all in one step.

        Two hundred nodes are registered at least, and have sent heartbeats. Those that are left are removed by further commits.
        """
        leader, most = namespace.leader(), namespace.backend.info.max_removals
        registered = min(most // 2, MOST_REGISTERED)
        stays = [namespace.join(f'stays {number}') for number in range(max(1, BEATING - registered))]
        refs = [namespace.join(f'worker-{number:06}.example') for number in range(registered)]
        beating = [*stays, *refs][:BEATING]
        for ref in beating:
            namespace.beat(ref, holding=range(50))
        evicted, departed = refs[registered // 2 :], refs[: registered // 2]
        for ref in departed:
            namespace.backend.deregister(ref)
        assert [node.ref for node in namespace.snapshot().nodes] == [leader, *stays, *refs]
        reader, is_over = Namespace(patient(harness)).backend, threading.Event()

        def commit() -> Revision:
            try:
                return namespace.commit(
                    leader,
                    TokenGroup([1], stays[0].name),
                    evictions=tuple(Eviction(ref, int(ref in beating)) for ref in evicted),
                    departed=tuple(departed),
                    absent=tuple(namespace.ref(f'ghost-{number:06}.example') for number in range(most - registered)),
                )
            finally:
                is_over.set()

        def read() -> set[int]:
            found = {len(reader.snapshot().nodes)}
            while not is_over.is_set():
                found.add(len(reader.snapshot().nodes))
            return found

        # t=0  a commit gives away the tokens of 200 nodes, and removes the first hundred of their records
        # t=1  the leader is killed: the others are still registered, wake, and go on claiming what has new owners
        version, seen = race([commit, read])
        assert isinstance(seen, set), seen
        assert seen <= {1 + len(stays) + registered, 1 + len(stays)}, 'some nodes were removed before others'
        assert [node.ref for node in namespace.snapshot().nodes] == [leader, *stays]
        assert namespace.assignment().version == version
        for ref in stays:
            namespace.backend.deregister(ref)
        for start in range(0, len(stays), most):
            namespace.commit(leader, departed=tuple(stays[start : start + most]))
        assert list(namespace.nodes()) == ['leader']

    def test_the_largest_pool_declared(self, harness: Harness) -> None:
        """The last token of the largest pool, and a pin above it, are stored."""
        backend = harness.connect()
        tokens = backend.info.max_tokens
        namespace = Namespace(backend, Settings(tokens, 'xxh3'))
        leader = namespace.leader()
        namespace.commit(leader, TokenGroup([0, tokens - 1], 'a'), pins=(Pin(tokens + 1, 'x', 'a'),))
        namespace.beat(leader, holding=[tokens - 1, tokens + 1])
        changes = backend.read_assignment()
        assert [(list(group.tokens), group.owner) for group in changes.groups] == [([0, tokens - 1], 'a')]
        assert [pin.id for pin in changes.pins] == [tokens + 1]
        assert namespace.node('leader').holding == {tokens - 1, tokens + 1}

    def test_many_tasks_of_one_day(self, namespace: Namespace) -> None:
        """One call each stores ten thousand claims and audits, and finds as many completed items."""
        items = [f'item {number}' for number in range(10_001)]
        ref = namespace.join('a')
        namespace.backend.append_claims(ref, items, DAY)
        assert len(namespace.backend.incomplete(DAY, dt.timedelta(0))) == 10_001
        namespace.backend.append_audits('a', items[:-1], DAY)
        assert [claim.item for claim in namespace.backend.incomplete(DAY, dt.timedelta(0))] == items[-1:]
        assert {claim.item for claim in namespace.claims()} == set(items)
        assert {audit.item for audit in namespace.audits()} == set(items[:-1])
        assert namespace.claim(ref, *items[:-1]) == namespace.claim(ref, *items) == set(items[:-1])
        assert len(namespace.claims(date=DAY)) == 10_001
        assert len(namespace.claims(limit=10_000)) == 10_000
        assert len(namespace.audits(date=DAY)) == 10_000
        for number in range(130):
            namespace.audit(f'n{number}', 'item 0')
        assert len(namespace.audits(item='item 0')) == 131

    def test_the_smallest_pool(self, harness: Harness) -> None:
        """A pool of one token works."""
        namespace = Namespace(harness.connect(), Settings(1, 'xxh3'))
        assert Assignment.empty(1).apply(namespace.backend.read_assignment()).is_unowned
        namespace.commit(namespace.leader(), TokenGroup([0], 'leader'))
        assert namespace.row(0).owner == 'leader'
