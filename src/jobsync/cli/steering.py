"""The commands that steer: task locks, nodes that are to own nothing, and nodes that are to go."""

from __future__ import annotations

import click

from jobsync._cluster.actions import people, read_first
from jobsync._core.counting import counted
from jobsync._core.patterns import choose
from jobsync._core.records import NodeState
from jobsync._core.redact import listed
from jobsync.cli.common import confirm, reading_command, steering_command, yes_option
from jobsync.cli.output import plain, print_done, print_rows
from jobsync.cluster import Cluster
from jobsync.rows import LockRow

__all__ = ['drain', 'evict', 'locks', 'orphans', 'undrain']


@click.group()
def locks() -> None:
    """List, add and clear task locks."""


@locks.command('list')
@click.option('--unmatched', is_flag=True, help='Only locks that no live node matches.')
@click.option('--orphaned', is_flag=True, help='Only locks of nodes that are not registered any more.')
@reading_command
def list_locks(cluster: Cluster, unmatched: bool, orphaned: bool, as_json: bool) -> None:
    """List task locks, with the pattern in force."""
    found = cluster.locks()
    if unmatched:
        tasks = set(cluster.status()['unmatched'])
        found = [lock for lock in found if lock['task_id'] in tasks]
    if orphaned:
        orphaned_tasks = {lock['task_id'] for lock in orphans(cluster)}
        found = [lock for lock in found if lock['task_id'] in orphaned_tasks]
    columns = ('task_id', 'node_pattern', 'patterns', 'created_by', 'expires_at', 'reason')
    print_rows(found, columns, as_json=as_json, nothing='there is no such task lock')


def orphans(cluster: Cluster) -> list[LockRow]:
    """Return the task locks that a node has registered which is no member any more. Persons are no nodes."""
    found, members = cluster.locks(), {node['name'] for node in cluster.nodes() if node['state'] != 'left'}
    known = members | people(cluster._reader.read().locks.locks)
    return [lock for lock in found if lock['created_by'] not in known]


@locks.command('add')
@click.argument('task')
@click.argument('patterns', nargs=-1, required=True)
@click.option('--reason', default=None, help='Text for people.')
@click.option('--days', type=click.FloatRange(0, min_open=True), default=None, help='After how many days the lock ends.')
@steering_command
def add_lock(
    cluster: Cluster,
    task: str,
    patterns: tuple[str, ...],
    reason: str | None,
    days: float | None,
    actor: str | None,
    as_json: bool,
) -> None:
    """Lock TASK to the nodes that match the first of PATTERNS that any live node matches: SQL LIKE, such as 'gpu-%'."""
    reading = read_first('lock', cluster._reader.read)  # after the last call of the store no error says that nothing was done
    cluster.add_lock(task, list(patterns), reason, days, actor=actor)
    idle, registered = reading.idle, {node.name for node in reading.snapshot.nodes if node.state is NodeState.JOINED}
    is_matched = bool(choose(patterns, registered - idle.keys())[1])
    words = f'{task!r} is locked to {", ".join(map(repr, patterns))}'
    if not is_matched and (matching := choose(patterns, idle)[1]):
        reasons = listed(f'{name!r} is {idle[name]}' for name in matching)
        words += f'; each registered node that matches is to own nothing, so no node may do it: {reasons}'
    elif not is_matched:
        words += '; no registered node matches, so no node may do it (% is any number of characters, _ is one)'
    if reading.ignores_locks:
        words += '; the leader ignores task locks: its locks_enabled is off'
    print_done(words, as_json=as_json, locked=task, patterns=patterns, is_matched=is_matched)


@locks.command('clear')
@click.argument('tasks', nargs=-1)
@click.option('--creator', default=None, help='All that this node or person has registered.')
@click.option('--all', 'everything', is_flag=True, help='Every task lock, after a question.')
@yes_option
@steering_command
def clear_locks(
    cluster: Cluster, tasks: tuple[str, ...], creator: str | None, everything: bool, yes: bool, actor: str | None, as_json: bool
) -> None:
    """Clear the locks of TASKS, those of a creator, or all."""
    if [bool(tasks), creator is not None, everything].count(True) != 1:
        raise click.UsageError('give either TASKS, --creator or --all')
    if everything:
        found = read_first('clear locks', cluster.locks)
        confirm(f'Clear {counted(len(found), "task lock")}, all of {cluster.appname!r}? Any node may do the tasks then', yes=yes)
    removed = cluster.clear_locks(list(tasks) or None, creator, actor=actor)
    print_done(f'task locks removed: {removed}', as_json=as_json, removed=removed)


@click.command()
@click.argument('node')
@click.option('--reason', default=None, help='Text for people.')
@click.option('--force', is_flag=True, help='Even if no other node at work could own its tokens.')
@steering_command
def drain(cluster: Cluster, node: str, reason: str | None, force: bool, actor: str | None, as_json: bool) -> None:
    """Have NODE give up everything it owns, in good order, and own nothing until it is undrained, also after a restart."""
    known = is_registered(cluster, node, 'drain')
    cluster.drain(node, reason, actor=actor, force=force)
    later = '' if known else '; no node of this name is registered, so this holds once it joins'
    print_done(f'{node!r} is drained{later}', as_json=as_json, drained=node, is_registered=known)


@click.command()
@click.argument('node')
@steering_command
def undrain(cluster: Cluster, node: str, actor: str | None, as_json: bool) -> None:
    """Let NODE own tokens again."""
    known = is_registered(cluster, node, 'undrain')
    was_drained = cluster.undrain(node, actor=actor)
    unchanged = f'{node!r} was not drained' + ('' if known else '; no node of this name is registered')
    words = f'{node!r} may own tokens again' if was_drained else unchanged
    print_done(words, as_json=as_json, node=node, was_drained=was_drained, is_registered=known)


def is_registered(cluster: Cluster, node: str, action: str) -> bool:
    """Return whether a node of this name is registered, from a reading. It comes before the action, as in ``add_lock``."""
    return any(row['name'] == node and row['state'] != 'left' for row in read_first(action, cluster.nodes))


@click.command()
@click.argument('node')
@click.option('--reason', default=None, help='Text for people.')
@yes_option
@steering_command
def evict(cluster: Cluster, node: str, reason: str | None, yes: bool, actor: str | None, as_json: bool) -> None:
    """End the membership of NODE, whether or not its process is alive. No task gets two owners by this.

    The leader gives its tokens to other nodes only after its heartbeat timeout, since its process may still be at work. A process
    that is alive stops claiming at its next heartbeat and joins anew, with what it owned: to keep it from that, stop it or drain
    it. A dead process is evicted by the leader in any case.
    """
    # t=0  the question names the run of NODE that is registered
    # t=1  the run ends, or was only paused, and NODE joins anew
    # t=2  a person says yes: the run that has just begun is not meant
    found = [] if yes else read_first('evict', cluster.nodes)
    run = next((row for row in found if row['name'] == node and row['state'] != 'left'), None)
    where = '' if run is None else plain(f' ({run["host"]}, pid {run["pid"]})')
    confirm(f'Evict {node!r}{where}? A process that is alive joins anew; if it is not, other nodes get its tokens', yes=yes)
    incarnation = None if yes else '' if run is None else run['incarnation']
    timeout = cluster.evict(node, reason, actor=actor, incarnation=incarnation)
    words = (
        f'{node!r} is evicted. If its process is alive, it stops claiming at its next heartbeat and joins anew; '
        f'if not, its tokens pass to other nodes after its timeout of {timeout:g} s'
    )
    print_done(words, as_json=as_json, evicted=node, timeout_sec=timeout)
