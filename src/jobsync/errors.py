"""Every error jobsync raises, under one root.

A message says what happened, to which node, and what to do about it. Errors of a driver never reach the user: they are
translated at the backend's border, and kept as the ``__cause__``.
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
    """The root of all errors of this package."""


class ConfigError(JobsyncError, ValueError):
    """A setting or an argument is wrong; the message names it, its value and what is allowed."""


class ConfigMismatch(JobsyncError):
    """This node's cluster settings (total_tokens, hash_function, format) are not the cluster's."""


class NodeNameInUse(JobsyncError):
    """Another live process is registered under this node's name; the message gives its host and pid."""

    def __init__(self, message: str, name: str = '', host: str = '', pid: int = 0) -> None:
        super().__init__(message)
        self.name = name
        self.host = host
        self.pid = pid


class BackendNotFound(JobsyncError):
    """No usable backend answers to this URL scheme."""


class BackendUnavailable(JobsyncError):
    """The store did not answer in time or not at all: the call may or may not have happened.

    Every call of the protocol may be repeated verbatim after this.
    """


class SchemaMismatch(JobsyncError):
    """What the store holds was made by another version of jobsync, or is not there and may not be made."""


class UnsupportedOperation(JobsyncError):
    """The backend in use has no such thing (a SQL connection, for instance), or the process is none to run a node in."""


class ClusterTimeout(JobsyncError):
    """The cluster was not ready within ``wait_on_enter``; the message says what was waited for."""


class NotOwned(JobsyncError):
    """The task is not this node's at this moment."""


class StaleFence(JobsyncError):
    """A write was refused by the place it was meant for: a later owner of the task has written there (``jobsync.fencing``)."""


class WrongProcess(JobsyncError):
    """A ``Job`` was used in a process forked from the one that entered it, or was to be pickled for another one."""


class Evicted(JobsyncError):
    """This incarnation is no longer registered: it must answer False and register anew."""


class Fenced(JobsyncError):
    """The leadership under which this was written has passed on to another epoch."""


class Conflict(JobsyncError):
    """What the write was planned from has changed meanwhile: read again, plan again."""


class TimelineChanged(JobsyncError):
    """The namespace lives in another timeline than the caller believes (rule R8)."""


class NameTaken(JobsyncError):
    """The name is registered; ``record`` is the node that has it."""

    def __init__(self, record: Node) -> None:
        super().__init__(f'node name {record.name!r} is registered by pid {record.pid} on {record.host}')
        self.record = record
