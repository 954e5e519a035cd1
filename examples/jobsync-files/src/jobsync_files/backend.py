"""The protocol, method by method: each is one look at the files under their lock, and at most one change of them."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from jobsync.backend import BackendInfo, BackendOptions, Reach
from jobsync.core.model import (
    INITIAL,
    Audit,
    Claim,
    Guard,
    HistoryKind,
    Leadership,
    LockEdit,
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
from jobsync.errors import BackendUnavailable, Conflict, Fenced, NameTaken, SchemaMismatch, TimelineChanged
from jobsync_files.edits import edited, planned
from jobsync_files.folder import locked
from jobsync_files.state import HEAD, Locks, Namespace, Table, identity
from jobsync_files.trails import completed, in_force, newest_first, when

__all__ = ['FilesBackend']

POLL_SEC = 0.05
TICK = dt.timedelta(microseconds=1)
KINDS: dict[HistoryKind, type[Claim] | type[Audit] | type[Rebalance]] = {
    HistoryKind.CLAIM: Claim,
    HistoryKind.AUDIT: Audit,
    HistoryKind.REBALANCE: Rebalance,
}


class FilesBackend:
    """A ``Backend`` on the folder ``path``, in which each namespace has a directory of its own."""

    info = BackendInfo('files', durable=True, push=True, reach=Reach.HOST, max_tokens=100_000)

    def __init__(self, path: Path, options: BackendOptions) -> None:
        self.path = path / options.namespace
        self._options = options
        self._closed = threading.Event()

    @contextlib.contextmanager
    def _namespace(self, *, bulk: bool = False) -> Iterator[Namespace]:
        """The namespace for one call. No exception of the operating system gets out of here."""
        timeout_sec = self._options.bulk_timeout_sec if bulk else self._options.op_timeout_sec
        try:
            with locked(self.path, timeout_sec) as folder:
                yield Namespace(folder)
        except FileNotFoundError:
            raise SchemaMismatch(f'there is no namespace at {self.path}; open it with create=True') from None
        except OSError as error:
            raise BackendUnavailable(f'{self.path} cannot be read or written: {error}') from error

    # The namespace

    def open(self, settings: Settings, create: bool) -> Opened:
        """See ``Backend.open``."""
        if create:
            self._make(settings)
        with self._namespace() as namespace:
            namespace.sweep()
            head = namespace.head
            if head.settings != settings and all(node.state is NodeState.LEFT for node in head.nodes.values()):
                namespace.renew(settings=settings)
            return Opened(namespace.head.settings, namespace.head.timeline)

    def _make(self, settings: Settings) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path, self._options.op_timeout_sec) as folder:
                if HEAD not in folder.names():
                    Namespace.make(folder, settings)
        except OSError as error:
            raise BackendUnavailable(f'{self.path} cannot be made: {error}') from error

    def renew_timeline(self, expected: Timeline, at_least: int) -> None:
        """See ``Backend.renew_timeline``."""
        with self._namespace() as namespace:
            if namespace.head.timeline == expected:
                namespace.renew(at_least)

    def close(self) -> None:
        """See ``Backend.close``."""
        self._closed.set()

    def snapshot(self) -> Snapshot:
        """See ``Backend.snapshot``."""
        with self._namespace() as namespace:
            head = namespace.head
            return Snapshot(
                timeline=head.timeline,
                store=identity(namespace.folder),
                now=namespace.now,
                revision=head.revision,
                version=head.version,
                leadership=head.leadership,
                nodes=tuple(head.nodes.values()),
                locks_revision=head.locks_revision,
            )

    def wait(self, revision: int, timeout: float) -> int:
        """See ``Backend.wait``. Looks at the head alone, and without the lock: a hint need not be exact."""
        deadline, number = time.monotonic() + timeout, revision
        while True:
            with contextlib.suppress(OSError, ValueError):
                number = json.loads((self.path / HEAD).read_bytes())['revision']['number']
            left = deadline - time.monotonic()
            if number > revision or left <= 0 or self._closed.wait(min(left, POLL_SEC)):
                return number

    # Nodes

    def register(self, node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> None:
        """See ``Backend.register``."""
        with self._namespace() as namespace:
            head, name = namespace.head, node.ref.name
            if head.timeline != timeline:
                raise TimelineChanged(f'the files are in {head.timeline}, not in {timeline}')
            before = head.nodes.get(name)
            if before and before.state is NodeState.JOINED and before.beat != replacing:
                raise NameTaken(before)
            record = Node(
                name=name,
                incarnation=node.ref.incarnation,
                heartbeat=0,
                seen=INITIAL,
                holding=frozenset(),
                state=NodeState.JOINED,
                replaces=node.replaces | ({before.incarnation} if before else set()),
                weight=node.weight,
                timeout_sec=node.timeout_sec,
                host=node.host,
                pid=node.pid,
                created_on=max(namespace.now, head.last_created + TICK),
                last_heartbeat=namespace.now,
            )
            nodes = {other: head.nodes[other] for other in head.nodes if other != name}  # the newest comes last
            revision = namespace.next_revision(at_least)
            namespace.change(nodes={**nodes, name: record}, last_created=record.created_on, revision=revision)

    def heartbeat(self, ref: NodeRef, seen: Revision, holding: frozenset[int]) -> Pulse:
        """See ``Backend.heartbeat``."""
        with self._namespace() as namespace:
            node, now = namespace.joined(ref), namespace.now
            node = attrs.evolve(node, heartbeat=node.heartbeat + 1, seen=seen, holding=holding, last_heartbeat=now)
            namespace.change(nodes={**namespace.head.nodes, ref.name: node})
            head = namespace.head
            leader = head.nodes.get(head.leadership.node.name) if head.leadership.node else None
            if leader and (leader.ref != head.leadership.node or leader.state is not NodeState.JOINED):
                leader = None
            return Pulse(
                heartbeat=node.heartbeat,
                timeline=head.timeline,
                store=identity(namespace.folder),
                revision=head.revision,
                version=head.version,
                leadership=head.leadership,
                leader_heartbeat=leader.heartbeat if leader else None,
                leader_age_sec=(now - leader.last_heartbeat).total_seconds() if leader and leader.last_heartbeat else None,
            )

    def set_weight(self, ref: NodeRef, weight: float) -> None:
        """See ``Backend.set_weight``."""
        with self._namespace() as namespace:
            node = namespace.joined(ref)
            if node.weight != weight:
                nodes = {**namespace.head.nodes, ref.name: attrs.evolve(node, weight=weight)}
                namespace.change(nodes=nodes, revision=namespace.next_revision())

    def deregister(self, ref: NodeRef) -> None:
        """See ``Backend.deregister``."""
        with self._namespace() as namespace:
            node = namespace.head.nodes.get(ref.name)
            if node and node.ref == ref and node.state is NodeState.JOINED:
                node = attrs.evolve(node, state=NodeState.LEFT, holding=frozenset(), last_heartbeat=None)
                namespace.change(nodes={**namespace.head.nodes, ref.name: node}, revision=namespace.next_revision())

    # The leader's

    def acquire_leadership(self, ref: NodeRef, epoch: int) -> Leadership:
        """See ``Backend.acquire_leadership``."""
        with self._namespace() as namespace:
            namespace.joined(ref)
            if namespace.head.leadership.epoch == epoch:
                namespace.change(leadership=Leadership(epoch + 1, ref), revision=namespace.next_revision())
            return namespace.head.leadership

    def read_assignment(self, since: Revision | None = None) -> Changes:  # noqa: ARG002
        """See ``Backend.read_assignment``. Always in full: the file is read whole anyway."""
        with self._namespace(bulk=True) as namespace:
            table = namespace.read_part(Table, namespace.head.table)
            return Changes(namespace.head.version, None, table.members, table.groups, table.pins)

    def commit(self, ref: NodeRef, plan: Plan, guard: Guard) -> Revision:
        """See ``Backend.commit``."""
        with self._namespace(bulk=True) as namespace:
            head, leader = namespace.head, namespace.joined(ref)
            if head.leadership != Leadership(guard.epoch, ref):
                raise Fenced(f'node {ref.name!r} no longer leads in epoch {guard.epoch}: {head.leadership}')
            if (head.timeline, head.revision) != (guard.timeline, guard.revision):
                raise Conflict(f'planned from {guard}, but the files are at {head.revision} in {head.timeline}')
            if head.timeline.store != identity(namespace.folder):
                raise Conflict('these are not the files in which the timeline began')
            nodes = {**head.nodes, ref.name: attrs.evolve(leader, heartbeat=leader.heartbeat + 1)}
            for gone in plan.evictions:
                if gone.ref.name not in head.nodes or head.nodes[gone.ref.name].beat != (gone.ref.incarnation, gone.heartbeat):
                    raise Conflict(f'node {gone.ref.name!r} is not as it was when it was taken for dead')
                nodes.pop(gone.ref.name, None)
            for left in plan.departed:
                found = head.nodes.get(left.name)
                if found is None or found.ref != left or found.state is not NodeState.LEFT:
                    raise Conflict(f'node {left.name!r} is not as it was when it left')
                nodes.pop(left.name, None)
            revision = namespace.next_revision()
            table = namespace.write_part(planned(namespace.read_part(Table, head.table), plan, revision.number))
            trails = head.trails
            if plan.moved:
                counts = plan.nodes_before, plan.nodes_after, plan.moved, plan.duration_ms
                trails = namespace.add(Rebalance, [Rebalance(namespace.now, plan.reason, ref.name, *counts)])
            namespace.change(nodes=nodes, revision=revision, version=revision, table=table, trails=trails)
            return revision

    # Task locks

    def read_locks(self) -> tuple[TaskLock, ...]:
        """See ``Backend.read_locks``."""
        with self._namespace(bulk=True) as namespace:
            return namespace.read_part(Locks, namespace.head.locks).locks

    def edit_locks(self, edit: LockEdit) -> int:
        """See ``Backend.edit_locks``."""
        with self._namespace(bulk=True) as namespace:
            revision = namespace.next_revision()
            before = namespace.read_part(Locks, namespace.head.locks)
            after = edited(before, edit, namespace.now, revision.number)
            if after.locks != before.locks:
                locks = namespace.write_part(after)
                namespace.change(locks=locks, revision=revision, locks_revision=revision.number)
            return len({lock.task_id for lock in before.locks} - {lock.task_id for lock in after.locks})

    # Trails

    def append_claims(self, ref: NodeRef, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_claims``."""
        with self._namespace(bulk=True) as namespace:
            namespace.joined(ref)
            claims = [Claim(item, ref.name, date, namespace.now) for item in items]
            namespace.change(trails=namespace.add(Claim, claims))

    def append_audits(self, node: str, items: Sequence[str], date: dt.date) -> None:
        """See ``Backend.append_audits``."""
        with self._namespace(bulk=True) as namespace:
            audits = [Audit(item, node, date, namespace.now) for item in items]
            namespace.change(trails=namespace.add(Audit, audits))

    def history(
        self, kind: HistoryKind, *, limit: int | None = None, date: dt.date | None = None, item: str | None = None
    ) -> Sequence[Claim | Audit | Rebalance]:
        """See ``Backend.history``."""
        with self._namespace(bulk=True) as namespace:
            return newest_first(in_force(namespace, KINDS[kind]), date, item)[:limit]

    def incomplete(self, date: dt.date | None, older_than: dt.timedelta) -> tuple[Claim, ...]:
        """See ``Backend.incomplete``."""
        with self._namespace(bulk=True) as namespace:
            done, newest = completed(namespace), dict[tuple[str, dt.date], Claim]()
            for claim in reversed(newest_first(in_force(namespace, Claim), date, None)):
                newest[claim.item, claim.date] = claim
            open_ = [claim for key, claim in newest.items() if key not in done and claim.created_on <= namespace.now - older_than]
            return tuple(sorted(open_, key=lambda claim: claim.created_on))

    def purge(self, kind: HistoryKind, before: dt.datetime) -> int:
        """See ``Backend.purge``."""
        with self._namespace(bulk=True) as namespace:
            records: Sequence[Claim | Audit | Rebalance] = in_force(namespace, KINDS[kind])
            done = completed(namespace)
            kept = [r for r in records if when(r) >= before or (isinstance(r, Claim) and (r.item, r.date) not in done)]
            if len(kept) < len(records):
                namespace.change(trails=namespace.add(KINDS[kind], kept, anew=True))
            return len(records) - len(kept)
