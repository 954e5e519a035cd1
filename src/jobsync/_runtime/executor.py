"""Carrying out an agent's commands: the one place where they meet a backend."""

from __future__ import annotations

import time
from collections.abc import Callable

from jobsync._core.agent import commands
from jobsync._core.agent.ownership import Ownership
from jobsync._core.config import NodeConfig
from jobsync._core.leader.inputs import LeaderState, LeaderView
from jobsync._core.records import Guard, LockEdit, LockFilter
from jobsync._runtime.tracing import commit_span
from jobsync.backend import Backend

__all__ = ['execute']


def execute(backend: Backend, call: commands.Command, token_of: Callable[[str], int]) -> commands.Reply:
    """Carry out one command and return its reply. Raises what the backend raises.

    Takes no lock: no thread changes the contents of a command that is under way.
    """
    match call:
        case commands.Heartbeat(ref, seen, holding, candidate):
            return backend.heartbeat(ref, seen, holding, candidate)
        case commands.TakeSnapshot():
            return backend.snapshot()
        case commands.ReadAssignment(ref, base):
            assignment = base.apply(backend.read_assignment(base.version))
            return commands.AssignmentReading(assignment, Ownership.under(assignment, ref))
        case commands.PlanAndCommit(view, state, config):
            return _plan_and_commit(backend, view, state, config, token_of)
        case commands.ReadLocks():
            return backend.read_locks()
        case commands.AcquireLeadership(ref, epoch):
            return backend.acquire_leadership(ref, epoch)
        case commands.Open(settings, create, dead):
            return backend.open(settings, create, dead)
        case commands.Register(node, timeline, at_least, replacing):
            backend.register(node, timeline, at_least, replacing)
            return None
        case commands.DropExpiredLocks():
            return backend.edit_locks(LockEdit(remove=LockFilter(expired=True)))
        case commands.RenewTimeline(expected, at_least, longest_timeout_sec):
            backend.renew_timeline(expected, at_least, longest_timeout_sec)
            return None
        case commands.Purge(kind, before, limit, after):
            return backend.purge(kind, before, limit, after)
        case commands.SetWeight(ref, weight, stalled):
            backend.set_weight(ref, weight, stalled)
            return None
        case commands.Deregister(ref):
            backend.deregister(ref)
            return None
        case commands.DeclareDead(ref):
            backend.deregister(ref, True)
            return None


def _plan_and_commit(
    backend: Backend, view: LeaderView, state: LeaderState, config: NodeConfig, token_of: Callable[[str], int]
) -> commands.CommitOutcome:
    from jobsync._core.leader.decide import decide  # imported as the job was entered: see ``Session``

    planned_from = time.time_ns()
    decision = decide(view, state, config, token_of)
    revision = None
    if decision.plan is not None:
        snapshot = view.snapshot
        guard = Guard(snapshot.timeline, snapshot.leadership.epoch, snapshot.version)
        with commit_span(view.me.name, decision.plan, planned_from):
            revision = backend.commit(view.me, decision.plan, guard)
    return commands.CommitOutcome(decision.plan, revision, decision.decide_again_at, decision.expired)
