"""URLs and namespaces of every form: an error that a person can read, or a store; quickly, and with no server asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bad_input.surroundings import surroundings
from tests.bad_input.values import NASTY, texts
from tests.bad_input.watch import Refused, attempted, examples, within
from tests.job.stores import Store
from tests.support.servers import free_port

from jobsync import Cluster, CoordinationConfig, plugins
from jobsync.backend import BackendOptions, Settings
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError

pytestmark = pytest.mark.filterwarnings('ignore::hypothesis.errors.HypothesisWarning')  # of a long text that is shown

SCHEMES = (
    'memory',
    'sqlite',
    'postgresql',
    'postgres',
    'postgresql+psycopg',
    'redis',
    'rediss',
    'redis+sentinel',
    'etcd',
    'etcds',
    'file',
)
SECRET = 'hush-hush'

parts = st.one_of(
    texts, st.sampled_from(['a', '%', '%zz', '[::1', '[::1]', '1,2', ':', '@', 'a:b@c', '127.0.0.1', '-1', '99999', '0x1'])
)
queries = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(['timeout', 'durable', 'options', 'sslmode', 'ca', 'service', 'master', 'db', 'connect_timeout']),
            texts,
        ),
        texts,
    ),
    max_size=3,
).map(lambda pairs: '&'.join(f'{name}={value}' for name, value in pairs))
urls = st.one_of(
    texts,
    st.builds('{}://{}'.format, st.one_of(st.sampled_from(SCHEMES), texts), texts),
    st.builds('{}://{}:{}@{}:{}/{}?{}'.format, st.sampled_from(SCHEMES), parts, parts, parts, parts, parts, queries),
)


def connected(url: str, options: BackendOptions) -> None:
    """Make a backend, which reaches no server, and close it."""
    plugins.connect(url, options).close()


def test_bad_urls(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL of any form; where the backend is made, no server is asked."""
    monkeypatch.chdir(tmp_path)

    @examples(10 * count)
    @given(urls)
    def attempt(url: str) -> None:
        attempted(lambda: connected(url, BackendOptions()))

    attempt()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('url', ['postgresql://u@{}/jobs', 'redis://{}', 'redis+sentinel://{}/main', 'etcd://{}'])
@pytest.mark.parametrize('hosts', ['.internal', 'db1.internal,db2..internal', f'{"x" * 64}.internal'])
def test_a_host_that_no_name_can_be(url: str, hosts: str) -> None:
    """As where a variable was empty. Python has no error of an outage for it."""
    with pytest.raises(ConfigError, match='host in the URL'):
        connected(url.format(hosts), BackendOptions())


def test_no_url_shows_its_password(count: int) -> None:
    """Whatever is wrong with a URL, no error has the password."""

    @examples(3 * count)
    @given(st.sampled_from(SCHEMES), parts, parts, parts, queries)
    def attempt(scheme: str, user: str, host: str, path: str, query: str) -> None:
        result = attempted(lambda: connected(f'{scheme}://{user}:{SECRET}@{host}/{path}?{query}', BackendOptions()))
        if isinstance(result, Refused):
            error: BaseException | None = result.error
            assert SECRET not in str(error)

    attempt()


@pytest.mark.parametrize('scheme', ['postgresql', 'redis', 'etcd'])
def test_parts_of_a_url_of_no_server(count: int, scheme: str) -> None:
    """Any user, password, database and options: an error comes in time, also from the driver, and no password with it."""
    port = free_port()

    @examples(count // 4)
    @given(parts, texts, parts, queries)
    def attempt(user: str, password: str, database: str, query: str) -> None:
        url = f'{scheme}://{user}:{SECRET}{password}@127.0.0.1:{port}/{database}?{query}'

        def read() -> None:
            with Cluster(url, op_timeout_sec=0.2, bulk_timeout_sec=0.2) as cluster:
                cluster.status()

        with pytest.raises(JobsyncError) as caught:
            within(read)
        assert SECRET not in str(caught.value)
        if not isinstance(caught.value, BackendUnavailable):  # which has the words of the driver
            assert str(caught.value).isprintable()

    attempt()


def test_namespaces(place: Store, count: int) -> None:
    """Any namespace: refused, or one of its own. No neighbour is touched, and nothing of a name is SQL."""
    with surroundings(place.url) as content:
        before = content()

        @examples(count // 2)
        @given(st.one_of(texts, st.sampled_from(NASTY), st.sampled_from(['mine_', 'MINE_'])))
        def attempt(name: str) -> None:
            config = attempted(lambda: CoordinationConfig(backend=place.url, appname=name))
            if not isinstance(config, Refused):
                assert config.options.namespace == name

            def opened() -> None:
                backend = plugins.connect(place.url, BackendOptions(name, 20.0, 120.0))
                try:
                    if name.lower() == 'mine_':  # any other would add tables, which this test would take for a neighbour's
                        backend.open(Settings(24, 'xxh3'), create=True)
                finally:
                    backend.close()

            result = attempted(opened)
            assert isinstance(result, Refused) or re.fullmatch('[A-Za-z0-9_]+', name)

        attempt()
        assert content() == before
