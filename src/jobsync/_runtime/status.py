"""The state of a node as other threads read it: one value, which the node's threads replace after each step."""

from __future__ import annotations

import attrs

from jobsync._core.agent.agent import Agent
from jobsync._core.agent.phase import Phase
from jobsync._core.agent.settings_comparison import SettingDifference
from jobsync._core.records import Unreadable
from jobsync.errors import JobsyncError

__all__ = ['Status', 'status_of']


@attrs.frozen
class Status:
    """The node's state after its last step."""

    phase: Phase
    planned: bool = False
    """Whether the node is part of the plan, and owns what the plan gives it now (none, before others give up theirs)."""
    settled: bool = False
    """Whether the node owns its whole share."""
    leads: bool = False
    stays: bool = False
    """Whether the node is leaving, and waits for tasks in flight."""
    distributed: bool = False
    """Whether the cluster has had its first distribution, with this node or without."""
    registered_nodes: int = 0
    """How many nodes were registered at the last snapshot; before the first, how many are members of the last version."""
    failure: JobsyncError | None = None
    unreadable: tuple[Unreadable, ...] = ()
    """The records in the store that could not be read in full."""
    differences: tuple[SettingDifference, ...] = ()
    """The settings in which other nodes differ from this one."""


def status_of(agent: Agent, now: float) -> Status:
    """Return the agent's state."""
    snapshot, members = agent.snapshot, agent.lease.assignment.members
    return Status(
        phase=agent.phase,
        planned=agent.is_planned,
        settled=agent.is_settled,
        leads=agent.epoch is not None,
        stays=agent.is_staying(now),
        distributed=bool(members),
        registered_nodes=len(members) if snapshot is None else snapshot.registered_nodes,
        failure=agent.failure,
        unreadable=agent.unreadable,
        differences=agent.differences,
    )
