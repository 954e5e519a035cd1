"""Records made short, for the tests of the core.

Nodes have names of one letter. A task's key ends in the number of its hash token: ``t5`` has token 5.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping

import attrs

from jobsync._core.assignment import Assignment, Changes, Plan, TokenGroup
from jobsync._core.config import NodeConfig
from jobsync._core.leader.decide import decide
from jobsync._core.leader.inputs import Decision, LeaderState, LeaderView
from jobsync._core.records import (
    Leadership,
    Member,
    Node,
    NodeRef,
    NodeState,
    Pin,
    Revision,
    Snapshot,
    TaskLock,
    Timeline,
)
from jobsync.backend import BackendInfo, Reach
from jobsync.config import CoordinationConfig

__all__ = [
    'EPOCH',
    'TIMELINE',
    'TIMEOUT_SEC',
    'Scene',
    'assigned',
    'joining',
    'later',
    'lock',
    'member',
    'node',
    'ref',
    'revision',
    'snapshot',
    'spelled',
    'token_of',
]

EPOCH = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
TIMELINE = Timeline(0, 'first', 'store')
TIMEOUT_SEC = 15.0
UNOWNED, ABSENT = '.', '-'
_CONFIG = NodeConfig.of(
    CoordinationConfig(heartbeat_timeout_sec=TIMEOUT_SEC, rebalance_delay_sec=0.5),
    BackendInfo('memory', durable=True, push=True, reach=Reach.PROCESS, max_tokens=10_000),
    name='a',
    host='here',
    pid=1,
    create=True,
    announces=False,
    wait_on_enter=0.0,
)


def token_of(key: str) -> int:
    return int(key[1:])


def ref(name: str, run: int = 1) -> NodeRef:
    return NodeRef(name, f'{name}{run}')


def member(name: str, run: int = 1, timeout_sec: float = TIMEOUT_SEC, since: int = 0) -> Member:
    return Member(ref(name, run).incarnation, timeout_sec, since)


def revision(number: int) -> Revision:
    return Revision(number, 1000 + number)


def node(
    name: str,
    run: int = 1,
    *,
    heartbeat: int = 7,
    seen: int = 0,
    holding: Iterable[int] = (),
    left: bool = False,
    died: bool = False,
    replaces: Iterable[int] = (),
    weight: float = 1.0,
    timeout_sec: float = TIMEOUT_SEC,
) -> Node:
    """A record; ``seen`` is the number of a revision, ``replaces`` are numbers of runs. One that ``died`` is known to be over."""
    left = left or died
    return Node(
        name=name,
        incarnation=ref(name, run).incarnation,
        heartbeat=heartbeat,
        seen=revision(seen),
        holding=frozenset(holding),
        state=NodeState.LEFT if left else NodeState.JOINED,
        replaces=frozenset(ref(name, other).incarnation for other in replaces),
        weight=weight,
        timeout_sec=timeout_sec,
        host=f'host of {name}',
        pid=1,
        created_on=EPOCH,
        last_heartbeat=None if left else EPOCH,
        stalled=died,
    )


def lock(number: int, task: str, *patterns: str, expires_at: dt.datetime | None = None) -> TaskLock:
    return TaskLock(number, task, patterns, None, 'somebody', EPOCH, expires_at, 1)


def assigned(
    owners: str,
    *,
    version: int = 5,
    targets: Mapping[int, str] | None = None,
    homes: Mapping[int, str] | None = None,
    pins: Iterable[Pin] = (),
    members: str = '',
) -> Assignment:
    """An assignment from a letter for each token: its owner, ``.`` for nobody, ``-`` for no row.

    Whoever owns anything is a member, and so are ``members``.
    """
    targets, homes, pins = targets or {}, homes or {}, tuple(pins)
    names = {*owners, *members, *(pin.owner for pin in pins if pin.owner)} - {UNOWNED, ABSENT}
    groups = tuple(
        TokenGroup([token], None if owner == UNOWNED else owner, targets.get(token), homes.get(token), version)
        for token, owner in enumerate(owners)
        if owner != ABSENT
    )
    return Assignment.empty(len(owners)).apply(
        Changes(revision(version), None, {name: member(name) for name in sorted(names)}, groups, pins)
    )


def spelled(assignment: Assignment) -> str:
    """The owners as ``assigned`` takes them."""
    rows = [assignment.row(token) for token in range(assignment.total_tokens)]
    return ''.join(ABSENT if row.absent else row.owner or UNOWNED for row in rows)


def later(assignment: Assignment, plan: Plan) -> Assignment:
    """The assignment after the plan has been committed."""
    version = revision(assignment.version.number + 1)

    def written(token: int, group: TokenGroup) -> TokenGroup:
        row = assignment.row(token)
        stays = row.owner == group.owner and not row.absent
        return attrs.evolve(group, tokens=[token], version=row.version if stays else version.number)

    groups = tuple(written(token, group) for group in plan.groups for token in group.tokens)
    pins = {number: pin for number, pin in assignment.pins.items() if number not in plan.unpinned}
    for pin in plan.pins:
        before = pins.get(pin.id)
        stays = before is not None and before.owner == pin.owner
        pins[pin.id] = attrs.evolve(pin, version=before.version if before is not None and stays else version.number)
    return assignment.apply(Changes(version, assignment.version, plan.members, groups, tuple(pins.values())))


def snapshot(
    nodes: Iterable[Node],
    version: Revision,
    timeline: Timeline = TIMELINE,
    seconds: float = 0.0,
    longest_timeout_sec: float = 0.0,
) -> Snapshot:
    return Snapshot(
        timeline=timeline,
        store=timeline.store,
        now=EPOCH + dt.timedelta(seconds=seconds),
        revision=version,
        version=version,
        leadership=Leadership(1, ref('a')),
        nodes=tuple(nodes),
        locks_revision=1,
        longest_timeout_sec=longest_timeout_sec,
    )


@attrs.define
class Scene:
    """What a leader has read, its state and its clock; ``a`` leads."""

    assignment: Assignment
    nodes: dict[str, Node]
    locks: tuple[TaskLock, ...] = ()
    silent: frozenset[str] = frozenset()
    """Names of those suspected."""
    timeline: Timeline = TIMELINE
    longest_timeout_sec: float = 0.0
    now: float = 1000.0
    state: LeaderState = attrs.field(factory=lambda: LeaderState(timeline_read_at=0.0))
    config: NodeConfig = _CONFIG
    longest_read_sec: float = 0.0
    """The longest heartbeat timeout that the leader's node has ever read."""
    is_first_timeline: bool = True

    @classmethod
    def of(cls, assignment: Assignment | str, *nodes: Node) -> Scene:
        """A cluster in which every member of the assignment is registered and has seen it, besides ``nodes`` as given."""
        if isinstance(assignment, str):
            assignment = assigned(assignment)
        number = assignment.version.number
        present = {name: node(name, seen=number) for name in assignment.members}
        return cls(assignment, {**present, **{one.name: one for one in nodes}})

    def decide(self) -> Decision:
        """What the leader would do now."""
        view = LeaderView(
            me=ref('a'),
            snapshot=snapshot(self.nodes.values(), self.assignment.version, self.timeline, self.now, self.longest_timeout_sec),
            assignment=self.assignment,
            locks=self.locks,
            suspects={name: self.nodes[name].beat for name in self.silent},
            now=self.now,
            started_at=0.0,
            is_first_timeline=self.is_first_timeline,
            longest_timeout_sec=self.longest_read_sec,
        )
        return decide(view, self.state, self.config, token_of)

    def plan(self) -> Plan:
        """The plan there must be now."""
        plan = self.decide().plan
        assert plan is not None
        return plan

    def commit(self) -> Plan:
        """Carry out the plan there must be now, and return it."""
        before, plan = self.assignment, self.plan()
        self.assignment = later(before, plan)
        self.state.requests.commit(before, plan, self.assignment.version)
        for gone in [*(eviction.ref for eviction in plan.evictions), *plan.departed]:
            del self.nodes[gone.name]
        self.silent -= {eviction.ref.name for eviction in plan.evictions}
        return plan

    def acknowledge(self, *names: str, holding: Iterable[int] = ()) -> None:
        """Let these nodes (all, if none is named) acknowledge the version at hand."""
        for name in names or tuple(self.nodes):
            self.nodes[name] = attrs.evolve(self.nodes[name], seen=self.assignment.version, holding=frozenset(holding))

    def config_with(self, **changes: object) -> None:
        """Change the leader's configuration."""
        self.config = attrs.evolve(self.config, **changes)  # type: ignore[arg-type]


def joining() -> Scene:
    """``a`` and ``b`` have three tokens each, and ``c`` gets two of them, one from each: the targets are committed."""
    scene = Scene.of('aaabbb', node('c'))
    scene.state.admission.newcomers[ref('c')] = 0.0
    scene.commit()
    return scene
