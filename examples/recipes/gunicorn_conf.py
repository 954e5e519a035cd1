"""gunicorn: each worker enters a job of its own, after the fork. No name here may be one of gunicorn's settings."""

from work import refresh

import cluster
from jobsync import Job


def post_worker_init(worker):
    # Others may be busy for long with what this worker is to own, and gunicorn kills a worker that serves nothing for 30 seconds.
    job = worker.wsgi.config['job'] = Job(cluster.node_name(), coordination_config=cluster.config, wait_on_enter=10)
    job.every(cluster.interval)(refresh)
    job.__enter__()


def worker_exit(server, worker):
    worker.wsgi.config['job'].__exit__(None, None, None)
