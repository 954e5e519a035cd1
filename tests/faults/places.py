"""The stores of the fault runs: real servers, and what an operator or an accident can do to each."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from tests.faults.disk import Disk, small_disk
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.harnesses.redis import RedisHarness
from tests.support.harnesses.sqlite import SqliteHarness
from tests.support.servers import EtcdMember, EtcdServer, PostgresServer, RedisServer, ServerProcess, start_members
from tests.support.waiting import eventually

from jobsync.testing import Harness

__all__ = ['PLACES', 'Place']

FEW = 40
"""Workers for which a server has room as it is."""


class Place:
    """One store, with its servers. ``can`` names the faults of the store that it offers, besides those of its harness."""

    push = True
    durable = True
    harness: Harness
    disk: Disk | None = None
    """Where its files are, if that can be filled."""

    @property
    def servers(self) -> Sequence[ServerProcess]:
        """The servers that should run: none for a file."""
        return ()

    def ports(self) -> Sequence[int]:
        """Return the ports of the servers: none for a file."""
        return [server.port for server in self.servers]

    def url(self, ports: Sequence[int]) -> str:
        """Return the URL of the store, by other ports in the place of its own."""
        raise NotImplementedError

    def expect(self, workers: int) -> None:
        """Get ready for so many workers."""

    def pause(self) -> None:
        """Stop the store without a word."""
        self.harness.stop()

    def resume(self) -> None:
        """End a pause."""
        self.harness.start()

    def start_ended(self) -> list[str]:
        """Start servers that have ended by themselves, all at once, since members of a cluster answer only together.

        Returns what each said last.
        """
        ended = [server for server in self.servers if server.has_ended]
        words = [f'{server.name}: {server.log}' for server in ended]
        with ThreadPoolExecutor(len(ended) or 1) as pool:
            list(pool.map(lambda server: server.start(), ended))
        return words

    def kill(self) -> None:
        """Kill the store."""
        raise NotImplementedError

    def start(self) -> None:
        """Start a store that was killed."""
        raise NotImplementedError

    def save(self) -> object:
        """Return a copy of the present state."""
        raise NotImplementedError

    def restore(self, copy: Any) -> None:
        """Put a copy into the place of what is there now."""
        raise NotImplementedError

    def close(self) -> None:
        """End the servers and remove all files."""
        raise NotImplementedError


class SqlitePlace(Place):
    """A file in a folder of its own."""

    push = False

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix='jobsync-faults-'))
        self.harness = self._harness = SqliteHarness(self._folder)

    def url(self, ports: Sequence[int]) -> str:
        """See ``Place``."""
        return f'sqlite:///{self._harness.path}'

    def save(self) -> Path:
        """See ``Place``."""
        return self._harness.backup().rename(self._folder / f'copy-{time.monotonic_ns()}.db')

    def restore(self, copy: Path) -> None:
        """See ``Place``."""
        self._harness.replace(copy)

    def close(self) -> None:
        """See ``Place``."""
        self.harness.close()
        shutil.rmtree(self._folder)


class ServerPlace(Place):
    """A server of its own."""

    server: PostgresServer | RedisServer
    _harness: PostgresqlHarness | RedisHarness

    @property
    def servers(self) -> Sequence[ServerProcess]:
        """See ``Place``."""
        return [self.server]

    def url(self, ports: Sequence[int]) -> str:
        """See ``Place``."""
        return self._harness.url.replace(f':{self.server.port}/', f':{ports[0]}/')

    def kill(self) -> None:
        """See ``Place``."""
        self.server.kill()

    def start(self) -> None:
        """See ``Place``."""
        self.server.start()


class PostgresqlPlace(ServerPlace):
    """A server of its own."""

    server: PostgresServer
    _harness: PostgresqlHarness

    def __init__(self) -> None:
        self.server = PostgresServer()
        self.harness = self._harness = PostgresqlHarness(self.server)
        self._taken: list[psycopg.Connection[Any]] = []

    def expect(self, workers: int) -> None:
        """See ``Place``: a worker has two connections, and for a moment more while others replace it."""
        if workers > FEW:
            self.server.kill()
            self.server.settings = (*self.server.settings, f'max_connections={4 * workers}')
            self.server.start()

    @property
    def schema(self) -> str:
        """The schema of the tables."""
        return self._harness.schema

    def save(self) -> Path:
        """Copy the data directory as a snapshot of the file system would: the identity stays."""
        copy = self.server.folder / f'copy-{time.monotonic_ns()}'
        self.server.pause()
        try:
            shutil.copytree(self.server.folder / 'data', copy)
        finally:
            self.server.resume()
        (copy / 'postmaster.pid').unlink(missing_ok=True)
        return copy

    def restore(self, copy: Path) -> None:
        """See ``Place``."""
        self.server.kill()
        shutil.rmtree(self.server.folder / 'data')
        copy.rename(self.server.folder / 'data')
        self.server.start()

    def dump(self) -> Path:
        """Return a logical dump."""
        return self.server.dump(self._harness.schema)

    def restore_dump(self, dump: Path) -> None:
        """Restore a logical dump in the place of what is there."""
        self.server.drop(self._harness.schema)
        self.server.restore(dump)

    def refuse_rights(self) -> None:
        """Change the password, and end every connection."""
        self.server.arrange("ALTER ROLE postgres PASSWORD 'another'")
        self.disconnect()

    def restore_rights(self) -> None:
        """Change the password back."""
        with psycopg.connect(self.server.url(socket_only=True), autocommit=True) as connection:
            word = self.server.password.replace("'", "''")
            connection.execute(f"ALTER ROLE postgres PASSWORD '{word}'".encode())

    def disconnect(self) -> None:
        """End every connection over TCP."""
        self.server.arrange('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_addr IS NOT NULL')

    def take_connections(self) -> None:
        """Take every connection that the server has to give."""
        self.disconnect()
        try:
            while True:
                self._taken.append(psycopg.connect(self.server.url(socket_only=True)))
        except psycopg.OperationalError:
            pass

    def give_connections(self) -> None:
        """Give them back."""
        while self._taken:
            self._taken.pop().close()

    def close(self) -> None:
        """See ``Place``."""
        self.give_connections()
        self.server.close()


class RedisPlace(ServerPlace):
    """A server of its own; with a replica, which takes its place."""

    server: RedisServer
    _harness: RedisHarness

    def __init__(self, *, durable: bool, replica: bool = False) -> None:
        self.durable = durable
        self.server = RedisServer(durable=durable)
        self.harness = self._harness = RedisHarness(self.server)
        self._replica = self._follow() if replica else None
        self._closing: list[RedisServer] = []

    def _follow(self) -> RedisServer:
        replica = RedisServer(self.server.program, durable=self.durable, replica_of=self.server)
        eventually(lambda: 'master_link_status:up' in replica.ask('INFO', 'replication'))
        return replica

    def part(self) -> None:
        """Cut the replica off: from now on it is stale."""
        assert self._replica is not None
        self._replica.promote()

    def promote(self) -> None:
        """Let the replica take the place of the master, which is killed, and give it a replica."""
        assert self._replica is not None
        self._replica.promote()
        self.server.kill()
        self._closing.append(self.server)
        self.server = self._harness.server = self._replica
        self._replica = self._follow()

    def save(self) -> Path:
        """Copy what the server would read at its next start."""
        copy = Path(tempfile.mkdtemp(prefix='jobsync-faults-copy-'))
        self.server.pause()
        try:
            shutil.copytree(self.server.folder, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns('socket', 'log'))
        finally:
            self.server.resume()
        return copy

    def restore(self, copy: Path) -> None:
        """See ``Place``."""
        self.server.kill()
        shutil.rmtree(self.server.folder)
        shutil.copytree(copy, self.server.folder)
        shutil.rmtree(copy)
        self.server.start()

    def refuse_rights(self) -> None:
        """Change the password, and end every connection."""
        self.server.ask('ACL', 'SETUSER', 'default', '-@all', '+config', '+acl', '+ping', '+select', '+auth')

    def restore_rights(self) -> None:
        """Change the password back."""
        self.server.ask('ACL', 'SETUSER', 'default', '+@all')

    def take_connections(self) -> None:
        """Allow no connection besides that of the operator, and end all others."""
        self._operator = stack = contextlib.ExitStack()
        self._ask = stack.enter_context(self.server.session())
        self._ask('CONFIG', 'SET', 'maxclients', '1')
        self._ask('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')

    def give_connections(self) -> None:
        """Allow as many as before."""
        self._ask('CONFIG', 'SET', 'maxclients', '1000')
        self._operator.close()

    def close(self) -> None:
        """See ``Place``."""
        for server in (self.server, self._replica, *self._closing):
            if server is not None:
                server.close()


class EtcdPlace(Place):
    """A cluster of one member."""

    def __init__(self) -> None:
        self.server = EtcdServer()
        self.harness = EtcdHarness(self.server)

    @property
    def servers(self) -> Sequence[ServerProcess]:
        """See ``Place``."""
        return [self.server]

    def url(self, ports: Sequence[int]) -> str:
        """See ``Place``."""
        return f'etcd://{",".join(f"127.0.0.1:{port}" for port in ports)}/'

    def kill(self) -> None:
        """See ``Place``."""
        self.server.kill()

    def start(self) -> None:
        """See ``Place``."""
        self.server.start()

    def save(self) -> Path:
        """See ``Place``."""
        return self.server.save()

    def restore(self, copy: Path) -> None:
        """Restore a snapshot under the token that the cluster had: the identity stays."""
        self.server.restore(copy, same_token=True)

    def restore_as_new(self, copy: Path) -> None:
        """Restore a snapshot as another cluster."""
        self.server.restore(copy)

    def close(self) -> None:
        """See ``Place``."""
        self.server.close()


class EtcdClusterPlace(Place):
    """A cluster of three members."""

    def __init__(self) -> None:
        self.members = start_members()
        self.harness = EtcdHarness(self.members[0])

    @property
    def servers(self) -> Sequence[ServerProcess]:
        """See ``Place``."""
        return self.members

    url = EtcdPlace.url

    def lead(self) -> int:
        """Return the number of the member that leads."""
        for number, member in enumerate(self.members):
            if not member.has_ended:
                fields = member.ctl('endpoint', 'status').split(', ')
                if fields[4:5] == ['true'] or fields[5:6] == ['true']:
                    return number
        return 0

    def pause(self) -> None:
        """Take the majority away."""
        for member in self.members[:2]:
            member.pause()

    def resume(self) -> None:
        """See ``Place``."""
        for member in self.members[:2]:
            member.resume()

    def kill(self) -> None:
        """See ``Place``."""
        for member in self.members:
            member.kill()

    def start(self) -> None:
        """See ``Place``."""
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(EtcdMember.start, self.members))

    def close(self) -> None:
        """See ``Place``."""
        for member in self.members:
            member.close()


PLACES: Mapping[str, Callable[[], Place]] = {
    'sqlite': SqlitePlace,
    'postgresql': PostgresqlPlace,
    'redis': partial(RedisPlace, durable=True),
    'redis-memory': partial(RedisPlace, durable=False),
    'redis-replica': partial(RedisPlace, durable=True, replica=True),
    'etcd': EtcdPlace,
    'etcd-3': EtcdClusterPlace,
}
"""By name."""


@contextmanager
def open_place(name: str, workers: int = FEW, disks: int = 1) -> Iterator[Place]:
    """Yield a store for so many workers, on a disk that is so many times as large as usual, and end its servers afterwards."""
    with small_disk(disks * max(1, workers // FEW)) as disk:
        before = tempfile.tempdir
        tempfile.tempdir = before if disk is None else str(disk.path)
        try:
            place = PLACES[name]()
        finally:
            tempfile.tempdir = before
        place.disk = disk
        try:
            place.expect(workers)
            yield place
        finally:
            place.close()
