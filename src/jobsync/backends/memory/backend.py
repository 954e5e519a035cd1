"""The protocol on a memory store: each method is one step under the store's lock."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence

import attrs

from jobsync.backend import BackendInfo, BackendOptions, Reach
from jobsync.backends.memory.store import MemoryStore, Space
from jobsync.backends.memory.trails import Trails
from jobsync.core.model import (
    INITIAL,
    Audit,
    Claim,
    Guard,
    HistoryKind,
    Leadership,
    LockEdit,
    LockFilter,
    Node,
    NodeRef,
    NodeState,
    Opened,
    Pulse,
    Rebalance,
    Registration,
    Revision,
    Settings,
    Snapshot,
    TaskLock,
    Timeline,
)
from jobsync.core.tokens import Changes, Plan
from jobsync.errors import Conflict, Evicted, Fenced, NameTaken, SchemaMismatch, TimelineChanged

__all__ = ['MemoryBackend']

TICK = dt.timedelta(microseconds=1)


def joined(space: Space, ref: NodeRef) -> Node:
    """The record of ``ref``; ``Evicted`` unless exactly that incarnation is JOINED."""
    node = space.nodes.get(ref.name)
    if node is None or node.incarnation != ref.incarnation or node.state is not NodeState.JOINED:
        raise Evicted(f'node {ref.name!r} is no longer registered as incarnation {ref.incarnation}; register it anew')
    return node


def meets(lock: TaskLock, condition: LockFilter, now: dt.datetime) -> bool:
    """Whether a filter removes this lock."""
    return (
        (condition.created_by is None or lock.created_by == condition.created_by)
        and (not condition.expired or (lock.expires_at is not None and lock.expires_at <= now))
        and (condition.task_ids is None or lock.task_id in condition.task_ids)
    )


class MemoryBackend:
    """A ``Backend`` on a ``MemoryStore``."""

    def __init__(self, store: MemoryStore, options: BackendOptions | None = None) -> None:
        self.store = store
        self._name = (options or BackendOptions()).namespace
        self._closed = False

    @property
    def info(self) -> BackendInfo:
        """The store lives as long as its process; whatever it acknowledged, it has."""
        return BackendInfo('memory', durable=self.store.durable, push=True, reach=Reach.PROCESS, max_tokens=10_000_000)

    def _space(self) -> Space:
        try:
            return self.store.spaces[self._name]
        except KeyError:
            raise SchemaMismatch(f'there is no namespace {self._name!r} in this store; open it with create=True') from None

    def _trails(self) -> Trails:
        self._space()
        return self.store.trails.setdefault(self._name, Trails())

    def _put(self, space: Space) -> None:
        self.store.put(self._name, space)

    # The namespace

    def open(self, settings: Settings, create: bool) -> Opened:
        """See ``Backend.open``."""
        with self.store.changed:
            space = self.store.new_space() if create and self._name not in self.store.spaces else self._space()
            if space.settings != settings:
                if space.settings is None:
                    space = attrs.evolve(space, settings=settings)
                elif not any(node.state is NodeState.JOINED for node in space.nodes.values()):
                    space = attrs.evolve(self.store.renewed(space), settings=settings)
                self._put(space)
            assert space.settings is not None
            return Opened(space.settings, space.timeline)

    def renew_timeline(self, expected: Timeline, at_least: int) -> None:
        """See ``Backend.renew_timeline``."""
        with self.store.changed:
            space = self._space()
            if space.timeline == expected:
                self._put(self.store.renewed(space, at_least))

    def close(self) -> None:
        """See ``Backend.close``."""
        with self.store.changed:
            self._closed = True
            self.store.changed.notify_all()

    def snapshot(self) -> Snapshot:
        """See ``Backend.snapshot``."""
        with self.store.changed:
            space = self._space()
            return Snapshot(
                timeline=space.timeline,
                store=self.store.identity,
                now=self.store.now(),
                revision=space.revision,
                version=space.table.version,
                leadership=space.leadership,
                nodes=tuple(space.nodes.values()),
                locks_revision=space.locks_revision,
            )

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``."""
        deadline = time.monotonic() + timeout
        with self.store.changed:
            while True:
                space = self.store.spaces.get(self._name)
                number = space.revision.number if space else 0
                left = deadline - time.monotonic()
                if number > revision or self._closed or left <= 0:
                    return number
                self.store.changed.wait(left)

    # Nodes

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        """See ``Backend.register``."""
        with self.store.changed:
            space, now = self._space(), self.store.now()
            if space.timeline != timeline:
                raise TimelineChanged(f'the namespace {self._name!r} lives in {space.timeline}, not in {timeline}')
            before = space.nodes.get(node.ref.name)
            if before and before.state is NodeState.JOINED and before.beat != replacing:
                raise NameTaken(before)
            created_on = max(now, space.last_created + TICK)
            record = Node(
                name=node.ref.name,
                incarnation=node.ref.incarnation,
                heartbeat=0,
                seen=INITIAL,
                holding=frozenset(),
                state=NodeState.JOINED,
                replaces=node.replaces | {before.incarnation} if before else node.replaces,
                weight=node.weight,
                timeout_sec=node.timeout_sec,
                host=node.host,
                pid=node.pid,
                created_on=created_on,
                last_heartbeat=now,
            )
            others = {name: other for name, other in space.nodes.items() if name != record.name}
            nodes = {**others, record.name: record}
            revision = self.store.next_revision(space, at_least)
            self._put(attrs.evolve(space, nodes=nodes, last_created=created_on, revision=revision))

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int]) -> Pulse:
        """See ``Backend.heartbeat``."""
        with self.store.changed:
            space = self._space()
            node = joined(space, ref)
            now = self.store.now()
            node = attrs.evolve(node, heartbeat=node.heartbeat + 1, seen=seen, holding=frozenset(holding), last_heartbeat=now)
            nodes = {**space.nodes, ref.name: node}
            self._put(attrs.evolve(space, nodes=nodes))
            leading = space.leadership.node
            leader = nodes.get(leading.name) if leading else None
            if leader and (leader.ref != leading or leader.state is not NodeState.JOINED):
                leader = None
            return Pulse(
                heartbeat=node.heartbeat,
                timeline=space.timeline,
                store=self.store.identity,
                revision=space.revision,
                version=space.table.version,
                leadership=space.leadership,
                leader_heartbeat=leader.heartbeat if leader else None,
                leader_age_sec=(now - leader.last_heartbeat).total_seconds() if leader and leader.last_heartbeat else None,
            )

    def set_weight(self, ref: NodeRef, weight: float) -> None:
        """See ``Backend.set_weight``."""
        with self.store.changed:
            space = self._space()
            joined(space, ref)
            node = space.nodes[ref.name]
            if node.weight != weight:
                nodes = {**space.nodes, ref.name: attrs.evolve(node, weight=weight)}
                self._put(attrs.evolve(space, nodes=nodes, revision=self.store.next_revision(space)))

    def deregister(self, ref: NodeRef) -> None:
        """See ``Backend.deregister``."""
        with self.store.changed:
            space = self._space()
            node = space.nodes.get(ref.name)
            if node and node.incarnation == ref.incarnation and node.state is NodeState.JOINED:
                node = attrs.evolve(node, state=NodeState.LEFT, holding=frozenset(), last_heartbeat=None)
                nodes = {**space.nodes, ref.name: node}
                self._put(attrs.evolve(space, nodes=nodes, revision=self.store.next_revision(space)))

    # The leader's

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        """See ``Backend.acquire_leadership``."""
        with self.store.changed:
            space = self._space()
            joined(space, ref)
            if space.leadership.epoch != epoch:
                return space.leadership
            leadership = Leadership(epoch + 1, ref)
            self._put(attrs.evolve(space, leadership=leadership, revision=self.store.next_revision(space)))
            return leadership

    def read_assignment(self, since: Revision | None = None) -> Changes:
        """See ``Backend.read_assignment``."""
        return self._space().table.read(since)

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """See ``Backend.commit``."""
        with self.store.changed:
            space = self._space()
            leader = joined(space, ref)
            if space.leadership != Leadership(guard.epoch, ref):
                raise Fenced(f'node {ref.name!r} no longer leads in epoch {guard.epoch}: {space.leadership}')
            if space.timeline != guard.timeline or space.timeline.store != self.store.identity:
                raise Conflict(f'planned in {guard.timeline}, but this is {space.timeline} on store {self.store.identity}')
            if space.revision != guard.revision:
                raise Conflict(f'planned from {guard.revision}, but the namespace is at {space.revision}')
            nodes = {**space.nodes, ref.name: attrs.evolve(leader, heartbeat=leader.heartbeat + 1)}
            for eviction in plan.evictions:
                found = space.nodes.get(eviction.ref.name)
                if found is None or found.beat != (eviction.ref.incarnation, eviction.heartbeat):
                    raise Conflict(f'node {eviction.ref.name!r} is not as it was when it was taken for dead')
                nodes.pop(eviction.ref.name, None)
            for departed in plan.departed:
                found = space.nodes.get(departed.name)
                if found is None or found.ref != departed or found.state is not NodeState.LEFT:
                    raise Conflict(f'node {departed.name!r} is not as it was when it left')
                nodes.pop(departed.name, None)
            revision = self.store.next_revision(space)
            self._put(attrs.evolve(space, nodes=nodes, revision=revision, table=space.table.after(plan, revision)))
            if plan.moved:
                rebalance = Rebalance(
                    triggered_at=self.store.now(),
                    trigger_reason=plan.reason,
                    leader_node=ref.name,
                    nodes_before=plan.nodes_before,
                    nodes_after=plan.nodes_after,
                    tokens_moved=plan.moved,
                    duration_ms=plan.duration_ms,
                )
                self._trails().rebalances.append(rebalance)
            return revision

    # Task locks

    def read_locks(self) -> tuple[TaskLock, ...]:
        """See ``Backend.read_locks``."""
        return tuple(sorted(self._space().locks.values(), key=lambda lock: lock.id))

    def edit_locks(self, edit: LockEdit) -> int:
        """See ``Backend.edit_locks``."""
        with self.store.changed:
            space, now = self._space(), self.store.now()
            before, ids = space.locks, space.lock_ids
            revision = self.store.next_revision(space)
            locks = dict(before)
            if edit.remove is not None:
                locks = {task: lock for task, lock in before.items() if not meets(lock, edit.remove, now)}
            for put in edit.put:
                old = before.get(put.task_id) or locks.get(put.task_id)
                if old is None:
                    ids += 1
                locks[put.task_id] = TaskLock(
                    id=old.id if old else ids,
                    task_id=put.task_id,
                    patterns=tuple(put.patterns),
                    reason=put.reason,
                    created_by=put.created_by,
                    created_at=old.created_at if old else now,
                    expires_at=None if put.expires_in is None else now + put.expires_in,
                    registered=old.registered if old else revision.number,
                )
            if locks != before:
                changed = attrs.evolve(space, locks=locks, lock_ids=ids, revision=revision, locks_revision=revision.number)
                self._put(changed)
            return len(before.keys() - locks.keys())

    # Trails

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_claims``."""
        with self.store.changed:
            joined(self._space(), ref)
            self._trails().claim(ref.name, items, date, self.store.now())

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_audits``."""
        with self.store.changed:
            self._trails().audit(node, items, date, self.store.now())

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Claim | Audit | Rebalance]:
        """See ``Backend.history``."""
        with self.store.changed:
            return self._trails().history(kind, limit, date, item)

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        """See ``Backend.incomplete``."""
        with self.store.changed:
            return self._trails().incomplete(date, self.store.now() - older_than)

    def purge(self, kind: HistoryKind, before: dt.datetime) -> int:
        """See ``Backend.purge``."""
        with self.store.changed:
            return self._trails().purge(kind, before)
