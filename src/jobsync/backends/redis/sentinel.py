"""Find the master of a service by its sentinels."""

from __future__ import annotations

import redis
from redis.connection import AbstractConnection

from jobsync.backends.redis.connection import Deadline, close, exchange, opened
from jobsync.backends.redis.url import Sentinels
from jobsync.errors import BackendUnavailable, ConfigError

__all__ = ['master_of']


def master_of(sentinels: Sentinels, kind: type[AbstractConnection], deadline: Deadline) -> tuple[str, int]:
    """Return host and port of the master, as the first sentinel that answers has it.

    The answer may be outdated while a replica is being promoted. A server that is no master refuses writes.
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
        except (redis.RedisError, BackendUnavailable) as error:
            # t=0  the user of this sentinel has lost its rights, or its password is being changed; the others still answer
            # t=1  an operator has a replica promoted: a node that called no other one would go on writing to the former master
            problem = problem if isinstance(problem, (redis.ResponseError, redis.AuthenticationError)) else error
            continue
        if answer is not None:
            return answer[0].decode(), int(answer[1])
    if problem is not None:
        raise problem
    raise ConfigError(
        f'no sentinel knows a service {sentinels.service!r}: it is the name that stands after "sentinel monitor" in their '
        'configuration'
    )
