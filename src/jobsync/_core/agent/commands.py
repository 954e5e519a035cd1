"""The commands of an agent, as values: calls of the backend, with the computation that belongs to them.

The runtime executes them (``jobsync._runtime.executor``) and brings back the reply.
"""

from __future__ import annotations

import datetime as dt
import enum
import re

import attrs

from jobsync._core.agent.ownership import Ownership
from jobsync._core.agent.rollback import Known
from jobsync._core.assignment import Assignment, Plan
from jobsync._core.config import NodeConfig
from jobsync._core.leader.inputs import LeaderState, LeaderView
from jobsync._core.records import (
    HistoryKind,
    Leadership,
    LockReading,
    NodeRef,
    Opened,
    Pulse,
    Purged,
    Registration,
    Revision,
    Settings,
    Snapshot,
    Timeline,
)

__all__ = [
    'AcquireLeadership',
    'AssignmentReading',
    'Command',
    'CommitOutcome',
    'DeclareDead',
    'Deregister',
    'DropExpiredLocks',
    'Heartbeat',
    'Issued',
    'Lane',
    'Open',
    'PlanAndCommit',
    'Purge',
    'ReadAssignment',
    'ReadLocks',
    'Register',
    'RenewTimeline',
    'Reply',
    'SetWeight',
    'TakeSnapshot',
    'named',
]


class Lane(enum.Enum):
    """A lane of calls: at most one is under way in each, so heartbeats never wait behind other calls."""

    HEARTBEAT = 'heartbeat'
    WORK = 'work'
    UPKEEP = 'upkeep'
    """The calls that no other call waits behind: the portions of a purge."""


@attrs.frozen
class Open:
    """``Backend.open``; answered by ``Opened``."""

    settings: Settings
    create: bool
    dead: frozenset[tuple[str, int]] | None = frozenset()
    """None: other settings are not to be replaced."""


@attrs.frozen
class Register:
    """``Backend.register``; answered by None."""

    node: Registration
    timeline: Timeline
    at_least: int
    replacing: tuple[str, int] | None


@attrs.frozen
class Heartbeat:
    """``Backend.heartbeat``; answered by a ``Pulse``."""

    ref: NodeRef
    seen: Revision
    holding: frozenset[int]
    candidate: bool = True


@attrs.frozen
class TakeSnapshot:
    """``Backend.snapshot``; answered by a ``Snapshot``."""


@attrs.frozen
class ReadAssignment:
    """``Backend.read_assignment`` on top of ``base``; answered by an ``AssignmentReading``."""

    ref: NodeRef
    base: Assignment = attrs.field(repr=False)


@attrs.frozen
class AssignmentReading:
    """An assignment, and the reader's ownership under it."""

    assignment: Assignment
    ownership: Ownership


@attrs.frozen
class ReadLocks:
    """``Backend.read_locks``; answered by a ``LockReading``."""


@attrs.frozen
class AcquireLeadership:
    """``Backend.acquire_leadership``; answered by the ``Leadership`` as it then stands."""

    ref: NodeRef
    epoch: int


@attrs.frozen
class PlanAndCommit:
    """``decide``, and ``Backend.commit`` if there is a plan; answered by a ``CommitOutcome``."""

    view: LeaderView
    state: LeaderState
    """Brought up to date by ``decide``; nothing else reads it meanwhile."""
    config: NodeConfig


@attrs.frozen
class CommitOutcome:
    """The result of a ``PlanAndCommit``."""

    plan: Plan | None
    revision: Revision | None
    """The new version, if a plan was committed."""
    decide_again_at: float
    expired: bool


@attrs.frozen
class DropExpiredLocks:
    """``Backend.edit_locks``: remove what has expired; answered by how many."""


@attrs.frozen
class RenewTimeline:
    """``Backend.renew_timeline``; answered by None."""

    expected: Timeline
    at_least: int
    longest_timeout_sec: float = 0.0


@attrs.frozen
class Purge:
    """``Backend.purge``: one portion; answered by ``Purged``."""

    kind: HistoryKind
    before: dt.datetime
    limit: int
    after: str = ''


@attrs.frozen
class SetWeight:
    """``Backend.set_weight``; answered by None."""

    ref: NodeRef
    weight: float
    stalled: bool = False


@attrs.frozen
class Deregister:
    """``Backend.deregister``; answered by None."""

    ref: NodeRef


@attrs.frozen
class DeclareDead:
    """``Backend.deregister`` of another node's run that is known to be over; answered by None."""

    ref: NodeRef


Command = (
    Open
    | Register
    | Heartbeat
    | TakeSnapshot
    | ReadAssignment
    | ReadLocks
    | AcquireLeadership
    | PlanAndCommit
    | DropExpiredLocks
    | RenewTimeline
    | Purge
    | SetWeight
    | Deregister
    | DeclareDead
)

Reply = Opened | Pulse | Snapshot | AssignmentReading | LockReading | Leadership | CommitOutcome | Purged | int | None | Exception


def named(call: Command) -> str:
    """Return the name of a call in words for the log: ``read assignment`` of ``ReadAssignment``."""
    return re.sub('(?<!^)(?=[A-Z])', ' ', type(call).__name__).lower()


@attrs.frozen
class Issued:
    """A call under way."""

    call: Command
    at: float
    session: int
    """The number of the incarnation that it was issued by."""
    known: Known
    """What had been read of the store by then."""
