"""A process for systemd, or any other supervisor: ``python worker.py``."""

from work import refresh

from cluster import config, interval, node_name
from jobsync import Job

with Job(node_name(), coordination_config=config, handle_signals=True) as job:
    job.every(interval)(refresh)
    job.run_scheduled()
