"""The peer on a PostgreSQL server of the benchmark's own: a database and roles for it, and its settings. Both sides import it.

The peer builds its URL of the parts without escaping them, so each role's password is its name.
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ['admit', 'settings', 'url_of']

_DATABASE = 'peer'


class Server(Protocol):
    """A ``tests.support.servers.PostgresServer``."""

    port: int

    def psql(self, *statements: str) -> list[str]:
        """Run SQL."""


def admit(server: Server, *roles: str) -> str:
    """Make the peer's database and a superuser for each of its nodes, and return the server's port."""
    server.psql(*(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{role}'" for role in roles))
    server.psql(f'CREATE DATABASE {_DATABASE}')
    return str(server.port)


def settings(port: str, role: str) -> dict[str, Any]:
    """Return the arguments of the peer's ``CoordinationConfig``."""
    return {'host': '127.0.0.1', 'port': int(port), 'user': role, 'password': role, 'dbname': _DATABASE}


def url_of(port: int, role: str) -> str:
    """Return the URL of the peer's database."""
    return f'postgresql://{role}:{role}@127.0.0.1:{port}/{_DATABASE}'
