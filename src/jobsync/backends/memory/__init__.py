"""The reference backend: a store in this process's memory.

Other backends are compared with it. Tests and the simulator run on it, and it serves nodes that are threads of one process.
``memory://name`` is the store of that name in this process, and ends with the process.
"""

from __future__ import annotations

from jobsync.backend import Backend, BackendOptions
from jobsync.backends.memory.backend import MemoryBackend
from jobsync.backends.memory.store import MemorySpace, MemoryStore
from jobsync.errors import ConfigError
from jobsync.hookspecs import BackendPlugin, hookimpl

__all__ = ['MemoryBackend', 'MemorySpace', 'MemoryStore', 'connect', 'jobsync_backend', 'shared_store']

_stores: dict[str, MemoryStore] = {}


def shared_store(name: str = '') -> MemoryStore:
    """Return the store of this process that ``memory://name`` names, made at its first use."""
    # Without a lock, which a forked child may find taken for good: ``setdefault`` is one step.
    return _stores.get(name) or _stores.setdefault(name, MemoryStore())


def connect(url: str, options: BackendOptions) -> Backend:
    """Return the backend for ``memory://`` or ``memory://name``; ``ConfigError`` for any other URL."""
    scheme, separator, name = url.partition('://')
    if scheme != 'memory' or not separator or not set('/?#@:').isdisjoint(name):
        raise ConfigError('a memory URL is memory:// or memory://name, with nothing else in it')
    return MemoryBackend(shared_store(name), options)


@hookimpl
def jobsync_backend() -> BackendPlugin:
    """Describe the backend for ``memory://``."""
    return BackendPlugin(
        name='memory',
        schemes=('memory',),
        connect=connect,
        examples=('memory://',),
        summary='in this process, for tests and threads',
    )
