"""Guards for the stores that a task writes to, so that they refuse the late write of a former owner.

``job.fence(task)`` is a number that rises with every owner of a task. A place that remembers the highest it has seen beside what
is written can refuse a lower one::

    fence equal to the one stored     the same ownership writes again     accepted
    higher                            a new owner writes                  accepted, and remembered
    lower                             a former owner writes, too late     ``StaleFence``

For a database there is a condition (``fence_allows`` for SQLAlchemy, ``fence_sql`` for any driver), and ``check_written`` for
the count of rows after it; for Redis ``redis_set``, for etcd ``etcd_put``. All take the number itself: call ``job.fence(task)``
when the work on the task begins, and use that number for all its writes. If ``job.fence`` is called again before each write, a
job that has lost the task meanwhile raises ``NotOwned``, and a job that has it back returns a higher number.
"""

from jobsync.errors import StaleFence
from jobsync.fencing.etcd import etcd_put
from jobsync.fencing.redis import redis_set, redis_set_async
from jobsync.fencing.sql import check_written, fence_allows, fence_sql

__all__ = ['StaleFence', 'check_written', 'etcd_put', 'fence_allows', 'fence_sql', 'redis_set', 'redis_set_async']
