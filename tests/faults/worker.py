"""One worker of a fault run: ``python -m tests.faults.worker``. It reads its orders from stdin, one JSON object a line.

The first line is a ``FaultOrder``. Every further line is a command: ``{"do": "trap", …}`` (a ``Trap``), ``{"do": "locks"}``,
``{"do": "log"}``, ``{"do": "weigh", "weight": 2.0}``. The end of stdin changes nothing; SIGTERM ends the worker.

The log is that of ``jobsync.testing.worker_log``, with the lines of ``tests.faults.grants`` and ``tests.faults.traced``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.faults.breaks import BREAK, BREAKS
from tests.faults.grants import log_answers, record_grants
from tests.faults.traced import TracedBackend, traced_agents
from tests.faults.work import CHURN_SEC, WORK, FaultOrder, Trap, TrappedBackend, Traps, survive

from jobsync import CoordinationConfig, Job
from jobsync._core.hashing import tokenizer
from jobsync.errors import BackendUnavailable, ClusterTimeout, ConfigError
from jobsync.testing.worker_log import LogWriter


class Commands(threading.Thread):
    """Carries out the commands that come by stdin."""

    def __init__(self, job: Job, traps: Traps, log: LogWriter, watched: Sequence[str]) -> None:
        super().__init__(daemon=True)
        self._job, self._traps, self._log, self._watched = job, traps, log, watched

    def run(self) -> None:
        """See ``Thread``."""
        for line in sys.stdin:
            command = json.loads(line)
            with survive(self._log):
                getattr(self, f'do_{command.pop("do")}')(**command)

    def do_trap(self, **fields: Any) -> None:
        """Set a trap, in the place of one that was not sprung."""
        self._traps.trap = Trap(**fields)
        self._log.write(f'set {fields["name"]}')

    def do_disarm(self) -> None:
        """Remove the trap."""
        self._traps.disarm()

    def do_locks(self, seconds: float) -> None:
        """Register and clear task locks in a loop."""
        end = time.monotonic() + seconds
        number = 0
        while time.monotonic() < end and not self._job.is_leaving:
            with survive(self._log):
                number += 1
                task, node = self._watched[number % len(self._watched)], f'w{number % 5}%'
                self._job.register_task_lock(task, [node, '%'], reason='churn')
                if number % 7 == 0:
                    self._job.clear_locks_by_creator(self._job.node_name)
            time.sleep(CHURN_SEC)
        with survive(self._log):
            self._job.clear_locks_by_creator(self._job.node_name)

    def do_log(self) -> None:
        """Write more into stderr than a pipe holds, without end."""

        def write() -> None:
            while True:
                logging.getLogger('jobsync.noise').warning('x' * 4000)

        threading.Thread(target=write, daemon=True).start()

    def do_weigh(self, weight: float) -> None:
        """Change the weight."""
        self._job.set_weight(weight)


def serve(order: FaultOrder, log: LogWriter) -> bool:
    """Run one job; return False if the store did not let it enter, as a supervisor would notice."""
    config, traps, over = CoordinationConfig(**order.settings), Traps(log), threading.Event()
    job = Job(order.node, coordination_config=config, wait_on_enter=60, handle_signals=True)
    job._session.instrument = lambda backend: TrappedBackend(TracedBackend(backend, log) if order.traced else backend, traps)
    token_of = tokenizer(config.hash_function, config.total_tokens)
    answers = (job, token_of, config.total_tokens, log, over)
    pace = {'every_sec': order.answers_sec, 'late_sec': order.late_sec}
    threading.Thread(target=log_answers, args=answers, kwargs=pace, daemon=True).start()
    has_entered = False
    try:
        with job:
            has_entered = True
            Commands(job, traps, log, order.watched).start()
            log.write('entered')
            WORK[order.kind](job, order, traps, log)
    except (BackendUnavailable, ClusterTimeout, ConfigError) as error:  # ConfigError: the password is refused for a while
        if has_entered:
            raise
        log.write('error', error=type(error).__name__, text=str(error)[:200])
    finally:
        over.set()
    return has_entered


def tasks_of(order: FaultOrder) -> Mapping[str, int]:
    """Return the tasks whose owner is of interest, with their hash tokens."""
    config = CoordinationConfig(**order.settings)
    token_of = tokenizer(config.hash_function, config.total_tokens)
    return {key: token_of(key) for key in order.watched}


def main() -> None:
    order = FaultOrder(**json.loads(sys.stdin.readline()))
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(name)s %(message)s')
    log = LogWriter(Path(order.folder, f'{order.run}.log'))
    log.write('start', node=order.node, pid=os.getpid())
    with contextlib.ExitStack() as stack:
        if name := os.environ.get(BREAK):
            stack.enter_context(BREAKS[name]())
        record_grants(log, order.watched)
        if order.traced:
            stack.enter_context(traced_agents(log, tasks_of(order)))
        while not serve(order, log):
            time.sleep(0.1)
    log.write('left')


if __name__ == '__main__':
    main()
