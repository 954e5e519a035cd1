"""One world: a host, a store, workers that come and go, and all that follows from the seed."""

from __future__ import annotations

import datetime as dt
import sys
from collections import deque
from itertools import chain
from random import Random

import attrs
from tests.scheduled.checks import Checks
from tests.scheduled.virtual import VirtualHost, VirtualProcess, VirtualSignals
from tests.scheduled.virtual.threads import VirtualThread
from tests.scheduled.worker import DATE, Worker

from jobsync import CoordinationConfig
from jobsync._core.hashing import tokenizer
from jobsync.backend import Audit, HistoryKind
from jobsync.backends.memory import MemoryBackend, MemoryStore

__all__ = ['Aim', 'Outcome', 'Schedule', 'World']

_EPOCH = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_TOKENS = 16
_WORKING = ('main', 'user', 'jobsync-tick-')
"""How the names of the threads begin that run the user's program."""
_LANES = ('jobsync-heartbeat-', 'jobsync-work-', 'jobsync-listen-', 'jobsync-every-', 'jobsync-callbacks-')
_WITHOUT_MEMORY = (
    'NodeRuntime._', 'Callbacks.', 'Scheduler.', 'Lease.', 'InFlight.', 'Ownership.', 'Assignment.', 'Agent.', 'Membership.',
    'Entry.', 'Departure.', 'AssignmentRefresh.', 'HeartbeatSchedule.', 'WeightSync.', 'ClusterMonitor.', 'FailureDetector.',
    'LeaderTerm.', 'Candidacy.', 'KnownDeaths.', 'RollbackDetector.',
)  # fmt: skip
"""Where a step of a lane may find that there is no memory."""


@attrs.frozen
class Outcome:
    """What a run has shown."""

    seed: int
    findings: tuple[str, ...]
    trace: tuple[str, ...]
    """What happened up to the first finding, or the end."""
    figures: dict[str, int]


@attrs.define
class Aim:
    """A process that is to be held, at a step of a thread that runs the user's program."""

    worker: Worker
    seconds: float
    place: str
    """Part of the name of the functions whose steps count; empty for all."""
    steps: int
    """How many such steps are to pass before."""
    is_first: bool
    """Whether that thread is the first of its process to go on."""


@attrs.frozen
class Schedule:
    """A function of ``job.every`` that all workers have."""

    name: str
    seconds: float
    misfire: str

    @property
    def place(self) -> str:
        """The task whose owner runs the ticks."""
        return f'every:{self.name}'


class World:
    """A cluster on one host."""

    def __init__(self, seed: int) -> None:
        self.seed, self.random = seed, Random(seed)
        random = self.random
        self.is_verbose = False
        self.host = VirtualHost(random, self._disturb)
        self.coordination = CoordinationConfig(
            total_tokens=_TOKENS,
            heartbeat_interval_sec=1,
            heartbeat_timeout_sec=4,
            rebalance_delay_sec=0.2,
            rebalance_check_interval_sec=2,
            dead_node_check_interval_sec=1,
            token_refresh_initial_interval_sec=1,
            token_refresh_steady_interval_sec=2,
            # Shorter, it lets a schedule pass on while a tick of it is not late yet.
            handover_timeout_sec=3 if seed % 5 == 1 else 6,
            shutdown_timeout_sec=3,
            op_timeout_sec=1,
            bulk_timeout_sec=2,
            minimum_nodes=random.choice([None, 2]),
            token_distribution_timeout_sec=30,
        )
        self.has_push = random.random() < 0.7
        self.gap = random.choice([5, 15, 50, 150])
        """About every how many steps a thread is disturbed."""
        self.slowness = random.choice([0.001, 0.005, 0.03])
        self.tasks = [f't{number}' for number in range(12)]
        self.added = [f'a{number}' for number in range(6)]
        self.items = [f'i{number}' for number in range(4)]
        self.batches = [[f'b{batch}-{number}' for number in range(10)] for batch in range(3)]
        self.schedules = [Schedule('once', random.choice([1.5, 10]), 'skip'), Schedule('again', random.choice([2, 8]), 'run')]
        self.last_batch = [f'last-{number}' for number in range(20)]
        self._token_of = tokenizer(self.coordination.hash_function, _TOKENS)
        keys = [*self.tasks, *self.added, *self.items, *chain(*self.batches), *self.last_batch, 'singleton:place']
        keys += [each.place for each in self.schedules]
        self.tokens = {key: self._token_of(key) for key in keys}
        self.workers: list[Worker] = []
        self.operator = VirtualProcess(self.host, 'operator', is_disturbed=False)
        self.is_steered = seed % 2 == 1
        """Whether an operator evicts and drains nodes; the draws for that are others than those for all else."""
        self.slow_share = 0.1 if self.is_steered else 0.02
        """How many tasks take seconds; more where an operator may act in the midst of them."""
        self.drained: str | None = None
        """The name of the node that is to own nothing in the calm."""
        self.down_until = 0.0
        self.is_calm = self.is_over = False
        self.aim: Aim | None = None
        self.aims_at = ''
        """Where processes are to be held: part of the name of a function; empty for wherever the seed says."""
        self.holds_threads = False
        """Whether the thread that has come there is held, and not its whole process."""
        self.going_on: set[VirtualThread] = set()
        """The threads whose program goes on after any error."""
        self.answered_at: dict[VirtualThread, float] = {}
        self.trace: deque[str] = deque(maxlen=3000)
        self.kept_trace: tuple[str, ...] | None = None
        self.checks = Checks(self)
        self._number = 0
        self.store: MemoryStore
        self.signals: VirtualSignals

    def build(self, signals: VirtualSignals) -> None:
        """Make what must be on the host already: the store."""
        self.signals = signals
        self.store = MemoryStore(lambda: _EPOCH + dt.timedelta(seconds=self.host.now), self.random)

    # --- chance -------------------------------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        """Return True as often as that."""
        return self.random.random() < probability

    def fails(self, probability: float) -> bool:
        """Return True as often as that, and never in the calm."""
        return not self.is_calm and self.chance(probability)

    def latency(self) -> float:
        """Return how long a request, or an answer, is under way."""
        return self.random.uniform(0.1, 3) if self.fails(0.01) else self.random.expovariate(1 / self.slowness)

    def _disturb(self) -> int:
        """Disturb the present thread: hold its process, stop it for a while, let others go on, or nothing."""
        host, random, draw = self.host, self.random, self.random.random()
        assert host.thread is not None
        if (aim := self.aim) is not None:
            if host.process is aim.worker.process and host.thread.name.startswith(_WORKING):
                aim.steps -= not aim.place or aim.place in host.place()
                if aim.steps < 0:
                    self.note(f'{"thread" if self.holds_threads else "process"} held for {aim.seconds:g} s at {host.place()}')
                    self.aim = None
                    if self.holds_threads:
                        host.reschedule(aim.seconds)
                        return 0
                    aim.worker.process.hold(aim.seconds)
                    host.reschedule(is_first=aim.is_first)
            return 0
        if draw < 0.003 and not self.is_calm:
            seconds = random.choice([0.05, 0.5, 5.0])
            self.note(f'thread stopped for {seconds} s at {host.place()}')
            host.reschedule(seconds)
        elif draw > 0.9993 and not self.is_calm and (self._is_in_lane() or self._is_in_program()):
            self.note(f'no memory at {host.place()}')
            self.checks.cut_short()
            raise MemoryError
        elif draw < 0.6:
            if self.is_verbose:
                self.note(f'turn ends at {host.place()}')
            host.reschedule()
        return int(2 * self.gap * random.random())

    def _is_in_lane(self) -> bool:
        """Return whether the present thread serves a lane of its node, within the code that must outlive any error."""
        thread, place = self.host.thread, self.host.place()
        in_lane = thread is not None and thread.name.startswith(_LANES)
        # What ``_serve`` does once there was no memory needs none.
        needs_memory = place.startswith(_WITHOUT_MEMORY) and not (place.startswith('NodeRuntime._serve') and sys.exception())
        return in_lane and needs_memory

    def _is_in_program(self) -> bool:
        """Return whether the present thread runs the user's program, and may meet an error here after which that goes on.

        Where a function begins, Python calls the handlers of signals, raises what another thread has it raise, and takes memory.
        """
        thread = self.host.thread
        assert thread is not None
        goes_on = thread in self.going_on or thread.name.startswith(('jobsync-tick-', 'jobsync-alarm-', 'jobsync-calls-'))
        return goes_on and sys.exception() is None and self.host.begins_function()

    # --- what there is ------------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        thread = self.host.thread
        self.trace.append(f'{self.host.now:11.6f}  {"" if thread is None else thread!r:24}  {text}')

    def spawn(self, name: str) -> Worker:
        """Start a worker."""
        self._number += 1
        worker = Worker(self, name, self._number)
        self.workers.append(worker)
        self.note(f'{worker} starts')
        return worker

    def living(self) -> list[Worker]:
        """Return the workers whose process runs."""
        return [worker for worker in self.workers if worker.process.is_running]

    def worker_of(self, process: VirtualProcess) -> Worker | None:
        """Return the worker of a process."""
        return next((worker for worker in self.workers if worker.process is process), None)

    def schedule_of(self, item: str) -> Schedule | None:
        """Return the schedule of a tick; None for every other item."""
        place, at, _ = item.partition('@')
        is_tick = bool(at) and ' ' not in item  # what follows a space says how a run of a tick has ended
        return next((each for each in self.schedules if is_tick and each.place == place), None)

    def completed_by(self, item: str) -> list[str]:
        """Return the nodes that have recorded an item as complete."""
        with self.host.atomic():
            rows = MemoryBackend(self.store, self.coordination.options).history(HistoryKind.AUDIT, date=DATE, item=item)
        return [row.node for row in rows if isinstance(row, Audit)]

    def recorded(self) -> set[str]:
        """Return the tasks that the store has as complete."""
        with self.host.atomic():
            rows = MemoryBackend(self.store, self.coordination.options).history(HistoryKind.AUDIT, date=DATE)
        return {row.item for row in rows if isinstance(row, Audit)}
