"""The state of a cluster and the health of a worker over HTTP: the extra ``web``.

``jobsync web`` serves a cluster; ``Job.serve`` serves a worker, with the cluster that it is in. Nothing can be changed there,
except with ``jobsync web --steer`` and its token.
"""

from __future__ import annotations

try:
    from jobsync.web.app import cluster_app, job_app
    from jobsync.web.security import allowed_hosts
    from jobsync.web.server import Server
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"jobsync.web needs {error.name}: pip install 'jobsync[web]'", name=error.name) from error

__all__ = ['Server', 'allowed_hosts', 'cluster_app', 'job_app']
