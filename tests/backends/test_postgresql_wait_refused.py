"""A wait for changes at a database that jobsync refuses, as a dump may be restored into while nodes run."""

from __future__ import annotations

import uuid
from contextlib import closing

import pytest
from tests.support.harnesses.postgresql import connect_to
from tests.support.servers import PostgresServer

from jobsync.errors import ConfigError

pytestmark = pytest.mark.postgres


def test_a_wait_at_a_database_in_another_encoding(newest_postgres: PostgresServer) -> None:
    """It lasts as long as it may and raises nothing: the node's own calls are refused, and its log says why."""
    name = f'latin_{uuid.uuid4().hex}'
    newest_postgres.arrange(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with closing(connect_to(newest_postgres.url(name), 'sync_')) as backend:
        with pytest.raises(ConfigError, match='the encoding of this database is LATIN1'):
            backend.snapshot()
        assert backend.wait(7, 0.5) == 7
    newest_postgres.arrange(f'DROP DATABASE {name} WITH (FORCE)')
