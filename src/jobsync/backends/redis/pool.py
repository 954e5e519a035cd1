"""Connections to the server: few, each call within its time, none shared with a forked process.

redis-py's own pool is not used: it retries for seconds, and its timeouts are equal for all calls.
"""

from __future__ import annotations

import contextlib
import errno
import functools
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import redis
from redis.connection import AbstractConnection, Connection, SSLConnection

from jobsync.backends._common.abandon import abandon
from jobsync.backends._common.forks import forget_in_child
from jobsync.backends.redis.connection import Deadline, NoAnswer, close, exchange, is_stale, opened
from jobsync.backends.redis.errors import OUTAGES, code_of, translate
from jobsync.backends.redis.script import Script
from jobsync.backends.redis.sentinel import master_of
from jobsync.backends.redis.server import read_info
from jobsync.backends.redis.url import RedisServer
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError

__all__ = ['RedisPool']

T = TypeVar('T')

BUSY_SEC = 6.0
"""After five seconds of one script a server answers other clients that it is busy, unless it is configured otherwise."""

LEASING = 'heartbeat'
"""The script from whose success a node takes a lease."""

_GONE = {'READONLY', 'NOREPLICAS', 'MASTERDOWN', 'CLUSTERDOWN'}
"""How a server refuses that has the namespace no more, or perhaps: a master that is cut off from its replicas says NOREPLICAS for
as long as that lasts, while one of them is promoted. The sentinels, or the node in the URL, know which one has it."""

_SERVES_SOON = {'LOADING', 'BUSY'}
"""How a master refuses that is to serve again by itself."""
_FULL = 'max number of clients'
"""How a server refuses that has as many clients as it may have (``maxclients``), which it goes on to serve."""
_NO_FILE = {errno.EMFILE, errno.ENFILE}
"""This process, or its host, has no file left for another connection."""


class RedisPool:
    """Connections to one server. Thread-safe. Keeps one idle connection; concurrent calls make more, which end with them.

    Args:
        server: How to reach the server.
        state: The key of the namespace's state.
        check: Raises if a server does not keep what the URL promises. It is called with the server's name and a function that
            returns the server's answer to a command, before the first script on each server, and the first after each
            ``check_again``: the one in the URL, a node of its cluster that has the slot, the sentinels' master.
    """

    def __init__(self, server: RedisServer, state: str, check: Callable[[str, Callable[..., Any]], None]) -> None:
        self.server, self._state = server, state
        self._check = check
        self._checked = set[tuple[Any, Any]]()
        self._closed = False
        self._set_up()
        forget_in_child(self)

    def _set_up(self) -> None:
        # No lock guards the queue: a signal handler that leaves the job may interrupt the thread that holds the lock.
        self._idle: deque[AbstractConnection] = deque()
        self._moved: tuple[str, int] | None = None
        self._last: Any = None
        """The address at the other end of the last connection to the host or the socket in the URL, as parameters."""

    def run(self, script: Script, deadline: Deadline, *words: object) -> Any:
        """Return the answer of a script, called with ``Script.words``."""

        def call(connection: AbstractConnection) -> Any:
            self._check_once(connection, deadline)
            try:
                return exchange(connection, deadline, 'EVALSHA', script.digest, *words, is_busy=is_busy)
            except redis.exceptions.NoScriptError:
                return exchange(connection, deadline, 'EVAL', script.source, *words, is_busy=is_busy)

        is_busy = functools.partial(self._is_busy, deadline) if deadline.is_for_bulk else None

        return self._with_connection(deadline, call, is_sure=script.name != LEASING)

    def command(self, deadline: Deadline, *words: object) -> Any:
        """Return the answer of a plain command."""
        return self._with_connection(deadline, lambda connection: exchange(connection, deadline, *words))

    def check_again(self) -> None:
        """Have each server be checked once more, before its next script: its settings may be others by now."""
        self._checked = set()

    def _check_once(self, connection: AbstractConnection, deadline: Deadline) -> None:
        """Check the server at the other end of a connection, unless it has been found in order before."""
        # t=0  the slot of the namespace moves to a node of the cluster that does not write to its disk, and leases begin there
        # t=1  that node restarts, empty: with durable=yes its store counts as the one from before
        # t=2  a newcomer takes all tokens, and the owners of t=0 still have their leases
        # A refusal at t=0 keeps leases from beginning there.
        address, checked = (getattr(connection, 'host', None), getattr(connection, 'port', None)), self._checked
        if address not in checked:
            node = '' if self._moved is None else f' (its node {address[0]}:{address[1]}, which has this namespace)'
            self._check(f'{self.server}{node}', functools.partial(exchange, connection, deadline))
            # t=0  this thread has read the settings of the server, and an operator changes them
            # t=1  another thread opens the backend, which is to check them anew
            # So what was read at t=0 counts for no call from t=1 on.
            checked.add(address)

    def _is_busy(self, call: Deadline) -> bool:
        """Return whether the server is running a script, read on another connection. If not, it has finished every call so far.

        Raises the errors of any call if the server does not answer there.
        """
        deadline = _brief(call)
        try:
            connection = self.connect(deadline)
            try:
                exchange(connection, deadline, 'TIME')
            finally:
                close(connection)
        except redis.ResponseError:
            return True  # the only reason to refuse a client that was served a moment ago
        return False

    def connect(self, deadline: Deadline) -> AbstractConnection:
        """Return a new connection, which the caller closes."""
        address: dict[str, Any] = {}
        if self.server.sentinels:
            address['host'], address['port'] = master_of(self.server.sentinels, self.server.connection_class, deadline)
        elif moved := self._moved:  # read once: another thread may forget it now
            address['host'], address['port'] = moved
        try:
            connection = opened(self.server.connection_class, {**self.server.parameters, **address}, deadline)
        except (redis.ConnectionError, redis.TimeoutError):
            # The node that had the slot is gone: the node in the URL knows which one has it now.
            self._moved = None
            raise
        try:
            if not address:
                self._check_former(connection, deadline)
        except BaseException:
            close(connection)
            raise
        return connection

    def _check_former(self, connection: Any, deadline: Deadline) -> None:
        """Raise ``ConfigError`` if the host in the URL is another master than before, and the former one still is a master."""
        # t=0  an operator has the master for dead, promotes a replica, and has the name lead there
        # t=1  node a connects anew, and begins a new timeline
        # t=2  node b, whose connection to the former master serves on, works on with it, and a owns all tokens after a timeout
        here, before = _place_of(connection), self._last
        # What fails here fails the call: the connection has ended with it, and the two servers are not compared yet.
        now = {} if before in (None, here) else read_info(functools.partial(exchange, connection, deadline))
        # Of a cluster the name may have the addresses of all nodes, and each sends on to the one that has the slot.
        if now and now.get('cluster_enabled') != '1':
            # t=0  the name leads to a replica, whose address this connection has
            # t=1  the replica is promoted, and the former master accepts writes. Forgotten at t=0, it is compared no more, nor if
            #      the connection of t=0 is used on, even for this call
            if now.get('role') == 'slave':
                raise NoAnswer(f'READONLY: {OUTAGES["READONLY"]}')
            # t=0  a wait that is almost over connects here; the former master is slow, and has no time to answer
            # t=1  taken for one that is away, it is compared no more: not by a heartbeat either, which has all of its time
            there = self._read_former(before, max(deadline.left, deadline.silence_sec) / 2)
            are_masters = all(each.get('role') == 'master' and each.get('cluster_enabled') != '1' for each in (now, there))
            if are_masters and now.get('run_id') != there.get('run_id'):
                raise ConfigError(
                    f'{self.server}: {_shown(here)} and {_shown(before)} both accept writes, and are not the same server: '
                    'end the one that is not the primary any more'
                )
        # t=0  the name leads to a master, whose address this connection has; no other server accepts writes
        # t=1  a replica is promoted, to which the name leads by now: another thread connects there, and finds no other either
        # t=2  the former master accepts writes again. With its address kept, this node would work on with it
        if self._last is not before:
            self._check_former(connection, deadline)
        else:
            self._last = here

    def _is_compared(self, connection: Any) -> bool:
        """Return whether an idle connection leads to the server that was found to be the master by the host in the URL."""
        # t=0  a call is under way; another one finds that the name leads to a promoted replica, and turns to it
        # t=1  the former master accepts writes again: this node works on with it over the first one's connection
        return self._moved is not None or self._last in (None, _place_of(connection))

    def _read_former(self, place: dict[str, Any], reach_sec: float) -> Mapping[str, str]:
        """Return what the server at an address of before says of itself; nothing if it has no such namespace, or is away."""
        # t=0  a script begins at the former master, which says nothing to any client, and after some seconds that it is busy
        # t=1  this node connects to the promoted one: taken for one that is away, the former one would be compared no more
        deadline = Deadline(max(reach_sec, BUSY_SEC))
        is_tls = self.server.connection_class is SSLConnection
        parameters = {**place, 'host': self.server.parameters['host'], 'place': place['host']} if is_tls else place
        kind = _NamedConnection if is_tls else self.server.connection_class
        former = None
        try:
            former = opened(kind, {**self.server.parameters, **parameters}, deadline, reach_sec)
            # A replica that follows anew says its role too while it loads what it has received.
            info = read_info(functools.partial(exchange, former, deadline))
            is_there = info.get('role') != 'master' or exchange(former, deadline, 'HGET', self._state, 'revision') is not None
        except (redis.RedisError, OSError, NoAnswer) as error:  # a server of any other kind may be there by now
            # t=0  the master has crashed, and is started again: it reads its files; or a script keeps it busy; or it has all the
            #      clients that it may have, of which node b is one; or it is slow, or ends, once it has let this node in
            # t=1  an operator promotes a replica, and has the name lead there; this node connects
            # t=2  the former one serves again, also node b, which knows its address
            code, is_refused = code_of(error), isinstance(error, redis.ResponseError)
            if code in _SERVES_SOON or _FULL in str(error) or (former and not is_refused):
                said = f'it is not known yet whether {_shown(place)} accepts writes too'
                raise NoAnswer(f'{said} ({f"{code}: {OUTAGES[code]}" if code else error})') from error
            if getattr(error.__context__, 'errno', None) in _NO_FILE:
                raise
            return {}
        else:
            return info if is_there else {}
        finally:
            if former:
                close(former)

    def close(self) -> None:
        """Close the idle connection. Each call that runs closes its own."""
        self._closed = True
        self._trim(0)

    def forget(self) -> None:
        """Begin anew in a forked child, and close nothing of the parent's."""
        abandon(self._idle)
        self._set_up()

    def _is_former(self, connection: Any, deadline: Deadline) -> bool:
        """Return whether the sentinels name another master by now than the server at the other end of a connection."""
        # t=0  an operator has a replica promoted (SENTINEL FAILOVER)
        # t=1  node b connects to that one, where it begins a new timeline, and waits for the leases from before t=1
        # t=9  the sentinels make the former master a replica. Until then it accepts the heartbeats of node a, which is connected
        # With leases from after t=1, a would still own what b is given at the end of its wait.
        # All sentinels together have half of the call. If they say nothing in that time, the master stays the same.
        share = Deadline(deadline.left / 2)
        try:
            master = master_of(self.server.sentinels, self.server.connection_class, share) if self.server.sentinels else None
        except (redis.RedisError, OSError, JobsyncError):
            return False
        return master not in (None, (connection.host, connection.port))

    def _with_connection(self, deadline: Deadline, call: Callable[[AbstractConnection], T], *, is_sure: bool = True) -> T:
        try:
            try:
                return self._once(deadline, call, is_sure)
            except Moved as moved:
                # A refused script has not run, so it may run on the node of the cluster that has its keys.
                self._moved = moved.node
                self._trim(0)
                return self._once(deadline, call, is_sure)
        except (redis.RedisError, OSError, NoAnswer) as error:
            raise translate(error, self.server) from error

    def _once(self, deadline: Deadline, call: Callable[[AbstractConnection], T], is_sure: bool) -> T:
        """Call on an idle connection, if its server is still there and, unless ``is_sure``, the master; or else on a new one."""
        if self._closed:
            raise BackendUnavailable(f'this backend on {self.server} is closed')
        connection = self._taken()
        if connection is not None:
            is_usable = False
            try:
                is_usable = (
                    not is_stale(connection)
                    and self._is_compared(connection)
                    and (is_sure or not self._is_former(connection, deadline))
                )
            finally:
                if not is_usable:
                    close(connection)
            if not is_usable:
                connection = None
        if connection is None:
            connection = self.connect(_brief(deadline))
        try:
            answer = call(connection)
        except BaseException as error:
            # A refusal leaves the connection usable, unless the next call has to look for another server.
            code = code_of(error) if isinstance(error, redis.ResponseError) else None
            if code is None or code in _GONE:
                close(connection)
            else:
                self._keep(connection)
            if code == 'CLUSTERDOWN':
                # t=0  the slot moves from node b of the cluster to node c, while this client calls neither
                # t=1  b leaves the cluster: it knows no slots any more, and sends no client on
                self._moved = None
            if isinstance(error, redis.ResponseError) and (node := moved_to(error, connection)) is not None:
                raise Moved(node, error) from error
            raise
        self._keep(connection)
        return answer

    def _taken(self) -> AbstractConnection | None:
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return None

    def _keep(self, connection: AbstractConnection) -> None:
        """Keep a connection as the idle one, if there is none yet and the pool is open."""
        self._idle.append(connection)
        self._trim(0 if self._closed else 1)

    def _trim(self, count: int) -> None:
        """Close idle connections until at most ``count`` are left."""
        while len(self._idle) > count and (spare := self._taken()) is not None:
            close(spare)


class _PlacedConnection(Connection):
    """Leads to an address, which is or was one of the host."""

    def __init__(self, *, place: str, **parameters: Any) -> None:
        super().__init__(**parameters)  # type: ignore[no-untyped-call]
        self._place = place

    def _connect(self) -> Any:
        name, self.host = self.host, self._place
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        finally:
            self.host = name


class _NamedConnection(SSLConnection, _PlacedConnection):
    """Over TLS, with a certificate for the name of the host: ``SSLConnection`` first connects as the next class does."""


def _place_of(connection: Any) -> dict[str, Any]:
    """Return the address at the other end of a connection, as parameters."""
    peer = connection._sock.getpeername()
    return {'path': peer} if isinstance(peer, str) else {'host': peer[0], 'port': peer[1]}


def _shown(place: Mapping[str, Any]) -> str:
    return ':'.join(map(str, place.values()))


def _brief(call: Deadline) -> Deadline:
    """Return the end of a step that takes no time: also within a bulk call it ends if the server has hung or is gone.

    A connection that is opened late in a call is kept for others, and has the same patience as one that is opened early.
    """
    return Deadline(min(call.left, max(call.silence_sec, BUSY_SEC)), call.silence_sec)


class Moved(redis.ResponseError):
    """A node of a cluster does not have the slot. ``node`` is the host and the port of the one that has."""

    def __init__(self, node: tuple[str, int], error: redis.ResponseError) -> None:
        super().__init__(str(error))
        self.node = node


def moved_to(error: redis.ResponseError, connection: AbstractConnection) -> tuple[str, int] | None:
    """Return the node to which the error ``MOVED slot host:port`` on a connection sends a client; None for another error.

    A cluster that knows no names for its nodes (``cluster-preferred-endpoint-type unknown-endpoint``) leaves the host out: it is
    the one by which the client has reached the node that answers. One that is to announce names (``hostname``) puts ``?`` in the
    place of a name that is not set: that is raised as an error of its own.
    """
    host: str
    port: int | str
    if isinstance(error, redis.exceptions.MovedError):
        host, port = error.host, error.port
    else:
        code, *words = str(error).split()  # redis-py before 6 knows the code in clients for clusters only
        if code != 'MOVED':
            return None
        host, _, port = words[-1].rpartition(':')
    if host == '?':
        raise redis.ResponseError(
            f'{error}: the node of the cluster that has the slot announces no name (cluster-preferred-endpoint-type is hostname, '
            'and cluster-announce-hostname is not set there)'
        )
    return host or getattr(connection, 'host', 'localhost'), int(port)
