"""A group of tooz: from a member's coming and going until the others' hash rings have it.

Three members, a process each, look every ``watch_sec`` who is there; others join and leave. From the moment a newcomer's own ring
is made until the others' rings have it, two members answer True for the same tasks; from the moment one is told to leave until
they have it no more, nobody does for those that were its own.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack

from benchmarks.libraries.catalogue import service
from benchmarks.libraries.process import LibraryProcess
from tests.support.servers import EtcdServer, RedisServer

__all__ = ['Group', 'admitted', 'tooz_url']

_OTHERS = 3
_TOOZ = 'tooz'
_POLL_SEC = 0.005
_LONGEST_SEC = 90.0


def admitted(redis: RedisServer) -> str:
    """Return a Redis URL for tooz, with a new user: tooz does not decode passwords, so the user gets a plain one."""
    redis.ask('ACL', 'SETUSER', _TOOZ, 'on', f'>{_TOOZ}', '~*', '&*', '+@all')
    return f'redis://{_TOOZ}:{_TOOZ}@127.0.0.1:{redis.port}'


def tooz_url(etcd: EtcdServer) -> str:
    """Return an etcd URL for tooz with etcd3gw."""
    return f'etcd3+http://{etcd.endpoint}'


class Group:
    """Three members that stay, and one that joins and leaves. Raises ``LibraryUnavailable``."""

    def __init__(self, stack: ExitStack, url: str, watch_sec: float) -> None:
        self._url, self._watch_sec = url, watch_sec
        self._others = [stack.enter_context(self._start(f'stays-{number}')) for number in range(_OTHERS)]
        self._names = {f'stays-{number}' for number in range(_OTHERS)}
        self._came = 0
        self._random = random.Random(1)
        for other in self._others:
            other.ask('join')
        self._seen_by_all(self._names)

    def _start(self, name: str) -> LibraryProcess:
        return service('tooz').start(url=self._url, member=name, watch_sec=self._watch_sec)

    @property
    def member(self) -> LibraryProcess:
        """A member that stays."""
        return self._others[0]

    def _seen_by_all(self, names: set[str]) -> float:
        """Return the time at which the last of the staying members had exactly these members in its ring."""
        deadline = time.monotonic() + _LONGEST_SEC
        while True:
            rings = [other.ask('ring') for other in self._others]
            if all(set(members) == names for members, _ in rings):
                return max(float(since) for _, since in rings)
            if time.monotonic() > deadline:
                raise TimeoutError(f'tooz: after {_LONGEST_SEC:g} s the rings have {[members for members, _ in rings]}')
            time.sleep(_POLL_SEC)

    def _pause(self) -> None:
        """Wait for a random time, so that the event falls between two readings of the others."""
        time.sleep(self._random.uniform(0, self._watch_sec))

    def come_and_go(self) -> tuple[float, float]:
        """Let a member join and leave; return for both how many seconds after the request the last of the others had read it."""
        self._came += 1
        name = f'comes-{self._came}'
        newcomer = self._start(name)
        try:
            self._pause()
            began, _ = newcomer.ask('join')
            join = self._seen_by_all({*self._names, name}) - began
            self._pause()
            began, _ = newcomer.ask('leave')
            return join, self._seen_by_all(self._names) - began
        finally:
            newcomer.__exit__(None, None, None)
