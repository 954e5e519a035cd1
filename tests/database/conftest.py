"""The stores that have SQL, each with a namespace and a table of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.job.stores import SQL, STORES, Store, kinds

import jobsync.database as db


@pytest.fixture(params=kinds(SQL))
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store of each kind that has SQL."""
    store = Store(STORES[request.param](request))
    yield store
    store.close()


@pytest.fixture
def connect(store: Store) -> Iterator[Callable[[], db.Connection]]:
    """Makes connections to a database that has a table ``tasks``."""
    assert store.handle
    made: list[db.Connection] = []

    def connect() -> db.Connection:
        made.append(db.connect(store.url))
        return made[-1]

    db.execute(connect(), 'CREATE TABLE tasks (task_id INTEGER PRIMARY KEY, name TEXT, at TIMESTAMP WITH TIME ZONE, day DATE)')
    yield connect
    for connection in made:
        connection.close()


@pytest.fixture
def cn(connect: Callable[[], db.Connection]) -> db.Connection:
    """A connection to it."""
    return connect()
