"""``jobsync web``: the page of a cluster."""

from __future__ import annotations

import importlib.util

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
@cluster_command
def web(cluster: Cluster, host: str, port: int, allow_host: tuple[str, ...]) -> None:
    """Serve a page that shows the cluster, live, and the same as an API. Changes nothing, and no login is needed.

    So it listens on this machine only, unless --host says otherwise: put a proxy that requires a login in front of it then.
    """
    missing = [name for name in ('sse_starlette', 'starlette', 'uvicorn') if importlib.util.find_spec(name) is None]
    if missing:
        raise JobsyncError(f"the page needs {' and '.join(missing)}: pip install 'jobsync[web]'")
    from jobsync.web import Server, allowed_hosts, cluster_app

    with Server(cluster_app(lambda: cluster, allowed_hosts(host, allow_host)), port, host) as server:
        shown = 'localhost' if host in _LOCAL else host
        click.echo(f'http://{shown}:{server.port}/ shows the cluster; Ctrl-C ends it')
        server.wait()
