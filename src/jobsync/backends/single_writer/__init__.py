"""The protocol for any store that lets one caller at a time read a namespace and replace it: a directory under a lock, say.

What each call makes of a namespace is here once, as values: ``Head``, ``Table``, ``Locks``, ``Trails``. A backend adds how the
store gives one caller a *turn*, how it keeps these four, and what it declares of itself: it subclasses ``SingleWriterBackend``
and ``Turn``. The reference backend (``jobsync.backends.memory``) is one, and ``examples/jobsync-files`` another.

Not for stores that do better than one writer at a time, such as the databases: their backends let the store compare.
"""

from __future__ import annotations

from jobsync.backends.single_writer.backend import SingleWriterBackend, Turn
from jobsync.backends.single_writer.head import Head, Moment
from jobsync.backends.single_writer.locks import Locks
from jobsync.backends.single_writer.table import Table
from jobsync.backends.single_writer.trails import Record, Trails

__all__ = ['Head', 'Locks', 'Moment', 'Record', 'SingleWriterBackend', 'Table', 'Trails', 'Turn']
