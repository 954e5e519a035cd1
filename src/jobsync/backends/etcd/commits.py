"""The leader's write (rule R5)."""

from __future__ import annotations

from functools import partial

import attrs

from jobsync.backend import Changes, Guard, NodeRef, Plan, Rebalance, Revision, check_guard, check_nodes
from jobsync.backends.etcd import requests
from jobsync.backends.etcd.assignment import EtcdAssignment
from jobsync.backends.etcd.chunked_log import ChunkedLog, Entry
from jobsync.backends.etcd.claim_log import rebalance_value
from jobsync.backends.etcd.nodes import EtcdNodes, found, joined
from jobsync.backends.etcd.records import Records
from jobsync.backends.etcd.state import EtcdState
from jobsync.backends.etcd.store import EtcdStore, KeyReading, Write

__all__ = ['MOST_REMOVALS', 'Commits']

MOST_REMOVALS = 100
"""Nodes in one plan. A transaction takes 128 operations and as many comparisons, of which each eviction needs one, and some are
for other things."""


@attrs.frozen
class Prepared:
    """What a commit puts into the assignment, however often it is attempted: the version it builds on is the guard's."""

    is_whole: bool
    entry: Entry
    chunks: list[tuple[bytes, bytes]]

    def chain(self, before: ChunkedLog, revision: Revision) -> ChunkedLog:
        """Return the chain after the commit."""
        entry = attrs.evolve(self.entry, revision=revision)
        return ChunkedLog((entry,) if self.is_whole else (*before.entries, entry))


class Commits:
    """Reads the assignment and commits to it."""

    def __init__(self, store: EtcdStore, nodes: EtcdNodes) -> None:
        self._store = store
        self._nodes = nodes
        self._records = Records(store, store.keys.tokens)
        self._table = EtcdAssignment(self._records)

    def read(self, since: Revision | None, deadline: float) -> Changes:
        """See ``Backend.read_assignment``."""
        wanted = [requests.get(self._store.keys.state)]
        return self._store.look(wanted, lambda reading: self._table.read(reading.state, since, deadline), deadline)

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard, deadline: float) -> Revision:
        """See ``Backend.commit``."""
        keys = self._store.keys
        dead = [eviction.ref.name for eviction in plan.evictions]
        gone = [*dead, *(departed.name for departed in plan.departed)]
        named = dict.fromkeys([ref.name, *gone, *(absent.name for absent in plan.absent)])
        prepared: Prepared | None = None

        def decide(reading: KeyReading) -> Revision | Write[Revision]:
            nonlocal prepared
            leader, state = joined(reading, ref), reading.state
            check_guard(
                ref,
                guard,
                is_joined=True,
                leadership=state.leadership,
                timeline=state.timeline,
                store=reading.cluster,
                version=state.version,
            )
            check_nodes(plan, partial(found, reading))
            prepared = prepared or self._prepared(state, plan, deadline)
            revision = state.next_revision(plan.number - 1)
            value = attrs.evolve(leader, node=attrs.evolve(leader.node, heartbeat=leader.node.heartbeat + 1)).encoded()
            table = prepared.chain(state.table, revision)
            after = attrs.evolve(state, revision=revision, version=revision, table=table)
            operations = [requests.put(keys.state, after.encoded()), *self._records.clean_up(table)]
            operations += [requests.delete(keys.node(name)) for name in gone]
            if ref.name not in gone:
                operations.append(requests.put(keys.node(ref.name), value))
            if plan.moved:
                key = f'{revision.number:016x}-{revision.stamp:016x}'
                operations.append(requests.put(keys.rebalances + key.encode(), self._rebalance(ref, plan)))

            def written(_: KeyReading) -> Revision:
                self._nodes.remember(ref.name, value)
                return revision

            # A node that left or joins changes the state; one that beats changes its own record alone.
            unmoved = [requests.unwritten(keys.node(name), reading.at) for name in dead]
            return Write(
                [reading.same(keys.state), reading.same(keys.node(ref.name)), *unmoved], operations, written, prepared.chunks
            )

        self._nodes.read_time(deadline)
        return self._store.change(
            [requests.get(keys.state), *(requests.get(keys.node(name)) for name in named)], decide, deadline
        )

    def _prepared(self, state: EtcdState, plan: Plan, deadline: float) -> Prepared:
        is_whole, data = self._table.planned(state, plan, deadline)
        entry = Entry(state.revision, len(data), state.table.new_place())
        return Prepared(is_whole, entry, self._records.chunks(entry, data))

    def _rebalance(self, ref: NodeRef, plan: Plan) -> bytes:
        record = Rebalance(
            triggered_at=self._store.time.earliest(),
            trigger_reason=plan.reason,
            leader_node=ref.name,
            nodes_before=plan.nodes_before,
            nodes_after=plan.nodes_after,
            tokens_moved=plan.moved,
            duration_ms=plan.duration_ms,
        )
        return rebalance_value(record)
