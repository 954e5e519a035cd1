"""What a handle of a server is used for, by many threads and by two processes."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable

from jobsync.backend import Backend, NodeRef
from jobsync.testing.conformance.namespace import Namespace

__all__ = ['beat_and_wait', 'beat_beside_a_fork', 'go_on_after_a_fork']


def beat_and_wait(backend: Backend) -> threading.Thread:
    """Have many threads send heartbeats, to their end, while another one waits for a change; return that one."""
    namespace = Namespace(backend)
    ref = namespace.join('a')
    threads = [threading.Thread(target=lambda: [namespace.beat(ref) for _ in range(20)]) for _ in range(8)]
    waiting = threading.Thread(target=lambda: backend.wait(10**9, 100.0))
    for thread in (*threads, waiting):
        thread.start()
    for thread in threads:
        thread.join(100)
    return waiting


def go_on_after_a_fork(namespace: Namespace) -> None:
    """Use the handle in a forked child, and in the parent at the same time."""
    ref = namespace.join('parent')
    namespace.backend.wait(0, 1.0)

    def child() -> None:
        namespace.join('child')
        namespace.backend.wait(0, 1.0)
        namespace.backend.close()

    beat_beside_a_fork(namespace, ref, child)
    assert 'child' in namespace.nodes()


def beat_beside_a_fork(namespace: Namespace, parent: NodeRef, child: Callable[[], object]) -> None:
    """Send heartbeats of a new node while a forked child runs a function, to its end."""
    process = multiprocessing.get_context('fork').Process(target=child)
    process.start()
    for _ in range(50):
        namespace.beat(parent)
    process.join(200)
    assert process.exitcode == 0
    assert namespace.node(parent.name).heartbeat == 50
