"""The one hook of the plugin interface.

A distribution with a backend names a module under the entry point group ``jobsync`` and implements the hook there:

    import jobsync.hookspecs as jobsync

    @jobsync.hookimpl
    def jobsync_backend():
        return jobsync.BackendPlugin(name='files', schemes=('files',), connect=connect)

That module must not import a driver: ``connect`` does, when it is called.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pluggy

from jobsync.backend import Backend, BackendOptions

__all__ = ['GROUP', 'BackendPlugin', 'hookimpl', 'hookspec', 'jobsync_backend']

GROUP = 'jobsync'

hookspec = pluggy.HookspecMarker('jobsync')
hookimpl = pluggy.HookimplMarker('jobsync')


@attrs.frozen
class BackendPlugin:
    """A kind of backend that a URL can choose."""

    name: str
    schemes: tuple[str, ...]
    """URL schemes that choose it, in lower case and without ``://``."""
    connect: Callable[[str, BackendOptions], Backend]
    """Returns a backend for a whole URL. Reaches no server (``Backend.open`` does); raises ``ConfigError`` for a bad URL."""
    summary: str = ''
    """One line for ``jobsync backends``."""
    examples: tuple[str, ...] = ()
    """URLs that ``connect`` accepts, one for each set of declarations there can be. Their declarations are listed and documented.
    Empty: the first scheme with an empty rest."""
    drivers: tuple[str, ...] = ()
    """Distributions that it works with, whose versions are listed."""


@hookspec
def jobsync_backend() -> BackendPlugin:  # type: ignore[empty-body]
    """Describe one kind of backend."""
