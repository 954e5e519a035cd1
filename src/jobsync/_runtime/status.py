"""The state of a node as other threads read it: one value, which the node's threads replace after each step."""

from __future__ import annotations

import attrs

from jobsync._core.agent.agent import Agent
from jobsync._core.agent.phase import Phase
from jobsync._core.agent.settings_comparison import SettingDifference
from jobsync._core.records import Snapshot, Unreadable
from jobsync.errors import JobsyncError

__all__ = ['Status', 'StatusReader']


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


class StatusReader:
    """Reads the state of an agent. Not for two threads at once."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._counted: tuple[Snapshot | None, int] = (None, 0)
        """The last snapshot, and how many nodes are registered in it."""

    def read(self, now: float) -> Status:
        """Return the agent's state."""
        agent, snapshot = self._agent, self._agent.snapshot
        return Status(
            phase=agent.phase,
            planned=agent.is_planned,
            settled=agent.is_settled,
            leads=agent.epoch is not None,
            stays=agent.is_staying(now),
            distributed=bool(agent.lease.assignment.members),
            registered_nodes=self._registered(snapshot),
            failure=agent.failure,
            unreadable=agent.unreadable,
            differences=agent.differences,
        )

    def _registered(self, snapshot: Snapshot | None) -> int:
        """Return how many nodes are registered. Counted once for each snapshot: they may be thousands, and steps are many."""
        if snapshot is None:
            return len(self._agent.lease.assignment.members)
        if self._counted[0] is not snapshot:
            self._counted = snapshot, sum(node.last_heartbeat is not None for node in snapshot.nodes)
        return self._counted[1]
