"""``cluster`` of the recipes with short intervals, for the tests."""

import os
import socket

from jobsync import CoordinationConfig

config = CoordinationConfig(
    backend=os.environ['JOBSYNC_BACKEND'],
    minimum_nodes=1,
    total_tokens=60,
    heartbeat_interval_sec=0.5,
    heartbeat_timeout_sec=20,
    rebalance_delay_sec=0.1,
    rebalance_check_interval_sec=1,
)
interval = 1


def node_name() -> str:
    """Return the name that the recipe gives."""
    return os.environ.get('NODE_NAME') or f'{socket.gethostname()}-{os.getpid()}'
