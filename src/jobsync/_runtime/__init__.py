"""Threads and clocks: what runs an agent against a backend."""

from jobsync._runtime.node import NodeRuntime
from jobsync._runtime.status import Status

__all__ = ['NodeRuntime', 'Status']
