"""``AsyncJob``: a ``Job`` for programs on an event loop."""

from jobsync.aio.job import AsyncJob

__all__ = ['AsyncJob']
