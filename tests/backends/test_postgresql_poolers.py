"""Several poolers in a URL, each before a server of its own. A pooler lets clients in also while its server is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import attrs
import pytest
from tests.job.waiting import wait_until
from tests.support.harnesses.postgresql import connect_to
from tests.support.servers import PgbouncerServer, PostgresServer

from jobsync.backend import NodeRef
from jobsync.errors import BackendUnavailable, JobsyncError, SchemaMismatch
from jobsync.testing.conformance.namespace import Namespace

pytestmark = [pytest.mark.postgres, pytest.mark.full]


@attrs.frozen
class Pair:
    """A former primary behind a pooler, and a node that has a namespace there and is to turn to another one."""

    former: PostgresServer
    pooler: PgbouncerServer
    promoted: PgbouncerServer
    namespace: Namespace
    ref: NodeRef

    def turns(self) -> bool:
        """Whether a call of the node is served by the other server, which has no tables."""
        try:
            self.namespace.beat(self.ref)
        except BackendUnavailable:
            return False
        except JobsyncError as error:
            assert isinstance(error, SchemaMismatch), error  # noqa: PT017 - any other refusal stays
            return True
        return False


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A pair, of which the pooler of the other server, which comes first in the URL, is not started yet."""
    with (
        closing(PostgresServer()) as former,
        closing(PostgresServer()) as other,
        closing(PgbouncerServer(former)) as pooler,
        closing(PgbouncerServer(other)) as promoted,
    ):
        promoted.kill()
        here = f'127.0.0.1:{pooler.port}'
        url = pooler.url().replace(here, f'127.0.0.1:{promoted.port},{here}')
        with closing(connect_to(url, 'sync_')) as backend:
            namespace = Namespace(backend)
            yield Pair(former, pooler, promoted, namespace, namespace.join('a'))


def test_a_pooler_whose_server_is_away(pair: Pair) -> None:
    """A node is served at the other one, once the pooler says that its server is away."""
    pair.former.kill()
    pair.promoted.start()
    wait_until(pair.turns, 'the other server is called')


def test_a_pooler_whose_server_accepts_writes_no_more(pair: Pair) -> None:
    """A node is served at the other one. The pooler says of its server what was so as it first connected there."""
    pair.former.arrange('CHECKPOINT')
    pair.former.kill()
    (pair.former.folder / 'data' / 'standby.signal').touch()
    pair.former.start()
    wait_until(pair.pooler.answers, 'the pooler has connected to its server again')
    pair.promoted.start()
    wait_until(pair.turns, 'the other server is called')
