"""The relay: what passes is what was sent, and is counted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from jobsync_bench.proxy import CountingProxy, address_of


@pytest.mark.parametrize(
    ('url', 'address'),
    [
        ('postgresql://user:p%40ss@db.example:5433/jobs?x=1', ('db.example', 5433)),
        ('redis://:secret@127.0.0.1:6379/0', ('127.0.0.1', 6379)),
        ('redis://localhost/0', None),
        ('redis+sentinel://localhost:26379/service/0', None),
        ('etcd://one:2379,two:2379/', None),
        ('sqlite:///jobs.db', None),
        ('memory://', None),
    ],
)
def test_addresses(url: str, address: tuple[str, int] | None) -> None:
    assert address_of(url) == address


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that answers each line with itself, doubled."""
    with socket.create_server(('127.0.0.1', 0)) as server:

        def serve(connection: socket.socket) -> None:
            with connection, connection.makefile('rwb', buffering=0) as stream:
                for line in stream:
                    stream.write(line * 2)

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_what_passes_is_counted(echo: int) -> None:
    with CountingProxy(f'x://user:p%40ss@127.0.0.1:{echo}/path?query=1') as relay:
        assert relay.url.startswith('x://user:p%40ss@127.0.0.1:')
        assert relay.url.endswith('/path?query=1')
        address = address_of(relay.url)
        assert address is not None
        assert address[1] != echo
        with socket.create_connection(address) as one, socket.create_connection(address) as other:
            for connection in (one, other, one):
                connection.sendall(b'12345\n')
                assert connection.recv(12, socket.MSG_WAITALL) == b'12345\n12345\n'
            passed = relay.traffic()
        assert (passed.sent, passed.received, passed.turns) == (18, 36, 3)
        assert passed.most_connections == 2


def test_a_store_that_is_away_is_away_behind_it_too() -> None:
    with socket.create_server(('127.0.0.1', 0)) as gone:
        port = gone.getsockname()[1]
    with CountingProxy(f'x://127.0.0.1:{port}') as relay:
        address = address_of(relay.url)
        assert address is not None
        with socket.create_connection(address) as connection:
            assert connection.recv(1) == b''


def test_leaving_ends_connections(echo: int) -> None:
    with CountingProxy(f'x://127.0.0.1:{echo}') as relay:
        address = address_of(relay.url)
        assert address is not None
        connection = socket.create_connection(address)
        connection.sendall(b'1\n')
        assert connection.recv(4, socket.MSG_WAITALL) == b'1\n1\n'
    with connection:
        assert connection.recv(1) == b''
