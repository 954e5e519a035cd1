"""What happens to the processes of a simulated cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsync._core.agent import commands
from jobsync.testing.simulation.node import Fault

if TYPE_CHECKING:
    from jobsync.testing.simulation.node import SimNode
    from jobsync.testing.simulation.world import World

__all__ = ['WORK', 'Processes']

WORK = (
    commands.Open, commands.Register, commands.TakeSnapshot, commands.ReadAssignment, commands.ReadLocks,
    commands.AcquireLeadership, commands.PlanAndCommit, commands.DropExpiredLocks, commands.RenewTimeline, commands.SetWeight,
    commands.Deregister,
)  # fmt: skip
"""All that goes through the lane of work."""


class Processes:
    """Each method is one misfortune, or none where there is nobody to suffer it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _any(self, least: int = 1) -> SimNode | None:
        """Draw a living process, if there are that many."""
        living = self._world.living()
        return self._world.random.choice(living) if len(living) >= least else None

    def join(self) -> None:
        """Another process starts under a free name."""
        world = self._world
        free = sorted(set(world.names) - {node.name for node in world.living()})
        if free:
            world.spawn(world.random.choice(free))

    def kill(self) -> None:
        """A process dies at once."""
        if victim := self._any(2):
            victim.alive = False
            self._world.record(f'{victim.name}: killed')

    def kill_several(self) -> None:
        """Several processes die at once, all but one perhaps."""
        world, living = self._world, self._world.living()
        if len(living) > 2:
            victims = world.random.sample(living, world.random.randint(2, len(living) - 1))
            world.record(f'{", ".join(victim.name for victim in victims)}: killed')
            for victim in victims:
                victim.alive = False

    def leave(self) -> None:
        """A process leaves in good order."""
        if node := self._any(2):
            self._world.record(f'{node.name}: asked to leave')
            node.leave()

    def rejoin(self) -> None:
        """A process leaves in good order, and another starts under its name a little later, as a deploy has it."""
        if node := self._any():
            world = self._world
            world.record(f'{node.name}: asked to leave, to be started again')
            node.leave()
            world.at(world.now + world.random.uniform(0, 20.0), lambda: None if world.quiet else self._again(node.name))

    def _again(self, name: str) -> None:
        if all(node.name != name for node in self._world.living()):
            self._world.spawn(name)

    def weigh(self) -> None:
        """A process is given another weight, or none."""
        if node := self._any():
            weight = self._world.random.choice([0.0, 0.0, 1.0, 2.0])
            self._world.record(f'{node.name}: weighs {weight}')
            node.weigh(weight)

    def pause(self) -> None:
        """A process is stopped for a while, as by SIGSTOP or a suspended machine."""
        if node := self._any():
            node.paused_until = self._world.now + self._world.random.uniform(1, 60)
            self._world.record(f'{node.name}: paused until {node.paused_until:.3f}')

    def cut(self) -> None:
        """A process cannot reach the store for a while."""
        if node := self._any():
            node.cut_until = self._world.now + self._world.random.uniform(1, 60)
            self._world.record(f'{node.name}: cut off until {node.cut_until:.3f}')

    def lane_fails(self) -> None:
        """The calls of one kind fail for a while, heartbeats or commits or readings, and the others succeed."""
        world = self._world
        if node := self._any():
            kind = world.random.choice(
                [
                    commands.PlanAndCommit,
                    commands.PlanAndCommit,
                    commands.TakeSnapshot,
                    commands.ReadAssignment,
                    commands.Heartbeat,
                ]
            )
            node.fault = Fault((kind,), hangs=False, until=world.now + world.random.uniform(5, 90))
            world.record(f'{node.name}: every {kind.__name__} fails until {node.fault.until:.3f}')

    def lane_hangs(self) -> None:
        """The next call of one lane does not return for a while, and the other lane goes on."""
        world = self._world
        if node := self._any():
            kinds = world.random.choice([WORK, (commands.TakeSnapshot,), (commands.Heartbeat,)])
            node.fault = Fault(kinds, hangs=True, until=world.now + world.random.uniform(5, 90))
            what = ' or '.join(kind.__name__ for kind in kinds) if kinds is not WORK else 'piece of work'
            world.record(f'{node.name}: the next {what} hangs until {node.fault.until:.3f}')

    def refuse(self) -> None:
        """One process, or each of them, is refused for a while: a wrong password, rights taken away."""
        world = self._world
        if (node := self._any()) and world.random.random() < 0.5:
            until = world.now + world.random.uniform(1, 40)
            refused = [node] if world.random.random() < 0.6 else world.living()
            world.record(f'{", ".join(node.name for node in refused)}: refused until {until:.3f}')
            for node in refused:
                node.refused_until = until

    def restart(self) -> None:
        """A process dies and another starts under its name."""
        if victim := self._any():
            victim.alive = False
            self._world.record(f'{victim.name}: killed, to be started again')
            self._world.spawn(victim.name)

    def twin(self) -> None:
        """A second process starts under the name of a living one."""
        if (node := self._any()) and self._world.random.random() < 0.3:
            self._world.spawn(node.name)

    def usurp(self) -> None:
        """An operator deletes a living node's row, and starts another process under its name."""
        world = self._world
        if (node := self._any()) and world.namespace in world.store.spaces and world.random.random() < 0.5:
            world.record(f'row of node {node.name} deleted by hand, and its name taken')
            world.store.delete_node_row(world.namespace, node.name, raise_revision=world.random.random() < 0.5)
            world.spawn(node.name)
