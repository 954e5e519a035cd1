"""What a backend declares about its store, and what it is given besides its URL."""

from __future__ import annotations

import enum
import re

import attrs

from jobsync._core.redact import safe_repr
from jobsync.errors import ConfigError

__all__ = ['BackendInfo', 'BackendOptions', 'Reach', 'Space']


class Reach(enum.Enum):
    """How far apart two nodes of a cluster on this store may be."""

    PROCESS = 'process'
    """Threads of one process."""
    HOST = 'host'
    """Processes of one host."""
    NETWORK = 'network'
    """Processes of any hosts that reach the store."""


@attrs.frozen
class BackendInfo:
    """What a backend declares about its store. The conformance suite checks each declaration."""

    name: str
    """The backend's name in lists and messages."""
    durable: bool
    """Whether an acknowledged write survives a crash of the store."""
    push: bool
    """Whether ``wait`` returns promptly after a change. Without push it returns at the end of a poll."""
    reach: Reach
    """How far apart two nodes may be."""
    max_tokens: int
    """The largest ``total_tokens`` that the store carries."""
    max_removals: int = 1000
    """The most nodes that one plan may name as evicted, departed or absent together. The leader splits what is more."""
    sql: bool = False
    """Whether the backend has ``connection()``, ``check_no_writer_here()`` and ``tables`` (see ``jobsync.database``)."""
    space: bool = False
    """Whether the backend has ``read_space()``, which returns a ``Space``: the store keeps old versions of what is written, up to
    a quota."""
    namespaces: bool = False
    """Whether the backend has ``read_namespaces(limit)``: it returns the names of the store's first namespaces, sorted, at most
    ``limit`` of them, for people who have given a wrong name. Some may be left out where it would take long to find them."""
    folder: str | None = None
    """The folder of this host that has the store's files, if they are on every node's host; None for a server and for memory."""


@attrs.frozen
class Space:
    """How much of its quota a store uses, and what of it are old versions of records."""

    used_bytes: int
    quota_bytes: int
    is_assumed: bool
    """Whether the store does not report its quota, and ``quota_bytes`` is the usual one."""
    heartbeat_bytes: float
    """What one heartbeat adds until old versions are deleted."""
    versions: int
    """How many writes, of every client, the store keeps the old versions of."""
    is_trimmed: bool
    """Whether old versions were ever deleted."""
    alarms: tuple[str, ...] = ()
    """What the store itself reports as wrong, in its words: that it refuses every write because its space is used up."""


@attrs.frozen
class BackendOptions:
    """What a backend is given besides its URL."""

    namespace: str = 'sync_'
    """The prefix of table and key names: ASCII letters, digits and underscores. Namespaces that differ only in case are one."""
    op_timeout_sec: float = 5.0
    """The time in which a call must end."""
    bulk_timeout_sec: float = 60.0
    """The time in which a call marked *bulk* must end."""

    def __attrs_post_init__(self) -> None:
        """Check the namespace, a part of names of tables and keys. No validator does: a program may disable those."""
        if not isinstance(self.namespace, str) or not re.fullmatch('[A-Za-z0-9_]{1,100}', self.namespace):
            raise ConfigError(f'appname is {safe_repr(self.namespace)}: must be up to 100 letters, digits and underscores')
