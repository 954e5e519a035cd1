"""Places that a task writes to, by URL: what tests and their worker processes do there with the guards of ``jobsync.fencing``."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from jobsync.fencing import StaleFence, check_written, etcd_put, fence_allows, redis_set

METADATA = sa.MetaData()
RESULTS = sa.Table(
    'results',
    METADATA,
    sa.Column('id', sa.String, primary_key=True),
    sa.Column('value', sa.String),
    sa.Column('fence', sa.BigInteger),
)


def engine_of(url: str) -> sa.Engine:
    """A connection for each transaction, to SQLite or PostgreSQL."""
    return sa.create_engine(url.replace('postgresql://', 'postgresql+psycopg://'), poolclass=sa.NullPool)


def redis_of(url: str) -> Any:
    """A client of redis-py."""
    return import_module('redis').Redis.from_url(url, decode_responses=True)


def etcd_of(url: str) -> Any:
    """A client of etcd3, which can be imported once the backend for etcd has been."""
    found = urlsplit(url)
    return import_module('jobsync.backends.etcd.driver').etcd3.client(host=found.hostname, port=found.port)


def refused_of_many(write: Callable[[int], object]) -> list[int]:
    """Write under twenty fences at once; return those that were refused."""
    refused = list[int]()

    def write_one(fence: int) -> None:
        try:
            write(fence)
        except StaleFence:
            refused.append(fence)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(write_one, range(20)))
    return refused


class SQLPlace:
    """A table with a row for a task."""

    def __init__(self, url: str) -> None:
        self._engine = engine_of(url)

    def prepare(self, task: str) -> None:
        """Make the table and the task's row."""
        METADATA.create_all(self._engine)
        with self._engine.begin() as connection:
            connection.execute(sa.delete(RESULTS))
            connection.execute(sa.insert(RESULTS).values(id=task))

    def write(self, task: str, value: str, fence: int) -> None:
        """Write under a fence."""
        guarded = sa.update(RESULTS).where(RESULTS.c.id == task, fence_allows(RESULTS.c.fence, fence))
        with self._engine.begin() as connection:
            done = connection.execute(guarded.values(value=value, fence=fence))
        check_written(done.rowcount, fence, f'the result of {task}')

    def read(self, task: str) -> str | None:
        """What is written."""
        with self._engine.connect() as connection:
            found: str | None = connection.execute(sa.select(RESULTS.c.value).where(RESULTS.c.id == task)).scalar_one()
            return found

    def close(self) -> None:
        """Nothing is open between transactions."""


class RedisPlace:
    """A key."""

    def __init__(self, url: str) -> None:
        self._client = redis_of(url)

    def prepare(self, task: str) -> None:
        """Nothing is there."""
        self._client.flushdb()

    def write(self, task: str, value: str, fence: int) -> None:
        """Write under a fence."""
        redis_set(self._client, task, value, fence)

    def read(self, task: str) -> str | None:
        """What is written."""
        found: str | None = self._client.get(task)
        return found

    def close(self) -> None:
        """Close the client."""
        self._client.close()


class EtcdPlace:
    """A key."""

    def __init__(self, url: str) -> None:
        self._client = etcd_of(url)

    def prepare(self, task: str) -> None:
        """Nothing is there."""
        self._client.delete_prefix(task)

    def write(self, task: str, value: str, fence: int) -> None:
        """Write under a fence."""
        etcd_put(self._client, task, value, fence)

    def read(self, task: str) -> str | None:
        """What is written."""
        found, _ = self._client.get(task)
        return None if found is None else found.decode()

    def close(self) -> None:
        """Close the client."""
        self._client.close()


Place = SQLPlace | RedisPlace | EtcdPlace


def place(url: str) -> Place:
    """The place at a URL."""
    kinds: dict[str, type[Place]] = {'redis': RedisPlace, 'etcd': EtcdPlace}
    return kinds.get(url.partition(':')[0], SQLPlace)(url)
