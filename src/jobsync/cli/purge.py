"""The command that deletes old records of the history."""

from __future__ import annotations

import datetime as dt

import click

from jobsync.cli.common import steering_command
from jobsync.cluster import Cluster

__all__ = ['purge']

KINDS = ('claim', 'audit', 'rebalance')


@click.command()
@click.option('--older-than', metavar='DAYS', type=click.FloatRange(min=0), help='Delete what was recorded longer ago.')
@click.option('--before', type=click.DateTime(), help='Delete what was recorded earlier, in UTC.')
@click.option('--kind', 'kinds', multiple=True, type=click.Choice(KINDS), help='What to delete; all by default. May be repeated.')
@steering_command
def purge(
    cluster: Cluster, older_than: float | None, before: dt.datetime | None, kinds: tuple[str, ...], actor: str | None
) -> None:
    """Delete old claims, audits and rebalances, in small portions, while the cluster works.

    Give --older-than or --before, which go by the store's clock. Incomplete work stays on record: a claim is deleted only if its
    task is complete, and an audit only after the claims of its task.
    """
    if (older_than is None) is (before is None):
        raise click.UsageError('give either --older-than or --before')
    age = None if older_than is None else older_than * 86_400
    moment = None if before is None else before.replace(tzinfo=dt.UTC)
    for kind, number in cluster.purge(before=moment, older_than=age, kinds=kinds or KINDS, actor=actor).items():
        click.echo(f'{number} {kind}s deleted')
