"""Many nodes in one process, each with its own threads. The nodes share a few backends.

A node makes the same calls as in a process of its own, and all calls reach the store. Two things differ. One thread waits for the
store's hints and takes them to all nodes of a host: threads of their own would all wake for every revision, in one interpreter.
And only a few calls are under way at once, because so many threads of one interpreter would delay each other; the time of a call
has no wait for a backend. As in a real node, no heartbeat waits for other calls: one backend is for heartbeats only. Each
backend keeps its connection, as that of a real node does: connecting takes longer than a call.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

import attrs

from jobsync import CoordinationConfig, plugins
from jobsync._core.agent.phase import Phase
from jobsync._runtime import NodeRuntime
from jobsync._runtime.change_listener import ChangeListener
from jobsync._runtime.startup import node_config
from jobsync.backend import Backend, BackendInfo
from jobsync.testing.faults import FaultyBackend
from jobsync_bench.processes.serving import order, serve

__all__ = ['main']

P = ParamSpec('P')
T = TypeVar('T')

_BACKENDS = 4
"""One for heartbeats, the others for all other calls."""
_FORM_SEC = 3600.0


class Hints:
    """Change hints for all nodes, from one thread."""

    def __init__(self, backend: Backend) -> None:
        self._nodes: list[NodeRuntime] = []
        self._listener = ChangeListener(backend, self._give)
        threading.Thread(target=self._listen, name='jobsync-hints', daemon=True).start()

    def give_to(self, node: NodeRuntime) -> None:
        """Give each later hint to this node too."""
        self._nodes.append(node)

    def _give(self, revision: int) -> bool:
        is_due = [node.take_hint(revision) for node in tuple(self._nodes)]  # each takes the hint
        return any(is_due)

    def _listen(self) -> None:
        while True:
            self._listener.listen()


class Turns:
    """Backends that threads take in the order in which they came. Otherwise one may wait while others have many turns."""

    def __init__(self, backends: Iterable[Backend]) -> None:
        self._free, self._waiting, self._lock = deque(backends), deque[SimpleQueue[Backend]](), threading.Lock()

    def take(self) -> Backend:
        """Wait for a backend, and take it."""
        with self._lock:
            if self._free:
                return self._free.popleft()
            turn = SimpleQueue[Backend]()
            self._waiting.append(turn)
        return turn.get()

    def give_back(self, backend: Backend) -> None:
        """Give it to the thread that has waited longest, or keep it for the next one."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().put(backend)
            else:
                self._free.append(backend)


class Counted(FaultyBackend):
    """The backend of one node, which counts calls and their CPU, and times heartbeats."""

    def __init__(self, inner: Backend, turns: Turns, turns_to_beat: Turns) -> None:
        super().__init__(inner)
        self._turns, self._turns_to_beat = turns, turns_to_beat
        self.counts: Counter[str] = Counter()
        self.cpu: Counter[str] = Counter()
        """CPU nanoseconds by call. What the store takes is no part of it."""
        self.heartbeats: list[float] = []

    def _call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        name = method.__name__
        turns = self._turns_to_beat if name == 'heartbeat' else self._turns
        backend = turns.take()
        self.counts[name] += 1
        start, cpu = time.perf_counter(), time.thread_time_ns()
        try:
            answer: T = getattr(backend, name)(*args, **kwargs)
            return answer
        finally:
            self.cpu[name] += time.thread_time_ns() - cpu
            if name == 'heartbeat':
                self.heartbeats.append(time.perf_counter() - start)
            turns.give_back(backend)

    @property
    def info(self) -> BackendInfo:
        """The declarations of the inner backend, except that the node itself need not wait for hints."""
        return attrs.evolve(self.inner.info, push=False)


class Host:
    """All nodes of this process."""

    def __init__(self, backends: Sequence[Backend], config: CoordinationConfig) -> None:
        self._backend, self._config = backends[0], config
        self._turns, self._turns_to_beat, self._hints = Turns(backends[1:]), Turns(backends[:1]), Hints(backends[0])
        self._nodes: list[tuple[NodeRuntime, Counted]] = []

    def enter(self, first: int, end: int) -> None:
        """Start the nodes of these numbers, without waiting for them."""
        for number in range(first, end):
            config = node_config(
                f'node-{number:04}', self._config, self._backend.info, create=True, wait_on_enter=_FORM_SEC, announces=False
            )
            way = Counted(self._backend, self._turns, self._turns_to_beat)
            node = NodeRuntime(way, config)
            self._nodes.append((node, way))
            self._hints.give_to(node)
            node.start()

    def settled(self) -> int:
        """Return the number of nodes that have their whole share. Raises the error that stopped a node."""
        for node, _ in self._nodes:
            if node.status.failure is not None:
                raise node.status.failure
        return sum(node.status.settled for node, _ in self._nodes)

    def cost(self) -> dict[str, Any]:
        """Return what followers and the leader called since the last request, the CPU of it, and the times of all heartbeats."""
        calls: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        most, heartbeats, cpu = 0, [], Counter[str]()
        for node, way in self._nodes:
            counts, way.counts = way.counts, Counter()
            taken, way.heartbeats = way.heartbeats, []
            used, way.cpu = way.cpu, Counter()
            cpu += used
            calls[node.status.leads] += counts
            heartbeats += taken
            most = max(most, 0 if node.status.leads else counts.total())
        return {
            'follower': calls[False],
            'leader': calls[True],
            'busiest follower': most,
            'cpu': cpu,
            'heartbeats': heartbeats,
            'lost': sum(node.status.phase is not Phase.MEMBER for node, _ in self._nodes),
        }

    def leader_cpu(self) -> dict[str, float]:
        """Return the CPU seconds that the threads of the leader have taken, by its name, if it is of this process."""
        names = [node.config.name for node, _ in self._nodes if node.status.leads]
        threads = threading.enumerate() if names else []
        return {name: sum(cpu_seconds_of(thread) for thread in threads if thread.name.endswith(f'-{name}')) for name in names}

    def leave(self) -> None:
        """Let all nodes leave."""
        for node, _ in self._nodes:
            node.request_leave()
        for node, _ in self._nodes:
            node.wait_until_over(10)
            node.close()


def cpu_seconds_of(thread: threading.Thread) -> float:
    """Return the CPU seconds of a thread, from Linux; 0 if it has ended."""
    try:
        times = Path(f'/proc/self/task/{thread.native_id}/schedstat').read_text()
    except FileNotFoundError:
        return 0.0
    return int(times.split()[0]) / 1e9


def main(url: str, namespace: str, tokens: int) -> None:
    """Host nodes until the end of the input. The nodes then end without leaving, because their store ends too."""
    config = CoordinationConfig(backend=url, appname=namespace, total_tokens=tokens, minimum_nodes=1)
    with ExitStack() as stack:
        backends = [stack.enter_context(closing(plugins.connect(url, config.options))) for _ in range(_BACKENDS)]
        for backend in backends:
            backend.open(config.settings, True)
        host = Host(backends, config)
        serve(
            {
                'enter': host.enter,
                'settled': host.settled,
                'cost': host.cost,
                'cpu': time.process_time,
                'leader_cpu': host.leader_cpu,
                'leave': host.leave,
            }
        )


if __name__ == '__main__':
    main(**order())
