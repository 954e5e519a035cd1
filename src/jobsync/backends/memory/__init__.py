"""The reference backend: a store in this process's memory.

It is what every other backend is compared with, what tests and the simulator run on, and enough for nodes that are
threads of one process. ``memory://name`` means the store of that name in this process; all of it goes with the process.
"""

from __future__ import annotations

import threading

from jobsync.backend import Backend, BackendOptions
from jobsync.backends.memory.backend import MemoryBackend
from jobsync.backends.memory.store import Image, MemoryStore, Space
from jobsync.errors import ConfigError
from jobsync.hookspecs import BackendPlugin, hookimpl

__all__ = ['Image', 'MemoryBackend', 'MemoryStore', 'Space', 'connect', 'jobsync_backend', 'shared_store']

_stores: dict[str, MemoryStore] = {}
_stores_lock = threading.Lock()


def shared_store(name: str = '') -> MemoryStore:
    """The store that ``memory://name`` means in this process, made at its first use."""
    with _stores_lock:
        return _stores.setdefault(name, MemoryStore())


def connect(url: str, options: BackendOptions) -> Backend:
    """The backend for ``memory://`` or ``memory://name``."""
    scheme, separator, name = url.partition('://')
    if scheme != 'memory' or not separator or not set('/?#@:').isdisjoint(name):
        raise ConfigError('a memory URL is memory:// or memory://name, with nothing else in it')
    return MemoryBackend(shared_store(name), options)


@hookimpl
def jobsync_backend() -> BackendPlugin:
    """Answer to ``memory://``."""
    return BackendPlugin(
        name='memory',
        schemes=('memory',),
        connect=connect,
        examples=('memory://',),
        summary='in this process, for tests and threads',
    )
