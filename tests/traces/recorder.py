"""Events of processes and of calls of the store, as ``specification`` reads them, written where they happen.

``recorded_agents`` has every agent of this process write what it does: sends a heartbeat, takes an answer, reads a version,
plans, starts over. ``RecordedBackend`` writes what calls have changed in the store, in the simulator; ``tests.faults.traced``
does so with real stores. None of these changes what the code does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import attrs
from tests.support.patching import patched

from jobsync._core.agent import commands
from jobsync._core.agent.agent import Agent
from jobsync._core.agent.commands import Lane
from jobsync._core.agent.lease import Lease
from jobsync._core.agent.phase import Phase
from jobsync.backend import (
    INITIAL,
    Backend,
    Guard,
    Leadership,
    Node,
    NodeRef,
    NodeState,
    Opened,
    Plan,
    Pulse,
    Registration,
    Revision,
    Snapshot,
    Timeline,
)
from jobsync.errors import NameTaken

__all__ = ['RecordedBackend', 'Recorder', 'completed', 'event_of', 'plan_of', 'recorded_agents', 'version_of']

Write = Callable[[dict[str, Any]], None]
_OVER = (Phase.LEFT, Phase.FAILED)


def version_of(revision: Revision) -> str:
    """Return a version as a trace has it."""
    return '' if revision == INITIAL else f'{revision.number}.{revision.stamp:x}'


def plan_of(ref: NodeRef, plan: Plan, guard: Guard) -> dict[str, Any]:
    """Return the event of a commit, without the version that it makes."""
    return {
        'do': 'commit',
        'run': ref.incarnation,
        'timeline': guard.timeline.id,
        'epoch': guard.epoch,
        'base': version_of(guard.version),
        'groups': [[list(group.tokens), group.owner, group.target] for group in plan.groups],
        'pins': [[pin.id, pin.task_id, pin.owner, pin.target] for pin in plan.pins],
        'unpinned': sorted(plan.unpinned),
        'members': {name: member and member.incarnation for name, member in plan.members.items()},
        'evictions': [[eviction.ref.incarnation, eviction.heartbeat] for eviction in plan.evictions],
        'departed': [gone.incarnation for gone in plan.departed],
        'absent': [gone.incarnation for gone in plan.absent],
    }


def _beat(node: Node) -> tuple[str, int, bool]:
    return node.incarnation, node.heartbeat, node.state is NodeState.JOINED


@attrs.define
class _Known:
    """What was last written of an agent."""

    run: str
    until: float = float('-inf')
    claims: tuple[Any, ...] = ()
    version: str = ''


class Recorder:
    """Writes the events of the agents of one process."""

    def __init__(self, write: Write, tasks: Mapping[str, int]) -> None:
        self._write, self._tasks = write, tasks
        self._known: WeakKeyDictionary[Agent, _Known] = WeakKeyDictionary()

    def issued(self, agent: Agent, call: commands.Command, now: float) -> None:
        """Write what a call means that an agent makes."""
        run = agent.ref.incarnation
        match call:
            case commands.Heartbeat(_, seen):
                self._write({'do': 'send', 'run': run, 'clock': now, 'version': version_of(seen)})
            case commands.PlanAndCommit(view):
                made_from = {'version': version_of(view.assignment.version), 'epoch': view.snapshot.leadership.epoch}
                self._write({'do': 'decide', 'run': run, 'clock': now, **made_from})
            case commands.Register():
                self._write({'do': 'tick', **self._reader(agent, now)})

    def taken(self, agent: Agent, issued: commands.Issued | None, reply: commands.Reply, before: NodeRef, now: float) -> None:
        """Write what an answer means that an agent has taken."""
        if issued is None or agent.ref != before or agent.phase in _OVER:
            self.seen(agent, now)
            return
        known = self._of(agent)
        reader = self._reader(agent, now)
        match issued.call, reply:
            case commands.Heartbeat(), Pulse() as pulse:
                if (leader := pulse.leadership.node) is not None and pulse.leader_heartbeat is not None:
                    nodes = {leader.name: (leader.incarnation, pulse.leader_heartbeat, True)}
                    self._write({'do': 'look', **reader, 'timeline': pulse.timeline.id, 'nodes': nodes})
                if agent.lease.deadline > known.until:
                    self._claims(agent, {'do': 'answer', 'counter': pulse.heartbeat}, now)
            case commands.ReadAssignment(), commands.AssignmentReading():
                if known.version != (version := version_of(agent.lease.assignment.version)):
                    known.version = version
                    self._claims(agent, {'do': 'read', 'version': version}, now)
            case commands.TakeSnapshot(), Snapshot() as snapshot:
                nodes = {node.name: _beat(node) for node in snapshot.nodes}
                self._write({'do': 'look', **reader, 'timeline': snapshot.timeline.id, 'nodes': nodes, 'whole': True})
            case commands.Register(), NameTaken(record=record):
                timeline = issued.call.timeline.id
                self._write({'do': 'look', **reader, 'timeline': timeline, 'nodes': {record.name: _beat(record)}})
            case commands.Open(), Opened():
                self._write({'do': 'open', **reader})
        self.seen(agent, now)

    def seen(self, agent: Agent, now: float) -> None:
        """Write what is claimed no more, or that the run is over."""
        known = self._of(agent)
        if known.run != agent.ref.incarnation or agent.phase in _OVER:
            self._write({'do': 'drop', 'run': known.run, 'clock': now})
            self._known[agent] = known = _Known(agent.ref.incarnation)
        if agent.phase not in _OVER and (agent.lease.deadline, self._claimed(agent.lease)) != (known.until, known.claims):
            self._claims(agent, {'do': 'claims'}, now)

    def _of(self, agent: Agent) -> _Known:
        return self._known.setdefault(agent, _Known(agent.ref.incarnation))

    def _reader(self, agent: Agent, now: float) -> dict[str, Any]:
        config = agent.config
        return {'run': agent.ref.incarnation, 'name': config.name, 'timeout': config.heartbeat_timeout_sec, 'clock': now}

    def _claimed(self, lease: Lease) -> tuple[Any, ...]:
        ownership = lease.ownership
        tasks = [task for task, token in self._tasks.items() if ownership.claims(task, token)]
        return (*(token for token, mine in enumerate(ownership.mine) if mine), *tasks)

    def _claims(self, agent: Agent, event: dict[str, Any], now: float) -> None:
        known = self._of(agent)
        known.until, known.claims = agent.lease.deadline, self._claimed(agent.lease)
        self._write({**event, 'run': known.run, 'clock': now, 'until': known.until, 'claims': list(known.claims)})


@contextmanager
def recorded_agents(recorder: Recorder) -> Iterator[None]:
    """Have every agent of this process write its events."""
    make_call, take, leave = Agent.next, Agent.done, Agent.leave

    def next_call(self: Agent, lane: Lane, now: float) -> commands.Command | float:
        call = make_call(self, lane, now)
        recorder.seen(self, now)
        if not isinstance(call, (int, float)):
            recorder.issued(self, call, now)
        return call

    def done(self: Agent, lane: Lane, reply: commands.Reply, now: float) -> bool:
        issued, before, session = self._under_way.get(lane), self.ref, self._session
        answered = take(self, lane, reply, now)
        recorder.taken(self, issued if issued is not None and issued.session == session else None, reply, before, now)
        return answered

    def left(self: Agent, now: float, at_once: bool = False, workers: frozenset[int] = frozenset()) -> None:
        leave(self, now, at_once, workers)
        recorder.seen(self, now)

    with ExitStack() as stack:
        for name, method in (('next', next_call), ('done', done), ('leave', left)):
            stack.enter_context(patched(Agent, name, method))
        yield


# --- calls of the store -------------------------------------------------------------------------------------------------------


def _heartbeat(ref: NodeRef, seen: Revision, holding: frozenset[int], candidate: bool = True) -> dict[str, Any]:
    read = {'version': version_of(seen), 'holding': sorted(holding), 'is_candidate': candidate}
    return {'do': 'arrive', 'run': ref.incarnation, **read}


def _register(node: Registration, timeline: Timeline, at_least: int, replacing: tuple[str, int] | None = None) -> dict[str, Any]:
    run = {'run': node.ref.incarnation, 'name': node.ref.name, 'timeout': node.timeout_sec, 'timeline': timeline.id}
    return {'do': 'join', **run, 'replaces': sorted(node.replaces), 'at_least': at_least, 'over': replacing}


def _deregister(ref: NodeRef, died: bool = False) -> dict[str, Any]:
    return {'do': 'declare' if died else 'leave', 'run': ref.incarnation}


def _acquire_leadership(ref: NodeRef, epoch: int) -> dict[str, Any]:
    return {'do': 'lead', 'run': ref.incarnation, 'epoch': epoch + 1}


_EVENTS: Mapping[str, Callable[..., dict[str, Any]]] = {
    'heartbeat': _heartbeat,
    'register': _register,
    'deregister': _deregister,
    'acquire_leadership': _acquire_leadership,
    'commit': plan_of,
}


def event_of(method: str, *arguments: Any, **rest: Any) -> dict[str, Any] | None:
    """Return the event of a call that changes the store, without what its result says; None if traces have no such call."""
    return _EVENTS[method](*arguments, **rest) if method in _EVENTS else None


def completed(event: dict[str, Any], result: Any) -> dict[str, Any] | None:
    """Return the event of a call once its result is known; None if the call has changed nothing."""
    match event['do'], result:
        case 'arrive', Pulse() as pulse:
            return {**event, 'counter': pulse.heartbeat, 'at_version': version_of(pulse.version)}
        case 'commit', Revision() as version:
            return {**event, 'version': version_of(version)}
        case 'lead', Leadership(epoch=epoch, node=node):
            return event if node is not None and (node.incarnation, epoch) == (event['run'], event['epoch']) else None
    return event


class RecordedBackend:
    """A backend whose calls write what they have changed. ``before`` and ``after`` are called around each."""

    def __init__(self, inner: Backend, write: Write, before: Callable[[], object], after: Callable[[], object]) -> None:
        self._inner, self._write, self._before, self._after = inner, write, before, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found) or name.startswith('_'):
            return found

        def call(*arguments: Any, **rest: Any) -> Any:
            self._before()
            event = event_of(name, *arguments, **rest)
            result = found(*arguments, **rest)
            if event is not None and (written := completed(event, result)) is not None:
                self._write(written)
            self._after()
            return result

        return call
