"""The form of the records is the one that was written down.

During a rolling replacement nodes of two versions work on one namespace. If the newer one keeps its records in another form under
the same number, the older one may read them wrongly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.backends import record_forms
from tests.support.harnesses.etcd import EtcdHarness
from tests.support.harnesses.postgresql import PostgresqlHarness
from tests.support.harnesses.redis import RedisHarness
from tests.support.harnesses.sqlite import SqliteHarness
from tests.support.servers import EtcdServer, PostgresServer, RedisServer

ADVICE = (
    'an older node may read this wrongly: raise the number of the format, and bring a namespace of the former form over, see '
    'docs/contribute/release.md. Then: python -m tests.backends.record_forms'
)


def check(kind: str, found: Any) -> None:
    assert list(differences(record_forms.recorded()[kind], found)) == [], ADVICE


def differences(before: Any, after: Any, place: str = '') -> Any:
    """Yield each place where two forms differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            yield from differences(before.get(name), after.get(name), f'{place}/{name}')
    elif before != after:
        yield f'{place}: {before!r} was recorded, and {after!r} is found'


def test_sqlite(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    check('sqlite', record_forms.form_of_sqlite(harness))
    harness.close()


@pytest.mark.postgres
def test_postgresql(newest_postgres: PostgresServer) -> None:
    harness = PostgresqlHarness(newest_postgres)
    check('postgresql', record_forms.form_of_postgresql(harness))
    harness.close()


@pytest.mark.redis
def test_redis(redis_of_many: RedisServer) -> None:
    harness = RedisHarness(redis_of_many)
    check('redis', record_forms.form_of_redis(harness))
    harness.close()


@pytest.mark.etcd
def test_etcd(etcd_server: EtcdServer) -> None:
    harness = EtcdHarness(etcd_server)
    check('etcd', record_forms.form_of_etcd(harness))
    harness.close()
