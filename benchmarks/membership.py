"""tooz: from a member's coming and going until the others' hash rings have it. Ours and the peer's are ``takeover``.

    python -m benchmarks.membership
    python -m benchmarks.membership --store redis --watch-sec 10 --kill

Three members, a process each, look every ``--watch-sec`` who is there; a fourth joins and leaves. From the moment its own ring is
made until the others' rings have it, two members answer True for the same tasks (``owned by two``); from the moment it is told to
leave until they have it no more, nobody does for those that were its own (``unowned``).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

import attrs
from benchmarks.compare import Other, machine, markdown
from benchmarks.rivals.catalogue import service

from jobsync.testing.servers import EtcdServer, RedisServer

__all__ = ['Change', 'Group', 'admitted', 'tooz_url']

_OTHERS = 3
_TOOZ = 'tooz'
_POLL_SEC = 0.005
_LONGEST_SEC = 90.0


@attrs.frozen
class Change:
    """One member's coming or going, in seconds from the moment it was told to."""

    own_sec: float
    """Until it was done itself."""
    seen_sec: float
    """Until the last of the others had seen it."""

    @property
    def wrong_sec(self) -> float:
        """How long members disagreed."""
        return self.seen_sec - self.own_sec


def admitted(redis: RedisServer) -> str:
    """A Redis URL for tooz, which takes a password from it as it stands: so it gets a user with a plain one."""
    redis.ask('ACL', 'SETUSER', _TOOZ, 'on', f'>{_TOOZ}', '~*', '&*', '+@all')
    return f'redis://{_TOOZ}:{_TOOZ}@127.0.0.1:{redis.port}'


def tooz_url(etcd: EtcdServer) -> str:
    """An etcd URL for tooz, by etcd3gw."""
    return f'etcd3+http://{etcd.endpoint}'


class Group:
    """The three that stay, and those who come and go. Raises ``RivalUnavailable``."""

    def __init__(self, stack: ExitStack, url: str, watch_sec: float) -> None:
        self._url, self._watch_sec = url, watch_sec
        self._others = [stack.enter_context(self._start(f'stays-{number}')) for number in range(_OTHERS)]
        self._names = {f'stays-{number}' for number in range(_OTHERS)}
        self._came = 0
        self._random = random.Random(1)
        for other in self._others:
            other.ask('join')
        self._seen_by_all(self._names)

    def _start(self, name: str) -> Other:
        return service('tooz').start(url=self._url, member=name, watch_sec=self._watch_sec)

    @property
    def member(self) -> Other:
        """One of those that stay."""
        return self._others[0]

    def _seen_by_all(self, names: set[str]) -> float:
        """The moment at which the last of those who stay had exactly these members in its ring."""
        deadline = time.monotonic() + _LONGEST_SEC
        while True:
            rings = [other.ask('ring') for other in self._others]
            if all(set(members) == names for members, _ in rings):
                return max(float(since) for _, since in rings)
            if time.monotonic() > deadline:
                raise TimeoutError(f'tooz: after {_LONGEST_SEC:g} s the rings have {[members for members, _ in rings]}')
            time.sleep(_POLL_SEC)

    def _pause(self) -> None:
        """So that the others are found at any moment between two looks."""
        time.sleep(self._random.uniform(0, self._watch_sec))

    def come_and_go(self, *, killed: bool = False) -> tuple[Change, Change]:
        """One more joins, and leaves or is killed."""
        self._came += 1
        name = f'comes-{self._came}'
        newcomer = self._start(name)
        try:
            self._pause()
            began, joined = newcomer.ask('join')
            join = Change(joined - began, self._seen_by_all({*self._names, name}) - began)
            self._pause()
            if killed:
                began = left = time.monotonic()
                os.kill(newcomer.pid, signal.SIGKILL)
            else:
                began, left = newcomer.ask('leave')
            return join, Change(left - began, self._seen_by_all(self._names) - began)
        finally:
            newcomer.__exit__(None, None, None)


@contextmanager
def started(store: str) -> Iterator[str]:
    """The URL of a server for tooz."""
    if store == 'redis':
        with closing(RedisServer()) as redis:
            yield admitted(redis)
    else:
        with closing(EtcdServer()) as etcd:
            yield tooz_url(etcd)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--store', action='append', choices=('redis', 'etcd'))
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--watch-sec', type=float, default=1.0)
    parser.add_argument('--kill', action='store_true', help='one more round, in which the member is killed')
    options = parser.parse_args(arguments)
    rows = []
    for store in options.store or ('redis', 'etcd'):
        with started(store) as url, ExitStack() as stack:
            group = Group(stack, url, options.watch_sec)
            changes = [group.come_and_go() for _ in range(options.rounds)]
            for what, kind in (('joins', 0), ('leaves', 1)):
                rows.append(row(store, what, [each[kind] for each in changes]))
            if options.kill:
                rows.append(row(store, 'is killed', [group.come_and_go(killed=True)[1]]))
            lookup = {kind: group.member.run(f'lookup {kind} 1 20000') for kind in ('int', 'str', 'Task')}
        print(store, 'belongs_to_self, ns:', *(f'{kind} {1e9 * took:.0f}' for kind, took in lookup.items()), flush=True)
    columns = ['store', 'a member', 'itself s', 'seen by all s', 'owned by two s', 'unowned s']
    print(machine(), f'tooz, looking every {options.watch_sec:g} s', markdown(columns, rows), sep='\n\n')


def row(store: str, what: str, changes: Sequence[Change]) -> list[str]:
    own, seen, wrong = (
        statistics.median(getattr(change, name) for change in changes) for name in ('own_sec', 'seen_sec', 'wrong_sec')
    )
    wrongs = (f'{wrong:.2f}', '') if what == 'joins' else ('', f'{seen:.2f}')
    return [store, what, f'{own:.3f}', f'{seen:.2f}', *wrongs]


if __name__ == '__main__':
    main(sys.argv[1:])
