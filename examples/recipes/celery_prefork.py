"""Celery's prefork pool: ``celery -A celery_prefork worker --concurrency 4``. Each of its processes enters a job of its own."""

from celery import Celery, signals
from work import refresh

from cluster import config, interval, node_name
from jobsync import Job

app = Celery()
app.config_from_envvar('CELERY_CONFIG_MODULE', silent=True)
jobs = []


@signals.worker_process_init.connect
def enter(**_):
    jobs.append(Job(node_name(), coordination_config=config))
    jobs[0].every(interval)(refresh)
    jobs[0].__enter__()


@signals.worker_process_shutdown.connect
def leave(**_):
    jobs[0].__exit__(None, None, None)
