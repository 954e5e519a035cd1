"""Every public call with every kind of argument: an error that a person can read, or a result; and no neighbour is touched."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.bad_input.surroundings import MINE, surroundings
from tests.bad_input.table import LEFT_OUT, arguments, calls_of, methods_of
from tests.bad_input.values import mostly
from tests.bad_input.watch import Refused, attempted, examples, within
from tests.job.stores import Store

from jobsync import AsyncJob, Cluster, CoordinationConfig, Job
from jobsync.testing import Namespace

pytestmark = pytest.mark.filterwarnings('ignore::hypothesis.errors.HypothesisWarning')  # of a long text that is shown

CONFIG = {'appname': MINE, 'shutdown_timeout_sec': 1}
"""Tasks are left unfinished, which a job waits for as it leaves."""


def use(result: Any) -> Any:
    """Go on with what a call has returned, as a program does: a loop takes a few steps, a block is entered and left."""
    if callable(result):  # a decorator
        return result(lambda: None)
    if hasattr(result, '__enter__'):
        with result:
            return result
    if hasattr(result, '__next__'):
        return list(islice(result, 3))
    return result


def test_calls_of_a_job(place: Store, count: int) -> None:
    """Calls of ``Job`` inside its block."""
    with surroundings(place.url) as content, place.job('a', config=CONFIG) as job:
        before = content()

        @examples(count)
        @given(calls_of(Job))
        def attempt(call: tuple[str, dict[str, Any]]) -> None:
            name, given_arguments = call
            result = attempted(lambda: getattr(job, name)(**given_arguments))
            if name == 'batch':  # it would wait for tasks that are locked to nodes that are not there
                result = None
            attempted(lambda: use(result))
            assert job.am_i_healthy()

        attempt()
        assert content() == before


def test_calls_of_an_asyncjob(place: Store, count: int) -> None:
    """Calls of ``AsyncJob`` inside its block, on its event loop."""
    with surroundings(place.url) as content, running_loop() as loop:
        job = place.async_job('a', config=CONFIG)
        within(lambda: asyncio.run_coroutine_threadsafe(job.__aenter__(), loop).result())
        try:
            before = content()

            async def run(name: str, given_arguments: dict[str, Any]) -> None:
                result = getattr(job, name)(**given_arguments)
                if asyncio.iscoroutine(result):
                    result = await result
                if name != 'batch':
                    await use_async(result)

            @examples(count // 2)
            @given(calls_of(AsyncJob))
            def attempt(call: tuple[str, dict[str, Any]]) -> None:
                attempted(lambda: asyncio.run_coroutine_threadsafe(run(*call), loop).result())

            attempt()
            assert content() == before
        finally:
            within(lambda: asyncio.run_coroutine_threadsafe(job.__aexit__(None, None, None), loop).result())


async def use_async(result: Any) -> None:
    """As ``use``, on an event loop."""
    if callable(result):
        result(lambda: None)
    elif hasattr(result, '__aenter__'):
        async with result:
            pass
    elif hasattr(result, '__anext__'):
        for _ in range(3):
            await anext(result, None)


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name='bad input loop', daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


def test_calls_of_a_cluster(place: Store, count: int) -> None:
    """Calls of ``Cluster`` about a namespace with two nodes."""
    with surroundings(place.url) as content, Cluster(place.url, MINE, op_timeout_sec=20) as cluster:
        namespace = Namespace(cluster._backend)
        namespace.populate()
        before = content()

        @examples(count)
        @given(calls_of(Cluster))
        def attempt(call: tuple[str, dict[str, Any]]) -> None:
            name, given_arguments = call
            attempted(lambda: getattr(cluster, name)(**given_arguments))

        attempt()
        assert content() == before
        assert cluster.status()


def test_the_table_is_whole() -> None:
    """Each public method and parameter is drawn, and each method that is left out exists."""
    for kind in (Job, AsyncJob, Cluster):
        for name in methods_of(kind):
            arguments(getattr(kind, name))
    assert all(any(hasattr(kind, name) for kind in (Job, AsyncJob, Cluster)) for name in LEFT_OUT)


def test_serve(count: int) -> None:
    """A port and host of any form, before the block: a server that closes, or an error."""
    job = Job('a', coordination_config=CoordinationConfig(backend='memory://bad-input-serve'))
    hosts = st.sampled_from(['127.0.0.1', 'localhost', '::1', '999.1.1.1', '127.0.0.1\0', 'a b', '\ud800', 'x' * 300])

    @examples(count)
    @given(mostly(st.one_of(st.just(0), st.integers(-5, 70_000))), mostly(hosts).filter(lambda host: not is_name(host)))
    def attempt(port: Any, host: Any) -> None:
        server = attempted(lambda: job.serve(port, host))
        if not isinstance(server, Refused):
            within(server.close)

    attempt()


def is_name(host: object) -> bool:
    """Return whether a host would be looked up at a name server, which may take long."""
    return (
        isinstance(host, str)
        and host not in ('localhost', '')
        and host.replace('.', '').replace('-', '').isalnum()
        and not host[0].isdigit()
    )
