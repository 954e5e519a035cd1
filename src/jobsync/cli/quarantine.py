"""The commands on tasks in quarantine."""

from __future__ import annotations

import datetime as dt

import click

from jobsync._cluster.actions import read_first
from jobsync.cli.common import day_option, reading_command, steering_command
from jobsync.cli.output import print_done, print_rows
from jobsync.cluster import Cluster

__all__ = ['quarantine', 'release']

date_option = day_option('The date of the work.  [default: today]')


@click.group()
def quarantine() -> None:
    """List and release the tasks that no node may claim, since max_attempts workers were lost at each."""


@quarantine.command('list')
@click.option(
    '--attempts',
    type=click.IntRange(1),
    help='So many lost workers.  [default: max_attempts of the nodes at work, or of the last that were, or 3]',
)
@date_option
@reading_command
def list_quarantined(cluster: Cluster, attempts: int | None, date: dt.date | None, as_json: bool) -> None:
    """List the tasks at which at least so many workers were lost, the worst first."""
    found = cluster.quarantined(attempts, date)
    day = date or dt.date.today()
    nothing = (
        f'no task has so many lost attempts on {day}: do the workers work at another date (--date), or with a lower max_attempts '
        '(--attempts)?'
    )
    print_rows(found, ('attempts', 'item'), as_json=as_json, nothing=nothing)


@quarantine.command()
@click.argument('tasks', nargs=-1, required=True)
@date_option
@steering_command
def release(cluster: Cluster, tasks: tuple[str, ...], date: dt.date | None, actor: str | None, as_json: bool) -> None:
    """Allow TASKS to be claimed again, with no attempt counted."""
    lost = {row['item'] for row in read_first('release', lambda: cluster.quarantined(1, date))}
    cluster.release(tasks, date, actor=actor)
    unknown = [task for task in tasks if task not in lost]
    lines = []
    if released := [task for task in tasks if task in lost]:
        lines.append(f'released: {", ".join(map(repr, released))}')
    if unknown:
        day = date or dt.date.today()
        lines.append(f'no worker was lost at {", ".join(map(repr, unknown))} on {day}: are the id and the date right?')
    print_done('\n'.join(lines), as_json=as_json, released=tasks, without_lost_attempts=unknown)
