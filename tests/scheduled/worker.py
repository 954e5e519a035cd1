"""A worker: one process with one job, and a program that uses it in every way, drawn from the seed."""

from __future__ import annotations

import datetime as dt
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
from tests.scheduled.checks import Effect
from tests.scheduled.line import Line
from tests.scheduled.virtual import VirtualProcess
from tests.scheduled.virtual.threads import VirtualThread

from jobsync import Job, RebalanceEvent, Tick
from jobsync.backends.memory import MemoryBackend
from jobsync.errors import BackendUnavailable, JobsyncError, NotOwned

if TYPE_CHECKING:
    from tests.scheduled.world import World

__all__ = ['Worker']

DATE = dt.date(2026, 1, 1)


class WorkFailedError(Exception):
    """The user's work at a task has failed."""


class Worker:
    """One process, from its start to its end."""

    def __init__(self, world: World, name: str, number: int) -> None:
        self.world, self.name, self.number = world, name, number
        random = world.random
        self.process = VirtualProcess(world.host, f'{name}.{number}', random.uniform(0, 1000), random.uniform(0.98, 1.02))
        self.job: Job | None = None
        self.cut_off_until = self.log_blocked_until = 0.0
        self.must_enter = world.is_calm and world.coordination.minimum_nodes is None
        """Whether nothing excuses a failure to enter."""
        self.has_entered = self.has_finished = self.should_leave = self.is_interrupted = False
        self.told: frozenset[int] | None = None
        """The tokens of this worker by what ``on_rebalance`` has said; None if it has no such function."""
        self.lapsed_at: list[float] = []
        """When a heartbeat has found the lease over."""
        self.leased_until = 0.0
        """When the last lease ends by the clock of the process, also if it was evicted meanwhile."""
        self.revoking: tuple[frozenset[int], float, float] | None = None
        """The tokens of the ``on_revoke`` that runs, its deadline by the clock of the process, and when it was announced."""
        self.handles_signals = random.random() < 0.5
        self.process.start(self._be)

    def __str__(self) -> str:
        return self.process.name

    # --- as others see it ---------------------------------------------------------------------------------------------------

    @property
    def is_cut_off(self) -> bool:
        """Return whether the store cannot be reached."""
        return self.world.host.now < max(self.cut_off_until, self.world.down_until)

    @property
    def is_ending(self) -> bool:
        """Return whether the process is on its way out."""
        return self.should_leave or self.is_interrupted or (self.job is not None and self.job.is_leaving)

    def has_lapsed_since(self, moment: float) -> bool:
        """Return whether the lease was over at some time since."""
        lease = None if self.job is None else self.job._session.lease
        return lease is None or self.process.now() >= self.leased_until or any(at > moment for at in self.lapsed_at)

    def is_excused_since(self, moment: float) -> bool:
        """Return whether this worker has died, lost its lease, or was interrupted: then another may do its work again."""
        return self.process.is_killed or self.is_interrupted or self.has_lapsed_since(moment)

    def interrupt(self, how: str) -> None:
        """Have a signal interrupt the main thread at some step."""
        self.world.note(f'{self}: {how}')
        if how in ('SIGTERM', 'SIGINT'):
            second = self.job is not None and self.handles_signals and self.job.is_leaving
            self.is_interrupted = self.is_interrupted or not self.handles_signals or second
            self.world.signals.send(self.process, signal.Signals[how])
            return
        self.is_interrupted = True

        def handle() -> None:
            self.world.note('the handler runs')
            if self.job is not None:
                self.job.__exit__(None, None, None)
            if how == 'exit and raise':
                raise SystemExit(0)

        self.process.interrupt(handle)

    # --- the program --------------------------------------------------------------------------------------------------------

    def _be(self) -> None:
        try:
            self._main()
        finally:
            self.process.kill()  # the threads that are left are daemons, and end with the main thread

    def _main(self) -> None:
        world = self.world
        try:
            job = self.job = self._make_job()
            is_before = world.chance(0.5)
            if is_before:
                self._schedule(job)
            with job:
                if not is_before:
                    self._schedule(job)
                self.has_entered = True
                world.note(f'has entered with {len(job.my_tokens)} tokens')
                self._work(job)
            world.note('has left')
        except (SystemExit, KeyboardInterrupt) as error:
            world.note(f'ends by {error!r}')
            if not (self.is_interrupted or self.handles_signals):
                world.checks.found(f'error: {self} has ended by {error!r}')
        except JobsyncError as error:
            world.note(f'ends by {error!r}')
            if (self.has_entered or self.must_enter) and not self.is_interrupted:
                world.checks.found(f'error: {self} has ended by {error!r}')

    def _make_job(self) -> Job:
        world, random = self.world, self.world.random
        line = Line(MemoryBackend(world.store, world.coordination.options), world, self)
        config = attrs.evolve(
            world.coordination,
            backend=line,
            weight=random.choice([1, 1, 1, 2, 0.5]),
            max_attempts=random.choice([None, None, 100]),
        )
        return Job(
            self.name,
            coordination_config=config,
            date=DATE,
            wait_on_enter=3,
            wait_on_exit=random.choice([0, 0, 2]),
            handle_signals=self.handles_signals,
            on_assign=self._callback('on_assign'),
            on_revoke=self._callback('on_revoke'),
            on_lost=self._callback('on_lost'),
            on_rebalance=self._callback('on_rebalance'),
        )

    def _callback(self, name: str) -> Callable[..., object] | None:
        world, random = self.world, self.world.random
        is_steered = name == 'on_revoke' and world.is_steered
        if random.random() < (0.2 if is_steered else 0.6):
            return None

        def call(*_: object) -> None:
            world.note(f'{name} is called')
            if world.fails(0.6 if is_steered else 0.1):
                world.host.sleep(random.choice([1.0, 30.0]))
            if world.fails(0.1):
                raise WorkFailedError(name)

        def revoke(tokens: frozenset[int], deadline: float) -> None:
            # t=0  the tokens are announced; the lease ends before the call begins, and they pass on
            # So what excuses this process counts from the announcement.
            ago = self.process.now() - (deadline - world.coordination.handover_timeout_sec)
            self.revoking = tokens, deadline, world.host.now - ago - 0.2
            try:
                call()
            finally:
                self.revoking = None

        def rebalance(event: RebalanceEvent) -> None:
            self.told = ((self.told or frozenset()) - event.lost) | event.gained
            call(event)

        calls: dict[str, Callable[..., object]] = {  # each with the number of arguments that it is checked for
            'on_assign': lambda tokens: call(tokens),
            'on_revoke': revoke,
            'on_lost': lambda tokens: call(tokens),
            'on_rebalance': rebalance,
        }
        if name == 'on_rebalance':
            self.told = frozenset()
        return calls[name]

    def _work(self, job: Job) -> None:
        world, random = self.world, self.world.random
        works = [self._until_calm, self._all_batches, *([self._until_calm] if random.random() < 0.5 else [])]
        if random.random() < 0.5:
            works[:2] = works[1::-1]
        for work in works[1:]:
            VirtualThread(world.host, target=lambda work=work: work(job), name=f'user{work.__name__}').start()
        works[0](job)
        while not world.is_calm and not self.is_ending:
            world.host.sleep(0.1)
        if not self.is_ending:
            self._try(lambda: self._batch(job, world.last_batch), job)
            self.has_finished = True
            while not world.is_over and not job.is_leaving:
                world.host.sleep(0.1)

    def _all_batches(self, job: Job) -> None:
        """Work through all batches in their order, as every worker does: a batch waits for the workers that have its tasks."""
        for tasks in self.world.batches:
            is_through = False
            while not is_through and not self.is_ending:
                self.world.host.sleep(self.world.random.uniform(0, 5))
                is_through = self._try(lambda tasks=tasks: self._batch(job, tasks), job)  # type: ignore[misc]

    def _until_calm(self, job: Job) -> None:
        world = self.world
        ways = [self._claim, self._claim_one_by_one, self._add_task, self._task_block, self._items]
        ways += [self._singleton, self._lock, self._weigh]
        while not world.is_calm and not self.is_ending:
            way = world.random.choice(ways)
            self._try(lambda way=way: way(job), job)  # type: ignore[misc]
            world.host.sleep(world.random.uniform(0, 0.3))

    def _schedule(self, job: Job) -> None:
        """Register the functions that every worker has."""
        random = self.world.random

        def work(tick: Tick) -> None:
            with self._at(tick.id):
                if self.world.fails(0.2):
                    self.world.host.sleep(random.choice([3.0, 8.0]))

        for each in self.world.schedules:
            job.every(each.seconds, each.misfire, name=each.name)(work)

    def _try(self, act: Callable[[], object], job: Job) -> bool:
        """Use the job; return whether it has raised nothing. What outages of the store and leaving may raise is no finding."""
        going_on, thread = self.world.going_on, self.world.host.thread
        assert thread is not None
        going_on.add(thread)
        try:
            act()
        except (WorkFailedError, NotOwned, BackendUnavailable, MemoryError):
            pass
        except JobsyncError as error:
            if not job.is_leaving:
                self.world.checks.found(f'error: {self}: {error!r}')
        except Exception as error:  # noqa: BLE001 - every other error is a finding
            self.world.checks.found(f'error: {self}: {error!r} at {_place_of(error)}')
        else:
            return True
        finally:
            going_on.discard(thread)
        return False

    @contextmanager
    def _at(self, key: str, *, is_alone: bool = True, is_once: bool = False) -> Iterator[Effect]:
        """Work at a task: check, take some time, and now and then fail."""
        world, random = self.world, self.world.random
        effect, is_done = world.checks.begin(self, key, is_alone=is_alone, is_once=is_once), False
        try:
            if random.random() < 0.7:
                world.host.sleep(random.choice([0.01, 0.05, 0.2]))
            if world.fails(world.slow_share):
                world.host.sleep(2.0)
            if world.fails(0.03):
                raise WorkFailedError(key)
            yield effect
            is_done = True
        finally:
            world.checks.end(effect, is_done=is_done)

    # --- the ways to use a job ----------------------------------------------------------------------------------------------

    def _claim(self, job: Job) -> None:
        is_once = self.world.chance(0.3)
        for task in job.claim(self.world.tasks, once=is_once):
            with self._at(task):
                pass
            if self.world.fails(0.02):
                break

    def _claim_one_by_one(self, job: Job) -> None:
        for task in job.claim(iter(self.world.tasks), batch=self.world.random.choice([1, 3])):
            with self._at(task):
                pass

    def _batch(self, job: Job, tasks: list[str]) -> None:
        world = self.world
        for task in job.batch(tasks):
            with self._at(task, is_once=True) as effect:
                pass
            if self.should_leave:
                effect.is_done = False  # the loop is left, so the task counts as incomplete
                return
        if not job.is_leaving:
            world.checks.is_complete(tasks, self)

    def _add_task(self, job: Job) -> None:
        random, added = self.world.random, list[str]()
        for task in random.sample(self.world.added, 3):
            if job.can_claim_task(task) and job.add_task(task):
                with self._at(task, is_alone=False):
                    added.append(task)
                if random.random() < 0.5:
                    job.complete(added.pop())
        if added:
            job.write_audit()

    def _task_block(self, job: Job) -> None:
        task = self.world.random.choice(self.world.tasks)
        if job.can_claim_task(task):
            with job.task(task), self._at(task):
                pass

    def _items(self, job: Job) -> None:
        for item in job.items('group'):
            if job.can_claim_task(item):
                with job.task(item), self._at(item):
                    pass

    def _singleton(self, job: Job) -> None:
        with job.singleton('place') as turn:
            if turn:
                with self._at('singleton:place'):
                    turn.wait(self.world.random.uniform(0, 1))

    def _lock(self, job: Job) -> None:
        random = self.world.random
        if random.random() < 0.3:
            job.declare_items('group', self.world.items[: random.randrange(1, len(self.world.items))])
        elif random.random() < 0.5:
            pattern = random.choice(['a', 'b', '%', 'nowhere'])
            job.register_task_lock(random.choice(self.world.tasks), pattern)
        else:
            job.clear_all_locks()

    def _weigh(self, job: Job) -> None:
        job.set_weight(self.world.random.choice([1, 1, 2]))


def _place_of(error: BaseException) -> str:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return '?' if traceback is None else f'{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}'
