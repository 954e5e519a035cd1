"""A call of an SQL store that an exception from outside ends, as long as the program has that exception."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from tests.signals import AlarmError
from tests.support.harnesses.sql import SqlHarness

from jobsync.backends.sql.backend import SqlBackend
from jobsync.testing.conformance.namespace import Namespace

pytestmark = pytest.mark.usefixtures('no_collections')


@pytest.fixture
def others(harness: SqlHarness) -> Namespace:
    """The namespace by another handle, which waits for no longer than a moment."""
    return Namespace(harness.connect(op_timeout_sec=2.0))


def test_statements_whose_rows_were_not_taken_are_over(
    harness: SqlHarness, others: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handle writes at once, also after another one has: SQLite refuses a writer that has an older state open."""
    namespace = Namespace(harness.connect(op_timeout_sec=2.0))
    ref, other = namespace.join('a'), others.join('b')
    run = sa.Connection._exec_single_context

    def interrupted(*arguments: Any) -> Any:
        answer = run(*arguments)
        if answer.returns_rows:
            raise AlarmError
        return answer

    with pytest.raises(AlarmError) as caught, monkeypatch.context() as patch:
        patch.setattr(sa.Connection, '_exec_single_context', interrupted)
        namespace.beat(ref)
    assert others.beat(other).heartbeat == 1
    assert namespace.beat(ref).heartbeat == others.node('a').heartbeat
    assert caught.tb is not None


def test_a_transaction_whose_block_has_not_begun_is_over(
    harness: SqlHarness, others: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends a call just before the block of its transaction leaves none open: all handles write at once."""
    backend = harness.connect(op_timeout_sec=2.0)
    namespace = Namespace(backend)
    assert isinstance(backend, SqlBackend)
    ref, other = namespace.join('a'), others.join('b')
    begun = backend.store.transaction

    class Interrupted:
        def __init__(self, *arguments: Any) -> None:
            self.block = begun(*arguments)

        def __enter__(self) -> None:
            self.block.__enter__()
            raise AlarmError

        def __exit__(self, *_: object) -> None:
            raise AssertionError

    with pytest.raises(AlarmError) as caught, monkeypatch.context() as patch:
        patch.setattr(backend.store, 'transaction', Interrupted)
        namespace.beat(ref)
    assert others.beat(other).heartbeat == 1
    assert namespace.beat(ref).heartbeat == 1
    assert caught.tb is not None
