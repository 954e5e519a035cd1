"""Doing what an agent asks: the one place where its calls meet a backend."""

from __future__ import annotations

from collections.abc import Callable

from jobsync.backend import Backend
from jobsync.core import calls
from jobsync.core.decision import Memory, Policy, Situation
from jobsync.core.model import Guard, LockEdit, LockFilter
from jobsync.core.ownership import Ownership

__all__ = ['perform']


def perform(backend: Backend, call: calls.Call, token_of: Callable[[str], int]) -> calls.Answer:
    """Make one call and return its answer. Raises what the backend raises.

    Takes no lock: what a call carries is never changed by anybody else while it is under way.
    """
    match call:
        case calls.Heartbeat(ref, seen, holding, candidate):
            return backend.heartbeat(ref, seen, holding, candidate)
        case calls.TakeSnapshot():
            return backend.snapshot()
        case calls.Read(ref, base):
            assignment = base.apply(backend.read_assignment(base.version))
            return calls.Reading(assignment, Ownership.under(assignment, ref))
        case calls.Propose(situation, memory, policy):
            return _propose(backend, situation, memory, policy, token_of)
        case calls.ReadLocks():
            return backend.read_locks()
        case calls.Acquire(ref, epoch):
            return backend.acquire_leadership(ref, epoch)
        case calls.Open(settings, create, dead):
            return backend.open(settings, create, dead)
        case calls.Register(node, timeline, at_least, replacing):
            backend.register(node, timeline, at_least, replacing)
            return None
        case calls.DropExpiredLocks():
            return backend.edit_locks(LockEdit(remove=LockFilter(expired=True)))
        case calls.Renew(expected, at_least, longest_timeout_sec):
            backend.renew_timeline(expected, at_least, longest_timeout_sec)
            return None
        case calls.Weigh(ref, weight):
            backend.set_weight(ref, weight)
            return None
        case calls.Deregister(ref):
            backend.deregister(ref)
            return None


def _propose(
    backend: Backend, situation: Situation, memory: Memory, policy: Policy, token_of: Callable[[str], int]
) -> calls.Proposal:
    from jobsync.core.leader import decide  # only now: few nodes ever lead

    decision = decide(situation, memory, policy, token_of)
    revision = None
    if decision.plan is not None:
        snapshot = situation.snapshot
        guard = Guard(snapshot.timeline, snapshot.leadership.epoch, snapshot.version)
        revision = backend.commit(situation.me, decision.plan, guard)
    return calls.Proposal(decision.plan, revision, decision.look_again_at, decision.expired)
