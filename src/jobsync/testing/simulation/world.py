"""The simulated world: virtual time, the store, the processes, and what must hold of them.

Only what happens at an event can make a second owner (time alone only ends leases), so P1 is checked after every step of
every agent, against true time and the true state of all processes (``promises``). When the adversary falls silent, the rest is
checked: every token and task owned by exactly one, loads balanced to one token per unit of weight and pins in their place (P5,
P6). Then come the drills, which hold P2 to P6 against their bounds.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from random import Random

from jobsync._core.agent.config import AgentConfig
from jobsync._core.records import LockEdit, LockFilter, LockRequest, Settings
from jobsync.backend import BackendOptions
from jobsync.backends.memory import MemoryStore
from jobsync.testing.simulation.chaos import Chaos
from jobsync.testing.simulation.drills import Drills
from jobsync.testing.simulation.node import SimNode
from jobsync.testing.simulation.outcome import Outcome, WorldConfig
from jobsync.testing.simulation.promises import Promises
from jobsync.testing.simulation.store import SmallBackend

__all__ = ['World']

_EPOCH = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
HANDOVER_SEC = 10.0
TIMINGS = ((5.0, 15.0), (5.0, 20.0), (5.0, 60.0), (15.0, 60.0))
"""Heartbeat interval and timeout of a node, where they differ from node to node; the first where they do not."""
MOST_EVENTS = 20_000
"""In one second of virtual time: more means that a node runs in circles."""


class World:
    """One run, fully determined by its seed."""

    def __init__(self, seed: int, config: WorldConfig | None = None) -> None:
        self.seed, self.config = seed, config or WorldConfig()
        self.random = Random(seed)
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order, self._unused = itertools.count(), itertools.count()
        self.store = MemoryStore(
            self.store_time,
            Random(seed + 1),
            durable=self.random.random() < 0.5,
            tells_position=not self.config.hidden_rollbacks,
        )
        self.namespace = 'sync_'
        self.backend = SmallBackend(self.store, BackendOptions(namespace=self.namespace))
        self.names = [f'w{number}' for number in range(self.config.nodes)]
        self.tasks = [f't{number}' for number in range(self.config.tasks)]
        self.nodes: list[SimNode] = []
        self.push = self.random.random() < 0.7
        self.quiet = False
        self.down_until = self.read_only_until = 0.0
        self.clock_is_off = dt.timedelta()
        """By how much the store's clock is wrong."""
        self.jumps = self.random.random() < 0.3
        """Whether that clock jumps at all."""
        self._events_now = 0
        self.grace_sec = self.random.choice([0.0, 0.0, 10.0])
        self.timings = TIMINGS if self.random.random() < 0.4 else TIMINGS[:1]
        self.promises = Promises(self)
        self._history: deque[str] = deque(maxlen=400)
        self._timeline: tuple[str, ...] = ()

    # --- time and chance ----------------------------------------------------------------------------------------------------

    def store_time(self) -> dt.datetime:
        """What the store's clock shows."""
        return _EPOCH + dt.timedelta(seconds=self.now) + self.clock_is_off

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Let ``action`` happen at true time ``time``."""
        heapq.heappush(self._queue, (time, next(self._order), action))

    def new_id(self) -> str:
        """An id as an incarnation draws it."""
        return f'{self.random.getrandbits(64):016x}'

    def new_name(self) -> str:
        """A name that nobody has had."""
        return f'new{next(self._unused)}'

    def latency(self) -> float:
        """How long one way to the store or back takes: short, and now and then very long."""
        if self.quiet or self.random.random() < 0.97:
            return self.random.expovariate(1 / 0.02)
        return self.random.uniform(0, 20)

    def fails(self, probability: float) -> bool:
        """Whether something that goes wrong with this probability does."""
        return not self.quiet and self.random.random() < probability

    def record(self, text: str) -> None:
        """Remember what happened, for the timeline of a finding."""
        self._history.append(f'{self.now:9.3f}  {text}')

    def found(self, text: str) -> None:
        """Remember that a promise broke; what led to the first such finding is the timeline of this world."""
        self.record(text)
        self._timeline = self._timeline or tuple(self._history)

    # --- the store ----------------------------------------------------------------------------------------------------------

    def revision(self) -> object:
        """The namespace's revision, to see whether a call has changed it."""
        space = self.store.spaces.get(self.namespace)
        return space.state.revision if space is not None else None

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        space = self.store.spaces.get(self.namespace)
        return (space and space.state.settings) or Settings(self.config.tokens, 'xxh3')

    @property
    def pool(self) -> int:
        """How many tokens there are."""
        return self.settings.total_tokens

    def shift(self, pool: int) -> int:
        """Return where the bits of a pool's tokens begin in what a process claims: no two pools have any in common."""
        return self.config.tasks + (0 if pool == self.config.tokens else self.config.tokens)

    def announce(self) -> None:
        """Hint at a change to every process, late or never as it may be."""
        space = self.store.spaces.get(self.namespace)
        if not self.push or space is None:
            return
        number = space.state.revision.number
        for node in self.nodes:
            if node.alive and not self.fails(0.1):
                self.at(self.now + self.latency(), lambda node=node: node.hint(number))  # type: ignore[misc]

    def edit_lock(self, task: str, patterns: tuple[str, ...] | None, expires_in: float | None = None) -> None:
        """Register, replace or (None) clear the lock of a task."""
        if self.namespace not in self.store.spaces:
            return
        if patterns is None:
            self.backend.edit_locks(LockEdit(remove=LockFilter(task_ids=frozenset([task]))))
        else:
            expiry = None if expires_in is None else dt.timedelta(seconds=expires_in)
            self.backend.edit_locks(LockEdit(put=(LockRequest(task, patterns, 'sim', expires_in=expiry),)))
        self.announce()

    # --- the processes ------------------------------------------------------------------------------------------------------

    def spawn(self, name: str, weight: float | None = None, settings: Settings | None = None) -> SimNode:
        """Start a process under this name, with the settings in force if none are given."""
        interval, timeout = self.random.choice(self.timings)
        config = AgentConfig(
            name=name,
            settings=settings or self.settings,
            weight=self.random.choice([1, 1, 1, 1, 2, 0.5]) if weight is None else weight,
            heartbeat_interval_sec=interval,
            heartbeat_timeout_sec=timeout,
            handover_timeout_sec=HANDOVER_SEC,
            form_sec=self.random.choice([0.0, 5.0]),
            shutdown_timeout_sec=self.random.choice([0.0, 5.0]),
            durable=self.store.durable,
            announces=self.random.random() < 0.5,
            rejoin_grace_sec=self.grace_sec,
            max_removals=self.backend.info.max_removals,
        )
        self.record(f'{name}: started' + (f', heartbeats every {interval:g} s, timeout {timeout:g} s' if self.is_mixed else ''))
        node = SimNode(self, config)
        self.nodes = [*(other for other in self.nodes if other.alive), node]
        return node

    @property
    def is_mixed(self) -> bool:
        """Whether timeouts differ from node to node."""
        return len(self.timings) > 1

    def living(self) -> list[SimNode]:
        """The processes that run (or are paused) and are not on their way out."""
        return [node for node in self.nodes if node.alive]

    # --- the run ------------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Let the storm rage, then the calm settle, and say what held."""
        for name in self.names[: max(1, len(self.names) // 2)]:
            self.spawn(name)
        chaos = Chaos(self)
        chaos.start()
        self.run_until(self.config.storm_sec)
        chaos.stop()
        self.calm_down()
        self.run_until(self.now + self.config.calm_sec * (1.7 if self.is_mixed else 1))
        unsettled = self.promises.unsettled()
        if not unsettled and not self.promises.violations and self.config.drills:
            unsettled = Drills(self).run()
        return self.outcome(unsettled)

    def outcome(self, unsettled: Iterable[str] = ()) -> Outcome:
        """Say what has held until now."""
        held = self.promises
        return Outcome(
            self.seed, tuple(held.violations), tuple(held.broken), tuple(unsettled), self._timeline or tuple(self._history)
        )

    def calm_down(self) -> None:
        """From now on nothing goes wrong, and what is wrong is mended."""
        self.quiet = True
        self.down_until = self.read_only_until = 0.0
        for node in self.nodes:
            node.cut_until = node.refused_until = 0.0
            node.paused_until = min(node.paused_until, self.now)
            node.heal()
            node.weigh(node.agent.config.weight)

    def steps(self, horizon: float) -> Iterator[None]:
        """Let one event after another happen, until true time ``horizon``."""
        while self._queue and self._queue[0][0] < horizon:
            before = self.now
            self.now, _, action = heapq.heappop(self._queue)
            self._events_now = self._events_now + 1 if int(before) == int(self.now) else 0
            if self._events_now > MOST_EVENTS:
                raise RuntimeError(f'seed {self.seed}: some node never rests, at {self.now:.3f}')
            action()
            yield
        self.now = horizon

    def run_until(self, horizon: float) -> None:
        """Let true time pass until ``horizon``."""
        for _ in self.steps(horizon):
            pass
