"""What a commit is refused for, for the stores that compare in Python.

The caller reads what is compared in the transaction, turn or attempt in which it writes, so that nothing changes in between.
"""

from __future__ import annotations

from collections.abc import Callable

from jobsync.backend import Guard, Leadership, Node, NodeRef, NodeState, Plan, Revision, Timeline
from jobsync.errors import Conflict, Evicted, Fenced

__all__ = ['check_guard', 'check_nodes', 'evicted']


def evicted(ref: NodeRef) -> Evicted:
    """Return the error of a run that is not registered."""
    return Evicted(f'node {ref.name!r} is no longer registered as incarnation {ref.incarnation}; register it anew')


def check_guard(
    ref: NodeRef, guard: Guard, *, is_joined: bool, leadership: Leadership, timeline: Timeline, store: str, version: Revision
) -> None:
    """Raise ``Evicted``, ``Fenced`` or ``Conflict``, in this order, unless what ``guard`` names still stands.

    ``store`` is the store's identity now, the other arguments by name are what the namespace holds.
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
    """Raise ``Conflict`` if a node is no longer as ``plan`` saw it; ``record`` returns the record of a name."""
    for eviction in plan.evictions:
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
