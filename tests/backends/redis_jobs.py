"""Real jobs of this process on one Redis server, watched all the time for two owners of one task."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from tests.support.timings import FAST, TOKENS
from tests.support.waiting import eventually

from jobsync import CoordinationConfig, Job
from jobsync._core.hashing import tokenizer

__all__ = ['TASKS', 'Cluster', 'Watch']

_token_of = tokenizer(CoordinationConfig().hash_function, TOKENS)
TASKS = tuple({_token_of(str(task)): task for task in range(1000)}.values())
"""One for each token: more would tell nothing more, and they are asked about without pause."""
assert len(TASKS) == TOKENS


class Watch:
    """Looks for tasks that two jobs would do at once, without pause."""

    def __init__(self, jobs: list[Job]) -> None:
        self.clashes: list[tuple[int, str, str]] = []
        self.looks = 0
        self._jobs = jobs
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(100)

    def _run(self) -> None:
        while not self._stop.is_set():
            for task in TASKS:
                owners = [job for job in self._jobs if job.can_claim_task(task)]
                # They were asked one after the other: it is a clash if the first still says so after the second.
                if len(owners) > 1 and owners[0].can_claim_task(task):
                    self.clashes.append((task, owners[0].node_name, owners[1].node_name))
            self.looks += 1
            time.sleep(0.001)


class Cluster:
    """Jobs of this process on one store, all asked all the time."""

    def __init__(self, url: str, names: str) -> None:
        self.url = url
        self.jobs: list[Job] = []
        self._stack = ExitStack()
        self.watch = Watch(self.jobs)
        self._names = names

    def __enter__(self) -> Cluster:
        for name in self._names:
            self.add(name)
        self._stack.enter_context(self.watch)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, name: str) -> None:
        """Another job."""
        timings = {name: value for name, value in FAST.items() if name != 'minimum_nodes'}
        config = CoordinationConfig(backend=self.url, **timings)
        self.jobs.append(self._stack.enter_context(Job(name, coordination_config=config, wait_on_enter=1)))

    def owners(self) -> dict[int, list[str]]:
        """The jobs that would do each task now."""
        return {task: [job.node_name for job in self.jobs if job.can_claim_task(task)] for task in TASKS}

    @property
    def is_shared_out(self) -> bool:
        """Whether each task is some job's, and each job has some."""
        owners = self.owners().values()
        return all(len(each) == 1 for each in owners) and len({each[0] for each in owners}) == len(self.jobs)

    def survives(self, accident: Callable[[], None]) -> None:
        """After an accident everything is shared out again, and at no time two owned one thing."""
        eventually(lambda: self.is_shared_out)
        before = self.watch.looks
        accident()
        eventually(lambda: not self.is_shared_out)
        eventually(lambda: self.is_shared_out)
        assert self.watch.looks > before
        assert self.watch.clashes == []
