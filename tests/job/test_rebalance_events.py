"""``on_rebalance``."""

from __future__ import annotations

import threading

import pytest
from tests.job.stores import Store
from tests.job.waiting import wait_until
from tests.support.timings import TOKENS

from jobsync import Job, RebalanceEvent

pytestmark = pytest.mark.any_store


def test_events_add_up(store: Store) -> None:
    """The events of a node, applied one after the other, give its tokens at every stage, and none when it has left."""
    events: list[RebalanceEvent] = []

    def told() -> frozenset[int]:
        tokens: set[int] = set()
        for event in list(events):
            assert not event.gained & tokens
            assert event.lost <= tokens
            tokens = (tokens | event.gained) - event.lost
            assert event.token_count == len(tokens)
            assert event.node_name == 'a'
        return frozenset(tokens)

    with store.job('a', on_rebalance=events.append) as a:
        wait_until(lambda: told() == frozenset(range(TOKENS)), 'all gained')
        with store.job('b') as b:
            wait_until(lambda: told() == a.my_tokens and len(a.my_tokens) == TOKENS // 2, 'half is lost')
            a.register_task_lock('x', 'a')
            wait_until(lambda: a.list_locks()[0]['token_id'] in told(), 'the pin is gained')
            assert b.my_tokens.isdisjoint(told())
        wait_until(lambda: len(told()) == TOKENS + 1, 'all is gained back')
    wait_until(lambda: told() == frozenset(), 'nothing is left')


def test_no_arguments(store: Store) -> None:
    """A callable without parameters is called just the same."""
    called = threading.Event()

    def tell() -> None:
        called.set()

    with store.job('a', on_rebalance=tell):
        wait_until(called.is_set, 'it is called')


def test_exceptions_are_logged_only(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """An exception of ``on_rebalance`` is logged, the node goes on, and the next event comes."""
    events: list[RebalanceEvent] = []

    def fail(event: RebalanceEvent) -> None:
        events.append(event)
        raise ZeroDivisionError('by the user')

    with store.job('a', on_rebalance=fail) as a:
        wait_until(lambda: len(events) == 1, 'the first event')
        with store.job('b'):
            wait_until(lambda: len(events) >= 2, 'another event')
        assert a.am_i_healthy()
    assert 'on_rebalance raised' in caplog.text
    assert 'by the user' in caplog.text


def test_a_slow_callback_holds_up_nothing(store: Store) -> None:
    """While ``on_rebalance`` takes its time, tokens go on changing hands, and the block can be left."""
    finish = threading.Event()
    with store.job('a', on_rebalance=lambda: finish.wait(120)) as a:
        with store.job('b') as b:
            assert len(b.my_tokens) == TOKENS // 2
        wait_until(lambda: len(a.my_tokens) == TOKENS, 'all is back')
    finish.set()


def test_the_job_in_its_callback(store: Store) -> None:
    """``on_rebalance`` may use the job: what it was told has happened."""
    seen: list[int] = []
    jobs: list[Job] = []
    job = store.job('a', on_rebalance=lambda event: seen.append(len(jobs[0].my_tokens)))
    jobs.append(job)
    with job:
        wait_until(lambda: seen == [TOKENS], 'it has seen the tokens')


def test_an_event_in_a_log_is_short() -> None:
    """Its text has the number of tokens, not the tokens."""
    event = RebalanceEvent('a', frozenset(range(10_000)), frozenset(), 10_000)
    assert repr(event) == "RebalanceEvent(node_name='a', gained=<10000 tokens>, lost=<0 tokens>, token_count=10000)"
