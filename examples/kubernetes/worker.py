"""A worker for Kubernetes: it answers probes before it has entered, and SIGTERM ends it in good order."""

import datetime as dt
import os
import time

from jobsync import CoordinationConfig, Job


def pending() -> list[str]:
    """Return the ids of what is to be done: replace it by yours."""
    return [f'invoice-{number}' for number in range(20)]


def send(invoice: str) -> None:
    """Do one of them: replace it by yours."""
    print('sent', invoice)


config = CoordinationConfig(
    backend=os.environ['JOBSYNC_BACKEND'],
    minimum_nodes=int(os.environ.get('REPLICAS', '1')),
)
# One date for good, as pods run for days: one that starts tomorrow must not send again what was sent today.
job = Job(os.environ['NODE_NAME'], coordination_config=config, date=dt.date(2026, 1, 1), handle_signals=True)
job.serve(int(os.environ.get('PORT', '8080')), '0.0.0.0')  # noqa: S104 - probes come from the node's address

with job:
    while not job.is_leaving:
        for invoice in job.claim(pending(), once=True):
            send(invoice)
        time.sleep(0.2)
