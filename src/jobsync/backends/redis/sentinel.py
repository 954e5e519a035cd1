"""Asking the sentinels where the master is."""

from __future__ import annotations

import redis
from redis.connection import AbstractConnection

from jobsync.backends.redis.connection import Deadline, close, exchange, opened
from jobsync.backends.redis.url import Sentinels
from jobsync.errors import BackendUnavailable, ConfigError

__all__ = ['master_of']


def master_of(sentinels: Sentinels, kind: type[AbstractConnection], deadline: Deadline) -> tuple[str, int]:
    """Host and port of the master, as the first sentinel says that answers.

    It may be wrong for a moment, while a replica is being promoted: who is no master refuses to write.
    """
    problem: Exception | None = None
    count = len(sentinels.addresses)
    for number, (host, port) in enumerate(sentinels.addresses):
        share = Deadline(deadline.left / (count - number))
        try:
            connection = opened(kind, {**sentinels.parameters, 'host': host, 'port': port}, share)
            try:
                answer = exchange(connection, share, 'SENTINEL', 'get-master-addr-by-name', sentinels.service)
            finally:
                close(connection)
        except redis.ResponseError:
            raise
        except (redis.RedisError, BackendUnavailable) as error:
            problem = error
            continue
        if answer is not None:
            return answer[0].decode(), int(answer[1])
    if problem is not None:
        raise problem
    raise ConfigError(f'no sentinel knows a service {sentinels.service!r}')
