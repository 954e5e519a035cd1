"""Everything in a store besides one namespace: neighbours with similar names, a table or key of the user's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis
from sqlalchemy import create_engine, inspect, text
from tests.support.timings import PATIENT, TOKENS

from jobsync import plugins
from jobsync.backend import BackendOptions, Settings
from jobsync.backends.etcd.driver import etcd3
from jobsync.testing import Namespace

__all__ = ['MINE', 'surroundings']

MINE = 'mine_'
"""The namespace that the calls are about."""
NEIGHBOURS = ('mine', 'mine_2_', 'min', 'm_', 'sync_', 'mine_sync_')
"""Names that are beginnings of it or begin with it, and one that ``_`` of LIKE would match."""

Content = Mapping[str, Any]


@contextmanager
def surroundings(url: str) -> Iterator[Any]:
    """Fill the neighbours; yield a function that returns the complete content of all that is not ``MINE``."""
    handles = {name: plugins.connect(url, BackendOptions(name, **PATIENT)) for name in NEIGHBOURS}
    try:
        namespaces = {name: Namespace(handle) for name, handle in handles.items()}
        for namespace in namespaces.values():
            namespace.populate()
        raw = {'sqlite': _tables, 'postgresql': _tables, 'redis': _redis, 'etcd': _etcd}.get(urlsplit(url).scheme)
        mine = plugins.connect(url, BackendOptions(MINE, **PATIENT))
        try:
            Namespace(mine, Settings(TOKENS, 'xxh3'))  # those of the job: others would be replaced after a timeout
            own = set(getattr(mine, 'tables', {}).values())
        finally:
            mine.close()

        def content() -> Content:
            if raw is None:
                return {name: namespace.state() for name, namespace in namespaces.items()}
            return raw(url, own)

        yield content
    finally:
        for handle in handles.values():
            handle.close()


def _tables(url: str, own: set[str]) -> Content:
    """Return the rows of every table that is not of the namespace."""
    engine = create_engine(url.replace('postgresql:', 'postgresql+psycopg:'))
    with closing(engine.connect()) as connection:
        found = sorted(set(inspect(connection).get_table_names()) - own)
        rows = {name: sorted(map(str, connection.execute(text(f'SELECT * FROM {name}')).all())) for name in found}
        connection.rollback()
    engine.dispose()
    return rows


def _redis(url: str, _: set[str]) -> Content:
    """Return every key that is not of the namespace, with its value as the server would save it."""
    with closing(redis.Redis.from_url(url.partition('?')[0])) as client:
        keys = [key for key in client.scan_iter() if f'{{{MINE}}}'.encode() not in key]
        return {repr(key): client.dump(key) for key in keys}


def _etcd(url: str, _: set[str]) -> Content:
    """Return every key that is not of the namespace, with its value."""
    client = etcd3.client(port=urlsplit(url).port)
    with closing(client):
        pairs = [(meta.key, value) for value, meta in client.get_range(b'\0', b'\xff\xff')]
    return {repr(key): value for key, value in pairs if not key.startswith(f'jobsync/{MINE}/'.encode())}
