"""A member of a partitioned group of tooz, in a process of its own, for tooz's environment. Each line of input is a verb.

    join     become a member: the moments it began, and its own ring was there
    leave    leave the group: the moments it began, and it had returned
    ring     the members of its ring, and the moment of the last change it saw
    lookup KIND OWNED CALLS    seconds of CPU for ``belongs_to_self``, over ids of a kind of ``ids`` that are its own or not

As its documentation has it, a thread of tooz's own sends heartbeats, and one of the user's calls ``run_watchers``: that is when a
member learns who came and went. tooz leaves the interval to its user; the services of OpenStack take 1 to 10 seconds.
Moments are of the clock that all processes of a host share.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from benchmarks.libraries.ids import ids
from benchmarks.libraries.serving import per_call, serve
from tooz import coordination  # type: ignore[import-not-found,unused-ignore]

_GROUP = b'benchmark'


class Task:
    """An object that tells the ring what to know it by, with that at hand."""

    def __init__(self, number: int) -> None:
        self._key = str(number).encode()

    def __tooz_hash__(self) -> bytes:
        """See tooz's ``Partitioner``."""
        return self._key


class Member:
    """A coordinator, and the thread that reads the membership."""

    def __init__(self, url: str, member: str, watch_sec: float) -> None:
        self._coordinator = coordination.get_coordinator(url, member.encode())
        self._coordinator.start(start_heart=True)
        self._watch_sec = watch_sec
        self._partitioner: Any = None
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._seen: tuple[list[str], float] = ([], time.monotonic())

    def join(self) -> list[float]:
        """Become a member."""
        began = time.monotonic()
        self._partitioner = self._coordinator.join_partitioned_group(_GROUP)
        self._look()
        joined = time.monotonic()
        self._watcher.start()
        return [began, joined]

    def leave(self) -> list[float]:
        """Leave the group; this process does not join again."""
        self._over.set()
        self._watcher.join()
        began = time.monotonic()
        self._coordinator.leave_partitioned_group(self._partitioner)
        left = time.monotonic()
        self._coordinator.stop()
        return [began, left]

    def ring(self) -> tuple[list[str], float]:
        """Return the members of this member's ring, and the time of its last change."""
        return self._seen

    def _watch(self) -> None:
        while not self._over.wait(self._watch_sec):
            self._coordinator.run_watchers()
            self._look()

    def _look(self) -> None:
        members = sorted(name.decode() for name in self._partitioner.ring.nodes)
        if members != self._seen[0]:
            self._seen = (members, time.monotonic())

    def lookup(self, kind: str, owned: bool, calls: int) -> float:
        """Return the seconds per call."""
        ours = self._partitioner.belongs_to_self
        return per_call(ours, ids(kind, owned, calls, ours, Task))


def main(url: str, member: str, watch_sec: str) -> None:
    me = Member(url, member, float(watch_sec))

    def run(line: str) -> Any:
        match line.split():
            case ['join']:
                return me.join()
            case ['leave']:
                return me.leave()
            case ['ring']:
                return me.ring()
            case ['lookup', kind, owned, calls]:
                return me.lookup(kind, owned == '1', int(calls))
        raise ValueError(line)

    serve(member, run)


if __name__ == '__main__':
    main(*sys.argv[1:])
