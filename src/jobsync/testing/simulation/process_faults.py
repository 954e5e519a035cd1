"""Faults of the processes of a simulated cluster, and of their ways to the store."""

from __future__ import annotations

from jobsync._core.agent import commands
from jobsync.testing.simulation.node import WORK, NodeFault, SimNode
from jobsync.testing.simulation.world import World

__all__ = ['ProcessFaults']


class ProcessFaults:
    """Each method causes one fault, or none where no process qualifies."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _any(self, least: int = 1) -> SimNode | None:
        """Return a random living process; None if fewer than ``least`` live."""
        living = self._world.living()
        return self._world.random.choice(living) if len(living) >= least else None

    def join(self) -> None:
        """Start another process under a free name."""
        if free := self._world.free_names():
            self._world.spawn(self._world.random.choice(free))

    def kill(self) -> None:
        """Kill one process."""
        if victim := self._any(2):
            victim.alive = False
            self._world.record(f'{victim.name}: killed')

    def kill_several(self) -> None:
        """Kill several processes at one time, and leave at least one."""
        world, living = self._world, self._world.living()
        if len(living) > 2:
            victims = world.random.sample(living, world.random.randint(2, len(living) - 1))
            world.record(f'{", ".join(victim.name for victim in victims)}: killed')
            for victim in victims:
                victim.alive = False

    def leave(self) -> None:
        """Let one process leave gracefully."""
        if node := self._any(2):
            self._world.record(f'{node.name}: asked to leave')
            node.leave()

    def rejoin(self) -> None:
        """Let one process leave gracefully, and start another under its name a little later, as a deployment does."""
        if node := self._any():
            world = self._world
            world.record(f'{node.name}: asked to leave, to be started again')
            node.leave()
            world.at(world.now + world.random.uniform(0, 20.0), lambda: None if world.quiet else self._again(node.name))

    def _again(self, name: str) -> None:
        if all(node.name != name for node in self._world.living()):
            self._world.spawn(name)

    def weigh(self) -> None:
        """Give one process another weight, which may be 0."""
        if node := self._any():
            weight = self._world.random.choice([0.0, 0.0, 1.0, 2.0])
            self._world.record(f'{node.name}: weighs {weight}')
            node.weigh(weight)

    def pause(self) -> None:
        """Stop one process for a while, as SIGSTOP or a suspended machine does."""
        if node := self._any():
            node.paused_until = self._world.now + self._world.random.uniform(1, 60)
            self._world.record(f'{node.name}: paused until {node.paused_until:.3f}')

    def cut(self) -> None:
        """Cut one process off from the store for a while."""
        if node := self._any():
            node.cut_until = self._world.now + self._world.random.uniform(1, 60)
            self._world.record(f'{node.name}: cut off until {node.cut_until:.3f}')

    def lane_fails(self) -> None:
        """Let the calls of one kind fail for a while: heartbeats, commits or reads. All other calls succeed."""
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
            node.fault = NodeFault((kind,), hangs=False, until=world.now + world.random.uniform(5, 90))
            world.record(f'{node.name}: every {kind.__name__} fails until {node.fault.until:.3f}')

    def lane_hangs(self) -> None:
        """Let the next call of one lane hang for a while. The other lane goes on."""
        world = self._world
        if node := self._any():
            kinds = world.random.choice([WORK, (commands.TakeSnapshot,), (commands.Heartbeat,)])
            node.fault = NodeFault(kinds, hangs=True, until=world.now + world.random.uniform(5, 90))
            what = ' or '.join(kind.__name__ for kind in kinds) if kinds is not WORK else 'piece of work'
            world.record(f'{node.name}: the next {what} hangs until {node.fault.until:.3f}')

    def refuse(self) -> None:
        """Let the store refuse one process, or every process, for a while: a wrong password, revoked rights."""
        world = self._world
        if (node := self._any()) and world.random.random() < 0.5:
            until = world.now + world.random.uniform(1, 40)
            refused = [node] if world.random.random() < 0.6 else world.living()
            world.record(f'{", ".join(node.name for node in refused)}: refused until {until:.3f}')
            for node in refused:
                node.refused_until = until

    def restart(self) -> None:
        """Kill one process, and start another under its name."""
        if victim := self._any():
            victim.alive = False
            self._world.record(f'{victim.name}: killed, to be started again')
            self._world.spawn(victim.name)

    def twin(self) -> None:
        """Start a second process under the name of a living one."""
        if (node := self._any()) and self._world.random.random() < 0.3:
            self._world.spawn(node.name)

    def usurp(self) -> None:
        """Delete a living node's row as an operator does, and start another process under its name."""
        world = self._world
        if (node := self._any()) and world.namespace in world.store.spaces and world.random.random() < 0.5:
            world.record(f'row of node {node.name} deleted manually, and its name taken')
            world.store.delete_node_row(world.namespace, node.name, raise_revision=world.random.random() < 0.5)
            world.spawn(node.name)
