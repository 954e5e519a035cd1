"""What an operator may change over HTTP: drain, undrain and evict nodes, release tasks, add and clear task locks."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobsync.cluster import Cluster
from jobsync.errors import BackendUnavailable, JobsyncError
from jobsync.web.feed import Feed
from jobsync.web.security import refusal

__all__ = ['steering_routes']

_log = logging.getLogger('jobsync.web')
_LARGEST = 1_000_000
"""Bytes of a request."""
_DELAY_SEC = 0.5
"""How long the answer to a wrong token is kept back."""


class _Invalid(Exception):
    """The arguments of a request are not allowed."""


def steering_routes(feed: Feed, token: str) -> list[Route]:
    """Return the routes that change something, each by POST with the token and a JSON object."""

    def route(path: str, action: Callable[[Cluster, Mapping[str, Any]], Mapping[str, Any]]) -> Route:
        async def change(request: Request) -> Response:
            refused = refusal(request, token)
            if refused is not None:
                status, reason = refused
                _log.warning('%s from %s is refused: %s', path, _client(request), reason)
                if status == 401:
                    await asyncio.sleep(_DELAY_SEC)
                return JSONResponse({'error': reason}, status)
            try:
                arguments = await _arguments(request)
                by = _text(arguments, 'by')
                done = await run_in_threadpool(lambda: action(feed.cluster(), arguments))
            except _Invalid as error:
                return JSONResponse({'error': str(error)}, 400)
            except JobsyncError as error:
                # It says what was done, or may have been: then the history may have no record of it.
                _log.warning('%s by %r from %s failed: %s: %s', path, by, _client(request), json.dumps(arguments), error)
                feed.refresh()
                return JSONResponse({'error': str(error)}, 503 if isinstance(error, BackendUnavailable) else 400)
            _log.warning('%s by %r from %s: %s', path, by, _client(request), json.dumps(arguments))
            feed.refresh()
            return JSONResponse(done)

        return Route(path, change, methods=['POST'])

    return [
        route('/api/drain', _drain),
        route('/api/undrain', _undrain),
        route('/api/evict', _evict),
        route('/api/release', _release),
        route('/api/locks/add', _add_lock),
        route('/api/locks/clear', _clear_locks),
    ]


def _drain(cluster: Cluster, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    cluster.drain(_text(arguments, 'node'), _reason(arguments), actor=arguments['by'], force=arguments.get('force', False))
    return {'drained': arguments['node']}


def _undrain(cluster: Cluster, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {'was_drained': cluster.undrain(_text(arguments, 'node'), actor=arguments['by'])}


def _evict(cluster: Cluster, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    # t=0  a page shows that node a is silent, and an operator opens the dialog
    # t=1  a, whose process was only paused, or which another operator has evicted, joins anew
    # t=2  the operator confirms: the run that has just begun is not meant
    run = None if arguments.get('incarnation') is None else _text(arguments, 'incarnation')
    timeout_sec = cluster.evict(_text(arguments, 'node'), _reason(arguments), actor=arguments['by'], incarnation=run)
    return {'evicted': arguments['node'], 'timeout_sec': timeout_sec}


def _release(cluster: Cluster, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        date = None if arguments.get('date') is None else dt.date.fromisoformat(_text(arguments, 'date'))
    except ValueError as error:
        raise _Invalid('date must be such as 2026-03-02') from error
    tasks = _texts(arguments, 'tasks')
    cluster.release(tasks, date, actor=arguments['by'])
    return {'released': len(tasks)}


def _add_lock(cluster: Cluster, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    task, patterns = _text(arguments, 'task'), _texts(arguments, 'patterns')
    cluster.add_lock(task, patterns, _reason(arguments), arguments.get('days'), actor=arguments['by'])
    return {'locked': task}


def _clear_locks(cluster: Cluster, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    return {'removed': cluster.clear_locks(_texts(arguments, 'tasks'), actor=arguments['by'])}


async def _arguments(request: Request) -> Mapping[str, Any]:
    body = b''
    try:
        async for part in request.stream():
            body += part
            if len(body) > _LARGEST:
                raise _Invalid(f'at most {_LARGEST} bytes')
    except ClientDisconnect as error:
        raise _Invalid('the request ended early') from error
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _Invalid('the body is not JSON') from error
    if not isinstance(found, dict):
        raise _Invalid('the body must be an object')
    return found


def _text(arguments: Mapping[str, Any], name: str) -> str:
    found = arguments.get(name)
    if not isinstance(found, str) or not found.strip():
        raise _Invalid(f'{name} must be a text that is not empty')
    return found


def _reason(arguments: Mapping[str, Any]) -> str | None:
    return None if arguments.get('reason') is None else _text(arguments, 'reason')


def _texts(arguments: Mapping[str, Any], name: str) -> list[str]:
    found = arguments.get(name)
    if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
        raise _Invalid(f'{name} must be a list of texts, with at least one')
    return found


def _client(request: Request) -> str:
    return request.client.host if request.client is not None else 'an unknown address'
