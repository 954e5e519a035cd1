"""The HTTP applications: health, the API and the page."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib.util
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from jobsync.cluster import Cluster
from jobsync.errors import BackendUnavailable, JobsyncError
from jobsync.rows import CoordinationStatus
from jobsync.web.view import ClusterView

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ['allowed_hosts', 'cluster_app', 'job_app']

_LOCAL = ('localhost', '127.0.0.1', '[::1]')
_EVERY_SEC, _STEP_SEC = 1.0, 0.1
"""How often a browser is sent what has changed, and how soon it is noticed that the browser or the server is to go."""
_TYPES = {'html': 'text/html', 'js': 'text/javascript', 'css': 'text/css'}
_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b'content-security-policy', _POLICY.encode()),
    (b'x-content-type-options', b'nosniff'),
    (b'referrer-policy', b'no-referrer'),
    (b'cache-control', b'no-store'),
)


def allowed_hosts(host: str, names: Sequence[str] = ()) -> list[str]:
    """Return the names by which a server that listens on ``host`` may be addressed: any, unless it listens on this machine only.

    A page of another site, whose name leads to this machine, could read everything otherwise.
    """
    if host in ('127.0.0.1', '::1', 'localhost'):
        return [*_LOCAL, *names]
    return list(names) or ['*']


def cluster_app(connect: Callable[[], Cluster], hosts: Sequence[str] = _LOCAL) -> Starlette:
    """Return the application that shows a cluster.

    Args:
        connect: Returns the cluster; called at the first request that needs it.
        hosts: The names by which the server may be addressed; ``*`` allows any.
    """
    view = ClusterView(connect)

    async def ready(_: Request) -> Response:
        state = await run_in_threadpool(view.state)
        return JSONResponse({'ready': 'error' not in state}, 503 if 'error' in state else 200)

    return _app(view, [Route('/health/ready', ready)], hosts)


class Worker(Protocol):
    """What is shown of a job."""

    def am_i_healthy(self) -> bool:
        """See ``Job.am_i_healthy``."""

    def get_coordination_status(self) -> CoordinationStatus:
        """See ``Job.get_coordination_status``."""


def job_app(job: Worker, connect: Callable[[], Cluster], hosts: Sequence[str] = _LOCAL) -> Starlette:
    """Return the application that shows a worker, and the cluster that it is in.

    Args:
        job: The worker's job, entered or not.
        connect: Returns the cluster; called at the first request that needs it.
        hosts: The names by which the server may be addressed; ``*`` allows any.
    """
    view = ClusterView(connect)

    async def ready(_: Request) -> Response:
        return JSONResponse(job.get_coordination_status(), 200 if job.am_i_healthy() else 503)

    routes = [Route('/health/ready', ready)]
    if importlib.util.find_spec('prometheus_client') is not None:
        routes.append(Route('/metrics', _metrics))
    return _app(view, routes, hosts)


def _metrics(_: Request) -> Response:
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _app(view: ClusterView, routes: Sequence[Route], hosts: Sequence[str]) -> Starlette:
    async def live(_: Request) -> Response:
        return JSONResponse({'live': True})

    async def state(_: Request) -> Response:
        return _json(await run_in_threadpool(view.state))

    async def events(request: Request) -> Response:
        return EventSourceResponse(_changes(view, request))

    def asked(question: Callable[[Cluster, Request], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                return _json(await run_in_threadpool(view.ask, lambda cluster: question(cluster, request)))
            except BackendUnavailable as error:
                return _json({'error': str(error)}, 503)
            except JobsyncError as error:
                return _json({'error': str(error)}, 400)

        return answer

    def page(name: str) -> Callable[[Request], Response]:
        content = files('jobsync.web').joinpath('page', name).read_text(encoding='utf-8')
        return lambda _: Response(content, media_type=_TYPES[name.rpartition('.')[2]])

    every = [
        Route('/health/live', live),
        *routes,
        Route('/api/state', state),
        Route('/api/events', events),
        Route('/api/locks', asked(lambda cluster, _: cluster.locks())),
        Route('/api/items', asked(lambda cluster, _: cluster.items())),
        Route('/api/incomplete', asked(lambda cluster, _: cluster.incomplete(older_than=300))),
        Route('/api/why/{task:path}', asked(lambda cluster, request: attrs.asdict(cluster.why(request.path_params['task'])))),
        Route('/', page('page.html')),
        *(Route(f'/{name}', page(name)) for name in ('page.js', 'page.css')),
    ]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)), Middleware(_Headers)]
    app = Starlette(routes=every, middleware=middleware, exception_handlers={500: _failed})
    app.state.closing = threading.Event()
    return app


async def _changes(view: ClusterView, request: Request) -> AsyncIterator[Mapping[str, str]]:
    """Yield the state each time it has changed."""
    sent = ''
    closing: threading.Event = request.app.state.closing
    read_at = float('-inf')
    while not (closing.is_set() or await request.is_disconnected()):
        await asyncio.sleep(_STEP_SEC)
        if time.monotonic() < read_at + _EVERY_SEC:
            continue
        read_at = time.monotonic()
        text = json.dumps(await run_in_threadpool(view.state), default=_plain)
        if text != sent:
            sent = text
            yield {'event': 'state', 'data': text}


class _Headers:
    """Adds the headers that keep a browser from doing more with a page than to show it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message['type'] == 'http.response.start':
                message['headers'] = [*message['headers'], *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _failed(_: Request, __: Exception) -> Response:
    return PlainTextResponse('an unexpected error: the log of the server has it', 500)


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value, default=_plain), status, media_type='application/json')


def _plain(value: object) -> object:
    if isinstance(value, (dt.date, dt.datetime)):
        return value.isoformat()
    raise TypeError(f'{value!r} has no form in JSON')
