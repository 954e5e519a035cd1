"""Celery's prefork pool: ``celery -A celery_prefork worker --concurrency 4``. Each of its processes enters a job of its own."""

import sys

from celery import Celery, signals
from work import refresh

from cluster import config, interval, node_name
from jobsync import Job

app = Celery()
app.config_from_envvar('CELERY_CONFIG_MODULE', silent=True)


@signals.worker_process_init.connect
def enter(**_):
    app.job = Job(node_name(), coordination_config=config)
    app.job.every(interval)(refresh)
    app.job.__enter__()


# Celery only logs what the function above raises, and goes on. When the process ends, Celery starts another one.
signals.worker_process_init.connect(lambda **_: app.job.is_leaving and sys.exit('could not enter'), weak=False)
signals.worker_process_shutdown.connect(lambda **_: app.job.__exit__(None, None, None), weak=False)
