"""The simulated world: virtual time, the store, the processes, and what must hold of them.

Only what happens at an event can make a second owner (time alone only ends leases), so P1 is checked after every step of
every agent, against true time and the true state of all processes. When the adversary falls silent, the rest is checked:
every token and task owned by exactly one, loads balanced to one token per unit of weight and pins in their place (P5, P6).
Then come the drills, which hold P2 to P6 against their bounds.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from random import Random

import attrs

from jobsync.backend import BackendOptions
from jobsync.backends.memory import MemoryBackend, MemoryStore
from jobsync.core.agentconfig import AgentConfig
from jobsync.core.hashing import tokenizer
from jobsync.core.model import LockEdit, LockFilter, LockRequest, Settings
from jobsync.core.patterns import choose
from jobsync.testing.simulation.chaos import Chaos
from jobsync.testing.simulation.drills import Drills
from jobsync.testing.simulation.node import SimNode

__all__ = ['Outcome', 'World', 'WorldConfig']

_EPOCH = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
HANDOVER_SEC = 10.0
MOST_EVENTS = 20_000
"""In one second of virtual time: more means that a node runs in circles."""


@attrs.frozen
class WorldConfig:
    """What a world is like, its seed apart."""

    nodes: int = 6
    """Names in use; half of them run at the start."""
    tokens: int = 24
    tasks: int = 10
    storm_sec: float = 400.0
    """How long the adversary is at work."""
    calm_sec: float = 200.0
    """How long the cluster then has to settle."""
    drills: bool = True
    """Whether a settled cluster is then put through its drills."""
    hidden_rollbacks: bool = False
    """The store goes back in time without another identity: more than rule R8 promises to survive always."""


@attrs.frozen
class Outcome:
    """What became of a world."""

    seed: int
    violations: tuple[str, ...]
    """Moments at which two processes owned one token or task (P1)."""
    broken: tuple[str, ...]
    """Fences that did not rise (P7), and tokens that came to another while their owner's user was being told that they go."""
    unsettled: tuple[str, ...]
    """What was not as it should be after the calm."""
    history: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether everything held."""
        return not self.violations and not self.broken and not self.unsettled


class World:
    """One run, fully determined by its seed."""

    def __init__(self, seed: int, config: WorldConfig | None = None) -> None:
        self.seed, self.config = seed, config or WorldConfig()
        self.random = Random(seed)
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order, self._unused = itertools.count(), itertools.count()
        self.store = MemoryStore(self._store_time, Random(seed + 1), durable=self.random.random() < 0.5)
        self.namespace = 'sync_'
        self.backend = MemoryBackend(self.store, BackendOptions(namespace=self.namespace))
        self.settings = Settings(self.config.tokens, 'xxh3')
        self.token_of = tokenizer('xxh3', self.config.tokens)
        self.names = [f'w{number}' for number in range(self.config.nodes)]
        self.tasks = [f't{number}' for number in range(self.config.tasks)]
        self.nodes: list[SimNode] = []
        self.push = self.random.random() < 0.7
        self.quiet = False
        self.down_until = 0.0
        self._events_now = 0
        self.grace_sec = self.random.choice([0.0, 0.0, 10.0])
        self.violations: list[str] = []
        self.broken: list[str] = []
        self.fences: dict[str, tuple[int, str]] = {}
        """For each task the highest fence under which it was begun, and the incarnation that had it."""
        self.outlived: frozenset[str] = frozenset()
        """Incarnations from before the store last lost something: their fences are not those of its history any more."""
        self._history: deque[str] = deque(maxlen=400)

    # --- time and chance ----------------------------------------------------------------------------------------------------

    def _store_time(self) -> dt.datetime:
        return _EPOCH + dt.timedelta(seconds=self.now)

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
        """Remember what happened, for the history of a violation."""
        self._history.append(f'{self.now:9.3f}  {text}')

    # --- the store ----------------------------------------------------------------------------------------------------------

    def revision(self) -> object:
        """The namespace's revision, to see whether a call has changed it."""
        space = self.store.spaces.get(self.namespace)
        return space.head.revision if space is not None else None

    def announce(self) -> None:
        """Hint at a change to every process, late or never as it may be."""
        space = self.store.spaces.get(self.namespace)
        if not self.push or space is None:
            return
        number = space.head.revision.number
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

    def spawn(self, name: str, weight: float | None = None) -> SimNode:
        """Start a process under this name."""
        config = AgentConfig(
            name=name,
            settings=self.settings,
            weight=self.random.choice([1, 1, 1, 1, 2, 0.5]) if weight is None else weight,
            handover_timeout_sec=HANDOVER_SEC,
            form_sec=self.random.choice([0.0, 5.0]),
            shutdown_timeout_sec=self.random.choice([0.0, 5.0]),
            durable=self.store.durable,
            announces=self.random.random() < 0.5,
            rejoin_grace_sec=self.grace_sec,
        )
        self.record(f'{name}: started')
        node = SimNode(self, config)
        self.nodes.append(node)
        return node

    def living(self) -> list[SimNode]:
        """The processes that run (or are paused) and are not on their way out."""
        return [node for node in self.nodes if node.alive]

    # --- what must hold -----------------------------------------------------------------------------------------------------

    def check_one_owner(self, node: SimNode) -> None:
        """P1, between the process that has just made a step and every other."""
        if not node.has_lease():
            return
        mine = int.from_bytes(node.ownership.mine, 'big')
        for other in self.nodes:
            if other is node or not other.has_lease():
                continue
            if mine & int.from_bytes(other.ownership.mine, 'big'):
                both = [t for t, m in enumerate(node.ownership.mine) if m and other.ownership.mine[t]]
                self._violated(f'tokens {both}', node, other)
            for task in self.tasks:
                if node.works_on(task) and other.works_on(task):
                    self._violated(f'task {task}', node, other)

    def _violated(self, what: str, one: SimNode, other: SimNode) -> None:
        text = f'{what} owned by {one.name} ({one.agent.ref.incarnation}) and {other.name} ({other.agent.ref.incarnation})'
        if not self.violations or not self.violations[-1].endswith(text):
            self.record(f'VIOLATION: {text}')
            self.violations.append(f'{self.now:.3f}: {text}')

    def check_fence(self, node: SimNode, task: str, fence: int | None) -> None:
        """P7: whoever begins a task has a higher fence than every run before it, and no lower one than it had itself."""
        mine = node.agent.ref.incarnation
        if fence is None or mine in self.outlived:
            return  # the lease has just ended, or will never be renewed
        last, whose = self.fences.get(task, (0, ''))
        if fence < last or (fence == last and whose != mine):
            self._broken(f'{node.name} ({mine}) begins {task} under fence {fence}, and {whose} had {last}')
        self.fences[task] = (fence, mine)

    def forget_fences(self) -> None:
        """The store has lost something, so fences may begin again below those that were: nobody may be left who knows them."""
        self.fences.clear()
        self.outlived = frozenset(node.agent.ref.incarnation for node in self.nodes)

    def check_told(self, node: SimNode, gained: frozenset[int]) -> None:
        """Nobody is given tokens whose owner's user is being told that they go and has time left."""
        for other in self.nodes:
            if gained and other is not node and (early := other.is_telling(gained)):
                self._broken(f'{node.name} has {sorted(early)} while the user of {other.name} is being told of them')

    def _broken(self, text: str) -> None:
        self.record(f'BROKEN: {text}')
        self.broken.append(f'{self.now:.3f}: {text}')

    def unsettled(self) -> list[str]:
        """What is not as it should be once everything is quiet."""
        living = self.living()
        wrong: list[str] = []
        if not living:
            return wrong
        owners = {
            token: [node.name for node in living if node.has_lease() and node.ownership.mine[token]]
            for token in range(self.config.tokens)
        }
        wrong += [f'token {token} is owned by {names}' for token, names in owners.items() if len(names) != 1]
        locks = {
            lock.task_id: lock
            for lock in self.backend.read_locks().locks
            if lock.expires_at is None or lock.expires_at > self._store_time()
        }
        names = [node.name for node in living if node.agent.weight > 0]
        for task in self.tasks:
            holders = [node.name for node in living if node.works_on(task)]
            allowed = choose(locks[task].patterns, names)[1] if task in locks else frozenset(names)
            if len(holders) != min(1, len(allowed)) or not allowed.issuperset(holders):
                wrong.append(f'task {task} is owned by {holders}, allowed {sorted(allowed)}')
        wrong += self._unbalanced(living)
        for node in living:
            if not node.agent.is_settled:
                wrong.append(f'{node.name} is {node.agent.phase.value} and not settled')
        return wrong

    def _unbalanced(self, living: list[SimNode]) -> list[str]:
        """Hash tokens may go anywhere, so none may be worth handing on (P5)."""
        load = {node: sum(node.ownership.mine) + len(node.ownership.pin_ids) for node in living}
        return [
            f'{giver.name} has {load[giver]} and {taker.name} {load[taker]}'
            for giver in living
            for taker in living
            if 1 in giver.ownership.mine and load[giver] * taker.agent.weight > (load[taker] + 1) * giver.agent.weight
        ]

    # --- the run ------------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Let the storm rage, then the calm settle, and say what held."""
        for name in self.names[: max(1, len(self.names) // 2)]:
            self.spawn(name)
        chaos = Chaos(self)
        chaos.start()
        self._run_until(self.config.storm_sec)
        chaos.stop()
        self.quiet = True
        self.down_until = 0.0
        for node in self.nodes:
            node.cut_until = 0.0
            node.paused_until = min(node.paused_until, self.now)
            node.weigh(node.agent.config.weight)
        self._run_until(self.config.storm_sec + self.config.calm_sec)
        unsettled = self.unsettled()
        if not unsettled and not self.violations and self.config.drills:
            unsettled = Drills(self).run()
        return Outcome(self.seed, tuple(self.violations), tuple(self.broken), tuple(unsettled), tuple(self._history))

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

    def _run_until(self, horizon: float) -> None:
        for _ in self.steps(horizon):
            pass
