"""What a handle of a server is used for, by many threads and by two processes."""

from __future__ import annotations

import multiprocessing
import threading

from jobsync.backend import Backend
from jobsync.testing.conformance.namespace import Namespace

__all__ = ['beat_and_wait', 'go_on_after_a_fork']


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

    process = multiprocessing.get_context('fork').Process(target=child)
    process.start()
    for _ in range(50):
        namespace.beat(ref)
    process.join(100)
    assert process.exitcode == 0
    assert namespace.node('parent').heartbeat == 50
    assert 'child' in namespace.nodes()
