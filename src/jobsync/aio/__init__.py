"""``AsyncJob``: a ``Job`` for programs that run on an event loop."""

from jobsync.aio.job import AsyncJob

__all__ = ['AsyncJob']
