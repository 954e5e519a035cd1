"""What must hold of the simulated processes: P1 and P7 at every step, the rest when everything is quiet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsync._core.agent.agent import Phase
from jobsync._core.patterns import choose
from jobsync.errors import ConfigMismatch, NodeNameInUse

if TYPE_CHECKING:
    from jobsync.testing.simulation.node import SimNode
    from jobsync.testing.simulation.world import World

__all__ = ['Promises']


class Promises:
    """Watches a world, and remembers what broke."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.violations: list[str] = []
        self.broken: list[str] = []
        self._fences: dict[str, tuple[int, str]] = {}
        """For each task the highest fence under which it was begun, and the incarnation that had it."""
        self._outlived: frozenset[str] = frozenset()
        """Incarnations from before the store last lost something: their fences are not those of its history any more."""

    # --- at every step ------------------------------------------------------------------------------------------------------

    def check_one_owner(self, node: SimNode) -> None:
        """P1, between the process that has just made a step and every other."""
        mine = node.claims()
        if not mine:
            return
        for other in self._world.nodes:
            if other is not node and other.alive and (both := mine & other.claims()):
                self._violated(both, node, other)

    def _violated(self, both: int, one: SimNode, other: SimNode) -> None:
        world = self._world
        tasks = [task for number, task in enumerate(world.tasks) if both >> number & 1]
        first = world.shift(one.agent.config.settings.total_tokens)
        tokens = [bit - first for bit in range(first, both.bit_length()) if both >> bit & 1]
        what = ' and '.join(f'{kind} {items}' for kind, items in (('tokens', tokens), ('tasks', tasks)) if items)
        text = f'{what} owned by {one.name} ({one.agent.ref.incarnation}) and {other.name} ({other.agent.ref.incarnation})'
        if not self.violations or not self.violations[-1].endswith(text):
            world.found(f'P1 broken: {text}')
            self.violations.append(f'P1 at {world.now:.3f}: {text}')

    def check_fence(self, node: SimNode, task: str, fence: int | None) -> None:
        """P7: whoever begins a task has a higher fence than every run before it, and no lower one than it had itself."""
        mine = node.agent.ref.incarnation
        if fence is None or mine in self._outlived:
            return  # the lease has just ended, or will never be renewed
        last, whose = self._fences.get(task, (0, ''))
        if fence < last or (fence == last and whose != mine):
            self._broken('P7', f'{node.name} ({mine}) begins {task} under fence {fence}, and {whose} had {last}')
        self._fences[task] = (fence, mine)

    def forget_fences(self) -> None:
        """The store has lost something, so fences may begin again below those that were: nobody may be left who knows them."""
        self._fences.clear()
        self._outlived = frozenset(node.agent.ref.incarnation for node in self._world.nodes)

    def check_told(self, node: SimNode, gained: frozenset[int]) -> None:
        """Nobody is given tokens whose owner's user is being told that they go and has time left."""
        for other in self._world.nodes:
            if gained and other is not node and (early := other.is_telling(gained)):
                self._broken('R3', f'{node.name} has {sorted(early)} while the user of {other.name} is being told of them')

    def check_failure(self, node: SimNode) -> None:
        """R9: what ends a node that has been a member is a name in use, or the settings of another cluster, and nothing else."""
        if node.agent.phase is not Phase.FAILED or not node.has_been_member:
            return
        error, settings = node.agent.failure, node.agent.config.settings
        others = isinstance(error, ConfigMismatch) and settings != self._world.settings
        if not others and not isinstance(error, NodeNameInUse):
            self._broken('R9', f'{node.name} was a member, and has failed: {error}')

    def _broken(self, rule: str, text: str) -> None:
        self._world.found(f'{rule} broken: {text}')
        self.broken.append(f'{rule} at {self._world.now:.3f}: {text}')

    # --- when everything is quiet -------------------------------------------------------------------------------------------

    def unsettled(self) -> list[str]:
        """What is not as it should be once everything is quiet."""
        world, living = self._world, self._world.living()
        wrong: list[str] = []
        if not living:
            return wrong
        owners = {
            token: [node.name for node in living if node.has_lease() and node.ownership.mine[token]]
            for token in range(world.pool)
        }
        wrong += [f'P3: token {token} is owned by {names}' for token, names in owners.items() if len(names) != 1]
        locks = {
            lock.task_id: lock
            for lock in world.backend.read_locks().locks
            if lock.expires_at is None or lock.expires_at > world.store_time()
        }
        names = [node.name for node in living if node.agent.weight > 0]
        for task in world.tasks:
            holders = [node.name for node in living if node.works_on(task)]
            allowed = choose(locks[task].patterns, names)[1] if task in locks else frozenset(names)
            if len(holders) != min(1, len(allowed)) or not allowed.issuperset(holders):
                wrong.append(f'P6: task {task} is owned by {holders}, allowed {sorted(allowed)}')
        wrong += self._unbalanced(living)
        for node in living:
            if not node.agent.is_settled:
                wrong.append(f'P2: {node.name} is {node.agent.phase.value} and not settled')
        return wrong

    def _unbalanced(self, living: list[SimNode]) -> list[str]:
        """Hash tokens may go anywhere, so none may be worth handing on (P5)."""
        load = {node: sum(node.ownership.mine) + len(node.ownership.pin_ids) for node in living}
        return [
            f'P5: {giver.name} has {load[giver]} and {taker.name} {load[taker]}'
            for giver in living
            for taker in living
            if 1 in giver.ownership.mine and load[giver] * taker.agent.weight > (load[taker] + 1) * giver.agent.weight
        ]
