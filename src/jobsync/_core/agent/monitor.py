"""When a node polls the others, which of them it suspects, and which node is to lead (rules R2 and R4).

To poll is to take a snapshot. A leader polls after each heartbeat of its own, and so do the nodes that are next in line
(``STANDBYS``): the silence of nodes that die together with the leader counts from the last poll of the node that succeeds it.
Every other node reads the leader's heartbeat with each pulse, and polls only when there is no leader, when the leader has
changed (in a large cluster not always: see below) or is no candidate, when it becomes suspect, once when it is late, and once
after it has joined.

A change makes nodes send heartbeats out of turn, and a heartbeat that is read an interval later is counted from there. So one
more poll comes when all have sent theirs: by the leader after a hint, and by the nodes next in line after a new version.

A snapshot of a large cluster is large, and a leader that is late or steps back gives all nodes the same reason to poll: if
thousands did, the load would make it later still. So the oldest nodes (``SMALL``) poll at once. The others wait for one more
pulse, and then poll in the order in which they would lead, within two intervals, or within more where there are more than
``LARGE``; not if a pulse shows before that the leader is well. Where another node leads, or the leader steps back, they poll only
if it is younger than they are, or unknown to them, or once it has stepped back for long. Otherwise they read its heartbeats as
before, and do not take themselves for the next to lead before they have polled. Where there is no leader, no node waits as long;
but a change that concerns all nodes, such as that the leader is gone, is left to those next in line for a moment.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Mapping
from operator import attrgetter
from zlib import crc32

from jobsync._core.agent.candidacy import LEAST_PAUSE, Candidacy
from jobsync._core.agent.failure_detector import FailureDetector
from jobsync._core.agent.schedule import STEP
from jobsync._core.config import NodeConfig
from jobsync._core.records import INITIAL, Member, Node, NodeRef, NodeState, Pulse, Snapshot

__all__ = ['ClusterMonitor']

_NEVER = -math.inf
_SENIORITY = attrgetter('seniority')

STANDBYS = 5
"""How many nodes, those next in line, read all heartbeats once an interval as the leader does. One of them counts the silence of
the nodes that die together with the leader from about when they died, unless all of these die with it (promise P3)."""
SMALL = 50
"""How many nodes poll at the same time because the leader is late or new, and how many of those that join do in an interval."""
LARGE = 500
"""Where there are more nodes, the polls that come in turn are as much rarer as each of them, and all together, read more."""
POLL_GAP = 0.04
"""The part of an interval between two polls of a large cluster, where nothing urgent has changed."""


class ClusterMonitor:
    """The other nodes as one incarnation has read them."""

    def __init__(self, config: NodeConfig, ref: NodeRef, candidacy: Candidacy, now: float) -> None:
        self._config, self._ref, self._candidacy = config, ref, candidacy
        self._detector = FailureDetector(config.blind_after_sec, config.doubt_after_sec, config.heartbeat_interval_sec)
        self.snapshot: Snapshot | None = None
        self._first_at = now
        """When to take the first snapshot, if no pulse gives a reason to take it sooner."""
        self._poll_at = self._again_at = self._once_at = math.inf
        self._outdated_at = math.inf
        """When the last snapshot no longer shows who is to lead: from then on this node does not, before it has polled."""
        self._stepped_back_at = math.inf
        """When a pulse first showed that the leader has stepped back, if each one since has shown that of a leader."""
        self._is_outdated = False
        """Whether another node leads than the last snapshot shows, or the leader is a candidate again and was none in it: this
        node does not lead before it has polled."""
        self._last_poll = _NEVER
        self._begun_at = now
        self._is_urgent: bool | None = None
        """Whether a reason to poll since the last snapshot was requested, which that one may have missed, is urgent; None: there
        has been no reason."""
        self._members: Mapping[str, Member] = {}
        """The members of the last version that was read."""
        self._known_place: tuple[int, bool] | None = None
        """The place by the last snapshot and the last version; None until it is worked out."""

    @property
    def due(self) -> float:
        """When to poll next."""
        return min(self._first_at, self._poll_at, self._outdated_at + self._poll_backoff, self._again_at, self._once_at)

    def begin(self, now: float) -> None:
        """Begin as a registered node: the first pulse shows whether to poll at once."""
        self._first_at = now + self._config.heartbeat_interval_sec
        self._detector.note_own(now, now)

    def note_failure(self, now: float) -> None:
        """Note that a call of this node failed (rule R2)."""
        self._detector.note_failure(now)

    def poll(self, at: float) -> None:
        """Poll at that time at the latest."""
        self._poll_at = min(self._poll_at, at)

    def poll_once(self, at: float) -> None:
        """Poll once at that time, whatever is read before."""
        self._once_at = at

    def hint(self, now: float, *, is_urgent: bool = True) -> None:
        """Poll now and once more: a poll that is under way may have missed what the hint is about.

        In a large cluster what is not urgent, such as that a node has registered, is read a moment after the last poll.
        """
        # t=0  hundreds of nodes register, one after the other, in some seconds
        # t=1  a poll for each reads all of them, and is nothing to plan from: they are gathered
        self._is_urgent = self._is_urgent or is_urgent
        self.poll(now if is_urgent else max(now, self._last_poll + self._poll_gap))
        self.poll_again(now)

    def take_pulse(self, pulse: Pulse, leads: bool, sent: float, now: float) -> None:
        """Take what a pulse says of the leader; poll if the leadership has changed, or the leader is gone or silent."""
        leader, known = pulse.leadership.node, self.snapshot
        self._detector.note_own(sent, now)
        if leader is not None and pulse.leader_heartbeat is not None:
            self._detector.note(leader.name, (leader.incarnation, pulse.leader_heartbeat), now)
        led = leader is not None and pulse.leader_heartbeat is not None
        # Each pulse says so until another node leads: if it made all nodes poll, none of them could get to it.
        has_stepped_back = led and not leads and not pulse.leader_is_candidate
        self._stepped_back_at = min(self._stepped_back_at, now) if has_stepped_back else math.inf
        # t=0  machines and store are busy: a, which leads, steps back, and so does b, which would be the next
        # t=9  each of a thousand nodes has polled for that reason: they are busier, and so on until some of them end
        # So for two timeouts, about as long as a steps back at the least, this is left to the oldest, which all poll at once.
        is_recent = now < self._stepped_back_at + LEAST_PAUSE * self._config.heartbeat_timeout_sec
        # t=0  a has stepped back; hundreds of nodes register, and have not read yet how many members there are
        # t=1  if each polled at once for that reason, a and the next to lead would wait among them
        # In a small cluster such a node polls once it has read the members, which it does first.
        has_stepped_back = has_stepped_back and (known is not None or bool(self._members))
        is_unaware = leader == self._ref and not leads  # its call for the term got no answer, and an older node came between
        is_forming = known is None and pulse.version == INITIAL  # the nodes of a cluster that forms are counted, for people
        has_changed = known is not None and known.leadership != pulse.leadership
        # t=0  c takes a snapshot, in which a leads
        # t=1  b deregisters a, which has died; a pulse shows c that no node leads
        # t=2  the snapshot arrives: c has to poll once more
        if not led or is_unaware or is_forming or (has_stepped_back and not self._poll_backoff):
            self._is_urgent = True
            self.poll(now if is_unaware else now + self.pause)
        elif (has_stepped_back or has_changed) and not (is_recent and self._is_far_behind(leader)):
            self._outdated_at = min(self._outdated_at, now)
            if not self._poll_backoff:  # else ``due`` says when: not at all if a pulse shows before that the leader is well
                self.poll(now + 2 * self.pause)
        elif leader is not None and not leads:
            # t=0   a steps back, d polls, and no node gets to lead before a is a candidate again
            # t=15  d, which is not next in line, has polled no more: all that were candidates in its snapshot are silent
            shown = None if known is None else known.leader
            self._is_outdated = has_changed or (shown is not None and not shown.candidate)
            self._outdated_at = self._doubt_at(leader.name, now)
            if self.is_standby:
                self.poll_again(now)
        if leads and known is not None and pulse.revision != known.revision:
            self._is_urgent = True
            self.poll(now)

    def _is_far_behind(self, leader: NodeRef | None) -> bool:
        """Return whether a leader is older than this node by the last snapshot, and so are more nodes than poll at once."""
        if self.snapshot is None or not self._poll_backoff:
            return False
        older = itertools.takewhile(lambda node: node.ref != self._ref, self.snapshot.nodes)  # in the order of ``created_on``
        return any(node.ref == leader for node in older)

    def _doubt_at(self, leader: str, now: float) -> float:
        """Return when the leader is late, if two pulses have shown the same heartbeat and no poll came since; else when suspect.

        One pulse alone does not show that the leader is late: if the next one is not there in time, it is this node that is late.
        """
        read_at = self._detector.first_read_at(leader)
        if read_at is None:
            return math.inf
        due = read_at + self._timeout_of(leader)
        is_known = read_at == now or self._last_poll >= read_at
        return due if is_known else min(due, read_at + (1 + STEP) * self._config.heartbeat_interval_sec)

    def read_version(self, members: Mapping[str, Member], now: float) -> None:
        """Take the members of a new version; a node that may lead next polls once the leader has acknowledged it too."""
        is_first, turn = not self._members, self._turn
        self._members, self._known_place = members, None
        # t=0  a leads, and c dies; b joins and owns tokens, and has never polled
        # t=1  a dies: b has to count the silence of c from now on, as one of the few nodes next in line
        # Where there are many nodes, older ones than b are next in line.
        if self.snapshot is None:
            self._first_at = (now if is_first else self._first_at) + self._turn - turn
        if self.is_standby:
            self.poll_again(now)

    def poll_again(self, now: float) -> None:
        """Poll two steps from now, whatever is read before: by then the others have sent their heartbeats."""
        self._again_at = now + 2 * STEP * self._config.heartbeat_interval_sec

    def store_time(self, now: float) -> dt.datetime | None:
        """Return the store's time as the last snapshot shows it; None before the first. It may be late by what that one took."""
        return None if self.snapshot is None else self.snapshot.now + dt.timedelta(seconds=now - self._last_poll)

    def begin_poll(self, now: float) -> None:
        """Note that a snapshot is being taken: every change hinted at until now will be in it."""
        self._begun_at, self._is_urgent = now, None

    def take_snapshot(self, snapshot: Snapshot, now: float) -> None:
        """Take a snapshot, and settle when to poll again."""
        self._detector.note_all(snapshot.nodes, now)
        self.snapshot, self._last_poll, self._known_place = snapshot, now, None
        self._first_at = self._outdated_at = math.inf
        self._is_outdated = False
        self._poll_at, self._outdated_at = self._next_poll(snapshot, now)
        if self._begun_at >= self._again_at:
            self._again_at = math.inf
        if self._begun_at >= self._once_at:
            self._once_at = math.inf
        if self._is_urgent is not None:
            self.poll(now if self._is_urgent else now + self._poll_gap)

    def _next_poll(self, snapshot: Snapshot, now: float) -> tuple[float, float]:
        """Return when to poll whatever pulses show, and when the snapshot is outdated if they show nothing of the leader."""
        config, leader = self._config, snapshot.leadership.node
        timeouts = self._timeouts(snapshot)
        if self.is_first_in_line(now):
            regular = now + min(
                config.dead_node_check_interval_sec,
                config.rebalance_check_interval_sec,
                (1 + 3 * STEP) * config.heartbeat_interval_sec,
            )
            suspicion = self._detector.next_suspicion(timeouts)
            return (regular if suspicion is None or suspicion <= now else min(regular, suspicion)), math.inf
        led = leader is not None and any(node.ref == leader and node.state is NodeState.JOINED for node in snapshot.nodes)
        suspects = self.suspects(now)
        if leader is None or not led or leader.name in suspects:
            others = {name: timeout for name, timeout in timeouts.items() if name not in suspects}
            again = now + config.retry_sec
            outdated_at = min(again, self._detector.next_suspicion(others) or again)
            return outdated_at + (self._poll_backoff if led else self.pause), outdated_at
        due = self._detector.next_suspicion({leader.name: timeouts[leader.name]}) if leader.name in timeouts else None
        # t=0  w4 has died; w2 takes the leadership, and w5, which was blind until now, takes w4 for the oldest candidate
        # t=1  w2 suspects w4, so the next to lead is w5, which is older than w2: w2 plans no more, and waits for w5
        # t=2  w5 reads in each pulse that the leader lives, and has no other reason to poll
        # So a candidate that is older than the leader polls until one of the two finds that it leads. An idle cluster has none.
        age = {node.ref: _SENIORITY(node) for node in snapshot.nodes}
        is_awaited = self._candidacy.is_wanted and self._ref in age and age[self._ref] < age[leader]
        return now + config.heartbeat_interval_sec if is_awaited else math.inf, math.inf if due is None else due

    def suspects(self, now: float) -> dict[str, tuple[str, int]]:
        """Return the suspected nodes of the last snapshot, with the (incarnation, heartbeat) each stopped at."""
        return {} if self.snapshot is None else self._detector.suspects(self._timeouts(self.snapshot), now)

    def is_first_in_line(self, now: float) -> bool:
        """Return whether this node is to lead: as the oldest candidate not suspected or, without candidates, the oldest node."""
        if self.snapshot is None or self._is_outdated or now >= self._outdated_at:
            return False
        first: Node | None = None
        for node in self.snapshot.nodes:  # in the order of ``created_on``: the oldest first
            if node.state is not NodeState.JOINED or self._is_silent(node, now):
                continue
            if self._candidacy.stands if node.ref == self._ref else node.candidate:
                return node.ref == self._ref
            first = first or node
        return first is not None and first.ref == self._ref

    def _is_silent(self, node: Node, now: float) -> bool:
        """Return whether another node is suspected, at the heartbeat that was read."""
        if node.name == self._config.name:
            return False
        timeout = max(self._config.heartbeat_timeout_sec, node.timeout_sec)
        return self._detector.suspects({node.name: timeout}, now).get(node.name) == node.beat

    @property
    def is_standby(self) -> bool:
        """Whether this node is one of the ``STANDBYS`` oldest members, the leader apart, or will be once it is one.

        The last poll may be long ago; but every older node was read in it, and a node that has gone since is no member any more.
        """
        return self._place[1]

    @property
    def pause(self) -> float:
        """How many seconds this node leaves to those next in line after what concerns all: none where nodes are few."""
        # t=0  the leader of 200 nodes leaves, and a hint says so to all of them
        # t=1  all send heartbeats and poll: the next leader's calls, and its first commit, wait among theirs
        if len(self._members) <= SMALL or self.is_standby:
            return 0.0
        return min((1 + 2 * self._place[0] / SMALL) * STEP, 1.0) * self._config.heartbeat_interval_sec

    @property
    def read_delay_sec(self) -> float:
        """How many seconds this node leaves a version unread that does not concern it: none where nodes are few.

        All nodes send their heartbeats at about the same time, so each has a part of the interval of its own.
        """
        # t=0  the leader of 200 nodes, which leaves, gives its tokens to five of them
        # t=1  all 200 read that version after their heartbeats, and the calls of the five wait among theirs
        if len(self._members) <= SMALL or self.is_standby:
            return 0.0
        return (2 * STEP + 0.6 * crc32(self._ref.incarnation.encode()) / 2**32) * self._config.heartbeat_interval_sec

    @property
    def _poll_gap(self) -> float:
        """How many seconds are between two polls for what is not urgent: none where nodes are few."""
        return 0.0 if len(self._members) <= SMALL else POLL_GAP * self._config.heartbeat_interval_sec

    @property
    def _poll_backoff(self) -> float:
        """How many seconds this node leaves to older ones before it polls for a reason that they have too."""
        behind = self._place[0] - SMALL
        if behind < 0:
            return 0.0
        return (1 + STEP + behind / max(SMALL, len(self._members) / 2) * self._excess**2) * self._config.heartbeat_interval_sec

    @property
    def _turn(self) -> float:
        """How many seconds after its first version a newcomer polls, if nothing makes it poll sooner: none where nodes are few.

        Hundreds that join together do not know of each other before they are members, so until then it is an interval more.
        """
        if len(self._members) <= SMALL:
            return 0.0
        turns = self._place[0] / SMALL * self._excess
        return (turns + (self._config.name not in self._members)) * self._config.heartbeat_interval_sec

    @property
    def _excess(self) -> float:
        """How many times more members there are than ``LARGE``; at least 1."""
        return max(1.0, len(self._members) / LARGE)

    @property
    def _place(self) -> tuple[int, bool]:
        """How many older members may lead, the leader apart, and whether this node is a standby.

        Before the first snapshot the number is any that is possible.
        """
        if self._known_place is None:
            self._known_place = self._place_in(self.snapshot)
        return self._known_place

    def _place_in(self, snapshot: Snapshot | None) -> tuple[int, bool]:
        if snapshot is None:
            return len(self._members) * crc32(self._ref.incarnation.encode()) >> 32, False
        older, registered, leader = 0, 0, snapshot.leadership.node
        for node in snapshot.nodes:  # in the order of ``created_on``: the oldest first
            if node.ref == self._ref:
                # t=0   b leads; a, which has stepped back, reads no heartbeats
                # t=29  c dies
                # t=30  a leads again: counted from its own first reading c would be dead a timeout from here
                # So a node is a standby while it has stepped back, too. And it is one before it is a member:
                # t=0   a, which leads, dies; no plan makes c a member, which registers
                # t=9   b dies
                # t=19  c leads
                return older, (older if self._is_member(node) else registered) < STANDBYS and leader != self._ref
            if node.candidate and node.ref != leader:
                older += self._is_member(node)
                registered += node.state is NodeState.JOINED
        return older, False

    def _is_member(self, node: Node) -> bool:
        """Return whether a node of the last snapshot is, as far as this node has read, still a member."""
        member = self._members.get(node.name)
        return member is not None and member.incarnation == node.incarnation

    def _timeout_of(self, name: str) -> float:
        nodes = () if self.snapshot is None else self.snapshot.nodes
        return max([self._config.heartbeat_timeout_sec, *(node.timeout_sec for node in nodes if node.name == name)])

    def _timeouts(self, snapshot: Snapshot) -> dict[str, float]:
        own = self._config.heartbeat_timeout_sec
        return {
            node.name: max(own, node.timeout_sec)
            for node in snapshot.nodes
            if node.state is NodeState.JOINED and node.name != self._config.name
        }
