"""A namespace as tests use it: short ways to make nodes join, lead and commit, and to compare everything that can be read."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import pytest

from jobsync.backend import (
    INITIAL,
    Assignment,
    Audit,
    Backend,
    Claim,
    Eviction,
    Guard,
    HistoryKind,
    LockEdit,
    LockRequest,
    Member,
    Node,
    NodeRef,
    Pin,
    Plan,
    Pulse,
    Rebalance,
    Registration,
    Revision,
    Settings,
    Snapshot,
    TaskLock,
    TokenGroup,
    TokenRow,
    rising,
)

__all__ = ['DAY', 'GONE', 'NAMESPACE', 'SETTINGS', 'TOKENS', 'Namespace', 'State', 'content', 'purged']

NAMESPACE = 'sync_'
"""The name of the namespace that ``Harness.connect`` uses by default."""
TOKENS = 24
SETTINGS = Settings(total_tokens=TOKENS, hash_function='xxh3')

GONE = ('unknown', 'other incarnation', 'left', 'evicted', 'replaced', 'renewed')
"""Reasons why a run of a node is not registered."""

DAY = dt.date(2026, 3, 2)
"""The date of claims and audits, unless a test names another."""

MOST_PORTIONS = 10_000
"""More portions than any purge of a test takes."""
NO_TIME = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_numbers = itertools.count(1)


@attrs.frozen
class State:
    """Everything that can be read in a namespace, except the present time and position."""

    settings: Settings
    snapshot: Snapshot
    rows: tuple[TokenRow, ...]
    pins: tuple[Pin, ...]
    members: Mapping[str, Member]
    locks: tuple[TaskLock, ...]
    claims: frozenset[Claim]
    audits: frozenset[Audit]
    rebalances: tuple[Rebalance, ...]
    lost_attempts: Mapping[str, int]

    def without(self, *fields: str) -> dict[str, object]:
        """Return all fields, and those of the snapshot beside them, except these."""
        found = attrs.asdict(self, recurse=False) | attrs.asdict(self.snapshot, recurse=False)
        return {name: value for name, value in found.items() if name not in ('snapshot', *fields)}


class Namespace:
    """One opened namespace. Every run of a node that it creates has an incarnation of its own.

    Args:
        backend: The handle for all calls; the constructor opens it.
        settings: The settings for ``open``.

    Attributes:
        timeline: The timeline for ``register``. ``renew_timeline`` keeps it up to date.
    """

    def __init__(self, backend: Backend, settings: Settings = SETTINGS) -> None:
        self.backend = backend
        self.settings = settings
        self.timeline = backend.open(settings, create=True).timeline

    def ref(self, name: str) -> NodeRef:
        """Return a new run of a name, not registered."""
        return NodeRef(name, f'run-{next(_numbers)}')

    def join(self, name: str, replacing: tuple[str, int] | None = None, **fields: Any) -> NodeRef:
        """Register a new run of a name; ``fields`` are those of ``Registration``."""
        registration = Registration(**{'ref': self.ref(name), 'timeout_sec': 15.0, **fields})
        self.backend.register(registration, self.timeline, 0, replacing)
        return registration.ref

    def beat(self, ref: NodeRef, seen: Revision = INITIAL, holding: Iterable[int] = (), candidate: bool = True) -> Pulse:
        """Send one heartbeat."""
        return self.backend.heartbeat(ref, seen, frozenset(holding), candidate)

    def lead(self, ref: NodeRef) -> NodeRef:
        """Make a node the leader."""
        leadership = self.backend.acquire_leadership(ref, self.snapshot().leadership.epoch)
        assert leadership.node == ref
        return ref

    def leader(self, name: str = 'leader') -> NodeRef:
        """Register a node and make it the leader."""
        return self.lead(self.join(name))

    def guard(self, **changes: Any) -> Guard:
        """Return the guard of a plan that is made from the present state, with ``changes``."""
        return attrs.evolve(_guard_at(self.snapshot()), **changes)

    def plan(self, *groups: TokenGroup, **fields: Any) -> Plan:
        """Return a plan of these groups and pins: each token or pin whose owner changes gets the plan's number as its version."""
        return self._plan_at(self.snapshot(), groups, fields)

    def _plan_at(self, snapshot: Snapshot, groups: Iterable[TokenGroup], fields: Mapping[str, Any]) -> Plan:
        number, now = snapshot.revision.number + 1, self.assignment()
        fields = {'reason': 'test', 'number': number, **fields}
        fields['pins'] = tuple(_versioned(pin, now.pins.get(pin.id), number) for pin in fields.get('pins', ()))
        return Plan(groups=tuple(part for group in groups for part in _split(group, now, number)), **fields)

    def commit(self, leader: NodeRef, *groups: TokenGroup, **fields: Any) -> Revision:
        """Commit a plan that is made from the present state."""
        now = self.snapshot()
        return self.backend.commit(leader, self._plan_at(now, groups, fields), _guard_at(now))

    def evict(self, leader: NodeRef, ref: NodeRef) -> None:
        """Evict a node."""
        self.commit(leader, evictions=(Eviction(ref, self.node(ref.name).heartbeat),))

    def lock(self, *tasks: str, group: str = '', **fields: Any) -> None:
        """Register a lock, or an item of a group, for each task; ``fields`` are those of ``LockRequest``."""
        requests = (LockRequest(**{'task_id': task, 'patterns': ('a%',), 'created_by': 'me', **fields}) for task in tasks)
        self.backend.edit_locks(LockEdit(put=tuple(requests), group=group))

    def gone(self, how: str, attempts: Sequence[str] = (), name: str = 'ghost') -> NodeRef:
        """Return a run of a node that is not registered, for one of the reasons in ``GONE`` or because it was removed.

        Before, it attempted items.
        """
        if how == 'unknown':
            return self.ref(name)
        ref = self.join(name)
        if how == 'other incarnation':
            return self.ref(name)
        if attempts:
            self.attempt(ref, *attempts)
        self.end(ref, how)
        return ref

    def end(self, ref: NodeRef, how: str) -> None:
        """End the registration of a run, for one of the last reasons in ``GONE``, or because it was removed, or died."""
        if how in ('left', 'died'):
            self.backend.deregister(ref, how == 'died')
        elif how == 'evicted':
            self.evict(self.leader('evictor'), ref)
        elif how == 'removed':
            self.backend.remove_node(ref)
        elif how == 'replaced':
            self.join(ref.name, replacing=self.node(ref.name).beat)
        else:
            self.renew_timeline()

    def gone_runs(self) -> Iterator[tuple[str, NodeRef]]:
        """Yield each reason in ``GONE`` with a run that is not registered for it, of a name of its own."""
        for how in GONE:
            yield how, self.gone(how, name=f'{how} ghost')

    def renew_timeline(self, at_least: int = 0) -> None:
        """Renew the timeline, and go on in the new one."""
        self.backend.renew_timeline(self.timeline, at_least)
        self.timeline = self.snapshot().timeline

    def claim(self, ref: NodeRef, *items: str, date: dt.date = DAY) -> frozenset[str]:
        """Append a claim of each item, and return the items that are completed already."""
        return self.backend.append_claims(ref, items, date).completed

    def attempt(self, ref: NodeRef, *items: str, tolerated: int = 0, date: dt.date = DAY) -> dict[str, int]:
        """Attempt each item, and return those with more lost attempts than are tolerated, with their number."""
        return dict(self.backend.append_claims(ref, items, date, tolerated).lost_attempts)

    def lost(self, at_least: int = 1, date: dt.date = DAY) -> dict[str, int]:
        """Return the items with lost attempts, with their number."""
        return dict(self.backend.lost_attempts(date, at_least))

    def audit(self, name: str, *items: str, date: dt.date = DAY) -> None:
        """Append an audit of each item."""
        self.backend.append_audits(name, items, date)

    def populate(self) -> NodeRef:
        """Add a leader, a node that left, rows, a pin, members, locks, claims, an audit and a rebalance; return the leader."""
        leader = self.leader()
        self.backend.deregister(self.join('left'))
        self.beat(leader, self.revision, {1, 2})
        self.lock('x', 'y')
        group = TokenGroup(range(9), 'leader', 'a', 'b')
        pin, members = Pin(TOKENS + 1, 'x', 'leader', pattern='a%'), {name: Member('1', 15.0) for name in ('leader', 'left')}
        self.commit(leader, group, pins=(pin,), members=members, moved=9)
        self.claim(leader, 'x', 'y')
        self.audit('leader', 'x')
        return leader

    # Reading

    def snapshot(self) -> Snapshot:
        """Return ``Backend.snapshot()``."""
        return self.backend.snapshot()

    @property
    def revision(self) -> Revision:
        """Return the namespace's revision."""
        return self.snapshot().revision

    def nodes(self) -> dict[str, Node]:
        """Return all node records by name, in the order of the snapshot."""
        return {node.name: node for node in self.snapshot().nodes}

    def node(self, name: str) -> Node:
        """Return the record of a name."""
        return self.nodes()[name]

    def assignment(self) -> Assignment:
        """Return the whole assignment."""
        return Assignment.empty(self.settings.total_tokens).apply(self.backend.read_assignment())

    def row(self, token: int) -> TokenRow:
        """Return the row of a token."""
        return self.assignment().row(token)

    def pins(self) -> dict[int, Pin]:
        """Return all pins by id."""
        return {pin.id: pin for pin in self.backend.read_assignment().pins}

    def locks(self) -> dict[str, TaskLock]:
        """Return all readable task locks by task."""
        return {lock.task_id: lock for lock in self.backend.read_locks().locks}

    def claims(self, **where: Any) -> list[Claim]:
        """Return claims, newest first."""
        found = self.backend.history(HistoryKind.CLAIM, **where)
        return [record for record in found if isinstance(record, Claim)]

    def audits(self, **where: Any) -> list[Audit]:
        """Return audits, newest first."""
        found = self.backend.history(HistoryKind.AUDIT, **where)
        return [record for record in found if isinstance(record, Audit)]

    def rebalances(self, **where: Any) -> list[Rebalance]:
        """Return rebalances, newest first."""
        found = self.backend.history(HistoryKind.REBALANCE, **where)
        return [record for record in found if isinstance(record, Rebalance)]

    def purge(self, kind: HistoryKind, before: dt.datetime, limit: int = 1_000_000) -> int:
        """Purge portion by portion; return how many records were deleted."""
        return purged(self.backend, kind, before, limit)

    def state(self) -> State:
        """Return everything that can be read."""
        snapshot, assignment = self.snapshot(), self.assignment()
        return State(
            settings=self.backend.open(self.settings, create=False).settings,
            snapshot=attrs.evolve(snapshot, now=NO_TIME, position=None),
            rows=tuple(map(assignment.row, range(assignment.total_tokens))),
            pins=tuple(sorted(assignment.pins.values(), key=lambda pin: pin.id)),
            members=dict(assignment.members),
            locks=self.backend.read_locks().locks,
            claims=frozenset(self.claims()),
            audits=frozenset(self.audits()),
            rebalances=tuple(self.rebalances()),
            lost_attempts=self.lost(),
        )

    @contextlib.contextmanager
    def unchanged(self, case: object = '') -> Iterator[None]:
        """Check that the block changes nothing; a failure has a note with the ``case``, one of several."""
        before = self.state()
        try:
            yield
            assert self.state() == before
        except BaseException as error:
            if case != '':
                error.add_note(f'case: {case}')
            raise

    @contextlib.contextmanager
    def refused(self, error: type[Exception], case: object = '') -> Iterator[pytest.ExceptionInfo[Any]]:
        """Check that the block raises exactly this error and changes nothing; for ``case`` see ``unchanged``."""
        with self.unchanged(case):
            with pytest.raises(error) as caught:
                yield caught
            assert caught.type is error

    @contextlib.contextmanager
    def raises_revision(self) -> Iterator[None]:
        """Check that the block raises the revision's number and changes its stamp."""
        before = self.revision
        yield
        after = self.revision
        assert after.number > before.number
        assert after.stamp != before.stamp
        assert 0 < after.stamp <= 2**62

    @contextlib.contextmanager
    def changes_only(self, *fields: str) -> Iterator[None]:
        """Check that the block raises the revision, and changes at most these other fields of the state and its snapshot."""
        before = self.state()
        with self.raises_revision():
            yield
        assert self.state().without('revision', *fields) == before.without('revision', *fields)

    @contextlib.contextmanager
    def same_version(self) -> Iterator[None]:
        """Check that the block leaves the assignment's version as it is."""
        before = self.snapshot().version
        yield
        assert self.snapshot().version == before

    @contextlib.contextmanager
    def same_revision(self) -> Iterator[None]:
        """Check that the block leaves the revision as it is."""
        before = self.revision
        yield
        assert self.revision == before


def purged(backend: Backend, kind: HistoryKind, before: dt.datetime, limit: int = 1_000_000) -> int:
    """Purge a history portion by portion; return how many records were deleted."""
    deleted, after = 0, ''
    for _ in range(MOST_PORTIONS):
        portion = backend.purge(kind, before, limit, after)
        deleted, after = deleted + portion.deleted, portion.resume
        if not after:
            return deleted
    raise AssertionError(f'a purge of {kind} has not ended after {MOST_PORTIONS} portions')


def content(assignment: Assignment) -> tuple[object, ...]:
    """Return version, rows, pins and members of an assignment, for comparison with those of another."""
    rows = [assignment.row(token) for token in range(assignment.total_tokens)]
    return assignment.version, rows, dict(assignment.pins), dict(assignment.members)


def _guard_at(snapshot: Snapshot) -> Guard:
    return Guard(snapshot.timeline, snapshot.leadership.epoch, snapshot.version)


def _split(group: TokenGroup, now: Assignment, number: int) -> Iterator[TokenGroup]:
    """Yield a group in parts, arrays as in the plan of a leader, each with the version that its tokens have after the commit."""
    keeps: dict[int, bool] = {}  # by position of the owner: a row is made once for each, not for each token of a large pool
    by_version: dict[int, list[int]] = {}
    for token in group.tokens:
        owner = now.owner[token]
        if owner not in keeps:
            row = now.row(token)
            keeps[owner] = not row.absent and row.owner == group.owner
        by_version.setdefault(now.since[token] if keeps[owner] else number, []).append(token)
    for version, tokens in by_version.items():
        yield attrs.evolve(group, tokens=rising(tokens), version=version)


def _versioned(pin: Pin, before: Pin | None, number: int) -> Pin:
    return attrs.evolve(pin, version=before.version if before and before.owner == pin.owner else number)
