"""What must hold of a cluster once the adversary is silent and the cluster has had time to settle."""

from __future__ import annotations

from collections.abc import Iterator

from jobsync._core.patterns import choose
from jobsync.backend import TaskLock
from jobsync.testing.simulation.node import SimNode
from jobsync.testing.simulation.world import World

__all__ = ['unsettled']


def unsettled(world: World) -> Iterator[str]:
    """Yield what is not as it should be, first what costs least to see; each finding begins with the promise that it breaks."""
    living = world.living()
    if living:
        unready = [node for node in living if not node.agent.is_settled]
        yield from (f'P2: {node.name} is {node.agent.phase.value} and not settled' for node in unready)
        yield from _unowned(world, living)
        yield from _misplaced(world, living)
        yield from _unbalanced(living)
        yield from _unshared(world, living)


def _unowned(world: World, living: list[SimNode]) -> Iterator[str]:
    """Yield the tokens that no node owns, or more than one (P3)."""
    owners = [node for node in living if node.has_lease()]
    for token in range(world.pool):
        names = [node.name for node in owners if node.ownership.mine[token]]
        if len(names) != 1:
            yield f'P3: token {token} is owned by {names}'


def _in_force(world: World) -> tuple[dict[str, TaskLock], dict[str, TaskLock]]:
    """Return for each task its lock or else its item, and for each item the oldest of the task."""
    now, locks = world.store_time(), world.backend.read_locks().locks
    found = [lock for lock in locks if lock.is_policy and (lock.expires_at is None or lock.expires_at > now)]
    items = {lock.task_id: lock for lock in reversed(found) if lock.group}
    return items | {lock.task_id: lock for lock in found if not lock.group}, items


def _unshared(world: World, living: list[SimNode]) -> list[str]:
    """Return the pairs of nodes of which one should hand an item to the other, perhaps by way of others (P5).

    Where items differ in cost: only those of which one is so low that it could take the dearest item and stay below the other.
    """
    locks, items = _in_force(world)
    receivers = {node.name: node for node in living if node.agent.weight > 0}
    wrong = []
    for group in sorted({item.group for item in items.values()}):
        costs = {task: item.cost for task, item in items.items() if item.group == group}
        is_exact = len(set(costs.values())) == 1
        holder = {task: name for task in costs for name, node in receivers.items() if node.works_on(task)}
        allowed = {task: choose(locks[task].patterns, receivers)[1] for task in costs}
        load = {name: sum(costs[task] for task, holds in holder.items() if holds == name) for name in receivers}
        reached = {
            name: {other for task, holds in holder.items() if holds == name for other in allowed[task]} for name in receivers
        }
        for _ in receivers if is_exact else ():
            reached = {name: others.union(*(reached[other] for other in others)) for name, others in reached.items()}
        dearest = max(costs.values())
        weight = {name: node.agent.weight for name, node in receivers.items()}
        wrong += [
            f'P5: of group {group} {giver} has {load[giver]:g} and {taker} {load[taker]:g}'
            for giver, takers in reached.items()
            for taker in sorted(takers)
            if load[giver] * weight[taker] > (load[taker] + dearest) * weight[giver] + 1e-9
        ]
    return wrong


def _misplaced(world: World, living: list[SimNode]) -> list[str]:
    """Return the tasks that no node owns, or a node that their lock or item does not allow (P6)."""
    locks, _ = _in_force(world)
    names = [node.name for node in living if node.agent.weight > 0]
    wrong = []
    for task in world.tasks:
        holders = [node.name for node in living if node.works_on(task)]
        allowed = choose(locks[task].patterns, names)[1] if task in locks else frozenset(names)
        if len(holders) != min(1, len(allowed)) or not allowed.issuperset(holders):
            wrong.append(f'P6: task {task} is owned by {holders}, allowed {sorted(allowed)}')
    return wrong


def _unbalanced(living: list[SimNode]) -> list[str]:
    """Return the pairs of nodes of which one should hand a token to the other (P5). Hash tokens may go anywhere."""
    load = {node: sum(node.ownership.mine) + len(node.ownership.pin_ids) for node in living}
    return [
        f'P5: {giver.name} has {load[giver]} and {taker.name} {load[taker]}'
        for giver in living
        for taker in living
        if 1 in giver.ownership.mine and load[giver] * taker.agent.weight > (load[taker] + 1) * giver.agent.weight
    ]
