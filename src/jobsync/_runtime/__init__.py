"""Threads and clocks: what runs an agent against a backend."""

from jobsync._runtime.node import NodeRuntime, Status

__all__ = ['NodeRuntime', 'Status']
