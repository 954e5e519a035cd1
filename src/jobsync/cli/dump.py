"""``jobsync dump``: all that a bug report needs, without secrets."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping

import click

from jobsync import plugins
from jobsync._metadata import version_of
from jobsync.cli.backends import info_row
from jobsync.cli.common import cluster_command, with_kind
from jobsync.cli.output import print_json
from jobsync.cluster import Cluster
from jobsync.errors import JobsyncError

__all__ = ['dump', 'read_parts']

_SILENT_SEC, _MOST_SILENT = 1.0, 2
"""A failed call of at least so many seconds was not answered. After so many of them in a row no other part is read: each would
wait for its timeout, which for one that may carry many records is a minute."""


@click.command()
@click.option('--limit', type=click.IntRange(1), default=100, show_default=True, help='So many claims, audits and rebalances.')
@click.option('--json', is_flag=True, expose_value=False, help='No effect: the output is JSON in any case.')
@cluster_command
def dump(cluster: Cluster, limit: int) -> None:
    """Print, as JSON, all that a bug report needs. It has names of nodes, hosts and tasks, and no passwords or URLs."""
    parts: dict[str, Callable[[], object]] = {
        'namespaces': cluster.namespaces,
        'status': cluster.status,
        'nodes': cluster.nodes,
        'hand_overs': cluster.hand_overs,
        'locks': cluster.locks,
        'rebalances': lambda: cluster.rebalances(limit),
        'claims': lambda: cluster.claims(limit),
        'audits': lambda: cluster.audits(limit),
        'incomplete': lambda: cluster.incomplete()[:limit],
    }
    print_json(
        {
            'jobsync': version_of('jobsync'),
            'python': platform.python_version(),
            'platform': platform.platform(),
            'drivers': {each.name: dict(each.drivers) for each in plugins.installed()},
            'backend': info_row(cluster.info),
            **read_parts(parts),
        }
    )


def read_parts(parts: Mapping[str, Callable[[], object]], now: Callable[[], float] = time.monotonic) -> dict[str, object]:
    """Return what was read of each part, or why it could not be: a report of a broken store is what is wanted most."""
    found, silences = dict[str, object](), list[float]()
    for name, read in parts.items():
        if len(silences) >= _MOST_SILENT:
            found[name] = {'error': f'not read: the store has not answered for {sum(silences):.0f} s'}
            continue
        started = now()
        try:
            found[name] = read()
            silences.clear()
        except JobsyncError as error:
            took = now() - started
            silences += [took] * (took >= _SILENT_SEC)
            found[name] = {'error': with_kind(error)}
    return found
