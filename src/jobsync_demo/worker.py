"""One worker process: ``python -m jobsync_demo.worker ORDERS NODE MINIMUM_NODES``.

Its loop is that of the user's guide: ``can_claim_task``, ``add_task``, work, ``write_audit``. The worker reads the audit again
whenever its tokens have changed, because it takes over files of other workers.

The worker leaves when its standard input is closed, so no worker outlives the process that started it.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
from pathlib import Path

import attrs

from jobsync import Job, Task
from jobsync.testing.worker_log import LogWriter, log_tokens, now
from jobsync_demo.files import digest, task_id
from jobsync_demo.orders import Orders, log_path

__all__ = ['main']

_AUDIT_EVERY = 20
"""Files between two audits; also the most files that are done again when this worker is killed."""
_AUDIT_EVERY_SEC = 0.5
_SAMPLE_SEC = 0.02
_IDLE_SEC = 1.0
"""Time between two readings of the audit by a worker that has nothing to do."""
_POLL_SEC = 0.05
_WAIT_ON_ENTER_SEC = 60


def main() -> None:
    """Work until every file is done, then wait for the end of the input."""
    orders_path, node, minimum_nodes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(name)s: %(message)s')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    orders = Orders.load(orders_path)
    log = LogWriter(log_path(orders_path.parent, node))
    log.write('start', node=node, pid=os.getpid())
    stop = threading.Event()
    threading.Thread(target=_wait_for_end_of_input, args=(stop,), daemon=True).start()
    job = Job(node, wait_on_enter=_WAIT_ON_ENTER_SEC * orders.ease, coordination_config=orders.config(minimum_nodes))
    threading.Thread(target=log_tokens, args=(job, log, _SAMPLE_SEC * orders.ease, threading.Event()), daemon=True).start()
    with job:
        log.write('entered')
        _work(job, orders, log, stop)
        stop.wait()
    log.write('left')


def _wait_for_end_of_input(stop: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    stop.set()


def _work(job: Job, orders: Orders, log: LogWriter, stop: threading.Event) -> None:
    names = {task_id(name): name for name in orders.files}
    order = list(names)
    dice = random.Random(f'{orders.seed} {job.node_name}')
    dice.shuffle(order)
    while not stop.is_set():
        mine = job.my_tokens
        audited = {row['item'] for row in job.get_audit()}
        remaining = [item for item in order if item not in audited]
        if not remaining:
            log.write('complete')
            return
        done, audited_at = 0, now()
        for item in remaining:
            if stop.is_set():
                break
            task = Task(item)
            if not job.can_claim_task(task):
                continue
            if job.my_tokens is not mine:
                # The tokens changed after the audit was read. A former owner may have done this very file meanwhile,
                # and what it did is in the audit by now: read that again before beginning anything.
                break
            if not job.add_task(task):
                continue
            log.write('begin', task=item)
            pause = orders.pace_sec * dice.uniform(0.5, 1.5)
            result = digest(Path(orders.root, names[item]))
            stop.wait(pause)
            log.write('end', task=item, **attrs.asdict(result))
            done += 1
            if done % _AUDIT_EVERY == 0 or now() - audited_at > _AUDIT_EVERY_SEC:
                job.write_audit()
                audited_at = now()
        job.write_audit()
        if not done:
            _wait_for_a_change(job, mine, stop, _IDLE_SEC * orders.ease)


def _wait_for_a_change(job: Job, mine: frozenset[int], stop: threading.Event, limit_sec: float) -> None:
    until = now() + limit_sec
    while job.my_tokens is mine and now() < until and not stop.wait(_POLL_SEC):
        pass


if __name__ == '__main__':
    main()
