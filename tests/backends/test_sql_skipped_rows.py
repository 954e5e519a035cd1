"""Rows that a trigger of somebody's own leaves out without an error: what depends on them is refused."""

from __future__ import annotations

import pytest
from tests.support.harnesses.sql import SqlHarness
from tests.support.harnesses.sqlite import SqliteHarness

from jobsync.backend import Pin, TokenGroup
from jobsync.errors import SchemaMismatch
from jobsync.testing import Namespace
from jobsync.testing.conformance.namespace import TOKENS


def skip(harness: SqlHarness, event: str, table: str, answer: str = 'NULL') -> None:
    """Have a trigger skip rows; on PostgreSQL one that returns NEW, as it should for all but DELETE, where NEW is null.

    The answer ``small`` writes the name of a node in small letters.
    """
    if isinstance(harness, SqliteHarness):
        harness.execute(f'CREATE TRIGGER mine BEFORE {event} ON {table} BEGIN SELECT RAISE(IGNORE); END')
        return
    if event == 'DELETE':
        answer = 'NEW'
    body = '$$BEGIN NEW.node = lower(NEW.node); RETURN NEW; END$$' if answer == 'small' else f'$$BEGIN RETURN {answer}; END$$'
    harness.execute(
        f'CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS {body}',
        f'CREATE TRIGGER mine BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION mine()',
    )


def test_a_node_whose_row_stays_is_not_evicted(harness: SqlHarness) -> None:
    """Its next heartbeat would succeed: it would have a lease while others own its tokens."""
    namespace = Namespace(harness.connect())
    leader, ref = namespace.leader(), namespace.join('b')
    namespace.commit(leader, TokenGroup(range(9), 'b'))
    skip(harness, 'DELETE', 'sync_node')
    with namespace.refused(SchemaMismatch) as caught:
        namespace.evict(leader, ref)
    assert 'rows of sync_node are skipped' in str(caught.value)
    assert namespace.beat(ref).heartbeat == 1


@pytest.mark.parametrize('answer', ['NULL', 'OLD'])
def test_a_heartbeat_whose_row_stays_is_no_eviction(harness: SqlHarness, answer: str) -> None:
    """The node would register anew without a pause, or take the store for one that went back in time."""
    namespace = Namespace(harness.connect())
    ref = namespace.join('b')
    harness.execute("UPDATE sync_node SET last_heartbeat = '2026-01-01'")
    skip(harness, 'UPDATE', 'sync_node', answer)
    with namespace.refused(SchemaMismatch) as caught:
        namespace.beat(ref)
    assert 'rows of sync_node are skipped' in str(caught.value)


@pytest.mark.parametrize(('event', 'answer'), [('INSERT', 'NULL'), ('UPDATE', 'NULL'), ('UPDATE', 'OLD')])
def test_a_node_whose_row_is_not_written_is_not_registered(harness: SqlHarness, event: str, answer: str) -> None:
    """Its first heartbeat would tell it that it was evicted, and it would register anew without a pause."""
    namespace = Namespace(harness.connect())
    if event == 'UPDATE':
        namespace.backend.deregister(namespace.join('b'))
    skip(harness, event, 'sync_node', answer)
    with namespace.refused(SchemaMismatch) as caught:
        namespace.join('b')
    assert 'rows of sync_node are skipped' in str(caught.value)


@pytest.mark.parametrize(
    ('event', 'answer'), [('INSERT', 'NULL'), ('INSERT', 'small'), ('UPDATE', 'NULL'), ('UPDATE', 'OLD'), ('UPDATE', 'small')]
)
def test_tokens_whose_rows_are_not_written_are_not_given_away(harness: SqlHarness, event: str, answer: str) -> None:
    """A node that reads what has changed would own them, and one that reads everything would not."""
    namespace = Namespace(harness.connect())
    leader = namespace.leader()
    namespace.commit(leader, TokenGroup(range(9), 'a'), TokenGroup(range(12, 15), 'B'))
    skip(harness, event, 'sync_token', answer)
    with namespace.refused(SchemaMismatch) as caught:  # each has an owner that the plan names as well, before and after
        namespace.commit(leader, TokenGroup(range(12) if event == 'INSERT' else range(9), 'B'), TokenGroup(range(12, 15), 'a'))
    assert 'rows of sync_token are skipped' in str(caught.value)


@pytest.mark.parametrize('what', ['tokens', 'pins'])
def test_rows_that_stay_are_not_taken_for_gone(harness: SqlHarness, what: str) -> None:
    """Every node would go by the pin, which no node owns any more, and the leader would remove it again and again."""
    namespace = Namespace(harness.connect())
    leader = namespace.leader()
    pin = Pin(TOKENS + 1, 'x', 'a', None, 0)
    namespace.commit(leader, TokenGroup(range(9), 'a'), pins=(pin,))
    skip(harness, 'DELETE', 'sync_token')
    with namespace.refused(SchemaMismatch) as caught:
        if what == 'pins':
            namespace.commit(leader, unpinned=frozenset({pin.id}))
        else:
            namespace.commit(leader, TokenGroup(range(9), None))
    assert 'rows of sync_token are skipped' in str(caught.value)
