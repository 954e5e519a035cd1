"""``CoordinationConfig``: every setting of a node, with its default, unit and range.

**Intervals.** Where its backend pushes, a node learns of a change at once. An interval between polls is the longest delay if no
hint arrives. Intervals do not decide ownership, and may differ from node to node.

**Cluster settings** are ``total_tokens`` and ``hash_function``. The first node stores them, and a node with other values is
refused.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import attrs

from jobsync._core.hashing import DEFAULT_HASH, HASH_FUNCTIONS
from jobsync._core.records import Settings
from jobsync._core.redact import safe_repr
from jobsync.backend import Backend, BackendOptions
from jobsync.config import checks
from jobsync.errors import ConfigError

__all__ = ['CoordinationConfig']

_DEFAULT_APPNAME = 'sync_'

_WEEK = 7 * 24 * 3600
_poll = checks.number(0.01, _WEEK, 'seconds')
_delay = checks.number(0, _WEEK, 'seconds')
_bound = checks.number(0.01, 3600, 'seconds')
_optional_store: Any = attrs.validators.optional(checks.store)
_optional_count = attrs.validators.optional(checks.integer(1, 100_000))
_optional_days = attrs.validators.optional(checks.number(0.0001, 36_500, 'days'))
_optional_text = attrs.validators.optional(checks.text())
_optional_secret = attrs.validators.optional(checks.text(secret=True))


_UNPUBLISHED = frozenset({'backend', 'appname', 'host', 'port', 'dbname', 'user', 'password'})
"""Fields that say where the store is, and may hold secrets."""


def _masked(secret: str | None) -> str:
    return repr(None if secret is None else '***')


@checks.keywords_only
@attrs.frozen(kw_only=True)
class CoordinationConfig:
    """All settings of a node. Fields are given by name.

    Raises:
        ConfigError: A field does not exist, a value has the wrong type or is out of range, or two values exclude each other.
    """

    enabled: bool = attrs.field(default=True, validator=checks.flag)
    """False: there is no cluster, and this node owns every task."""

    total_tokens: int = attrs.field(default=10_000, validator=checks.integer(1, 2**30))
    """The number of tokens that tasks are hashed into. A cluster setting: equal on all nodes."""

    heartbeat_interval_sec: float = attrs.field(default=5, validator=_poll)
    """The time between two heartbeats. If the backend does not push, each of the two steps of a hand-over may take as long."""

    heartbeat_timeout_sec: float = attrs.field(default=15, validator=_poll)
    """A node without a new heartbeat for this long, on an observer's own clock, is considered dead."""

    rebalance_check_interval_sec: float = attrs.field(default=30, validator=_poll)
    """Fallback poll: the longest delay until the leader reads a join, a leave or a task lock, if no hint arrives."""

    dead_node_check_interval_sec: float = attrs.field(default=10, validator=_poll)
    """Fallback poll: the longest delay until the leader reads which nodes have been silent for ``heartbeat_timeout_sec``."""

    token_refresh_initial_interval_sec: float = attrs.field(default=5, validator=_poll)
    """Fallback poll: the longest delay until a node reads a new assignment in its first five minutes, if no hint arrives."""

    token_refresh_steady_interval_sec: float = attrs.field(default=30, validator=_poll)
    """Fallback poll: the longest delay until a node reads a new assignment after its first five minutes, if no hint arrives."""

    locks_enabled: bool = attrs.field(default=True, validator=checks.flag)
    """False: this node registers no task locks and, as leader, places tasks as if there were none."""

    leader_lock_timeout_sec: float = attrs.field(default=30, validator=_poll)
    """Accepted so that existing configurations stay valid, without effect: leadership is a comparison, not a lock to wait for."""

    health_check_interval_sec: float = attrs.field(default=30, validator=_poll)
    """Accepted so that existing configurations stay valid. Without effect: ``am_i_healthy`` checks the present state."""

    backend: str | Backend | None = attrs.field(default=None, validator=_optional_store, repr=checks.hides_password)
    """The store: a URL such as ``sqlite:///jobs.db``, or a backend. None: taken from other sources (see ``resolve``)."""

    appname: str | None = attrs.field(default=None, validator=attrs.validators.optional(checks.prefix))
    """The namespace: a prefix of table names and keys. Clusters with different prefixes can share a store. None: taken from other
    sources (see ``resolve``), else ``sync_``."""

    minimum_nodes: int | None = attrs.field(default=None, validator=_optional_count)
    """If given, the first distribution of a cluster is made as soon as this many nodes have joined, and not before. If not given,
    it is made ``wait_on_enter`` after the start of the first node. A cluster after its first distribution is not delayed."""

    hash_function: str = attrs.field(default=DEFAULT_HASH, validator=checks.choice(HASH_FUNCTIONS))
    """The function that turns a task's id into a token. A cluster setting: equal on all nodes."""

    lease_margin: float = attrs.field(default=0.1, validator=checks.number(0.01, 0.5))
    """The fraction of ``heartbeat_timeout_sec`` by which a node's lease ends before other nodes may consider it dead. It must be
    more than the clocks of two machines drift apart in that time."""

    rebalance_delay_sec: float = attrs.field(default=0.5, validator=_delay)
    """How long the leader gathers joins before it plans, so that ten nodes that join together move tokens once."""

    handover_timeout_sec: float = attrs.field(default=30, validator=_delay)
    """How long a node that must give up a token may continue with the tasks it is busy with."""

    shutdown_timeout_sec: float = attrs.field(default=20, validator=_delay)
    """How long a node that leaves waits for the tasks that other threads have in flight, and for ``on_revoke``. Meanwhile it
    claims nothing, and its tokens that are not in use are handed over."""

    rejoin_grace_sec: float = attrs.field(default=0, validator=_delay)
    """How long the leader reserves the tokens of a node that has left, without an owner, so that a restart under the same name
    moves nothing. The leader's own setting is used: give all nodes the same."""

    retention_days: float | None = attrs.field(default=None, validator=_optional_days)
    """For how many days claims, audits and rebalances are kept. The leader deletes older ones, and its own setting is used: give
    all nodes the same. Claims without an audit stay, as incomplete work. A task whose audit is deleted is not known to be
    complete, and a ``batch`` for its date would do it again. None: everything is kept until ``purge`` is called."""

    token_distribution_timeout_sec: float = attrs.field(default=60, validator=_poll)
    """How long past ``wait_on_enter`` a node waits to become part of a distribution before it gives up with ``ClusterTimeout``.
    If fewer than ``minimum_nodes`` have joined when ``wait_on_enter`` is over, the node gives up at once."""

    known_death: bool = attrs.field(default=True, validator=checks.flag)
    """Whether the other nodes on this node's host learn at once that this node's process was killed, by a file lock that it
    holds, so that its tokens do not wait for ``heartbeat_timeout_sec``. Linux only. False: its tokens always wait, and it watches
    no other node."""

    known_death_dir: str | None = attrs.field(default=None, validator=_optional_text)
    """The folder for the file locks of ``known_death``, which are in a subfolder of the user's own. Nodes that are to watch each
    other need the same folder. None: ``/dev/shm``, or else the folder for temporary files."""

    progress_timeout_sec: float | None = attrs.field(default=None, validator=attrs.validators.optional(_bound))
    """How long a node that owns work may show no progress: it neither requests work, nor finishes any, nor calls ``keep_going``.
    After that it is unhealthy, and gives its share to other nodes until it shows progress. None: for ever."""

    max_attempts: int | None = attrs.field(default=None, validator=attrs.validators.optional(checks.integer(2, 1000)))
    """The number of lost workers at which a task goes to quarantine, where no node may claim it. A worker is lost at a task if it
    disappears while it attempts the task. None: attempts are not counted. 3 is a good choice. Give all nodes the same."""

    op_timeout_sec: float = attrs.field(default=5, validator=_bound)
    """The longest duration of one call to the store. A call of your code is repeated for twice as long before it raises."""

    bulk_timeout_sec: float = attrs.field(default=60, validator=_bound)
    """The longest duration of a call that carries many records."""

    weight: float = attrs.field(default=1, validator=checks.weight)
    """This node's share of the tokens relative to the others'. 0: owns nothing."""

    host: str | None = attrs.field(default=None, validator=_optional_text)
    """PostgreSQL by parts, in place of ``backend``: the server's name, address or socket directory."""

    port: int | None = attrs.field(default=None, validator=attrs.validators.optional(checks.integer(1, 65_535)))
    """The server's port."""

    dbname: str | None = attrs.field(default=None, validator=_optional_text)
    """The database's name."""

    user: str | None = attrs.field(default=None, validator=_optional_text)
    """The user name."""

    password: str | None = attrs.field(default=None, validator=_optional_secret, repr=_masked)
    """The password. Never shown."""

    def __attrs_post_init__(self) -> None:
        """Validate the fields that depend on each other, after those that attrs may have left out."""
        checks.check_fields(self)
        interval, timeout = self.heartbeat_interval_sec, self.heartbeat_timeout_sec
        if timeout <= interval:
            raise ConfigError(
                f'heartbeat_timeout_sec is {timeout}: must be more than heartbeat_interval_sec, which is {interval}'
            )
        if self.lease_sec <= interval:
            raise ConfigError(
                f'heartbeat_timeout_sec is {timeout}: less the lease_margin of {self.lease_margin} it is {self.lease_sec:g}, '
                f'which must be more than heartbeat_interval_sec, which is {interval}, or the lease ends between heartbeats'
            )
        parts = [name for name in ('port', 'dbname', 'user', 'password') if getattr(self, name) is not None]
        if self.host is None and parts:
            raise ConfigError(
                f'{parts[0]} is given without host: must be host and dbname, with port, user and password as needed'
            )
        if self.host is not None and self.dbname is None:
            raise ConfigError(f'host is {safe_repr(self.host)} without dbname: must be host and dbname together')
        if self.host is not None and self.backend is not None:
            raise ConfigError(
                f'backend is {checks.hides_password(self.backend)} and host is {safe_repr(self.host)}: must be one or the other'
            )

    @property
    def store(self) -> str | Backend | None:
        """Return ``backend``, or the URL made of ``host`` and its fields; None if neither is given. May hold a password."""
        if self.host is None or self.dbname is None:
            return self.backend
        user = '' if self.user is None else quote(self.user, safe='')
        password = '' if self.password is None else ':' + quote(self.password, safe='')
        port = '' if self.port is None else f':{self.port}'
        login = f'{user}{password}@' if user or password else ''
        database = quote(self.dbname, safe='')
        if self.host.startswith('/'):  # a socket's directory cannot stand where a URL has its host
            options = f'?host={quote(self.host, safe="")}' + (f'&port={self.port}' if self.port else '')
            return f'postgresql://{login}/{database}{options}'
        host = f'[{quote(self.host, safe=":")}]' if ':' in self.host else quote(self.host, safe='')
        return f'postgresql://{login}{host}{port}/{database}'

    @property
    def lease_sec(self) -> float:
        """Return how long a node may claim, counted from the sending of a heartbeat that succeeds (rule R1)."""
        return self.heartbeat_timeout_sec * (1 - self.lease_margin)

    @property
    def settings(self) -> Settings:
        """Return the cluster settings."""
        return Settings(total_tokens=self.total_tokens, hash_function=self.hash_function)

    @property
    def published_settings(self) -> str:
        """Return what a node's record has of these fields, as JSON: everything but the store and how to reach it."""
        return json.dumps(
            {field: value for field, value in attrs.asdict(self, recurse=False).items() if field not in _UNPUBLISHED}
        )

    @property
    def options(self) -> BackendOptions:
        """Return what a backend is given besides its URL."""
        return BackendOptions(
            self.appname or _DEFAULT_APPNAME, op_timeout_sec=self.op_timeout_sec, bulk_timeout_sec=self.bulk_timeout_sec
        )
