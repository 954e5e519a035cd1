"""The protocol for a store that lets one caller at a time read a namespace and replace it, such as a directory under a lock.

The effect of each call is stated here once, on values: ``NamespaceState``, ``AssignmentTable``, ``LockTable``, ``History``. A
backend subclasses ``SingleWriterBackend`` and ``Transaction``. It adds how one caller gets the namespace, how the four values are
stored, and what the store guarantees. The backend in memory and ``examples/jobsync-files`` are built on it.

A store that compares by itself, such as a database, does not need it: its writers need not wait for each other.
"""

from __future__ import annotations

from jobsync.backends.single_writer.assignment import AssignmentTable, SharedRow
from jobsync.backends.single_writer.backend import SingleWriterBackend, Transaction
from jobsync.backends.single_writer.history import Attempts, History, Record, Row
from jobsync.backends.single_writer.locks import LockTable
from jobsync.backends.single_writer.namespace import CallContext, NamespaceState

__all__ = [
    'AssignmentTable',
    'Attempts',
    'CallContext',
    'History',
    'LockTable',
    'NamespaceState',
    'Record',
    'Row',
    'SharedRow',
    'SingleWriterBackend',
    'Transaction',
]
