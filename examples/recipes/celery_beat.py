"""Celery without a beat: ``celery -A celery_beat worker`` on each machine, and each of them may send the periodic tasks."""

import sys

from celery import Celery, signals
from work import refresh

from cluster import config, interval, node_name
from jobsync import Job

app = Celery()
app.config_from_envvar('CELERY_CONFIG_MODULE', silent=True)
job = Job(node_name(), coordination_config=config)
refresh_task = app.task(name='refresh')(refresh)


@job.every(interval, name='refresh')
def send_refresh(tick):
    refresh_task.delay(tick.id)


signals.worker_ready.connect(lambda **_: job.__enter__(), weak=False)
# Celery only logs what the line above raises: without this one the worker would go on, and never send a task.
signals.worker_ready.connect(lambda **_: job.is_leaving and sys.exit('could not enter'), weak=False)
signals.worker_shutdown.connect(lambda **_: job.__exit__(None, None, None), weak=False)
