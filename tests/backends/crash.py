"""A PostgreSQL server that crashes and recovers by itself, without being started anew."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from tests.job.waiting import wait_until
from tests.support.servers import PostgresServer

__all__ = ['crash']


def crash(server: PostgresServer, whose: str) -> None:
    """Kill a process of a server as the kernel does for want of memory, and wait until the server serves again.

    ``whose`` is a condition on ``pg_stat_activity``; all processes that meet it end by that.
    """
    query = f'SELECT pid FROM pg_stat_activity WHERE {whose}'
    pids = server.psql(query)
    os.kill(int(pids[0]), signal.SIGKILL)

    def serves_again() -> bool:
        with suppress(RuntimeError):
            return not {*server.psql(query)} & {*pids}
        return False

    wait_until(serves_again, 'the server serves again, without the processes it had')
