"""``jobsync web``: the page of a cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import signal

import click

from jobsync.cli.common import cluster_command
from jobsync.cluster import Cluster
from jobsync.errors import JobsyncError

__all__ = ['web']

_LOCAL = ('127.0.0.1', '::1', 'localhost')


@click.command()
@click.option('--host', default='127.0.0.1', show_default=True, help='The address to listen on.')
@click.option('--port', type=click.IntRange(0, 65_535), default=8787, show_default=True, help='The port; 0 takes a free one.')
@click.option('--allow-host', metavar='NAME', multiple=True, help='A name by which browsers reach it, if not localhost.')
@click.option('--steer', is_flag=True, help='Allow changes, with the token in JOBSYNC_WEB_TOKEN or a new one.')
@cluster_command
def web(cluster: Cluster, host: str, port: int, allow_host: tuple[str, ...], steer: bool) -> None:
    """Serve a page that shows the cluster, live, and the same as an API. Changes nothing unless --steer is given.

    No login is needed to read, so it listens on this machine only, unless --host says otherwise: put a proxy that requires a
    login in front of it then. With --steer the page drains, undrains and evicts nodes, releases tasks from quarantine, and adds
    and clears task locks, for those who have the token.
    """
    missing = [name for name in ('starlette', 'uvicorn') if importlib.util.find_spec(name) is None]
    if missing:
        raise JobsyncError(f"the page needs {' and '.join(missing)}: pip install 'jobsync[web]'")
    from jobsync.web import Server, allowed_hosts, cluster_app

    logging.basicConfig(format='%(asctime)s %(levelname)s %(name)s: %(message)s')
    given = os.environ.get('JOBSYNC_WEB_TOKEN')
    token = given or secrets.token_urlsafe(24) if steer else None
    with Server(cluster_app(lambda: cluster, allowed_hosts(host, allow_host), token), port, host) as server:
        shown = 'localhost' if host in _LOCAL else f'[{host}]' if ':' in host else host
        key = f'#token={token}' if token is not None and not given else ''
        click.echo(f'http://{shown}:{server.port}/{key} shows the cluster; Ctrl-C ends it')
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # without a handler the first process of a container ignores it
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()
