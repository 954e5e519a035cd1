"""A way from the beginning of a world to a state, as a timeline, and as a list of names to make it again from."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tests.explore.catalogue import WORLDS
from tests.explore.cluster import Cluster, State, Step
from tests.explore.naming import step_name, taken
from tests.explore.search import Found, explore
from tests.explore.stores import Commit
from tests.explore.terms import Term
from tests.explore.worlds import SETTINGS, TOKEN_OF

from jobsync._core.assignment import Plan
from jobsync.backend import LockEdit
from jobsync.errors import JobsyncError

__all__ = ['explored', 'names', 'replayed', 'timeline']

_CALLS = {
    'AcquireLeadership': 'takes the leadership',
    'Commit': 'commits',
    'Deregister': 'deregisters',
    'Heartbeat': 'sends a heartbeat',
    'Open': 'opens the namespace',
    'ReadAssignment': 'reads the assignment',
    'ReadLocks': 'reads the task locks',
    'Register': 'registers',
    'RenewTimeline': 'begins a new timeline',
    'SetWeight': 'writes its weight',
    'TakeSnapshot': 'reads the nodes',
}
_FATES = {
    'call': '',
    'fails': ': fails',
    'lose': ': does not reach the store',
    'mute': ': is carried out, and the answer is lost',
    'send': ': is on its way',
    'wait': ': is carried out, and the answer is on its way',
    'give up': ': gives it up; it is on its way',
}
_EVENTS = {
    'start': 'starts',
    'pause': 'is paused',
    'resume': 'goes on',
    'crash': 'dies',
    'heal': 'reaches the store again',
    'leave': 'is asked to leave',
    'weigh': 'gets another weight: 0, or what it had',
    'tick': 'the clock of this process stands still for a tick',
}


_FAILING = {
    'work': 'all its calls except heartbeats fail from now on',
    'heartbeat': 'its heartbeats fail from now on',
    'commit': 'its commits fail from now on',
}


def names(cluster: Cluster, steps: Iterable[Step]) -> list[str]:
    """Return a name for each step: no other step from the same state has it."""
    return [step_name(cluster, step) for step in steps]


def replayed(cluster: Cluster, wanted: Sequence[str]) -> Iterator[tuple[State, Step, State]]:
    """Yield each step of these names with the state before and after, for as long as there is such a step."""
    state = cluster.start()
    for name in wanted:
        found = taken(cluster, state, name)
        if found is None:
            return
        yield state, *found
        state = found[1]


def timeline(cluster: Cluster, wanted: Sequence[str]) -> list[str]:
    """Return the lines of a timeline: tick, process, what it does, and what each process claims after that."""
    heads = [cluster.name(number) for number in range(len(cluster.world.processes))]
    tick = 0
    lines = [f'tick  who  {"what":<66}' + ''.join(f'  {f"{head} claims":<11}' for head in heads).rstrip()]
    lines.append(' ' * 77 + _claims(cluster, cluster.start()))
    for state, step, after in replayed(cluster, wanted):
        if step.kind == 'tick':
            tick += 1
        if step.kind != 'tick' or step.process >= 0:
            who = '-' if step.process < 0 else cluster.name(step.process)
            lines.append(f'{tick:>4}  {who:<3}  {_what(cluster, state, step):<66}{_claims(cluster, after)}')
    return lines


def explored(name: str, most: int | None, seconds: float | None, continue_every: int) -> tuple[Found, list[str]]:
    """Explore a world; return what was found, and the timeline of a problem. One process does this for one world only."""
    gc.disable()  # nothing here has cycles, and a full collection visits every state
    cluster = Cluster(WORLDS[name])
    found = explore(cluster, most=WORLDS[name].states if most is None else most, seconds=seconds, continue_every=continue_every)
    lines = timeline(cluster, names(cluster, found.way)) if found.problem else []
    found.way = ()  # its steps hold configurations, which cannot go to another process
    return found, lines


def _claims(cluster: Cluster, state: State) -> str:
    return ''.join(f'  {_claimed(cluster.machine.claims(process)):<11}' for process in state[4:]).rstrip()


def _claimed(bits: int) -> str:
    things = [*(str(token) for token in range(SETTINGS.total_tokens)), *TOKEN_OF]
    return ' '.join(thing for number, thing in enumerate(things) if bits >> number & 1) or '-'


def _what(cluster: Cluster, state: State, step: Step) -> str:
    codec, machine, more = cluster.machine.codec, cluster.machine, step.more
    match step.kind:
        case kind if kind in _FATES:
            text = _call(codec.value(more.command))
            if kind == 'call':
                reply = machine.call(state[0], more.command)[1]
                if isinstance(reply, Term) and isinstance(reply.head, type) and issubclass(reply.head, JobsyncError):
                    return f'{text}: refused, {reply.head.__name__}'
            return text + _FATES[kind]
        case 'arrive':
            return f'its call arrives: {_call(codec.value(more[1]))}'
        case 'answer':
            return 'its answer comes back'
        case 'carry out':
            return f'what it gave up is carried out: {_call(codec.value(more))}'
        case 'fail':
            return _FAILING[more]
        case 'begin':
            return f'begins task {more}'
        case 'finish':
            return f'finishes task {more}'
        case 'edit':
            return _edit(more)
        case 'delete':
            return f'an operator deletes the row of {more}'
        case 'put back':
            return f'an operator puts the row of {more} back, as it was'
        case 'delete all':
            return f'an operator deletes the row of {more} and those of its tokens'
        case 'delete rows':
            return 'an operator deletes the rows of all tokens'
        case 'image':
            return 'a backup of the store is made'
        case 'roll back':
            return 'the store goes back to its state at the beginning'
        case 'jump':
            return "the store's clock jumps by a day"
        case kind:
            return _EVENTS[kind]


def _call(call: Any) -> str:
    text = _CALLS.get(type(call).__name__, type(call).__name__)
    return f'{text}: {_plan(call.plan)}' if isinstance(call, Commit) else text


def _plan(plan: Plan) -> str:
    parts = [f'{node.ref.name} is dead' for node in plan.evictions]
    parts += [f'{ref.name} is gone' for ref in (*plan.departed, *plan.absent)]
    parts += [f'token {token} {_place(group)}' for group in plan.groups for token in group.tokens]
    parts += [f'pin of {pin.task_id} {_place(pin)}' for pin in plan.pins]
    parts += ['a pin goes'] * len(plan.unpinned)
    members = [f'{name} means {member.incarnation}' for name, member in sorted(plan.members.items()) if member is not None]
    return ', '.join(parts or members or ['no change'])


def _place(row: Any) -> str:
    if row.target is None:
        return f"is {row.owner}'s" if row.owner else 'is free'
    return f'is to go from {row.owner} to {row.target}' if row.target else f'is to be released by {row.owner}'


def _edit(edit: LockEdit) -> str:
    if edit.group:
        return f'an operator declares the items {", ".join(put.task_id for put in edit.put)}'
    if edit.put:
        return ', '.join(f'an operator locks task {put.task_id} to {", ".join(put.patterns)}' for put in edit.put)
    return f'an operator clears the lock of {", ".join(sorted((edit.remove and edit.remove.task_ids) or ()))}'
