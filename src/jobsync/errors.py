"""Every error jobsync raises, under one root.

A message says what happened, to which node, and what to do. A backend translates the errors of its driver, and keeps them as the
``__cause__``. Errors of a driver reach the user from two kinds of calls only: the user's own statements (``jobsync.database``),
and guards that take the user's own client (``jobsync.fencing``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobsync._core.records import Node

__all__ = [
    'BackendNotFound',
    'BackendUnavailable',
    'ClusterTimeout',
    'ConfigError',
    'ConfigMismatch',
    'Conflict',
    'Evicted',
    'Fenced',
    'JobsyncError',
    'NameTaken',
    'NodeNameInUse',
    'NotOwned',
    'SchemaMismatch',
    'StaleFence',
    'TimelineChanged',
    'UnsupportedOperation',
    'WrongProcess',
]


class JobsyncError(Exception):
    """An error of jobsync: the root of all others."""


class ConfigError(JobsyncError, ValueError):
    """A setting or an argument is not allowed. The message names it, its value and what is allowed."""


class ConfigMismatch(JobsyncError):
    """This node's ``total_tokens``, ``hash_function`` or format is not the cluster's. The message has both.

    Give the node the cluster's settings, or stop all nodes before the first one starts with others.
    """


class NodeNameInUse(JobsyncError):
    """Another live process is registered under this node's name. Give each process a name of its own.

    Attributes:
        name: The node name.
        host: The host of the other process.
        pid: The id of the other process.
    """

    def __init__(self, message: str, name: str = '', host: str = '', pid: int = 0) -> None:
        super().__init__(message)
        self.name = name
        self.host = host
        self.pid = pid


class BackendNotFound(JobsyncError):
    """No backend can be used for the scheme of this URL. The message lists the installed schemes, or what to install."""


class BackendUnavailable(JobsyncError):
    """The store did not answer in time, or not at all: the call may or may not have happened.

    Every call of the backend protocol may be repeated verbatim after this error.
    """


class SchemaMismatch(JobsyncError):
    """The store's tables or records belong to another version of jobsync, or are missing and may not be made."""


class UnsupportedOperation(JobsyncError):
    """The backend cannot do this (SQL, for instance), or no node can run here (greenlets, no global lock, a loop of trio)."""


class ClusterTimeout(JobsyncError):
    """The cluster was not ready in time. The message says what the node waited for.

    The time is ``wait_on_enter``, and ``token_distribution_timeout_sec`` more if enough nodes have joined.
    """


class NotOwned(JobsyncError):
    """This node does not own the task at this moment. Skip the task."""


class StaleFence(JobsyncError):
    """A guarded write was refused: a later owner of the task has written before (``jobsync.fencing``). Give up the task."""


class WrongProcess(JobsyncError):
    """A ``Job`` was used in a fork of the process that entered it, or was copied or pickled. Make a ``Job`` for each process."""


class Evicted(JobsyncError):
    """This incarnation is no longer registered. It must answer False and register again as another one."""


class Fenced(JobsyncError):
    """The commit was planned under a leadership that has ended: the epoch is another one."""


class Conflict(JobsyncError):
    """The records that the commit was planned from have changed. Read and plan again."""


class TimelineChanged(JobsyncError):
    """The namespace is in another timeline than the caller's (rule R8)."""


class NameTaken(JobsyncError):
    """The node name is registered.

    Attributes:
        record: The node that has the name.
    """

    def __init__(self, record: Node) -> None:
        super().__init__(f'node name {record.name!r} is registered by pid {record.pid} on {record.host}')
        self.record = record
