"""What all recipes share: the store, the name of a process, and how often there is something to do."""

import os
import socket

from jobsync import CoordinationConfig

config = CoordinationConfig(backend=os.environ.get('JOBSYNC_BACKEND', 'sqlite:///jobs.db'), minimum_nodes=1)
interval = 60


def node_name() -> str:
    """Return the name of a pod or service if there is one, otherwise one of this process."""
    return os.environ.get('NODE_NAME') or f'{socket.gethostname()}-{os.getpid()}'
