"""A worker of ``benchmarks.ticks``: functions on a schedule, whose every step is logged.

    python -m benchmarks.ticks_worker LOG NAME SPEC

SPEC is a mapping in JSON: ``config`` (fields of ``CoordinationConfig``), ``functions``, ``period_sec``, ``work_sec``,
``clock_error_sec`` (of this machine's wall clock) and ``schedule_error_sec`` (of the clock that the schedule reads).
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jobsync import CoordinationConfig, Job, Tick
from jobsync._worker.store_clock import StoreClock
from jobsync.testing.worker_log import LogWriter, now

STEP_SEC = 0.01


class WrongClock(StoreClock):
    """The store's clock, read wrong."""

    error_sec = 0.0

    def read(self) -> dt.datetime | None:
        """Return the time with the error."""
        moment = super().read()
        return None if moment is None else moment + dt.timedelta(seconds=self.error_sec)


def main() -> None:
    """Run until SIGTERM."""
    path, name, spec = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    logging.basicConfig(level=logging.WARNING)
    log = LogWriter(path)
    set_clock_wrong(spec['clock_error_sec'])

    def work(tick: Tick) -> None:
        """Check at each step that the tick goes on, and log between which moments it did."""
        run = f'{tick.id} {os.urandom(4).hex()}'
        log.write('begin', task=tick.id, run=run)
        until = time.monotonic() + spec['work_sec']
        while time.monotonic() < until:
            before = now()
            if not tick:
                log.write('dropped', task=tick.id, run=run)
                raise RuntimeError('the tick has passed on')
            log.write('held', task=tick.id, run=run, before=before, after=now())
            time.sleep(STEP_SEC)
        log.write('end', task=tick.id, run=run)

    job = Job(name, coordination_config=CoordinationConfig(**spec['config']), handle_signals=True)
    clock = WrongClock(job._session)
    clock.error_sec = spec['schedule_error_sec']
    job._scheduler.clock = clock
    for number in range(spec['functions']):
        job.every(spec['period_sec'], 'run' if number % 2 else 'skip', name=f'f{number}')(work)
    log.write('start', node=name, pid=os.getpid())
    with job:
        log.write('entered')
        job.run_scheduled()
    log.write('left')


def set_clock_wrong(error_sec: float) -> None:
    """Have this process read a wall clock that is wrong."""
    right: Any = time.time
    # gRPC compares Python's clock with the system's, of which only the first is wrong here: its calls would end too early.
    rightly = SimpleNamespace(**{**vars(time), 'time': right})
    for name in ('grpc._channel', 'grpc._common', 'grpc._utilities'):
        with suppress(ImportError):
            import_module(name).time = rightly  # type: ignore[attr-defined]
    time.time = lambda: right() + error_sec


if __name__ == '__main__':
    main()
