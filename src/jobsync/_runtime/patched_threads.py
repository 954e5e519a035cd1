"""The refusal of programs whose threads are greenlets: heartbeats would stop whenever the program computes."""

from __future__ import annotations

import sys

from jobsync.errors import UnsupportedOperation

__all__ = ['refuse_patched_threads']


def refuse_patched_threads(node_name: str) -> None:
    """Raise ``UnsupportedOperation`` if gevent or eventlet has put greenlets in the place of this process's threads."""
    if by := _patched_by():
        raise UnsupportedOperation(
            f'node {node_name!r}: {by} has replaced the threads of this process by greenlets, or its queues by others. '
            'jobsync sends its heartbeats from threads, and a greenlet runs only while all others wait: a task that computes for '
            'longer than the lease would lose its tokens in the midst of its work. Keep threads and queues as they are (gevent: '
            'monkey.patch_all(thread=False, queue=False); eventlet: monkey_patch(thread=False)), or run workers as processes or '
            'threads (celery --pool=prefork or threads, gunicorn --worker-class=sync or gthread)'
        )


def _patched_by() -> str | None:
    # A program that has patched its threads has imported these modules.
    gevent, eventlet = sys.modules.get('gevent.monkey'), sys.modules.get('eventlet.patcher')
    if gevent is not None and any(gevent.is_module_patched(name) for name in ('threading', '_thread', 'queue')):
        return 'gevent'
    return 'eventlet' if eventlet is not None and eventlet.is_monkey_patched('thread') else None
