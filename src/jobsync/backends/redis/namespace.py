"""One namespace on one server: its keys, and its scripts as calls that end in time."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from jobsync.backend import BackendOptions
from jobsync.backends.redis.connection import Deadline
from jobsync.backends.redis.errors import SCHEMA, refusal
from jobsync.backends.redis.pool import RedisPool
from jobsync.backends.redis.script import script
from jobsync.backends.redis.server import check_server
from jobsync.backends.redis.url import RedisServer

__all__ = ['RedisNamespace']

_STATES = 'jobsync:{', '}:state'
"""What stands before and after a namespace's name in the key of its state."""
_SCANS, _KEYS = 100, 1000
"""How many requests go through the keys of a server for its namespaces, and through about how many keys each: no more than a
tenth of a second of the server's time, in portions of a millisecond."""


class RedisNamespace:
    """A namespace, and the connections to its server. Thread-safe."""

    def __init__(self, server: RedisServer, options: BackendOptions) -> None:
        self.server, self.options = server, options
        self._name = options.namespace
        state = self.key('state')
        self.pool = RedisPool(server, state, functools.partial(check_server, server, state))
        self.channel = self.key(f'{server.db}:revision')
        """Where revisions are announced; the databases of a server share their channels."""
        self._of_all = ('1' if server.durable else '0', self.channel, SCHEMA)

    def __str__(self) -> str:
        return f'{self.server} {self._name}'

    def key(self, kind: str) -> str:
        """Return the key that holds a kind of records.

        As with tables, two namespaces that differ only in case are one. All keys have one hash tag, so that a Redis Cluster keeps
        them in one slot, and no two namespaces have keys that begin alike.
        """
        return f'jobsync:{{{self._name.lower()}}}:{kind}'

    def of_server(self) -> set[str]:
        """Return the names of the namespaces on the server, in this database: those among so many keys as are read quickly."""
        (before, after), found, cursor = _STATES, set[str](), b'0'
        deadline = self.deadline()
        for _ in range(_SCANS):
            cursor, keys = self.pool.command(deadline, 'SCAN', cursor, 'MATCH', f'{before}*{after}', 'COUNT', _KEYS)
            for key in keys:
                with contextlib.suppress(UnicodeDecodeError):  # another program's
                    found.add(key.decode().removeprefix(before).removesuffix(after))
            if cursor == b'0':
                break
        return found

    def deadline(self, *, bulk: bool = False) -> Deadline:
        """Return the end of a call that begins now."""
        op_timeout = self.options.op_timeout_sec
        return Deadline(self.options.bulk_timeout_sec, op_timeout) if bulk else Deadline(op_timeout)

    def run(self, script_name: str, /, *rest: object, deadline: Deadline | None = None, **named: object) -> list[Any]:
        """Run a script, and return what follows the ``ok`` of its answer; raise what the script refuses with."""
        code = script(script_name)
        deadline = deadline or self.deadline(bulk=code.is_bulk)
        answer: list[Any] = self.pool.run(code, deadline, *code.words(self.key, self._of_all, named, rest))
        status, *details = answer
        if status == b'ok':
            return details
        raise refusal(status.decode(), details, named, self.server, self._name)
