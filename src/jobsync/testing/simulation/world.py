"""The simulated world: virtual time, chance, the store, and the processes."""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from random import Random

import attrs

from jobsync._core.config import NodeConfig
from jobsync._core.records import DRAINED
from jobsync.backend import Backend, BackendOptions, Hint, LockEdit, LockFilter, LockRequest, NodeRef, Settings
from jobsync.backends.memory import MemorySpace
from jobsync.config import CoordinationConfig
from jobsync.testing.editable_store import EditableStore
from jobsync.testing.simulation.backends import SmallBackend
from jobsync.testing.simulation.node import SimNode
from jobsync.testing.simulation.outcome import Outcome, WorldConfig
from jobsync.testing.simulation.promises import Promises

__all__ = ['World']

_EPOCH = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
HANDOVER_SEC = 10.0
TIMINGS = ((5.0, 15.0), (5.0, 20.0), (5.0, 60.0), (15.0, 60.0))
"""Heartbeat interval and timeout of a node, where they differ from node to node; the first where they do not."""
MOST_EVENTS = 20_000
"""In one second of virtual time: more means that a node runs in circles."""
ITEMS = 3
"""One world in this many declares items."""
HISTORY = 400
"""Lines of the history that are kept."""


class World:
    """One cluster, fully determined by its seed and by what is done to it."""

    def __init__(self, seed: int, config: WorldConfig | None = None) -> None:
        self.seed, self.config = seed, config or WorldConfig()
        self.random = Random(seed)
        self.now = 0.0
        """True time, in seconds."""
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order, self._unused = itertools.count(), itertools.count()
        self.store = EditableStore(
            self.store_time,
            Random(seed + 1),
            durable=self.random.random() < 0.5,
            has_position=not self.config.hidden_rollbacks,
        )
        self.namespace = 'sync_'
        self.backend: Backend = SmallBackend(self.store, BackendOptions(namespace=self.namespace))
        self.names = [f'w{number}' for number in range(self.config.nodes)]
        self.tasks = [f't{number}' for number in range(self.config.tasks)]
        self.nodes: list[SimNode] = []
        self.push = self.random.random() < 0.7
        self.quiet = False
        """Whether the storm is over: no call fails or takes long by chance."""
        self.down_until = self.read_only_until = 0.0
        """True times until which no call reaches the store, and until which the store refuses writes."""
        self.clock_is_off = dt.timedelta()
        """By how much the store's clock is wrong."""
        self.jumps = self.random.random() < 0.3
        """Whether that clock jumps at all."""
        self._events_now = 0
        self.grace_sec = self.random.choice([0.0, 0.0, 10.0])
        self.timings = TIMINGS if self.random.random() < 0.4 else TIMINGS[:1]
        self.has_items = seed % ITEMS == 0
        self._where = Random(seed + 2)
        self.hosts = self._where.choice([0, 0, 1, 2])
        """On how many hosts the processes run, each of which knows at once which of its processes are over. 0: no host knows."""
        self._hints = Random(seed + 3)
        self.misleads = self._hints.random() < 0.2
        """Whether hints name other nodes than those concerned. The leader and the nodes next in line react to any hint."""
        self.gathers = Random(seed + 4).random() < 0.3
        """Whether leaders take two owners for many, and gather their acknowledgements for longer."""
        self._runs: dict[str, SimNode] = {}
        """The process of each incarnation."""
        self.promises = Promises(self)
        self._history: deque[str] = deque(maxlen=HISTORY)
        self._first_finding: tuple[str, ...] = ()
        """The history up to the first promise that broke."""

    # --- time and chance ----------------------------------------------------------------------------------------------------

    def store_time(self) -> dt.datetime:
        """Return the time that the store's clock shows."""
        return _EPOCH + dt.timedelta(seconds=self.now) + self.clock_is_off

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Run ``action`` at true time ``time``."""
        heapq.heappush(self._queue, (time, next(self._order), action))

    def steps(self, horizon: float) -> Iterator[None]:
        """Run one event after another until true time ``horizon``; yield after each."""
        while self._queue and self._queue[0][0] < horizon:
            before = self.now
            self.now, _, action = heapq.heappop(self._queue)
            self._events_now = self._events_now + 1 if int(before) == int(self.now) else 0
            if self._events_now > MOST_EVENTS:
                raise RuntimeError(f'seed {self.seed}: more than {MOST_EVENTS} events in one second, at {self.now:.3f}')
            action()
            yield
        self.now = horizon

    def run_until(self, horizon: float) -> None:
        """Run all events until true time ``horizon``."""
        for _ in self.steps(horizon):
            pass

    def new_id(self) -> str:
        """Return a random id, as an incarnation has one."""
        return f'{self.random.getrandbits(64):016x}'

    def new_name(self) -> str:
        """Return a node name that has not been used."""
        return f'new{next(self._unused)}'

    def latency(self) -> float:
        """Return the seconds that one way to the store or back takes: few, and now and then very many."""
        if self.quiet or self.random.random() < 0.97:
            return self.random.expovariate(1 / 0.02)
        return self.random.uniform(0, 20)

    def fails(self, probability: float) -> bool:
        """Return whether an event of this probability happens; never where ``quiet``."""
        return not self.quiet and self.random.random() < probability

    def record(self, text: str) -> None:
        """Add a line to the history."""
        self._history.append(f'{self.now:9.3f}  {text}')

    def found(self, text: str) -> None:
        """Record that a promise broke; the history up to the first such finding is kept for the outcome."""
        self.record(text)
        self._first_finding = self._first_finding or tuple(self._history)

    # --- the store ----------------------------------------------------------------------------------------------------------

    @property
    def space(self) -> MemorySpace | None:
        """The namespace as the store has it; None if there is none."""
        return self.store.spaces.get(self.namespace)

    def revision(self) -> object:
        """Return the namespace's revision, for comparison before and after a call."""
        return self.space and self.space.state.revision

    @property
    def settings(self) -> Settings:
        """Return the settings in force, or those of the configuration where the store has none."""
        return (self.space and self.space.state.settings) or Settings(self.config.tokens, 'xxh3')

    @property
    def pool(self) -> int:
        """Return the number of tokens."""
        return self.settings.total_tokens

    def shift(self, pool: int) -> int:
        """Return the bit at which the tokens of a pool begin in what a process claims; two pools have no bit in common."""
        return self.config.tasks + (0 if pool == self.config.tokens else self.config.tokens)

    def announce(self) -> None:
        """Send a change hint to every process; each may come late, twice or never, and name the wrong nodes."""
        space = self.space
        if not self.push or space is None:
            return
        number, concerned = space.state.revision.number, self.store.concerned[self.namespace]
        for node in self.nodes:
            if node.alive and not self.fails(0.1):
                hint = concerned.hint(number, node.hinted)
                if self.misleads:
                    hint = Hint(number, frozenset(self._hints.sample(self.names, 1)))
                for _ in range(self._hints.choice((1, 1, 1, 2))):
                    self.at(self.now + self.latency() + node.distance_sec, lambda node=node, hint=hint: node.hint(hint))  # type: ignore[misc]

    def edit_lock(self, task: str, patterns: tuple[str, ...] | None, expires_in: float | None = None) -> None:
        """Register or replace the lock of a task; with ``patterns`` None, clear it."""
        if patterns is None:
            self.edit(LockEdit(remove=LockFilter(task_ids=frozenset([task]))))
        else:
            expiry = None if expires_in is None else dt.timedelta(seconds=expires_in)
            self.edit(LockEdit(put=(LockRequest(task, patterns, 'sim', expires_in=expiry),)))

    def edit(self, edit: LockEdit) -> None:
        """Edit locks, items or drained nodes, where there is a namespace."""
        if self.space is not None:
            self.backend.edit_locks(edit)
            self.announce()

    def undrain(self, name: str | None = None) -> None:
        """Let a drained node own tokens again; with None, every node."""
        if self.space is not None:
            names = None if name is None else frozenset([name])
            if self.backend.edit_locks(LockEdit(remove=LockFilter(task_ids=names), group=DRAINED)):
                self.announce()

    def owner_of(self, task: str, token: int) -> tuple[str, str] | None:
        """Return the name and the incarnation that own a task by the assignment in the store; None if none does."""
        if self.space is None:
            return None
        assignment = self.space.assignment
        pin = next((pin for pin in assignment.pins.values() if pin.task_id == task), None)
        row = pin or next(iter(assignment.rows[token : token + 1]), None)
        if row is None or row.owner is None or row.owner not in assignment.members:
            return None
        return row.owner, assignment.members[row.owner].incarnation

    # --- the processes ------------------------------------------------------------------------------------------------------

    def spawn(self, name: str, weight: float | None = None, settings: Settings | None = None) -> SimNode:
        """Start a process under this name, with the settings in force if none are given."""
        interval, timeout = self.random.choice(self.timings)
        weight = self.random.choice([1, 1, 1, 1, 2, 0.5]) if weight is None else weight
        wait_on_enter = self.random.choice([0.0, 5.0])
        coordination = CoordinationConfig(
            weight=weight,
            heartbeat_interval_sec=interval,
            heartbeat_timeout_sec=timeout,
            handover_timeout_sec=HANDOVER_SEC,
            shutdown_timeout_sec=self.random.choice([0.0, 5.0]),
            rejoin_grace_sec=self.grace_sec,
            retention_days=self.config.retention_days,
        )
        config = NodeConfig.of(
            coordination,
            self.backend.info,
            name=name,
            host='',
            pid=0,
            create=True,
            settings=settings or self.settings,
            wait_on_enter=wait_on_enter,
            announces=self.random.random() < 0.5,
        )
        if self.gathers:
            config = attrs.evolve(config, many_owners=1)
        self.record(f'{name}: started' + (f', heartbeats every {interval:g} s, timeout {timeout:g} s' if self.is_mixed else ''))
        node = SimNode(self, config, self.promises, self._where.randrange(self.hosts or 1))
        self.nodes = [*(other for other in self.nodes if other.alive), node]
        return node

    def watches(self, node: SimNode) -> Iterable[SimNode]:
        """Return the other living processes on the host of this one, of which each knows at once that it has ended."""
        return [other for other in self.living() if self.hosts and other is not node and other.host == node.host]

    def is_over(self, ref: NodeRef, host: int) -> bool:
        """Return whether a host proves that a run is over: a process holds its lock until it ends, paused or not."""
        process = self._runs.get(ref.incarnation) if self.hosts else None
        return process is not None and process.host == host and not self.holds_lock(process, ref)

    def take_lock(self, node: SimNode, ref: NodeRef) -> None:
        """Have a process hold the lock of its incarnation, which is about to register."""
        self._runs[ref.incarnation] = node

    def holds_lock(self, process: SimNode, ref: NodeRef) -> bool:
        """Return whether a process holds the lock of an incarnation."""
        return process.alive and process.agent.ref == ref

    @property
    def is_prompt(self) -> bool:
        """Return whether hints bring each change at once to the nodes that it concerns."""
        return self.push and not self.misleads

    @property
    def is_mixed(self) -> bool:
        """Return whether timeouts differ from node to node."""
        return len(self.timings) > 1

    def living(self) -> list[SimNode]:
        """Return the processes that have not ended, paused ones included."""
        return [node for node in self.nodes if node.alive]

    def free_names(self) -> list[str]:
        """Return the names of the configuration that no living process has."""
        return sorted(set(self.names) - {node.name for node in self.living()})

    def calm_down(self) -> None:
        """End every fault, and cause no more by chance."""
        self.quiet = True
        self.down_until = self.read_only_until = 0.0
        for node in self.nodes:
            node.cut_until = node.refused_until = 0.0
            node.paused_until = min(node.paused_until, self.now)
            node.heal()
            node.weigh(node.agent.config.weight)
        self.undrain()

    def outcome(self, unsettled: Iterable[str] = ()) -> Outcome:
        """Return what has held until now, and what the caller found ``unsettled``."""
        promises, history = self.promises, self._first_finding or tuple(self._history)
        return Outcome(self.seed, tuple(promises.violations), tuple(promises.broken), tuple(unsettled), history)
