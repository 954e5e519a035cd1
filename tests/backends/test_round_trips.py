"""How often a call waits for the server."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from tests.support.servers import RedisServer
from tests.support.stores import KINDS

from jobsync import plugins
from jobsync.backend import BackendOptions
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import DAY, SETTINGS
from jobsync_bench.proxy import CountingProxy


@pytest.fixture(params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ('postgres', 'redis')])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty store on a server."""
    fixture, kind = {'postgres': ('newest_postgres', 'postgresql'), 'redis': ('redis_of_many', 'redis')}[request.param]
    return KINDS[kind].empty(request.getfixturevalue(fixture), tmp_path)


def test_counting_attempts_takes_no_further_round_trip(url: str) -> None:
    """A claim is one round trip, with ``max_attempts`` and without, also where an attempt was lost before."""
    with CountingProxy(url) as proxy, closing(plugins.connect(proxy.url, BackendOptions(op_timeout_sec=20))) as backend:
        backend.open(SETTINGS, create=True)
        namespace = Namespace(backend)
        lost, ref = namespace.join('lost'), namespace.join('a')
        backend.append_claims(lost, ['suspect'], DAY, 2)
        backend.deregister(lost)
        counts = {}
        for tolerated in (None, 2):
            backend.append_claims(ref, [f'warm {tolerated}'], DAY, tolerated)
            before = proxy.traffic().turns
            for number in range(20):
                backend.append_claims(ref, [f'{tolerated} {number}', 'suspect'], DAY, tolerated)
            counts[tolerated] = proxy.traffic().turns - before
        assert counts == {None: 20, 2: 20}


@pytest.mark.redis
def test_a_far_redis_has_time_to_answer_a_newcomer(tmp_path: Path, redis_of_many: RedisServer) -> None:
    """All this is within the time for one call: AUTH, CLIENT SETNAME, SELECT, INFO, CONFIG GET and two scripts.

    The client sends SELECT without waiting for the answer to CLIENT SETNAME: it comes before that answer has, or after it.
    """
    url = KINDS['redis'].empty(redis_of_many, tmp_path)
    with closing(plugins.connect(url, BackendOptions())) as first:
        first.open(SETTINGS, create=True)
    with CountingProxy(url) as proxy, closing(plugins.connect(proxy.url, BackendOptions(op_timeout_sec=20))) as backend:
        backend.open(SETTINGS, create=True)
        assert proxy.traffic().turns in (6, 7)
