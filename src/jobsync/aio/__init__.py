"""``AsyncJob``: a ``Job`` for programs that run on an event loop."""

from jobsync.aio.job import AsyncJob
from jobsync.aio.singleton import AsyncSingleton, AsyncTurn

__all__ = ['AsyncJob', 'AsyncSingleton', 'AsyncTurn']
