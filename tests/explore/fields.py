"""What each field of the core's records and state means to an explored state.

A field that is not named here is a value as it stands. A floating-point number in such a field is an error: the explorer cannot
know whether it is a time, and would take states apart that are one, or merge others.
"""

from __future__ import annotations

import enum

from jobsync._core.agent.agent import Agent
from jobsync._core.agent.candidacy import Candidacy
from jobsync._core.agent.commands import AcquireLeadership, CommitOutcome, Issued, Register, RenewTimeline, SetWeight
from jobsync._core.agent.departure import Departure
from jobsync._core.agent.entry import Entry
from jobsync._core.agent.failure_detector import FailureDetector
from jobsync._core.agent.in_flight import InFlight
from jobsync._core.agent.leader_term import LeaderTerm
from jobsync._core.agent.lease import Lease
from jobsync._core.agent.membership import Membership
from jobsync._core.agent.monitor import ClusterMonitor
from jobsync._core.agent.progress import Progress
from jobsync._core.agent.registration import NameRegistration
from jobsync._core.agent.rollback import Known, RollbackDetector
from jobsync._core.agent.schedule import AssignmentRefresh, HeartbeatSchedule, WeightSync
from jobsync._core.assignment import Assignment, Plan, TokenGroup
from jobsync._core.leader.admission import Admission
from jobsync._core.leader.gathering import Gathering
from jobsync._core.leader.inputs import LeaderState
from jobsync._core.leader.requests import Requests
from jobsync._core.records import (
    Eviction,
    Guard,
    Leadership,
    LockRequest,
    Member,
    Node,
    Pin,
    Pulse,
    Registration,
    Revision,
    Snapshot,
    TaskLock,
)

__all__ = ['RECORDS', 'STATE', 'Kind']


class Kind(enum.Enum):
    """What a field means."""

    VALUE = enum.auto()
    AMOUNT = enum.auto()
    """A number, or several, that is neither a time nor a count."""
    TIME = enum.auto()
    """A time, or None, or a mapping to times."""
    DUE = enum.auto()
    """A time that is compared with the present alone: how long it is past makes no difference."""
    REVISION = enum.auto()
    """The number of a revision, or a mapping to such numbers."""
    EPOCH = enum.auto()
    CREATED = enum.auto()
    POSITION = enum.auto()
    """A position of the store, or None, or a mapping to positions."""
    BEAT = enum.auto()
    """A counter of heartbeats."""
    BEATS = enum.auto()
    """One or more (incarnation, heartbeat), perhaps with a time."""
    ONCE = enum.auto()
    """A number of which only matters whether it is zero."""
    PART = enum.auto()
    """A part of an agent that changes."""
    LINK = enum.auto()
    """Another part of the same agent."""
    SAME = enum.auto()
    """What never changes in any world, as the deaths that a host has proven, or what nothing depends on."""
    ZERO = enum.auto()
    """What is set to 0: fences (promise P7 is not explored), and what is written for people."""
    NONE = enum.auto()
    """What is set to None or empty, for the same reason."""


K = Kind
RECORDS: dict[type, dict[str, Kind]] = {
    AcquireLeadership: {'epoch': K.EPOCH},
    CommitOutcome: {'decide_again_at': K.DUE},
    Eviction: {'heartbeat': K.BEAT},
    Guard: {'epoch': K.EPOCH},
    Issued: {'at': K.TIME},
    Known: {'heartbeat': K.BEAT, 'position': K.POSITION},
    Leadership: {'epoch': K.EPOCH},
    LockRequest: {'cost': K.AMOUNT},
    Member: {'timeout_sec': K.AMOUNT, 'since': K.ZERO},
    Node: {'heartbeat': K.BEAT, 'weight': K.AMOUNT, 'timeout_sec': K.AMOUNT, 'created_on': K.CREATED},
    Pin: {'version': K.ZERO},
    Plan: {'number': K.REVISION, 'duration_ms': K.ZERO},
    Pulse: {'heartbeat': K.BEAT, 'leader_heartbeat': K.BEAT, 'position': K.POSITION, 'leader_age_sec': K.NONE},
    Register: {'at_least': K.REVISION, 'replacing': K.BEATS},
    Registration: {'timeout_sec': K.AMOUNT, 'weight': K.AMOUNT, 'longest_timeout_sec': K.AMOUNT},
    RenewTimeline: {'at_least': K.REVISION, 'longest_timeout_sec': K.AMOUNT},
    Revision: {'number': K.REVISION},
    SetWeight: {'weight': K.AMOUNT},
    Snapshot: {'locks_revision': K.REVISION, 'longest_timeout_sec': K.AMOUNT, 'position': K.POSITION},
    TaskLock: {'registered': K.REVISION, 'cost': K.AMOUNT},
    TokenGroup: {'version': K.ZERO},
    Assignment: {'since': K.ZERO},
}
"""The records, which are immutable."""

STATE: dict[type, dict[str, Kind]] = {
    Agent: {
        'config': K.SAME, '_new_id': K.SAME, '_started_at': K.SAME, 'phase': K.VALUE, 'failure': K.NONE, 'events': K.NONE,
        'lease': K.PART, 'departure': K.PART, '_rollback': K.PART, '_candidacy': K.PART, '_weight_sync': K.PART,
        '_progress': K.PART, '_entry': K.PART, '_unreadable': K.SAME, '_comparison': K.SAME, '_has_been_member': K.VALUE,
        '_renewing': K.VALUE, '_restarting': K.NONE, '_under_way': K.VALUE, '_work_at': K.DUE, '_session': K.VALUE,
        'ref': K.VALUE, '_membership': K.PART, '_emit': K.SAME, '_deaths': K.SAME, '_short_until': K.DUE,
        '_short_sessions': K.VALUE,
    },
    Lease: {
        '_config': K.SAME, '_token_of': K.SAME, '_emit': K.SAME, '_nothing': K.SAME, '_tasks': K.PART,
        'ends_at': K.DUE, 'has_progressed': K.SAME, 'grant': K.DUE, '_ownership': K.VALUE, 'ref': K.VALUE,
        'assignment': K.VALUE, '_awaiting_ack': K.VALUE, 'waiting': K.SAME,
    },
    InFlight: {
        '_token_of': K.SAME, '_handover_timeout_sec': K.SAME, 'starts': K.VALUE, 'unrecorded': K.VALUE,
        '_announced': K.VALUE, 'reported': K.VALUE, '_asked_at': K.TIME, '_look_at': K.DUE,
    },
    RollbackDetector: {
        'longest_timeout_sec': K.AMOUNT, 'top': K.VALUE, 'timeline': K.VALUE, 'heartbeat': K.BEAT, 'writes': K.BEAT,
        '_versions': K.VALUE, '_positions': K.POSITION,
    },
    Candidacy: {
        '_timeout_sec': K.SAME, '_pause_sec': K.AMOUNT, 'is_wanted': K.VALUE, '_is_published': K.VALUE, '_since': K.TIME,
        '_failed_at': K.TIME, '_back_at': K.DUE, '_is_failing': K.VALUE, '_last_failed_at': K.TIME,
    },
    WeightSync: {'wanted': K.AMOUNT, 'is_stalled': K.VALUE, '_in_force': K.AMOUNT, '_again_at': K.DUE, '_late_until': K.DUE},
    Progress: {
        '_timeout_sec': K.SAME, 'is_watched': K.SAME, '_step_sec': K.SAME, '_marked_at': K.ZERO, '_checked_at': K.ZERO,
    },
    Entry: {
        '_config': K.SAME, '_rollback': K.LINK, '_weight_sync': K.LINK, '_emit': K.SAME, '_registration': K.PART,
        '_timelines': K.VALUE, '_ref': K.VALUE, '_settings_watch': K.VALUE,
    },
    NameRegistration: {
        '_config': K.SAME, '_deaths': K.SAME, '_detector': K.PART, '_past': K.VALUE, '_holder': K.VALUE,
        '_changes': K.VALUE, '_is_replacing': K.VALUE,
    },
    FailureDetector: {
        'blind_after_sec': K.SAME, 'doubt_after_sec': K.SAME, 'due_after_sec': K.SAME, '_first_read': K.BEATS,
        '_last_read_at': K.TIME, '_last_sent_at': K.TIME, '_last_answered_at': K.TIME, '_last_failed_at': K.TIME,
        '_blind_until': K.TIME,
    },
    Membership: {
        '_config': K.SAME, '_ref': K.VALUE, '_emit': K.SAME, '_lease': K.LINK, '_rollback': K.LINK, '_candidacy': K.LINK,
        '_weight_sync': K.LINK, '_unreadable': K.SAME, '_comparison': K.SAME, '_schedule': K.PART, '_refresh': K.PART,
        '_record_at': K.DUE,
        'monitor': K.PART, 'leader_term': K.PART, 'retention': K.SAME, '_deaths': K.SAME,
    },
    HeartbeatSchedule: {
        '_config': K.SAME, '_place': K.SAME, '_soon': K.DUE, '_in_turn': K.VALUE, '_due': K.DUE, '_not_before': K.DUE,
        '_report_at': K.DUE, '_is_early': K.VALUE,
    },
    AssignmentRefresh: {
        '_config': K.SAME, '_started_at': K.ZERO, 'version': K.VALUE, '_read_at': K.ZERO, '_is_hinted': K.VALUE,
        # Only a node of a large cluster reads what does not concern it later than at once.
        '_newer_due': K.ZERO, '_may_concern': K.ZERO, '_seen_until': K.ZERO,
    },
    ClusterMonitor: {
        '_config': K.SAME, '_ref': K.VALUE, '_candidacy': K.LINK, '_detector': K.PART, 'snapshot': K.VALUE, '_poll_at': K.DUE,
        '_first_at': K.DUE, '_outdated_at': K.DUE, '_stepped_back_at': K.TIME, '_is_outdated': K.VALUE,
        '_again_at': K.TIME, '_once_at': K.TIME,
        '_last_poll': K.TIME, '_begun_at': K.TIME, '_is_urgent': K.VALUE, '_members': K.VALUE, '_known_place': K.NONE,
    },
    LeaderTerm: {
        '_config': K.SAME, '_ref': K.VALUE, '_rollback': K.LINK, '_started_at': K.ZERO, '_emit': K.SAME, 'epoch': K.EPOCH,
        '_state': K.PART, '_is_first_timeline': K.VALUE, '_locks': K.VALUE, '_locks_revision': K.REVISION, '_locks_at': K.DUE,
        '_plan_at': K.DUE, '_read_at': K.TIME, '_news_at': K.TIME, '_refusals': K.ONCE, '_expired': K.VALUE, '_unplaced': K.SAME,
    },
    LeaderState: {
        'timeline_read_at': K.TIME, 'absent_since': K.TIME, 'rowless': K.TIME, 'doubted': K.REVISION, 'admission': K.PART,
        'gathering': K.PART, 'requests': K.PART, 'unsettled_since': K.NONE, 'cause': K.NONE, 'idle': K.NONE,
        '_node_names': K.NONE,
    },
    Gathering: {
        'version': K.VALUE, 'read_at': K.TIME, 'released_at': K.TIME, 'seen_at': K.TIME, 'answered': K.VALUE,
        'more_until': K.DUE,
    },
    Requests: {'versions': K.VALUE, 'begun_here': K.VALUE, 'added': K.VALUE},
    Admission: {'newcomers': K.TIME, 'held': K.TIME, 'going': K.VALUE, 'rolls_until': K.DUE},
    Departure: {'by': K.DUE, 'workers': K.VALUE, 'is_over': K.VALUE},
}  # fmt: skip
"""The parts of an agent, which change: every field of each."""
