"""The command that deletes old records of the history."""

from __future__ import annotations

import datetime as dt

import click

from jobsync._core.counting import counted
from jobsync.cli.common import confirm, steering_command, yes_option
from jobsync.cli.output import print_done
from jobsync.cluster import Cluster
from jobsync.config.checks import KINDS

__all__ = ['purge']


@click.command()
@click.option('--older-than', metavar='DAYS', type=click.FloatRange(0, 10_000), help='Delete what was recorded longer ago.')
@click.option('--before', type=click.DateTime(), help='Delete what was recorded earlier, in UTC.')
@click.option('--kind', 'kinds', multiple=True, type=click.Choice(KINDS), help='What to delete; all by default. May be repeated.')
@yes_option
@steering_command
def purge(
    cluster: Cluster,
    older_than: float | None,
    before: dt.datetime | None,
    kinds: tuple[str, ...],
    yes: bool,
    actor: str | None,
    as_json: bool,
) -> None:
    """Delete old claims, audits and rebalances, in small portions, while the cluster works.

    Give --older-than or --before, which go by the store's clock. Incomplete work stays on record: a claim is deleted only if its
    task is complete, and an audit only after the claims of its task. A task whose audit is deleted is not known to be complete
    any more: a worker that loops over that date once more does the task again.
    """
    if (older_than is None) is (before is None):
        raise click.UsageError('give either --older-than or --before')
    age = None if older_than is None else older_than * 86_400
    moment = None if before is None else before.replace(tzinfo=dt.UTC)
    what = ', '.join(f'{kind}s' for kind in kinds or KINDS)
    when = f'more than {counted(older_than or 0, "day")} ago' if moment is None else f'before {moment:%Y-%m-%d %H:%M} UTC'
    confirm(f'Delete the {what} of {cluster.appname!r} that were recorded {when}?', yes=yes)
    deleted = cluster.purge(before=moment, older_than=age, kinds=kinds or KINDS, actor=actor)
    print_done(
        '\n'.join(f'{counted(number, kind)} deleted' for kind, number in deleted.items()), as_json=as_json, deleted=deleted
    )
