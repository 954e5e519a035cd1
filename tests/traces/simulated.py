"""Traces of the simulator: one from each seed.

The storm is the simulator's, without the faults for which the specification has no action: rows that are put back or spoilt
manually, pools of another size, and a store that goes back under the same identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from tests.support.patching import patched
from tests.traces.recorder import RecordedBackend, Recorder, recorded_agents, version_of
from tests.traces.specification import Event

from jobsync._core.hashing import tokenizer
from jobsync.backend import Backend, Node
from jobsync.testing.editable_store import EditableStore, Image
from jobsync.testing.simulation import WorldConfig
from jobsync.testing.simulation.node import SimNode
from jobsync.testing.simulation.operators import Operators
from jobsync.testing.simulation.process_faults import ProcessFaults
from jobsync.testing.simulation.store_faults import StoreFaults
from jobsync.testing.simulation.storm import Storm
from jobsync.testing.simulation.world import World

__all__ = ['simulated']

CONFIG = WorldConfig(nodes=5, tokens=12, tasks=6, storm_sec=200.0, calm_sec=60.0, drills=False)
MARGIN = 0.1


class _Operators(Operators):
    """Operators who put no row back."""

    def _put_back(self, record: Node) -> None:
        pass


class _Processes(ProcessFaults):
    """Processes of which the leader, too, leaves while it is idle."""

    def leader_leaves(self) -> None:
        """Let the leader leave, unless it is busy: it gives its share away as the last thing it does."""
        if leader := next((node for node in self._world.living() if node.agent.epoch is not None and not node.working), None):
            self._world.record(f'{leader.name}: leads, and leaves')
            leader.leave()


class _Storm(Storm):
    """A storm of what the specification has actions for."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        processes, stores, operators = _Processes(world), self._stores, _Operators(world)
        assert isinstance(stores, StoreFaults)
        self._faults = [
            processes.join, processes.join, processes.kill, processes.kill_several, processes.leave, processes.rejoin,
            processes.pause, processes.cut, processes.restart, processes.twin, processes.usurp, processes.weigh,
            processes.lane_fails, processes.lane_hangs, processes.refuse, processes.leader_leaves, processes.leader_leaves,
            stores.go_down, stores.refuse_writes, stores.roll_back, stores.wipe, stores.jump,
            operators.lock, operators.lock, operators.lock, operators.unlock, operators.unlock, operators.edit_storm,
            operators.delete_node, operators.delete_tokens, operators.delete_lock, operators.delete_owner,
            operators.spoil_lock, operators.rename_lock, operators.delete_in_steps,
        ]  # fmt: skip
        if world.has_items:
            self._faults += [operators.declare] * 6


class _Trace:
    """The events of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._timeline: str | None = None
        self.events: list[Event] = []
        token_of = tokenizer('xxh3', world.config.tokens)
        self.tasks = {task: token_of(task) for task in world.tasks}

    def write(self, event: dict[str, Any]) -> None:
        """Write an event with the true time."""
        self.events.append({**event, 'at': self._world.now})

    def compare(self) -> None:
        """Write that a timeline has begun, if one has."""
        world = self._world
        space = world.store.spaces.get(world.namespace)
        if space is None or space.state.timeline.id == self._timeline or space.state.timeline.store != world.store.identity:
            return
        begun = {'timeline': space.state.timeline.id, 'version': version_of(space.state.version)}
        if self._timeline is None:
            fixed = {'tokens': world.config.tokens, 'tasks': self.tasks, 'margin': MARGIN}
            self.write({'do': 'begin', **fixed, **begun})
        else:
            self.write({'do': 'renew', **begun, 'epoch': space.state.leadership.epoch})
        self._timeline = space.state.timeline.id


@contextmanager
def _recorded_store(world: World, trace: _Trace) -> Iterator[None]:
    """Have what happens to the store, and the ends of processes, be written."""
    restore, delete_node, delete_tokens = (
        EditableStore.restore,
        EditableStore.delete_node_row,
        EditableStore.delete_token_rows,
    )

    def restored(self: EditableStore, image: Image, identity: str | None = None) -> None:
        restore(self, image, identity or world.new_id())
        space = self.spaces.get(world.namespace)
        trace.write({'do': 'back', 'longest': space.state.longest_timeout_sec if space else 0.0})
        trace.compare()

    def node_deleted(self: EditableStore, namespace: str, name: str, *, raise_revision: bool = True) -> None:
        delete_node(self, namespace, name, raise_revision=raise_revision)
        trace.write({'do': 'delete', 'name': name})

    def tokens_deleted(self: EditableStore, namespace: str, tokens: Any) -> None:
        tokens, before = list(tokens), self.spaces[namespace].assignment
        delete_tokens(self, namespace, tokens)
        after = self.spaces[namespace].assignment
        if after is not before:
            gone = [token for token, row in enumerate(before.rows) if row is not None and after.rows[token] is None]
            trace.write({'do': 'delete_rows', 'tokens': gone, 'version': version_of(after.version)})

    alive: Any = SimNode.alive
    end: Callable[[SimNode, bool], None] = alive.fset

    def set_alive(self: SimNode, is_alive: bool) -> None:
        if self.alive and not is_alive:
            trace.write({'do': 'die', 'run': self.agent.ref.incarnation})
        end(self, is_alive)

    with ExitStack() as stack:
        for owner, name, value in (
            (EditableStore, 'restore', restored),
            (EditableStore, 'delete_node_row', node_deleted),
            (EditableStore, 'delete_token_rows', tokens_deleted),
            (SimNode, 'alive', alive.setter(set_alive)),
        ):
            stack.enter_context(patched(owner, name, value))
        yield


def simulated(seed: int, config: WorldConfig = CONFIG) -> list[Event]:
    """Simulate one cluster, and return its trace."""
    world = World(seed, config)
    trace = _Trace(world)
    world.backend = cast('Backend', RecordedBackend(world.backend, trace.write, trace.compare, trace.compare))
    with recorded_agents(Recorder(trace.write, trace.tasks)), _recorded_store(world, trace):
        for name in world.names[: max(1, len(world.names) // 2)]:
            world.spawn(name)
        _Storm(world).start()
        world.run_until(config.storm_sec)
        world.calm_down()
        world.run_until(world.now + config.calm_sec)
    assert not world.promises.violations or trace.events
    return trace.events
