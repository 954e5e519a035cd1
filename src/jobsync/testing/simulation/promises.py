"""What must hold of the simulated processes at every step: P1, P7, R9, and the order in which announced tokens go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsync._core.agent.phase import Phase
from jobsync.errors import ConfigMismatch, NodeNameInUse
from jobsync.testing.simulation.node import SimNode

if TYPE_CHECKING:
    from jobsync.testing.simulation.world import World

__all__ = ['Promises']


class Promises:
    """Checks a cluster after every step of a process, and remembers what broke."""

    def __init__(self, cluster: World) -> None:
        self._cluster = cluster
        self.violations: list[str] = []
        self.broken: list[str] = []
        self._fences: dict[str, tuple[int, str]] = {}
        """For each task the highest fence under which it was begun, and the incarnation that had it."""
        self._outlived: frozenset[str] = frozenset()
        """Incarnations from before the store last lost records: their fences belong to a history that is gone."""

    def check_one_owner(self, node: SimNode) -> None:
        """Check P1 between the process that has just made a step and every other."""
        mine = node.claims()
        if not mine:
            return
        for other in self._cluster.nodes:
            if other is not node and other.alive and (both := mine & other.claims()):
                self._violated(both, node, other)

    def _violated(self, both: int, one: SimNode, other: SimNode) -> None:
        cluster = self._cluster
        tasks = [task for number, task in enumerate(cluster.tasks) if both >> number & 1]
        first = cluster.shift(one.agent.config.settings.total_tokens)
        tokens = [bit - first for bit in range(first, both.bit_length()) if both >> bit & 1]
        what = ' and '.join(f'{kind} {items}' for kind, items in (('tokens', tokens), ('tasks', tasks)) if items)
        text = f'{what} owned by {one.name} ({one.agent.ref.incarnation}) and {other.name} ({other.agent.ref.incarnation})'
        if not self.violations or not self.violations[-1].endswith(text):
            cluster.found(f'P1 broken: {text}')
            self.violations.append(f'P1 at {cluster.now:.3f}: {text}')

    def check_fence(self, node: SimNode, task: str, fence: int | None) -> None:
        """Check P7: a run that begins a task has a higher fence than every run before it, and no lower one than it had itself."""
        mine = node.agent.ref.incarnation
        if fence is None or mine in self._outlived:
            return  # the lease has just ended, or will never be renewed
        last, owner = self._fences.get(task, (0, ''))
        if fence < last or (fence == last and owner != mine):
            self._broken('P7', f'{node.name} ({mine}) begins {task} under fence {fence}, and {owner} had {last}')
        self._fences[task] = (fence, mine)

    def forget_fences(self) -> None:
        """Accept lower fences from now on, because the store has lost records; runs that read the lost ones do not count."""
        self._fences.clear()
        self._outlived = frozenset(node.agent.ref.incarnation for node in self._cluster.nodes)

    def check_announced(self, node: SimNode, gained: frozenset[int]) -> None:
        """Check R3: no node gains tokens while the owner's ``on_revoke`` for them runs and has time left."""
        for other in self._cluster.nodes:
            if gained and other is not node and (early := other.announced(gained)):
                self._broken('R3', f'{node.name} has {sorted(early)} while on_revoke of {other.name} still runs for them')

    def check_failure(self, node: SimNode) -> None:
        """Check R9: only a name in use or the settings of another cluster end a node that has been a member."""
        if node.agent.phase is not Phase.FAILED or not node.has_been_member:
            return
        error, settings = node.agent.failure, node.agent.config.settings
        others = isinstance(error, ConfigMismatch) and settings != self._cluster.settings
        if not others and not isinstance(error, NodeNameInUse):
            self._broken('R9', f'{node.name} was a member, and has failed: {error}')

    def _broken(self, rule: str, text: str) -> None:
        self._cluster.found(f'{rule} broken: {text}')
        self.broken.append(f'{rule} at {self._cluster.now:.3f}: {text}')
