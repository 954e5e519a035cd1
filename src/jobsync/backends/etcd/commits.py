"""The leader's write (rule R5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from jobsync.backends.etcd import kv
from jobsync.backends.etcd.nodes import Nodes, encoded, found, joined
from jobsync.backends.etcd.records import Records
from jobsync.backends.etcd.state import State
from jobsync.backends.etcd.store import Reading, Store, Write
from jobsync.backends.etcd.table import Table
from jobsync.backends.etcd.work import rebalance_value
from jobsync.core.model import Guard, Leadership, NodeRef, NodeState, Rebalance, Revision
from jobsync.core.tokens import Changes, Plan
from jobsync.errors import Conflict, Fenced

__all__ = ['Commits']

MOST_RANGES = 60
"""Of the nodes that a commit evicts. A transaction takes 128 comparisons, and some are for other things."""


class Commits:
    """Reads the assignment and commits to it."""

    def __init__(self, store: Store, nodes: Nodes) -> None:
        self._store = store
        self._nodes = nodes
        self._records = Records(store, store.keys.tokens)
        self._table = Table(self._records)
        self._last: Reading | None = None
        """The last reading of everything, from which a plan is probably made."""

    def remember(self, reading: Reading) -> None:
        """This is a reading of everything."""
        self._last = reading

    def read(self, since: Revision | None, deadline: float) -> Changes:
        """See ``Backend.read_assignment``."""
        wanted = [kv.get(self._store.keys.state)]
        return self._store.look(wanted, lambda reading: self._table.read(reading.state, since, deadline), deadline)

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard, deadline: float) -> Revision:
        """See ``Backend.commit``."""
        keys = self._store.keys

        def decide(reading: Reading) -> Revision | Write[Revision]:
            state, leader = reading.state, joined(reading, ref)
            check(reading, state, ref, plan, guard)
            revision = state.next_revision()
            leader = attrs.evolve(leader, heartbeat=leader.heartbeat + 1)
            table, data, entry = self._table.planned(state, plan, revision, deadline)
            after = attrs.evolve(state, revision=revision, version=revision, table=table)
            gone = [*(eviction.ref.name for eviction in plan.evictions), *(departed.name for departed in plan.departed)]
            operations = [
                kv.put(keys.state, after.encoded()),
                *self._records.clean_up(table),
                *(kv.delete(keys.node(n)) for n in gone),
            ]
            value = encoded(leader)
            if ref.name not in gone:
                operations.append(kv.put(keys.node(ref.name), value))
            if plan.moved:
                operations.append(kv.put(*self._rebalance(ref, plan, entry.key(keys.rebalances)[:-1])))

            def written(_: Reading) -> Revision:
                self._nodes.remember(ref.name, value)
                return revision

            compares = [*self._nodes.still(reading, ref.name), reading.same(keys.state), *self._unmoved(reading, plan)]
            return Write(compares, operations, written, self._records.chunks(entry, data))

        return self._store.change([kv.get(keys.state), kv.get_all(keys.nodes)], decide, deadline, self._known(ref, guard))

    def _known(self, ref: NodeRef, guard: Guard) -> Reading | None:
        """The reading that the plan was made from, if it is at hand, with the leader's own record as it last wrote it.

        Not if another cluster has answered since: then its content may be the same, but not its identity.
        """
        known, own = self._last, self._nodes.last_known(ref.name)
        if known is None or known.cluster != self._store.cluster or known.state.revision != guard.revision:
            return None
        return known if own is None else attrs.evolve(known, values={**known.values, **own.values})

    def _unmoved(self, reading: Reading, plan: Plan) -> Iterator[Any]:
        """Compare: the nodes taken for dead have written nothing since the reading.

        Where they are many, neighbours are looked at together, with whatever live nodes stand between them: if one of those
        beats at this very moment, the attempt counts as lost, and is made again.
        """
        dead = sorted(self._store.keys.node(eviction.ref.name) for eviction in plan.evictions)
        step = -(-len(dead) // MOST_RANGES) or 1
        for start in range(0, len(dead), step):
            part = dead[start : start + step]
            yield kv.unwritten(part[0], part[-1] + b'\0', reading.at)

    def _rebalance(self, ref: NodeRef, plan: Plan, key: bytes) -> tuple[bytes, bytes]:
        record = Rebalance(
            triggered_at=self._store.now(),
            trigger_reason=plan.reason,
            leader_node=ref.name,
            nodes_before=plan.nodes_before,
            nodes_after=plan.nodes_after,
            tokens_moved=plan.moved,
            duration_ms=plan.duration_ms,
        )
        return key, rebalance_value(record)


def check(reading: Reading, state: State, ref: NodeRef, plan: Plan, guard: Guard) -> None:
    """Raise what stands against the plan, the leader's own registration apart."""
    if state.leadership != Leadership(guard.epoch, ref):
        raise Fenced(f'node {ref.name!r} no longer leads in epoch {guard.epoch}: {state.leadership}')
    if state.timeline != guard.timeline or state.timeline.store != reading.cluster:
        raise Conflict(f'planned in {guard.timeline}, but this is {state.timeline} on cluster {reading.cluster}')
    if state.revision != guard.revision:
        raise Conflict(f'planned from {guard.revision}, but the namespace is at {state.revision}')
    for eviction in plan.evictions:
        node = found(reading, eviction.ref.name)
        if node is None or node.beat != (eviction.ref.incarnation, eviction.heartbeat):
            raise Conflict(f'node {eviction.ref.name!r} is not as it was when it was taken for dead')
    for departed in plan.departed:
        node = found(reading, departed.name)
        if node is None or node.ref != departed or node.state is not NodeState.LEFT:
            raise Conflict(f'node {departed.name!r} is not as it was when it left')
