"""The HTTP applications: health, metrics, the API and the page."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.util
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from importlib.resources import files
from typing import Any, Protocol

import attrs
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from jobsync._cluster import rows
from jobsync._core.redact import safe_repr
from jobsync._metadata import version_of
from jobsync.cluster import Cluster
from jobsync.errors import BackendUnavailable, ConfigError, JobsyncError
from jobsync.rows import CoordinationStatus
from jobsync.web import lists
from jobsync.web.feed import Feed
from jobsync.web.frame import INCOMPLETE_SEC, Frame, as_json
from jobsync.web.security import LOCAL, HostCheck, SafeHeaders, checked_token
from jobsync.web.steering import steering_routes

__all__ = ['cluster_app', 'job_app']

_TYPES = {'html': 'text/html', 'js': 'text/javascript', 'css': 'text/css', 'svg': 'image/svg+xml'}
_MOST_ROWS = 1000
_NO_NUMBER = {'error': 'offset and limit must be numbers, 0 or more'}
Answer = Callable[[Request], Awaitable[Response]]


def cluster_app(connect: Callable[[], Cluster], hosts: Sequence[str] = LOCAL, token: str | None = None) -> Starlette:
    """Return the application that shows a cluster, and changes it if there is a token.

    Args:
        connect: Returns the cluster; called at the first request that needs it, and closed with the application.
        hosts: The names by which the server may be addressed; ``*`` allows any.
        token: What a request must bring to change something: at least 16 characters. None: nothing can be changed.

    Raises:
        ConfigError: The token is too short, or has a character that is not printable ASCII.
    """
    feed = Feed(connect, _about(steering=checked_token(token) is not None))

    async def ready(_: Request) -> Response:
        # The page says why a store does not answer, so it stays reachable when the store is not.
        return _json({'ready': True})

    async def metrics(_: Request) -> Response:
        from jobsync.web.gauges import cluster_metrics

        return _exposition(cluster_metrics(*await feed.recent()))

    routes = [
        Route('/health/ready', ready),
        *_metrics_route(metrics),
        *([] if token is None else steering_routes(feed, token)),
    ]
    return _app(feed, routes, hosts)


class Worker(Protocol):
    """What is shown of a job."""

    @property
    def is_leaving(self) -> bool:
        """See ``Job.is_leaving``."""

    def am_i_healthy(self) -> bool:
        """See ``Job.am_i_healthy``."""

    def get_coordination_status(self) -> CoordinationStatus:
        """See ``Job.get_coordination_status``."""


def job_app(job: Worker, connect: Callable[[], Cluster], hosts: Sequence[str] = LOCAL) -> Starlette:
    """Return the application that shows a worker, and the cluster that it is in. Nothing can be changed.

    Args:
        job: The worker's job, entered or not.
        connect: Returns the cluster; called at the first request that needs it, and closed with the application.
        hosts: The names by which the server may be addressed; ``*`` allows any.
    """

    async def ready(_: Request) -> Response:
        status = job.get_coordination_status()
        is_ready = job.am_i_healthy() and not job.is_leaving
        body = {'ready': is_ready, 'state': status['state'], 'is_stalled': status['is_stalled']}
        return _json(body, 200 if is_ready else 503)

    async def worker(_: Request) -> Response:
        return _json(job.get_coordination_status())

    async def metrics(_: Request) -> Response:
        from prometheus_client import generate_latest

        return _exposition(await run_in_threadpool(generate_latest))

    routes = [Route('/health/ready', ready), *_metrics_route(metrics), Route('/api/worker', worker)]
    return _app(Feed(connect, _about(steering=False)), routes, hosts)


def _about(*, steering: bool) -> dict[str, Any]:
    return {'version': version_of('jobsync') or 'unknown', 'steering': steering}


def _metrics_route(metrics: Answer) -> Iterator[Route]:
    """Yield the route of the metrics, if the extra for them is installed."""
    if importlib.util.find_spec('prometheus_client') is not None:
        yield Route('/metrics', metrics)


def _exposition(text: bytes) -> Response:
    from prometheus_client import CONTENT_TYPE_LATEST

    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _app(feed: Feed, routes: Sequence[Route], hosts: Sequence[str]) -> Starlette:
    async def live(_: Request) -> Response:
        return _json({'live': True})

    async def state(_: Request) -> Response:
        frame, error = await feed.recent()
        if frame is None:
            return _json({'error': error}, 503)
        failed = f',"error":{as_json(error)}' if error is not None else ''
        return Response(f'{frame.text()[:-1]}{failed}}}', media_type='application/json')

    async def events(_: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            yield 'retry: 1000\n\n'
            async for name, data in feed.events():
                yield f'event: {name}\ndata: {data}\n\n'

        return StreamingResponse(lines(), media_type='text/event-stream', headers={'x-accel-buffering': 'no'})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(feed.close)

    app = Starlette(
        routes=[
            Route('/health/live', live),
            *routes,
            Route('/api/state', state),
            Route('/api/events', events),
            *_shown_routes(feed),
            *_questions(feed),
            *_page_routes(),
        ],
        middleware=[Middleware(HostCheck, hosts=hosts), Middleware(SafeHeaders), Middleware(GZipMiddleware, minimum_size=2000)],
        exception_handlers={HTTPException: _refused, 500: _failed},
        lifespan=lifespan,
    )
    app.state.feed = feed
    return app


def _shown_routes(feed: Feed) -> Iterator[Route]:
    """Yield the routes that answer from the last frame, without a call to the store."""

    def shown(read: Callable[[Frame, Request], Any]) -> Answer:
        async def answer(request: Request) -> Response:
            frame, error = await feed.recent()
            if frame is None:
                return _json({'error': error}, 503)
            try:
                return _json(await run_in_threadpool(read, frame, request))
            except ValueError:
                return _json(_NO_NUMBER, 400)

        return answer

    def nodes(frame: Frame, request: Request) -> Any:
        name = request.query_params.get('name')
        return [row for row in rows.node_rows(frame.reading) if name in (None, row['name'])]

    def locks(frame: Frame, request: Request) -> Any:
        asked = request.query_params
        return lists.locks(frame.reading, asked.get('q', ''), *_page_of(request), unmatched=asked.get('unmatched', '') == '1')

    def items(frame: Frame, request: Request) -> Any:
        asked = request.query_params
        return lists.items(frame.reading, asked.get('q', ''), *_page_of(request), group=asked.get('group'))

    yield Route('/api/nodes', shown(nodes))
    yield Route('/api/locks', shown(locks))
    yield Route('/api/items', shown(items))


def _page_of(request: Request) -> tuple[int, int]:
    offset, limit = (int(request.query_params.get(name, default)) for name, default in (('offset', '0'), ('limit', '100')))
    if offset < 0 or limit < 0:
        raise ValueError('below 0')
    return offset, min(limit, _MOST_ROWS)


def _questions(feed: Feed) -> Iterator[Route]:
    """Yield the routes that read the store."""

    def read(question: Callable[[Cluster, Request], Any]) -> Answer:
        async def answer(request: Request) -> Response:
            try:
                return _json(await run_in_threadpool(lambda: question(feed.cluster(), request)))
            except JobsyncError as error:
                return _json({'error': str(error)}, 503 if isinstance(error, BackendUnavailable) else 400)
            except ValueError:
                return _json(_NO_NUMBER, 400)

        return answer

    def why(cluster: Cluster, request: Request) -> Any:
        asked = request.query_params
        try:
            date = dt.date.fromisoformat(asked['date']) if asked.get('date') else None
        except ValueError as error:
            raise ConfigError(f'date is {safe_repr(asked["date"])}: must be such as 2026-03-02') from error
        return attrs.asdict(cluster.why(asked.get('task', ''), date))

    yield Route('/api/why', read(why))

    def history(cluster: Cluster, request: Request) -> Any:
        return cluster.history(request.query_params.get('task') or None, _page_of(request)[1])

    yield Route('/api/history', read(history))

    def incomplete(cluster: Cluster, request: Request) -> Any:
        offset, limit = _page_of(request)
        found = cluster.incomplete(older_than=INCOMPLETE_SEC)
        return {'total': len(found), 'rows': found[offset : offset + limit]}

    yield Route('/api/incomplete', read(incomplete))


def _page_routes() -> Iterator[Route]:
    """Yield the routes of the page, its script and its style: every file of the folder ``page``, read once."""

    def file(content: str, kind: str) -> Callable[[Request], Response]:
        return lambda _: Response(content, media_type=kind)

    for path in files('jobsync.web').joinpath('page').iterdir():
        kind = _TYPES.get(path.name.rpartition('.')[2])
        if kind is not None:
            name = '' if path.name == 'page.html' else path.name
            yield Route(f'/{name}', file(path.read_text(encoding='utf-8'), kind))


async def _refused(_: Request, error: Exception) -> Response:
    """Answer a path or a method that there is not."""
    assert isinstance(error, HTTPException)
    return JSONResponse({'error': error.detail}, error.status_code, error.headers)


def _failed(_: Request, __: Exception) -> Response:
    return _json({'error': 'an unexpected error: the log of the server has it'}, 500)


def _json(value: object, status: int = 200) -> Response:
    return Response(as_json(value), status, media_type='application/json')
