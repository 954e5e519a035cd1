"""The comparisons of a commit (rule R5), for stores that compare in Python.

The caller reads what is compared in the transaction in which it writes, so that nothing changes in between.
"""

from __future__ import annotations

from collections.abc import Callable

from jobsync._core.assignment import Plan
from jobsync._core.records import Guard, Leadership, Node, NodeRef, NodeState, Revision, Timeline
from jobsync.errors import Conflict, Evicted, Fenced

__all__ = ['check_guard', 'check_nodes', 'evicted']


def evicted(ref: NodeRef) -> Evicted:
    """Return the error for a run that is not registered."""
    return Evicted(f'node {ref.name!r} is no longer registered as incarnation {ref.incarnation}; register it anew')


def check_guard(
    ref: NodeRef, guard: Guard, *, is_joined: bool, leadership: Leadership, timeline: Timeline, store: str, version: Revision
) -> None:
    """Compare the guard of a commit by a run with what the namespace holds.

    ``is_joined`` says whether exactly this run is JOINED, and ``store`` is the store's own identity now.

    Raises:
        Evicted: the run is not JOINED. This is checked first.
        Fenced: another run leads, or in another epoch. This is checked second.
        Conflict: timeline, store or version is not what the plan was made from.
    """
    if not is_joined:
        raise evicted(ref)
    if leadership != Leadership(guard.epoch, ref):
        raise Fenced(f'node {ref.name!r} no longer leads in epoch {guard.epoch}: {leadership}')
    if timeline != guard.timeline or timeline.store != store:
        raise Conflict(f'planned in {guard.timeline}, but this is {timeline} on store {store}')
    if version != guard.version:
        raise Conflict(f'planned from version {guard.version}, but the assignment is at {version}')


def check_nodes(plan: Plan, record: Callable[[str], Node | None]) -> None:
    """Compare the nodes that a plan removes or takes for absent with their records, which ``record`` returns by name.

    Raises:
        Conflict: a node has changed since the plan was made.
    """
    for eviction in plan.evictions:
        # t=0  the leader reads node b, silent for its timeout at (run, heartbeat 7), and plans to evict it
        # t=1  b wakes, and its heartbeat raises the counter to 8: b has a new lease and goes on claiming
        # t=2  the commit arrives. Without this comparison b's tokens would have two owners.
        node = record(eviction.ref.name)
        if node is None or node.beat != (eviction.ref.incarnation, eviction.heartbeat):
            raise Conflict(f'node {eviction.ref.name!r} is not as it was when it was taken for dead')
    for ref in plan.departed:
        node = record(ref.name)
        if node is None or node.ref != ref or node.state is not NodeState.LEFT:
            raise Conflict(f'node {ref.name!r} is not as it was when it left')
    for ref in plan.absent:
        node = record(ref.name)
        if node is not None and node.ref == ref and node.state is NodeState.JOINED:
            raise Conflict(f'node {ref.name!r} is registered again')
