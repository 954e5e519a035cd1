"""The commands that read a cluster without joining it."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import sys
import time
from collections.abc import Sequence

import attrs
import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from jobsync._cluster import rows
from jobsync._core.counting import counted
from jobsync._core.redact import listed
from jobsync.cli.common import ATTENTION, day_option, reading_command
from jobsync.cli.output import age, console, plain, print_json, print_rows, print_table, table_of
from jobsync.cluster import Cluster
from jobsync.errors import BackendUnavailable, JobsyncError
from jobsync.rows import ClusterNode, ClusterStatus

__all__ = ['COMMANDS']

_NODES = ('name', 'state', 'leads', 'tokens', 'pins', 'holding', 'weight', 'drained', 'heartbeat', 'timeout', 'host', 'pid')
_FIELDS = {'leads': 'is_leader', 'drained': 'is_drained', 'heartbeat': 'heartbeat_age_sec', 'timeout': 'timeout_sec'}
"""Columns that have another name than the field they show."""
_USUAL = {'holding': 0, 'pins': 0, 'drained': False, 'weight': 1}
"""What most nodes have: such columns go first where there is no room."""
_MOST_PROBLEMS, _MOST_NODES = 20, 50
"""How many lines of each ``status`` prints."""
_MOST_EVENTS = 10
"""How many lines of a task's history ``why`` prints."""
_HISTORY = ('created_on', 'item', 'node', 'date')

limit_option = click.option('--limit', type=click.IntRange(1), default=20, show_default=True, help='The newest so many.')
task_option = click.option('--task', default=None, help='Only this task.')
any_day_option = day_option('The date of the work. Without it every date.')


@click.command()
@click.option('--watch', is_flag=True, help='Show it again and again, until Ctrl-C.')
@click.option('--every', type=click.FloatRange(0.5, 3600), default=2.0, show_default=True, help='Seconds between two readings.')
@reading_command
def status(cluster: Cluster, watch: bool, every: float, as_json: bool) -> None:
    """Show the cluster at a glance, and what needs attention.

    The exit status is 0 if all is well, and 3 if something needs attention.
    """
    if math.isnan(every):
        raise click.BadParameter('nan is not a number of seconds', param_hint='--every')
    if watch and as_json:
        raise click.UsageError('--watch is for people: call the command again and again with --json')
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(cluster, every)
        return
    reading = cluster._reader.read()
    found = rows.status(reading)
    if as_json:
        print_json(found)
    else:
        place = console()
        place.print(_glance(found, rows.node_rows(reading), place.width))
    sys.exit(ATTENTION if found['problems'] else 0)


def _watch(cluster: Cluster, every: float) -> None:
    epoch: int | None = None
    """The last one that was read: leaders that change without moving a token leave no other trace. None before the first."""
    changes = 0
    begun = dt.datetime.now(dt.UTC)
    place = console()
    with Live(console=place, auto_refresh=False) if place.is_terminal else contextlib.nullcontext() as live:
        while sys.stdout is not None:  # a closed output shows nothing, and has no reader whose end would end this
            try:
                reading = cluster._reader.read()
                # Lower than the one before it is in a store that was emptied or restored meanwhile.
                before, epoch = epoch, reading.snapshot.leadership.epoch
                changes += 0 if before is None else max(0, epoch - before)
                shown: RenderableType = _glance(rows.status(reading), rows.node_rows(reading), place.width)
                if changes:
                    shown = Group(
                        Text(f'! the leader has changed {counted(changes, "time")} since {begun:%H:%M:%S} UTC', 'bold yellow'),
                        shown,
                    )
            except JobsyncError as error:
                # A store that has been read once may be restored, or have its password changed, and come back.
                if epoch is None and not isinstance(error, BackendUnavailable):
                    raise
                said = 'the store does not answer: ' * isinstance(error, BackendUnavailable)
                shown = Text(plain(f'{dt.datetime.now(dt.UTC):%H:%M:%S} UTC: {said}{error}'), style='red')
            if live is None:
                place.print(shown)
                place.file.flush()
            else:
                live.update(shown, refresh=True)
            time.sleep(every)


def _glance(found: ClusterStatus, nodes: Sequence[ClusterNode], width: int) -> RenderableType:
    leader = plain(found['leader'] or 'none')
    moving = f', {found["tokens_moving"]:,} moving' if found['tokens_moving'] else ''
    since = next((f' since {row["since"]:%Y-%m-%d %H:%M:%S} UTC' for row in found['leader_changes'][:1]), '')
    tokens, locks = counted(found['total_tokens'], 'token', spec=','), counted(found['locks'], 'task lock', spec=',')
    head = (
        f'{counted(found["nodes"], "node")}, leader {leader} (epoch {found["epoch"]}{since}), version {found["version"]}\n'
        f'{found["tokens_owned"]:,} of {tokens} owned{moving}; {locks}'
    )
    if absent := sorted(set(found['drained']) - {node['name'] for node in nodes}):
        head += f'\ndrained, and not registered: {plain(listed(absent, _MOST_PROBLEMS))}'
    problems = [Text(plain(f'! {problem}'), style='bold red') for problem in found['problems'][:_MOST_PROBLEMS]]
    if more := len(found['problems']) - _MOST_PROBLEMS:
        problems += [Text(f'! and {counted(more, "more problem")}: jobsync status --json', style='bold red')] * (more > 0)
    shown = sorted(nodes, key=_is_well)[:_MOST_NODES] if len(nodes) > _MOST_NODES else nodes
    rest = [Text(f'and {counted(len(nodes) - len(shown), "more node")}: jobsync nodes')] * (len(shown) < len(nodes))
    table = table_of(_NODES, map(_node, shown), width, _USUAL)
    return Group(Text(head), *(problems or [Text('all is well', style='green')]), table, *rest)


def _is_well(node: ClusterNode) -> bool:
    return node['state'] == 'joined' and node['candidate'] and not node['is_drained'] and not node['holding']


def _node(node: ClusterNode) -> list[object]:
    shown = {**node, 'heartbeat_age_sec': age(node['heartbeat_age_sec']), 'timeout_sec': age(node['timeout_sec'])}
    return [shown[_FIELDS.get(column, column)] for column in _NODES]


@click.command()
@reading_command
def nodes(cluster: Cluster, as_json: bool) -> None:
    """List the nodes, oldest first: the leader is the oldest that is at work."""
    found = cluster.nodes()
    if as_json:
        print_json(found)
    elif found:
        print_table(_NODES, map(_node, found), _USUAL)
    else:
        click.echo('no node is registered')


@click.command()
@reading_command
def tokens(cluster: Cluster, as_json: bool) -> None:
    """Show how the tokens are shared out, and the hand-overs under way."""
    owned, moving = cluster.tokens(), cluster.hand_overs()
    if as_json:
        print_json({'tokens': owned, 'hand_overs': moving})
        return
    if not owned:
        click.echo('no token has an owner')
        return
    print_table(('node', 'tokens'), [[name, len(numbers)] for name, numbers in owned.items()])
    for row in moving:
        state = f'{len(row["held"])} still in use' if row['held'] else 'acknowledged' if row['is_acknowledged'] else 'requested'
        click.echo(plain(f'moving: {row["tokens"]} from {row["owner"]} to {row["target"] or "no node"} ({state})'))


@click.command()
@click.option('--group', default=None, help='Only the items of this group.')
@reading_command
def items(cluster: Cluster, group: str | None, as_json: bool) -> None:
    """List the items of groups that are shared out exactly, with their owners."""
    columns = ('group', 'item', 'owner', 'cost', 'patterns')
    print_rows(cluster.items(group), columns, as_json=as_json, nothing='there are no such items')


@click.command()
@limit_option
@reading_command
def rebalances(cluster: Cluster, limit: int, as_json: bool) -> None:
    """List the commits that moved tokens, or by which a node went, newest first, with their reasons."""
    columns = ('triggered_at', 'trigger_reason', 'tokens_moved', 'nodes_before', 'nodes_after', 'leader_node', 'duration_ms')
    print_rows(cluster.rebalances(limit), columns, as_json=as_json, nothing='no rebalance is on record')


@click.command()
@click.argument('task', required=False)
@limit_option
@reading_command
def history(cluster: Cluster, task: str | None, limit: int, as_json: bool) -> None:
    """List what has happened to the cluster (rebalances, leaders) or to TASK (claims), and what operators did, newest first."""
    nothing = 'nothing is on record' + ('' if task is None else f' of {task!r}')
    print_rows(cluster.history(task, limit), ('at', 'event', 'by', 'details'), as_json=as_json, nothing=nothing)


@click.command()
@limit_option
@any_day_option
@task_option
@reading_command
def claims(cluster: Cluster, limit: int, date: dt.date | None, task: str | None, as_json: bool) -> None:
    """List what nodes have begun, newest first."""
    print_rows(cluster.claims(limit, date, task), _HISTORY, as_json=as_json, nothing='no claim is on record')


@click.command()
@limit_option
@any_day_option
@task_option
@reading_command
def audit(cluster: Cluster, limit: int, date: dt.date | None, task: str | None, as_json: bool) -> None:
    """List what nodes have completed, newest first."""
    print_rows(cluster.audits(limit, date, task), _HISTORY, as_json=as_json, nothing='no completion is on record')


@click.command()
@click.option(
    '--older-than', type=click.FloatRange(0), default=300.0, show_default=True, help='Seconds since the task was begun.'
)
@any_day_option
@reading_command
def incomplete(cluster: Cluster, older_than: float, date: dt.date | None, as_json: bool) -> None:
    """List the tasks that were begun and not completed, oldest first."""
    nothing = f'nothing that was begun over {older_than:g} s ago is incomplete' if older_than else 'nothing is incomplete'
    print_rows(cluster.incomplete(older_than, date), _HISTORY, as_json=as_json, nothing=nothing)


@click.command()
@click.argument('task')
@day_option('The date of the work. Without it today.')
@reading_command
def why(cluster: Cluster, task: str, date: dt.date | None, as_json: bool) -> None:
    """Explain who may do TASK, since when and why, or what stands in the way.

    The exit status is 0 if a node may do the task or it is complete, and 3 if not.
    """
    found = cluster.why(task, date)
    if as_json:
        print_json(attrs.asdict(found))
    else:
        kind = 'pin' if found.is_pinned else 'token'
        events = [f'{row["at"]:%Y-%m-%d %H:%M:%S} UTC: {row["event"]}, {row["by"]}: {row["details"]}' for row in found.history]
        click.echo(plain(f'task {found.task!r}, {kind} {found.token}: {found.verdict}'))
        for line in (*found.details, *events[:_MOST_EVENTS]):
            click.echo(plain(f'  {line}'))
    sys.exit(0 if found.is_claimable or found.is_complete else ATTENTION)


@click.command()
@click.option(
    '--add',
    metavar='NAME[:WEIGHT]',
    multiple=True,
    help='A node that would join, with its weight if its name has a colon. May be given again.',
)
@click.option('--remove', metavar='NAME', multiple=True, help='A node that would leave. May be given again.')
@click.option('--dry-run', is_flag=True, help='No effect: this command never changes anything.')
@reading_command
def plan(
    cluster: Cluster,
    add: tuple[str, ...],
    remove: tuple[str, ...],
    dry_run: bool,  # noqa: ARG001 - accepted, without effect
    as_json: bool,
) -> None:
    """Show what would move if nodes came or went. Changes nothing."""
    found = cluster.plan(dict(map(_weighted, add)), remove)
    if as_json:
        print_json(found)
        return
    planned = [[name, node['weight'], node['before'], node['after']] for name, node in found['nodes'].items()]
    print_table(('node', 'weight', 'tokens before', 'tokens after'), planned)
    click.echo(f'{counted(found["moved"], "token", spec=",")} would move')
    if found['unmatched']:
        click.echo(plain(f'tasks whose patterns no node would match: {", ".join(found["unmatched"])}'))


def _weighted(text: str) -> tuple[str, float]:
    name, colon, weight = text.rpartition(':')
    try:
        return (name, float(weight)) if colon else (text, 1.0)
    except ValueError:
        words = f'{text!r} is neither NAME nor NAME:WEIGHT; a name with a colon needs its weight, too'
        raise click.BadParameter(words, param_hint='--add') from None


COMMANDS = (status, nodes, tokens, items, rebalances, history, claims, audit, incomplete, why, plan)
"""In the order in which an operator meets them."""
