"""The protocol for any store that lets one caller at a time read a namespace and replace it: a directory under a lock, say.

What each call makes of a namespace is here once, as values: ``NamespaceState``, ``AssignmentTable``, ``LockTable``, ``History``.
A backend adds how the store gives one caller a *turn*, how it keeps these four, and what it declares of itself: it subclasses
``SingleWriterBackend`` and ``Transaction``. The reference backend (``jobsync.backends.memory``) is one, and
``examples/jobsync-files`` another.

Not for stores that do better than one writer at a time, such as the databases: their backends let the store compare.
"""

from __future__ import annotations

from jobsync.backends.single_writer.assignment import AssignmentTable
from jobsync.backends.single_writer.backend import SingleWriterBackend, Transaction
from jobsync.backends.single_writer.history import History, Record
from jobsync.backends.single_writer.locks import LockTable
from jobsync.backends.single_writer.namespace import CallContext, NamespaceState

__all__ = [
    'AssignmentTable',
    'CallContext',
    'History',
    'LockTable',
    'NamespaceState',
    'Record',
    'SingleWriterBackend',
    'Transaction',
]
